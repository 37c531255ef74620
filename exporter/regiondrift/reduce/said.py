"""How is what is true of a link said? As samples for Prometheus, and as a status for a person."""

from __future__ import annotations

from collections.abc import Callable

from regiondrift.model import LinkStatus, Moment, ReplicaStatus, Sample, State
from regiondrift.model import replication as family
from regiondrift.reduce.node import ReplicaNow
from regiondrift.reduce.recovery import LinkReducer

StateSaid = tuple[State, tuple[str, ...], tuple[Sample, ...]]
"""A replica's state, its labels, and the samples that said so."""


def samples(link: LinkReducer, now: float, before: dict[str, StateSaid] | None = None) -> list[Sample]:
    """Everything that is true of the link at `now`.

    `before`, which is kept up to date, has what was said of each replica's state: more than half of all samples, and
    nearly always the same ones.
    """
    labels, memory = link.labels, link.memory
    out = [family.FAILOVERS.at(memory.failovers, labels)]
    if link.expected is not None:
        out.append(family.EXPECTED_REPLICAS.at(link.expected, labels))
    if link.objective is not None:
        out.append(family.OBJECTIVE.at(link.objective, labels))
    if memory.failover_point is not None:
        out.append(family.FAILOVER_POINT.at(memory.failover_point, labels))
    if (sources := link.sources) is not None:
        out.append(family.SOURCES.at(sources, labels))
    for r in link.replicas(now):
        out += of_replica(labels, r, before)
    return out


def of_replica(link: tuple[str, str], r: ReplicaNow, before: dict[str, StateSaid] | None = None) -> list[Sample]:
    """Everything that is true of one replica; `link` are the values of `system` and `link`."""
    values = (*link, r.name, r.source_region, r.target_region)
    said = before.get(r.name) if before is not None else None
    if said is None or said[0] is not r.state or said[1] != values:
        said = (r.state, values, family.STATE.in_state(r.state.value, values))
        if before is not None:
            before[r.name] = said
    out = [*said[2], family.RESYNCS.at(r.resyncs, values)]
    for metric, value in (
        (family.RECOVERY_POINT, r.recovery_point),
        (family.BEHIND_SINCE, r.behind_since),
        (family.LAG_BYTES, r.lag_bytes),
        (family.REPORTED_LAG, r.reported_lag),
        (family.INTENDED_DELAY, r.intended_delay or None),
    ):
        if value is not None:
            out.append(metric.at(value, values))
    if r.upstream is not None:
        out.append(family.UPSTREAM.at(1, (*values, r.upstream)))
    if r.held_up is not None:
        out.append(family.HELD_UP.at(1, (*values, r.held_up)))
    return out


def status(link: LinkReducer, now: float, wall: Callable[[float], float]) -> LinkStatus:
    """The same for a person. `wall` makes Unix time of a moment."""

    def at(moment: Moment | None) -> float | None:
        return None if moment is None else wall(moment)

    (system, name), memory = link.labels, link.memory
    return LinkStatus(
        system=system,
        link=name,
        objective=link.objective,
        source=memory.source,
        source_region=memory.source_region,
        sources=link.sources,
        failovers=memory.failovers,
        failover_recovery_point=at(memory.failover_point),
        replicas=tuple(replica_status(r, wall) for r in link.replicas(now)),
    )


def replica_status(r: ReplicaNow, wall: Callable[[float], float]) -> ReplicaStatus:
    """One replica for a person."""

    def at(moment: Moment | None) -> float | None:
        return None if moment is None else wall(moment)

    return ReplicaStatus(
        replica=r.name,
        source_region=r.source_region,
        target_region=r.target_region,
        state=r.state,
        state_since=wall(r.state_since),
        recovery_point=at(r.recovery_point),
        behind_since=at(r.behind_since),
        lag_bytes=r.lag_bytes,
        reported_lag=r.reported_lag,
        intended_delay=r.intended_delay,
        upstream=r.upstream,
        held_up=r.held_up,
        resyncs=r.resyncs,
    )

"""How is the status written as JSON? In pieces: one call into json for thousands of links would let no other thread run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from regiondrift.model import HouseStatus, LinkStatus, ReplicaStatus, TargetStatus
from regiondrift.verdict import Verdict, exposure, of_links, of_replica, sentence

_AT_ONCE: Final = 100
"""Links or targets per piece: about a millisecond."""


def pieces(status: HouseStatus) -> Iterator[str]:
    """The JSON document of `/api/v1/status`, cut anywhere. Times are Unix time, durations seconds, unknown is null."""
    judged = of_links(status)
    house = {
        "now": status.now,
        "verdict": sentence(status, judged),
        "version": status.version,
        "started": status.started,
        "regions": status.regions,
        "config": {"file": status.config_file, "loaded": status.config_loaded, "error": status.config_error},
        "state_problem": status.state_problem,
    }
    yield json.dumps(house)[:-1]
    yield from _listed("links", (_link(link, verdict, missing, status.now) for link, verdict, missing in judged))
    yield from _listed("targets", map(_target, status.targets))
    yield "}\n"


def _listed(name: str, items: Iterator[dict[str, Any]]) -> Iterator[str]:
    yield f', "{name}": ['
    comma = ""
    while some := list(islice(items, _AT_ONCE)):
        yield comma + json.dumps(some)[1:-1]
        comma = ", "
    yield "]"


def _link(link: LinkStatus, verdict: Verdict, missing: int, now: float) -> dict[str, Any]:
    return {
        "system": link.system,
        "link": link.link,
        "verdict": verdict.value,
        "objective": link.objective,
        "source": link.source,
        "source_region": link.source_region,
        "sources": link.sources,
        "failovers": link.failovers,
        "failover_recovery_point": link.failover_recovery_point,
        "replicas_missing": missing,
        "replicas": [_replica(replica, link.objective, now) for replica in link.replicas],
    }


def _replica(replica: ReplicaStatus, objective: float | None, now: float) -> dict[str, Any]:
    bounds = exposure(replica, now)
    return {
        "replica": replica.replica,
        "verdict": of_replica(replica, objective, now).value,
        "source_region": replica.source_region,
        "target_region": replica.target_region,
        "state": replica.state.value,
        "state_since": replica.state_since,
        "recovery_point": replica.recovery_point,
        "behind_since": replica.behind_since,
        "exposure_at_most": bounds.at_most,
        "exposure_at_least": bounds.at_least,
        "lag_bytes": replica.lag_bytes,
        "reported_lag": replica.reported_lag,
        "resyncs": replica.resyncs,
    }


def _target(target: TargetStatus) -> dict[str, Any]:
    return {
        "target": f"{target.entry}/{target.part}",
        "collector": target.collector,
        "region": target.region,
        "success": target.success,
        "last_success": target.last_success,
        "duration": target.duration,
        "reason": target.failure.reason.value if target.failure else None,
        "detail": target.failure.detail if target.failure else None,
        "failing_since": target.failing_since,
        "notes": dict(target.notes) if target.notes else {},
    }

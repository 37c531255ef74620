"""What does a person see? Frozen views of targets and links for the status page, its JSON and ``probe``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from regiondrift.model.failure import Failure
from regiondrift.model.replication import State


@dataclass(frozen=True, slots=True)
class TargetStatus:
    """One target as its last look left it. Times are Unix time, None if never."""

    collector: str
    entry: str
    part: str
    region: str
    success: bool | None
    """None: the first look has not ended."""
    last_success: float | None = None
    duration: float | None = None
    failure: Failure | None = None
    failing_since: float | None = None
    notes: Mapping[str, str] | None = None
    node: bool = True
    """As of the `Target`."""


@dataclass(frozen=True, slots=True)
class ReplicaStatus:
    """One replica of a link. Times are Unix time."""

    replica: str
    source_region: str
    target_region: str
    state: State
    state_since: float
    recovery_point: float | None
    behind_since: float | None
    lag_bytes: int | None
    reported_lag: float | None
    resyncs: int
    intended_delay: float = 0.0
    """Seconds; the objective applies beyond it."""
    upstream: str | None = None
    held_up: str | None = None
    """Node at which it is held up on its way from the source."""


@dataclass(frozen=True, slots=True)
class LinkStatus:
    """One link: who is the source, and how far the others are."""

    system: str
    link: str
    objective: float | None
    source: str | None
    """Node last known as the only source."""
    source_region: str
    sources: int | None
    failovers: int
    failover_recovery_point: float | None
    replicas: tuple[ReplicaStatus, ...]


@dataclass(frozen=True, slots=True)
class HouseStatus:
    """Everything the status page shows, at one moment (`now`, Unix time)."""

    now: float
    version: str
    started: float
    regions: tuple[str, ...]
    config_file: str
    config_loaded: float
    config_error: str | None
    """Why the last reload failed; None if it did not."""
    state_problem: str | None
    targets: tuple[TargetStatus, ...]
    links: tuple[LinkStatus, ...]

"""What is said of replication? The families of the recovery reducer, one set for every system."""

from __future__ import annotations

from enum import Enum
from typing import Final

from regiondrift.model.metric import Kind, Metric


class State(Enum):
    """State of a replica: the first that holds, in this order."""

    SPLIT_BRAIN = "split_brain"
    DIVERGED = "diverged"
    NO_USABLE_COPY = "no_usable_copy"
    RESYNCING = "resyncing"
    UNREACHABLE = "unreachable"
    NO_SOURCE = "no_source"
    DISCONNECTED = "disconnected"
    ERROR = "error"
    PAUSED = "paused"
    DELAYED = "delayed"
    CATCHING_UP = "catching_up"
    STREAMING = "streaming"
    UNKNOWN = "unknown"


LINK_LABELS: Final = ("system", "link")
REPLICA_LABELS: Final = ("system", "link", "replica", "source_region", "target_region")

RECOVERY_POINT: Final = Metric(
    "regiondrift_recovery_point_timestamp_seconds",
    "Latest moment for which it is proven that everything durably committed on the source by then is on the replica.",
    REPLICA_LABELS,
    unit="timestamp_seconds",
)
BEHIND_SINCE: Final = Metric(
    "regiondrift_replica_behind_since_timestamp_seconds",
    "Moment at which the source already held data that the replica lacked at our last look; absent while nothing is known to be missing.",
    REPLICA_LABELS,
    unit="timestamp_seconds",
)
OBJECTIVE: Final = Metric(
    "regiondrift_recovery_point_objective_seconds",
    "Recovery point objective of the link, from the configuration.",
    LINK_LABELS,
    unit="seconds",
)
EXPECTED_REPLICAS: Final = Metric(
    "regiondrift_replication_expected_replicas",
    "Replicas that the link should have: configured nodes less one.",
    LINK_LABELS,
)
STATE: Final = Metric(
    "regiondrift_replication_state",
    "State of the replica: exactly one of the states is 1.",
    (*REPLICA_LABELS, "state"),
    states=tuple(s.value for s in State),
)
LAG_BYTES: Final = Metric(
    "regiondrift_replication_lag_bytes",
    "Bytes of the source's log that the replica had not replayed at the last looks; absent while either end is unseen.",
    REPLICA_LABELS,
    unit="bytes",
)
REPORTED_LAG: Final = Metric(
    "regiondrift_replication_reported_lag_seconds",
    "Lag that the system itself claims, which is wrong in the cases this exporter is for; to compare, never to decide.",
    REPLICA_LABELS,
    unit="seconds",
)
INTENDED_DELAY: Final = Metric(
    "regiondrift_replication_intended_delay_seconds",
    "How far the replica is configured to stay behind, as last seen; absent without one. The objective applies beyond it.",
    REPLICA_LABELS,
    unit="seconds",
)
UPSTREAM: Final = Metric(
    "regiondrift_replication_upstream_info",
    "Node that feeds the replica, where a node of the link says so; always 1.",
    (*REPLICA_LABELS, "upstream"),
    unit="info",
)
HELD_UP: Final = Metric(
    "regiondrift_replication_held_up",
    "First node on the way from the source to a replica whose recovery point is older than three intervals; absent while there is none.",
    (*REPLICA_LABELS, "hop"),
)
RESYNCS: Final = Metric(
    "regiondrift_replication_resyncs_total",
    "Times that the replica's copy was found replaced by an older or a new one.",
    REPLICA_LABELS,
    kind=Kind.COUNTER,
)
FAILOVERS: Final = Metric(
    "regiondrift_replication_failovers_total",
    "Times that a node on a newer history became the only one seen accepting writes.",
    LINK_LABELS,
    kind=Kind.COUNTER,
)
FAILOVER_POINT: Final = Metric(
    "regiondrift_replication_failover_recovery_point_timestamp_seconds",
    "Recovery point that was proven for the promoted node before the last failover.",
    LINK_LABELS,
    unit="timestamp_seconds",
)
SOURCES: Final = Metric(
    "regiondrift_replication_sources",
    "Nodes that accept writes: 1 is healthy, 2 is a split brain; absent while a node is unseen, unless two are seen writing.",
    LINK_LABELS,
)

ITEMS_MISSING: Final = Metric(
    "regiondrift_replication_missing_items",
    "Items (PostgreSQL: tables) that the source offers to the replica and the replica does not follow; absent where either list is not known.",
    REPLICA_LABELS,
)
ITEMS_EXTRA: Final = Metric(
    "regiondrift_replication_unoffered_items",
    "Items (PostgreSQL: tables) that the replica follows and the source does not offer any more; absent where either list is not known.",
    REPLICA_LABELS,
)

REPLICATION: Final = (
    RECOVERY_POINT,
    BEHIND_SINCE,
    OBJECTIVE,
    EXPECTED_REPLICAS,
    STATE,
    LAG_BYTES,
    REPORTED_LAG,
    INTENDED_DELAY,
    UPSTREAM,
    HELD_UP,
    RESYNCS,
    FAILOVERS,
    FAILOVER_POINT,
    SOURCES,
    ITEMS_MISSING,
    ITEMS_EXTRA,
)

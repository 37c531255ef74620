"""Is the exporter itself well? The families that it says of itself and of its probes."""

from __future__ import annotations

from typing import Final

from regiondrift.model.metric import Kind, Metric

TARGET_LABELS: Final = ("collector", "target")

SUCCESS: Final = Metric(
    "regiondrift_probe_success",
    "Whether the last look at the target succeeded in full, measured in the background at the target's interval.",
    TARGET_LABELS,
)
DURATION: Final = Metric(
    "regiondrift_probe_duration_seconds", "How long the last look at the target took.", TARGET_LABELS, unit="seconds"
)
LAST_SUCCESS: Final = Metric(
    "regiondrift_probe_last_success_timestamp_seconds",
    "When the last look that succeeded in full ended.",
    TARGET_LABELS,
    unit="timestamp_seconds",
)
FAILURES: Final = Metric(
    "regiondrift_probe_failures_total",
    "Looks at the target that failed, in whole or in part, by reason.",
    (*TARGET_LABELS, "reason"),
    kind=Kind.COUNTER,
)
INTERVAL: Final = Metric(
    "regiondrift_probe_interval_seconds",
    "Configured time between two looks at the target.",
    TARGET_LABELS,
    unit="seconds",
)

BUILD: Final = Metric(
    "regiondrift_build_info", "Version of the exporter; always 1.", ("version", "python"), unit="info"
)
CONFIG: Final = Metric(
    "regiondrift_config_info", "Start of the SHA-256 of the configuration in force; always 1.", ("hash",), unit="info"
)
RELOADED: Final = Metric(
    "regiondrift_config_last_reload_successful", "Whether the last attempt to load the configuration succeeded."
)
RELOADED_AT: Final = Metric(
    "regiondrift_config_last_reload_success_timestamp_seconds",
    "When the configuration in force was loaded.",
    unit="timestamp_seconds",
)
STATE_HEALTHY: Final = Metric(
    "regiondrift_state_healthy",
    "Whether what is proven is kept in state_dir; 1 without one, 0 while it cannot be used.",
)
HEARTBEAT: Final = Metric(
    "regiondrift_scheduler_heartbeat_timestamp_seconds",
    "When the scheduler last showed that it runs.",
    unit="timestamp_seconds",
)
LOOP_LAG: Final = Metric(
    "regiondrift_event_loop_lag_seconds", "Longest delay of the event loop since the heartbeat before.", unit="seconds"
)
RENDER: Final = Metric(
    "regiondrift_render_duration_seconds",
    "How long the previous exposition took to make, off the event loop.",
    unit="seconds",
)
SERIES: Final = Metric("regiondrift_exposed_series", "Series of regiondrift itself in the previous exposition.")
THREADS_STUCK: Final = Metric(
    "regiondrift_threads_stuck", "Blocking calls that were given up and have not returned: one thread each."
)

SELF: Final = (
    SUCCESS,
    DURATION,
    LAST_SUCCESS,
    FAILURES,
    INTERVAL,
    BUILD,
    CONFIG,
    RELOADED,
    RELOADED_AT,
    STATE_HEALTHY,
    HEARTBEAT,
    LOOP_LAG,
    RENDER,
    SERIES,
    THREADS_STUCK,
)

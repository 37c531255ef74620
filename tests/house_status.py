"""What might a house look like? Statuses for the tests of page, table and server."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from regiondrift.model import Failure, HouseStatus, LinkStatus, Reason, ReplicaStatus, State, TargetStatus

NOW = 1_795_575_731.0
"""2026-11-25 03:02:11 UTC."""


def replica(
    name: str = "ams-1", *, proven: float | None = 1.0, behind: float | None = None, **more: Any
) -> ReplicaStatus:
    """A replica whose recovery point is `proven` seconds ago, and that is behind since `behind` seconds."""
    facts: dict[str, Any] = {
        "replica": name,
        "source_region": "montreal",
        "target_region": "amsterdam",
        "state": State.STREAMING,
        "state_since": NOW - 86_400 * 3,
        "recovery_point": None if proven is None else NOW - proven,
        "behind_since": None if behind is None else NOW - behind,
        "lag_bytes": 0,
        "reported_lag": 0.0,
        "resyncs": 0,
    }
    return ReplicaStatus(**{**facts, **more})


def link(name: str = "orders", *replicas: ReplicaStatus, **more: Any) -> LinkStatus:
    facts: dict[str, Any] = {
        "system": "postgresql",
        "link": name,
        "objective": 30.0,
        "source": "ymq-1",
        "source_region": "montreal",
        "sources": 1,
        "failovers": 0,
        "failover_recovery_point": None,
        "replicas": replicas,
    }
    return LinkStatus(**{**facts, **more})


def target(entry: str = "orders", part: str = "ymq-1", **more: Any) -> TargetStatus:
    facts: dict[str, Any] = {
        "collector": "postgresql",
        "entry": entry,
        "part": part,
        "region": "montreal",
        "success": True,
        "last_success": NOW - 2.4,
        "duration": 0.0123,
    }
    return TargetStatus(**{**facts, **more})


def house(*links: LinkStatus, targets: tuple[TargetStatus, ...] | None = None, **more: Any) -> HouseStatus:
    """A house with these links, and, unless told otherwise, the targets that they need."""
    if targets is None:
        targets = tuple(
            target(it.link, part) for it in links for part in (it.source or "ymq-1", *(r.replica for r in it.replicas))
        )
    facts: dict[str, Any] = {
        "now": NOW,
        "version": "0.1.0",
        "started": NOW - 86_400 * 12,
        "regions": ("montreal", "amsterdam"),
        "config_file": "/etc/regiondrift/regiondrift.yaml",
        "config_loaded": NOW - 86_400 * 2,
        "config_error": None,
        "state_problem": None,
        "targets": targets,
        "links": links,
    }
    return HouseStatus(**{**facts, **more})


def healthy() -> HouseStatus:
    return house(link("orders", replica()), link("invoices", replica("ams-7", proven=2.2)))


def night() -> HouseStatus:
    """A bad night: one of everything that the page must tell apart."""
    links = (
        link(
            "orders",
            replica(
                proven=252.4,
                behind=230.1,
                state=State.DISCONNECTED,
                state_since=NOW - 228,
                lag_bytes=48_730_112,
            ),
            failovers=1,
            failover_recovery_point=NOW - 86_400 * 9,
        ),
        link(
            "payments",
            replica(
                "ams-3", proven=95.0, state=State.UNREACHABLE, state_since=NOW - 93.0, lag_bytes=None, reported_lag=None
            ),
            objective=60.0,
        ),
        link(
            "catalogue",
            replica("ams-4", proven=3.1, behind=0.6, lag_bytes=81_920, reported_lag=0.4),
            replica(
                "fra-4",
                proven=17.0,
                behind=12.0,
                target_region="frankfurt",
                state=State.CATCHING_UP,
                state_since=NOW - 14,
                lag_bytes=2_190_336,
            ),
        ),
        link("sessions", replica("ams-5", proven=1.2), objective=5.0),
        link(
            "ledger",
            replica("ams-6", proven=700.0, state=State.SPLIT_BRAIN, state_since=NOW - 41),
            sources=2,
            objective=10.0,
        ),
        link(
            "archive",
            replica("ams-9", proven=3_602.0, behind=3_600.4, state=State.DELAYED, reported_lag=3_600.0),
            objective=None,
        ),
        link("search", source=None, source_region="", sources=None),
    )
    targets = (
        target(notes={"server": "PostgreSQL 18.1"}),
        target(
            "orders",
            "ams-1",
            region="amsterdam",
            notes={"server": "PostgreSQL 18.1", "upstream": "pg.ymq.example.net:5432"},
        ),
        target("payments", "ymq-3"),
        target(
            "payments",
            "ams-3",
            region="amsterdam",
            success=False,
            last_success=NOW - 95.0,
            duration=10.0,
            failure=Failure(Reason.TIMEOUT, "no answer within 10 s: connecting to pg-3.ams.example.net:5432"),
            failing_since=NOW - 93.0,
        ),
        target("catalogue", "ymq-4"),
        target("catalogue", "ams-4", region="amsterdam"),
        target("catalogue", "fra-4", region="frankfurt"),
        target("sessions", "ymq-5"),
        target("sessions", "ams-5", region="amsterdam"),
        target("ledger", "ymq-6"),
        target("ledger", "ams-6", region="amsterdam"),
        target("archive", "ymq-9"),
        target("archive", "ams-9", region="amsterdam"),
        target("search", "ymq-8", success=None, last_success=None, duration=None),
        target(
            "search",
            "ams-8",
            region="amsterdam",
            success=False,
            last_success=None,
            duration=0.031,
            failure=Failure(Reason.AUTHENTICATION, 'password authentication failed for user "regiondrift"'),
            failing_since=NOW - 3_700.0,
        ),
    )
    return house(*links, targets=targets, regions=("montreal", "amsterdam", "frankfurt"))


def broken_reload() -> HouseStatus:
    """The same night with an operator who mistyped."""
    problem = 'regiondrift.yaml:14:7: unknown key "intervall" (did you mean "interval"?)\nregiondrift.yaml:19:13: region "amsterdm" is not one of regions'
    return replace(
        night(),
        config_error=problem,
        state_problem="/var/lib/regiondrift: no space left on device; nothing is remembered beyond this process",
    )


def empty() -> HouseStatus:
    return house(targets=(), regions=())

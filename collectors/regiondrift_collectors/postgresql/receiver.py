"""Is the WAL receiver alive but mute? When it last heard anything of its sender."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

from regiondrift.model import Metric, Moment, Observation, ProbeError, Reason
from regiondrift_collectors.postgresql.connection import Rows
from regiondrift_collectors.postgresql.section import Section, Server

LAST_MESSAGE: Final = Metric(
    "regiondrift_postgresql_wal_receiver_last_message_timestamp_seconds",
    "When the standby's WAL receiver last heard of its sender, data or keepalive; absent without a receiver.",
    ("system", "link", "member"),
    unit="timestamp_seconds",
)

# An age by the server's own clock, so that a clock that stands apart from ours does not matter.
_STATEMENT: Final = (
    "SELECT extract(epoch FROM clock_timestamp() - last_msg_receipt_time) FROM pg_stat_wal_receiver "
    "WHERE last_msg_receipt_time IS NOT NULL"
)


def read(rows: Rows, server: Server) -> Iterable[Observation]:
    if not rows:
        return
    try:
        age = float(rows[0][0] or "")
    except ValueError:
        age = math.nan
    if not math.isfinite(age) or len(rows) > 1:
        raise ProbeError(Reason.REFUSED_VALUE, "the age of the WAL receiver's last message is no span of time")
    yield LAST_MESSAGE.at(Moment(server.now - max(age, 0.0)), server.labels)


SECTION: Final = Section("wal receiver", lambda version: _STATEMENT, read, (LAST_MESSAGE,))

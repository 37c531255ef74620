"""How many standbys does a primary count as synchronous, and how many does its configuration demand?"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from regiondrift.model import Metric, Observation, ProbeError, Reason
from regiondrift_collectors.postgresql.connection import Rows
from regiondrift_collectors.postgresql.section import Section, Server

_LABELS: Final = ("system", "link", "member")

IN_SYNC: Final = Metric(
    "regiondrift_postgresql_synchronous_standbys",
    "Standbys that stream and that the primary counts as synchronous, as one of the first or of the quorum.",
    _LABELS,
)
REQUIRED: Final = Metric(
    "regiondrift_postgresql_synchronous_standbys_required",
    "Standbys that must confirm a synchronous commit by synchronous_standby_names; 0 where it demands none.",
    _LABELS,
)

# Not pg_stat_replication: that joins every backend, for columns that are not needed here.
_STATEMENT: Final = """
SELECT current_setting('synchronous_standby_names'),
       (SELECT count(*) FROM pg_stat_get_wal_senders() WHERE state = 'streaming' AND sync_state IN ('sync', 'quorum'))
 WHERE NOT pg_is_in_recovery()
"""

_NUMBER: Final = re.compile(r"[0-9]{1,9}")
_WORD: Final = re.compile(
    r'\s*(?P<quoted>"(?:[^"]|"")+")|\s*(?P<word>[A-Za-z_\x80-\U0010ffff][\w$\x80-\U0010ffff]*|[0-9]+|\*|[(),])',
    re.ASCII,
)


def statement(version: int) -> str:
    """One row of a primary, none of a standby: what it is told there holds once it is promoted."""
    return _STATEMENT


def read(rows: Rows, server: Server) -> list[Observation]:
    """Raises:
    ProbeError: the configuration is not understood.
    """
    if not rows:
        return []
    ((names, count),) = rows if len(rows) == 1 and len(rows[0]) == 2 else ((None, None),)
    if names is None or count is None or not _NUMBER.fullmatch(count):
        raise ProbeError(Reason.PROTOCOL, "synchronous standbys: an answer that was not asked for")
    return [IN_SYNC.at(int(count), server.labels), REQUIRED.at(required(names), server.labels)]


@lru_cache(maxsize=256)
def required(names: str) -> int:
    """How many standbys ``synchronous_standby_names`` demands: of ``FIRST 2 (a, b, c)``, ``ANY 2 (a, b, c)`` and
    ``2 (a, b, c)`` 2, of ``a, b`` and ``*`` 1, of an empty one 0.

    Raises:
        ProbeError: it is none of these.
    """
    words = _words(names)
    count = 1
    if words and words[0].upper() in ("FIRST", "ANY"):
        if len(words) < 3 or not _NUMBER.fullmatch(words[1]):
            raise _not_understood()
        words = words[1:]
    if len(words) > 1 and words[1] == "(":
        if not _NUMBER.fullmatch(words[0]) or words[-1] != ")":
            raise _not_understood()
        count, words = int(words[0]), words[2:-1]
        if not count or not words:
            raise _not_understood()
    listed, commas = words[::2], words[1::2]
    if any(w in "()," for w in listed) or any(w != "," for w in commas) or (words and len(listed) == len(commas)):
        raise _not_understood()
    return count if listed else 0


def _words(names: str) -> list[str]:
    words, at, end = [], 0, len(names.rstrip())
    while at < end:
        found = _WORD.match(names, at)
        if not found:
            raise _not_understood()
        # A quoted name is never a keyword, a number or a comma.
        words.append("name" if found["quoted"] else found["word"])
        at = found.end()
    return words


def _not_understood() -> ProbeError:
    return ProbeError(Reason.REFUSED_VALUE, "synchronous_standby_names is not understood")


SECTION: Final = Section("synchronous standbys", statement, read, (IN_SYNC, REQUIRED))

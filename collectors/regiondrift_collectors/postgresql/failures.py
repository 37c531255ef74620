"""What does PostgreSQL's or libpq's complaint mean? From SQLSTATE, or libpq's own words, to a reason."""

from __future__ import annotations

import re
from typing import Final

from regiondrift.model import ProbeError, Reason

_BY_STATE: Final = {
    "28000": Reason.AUTHENTICATION,  # no pg_hba.conf entry, role cannot log in
    "28P01": Reason.AUTHENTICATION,
    "3D000": Reason.PROTOCOL,  # no such database: not what it should be
    "42501": Reason.PERMISSION,
    "57014": Reason.TIMEOUT,  # statement_timeout
    "57P01": Reason.UNREACHABLE,  # admin_shutdown
    "57P02": Reason.UNREACHABLE,  # crash_shutdown
    "57P03": Reason.STARTING,  # cannot_connect_now
    "57P04": Reason.UNREACHABLE,  # database_dropped
    "57P05": Reason.UNREACHABLE,  # idle_session_timeout
    "08P01": Reason.PROTOCOL,
    "0A000": Reason.UNSUPPORTED_VERSION,
}
_BY_CLASS: Final = {
    "08": Reason.UNREACHABLE,
    "0L": Reason.PERMISSION,
    "28": Reason.AUTHENTICATION,
    "42": Reason.PROTOCOL,  # our statement is not understood: no PostgreSQL that we know
    "53": Reason.OVERLOADED,  # too_many_connections, out_of_memory, disk_full
    "58": Reason.UNREACHABLE,
    "22": Reason.REFUSED_VALUE,
}

# At connect libpq tells the SQLSTATE only inside its text, and only if asked to be verbose ("FATAL:  28P01: ...").
_STATE: Final = re.compile(r":\s+([0-9A-Z]{5}):\s")

# libpq's own words (fe-connect.c, fe-secure-openssl.c, fe-protocol3.c); its wheels are built without translations.
_BY_WORDS: Final = tuple(
    (re.compile(words, re.IGNORECASE), reason)
    for words, reason in (
        (r"SSL SYSCALL error|SSL connection has been closed|negotiation packet|reset by peer", Reason.UNREACHABLE),
        (r"no password supplied|password retrieval|\bSCRAM\b|authentication method requirement|channel binding", Reason.AUTHENTICATION),
        (r"received invalid response to (SSL|GSSAPI)|expected authentication|invalid response|unexpected (message|response)"
         r"|message (type|contents|length)|lost synchronization|invalid message|insufficient data|protocol version", Reason.PROTOCOL),
        (r"certificate|\bSSL\b|\bTLS\b|private key|host name", Reason.TLS),
        (r"timeout expired|timed out", Reason.TIMEOUT),
        (r"refused|reset|no route|unreachable|closed the connection|could not (connect|receive|send|translate)|broken pipe"
         r"|no such file or directory|network is down|host is down|not open|aborted|EOF", Reason.UNREACHABLE),
    )
)  # fmt: skip


def of_state(state: str) -> Reason:
    """The reason that a SQLSTATE stands for."""
    return _BY_STATE.get(state) or _BY_CLASS.get(state[:2], Reason.INTERNAL)


def at_connect(message: str) -> ProbeError:
    """What libpq's message of a failed connection means. Several addresses tried: the last one's word counts."""
    text = one_line(message)
    states = _STATE.findall(message)
    if states:
        return ProbeError(of_state(states[-1]), text)
    for words, reason in _BY_WORDS:
        if words.search(text):
            return ProbeError(reason, text)
    return ProbeError(Reason.PROTOCOL, text)


def in_query(state: str | None, message: str) -> ProbeError:
    """What a failed statement means; without a SQLSTATE it is libpq's word that the connection is gone."""
    text = one_line(message)
    return ProbeError(of_state(state), text) if state else at_connect(message)


def one_line(message: str) -> str:
    """A server's text as one line of bounded length, without libpq's source locations."""
    lines = [line for line in message.splitlines() if not line.startswith(("LOCATION:", "CONTEXT:"))]
    return " ".join(" ".join(lines).split())[:300]

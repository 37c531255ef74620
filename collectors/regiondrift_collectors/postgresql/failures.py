"""What does PostgreSQL's or libpq's complaint mean? From SQLSTATE, or libpq's own words, to a reason."""

from __future__ import annotations

import re
from typing import Final

from regiondrift.model import ProbeError, Reason

_BY_STATE: Final = {
    "28000": Reason.AUTHENTICATION,  # no pg_hba.conf entry, role cannot log in
    "28P01": Reason.AUTHENTICATION,
    "42501": Reason.PERMISSION,
    "55000": Reason.STARTING,  # asked in the moment of a promotion
    "55P03": Reason.TIMEOUT,  # lock_timeout
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
    "3D": Reason.PROTOCOL,  # no such database: not what it should be
    "3F": Reason.PROTOCOL,
    "40": Reason.OVERLOADED,  # cancelled for the sake of others: a conflict with recovery, a deadlock
    "42": Reason.PROTOCOL,  # our statement is not understood: no PostgreSQL that we know
    "53": Reason.OVERLOADED,  # too_many_connections, out_of_memory, disk_full
    "54": Reason.OVERLOADED,  # program_limit_exceeded
    "58": Reason.UNREACHABLE,
    "22": Reason.REFUSED_VALUE,
    "XX": Reason.PROTOCOL,  # an internal error of the server; `internal` is one of ours
}

# At connect libpq tells the SQLSTATE only inside its text, and only if asked to be verbose ("FATAL:  28P01: ...").
_STATE: Final = re.compile(r":\s+([0-9A-Z]{5}):\s")

_PGBOUNCER: Final = "08P01"
"""All that it refuses itself has this state."""
_CREDENTIALS: Final = re.compile(r"authentication failed|no such user|password", re.IGNORECASE)

_ATTEMPT: Final = re.compile(r'connection to server (?:at|on socket) ".*?"(?: \([^)]*\))?(?:, port [0-9]+)? failed: ')
"""How libpq begins what it says of one address; what stands in it are names, not complaints."""

# libpq's own words (fe-connect.c, fe-secure-openssl.c, fe-protocol3.c), the first that match; its wheels are built
# without translations.
_BY_WORDS: Final = tuple(
    (re.compile(words, re.IGNORECASE), reason)
    for words, reason in (
        (r"timeout expired|timed out", Reason.TIMEOUT),
        (r"too many open files|out of memory|no buffer space|command is already in progress", Reason.INTERNAL),
        # A connection that ends during a handshake says nothing of certificates.
        (r"SSL SYSCALL error|SSL connection has been closed|unexpected eof|negotiation packet|reset by peer",
         Reason.UNREACHABLE),
        (r"malformed SCRAM|invalid SCRAM|wrong version number|unencrypted data after|received invalid response to"
         r"|expected authentication|unexpected (message|response)|message (type|contents|length)|lost synchronization"
         r"|invalid (message|response)|insufficient data", Reason.PROTOCOL),
        (r"no password supplied|password retrieval|\bSCRAM\b|\bSASL\b|server signature|authentication method"
         r"|channel binding", Reason.AUTHENTICATION),
        (r"certificate|\bSSL\b|\bTLS|private key|host name", Reason.TLS),
        (r"protocol version", Reason.PROTOCOL),
        (r"refused|reset|no route|unreachable|closed the connection|could not (connect|receive|send|translate)"
         r"|broken pipe|no such file or directory|is down|not open|aborted|EOF|no connection|permission denied"
         r"|not permitted|cannot assign|not supported by protocol|connection is (closed|lost)", Reason.UNREACHABLE),
    )
)  # fmt: skip


def of_state(state: str) -> Reason:
    """The reason that a SQLSTATE stands for."""
    return _BY_STATE.get(state) or _BY_CLASS.get(state[:2], Reason.INTERNAL)


def at_connect(message: str) -> ProbeError:
    """What libpq's message of a failed connection means. Several addresses tried: the last one's word counts."""
    if not message.strip():
        # So it is when there is no descriptor left for a socket.
        return ProbeError(Reason.INTERNAL, "libpq cannot begin, and does not say why")
    last = _ATTEMPT.split(message)[-1]
    states = _STATE.findall(last)
    if states:
        lets_nobody_in = states[-1] == _PGBOUNCER and _CREDENTIALS.search(last)
        return ProbeError(Reason.AUTHENTICATION if lets_nobody_in else of_state(states[-1]), one_line(message))
    words = one_line(last)
    reason = next((reason for pattern, reason in _BY_WORDS if pattern.search(words)), Reason.PROTOCOL)
    return ProbeError(reason, one_line(message))


def in_query(state: str | None, message: str) -> ProbeError:
    """What a failed statement means; without a SQLSTATE it is libpq's word that the connection is gone."""
    text = one_line(message)
    return ProbeError(of_state(state), text) if state else at_connect(message)


def one_line(message: str) -> str:
    """A server's text as one line of bounded length, without libpq's source locations."""
    lines = [line for line in message.splitlines() if not line.startswith(("LOCATION:", "CONTEXT:"))]
    return " ".join(" ".join(lines).split())[:300]

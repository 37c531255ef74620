"""Why did a look at a target fail? One closed list of reasons; free text goes to the log, never into a label."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Reason(Enum):
    """The value of the label ``reason`` of ``regiondrift_probe_failures_total``."""

    UNREACHABLE = "unreachable"
    """Name not resolved, no route, refused, reset, or closed before a word was said."""
    TIMEOUT = "timeout"
    AUTHENTICATION = "authentication"
    """Credentials refused, or their file missing or unreadable."""
    PERMISSION = "permission"
    TLS = "tls"
    PROTOCOL = "protocol"
    """What answers is not what it should be."""
    WRONG_SYSTEM = "wrong_system"
    UNSUPPORTED_VERSION = "unsupported_version"
    STARTING = "starting"
    OVERLOADED = "overloaded"
    REFUSED_VALUE = "refused_value"
    """The answer holds a value that cannot be true or cannot be exported."""
    INTERNAL = "internal"
    """A fault of ours."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One classified failure. `detail` is for people (log, status page) and holds no secret."""

    reason: Reason
    detail: str


class ProbeError(Exception):
    """The whole look failed: nothing of it is known.

    A collector raises it for what it expects to go wrong; anything else that escapes a probe is `Reason.INTERNAL`.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason.value}: {detail}")
        self.failure = Failure(reason, detail)

"""Which format and coding did the client ask for? RFC 9110, section 12.5, for the two formats that we speak.

Whatever does not parse is as if it were not there; nothing here raises, and all of it takes linear time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum
from functools import lru_cache
from typing import Final


class Format(Enum):
    """A format of the exposition; the value is its media type."""

    TEXT = "text/plain"
    OPENMETRICS = "application/openmetrics-text"

    @property
    def content_type(self) -> str:
        return _CONTENT_TYPES[self]


_CONTENT_TYPES: Final = {
    Format.TEXT: "text/plain; version=0.0.4; charset=utf-8",
    Format.OPENMETRICS: "application/openmetrics-text; version=1.0.0; charset=utf-8",
}
_VERSIONS: Final = {Format.TEXT: frozenset({"0.0.4"}), Format.OPENMETRICS: frozenset({"1.0.0", "0.0.1"})}
"""What a client may name and be content with our version: 1.0.0 of OpenMetrics reads as 0.0.1 does."""

_WEIGHT: Final = re.compile(r"0(\.[0-9]{0,20})?|1(\.0{0,20})?")
_NAMED: Final = 3
"""Specificity from which on a range names the format itself and no wildcard."""


@lru_cache(maxsize=32)
def choose(accept: str | None) -> Format:
    """The format for this `Accept`: the highest weight; among equals OpenMetrics, if it is named; else text.

    The most specific range decides the weight of a format, as RFC 9110 says, and 0 excludes it. If nothing that we
    speak is acceptable the answer is text 0.0.4, which is better than a 406 for a person with curl.
    """
    best = {Format.TEXT: (0, 0.0), Format.OPENMETRICS: (0, 0.0)}
    for media, parameters in _elements(accept or ""):
        weight = _weight(parameters)
        if weight is None:
            continue
        for spoken in Format:
            specific = _specificity(spoken, media, parameters)
            if specific:
                best[spoken] = max(best[spoken], (specific, weight))
    (_, text), (named, openmetrics) = best[Format.TEXT], best[Format.OPENMETRICS]
    if openmetrics > text or (openmetrics == text > 0 and named >= _NAMED):
        return Format.OPENMETRICS
    return Format.TEXT


@lru_cache(maxsize=32)
def wants_gzip(accept_encoding: str | None) -> bool:
    """Whether gzip is acceptable and not less welcome than the plain bytes."""
    weights: dict[str, float] = {}
    for coding, parameters in _elements(accept_encoding or ""):
        weight = _weight(parameters)
        if weight is not None:
            weights[coding] = max(weight, weights.get(coding, 0.0))
    gzip = weights.get("gzip", weights.get("x-gzip", weights.get("*", 0.0)))
    return gzip > 0 and gzip >= weights.get("identity", 0.0)


def _specificity(format: Format, media: str, parameters: dict[str, str]) -> int:
    """How closely a range names the format: 4 with its version, 3 without, 2 and 1 for wildcards; 0: not at all."""
    if media == format.value:
        version = parameters.get("version")
        if version is None:
            return _NAMED
        return _NAMED + 1 if version in _VERSIONS[format] else 0
    if media == format.value.partition("/")[0] + "/*":
        return 2
    return int(media == "*/*")


def _weight(parameters: dict[str, str]) -> float | None:
    text = parameters.get("q", "1")
    return float(text) if _WEIGHT.fullmatch(text) else None


def _elements(header: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Each element's token in lower case, and its parameters with lower-case names and unquoted values."""
    for element in _split(header, ","):
        token, *rest = _split(element, ";")
        parameters: dict[str, str] = {}
        for parameter in rest:
            name, _, value = parameter.partition("=")
            parameters.setdefault(name.strip().lower(), _unquoted(value.strip()))
        yield token.strip().lower(), parameters


def _split(text: str, separator: str) -> list[str]:
    """Split where the separator is not inside a quoted string."""
    if '"' not in text:
        return text.split(separator)
    parts, start, quoted, escaped = [], 0, False, False
    for i, character in enumerate(text):
        if escaped:
            escaped = False
        elif quoted and character == "\\":
            escaped = True
        elif character == '"':
            quoted = not quoted
        elif character == separator and not quoted:
            parts.append(text[start:i])
            start = i + 1
    parts.append(text[start:])
    return parts


def _unquoted(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] == '"':
        return re.sub(r"\\(.)", r"\1", value[1:-1])
    return value

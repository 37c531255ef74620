"""What stands for ``${ENV}``? Replacement in texts, and inside libpq connection strings by libpq's quoting rules.

No message holds a value, and none repeats text of a connection string that might be a secret.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

_DOLLAR: Final = re.compile(r"\$\$|\$\{([^}]*)\}|\$\{")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SPACE: Final = " \t\n\v\f\r"
"""What libpq takes for white space."""

KEYWORDS: Final = frozenset(
    [
        "application_name",
        "authtype",
        "channel_binding",
        "client_encoding",
        "connect_timeout",
        "dbname",
        "fallback_application_name",
        "gssdelegation",
        "gssencmode",
        "gsslib",
        "host",
        "hostaddr",
        "keepalives",
        "keepalives_count",
        "keepalives_idle",
        "keepalives_interval",
        "krbsrvname",
        "load_balance_hosts",
        "max_protocol_version",
        "min_protocol_version",
        "oauth_client_id",
        "oauth_client_secret",
        "oauth_issuer",
        "oauth_scope",
        "options",
        "passfile",
        "password",
        "port",
        "replication",
        "require_auth",
        "requirepeer",
        "scram_client_key",
        "scram_server_key",
        "service",
        "servicefile",
        "ssl_max_protocol_version",
        "ssl_min_protocol_version",
        "sslcert",
        "sslcertmode",
        "sslcompression",
        "sslcrl",
        "sslcrldir",
        "sslkey",
        "sslkeylogfile",
        "sslmode",
        "sslnegotiation",
        "sslpassword",
        "sslrootcert",
        "sslsni",
        "target_session_attrs",
        "tcp_user_timeout",
        "tty",
        "user",
    ]
)
"""Parameter keywords of libpq up to version 18."""


class ReplacementError(Exception):
    """Something in the text cannot be replaced or is no connection string; `messages` say what."""

    def __init__(self, messages: Iterable[str]) -> None:
        self.messages = tuple(messages)
        super().__init__("; ".join(self.messages))


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a text: as written, or the value of a variable."""

    text: str
    replaced: bool


def pieces(text: str, environ: Mapping[str, str]) -> list[Piece]:
    """`text` with its variables replaced, cut where they stand; ``$$`` is a ``$``.

    Raises:
        ReplacementError: variables that are not set, and braces that hold no name.
    """
    found: list[Piece] = []
    wrong: list[str] = []
    at = 0
    for match in _DOLLAR.finditer(text):
        found.append(Piece(text[at : match.start()], replaced=False))
        at = match.end()
        name = match[1]
        if match[0] == "$$":
            found.append(Piece("$", replaced=False))
        elif name is None:
            wrong.append("'${' is never closed; write '$$' for a '$'")
        elif not _NAME.fullmatch(name):
            wrong.append("what stands in '${…}' is not the name of an environment variable; write '$$' for a '$'")
        elif name not in environ:
            wrong.append(f"environment variable {name} is not set")
        else:
            found.append(Piece(environ[name], replaced=True))
    if wrong:
        raise ReplacementError(wrong)
    found.append(Piece(text[at:], replaced=False))
    return [p for p in found if p.text or p.replaced]


def replace(text: str, environ: Mapping[str, str]) -> str:
    """`text` with its variables replaced; raises `ReplacementError`."""
    return "".join(p.text for p in pieces(text, environ)) if "$" in text else text


def conninfo(text: str, environ: Mapping[str, str]) -> str:
    """A connection string with its variables replaced so that libpq reads each value as one value.

    A variable that is the whole string is a connection string itself and stays as it is.

    Raises:
        ReplacementError: as `pieces`, or libpq would not understand the string.
    """
    parts = pieces(text, environ)
    if len(parts) == 1 and parts[0].replaced:
        parts = [Piece(parts[0].text, replaced=False)]
    if parts and parts[0].text.startswith(("postgresql://", "postgres://")) and not parts[0].replaced:
        uri = "".join(quote(p.text, safe="") if p.replaced else p.text for p in parts)
        _check_uri(uri)
        return uri
    pairs = list(_Pairs(parts))
    if not any(p.replaced for p in parts):
        return "".join(p.text for p in parts)
    return " ".join(f"{keyword}={_quoted(value)}" for keyword, value in pairs)


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _unknown(ordinal: int, keyword: str) -> ReplacementError:
    meant = difflib.get_close_matches(keyword, KEYWORDS, 1)
    hint = f", did you mean {meant[0]!r}?" if meant else "; a value with spaces or quotes needs single quotes"
    return ReplacementError([f"keyword {ordinal} of the connection string is not one that libpq knows{hint}"])


class _Pairs:
    """Keywords and values of a keyword connection string, read as libpq's ``conninfo_parse`` does."""

    def __init__(self, parts: list[Piece]) -> None:
        # One item per written character, and one per replaced value, which never ends a word.
        self._items = [
            item for p in parts for item in ([(p.text, True)] if p.replaced else [(c, False) for c in p.text])
        ]
        self._at = 0

    def __iter__(self) -> Iterator[tuple[str, str]]:
        count = 0
        while self._skip_space():
            count += 1
            keyword = self._keyword()
            if not self._skip_space() or self._items[self._at] != ("=", False):
                raise ReplacementError(
                    [
                        f"'=' is missing after keyword {count} of the connection string; a value with spaces needs single quotes"
                    ]
                )
            self._at += 1
            if keyword not in KEYWORDS:
                raise _unknown(count, keyword)
            self._skip_space()
            yield keyword, self._value(keyword)

    def _skip_space(self) -> bool:
        """Whether anything follows the white space."""
        while self._at < len(self._items):
            text, replaced = self._items[self._at]
            if replaced or text not in _SPACE:
                return True
            self._at += 1
        return False

    def _keyword(self) -> str:
        begin = self._at
        while self._at < len(self._items):
            text, replaced = self._items[self._at]
            if replaced:
                raise ReplacementError(["'${…}' stands where libpq expects a keyword; write keyword=${…}"])
            if text == "=" or text in _SPACE:
                break
            self._at += 1
        return "".join(text for text, _ in self._items[begin : self._at])

    def _value(self, keyword: str) -> str:
        quoted = self._at < len(self._items) and self._items[self._at] == ("'", False)
        self._at += quoted
        value: list[str] = []
        while self._at < len(self._items):
            text, replaced = self._items[self._at]
            self._at += 1
            if replaced:
                value.append(text)
            elif text == "\\":
                if self._at < len(self._items):
                    value.append(self._items[self._at][0])
                    self._at += 1
            elif quoted and text == "'":
                return "".join(value)
            elif not quoted and text in _SPACE:
                break
            else:
                value.append(text)
        if quoted:
            raise ReplacementError([f"the single quote that begins the value of {keyword} is never closed"])
        return "".join(value)


_BAD_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})|%00")


def _check_uri(uri: str) -> None:
    if _BAD_PERCENT.search(uri):
        raise ReplacementError(["a '%' in a connection URI begins two hexadecimal digits; write '%25' for a '%'"])
    if any(c in uri for c in _SPACE):
        raise ReplacementError(["a space in a connection URI; write '%20'"])
    rest, _, query = uri.partition("://")[2].partition("?")
    if "[" in rest.rpartition("@")[2] and "]" not in rest:
        raise ReplacementError(["'[' in a connection URI is never closed"])
    for i, parameter in enumerate(query.split("&") if query else (), start=1):
        keyword, equals, _ = parameter.partition("=")
        if not equals:
            raise ReplacementError([f"'=' is missing in parameter {i} of the connection URI"])
        if keyword not in KEYWORDS and keyword != "ssl":
            raise _unknown(i, keyword)

"""How is only what changed compressed? A gzip stream of parts, each compressed by itself (RFC 1951, RFC 1952).

A deflate stream may be put together from parts that end at a byte and refer to nothing before them; most families of an
exposition are the same as in the last one, and with them their parts.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Final

LEVEL: Final = 1
"""At 100,000 series level 1 takes an eighth of the time of level 9 for 1.6 times the bytes."""

_HEADER: Final = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x04\xff"
"""Deflate, no name, no time, fastest, system unknown."""
_LAST_BLOCK: Final = b"\x03\x00"
"""Empty, and marked as the last one."""


def deflated(text: bytes) -> bytes:
    """A part: blocks that end at a byte, none of them marked as the last."""
    squeeze = zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    return squeeze.compress(text) + squeeze.flush(zlib.Z_FULL_FLUSH)


def gzipped(parts: Iterable[bytes], plain: bytes) -> bytes:
    """One gzip member of these parts, which hold `plain`."""
    check = zlib.crc32(plain).to_bytes(4, "little") + (len(plain) & 0xFFFFFFFF).to_bytes(4, "little")
    return b"".join([_HEADER, *parts, _LAST_BLOCK, check])

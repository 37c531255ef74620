"""Is what was compressed in parts one ordinary gzip stream?"""

from __future__ import annotations

import gzip
import shutil
import subprocess
import zlib

import pytest

from regiondrift.render.pack import deflated, gzipped

TEXTS = [b"", b"a", b"a 1\n" * 100_000, bytes(range(256)) * 300, b"", b"a 1\n" * 10]


def test_the_parts_are_one_member_with_the_whole_text() -> None:
    plain = b"".join(TEXTS)
    packed = gzipped(map(deflated, TEXTS), plain)
    assert gzip.decompress(packed) == plain
    reader = zlib.decompressobj(wbits=31)
    assert reader.decompress(packed) == plain
    assert reader.eof
    assert reader.unused_data == b""


def test_a_part_does_not_depend_on_what_stands_before_it() -> None:
    first, second = deflated(b"abcabcabc" * 50), deflated(b"abcabcabc" * 20)
    for order in ([first, second, second], [second, first]):
        plain = b"".join([b"abcabcabc" * (50 if part is first else 20) for part in order])
        assert gzip.decompress(gzipped(order, plain)) == plain


def test_nothing_at_all_is_an_empty_member() -> None:
    assert gzip.decompress(gzipped([], b"")) == b""


def test_a_part_that_does_not_belong_is_noticed() -> None:
    with pytest.raises(gzip.BadGzipFile):
        gzip.decompress(gzipped([deflated(b"one")], b"two"))


@pytest.mark.skipif(shutil.which("gzip") is None, reason="gzip is not installed")
def test_gzip_itself_finds_nothing_to_complain_of() -> None:
    plain = b"".join(TEXTS)
    said = subprocess.run(["gzip", "-t"], input=gzipped(map(deflated, TEXTS), plain), capture_output=True, check=False)
    assert (said.returncode, said.stderr) == (0, b"")

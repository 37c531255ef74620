"""Does the client get the format that it weighs highest, whatever it sends?"""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regiondrift.web.negotiate import Format, choose, wants_gzip

TEXT, OPENMETRICS = Format.TEXT, Format.OPENMETRICS

PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3_PROTOBUF_FIRST = (
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,"
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "format"),
    [
        (None, TEXT),
        ("", TEXT),
        ("*/*", TEXT),
        (BROWSER, TEXT),
        ("text/plain", TEXT),
        ("text/*", TEXT),
        ("application/openmetrics-text", OPENMETRICS),
        ("application/openmetrics-text; version=1.0.0", OPENMETRICS),
        ("application/openmetrics-text; version=0.0.1", OPENMETRICS),
        ('application/openmetrics-text; version="1.0.0"', OPENMETRICS),
        (r'application/openmetrics-text; version="1\.0.0"', OPENMETRICS),
        ("Application/OpenMetrics-Text; Version=1.0.0; Q=0.4", OPENMETRICS),
        ("application/openmetrics-text;version=1.0.0;charset=utf-8", OPENMETRICS),
        (PROMETHEUS_2, OPENMETRICS),
        (PROMETHEUS_3_PROTOBUF_FIRST, OPENMETRICS),
        # weights decide, in whatever order
        ("application/openmetrics-text;q=0.2,text/plain;q=0.7", TEXT),
        ("text/plain;q=0.7,application/openmetrics-text;q=0.2", TEXT),
        ("text/plain;q=0.2 ,  application/openmetrics-text ; q=0.7", OPENMETRICS),
        ("text/plain;q=0.70,application/openmetrics-text;q=0.701", OPENMETRICS),
        # equals: the richer format, if it was asked for by name
        ("text/plain,application/openmetrics-text", OPENMETRICS),
        ("text/plain;q=0.5,application/openmetrics-text;q=0.5", OPENMETRICS),
        ("application/*,text/*", TEXT),
        # the most specific range rules, and 0 excludes
        ("application/openmetrics-text;q=0,*/*", TEXT),
        ("application/openmetrics-text;q=0.000,text/plain;q=0.001", TEXT),
        ("*/*;q=0.9,text/plain;q=0.1,application/openmetrics-text;q=0.2", OPENMETRICS),
        ("text/plain;q=0,*/*;q=0.5", OPENMETRICS),
        ("application/openmetrics-text,application/openmetrics-text;version=1.0.0;q=0.1,text/plain;q=0.5", TEXT),
        # nothing that we speak: text is better than nothing
        ("text/plain;q=0", TEXT),
        ("image/png", TEXT),
        ("application/openmetrics-text;version=2.0.0", TEXT),
        ("application/openmetrics-text;version=2.0.0,text/plain;version=0.0.4;q=0.1", TEXT),
        ("application/openmetrics-text;version=abc", TEXT),
        ("application/openmetrics-text;version=", TEXT),
        ("text/plain;version=x.y", TEXT),
        ("application/vnd.google.protobuf", TEXT),
        # weights that are none
        ("application/openmetrics-text;q=banana", TEXT),
        ("application/openmetrics-text;q=-1", TEXT),
        ("application/openmetrics-text;q=nan", TEXT),
        ("application/openmetrics-text;q=1e0", TEXT),
        ("application/openmetrics-text;q=1.5", TEXT),
        ("application/openmetrics-text;q=\u0661", TEXT),
        # quotes hide separators, even unfinished ones
        ('text/plain;note="a,application/openmetrics-text;q=1"', TEXT),
        ('text/plain;note="unfinished, application/openmetrics-text', TEXT),
        (r'text/plain;q=0.1;note="\"",application/openmetrics-text', OPENMETRICS),
        (";;;,,,===", TEXT),
        ("/,*,a/b/c;d=e;f,\u00ff\u00fe", TEXT),
    ],
)
def test_format(accept: str | None, format: Format) -> None:
    assert choose(accept) is format


@pytest.mark.parametrize(
    ("accept_encoding", "gzip"),
    [
        (None, False),
        ("", False),
        ("gzip", True),
        ("GZip", True),
        ("x-gzip", True),
        ("gzip, deflate, br, zstd", True),
        ("br;q=1, gzip;q=0.2", True),
        ("*", True),
        ("identity", False),
        ("br, zstd", False),
        ("gzip;q=0", False),
        ("gzip;q=0, *", False),
        ("*;q=0", False),
        ("identity;q=0.5, gzip;q=0.5", True),
        ("identity;q=0.5, gzip;q=1.0", True),
        ("identity;q=1, gzip;q=0.5", False),
        ("gzip;q=banana", False),
        (";;,,=", False),
    ],
)
def test_coding(accept_encoding: str | None, gzip: bool) -> None:
    assert wants_gzip(accept_encoding) is gzip


def test_content_types_say_what_is_sent() -> None:
    assert TEXT.content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert OPENMETRICS.content_type == "application/openmetrics-text; version=1.0.0; charset=utf-8"


@given(st.text() | st.text(alphabet='",;=\\q01.*/ ', max_size=300))
def test_nothing_raises(header: str) -> None:
    assert choose(header) in Format
    assert wants_gzip(header) in (True, False)


@pytest.mark.parametrize(
    "header",
    [
        "x" * 6_000,
        "text/plain," * 600,
        "application/openmetrics-text;q=" + "9" * 4_000,
        '"' * 6_000,
        '"\\' * 3_000,
        ";q=" * 2_000,
        "\u00b2\u00ff" * 3_000,
        "a;" * 3_000 + '"',
    ],
    ids=lambda header: repr(header[:12]),
)
def test_hostile_headers_cost_little(header: str) -> None:
    begun = time.process_time()
    assert choose(header) is TEXT
    assert not wants_gzip(header)
    assert time.process_time() - begun < 0.05

"""Can something wrong be said at all? What the common vocabulary refuses, and where."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle
import sys
import textwrap
import traceback
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regiondrift.catalog import GROUP, Catalog, CatalogError
from regiondrift.model import (
    Collector,
    Conninfo,
    EntryOptions,
    Kept,
    Kind,
    Look,
    Metric,
    Moment,
    ProbeError,
    Reason,
    RefusedValueError,
    Sample,
    Secret,
    State,
    Target,
)
from regiondrift.model.metric import FORBIDDEN_LABELS
from regiondrift.model.replication import REPLICATION, STATE

LAG = Metric("regiondrift_test_lag_seconds", "A sentence.", ("link", "replica"), unit="seconds")
TRIES = Metric("regiondrift_test_tries_total", "A sentence.", ("link",), kind=Kind.COUNTER)
MODE = Metric("regiondrift_test_mode", "A sentence.", ("link", "mode"), states=("fast", "slow"))


# A metric is declared once


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (lambda: Metric("test_lag_seconds", "A sentence.", unit="seconds"), "regiondrift_"),
        (lambda: Metric("regiondrift_testLag", "A sentence."), "snake_case"),
        (lambda: Metric("regiondrift_test__lag", "A sentence."), "snake_case"),
        (lambda: Metric("regiondrift_test_lag", "A sentence.", unit="seconds"), "does not end in its unit"),
        (lambda: Metric("regiondrift_test_lag_minutes", "A sentence."), "not a base unit"),
        (lambda: Metric("regiondrift_test_lag", "A sentence.", unit="minutes"), "not a base unit"),
        (lambda: Metric("regiondrift_test_tries", "A sentence.", kind=Kind.COUNTER), "_total"),
        (lambda: Metric("regiondrift_test_tries_total", "A sentence."), "_total"),
        (lambda: Metric("regiondrift_test_lag", "No sentence"), "one sentence"),
        (lambda: Metric("regiondrift_test_lag", ""), "one sentence"),
        (lambda: Metric("regiondrift_test_lag", "Two\nlines."), "one line"),
        (lambda: Metric("regiondrift_test_lag", "A sentence.", ("Link",)), "snake_case"),
        (lambda: Metric("regiondrift_test_lag", "A sentence.", ("link", "link")), "twice"),
        (lambda: Metric("regiondrift_test_mode", "A sentence.", states=("a", "b")), "states"),
        (lambda: Metric("regiondrift_test_mode", "A sentence.", ("mode",), states=("a", "a")), "states"),
    ],
)
def test_a_wrong_declaration_cannot_be_imported(wrong, why: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(TypeError, match=why):
        wrong()


@pytest.mark.parametrize("label", sorted(FORBIDDEN_LABELS))
def test_labels_of_scrape_configurations_are_never_ours(label: str) -> None:
    with pytest.raises(TypeError, match="clashes"):
        Metric("regiondrift_test_lag", "A sentence.", (label,))


def test_forbidden_are_all_that_the_design_forbids() -> None:
    assert {"region", "cluster", "zone", "env", "service", "job", "instance"} <= FORBIDDEN_LABELS


# and called to make samples


def test_a_sample_holds_its_label_values_in_declared_order() -> None:
    sample = LAG(1.5, replica="ams-1", link="orders")
    assert sample == Sample(LAG, ("orders", "ams-1"), 1.5) == LAG.at(1.5, ("orders", "ams-1"))
    assert sample.labels == {"link": "orders", "replica": "ams-1"}


@pytest.mark.parametrize(
    "labels", [{}, {"link": "a"}, {"link": "a", "node": "b"}, {"link": "a", "replica": "b", "x": ""}]
)
def test_other_labels_are_refused(labels: dict[str, str]) -> None:
    with pytest.raises(RefusedValueError):
        LAG(1.0, **labels)


@pytest.mark.parametrize("values", [(), ("a",), ("a", "b", "c")])
def test_too_few_or_too_many_label_values_are_refused(values: tuple[str, ...]) -> None:
    with pytest.raises(RefusedValueError):
        LAG.at(1.0, values)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None, "1", b"1", 1j, [1]])
def test_what_is_no_finite_number_is_refused(value) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(RefusedValueError):
        LAG(value, link="a", replica="b")


def test_a_number_beyond_all_floats_is_refused() -> None:
    with pytest.raises(RefusedValueError):
        LAG(10**400, link="a", replica="b")


@given(st.floats() | st.integers(-(2**63), 2**64) | st.none() | st.text(max_size=3))
def test_every_value_is_either_kept_or_refused(value) -> None:  # type: ignore[no-untyped-def]
    try:
        sample = LAG.at(value, ("a", "b"))
    except RefusedValueError:
        assert not isinstance(value, (int, float)) or not math.isfinite(value)
    else:
        assert sample.value == value
        assert math.isfinite(sample.value)


def test_a_counter_is_not_negative() -> None:
    assert TRIES(0, link="a").value == 0
    with pytest.raises(RefusedValueError):
        TRIES(-1, link="a")


def test_exactly_one_state_is_1_and_others_than_the_declared_are_refused() -> None:
    samples = MODE.in_state("slow", ("orders",))
    assert [(s.values, s.value) for s in samples] == [(("orders", "fast"), 0), (("orders", "slow"), 1)]
    with pytest.raises(RefusedValueError):
        MODE.in_state("backwards", ("orders",))


def test_the_states_of_a_replica_are_the_enumeration() -> None:
    assert STATE.states == tuple(s.value for s in State)
    assert sum(s.value for s in STATE.in_state("streaming", ("postgresql", "orders", "ams-1", "", ""))) == 1


def test_the_families_of_replication_differ() -> None:
    assert len({m.name for m in REPLICATION}) == len(REPLICATION)


def test_a_moment_is_a_number_and_still_a_moment_as_a_value() -> None:
    assert isinstance(LAG(Moment(5.0), link="a", replica="b").value, Moment)
    assert Moment(5.0) == 5.0


# Secrets


class TestSecret:
    """What must never be shown is not shown by anything that shows things."""

    HIDDEN = "hunter2 is the password"

    @pytest.mark.parametrize("kind", [Secret, Conninfo])
    def test_no_text_made_of_it_shows_it(self, kind: type[Secret]) -> None:
        secret = kind(self.HIDDEN)
        shown = [
            repr(secret),
            str(secret),
            f"{secret}",
            f"{secret!r:>20}",
            "{} {!r}".format(*[secret, secret]),
            f"{[secret]} { {1: secret} }",
        ]
        assert not [text for text in shown if "hunter2" in text]
        assert secret.reveal() == self.HIDDEN

    @pytest.mark.parametrize("kind", [Secret, Conninfo])
    def test_no_copy_that_leaves_the_process_holds_it(self, kind: type[Secret]) -> None:
        assert b"hunter2" not in pickle.dumps(kind(self.HIDDEN))
        assert pickle.loads(pickle.dumps(kind(self.HIDDEN))).reveal() == "***"

    def test_options_that_hold_it_do_not_show_it(self) -> None:
        target = Target("orders", "ymq-1", "montreal", Secret(self.HIDDEN))
        assert "hunter2" not in repr(target)
        assert "hunter2" not in str(dataclasses.astuple(target))

    def test_a_traceback_with_locals_does_not_show_it(self) -> None:
        def connect(conninfo: Secret) -> None:
            raise ConnectionError(f"cannot connect with {conninfo}")

        try:
            connect(Secret(self.HIDDEN))
        except ConnectionError as error:
            seen = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
            assert "hunter2" not in seen.replace(repr(self), "")
            assert "***" in seen

    def test_a_reload_sees_whether_it_changed(self) -> None:
        assert Secret("a") == Secret("a")
        assert Secret("a") != Secret("b")
        assert Secret("a") != "a"
        assert hash(Secret("a")) == hash(Secret("a"))
        assert not hasattr(Secret("a"), "__dict__")


# What a target keeps


def test_what_is_kept_is_closed_once() -> None:
    closed: list[str] = []
    kept = Kept()
    kept.put("one", lambda: closed.append("one"))
    kept.put("two", lambda: closed.append("two"))
    assert (kept.value, closed) == ("two", ["one"])
    kept.drop()
    kept.drop()
    assert (kept.value, closed) == (None, ["one", "two"])


def test_a_probe_error_carries_its_reason() -> None:
    error = ProbeError(Reason.TLS, "certificate has expired")
    assert (error.failure.reason, error.failure.detail) == (Reason.TLS, "certificate has expired")
    assert str(error) == "tls: certificate has expired"


# Collectors are found


async def look(target: Target, kept: Kept) -> Look:
    return Look(())


THEIRS = Collector("theirs", EntryOptions, lambda options, objectives: ((), None), look)
NOT_A_COLLECTOR = "something else"


def point(name: str, value: str) -> dict[str, EntryPoint]:
    return {name: EntryPoint(name, value, GROUP)}


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that somebody else made, installed: its metadata and a module that says when it is imported."""
    metadata = tmp_path / "theirs-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        f"[{GROUP}]\ntheirs = their_collector:COLLECTOR\nbroken = their_broken_collector:COLLECTOR\n"
    )
    (tmp_path / "their_collector.py").write_text(
        textwrap.dedent(
            """
            from regiondrift.model import Collector, EntryOptions, Look
            async def look(target, kept):
                return Look(())
            COLLECTOR = Collector("theirs", EntryOptions, lambda options, objectives: ((), None), look)
            """
        )
    )
    (tmp_path / "their_broken_collector.py").write_text("import a_library_that_is_not_installed\n")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_a_third_partys_collector_is_found_and_imported_only_when_asked_for(installed: Path) -> None:
    catalog = Catalog()
    assert {"theirs", "broken", "postgresql"} <= set(catalog.names())
    assert "their_collector" not in sys.modules
    collector = catalog.load("theirs")
    assert (collector.name, collector.interval, collector.timeout) == ("theirs", 15.0, 10.0)
    assert catalog.load("theirs") is collector
    del sys.modules["their_collector"]


def test_a_collector_that_cannot_be_imported_is_named(installed: Path) -> None:
    with pytest.raises(CatalogError, match=r"broken.*their_broken_collector.*a_library_that_is_not_installed"):
        Catalog().load("broken")


@pytest.mark.parametrize(
    ("name", "value"),
    [("theirs", f"{__name__}:NOT_A_COLLECTOR"), ("another_name", f"{__name__}:THEIRS")],
)
def test_what_is_no_collector_of_that_name_is_refused(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or sys.modules[look.__module__])
    with pytest.raises(CatalogError, match=f"{name}.*not a Collector"):
        Catalog(point(name, value)).load(name)


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("pass", "lacks the object it names"),
        ("1 / 0", "raises while it is imported"),
        ("this is no Python", "cannot be parsed"),
    ],
)
def test_a_collector_that_is_broken_in_any_other_way_is_named_too(installed: Path, source: str, what: str) -> None:
    (installed / "their_broken_collector.py").write_text(source + "\n")
    sys.modules.pop("their_broken_collector", None)
    with pytest.raises(CatalogError, match=r"broken.*their_broken_collector"):
        Catalog().load("broken")


def test_copies_of_secrets_do_not_leak_either() -> None:
    assert copy.copy(Secret("hunter2")).reveal() == "***"

"""Can a collector, whatever it does, take anything from another target or from the process?"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from faults.exporter import Exporter, document, exporter, until
from faults.misbehaving import HOW, install

pytestmark = pytest.mark.timeout(60)

OF_ITS_OWN = {
    "hangs": "timeout",
    "never": "timeout",
    "longdetail": "tls",
    "partly": "permission",
    "unclosable": "unreachable",
    "undeclared": "refused_value",
    "nan": "refused_value",
    "hugevalue": "refused_value",
    "numberlabel": "refused_value",
    "textvalue": "refused_value",
    "twice": "refused_value",
    "manylabels": "refused_value",
    "textobservations": "refused_value",
    "texthistory": "refused_value",
}
"""Reasons that are not `internal`."""

LETHAL = {"freezes", "endsheart", "endswatch", "endstarget", "endspublisher"}
EVERYTHING = sorted({*HOW, "nocoroutine", "raisesatonce"} - LETHAL - {"blocks", "fine", "badposition"})


def odd(name: str, how: str, **options: Any) -> dict[str, Any]:
    return {"name": name, "interval": "200ms", "timeout": "500ms", "how": how, **options}


def configuration(*entries: dict[str, Any]) -> dict[str, Any]:
    return document(*entries, collector="misbehaving", objectives={"recovery_point": "30s"})


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return install(tmp_path_factory.mktemp("site") / "packages")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Iterator[Exporter]:
    entries = [odd("good", "fine"), odd("link", "badposition", linked=True), *(odd(how, how) for how in EVERYTHING)]
    with exporter(tmp_path_factory.mktemp("odd"), configuration(*entries), environment) as made:
        until(made.ready, 15, "ready")
        yield made


@pytest.mark.parametrize("how", EVERYTHING)
def test_a_fault_is_its_own_targets(scene: Exporter, how: str) -> None:
    found = scene.scrape()
    assert found.success(f"{how}/one") == 0
    assert found.reasons(f"{how}/one").keys() == {OF_ITS_OWN.get(how, "internal")}


def test_a_position_that_cannot_be_compared_is_its_own_targets(scene: Exporter) -> None:
    scene.until(lambda s: "internal" in s.reasons("link/one"), what="refused")
    assert scene.scrape().values("regiondrift_recovery_point_timestamp_seconds") == []


def test_the_good_one_goes_on_as_if_alone(scene: Exporter) -> None:
    name = "regiondrift_probe_last_success_timestamp_seconds"
    before = scene.scrape().value(name, target="good/one")
    assert before is not None
    scene.until(lambda s: (s.value(name, target="good/one") or 0) > before + 1, 5, "five more looks")
    found = scene.scrape()
    assert found.reasons("good/one") == {}
    assert found.value("regiondrift_misbehaving_things", name="fine") == 1


def test_only_what_is_declared_and_finite_is_exported(scene: Exporter) -> None:
    found = scene.scrape()
    names = {dict(labels)["name"] for name, labels in found.series if name == "regiondrift_misbehaving_things"}
    assert names == {"fine", "partly", "twice"}
    assert not [name for name, _ in found.series if "others" in name]


def test_values_of_exceptions_are_told_nobody(scene: Exporter) -> None:
    for text in (scene.said(), scene.ask("/")[1], scene.ask("/api/v1/status")[1], scene.scrape().text):
        assert "hunter2" not in text


def test_each_says_so_once(scene: Exporter) -> None:
    for how in ("error", "exit", "never", "nan"):
        assert len(scene.lines('msg="look failed"', f"target={how}/one ")) == 1
    assert len(scene.said()) < 2_000_000


def test_a_look_that_never_ends_costs_one_task_and_nothing_more(scene: Exporter) -> None:
    before = scene.descriptors(), scene.threads()
    failed = scene.scrape().reasons("hangs/one")["timeout"]
    scene.until(lambda s: s.reasons("hangs/one")["timeout"] > failed, 20, "another look")
    assert scene.descriptors() <= before[0] + 2
    assert scene.threads() <= before[1] + 2


def test_it_ends_in_time_all_the_same(scene: Exporter) -> None:
    began = time.monotonic()
    assert scene.stop() == 0
    assert time.monotonic() - began < 5


def test_a_collector_that_blocks_the_loop_delays_others_and_fails_nobody(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    config = configuration(odd("good", "fine"), odd("bad", "blocks", interval="3s", timeout="2s"))
    with exporter(tmp_path, config, environment) as made:
        made.until(lambda s: s.success("bad/one") == 1, 15, "it blocked")
        found = made.until(lambda s: (s.value("regiondrift_event_loop_lag_seconds") or 0) > 0.5, 15, "it is seen")
        assert found.success("good/one") == 1
        assert found.reasons("good/one") == {}
        assert made.stop() == 0


@pytest.mark.parametrize(
    ("how", "who"),
    [
        ("endsheart", "heartbeat"),
        ("endswatch", "configuration watch"),
        ("endstarget", "scheduler"),
        ("endspublisher", "heartbeat"),
    ],
)
def test_a_task_of_ours_that_dies_takes_the_process_with_it(
    tmp_path: Path, environment: dict[str, str], how: str, who: str
) -> None:
    with exporter(tmp_path, configuration(odd("good", "fine"), odd("bad", how)), environment) as made:
        assert made.wait(10) == 1
        assert made.lines(f"{who} has ended"), made.said()

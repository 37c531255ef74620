"""What may a collector do wrong? One that does each of it, installed like anybody's package, for tests of the whole process."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regiondrift.model import (
    Collector,
    EntryOptions,
    Failure,
    History,
    Kept,
    Link,
    Look,
    Metric,
    Objectives,
    ProbeError,
    Reason,
    Sample,
    SourcePosition,
    Target,
    option,
)

THINGS = Metric("regiondrift_misbehaving_things", "Things that were counted.", ("name",))
OTHERS = Metric("regiondrift_misbehaving_others", "Things that nobody declared.", ("name",))


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(EntryOptions):
    how: str = option("What it does.")
    linked: bool = option("Whether it is a link.", default=False)


class Unheard(BaseException):
    """No Exception."""


def fine(kept: Kept) -> Any:
    return Look((THINGS(1, name="fine"),))


def raises(error: BaseException | type[BaseException]) -> Callable[[Kept], Any]:
    def look(kept: Kept) -> Any:
        raise error

    return look


def returns(value: Any) -> Callable[[Kept], Any]:
    return lambda kept: value


async def never(kept: Kept) -> Any:
    """Never returns, and takes no for an answer."""
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            continue


async def hangs(kept: Kept) -> Any:
    await asyncio.sleep(3600)


def blocks(kept: Kept) -> Any:
    time.sleep(1)
    return Look(())


def freezes(kept: Kept) -> Any:
    time.sleep(3600)


def keeps_what_cannot_be_closed(kept: Kept) -> Any:
    def close() -> None:
        raise OSError("it is stuck")

    kept.put("something", close)
    raise ProbeError(Reason.UNREACHABLE, "gone")


def ends(name: str) -> Callable[[Kept], Any]:
    """Cancels a task that is none of its business."""

    def look(kept: Kept) -> Any:
        for task in asyncio.all_tasks():
            if task.get_name() == name:
                task.cancel()
        return Look(())

    return look


async def ends_the_publisher(kept: Kept) -> Any:
    """As a fault of ours would, by a sample that cannot be rendered."""
    from regiondrift.render import lines

    def fail(*_: Any) -> Any:
        raise RuntimeError("a fault of ours")

    lines.number = fail  # type: ignore[assignment]
    return Look(())


def recurses(kept: Kept) -> Any:
    return recurses(kept)


HOW: dict[str, Callable[[Kept], Any]] = {
    "fine": fine,
    "exit": raises(SystemExit(3)),
    "interrupt": raises(KeyboardInterrupt),
    "generator": raises(GeneratorExit),
    "cancel": raises(asyncio.CancelledError),
    "unheard": raises(Unheard("password=hunter2")),
    "error": raises(ValueError("password=hunter2")),
    "stop": raises(StopIteration),
    "memory": raises(MemoryError),
    "recursion": recurses,
    "baddetail": raises(ProbeError(Reason.TLS, 7)),  # type: ignore[arg-type]
    "longdetail": raises(ProbeError(Reason.TLS, "x" * 5_000_000)),
    "none": returns(None),
    "text": returns("look"),
    "list": returns([THINGS(1, name="a")]),
    "noobservations": returns(Look(None)),  # type: ignore[arg-type]
    "textobservations": returns(Look("abc")),  # type: ignore[arg-type]
    "badreason": returns(Look((), (Failure("because", "x"),))),  # type: ignore[arg-type]
    "badrefused": returns(Look((), ("x",))),  # type: ignore[arg-type]
    "badnotes": returns(Look((), (), "abc")),  # type: ignore[arg-type]
    "badnote": returns(Look((), (), {"a": 1})),  # type: ignore[dict-item]
    "undeclared": returns(Look((OTHERS(1, name="a"),))),
    "nan": returns(Look((Sample(THINGS, ("nan",), float("nan")),))),
    "numberlabel": returns(Look((Sample(THINGS, (7,), 1.0),))),  # type: ignore[arg-type]
    "textvalue": returns(Look((Sample(THINGS, ("a",), "1"),))),  # type: ignore[arg-type]
    "hugevalue": returns(Look((Sample(THINGS, ("huge",), 10**400),))),
    "twice": returns(Look((THINGS(1, name="twice"), THINGS(2, name="twice")))),
    "manylabels": returns(Look((Sample(THINGS, ("a", "b"), 1.0),))),
    "partly": returns(Look((THINGS(1, name="partly"),), (Failure(Reason.PERMISSION, "half of it"),))),
    "texthistory": returns(Look((SourcePosition("history", 7),))),  # type: ignore[arg-type]
    "badposition": returns(Look((SourcePosition(History("1", 1), {}),))),  # type: ignore[arg-type]
    "never": never,
    "hangs": hangs,
    "blocks": blocks,
    "freezes": freezes,
    "unclosable": keeps_what_cannot_be_closed,
    "endsheart": ends("heartbeat"),
    "endswatch": ends("configuration watch"),
    "endstarget": ends("target good/one"),
    "endspublisher": ends_the_publisher,
}


async def look(target: Target, kept: Kept) -> Look:
    result = HOW[target.options.how](kept)
    if isinstance(result, Awaitable):
        result = await result
    return result  # type: ignore[no-any-return]


def look_or_not(target: Target, kept: Kept) -> Any:
    """No coroutine function at all, if so configured."""
    if target.options.how == "nocoroutine":
        return 7
    if target.options.how == "raisesatonce":
        raise ValueError("before there was anything to wait for")
    return look(target, kept)


def plan(options: Options, objectives: Objectives) -> tuple[tuple[Target, ...], Link | None]:
    link = Link("misbehaving", objectives.recovery_point) if options.linked else None
    return (Target(options.name, "one", "montreal", options),), link


COLLECTOR = Collector("misbehaving", Options, plan, look_or_not, (THINGS,))


def install(site: Path) -> dict[str, str]:
    """Make `site` a directory of packages with this one in it; the environment in which it is found."""
    site.mkdir()
    (site / "misbehaving.py").write_bytes(Path(__file__).read_bytes())
    metadata = site / "misbehaving-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: misbehaving\nVersion: 1.0\n", encoding="utf-8")
    points = "[regiondrift.collectors]\nmisbehaving = misbehaving:COLLECTOR\n"
    (metadata / "entry_points.txt").write_text(points, encoding="utf-8")
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))}

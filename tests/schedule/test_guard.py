"""Every way that a look can end, and that none of them escapes."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from regiondrift.clock import Clock
from regiondrift.model import (
    Collector,
    EntryOptions,
    Failure,
    History,
    Kept,
    LinkState,
    Look,
    Metric,
    ProbeError,
    Reason,
    ReplicaPosition,
    Sample,
    SourcePosition,
    Target,
)
from regiondrift.schedule.guard import GRACE, Guard

pytestmark = pytest.mark.looptime

DECLARED = Metric("regiondrift_test_things", "Things.", ("name",))
UNDECLARED = Metric("regiondrift_test_other_things", "Other things.", ("name",))
TARGET = Target("entry", "part", "region", None)


def guard(look: Callable[[Target, Kept], Awaitable[Any]], timeout: float = 10.0) -> Guard:
    collector = Collector("test", EntryOptions, lambda options, objectives: ((), None), look, (DECLARED,))
    return Guard(collector, TARGET, timeout, Clock())


async def reason(look: Callable[[Target, Kept], Awaitable[Any]]) -> Reason:
    ended = await guard(look).look()
    assert isinstance(ended.result, Failure)
    return ended.result.reason


async def test_a_look_that_succeeds_is_handed_on_as_it_is() -> None:
    found = Look((DECLARED(1, name="a"), SourcePosition(History("1", 1), 5)))

    async def look(target: Target, kept: Kept) -> Look:
        assert target is TARGET
        return found

    assert (await guard(look).look()).result is found


async def test_a_classified_failure_keeps_its_reason() -> None:
    async def look(target: Target, kept: Kept) -> Look:
        raise ProbeError(Reason.TLS, "certificate has expired")

    assert (await guard(look).look()).result == Failure(Reason.TLS, "certificate has expired")


async def test_anything_else_is_internal_and_tells_no_value() -> None:
    async def look(target: Target, kept: Kept) -> Look:
        raise ValueError("password=hunter2")

    ended = await guard(look).look()
    assert isinstance(ended.result, Failure)
    assert ended.result.reason is Reason.INTERNAL
    assert "hunter2" not in ended.result.detail
    assert "test_guard" in ended.result.detail


async def test_a_look_that_returns_the_wrong_thing_is_internal() -> None:
    async def look(target: Target, kept: Kept) -> Any:
        return [1, 2]

    assert await reason(look) is Reason.INTERNAL


async def test_a_look_that_cancels_itself_is_internal_and_the_guard_lives_on() -> None:
    async def look(target: Target, kept: Kept) -> Look:
        raise asyncio.CancelledError

    assert await reason(look) is Reason.INTERNAL


async def test_the_deadline_ends_a_look_and_drops_what_was_kept(looptime: float) -> None:
    closed = []

    async def look(target: Target, kept: Kept) -> Look:
        kept.put("connection", lambda: closed.append(True))
        await asyncio.sleep(100)
        raise AssertionError

    ended = await guard(look).look()
    assert isinstance(ended.result, Failure)
    assert ended.result.reason is Reason.TIMEOUT
    assert looptime == 10
    assert closed == [True]


async def test_a_look_that_ignores_being_cancelled_costs_a_grace_and_is_never_joined_by_another(
    looptime: float,
) -> None:
    in_flight = 0

    async def look(target: Target, kept: Kept) -> Look:
        nonlocal in_flight
        in_flight += 1
        assert in_flight == 1
        end = asyncio.get_running_loop().time() + 60
        while (left := end - asyncio.get_running_loop().time()) > 0:
            try:
                await asyncio.sleep(left)
            except asyncio.CancelledError:
                continue
        in_flight -= 1
        return Look(())

    one = guard(look)
    await one.look()
    assert looptime == 10 + GRACE
    second = await one.look()
    assert isinstance(second.result, Failure)
    assert second.result.reason is Reason.TIMEOUT
    assert looptime == 10 + GRACE
    await asyncio.sleep(60)
    assert in_flight == 0
    third = asyncio.ensure_future(one.look())
    await asyncio.sleep(5)
    assert in_flight == 1
    third.cancel()
    await asyncio.sleep(70)
    await one.close()


async def test_what_is_kept_stays_between_looks_and_goes_with_the_guard() -> None:
    closed = []

    async def look(target: Target, kept: Kept) -> Look:
        if kept.value is None:
            kept.put("connection", lambda: closed.append(True))
        return Look((), notes={"kept": kept.value})

    one = guard(look)
    await one.look()
    await one.look()
    assert closed == []
    await one.close()
    assert closed == [True]


@pytest.mark.parametrize(
    "bad",
    [
        Sample(UNDECLARED, ("a",), 1),
        Sample(DECLARED, ("a", "b"), 1),
        Sample(DECLARED, ("a",), math.nan),
        Sample(DECLARED, ("a",), math.inf),
        Sample(DECLARED, (None,), 1),  # type: ignore[arg-type]
        SourcePosition(History("1", 1), -1),
        ReplicaPosition(History("1", 1), 2**64),
        LinkState(reported_lag=math.inf),
        LinkState(intended_delay=math.nan),
        LinkState(intended_delay=None),  # type: ignore[arg-type]
        "not an observation",
    ],
)
async def test_an_observation_that_must_not_be_exported_is_refused_beside_the_others(bad: Any) -> None:
    good = DECLARED(1, name="good")

    async def look(target: Target, kept: Kept) -> Look:
        return Look((good, bad))

    ended = await guard(look).look()
    assert isinstance(ended.result, Look)
    assert ended.result.observations == (good,)
    assert [f.reason for f in ended.result.refused] == [Reason.REFUSED_VALUE]


async def test_a_sample_that_cannot_even_be_made_refuses_the_look() -> None:
    async def look(target: Target, kept: Kept) -> Look:
        return Look((DECLARED(math.nan, name="a"),))

    assert await reason(look) is Reason.REFUSED_VALUE

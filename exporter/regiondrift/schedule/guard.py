"""What came of one look? A deadline on it, and every way it can end classified; nothing escapes."""

from __future__ import annotations

import asyncio
import logging
import math
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from regiondrift.clock import Clock
from regiondrift.model import (
    Channel,
    Channels,
    Collector,
    Failure,
    Follower,
    Followers,
    History,
    Kept,
    Look,
    Metric,
    ProbeError,
    Reason,
    RefusedValueError,
    Sample,
    Target,
)
from regiondrift.model.observation import Instance, LinkState, Members, ReplicaPosition, SourcePosition

log = logging.getLogger(__name__)

_ENDS_THE_LOOP: Final = (SystemExit, KeyboardInterrupt, GeneratorExit)
"""A task that ends by one of these takes the event loop with it."""

GRACE: Final = 0.2
"""Seconds a cancelled look may take to end before it is left to itself."""


@dataclass(frozen=True, slots=True)
class Ended:
    """One look that has ended: between `asked` and `answered` on the house clock, `duration` in seconds."""

    result: Look | Failure
    asked: float
    answered: float

    @property
    def duration(self) -> float:
        return self.answered - self.asked


class Guard:
    """Looks at one target, one look at a time. What it kept is dropped when a look fails."""

    def __init__(self, collector: Collector, target: Target, timeout: float, clock: Clock) -> None:
        self._collector, self._target, self._timeout, self._clock = collector, target, timeout, clock
        self._metrics = frozenset(id(m) for m in collector.metrics)
        self._kept = Kept(clock.now)
        self._flight: asyncio.Task[Look] | None = None

    async def look(self) -> Ended:
        """Look once. Ends at the deadline whatever the collector does; if a look ignores being cancelled, the next ones
        are refused until it has ended."""
        asked = self._clock.now()
        result = await self._bounded()
        if isinstance(result, Failure):
            self._let_go()
        return Ended(result, asked, self._clock.now())

    @property
    def keeps(self) -> bool:
        """Something is kept for the next look: it will not connect anew."""
        return self._kept.value is not None

    async def close(self) -> None:
        """Cancel what is in flight, without waiting longer than the grace, and let go of what was kept."""
        if self._flight is not None:
            self._flight.cancel()
            await asyncio.wait({self._flight}, timeout=GRACE)
            # Whatever it raises, later perhaps, is nobody's business any more.
            self._flight.add_done_callback(_heard)
            self._flight = None
        self._let_go()

    def _let_go(self) -> None:
        try:
            self._kept.drop()
        except Exception:
            log.exception("what was kept cannot be closed", extra={"fields": {"target": self._target.label}})

    async def _bounded(self) -> Look | Failure:
        if self._flight is not None:
            self._forget()
            if self._flight is not None:
                return Failure(Reason.TIMEOUT, "an earlier look has not returned yet")
        self._flight = asyncio.get_running_loop().create_task(self._look_once())
        await asyncio.wait({self._flight}, timeout=self._timeout)
        if not self._flight.done():
            self._flight.cancel()
            # Closing the connection is what makes most clients return.
            await asyncio.wait({self._flight}, timeout=GRACE)
            self._forget()
            return Failure(Reason.TIMEOUT, f"no answer within {self._timeout:g} s")
        ended, self._flight = self._flight, None
        return self._judge(ended)

    async def _look_once(self) -> Look:
        try:
            return await self._collector.look(self._target, self._kept)
        except _ENDS_THE_LOOP as error:
            raise _EscapedError from error

    def _forget(self) -> None:
        if self._flight is not None and self._flight.done():
            _heard(self._flight)
            self._flight = None

    def _judge(self, ended: asyncio.Task[Look]) -> Look | Failure:
        try:
            try:
                look = ended.result()
            except ProbeError as error:
                return _classified(error.failure)
            if not isinstance(look, Look):
                raise TypeError(f"look() of {self._collector.name} returned {type(look).__name__}")
            return self._checked(look)
        except RefusedValueError as error:
            return Failure(Reason.REFUSED_VALUE, str(error))
        except asyncio.CancelledError:
            return Failure(Reason.INTERNAL, "the look cancelled itself")
        except BaseException as error:  # noqa: BLE001  whatever a collector raises is its own target's failure
            cause = error.__cause__ if isinstance(error, _EscapedError) and error.__cause__ else error
            # Without the exception's own text, which may hold what it was about.
            lines = "".join(traceback.format_tb(cause.__traceback__))
            log.debug("look failed", extra={"fields": {"target": self._target.label, "where": lines}})
            return Failure(
                Reason.INTERNAL, f"{type(cause).__name__} in collector {self._collector.name}{_where(cause)}"
            )

    def _checked(self, look: Look) -> Look:
        """The look without what may not be exported; each refused observation is a failure beside the rest."""
        if look.notes is not None:
            for name, text in look.notes.items():
                if not isinstance(name, str) or not isinstance(text, str):
                    raise TypeError(f"notes of {self._collector.name} are not text")
        good, refused = [], [_classified(failure) for failure in look.refused]
        series: set[tuple[int, tuple[str, ...]]] = set()
        for observation in look.observations:
            problem = self._problem(observation)
            if problem is None and isinstance(observation, Sample):
                # Twice the same series, and Prometheus could refuse the whole exposition.
                key = (id(observation.metric), observation.values)
                if key in series:
                    problem = f"{observation.metric.name}: the same series twice"
                series.add(key)
            if problem is None:
                good.append(observation)
            else:
                refused.append(Failure(Reason.REFUSED_VALUE, problem))
        return look if len(good) == len(look.observations) else Look(tuple(good), tuple(refused), look.notes)

    def _problem(self, observation: object) -> str | None:
        if isinstance(observation, Sample):
            metric = observation.metric
            if not isinstance(metric, Metric) or id(metric) not in self._metrics:
                return f"collector {self._collector.name} does not declare {getattr(metric, 'name', metric)}"
            try:
                metric.at(observation.value, observation.values)
            except RefusedValueError as error:
                return str(error)
            return None
        if isinstance(observation, (SourcePosition, ReplicaPosition)):
            history, position = observation.history, observation.position
            if not isinstance(history, History) or not isinstance(history.system, str):
                return f"{history!r} is no history"
            if isinstance(position, int) and not 0 <= position < 2**64:
                return f"{position} is no position"
            return None
        if isinstance(observation, LinkState):
            lag, delayed = observation.reported_lag, observation.intended_delay
            if lag is not None and not _finite(lag):
                return f"the claimed lag is {lag!r}"
            return None if _finite(delayed) else f"the intended delay is {delayed!r}"
        if isinstance(observation, Instance):
            return None if isinstance(observation.id, str) and observation.id else "an instance without a name"
        if isinstance(observation, Members):
            return None if self._collector.member else f"collector {self._collector.name} knows no members"
        if isinstance(observation, Channels):
            return _first(_channel_problem(c) for c in observation.channels)
        if isinstance(observation, Followers):
            return _first(_follower_problem(f) for f in observation.followers)
        return f"{type(observation).__name__} is no observation"


def _first(problems: Iterable[str | None]) -> str | None:
    return next((problem for problem in problems if problem is not None), None)


def _channel_problem(channel: Channel) -> str | None:
    if not isinstance(channel.name, str) or not channel.name:
        return f"{channel.name!r} is no name of a channel"
    if channel.reported_lag is not None and not math.isfinite(channel.reported_lag):
        return f"the claimed lag is {channel.reported_lag!r}"
    return _out_of_range(channel.position)


def _follower_problem(follower: Follower) -> str | None:
    if not isinstance(follower.name, str) or not follower.name:
        return f"{follower.name!r} is no name of a follower"
    return _out_of_range(follower.position) or _out_of_range(follower.received)


def _out_of_range(position: object) -> str | None:
    return f"{position} is no position" if isinstance(position, int) and not 0 <= position < 2**64 else None


def _finite(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _heard(task: asyncio.Task[Look]) -> None:
    """Keep the event loop from complaining of an exception that nobody asked for."""
    if not task.cancelled():
        task.exception()


class _EscapedError(Exception):
    """Its cause would have ended the event loop."""


def _classified(failure: object) -> Failure:
    if isinstance(failure, Failure) and isinstance(failure.reason, Reason) and isinstance(failure.detail, str):
        return failure
    raise TypeError(f"{type(failure).__name__} is no classified failure")


def _where(error: BaseException) -> str:
    """The line that raised it: enough to find it, and nothing of its values."""
    trace = error.__traceback__
    if trace is None:
        return ""
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f" ({trace.tb_frame.f_globals.get('__name__')}:{trace.tb_lineno})"

"""What is known now? Takes every ended look, asks the reducers, and hands samples to the renderer and changes to the state."""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from regiondrift import __version__, self_metrics
from regiondrift.clock import Clock
from regiondrift.following import Following
from regiondrift.model import Failure, Look, Metric, Moment, Plan, Reason, Sample, TargetStatus
from regiondrift.model.status import LinkStatus
from regiondrift.reduce import said
from regiondrift.reduce.memory import LinkMemory, remembered
from regiondrift.reduce.recovery import LinkReducer, Settled
from regiondrift.render.publisher import Publisher
from regiondrift.schedule.guard import Ended
from regiondrift.schedule.scheduler import Scheduled
from regiondrift.state import Change, Key, Remembered

log = logging.getLogger(__name__)

PERSISTED_AT_ONCE: Final = 200
"""Links whose memory is written per `persist`, or a tenth of those that changed if that is more."""
ROWS_AT_ONCE: Final = 8000
"""Samples after which no further link's are: about 30 ms of the event loop. After a step of the wall clock all are due."""


@dataclass(slots=True)
class _Record:
    """One target and how its looks went."""

    plan: Plan
    part: str
    region: str
    node: bool = True
    tried: bool = False
    """A first look has ended."""
    success: bool | None = None
    last_success: Moment | None = None
    duration: float | None = None
    failure: Failure | None = None
    failing_since: Moment | None = None
    failures: dict[Reason, int] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    notes: dict[str, str] | None = None
    waiting: Ended | None = None
    """Ended, but not settled yet."""
    said: dict[Metric, Sample] = field(default_factory=dict)
    """Samples that rarely change, as they were made last."""

    def same(self, metric: Metric, value: float, labels: tuple[str, ...]) -> Sample:
        """The sample of the last time if it still holds: nothing is made, compared or rendered for it."""
        sample = self.said.get(metric)
        if sample is None or sample.value != value:
            sample = self.said[metric] = metric.at(value, labels)
        return sample

    @property
    def name(self) -> str:
        return f"{self.plan.entry}/{self.part}"


class House:
    """Everything that is known, by target and by link."""

    def __init__(self, clock: Clock, publisher: Publisher, load: Callable[[Key], Remembered]) -> None:
        self._clock, self._publisher, self._load = clock, publisher, load
        self._plans: dict[tuple[str, str], Plan] = {}
        self._records: dict[tuple[str, str, str], _Record] = {}
        self._links: dict[tuple[str, str], LinkReducer] = {}
        self._said: dict[tuple[str, str], dict[str, said.StateSaid]] = {}
        self._unsaved: dict[tuple[str, str], None] = {}
        self._ends: dict[tuple[str, str], float] = {}
        """When what was said of a link's states holds no more, whatever is seen."""
        self._following = Following(clock, publisher, load)

    # ---- the configuration

    def apply(self, plans: Iterable[Plan]) -> None:
        """Know these entries from now on. What is known of an unchanged target or link stays."""
        wanted = {(p.collector, p.entry): p for p in plans}
        now = self._clock.now()
        for key in self._plans.keys() - wanted.keys():
            self._publisher.drop(("link", *key))
            self._links.pop(key, None)
            self._unsaved.pop(key, None)
        for key, plan in wanted.items():
            if self._plans.get(key) == plan:
                continue
            if plan.link is not None:
                if key in self._links:
                    self._links[key].reconfigure(plan)
                else:
                    self._links[key] = LinkReducer(plan, self._remembered(plan, now), now)
            elif self._links.pop(key, None):
                self._unsaved.pop(key, None)
                self._publisher.drop(("link", *key))
        self._said = {key: its for key, its in self._said.items() if self._plans.get(key) == wanted.get(key)}
        self._ends = {key: end for key, end in self._ends.items() if key in self._links}
        self._plans = wanted
        records: dict[tuple[str, str, str], _Record] = {}
        for plan in wanted.values():
            for target in plan.targets:
                key3 = (plan.collector, plan.entry, target.part)
                record = self._records.pop(key3, None)
                if record is None or record.region != target.region or record.node is not target.node:
                    record = _Record(plan, target.part, target.region, target.node)
                record.plan = plan
                records[key3] = record
        for key3 in self._records:
            self._publisher.drop(("target", *key3))
        self._records = records
        for record in records.values():
            self._publish_target(record)
        for key, link in self._links.items():
            link.complete = self._complete(key)
            self._publish_link(key, now)
        self._following.apply(wanted, self._links)

    def _remembered(self, plan: Plan, now: float) -> LinkMemory:
        assert plan.link is not None
        stored = self._load(Key(plan.collector, plan.entry))
        try:
            return remembered(plan.link, stored.document, stored.rows, self._clock.moment, now)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            log.warning(
                "what the state file remembers of a link cannot be read; it begins anew",
                extra={"fields": {"entry": plan.entry, "error": type(error).__name__}},
            )
            return LinkMemory(replaces=True)

    # ---- looks come in

    def ended(self, scheduled: Scheduled, ended: Ended) -> None:
        """A look has ended. What is no longer configured is dropped."""
        key = (scheduled.collector, scheduled.target.entry, scheduled.target.part)
        record = self._records.get(key)
        if record is None:
            return
        record.tried = True
        link = self._links.get(key[:2])
        if link is None or not record.node:
            self._settle(record, ended, None)
            if link is not None:
                link.complete = self._complete(key[:2])
                self._publish_link(key[:2], self._clock.now())
            return
        record.waiting = ended
        for settled in self._judged(link, record, ended):
            its = self._records[(*key[:2], settled.node)]
            if its.waiting is not None:
                waiting, its.waiting = its.waiting, None
                self._settle(its, waiting, settled.failure)
                self._follow(its, waiting, settled.failure)
        self._unsaved[key[:2]] = None
        self._publish_link(key[:2], self._clock.now())

    def _follow(self, record: _Record, ended: Ended, refused: Failure | None) -> None:
        where = (record.plan.collector, record.plan.entry, record.part)
        try:
            self._following.observe(*where, refused or ended.result, ended.asked, ended.answered)
        except Exception:
            log.exception(
                "the followers that a look tells of cannot be judged", extra={"fields": {"target": record.name}}
            )

    def _complete(self, key: tuple[str, str]) -> bool:
        """Whoever knows which nodes an entry has was asked, and told all."""
        plan = self._plans[key]
        return all(self._records[(*key, t.part)].success for t in plan.targets if not t.node)

    def _judged(self, link: LinkReducer, record: _Record, ended: Ended) -> list[Settled]:
        try:
            return link.observe(record.part, ended.result, ended.asked, ended.answered)
        except Exception as error:
            # Positions of a collector that cannot be compared: its own target pays, not the process.
            log.exception("a look cannot be judged", extra={"fields": {"target": record.name}})
            failure = Failure(Reason.INTERNAL, f"what it found cannot be compared ({type(error).__name__})")
            return link.observe(record.part, failure, ended.asked, ended.answered)

    def _settle(self, record: _Record, ended: Ended, refused: Failure | None) -> None:
        result = refused or ended.result
        record.duration = ended.duration
        failures = (result,) if isinstance(result, Failure) else result.refused
        for reason in {f.reason for f in failures}:
            record.failures[reason] = record.failures.get(reason, 0) + 1
        if isinstance(result, Look):
            record.samples = [o for o in result.observations if isinstance(o, Sample)]
            record.notes = dict(result.notes) if result.notes else None
        else:
            record.samples, record.notes = [], None
        if failures:
            self._say_broken(record, failures[0], ended.answered)
            record.success, record.failure = False, failures[0]
        else:
            self._say_recovered(record, ended.answered)
            record.success, record.failure, record.failing_since = True, None, None
            record.last_success = Moment(ended.answered)
        self._publish_target(record)

    def _say_broken(self, record: _Record, failure: Failure, at: float) -> None:
        if record.failing_since is None:
            record.failing_since = Moment(at)
        if record.failure is None or record.failure.reason is not failure.reason:
            log.warning(
                "look failed",
                extra={
                    "fields": {
                        "collector": record.plan.collector,
                        "target": record.name,
                        "reason": failure.reason.value,
                        "detail": failure.detail,
                    }
                },
            )

    def _say_recovered(self, record: _Record, at: float) -> None:
        if record.failing_since is not None:
            log.info(
                "look succeeds again",
                extra={
                    "fields": {
                        "collector": record.plan.collector,
                        "target": record.name,
                        "failed_for_seconds": round(at - record.failing_since, 1),
                    }
                },
            )

    # ---- what is said

    def _publish_target(self, record: _Record) -> None:
        labels = (record.plan.collector, record.name)
        out = [record.same(self_metrics.INTERVAL, record.plan.interval, labels)]
        if record.success is not None:
            out.append(record.same(self_metrics.SUCCESS, int(record.success), labels))
        if record.duration is not None:
            out.append(self_metrics.DURATION.at(record.duration, labels))
        if record.last_success is not None:
            out.append(self_metrics.LAST_SUCCESS.at(record.last_success, labels))
        out += [self_metrics.FAILURES.at(n, (*labels, reason.value)) for reason, n in record.failures.items()]
        self._publisher.put(("target", record.plan.collector, record.plan.entry, record.part), out + record.samples)

    def _publish_link(self, key: tuple[str, str], now: float) -> None:
        try:
            samples = said.samples(self._links[key], now, self._said.setdefault(key, {}))
            self._ends[key] = self._links[key].streaming_until()
        except Exception:
            # A collector that says what cannot be said loses its link's series, which pages; nobody else does.
            log.exception("what is known of a link cannot be said", extra={"fields": {"entry": key[1]}})
            self._publisher.drop(("link", *key))
            self._ends.pop(key, None)
            return
        self._publisher.put(("link", *key), samples)

    def grow_older(self) -> None:
        """Say anew what time alone has changed: looks may hang for longer than it takes."""
        now = self._clock.now()
        for key in [key for key, end in self._ends.items() if end < now]:
            self._publish_link(key, now)

    def publish_self(self, samples: Iterable[Sample]) -> None:
        """The exporter's own samples, beside those it says always."""
        build = self_metrics.BUILD(1, version=__version__, python=platform.python_version())
        self._publisher.put("self", [build, *samples])

    @property
    def ready(self) -> bool:
        """Every target's first look has ended."""
        return all(r.tried for r in self._records.values())

    def targets(self) -> Iterator[TargetStatus]:
        """For a person, one by one: whoever has thousands may let others work in between."""
        wall = self._clock.wall

        def at(moment: Moment | None) -> float | None:
            return None if moment is None else wall(moment)

        for r in [*self._records.values()]:
            yield TargetStatus(
                collector=r.plan.collector,
                entry=r.plan.entry,
                part=r.part,
                region=r.region,
                success=r.success,
                last_success=at(r.last_success),
                duration=r.duration,
                failure=r.failure,
                failing_since=at(r.failing_since),
                notes=r.notes,
                node=r.node,
            )

    def links(self) -> Iterator[LinkStatus]:
        """Likewise."""
        for link in [*self._links.values()]:
            yield said.status(link, self._clock.now(), self._clock.wall)
        yield from self._following.links()

    def remembers(self, key: Key) -> bool:
        """Whether the link is known already."""
        return (key.collector, key.entry) in self._links or self._following.remembers(key)

    # ---- what must not be forgotten

    def persist(self, everything: bool = False) -> list[Change]:
        """What has changed since, for the state file; without `everything` the oldest part of it."""
        n, rows = len(self._unsaved), 0
        changes: list[Change] = []
        for key in list(self._unsaved)[: n if everything else max(PERSISTED_AT_ONCE, n // 10)]:
            if rows >= ROWS_AT_ONCE and not everything:
                break
            del self._unsaved[key]
            changes.append(self._links[key].changes(Key(*key), self._clock.wall))
            rows += len(changes[-1].upserts)
        return [*changes, *self._following.persist()]

    def stepped(self) -> None:
        """The wall clock was stepped: everything remembered has another Unix time now."""
        for key in self._links:
            self._links[key].memory.timeline.touch()
            self._unsaved[key] = None
        self._following.stepped()

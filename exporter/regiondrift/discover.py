"""Which targets has an entry beside those that are listed? What its discoveries found, kept until something says that it may go.

A member that is named no more is the usual sight of one whose machine is down. So it stays a target, and one of the
expected replicas, until the configuration lets it go.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from regiondrift.clock import Clock
from regiondrift.model import (
    Collector,
    Failure,
    Look,
    Member,
    Members,
    Moment,
    Plan,
    Reason,
    RefusedValueError,
    Target,
)
from regiondrift.schedule.guard import Ended
from regiondrift.schedule.scheduler import Scheduled
from regiondrift.state import Change, Key, Remembered

log = logging.getLogger(__name__)

_Asked: TypeAlias = tuple[str, str]
"""A discovery: its collector, and the label of its target."""


@dataclass(slots=True)
class _Known:
    about: str
    gone_since: Moment | None = None
    """When it was first named no more."""


@dataclass(slots=True)
class _Discovery:
    target: Target
    members: dict[str, _Known] = field(default_factory=dict)
    group: str = ""


def keys(plans: Iterable[Plan]) -> Iterator[Key]:
    """Under which the state file remembers what the discoveries of these plans found. No entry's name has a slash."""
    return (Key(p.collector, t.label) for p in plans for t in p.targets if not t.node)


class Discoveries:
    """The plans as they are configured, and what was found beside: together, what is to be looked at."""

    def __init__(self, collector: Callable[[str], Collector], clock: Clock, load: Callable[[Key], Remembered]) -> None:
        self._collector, self._clock, self._load = collector, clock, load
        self._configured: tuple[Plan, ...] = ()
        self._discoveries: dict[_Asked, _Discovery] = {}
        self._unsaved: set[_Asked] = set()
        self._plans: tuple[Plan, ...] | None = None

    # ---- the configuration

    def apply(self, plans: Iterable[Plan]) -> tuple[Plan, ...]:
        """Take these as configured. What is to be looked at then."""
        self._configured = tuple(plans)
        before, self._discoveries = self._discoveries, {}
        for plan in self._configured:
            for target in plan.targets:
                if not target.node:
                    asked = (plan.collector, target.label)
                    known = before[asked] if asked in before else self._remembered(asked, target)
                    self._discoveries[asked] = replace(known, target=target)
        self._unsaved &= self._discoveries.keys()
        self._plans = None
        return self.plans

    @property
    def plans(self) -> tuple[Plan, ...]:
        """What is to be looked at. The same object as long as nothing changed."""
        if self._plans is None:
            self._plans = tuple(self._whole(plan) for plan in self._configured)
        return self._plans

    def _whole(self, plan: Plan) -> Plan:
        targets = {target.part: target for target in plan.targets}
        for asked in self._of(plan):
            for target, _ in self._targets(asked):
                if target is not None:
                    targets.setdefault(target.part, target)
        return plan if len(targets) == len(plan.targets) else replace(plan, targets=tuple(targets.values()))

    def _of(self, plan: Plan) -> list[_Asked]:
        return [(plan.collector, target.label) for target in plan.targets if not target.node]

    def _targets(self, asked: _Asked) -> Iterator[tuple[Target | None, Failure | None]]:
        """What is to be looked at of each member, in the order of their names, or why it cannot be."""
        discovery, collector = self._discoveries[asked], self._collector(asked[0])
        assert collector.member is not None
        for name in sorted(discovery.members):
            try:
                yield collector.member(discovery.target, Member(name, discovery.members[name].about)), None
            except RefusedValueError as error:
                yield None, Failure(Reason.REFUSED_VALUE, str(error))
            except Exception as error:  # noqa: BLE001  a collector's fault costs its own member
                why = f"{type(error).__name__} in collector {collector.name}"
                yield None, Failure(Reason.INTERNAL, f"member {name!r}: {why}")

    # ---- looks come in

    def ended(self, scheduled: Scheduled, ended: Ended) -> Ended:
        """The look as it counts: with a failure for each member that cannot be looked at."""
        asked = (scheduled.collector, scheduled.target.label)
        discovery = self._discoveries.get(asked)
        if discovery is None or discovery.target != scheduled.target or not isinstance(ended.result, Look):
            return ended
        found = next((o for o in ended.result.observations if isinstance(o, Members)), None)
        if found is None:
            return ended
        if found.group != discovery.group and discovery.group and not found.configured:
            why = f"calls itself {found.group!r}, and its members are known as those of {discovery.group!r}"
            return replace(ended, result=Failure(Reason.WRONG_SYSTEM, why))
        self._take(asked, discovery, found, Moment(ended.answered))
        refused = (*ended.result.refused, *self._refused(asked))
        notes = dict(ended.result.notes or {})
        if gone := [name for name, known in sorted(discovery.members.items()) if known.gone_since is not None]:
            notes["no longer named"] = ", ".join(gone)
        return replace(ended, result=replace(ended.result, refused=refused, notes=notes))

    def _take(self, asked: _Asked, discovery: _Discovery, found: Members, now: Moment) -> None:
        before, saved = self.plans, self._document(discovery)
        if found.group != discovery.group:
            if discovery.group:
                discovery.members.clear()
            discovery.group = found.group
        known = discovery.members
        for member in found.members:
            its = known.get(member.name)
            if its is None:
                known[member.name] = _Known(member.about)
                self._say("found", asked, member.name)
            else:
                if its.gone_since is not None:
                    self._say("named again", asked, member.name)
                # Without an address it is about to start; where it was it will be, for all we know.
                its.about, its.gone_since = member.about or its.about, None
        named = {member.name for member in found.members}
        for name, its in list(known.items()):
            if name in named:
                continue
            if its.gone_since is None:
                its.gone_since = now
                self._say("no longer named; it is looked at and expected as before", asked, name, logging.WARNING)
            elif found.forget_after is not None and now - its.gone_since > found.forget_after:
                del known[name]
                self._say("let go", asked, name, logging.WARNING)
        self._plans = None
        if self.plans == before:
            self._plans = before
        if self._document(discovery) != saved:
            self._unsaved.add(asked)

    def _say(self, what: str, asked: _Asked, name: str, level: int = logging.INFO) -> None:
        fields = {"collector": asked[0], "target": asked[1], "member": name}
        log.log(level, "member %s", what, extra={"fields": fields})

    def _refused(self, asked: _Asked) -> Iterator[Failure]:
        """Why members of this discovery cannot be looked at. One that is listed, too, is looked at as listed."""
        (plan,) = (p for p in self._configured if asked in self._of(p))
        taken = {target.part for target in plan.targets if not target.node}
        for other in self._of(plan):
            for target, failure in self._targets(other):
                if target is not None and target.part in taken:
                    failure = Failure(Reason.REFUSED_VALUE, f"another target is called {target.part!r} already")
                elif target is not None:
                    taken.add(target.part)
                if other == asked and failure is not None:
                    yield failure
            if other == asked:
                return

    # ---- what must not be forgotten

    def remembers(self, key: Key) -> bool:
        """Whether it is known already what this discovery found."""
        return (key.collector, key.entry) in self._discoveries

    def persist(self) -> list[Change]:
        """What has changed since, for the state file."""
        unsaved, self._unsaved = self._unsaved, set()
        return [Change(Key(*asked), self._document(self._discoveries[asked])) for asked in sorted(unsaved)]

    def stepped(self) -> None:
        """The wall clock was stepped: what is remembered has another Unix time now."""
        self._unsaved |= self._discoveries.keys()

    def _document(self, discovery: _Discovery) -> str:
        wall = self._clock.wall
        members = {
            name: [known.about, None if known.gone_since is None else wall(known.gone_since)]
            for name, known in discovery.members.items()
        }
        return json.dumps({"group": discovery.group, "members": members})

    def _remembered(self, asked: _Asked, target: Target) -> _Discovery:
        text = self._load(Key(*asked)).document
        known = _Discovery(target)
        try:
            body: Any = json.loads(text or '{"group": "", "members": {}}')
            for name, (about, gone) in body["members"].items():
                known.members[str(name)] = _Known(str(about), None if gone is None else self._clock.moment(float(gone)))
            known.group = str(body["group"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning(
                "what the state file remembers of a discovery cannot be read",
                extra={"fields": {"target": asked[1], "error": type(error).__name__}},
            )
        return known

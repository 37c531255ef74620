"""What is said of the followers that take chosen changes across entries? Keeps their reducers, publishes and remembers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from regiondrift.clock import Clock
from regiondrift.model import Failure, LinkStatus, Look, Plan, ReplicaStatus, Sample
from regiondrift.model import replication as family
from regiondrift.reduce import said
from regiondrift.reduce.channels import ChannelReducer
from regiondrift.reduce.follower import remembered
from regiondrift.reduce.recovery import LinkReducer
from regiondrift.render.publisher import Publisher
from regiondrift.state import Change, Key, Remembered

log = logging.getLogger(__name__)

_KEPT_AS: Final = "/followers"
"""What the state file's key of an entry's followers adds to the collector's name."""

EntryKey = tuple[str, str]
"""Collector and entry."""


def key_of(collector: str, entry: str) -> Key:
    """Where the state file keeps the followers that live in an entry."""
    return Key(collector + _KEPT_AS, entry)


class Following:
    """The followers of all entries, by collector."""

    def __init__(self, clock: Clock, publisher: Publisher, load: Callable[[Key], Remembered]) -> None:
        self._clock, self._publisher, self._load = clock, publisher, load
        self._reducers: dict[str, ChannelReducer] = {}
        self._known: set[EntryKey] = set()
        self._said: dict[tuple[str, str, str], dict[str, said.StateSaid]] = {}
        self._objectives: dict[str, dict[tuple[str, str], float]] = {}
        self._unsaved: set[EntryKey] = set()

    def apply(self, plans: Mapping[EntryKey, Plan], links: Mapping[EntryKey, LinkReducer]) -> None:
        """Know these entries from now on."""
        for collector, entry in self._known - links.keys():
            self._reducers[collector].drop(entry)
            self._known.discard((collector, entry))
            self._unsaved.discard((collector, entry))
        for (collector, entry), link in links.items():
            reducer = self._reducers.setdefault(collector, ChannelReducer())
            self._known.add((collector, entry))
            if reducer.put(plans[collector, entry], link):
                self._restore(reducer, collector, entry, plans[collector, entry])
        for collector in self._reducers:
            self._publish(collector, None)

    def _restore(self, reducer: ChannelReducer, collector: str, entry: str, plan: Plan) -> None:
        assert plan.link is not None
        text = self._load(key_of(collector, entry)).document
        now = self._clock.now()
        try:
            system, followers = remembered(text, plan.link, self._clock.moment, now)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            log.warning(
                "what the state file remembers of an entry's followers cannot be read; they begin anew",
                extra={"fields": {"entry": entry, "error": type(error).__name__}},
            )
            return
        reducer.restore(entry, system, followers, now)

    def remembers(self, key: Key) -> bool:
        """Whether they are known already."""
        return key.collector.endswith(_KEPT_AS) and (key.collector.removesuffix(_KEPT_AS), key.entry) in self._known

    def observe(
        self, collector: str, entry: str, part: str, result: Look | Failure, asked: float, answered: float
    ) -> None:
        """A look has been settled.

        Raises:
            TypeError: positions that cannot be compared.
        """
        reducer = self._reducers.get(collector)
        if reducer is None:
            return
        touched = reducer.observe(entry, part, result, asked, answered)
        if touched:
            self._unsaved |= {(collector, home) for home, _ in touched}
            self._publish(collector, touched)

    def _publish(self, collector: str, touched: set[tuple[str, str]] | None) -> None:
        """Say what is true of these followers; of all, and of none else, if None."""
        reducer, now = self._reducers[collector], self._clock.now()
        if touched is None:
            old = {(e, n) for c, e, n in self._said if c == collector}
            touched = old | set(reducer.names())
        for name in touched:
            owner = (collector, *name)
            found = reducer.replica(name, now)
            if found is None:
                self._said.pop(owner, None)
                self._publisher.drop(("follower", *owner))
                continue
            link, replica = found
            samples = said.of_replica(link, replica, self._said.setdefault(owner, {}))
            if (items := reducer.items(name)) is not None:
                values = (*link, replica.name, replica.source_region, replica.target_region)
                samples += [family.ITEMS_MISSING.at(items[0], values), family.ITEMS_EXTRA.at(items[1], values)]
            self._publisher.put(("follower", *owner), samples)
        self._publish_objectives(collector, reducer)

    def _publish_objectives(self, collector: str, reducer: ChannelReducer) -> None:
        objectives = reducer.objectives()
        if objectives != self._objectives.get(collector, {}):
            self._objectives[collector] = objectives
            samples: list[Sample] = [family.OBJECTIVE.at(seconds, link) for link, seconds in objectives.items()]
            self._publisher.put(("followers", collector), samples)

    def links(self) -> Iterator[LinkStatus]:
        """For a person: the followers by link."""
        for reducer in [*self._reducers.values()]:
            objectives, now = reducer.objectives(), self._clock.now()
            by_link: dict[tuple[str, str], list[ReplicaStatus]] = {}
            for name in reducer.names():
                found = reducer.replica(name, now)
                if found is not None:
                    by_link.setdefault(found[0], []).append(said.replica_status(found[1], self._clock.wall))
            for (system, entry), replicas in by_link.items():
                source = reducer.source(entry) if any(r.source_region for r in replicas) else None
                yield LinkStatus(
                    system=system,
                    link=entry,
                    objective=objectives.get((system, entry)),
                    source=source,
                    source_region=next((r.source_region for r in replicas if r.source_region), ""),
                    sources=None,
                    failovers=0,
                    failover_recovery_point=None,
                    replicas=tuple(replicas),
                )

    # ---- what must not be forgotten

    def persist(self) -> list[Change]:
        """What has changed since, for the state file."""
        chosen, self._unsaved = self._unsaved, set()
        changes = []
        for collector, entry in chosen:
            document = self._reducers[collector].document(entry, self._clock.wall)
            if document is not None:
                changes.append(Change(key_of(collector, entry), document))
        return changes

    def stepped(self) -> None:
        """The wall clock was stepped: everything remembered has another Unix time now."""
        self._unsaved = set(self._known)

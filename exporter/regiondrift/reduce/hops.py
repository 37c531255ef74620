"""Who feeds whom, and where on the way from the source is a replica held up? As far as names tell it for certain."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from regiondrift.model import SourcePosition
from regiondrift.reduce.node import View


def compare_ends(views: Mapping[str, View], node: str, at: SourcePosition) -> None:
    """When a replica does not know yet that its link is down, the source may: it no longer feeds a session that it
    was seen to feed. Names that two nodes share tell nothing, nor does a session that something else feeds."""
    view = views[node]
    name, session = view.link.name, view.link.session
    if name is None or session is None or _shared(views, node):
        return
    if name in at.feeds:
        view.fed, view.cut = session, False
    elif view.fed == session:
        view.cut = True


def upstream(views: Mapping[str, View], node: str) -> str | None:
    """The node that says it feeds this one."""
    name = views[node].link.name
    if name is None or _shared(views, node):
        return None
    feeding = [other for other, view in views.items() if other != node and name in view.feeds]
    return feeding[0] if len(feeding) == 1 else None


def held_up(views: Mapping[str, View], node: str, source: str | None, late: Collection[str]) -> str | None:
    """The first of the `late` nodes on the way from the source to this one, itself included, if that way is known."""
    way, at = [node], upstream(views, node)
    while at is not None and at != source and at not in way:
        way.insert(0, at)
        at = upstream(views, at)
    if at is None or at != source:
        return None
    return next((name for name in way if name in late), None)


def _shared(views: Mapping[str, View], node: str) -> bool:
    """Whether another node is connected under the same name."""
    name = views[node].link.name
    return any(other.link.name == name for key, other in views.items() if key != node)

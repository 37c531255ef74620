"""What does a person at 3 a.m. need to see, and in which order? The status page: complete, static HTML.

One sentence first, then links, targets and the house itself, each worst first. Whatever comes from outside is escaped;
no script, no other resource.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from html import escape
from typing import Final
from urllib.parse import quote

from regiondrift import wording
from regiondrift.model import HouseStatus, LinkStatus, ReplicaStatus, State, TargetStatus
from regiondrift.verdict import Judged, Verdict, exposure, of_links, of_replica, sentence
from regiondrift.web.style import STYLE, STYLE_SOURCE

ROWS: Final = 500
"""Rows per table; the rest, which is the better part, is only counted."""
REFRESH: Final = 15
"""Seconds until a browser asks again."""

CONTENT_SECURITY_POLICY: Final = f"default-src 'none'; style-src {STYLE_SOURCE}; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

_TONES: Final = {
    Verdict.BROKEN: "bad",
    Verdict.BEHIND: "bad",
    Verdict.UNPROVEN: "warn",
    Verdict.UNKNOWN: "warn",
    Verdict.OK: "ok",
    Verdict.UNJUDGED: "none",
}
_CALM: Final = frozenset({State.STREAMING, State.CATCHING_UP, State.DELAYED})
_SHAPES: Final = {
    "bad": '<path d="M5 1h6l4 4v6l-4 4H5l-4-4V5z" fill="currentColor"/><path d="M5.5 5.5l5 5m0-5l-5 5" stroke="{0}" stroke-width="1.8" stroke-linecap="round"/>',
    "warn": '<path d="M8 1.2L15.4 14.4H.6z" fill="currentColor" stroke="currentColor" stroke-linejoin="round"/><path d="M8 6v3.8m0 2v.1" stroke="{0}" stroke-width="1.8" stroke-linecap="round"/>',
    "ok": '<circle cx="8" cy="8" r="7" fill="currentColor"/><path d="M4.8 8.3l2.2 2.2 4.2-4.6" fill="none" stroke="{0}" stroke-width="1.8" stroke-linecap="round" stroke-linejoin="round"/>',
    "none": '<circle cx="8" cy="8" r="6.2" fill="none" stroke="currentColor" stroke-width="1.6"/><path d="M5.2 8h5.6" stroke="currentColor" stroke-width="1.8" stroke-linecap="round"/>',
}
_ICON_COLOURS: Final = {"bad": "#d33a30", "warn": "#d98b00", "ok": "#2a9159", "none": "#7d8791"}


def page(status: HouseStatus) -> str:
    """The status page as it stands at `status.now`."""
    judged = of_links(status)
    words = sentence(status, judged)
    tone = _tone(status, judged)
    return "".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width,initial-scale=1">',
            f'<meta http-equiv="refresh" content="{REFRESH}">',
            f"<title>{escape(words.rstrip('.'))} · regiondrift</title>",
            f'<link rel="icon" href="{_favicon(tone)}"><style>{STYLE}</style></head><body>',
            '<header><div class="top"><b>regiondrift</b><nav aria-label="Machine-readable">',
            '<a href="metrics">Metrics</a><a href="api/v1/status">JSON</a></nav></div>',
            f'<div class="verdict {tone}">{_icon(tone)}<div><h1>{escape(words)}</h1>',
            f"<p>As of {_time(status.now)}. This page renews itself every {REFRESH} s.</p></div></div></header><main>",
            *_alarms(status),
            '<section aria-labelledby="links"><h2 id="links">Links</h2>',
            *_links(status, judged),
            '</section><section aria-labelledby="targets"><h2 id="targets">Targets</h2>',
            *_targets(status),
            '</section><section aria-labelledby="house"><h2 id="house">This exporter</h2>',
            *_house(status),
            "</section></main></body></html>\n",
        ]
    )


def _tone(status: HouseStatus, judged: Sequence[Judged]) -> str:
    tones = {_TONES[verdict] for _, verdict, _ in judged}
    if any(target.success is False for target in status.targets):
        tones.add("warn")
    return next((tone for tone in ("bad", "warn", "ok") if tone in tones), "none")


def _alarms(status: HouseStatus) -> Iterator[str]:
    if status.config_error is not None:
        yield f'<div class="verdict bad">{_icon("bad")}<div><b>The last reload failed; the configuration before it holds.</b>'
        yield f'<p class="said">{escape(status.config_error)}</p></div></div>'
    if status.state_problem is not None:
        yield f'<div class="verdict warn">{_icon("warn")}<div><b>The state directory cannot be used.</b>'
        yield f'<p class="said">{escape(status.state_problem)}</p></div></div>'


# ------------------------------------------------------------------------------------------------------------- links


def _links(status: HouseStatus, judged: Sequence[Judged]) -> Iterator[str]:
    if not judged:
        yield '<div class="card"><p>No link is configured: nothing here replicates, as far as regiondrift knows.</p></div>'
        return
    missing = {(link.system, link.link): n for link, _, n in judged}
    rows = _rows(judged, status.now)
    yield '<div class="card"><table class="links" role="table"><caption>Replicas of every link, worst first</caption>'
    yield _head("Verdict", "Link", "From → to", "May be lost", "State", "Behind since")
    yield '<tbody role="rowgroup">'
    for row in rows[:ROWS]:
        yield _row(row, missing[row[1].system, row[1].link], status.now)
    yield "</tbody></table>"
    yield _hidden(Counter(wording.VERDICTS[verdict].lower() for verdict, _, _ in rows[ROWS:]))
    yield "</div>"


_Row = tuple[Verdict, LinkStatus, ReplicaStatus | None]


def _rows(judged: Sequence[Judged], now: float) -> list[_Row]:
    """One row per replica, and one for the replicas of a link that are not there; worst first."""
    rows: list[_Row] = []
    for link, verdict, missing in judged:
        rows += [(of_replica(replica, link.objective, now), link, replica) for replica in link.replicas]
        if missing or not link.replicas:
            rows.append((verdict if not link.replicas else Verdict.UNKNOWN, link, None))

    def order(row: _Row) -> tuple[int, float]:
        proven = row[2].recovery_point if row[2] else None
        return row[0].rank, proven if proven is not None else float("-inf")

    rows.sort(key=order)
    return rows


def _row(row: _Row, missing: int, now: float) -> str:
    verdict, link, replica = row
    cells = [_cell("Verdict", _tag(_TONES[verdict], wording.VERDICTS[verdict])), _name(link, now)]
    if replica is None:
        words = f"{missing} expected replica{'s' if missing > 1 else ''} not seen" if missing else "no replica"
        cells.append(_cell("Replica", f"<div><b>{words}</b>{_source(link)}</div>"))
        cells += [_cell("May be lost", f"<div>unknown{_objective(link)}</div>"), _cell("", ""), _cell("", "")]
    else:
        cells.append(_cell("From → to", _way(link, replica)))
        cells.append(_cell("May be lost", _exposure(verdict, link, replica, now)))
        cells.append(_cell("State", _state(replica, now)))
        cells.append(_cell("Behind since", _behind(replica, now)))
    return f'<tr role="row">{"".join(cells)}</tr>'


def _name(link: LinkStatus, now: float) -> str:
    facts = [f"<small>{escape(link.system)}</small>"]
    if link.sources is not None and link.sources != 1:
        facts.append(
            f'<small class="text"><b>{link.sources or "No"} node{"s" if link.sources > 1 else ""} accept{"" if link.sources > 1 else "s"} writes</b></small>'
        )
    if link.failovers:
        words = f"{link.failovers} failover{'s' if link.failovers > 1 else ''}"
        if link.failover_recovery_point is not None:
            words += f"; at the last, proven until {_time(link.failover_recovery_point)}"
        facts.append(f"<small>{words}</small>")
    return f'<th scope="row" role="rowheader"><span class="name">{escape(link.link)}</span>{"".join(facts)}</th>'


def _way(link: LinkStatus, replica: ReplicaStatus) -> str:
    source, target = escape(replica.source_region or "?"), escape(replica.target_region or "?")
    nodes = f"{escape(link.source or 'source not seen')} → {escape(replica.replica)}"
    return f'<div><span class="way">{source} → {target}</span><small>{nodes}</small></div>'


def _source(link: LinkStatus) -> str:
    return f"<small>source {escape(link.source)}</small>" if link.source else "<small>no source was ever seen</small>"


def _objective(link: LinkStatus) -> str:
    return (
        "<small>"
        + (f"objective {_span(link.objective)}" if link.objective is not None else "no objective")
        + "</small>"
    )


def _exposure(verdict: Verdict, link: LinkStatus, replica: ReplicaStatus, now: float) -> str:
    bounds = exposure(replica, now)
    least = "" if bounds.at_least is None else f", at least {_span(bounds.at_least)}"
    if bounds.at_most is not None:
        words = f'<span class="big">at most {_span(bounds.at_most, up=True)}</span>{least}'
    elif replica.recovery_point is not None:
        words = f'<span class="big">unknown</span>{least}<small>last proven {_span(max(0.0, now - replica.recovery_point))} ago</small>'
    else:
        words = f'<span class="big">unknown: nothing is proven</span>{least}'
    bar = (
        "" if link.objective is None else _bar(_TONES[verdict], bounds.at_most, bounds.at_least or 0.0, link.objective)
    )
    return f"<div>{words}{bar}{_objective(link)}</div>"


def _bar(tone: str, most: float | None, least: float, objective: float) -> str:
    """What is certainly lost (solid) and may be (pale) against the objective, a mark in the middle. Said in words
    beside it, so hidden from those who listen."""

    def x(seconds: float) -> float:
        return round(min(100.0, 50.0 * seconds / objective), 1)

    wide = 100.0 if most is None else x(most)
    return (
        f'<svg class="bar {tone}" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="t" y="2" width="100" height="6"/><rect class="m" y="2" width="{wide}" height="6"/>'
        f'<rect class="l" y="2" width="{min(x(least), wide)}" height="6"/><rect class="o" x="49.6" width=".8" height="10"/></svg>'
    )


def _state(replica: ReplicaStatus, now: float) -> str:
    name = wording.state(replica.state)
    word = name if replica.state in _CALM else f"<b>{name}</b>"
    facts = [f"<small>for {_span(max(0.0, now - replica.state_since))}, since {_time(replica.state_since)}</small>"]
    if replica.resyncs:
        facts.append(f"<small>{replica.resyncs} resync{'s' if replica.resyncs > 1 else ''}</small>")
    return f"<div>{word}{''.join(facts)}</div>"


def _behind(replica: ReplicaStatus, now: float) -> str:
    facts = []
    if replica.lag_bytes:
        facts.append(f"{wording.size(replica.lag_bytes)} of log to go")
    # Where nothing is amiss, that the system says so, too, is no news.
    if replica.reported_lag is not None and (replica.reported_lag >= 1 or replica.behind_since is not None):
        facts.append(f"the system itself says {_span(replica.reported_lag)}")
    since = (
        '<span class="dim">nothing known to be missing</span>'
        if replica.behind_since is None
        else _moment(replica.behind_since, now)
    )
    return f"<div>{since}{''.join(f'<small>{fact}</small>' for fact in facts)}</div>"


# ----------------------------------------------------------------------------------------------------------- targets


def _targets(status: HouseStatus) -> Iterator[str]:
    if not status.targets:
        yield '<div class="card"><p>No target is configured: regiondrift looks at nothing.</p></div>'
        return
    yield '<div class="card"><table class="targets" role="table"><caption>What is looked at, failing targets first</caption>'
    yield _head("Last look", "Target", "Region", "Last success", "Took", "What it said")
    yield '<tbody role="rowgroup">'
    rows = sorted(status.targets, key=lambda it: (it.success is not False, it.success is not None, it.entry))
    for target in rows[:ROWS]:
        yield _target(target, status.now)
    yield "</tbody></table>"
    yield _hidden(Counter(_target_words(target)[1] for target in rows[ROWS:]))
    yield "</div>"


def _target_words(target: TargetStatus) -> tuple[str, str]:
    if target.success is None:
        return "none", "not yet"
    return ("ok", "succeeded") if target.success else ("warn", "failed")


def _target(target: TargetStatus, now: float) -> str:
    last = "never" if target.last_success is None else _moment(target.last_success, now)
    took = "" if target.duration is None else _unbroken(wording.took(target.duration))
    said = []
    if target.failure:
        since = (
            f"<small>failing since {_inline(target.failing_since, now)}</small>"
            if target.failing_since is not None
            else ""
        )
        reason = target.failure.reason.value.replace("_", " ")
        said.append(f'<b>{reason}</b><p class="said">{escape(target.failure.detail)}</p>{since}')
    if target.notes:
        notes = "".join(f"<dt>{escape(name)}</dt><dd>{escape(note)}</dd>" for name, note in target.notes.items())
        said.append(f"<dl>{notes}</dl>")
    cells = [
        _cell("Last look", _tag(*_target_words(target))),
        f'<th scope="row" role="rowheader"><span class="name">{escape(target.entry)}/{escape(target.part)}</span>'
        f"<small>{escape(target.collector)}</small></th>",
        _cell("Region", escape(target.region)),
        _cell("Last success", f"<div>{last}</div>"),
        _cell("Took", took),
        _cell("It said", f"<div>{''.join(said)}</div>" if said else ""),
    ]
    return f'<tr role="row">{"".join(cells)}</tr>'


# --------------------------------------------------------------------------------------------------------- the house


def _house(status: HouseStatus) -> Iterator[str]:
    reload = _inline(status.config_loaded, status.now)
    if status.config_error is not None:
        reload += "; the last reload failed, see above"
    facts = (
        ("Version", escape(status.version)),
        ("Started", _inline(status.started, status.now)),
        ("Configuration", f"<code>{escape(status.config_file)}</code>"),
        ("Taken", reload),
        ("State", "cannot be used, see above" if status.state_problem is not None else "in order"),
        ("Regions", ", ".join(map(escape, status.regions)) or "none"),
    )
    yield '<div class="card"><dl class="house">'
    yield from (f"<dt>{name}</dt><dd>{fact}</dd>" for name, fact in facts)
    yield "</dl></div>"


# ------------------------------------------------------------------------------------------------------------ pieces


def _head(*names: str) -> str:
    cells = "".join(f'<th scope="col" role="columnheader">{name}</th>' for name in names)
    return f'<thead role="rowgroup"><tr role="row">{cells}</tr></thead>'


def _cell(label: str, content: str) -> str:
    return f'<td role="cell" data-l="{label}">{content}</td>' if content else '<td role="cell" class="empty"></td>'


def _hidden(rest: Counter[str]) -> str:
    if not rest:
        return ""
    kinds = ", ".join(f"{n} {kind}" for kind, n in rest.items())
    return f'<p>{rest.total()} more rows are not shown ({kinds}). <a href="api/v1/status">All of them as JSON</a>.</p>'


def _icon(tone: str) -> str:
    return f'<svg viewBox="0 0 16 16" aria-hidden="true">{_SHAPES[tone].format("var(--c-bg)")}</svg>'


def _tag(tone: str, word: str) -> str:
    return f'<span class="tag {tone}">{_icon(tone)}{word}</span>'


def _favicon(tone: str) -> str:
    colour = _ICON_COLOURS[tone]
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16" color="{colour}">{_SHAPES[tone].format("#fff")}</svg>'
    return "data:image/svg+xml," + quote(svg, safe="/:=' ")


def _span(seconds: float, *, up: bool = False) -> str:
    return _unbroken(wording.duration(seconds, up=up))


def _unbroken(words: str) -> str:
    """The same words, kept on one line."""
    return words.replace(" ", "\N{NO-BREAK SPACE}")


def _time(unix: float) -> str:
    moment = wording.utc(unix)
    if moment is None:
        return escape(repr(unix))
    return f'<time datetime="{moment:%Y-%m-%dT%H:%M:%SZ}">{moment:%Y-%m-%d %H:%M:%S} UTC</time>'


def _moment(unix: float, now: float) -> str:
    """How long ago it was, and when."""
    ago = f"in {_span(unix - now)}" if unix - now >= 1 else f"{_span(max(0.0, now - unix))} ago"
    return f'{ago}<small class="abs">{_time(unix)}</small>'


def _inline(unix: float, now: float) -> str:
    """The same on one line."""
    return f"{_time(unix)} ({_span(max(0.0, now - unix))} ago)"

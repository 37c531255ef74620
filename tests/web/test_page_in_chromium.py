"""Can the status page be read, on a phone and a desk, by day and by night? Asked of a real Chromium."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from house_status import broken_reload, empty, healthy, house, link, night, replica, target
from regiondrift.model import HouseStatus
from regiondrift.web.page import CONTENT_SECURITY_POLICY, page
from servers.chromium import Tab, chromium, program

pytestmark = [
    pytest.mark.servers,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(program() is None and not os.environ.get("CI"), reason="no Chromium here"),
]

LONG = "a-name-of-many-words-that-somebody-thought-was-a-good-idea-and-nobody-dared-to-change"
STATUSES = {
    "night": night(),
    "healthy": healthy(),
    "reload": broken_reload(),
    "empty": empty(),
    "long": house(
        link(
            LONG, replica(LONG, source_region=LONG, target_region="x" * 120, proven=9e8, behind=8e8, lag_bytes=10**17)
        ),
        targets=(target(LONG, LONG, region=LONG, notes={LONG: "y" * 300}),),
        config_error="/etc/" + "z" * 300,
    ),
}

OVERFLOW = """
[...document.querySelectorAll('body *')].filter(e => {
  const r = e.getBoundingClientRect();
  if (!r.width || e.closest('caption,svg') || getComputedStyle(e).display === 'none') return false;
  const cell = e.closest('td,th,dd,.verdict>div');
  const edge = cell ? cell.getBoundingClientRect().right : document.documentElement.clientWidth;
  return r.right > Math.min(edge, document.documentElement.clientWidth) + 0.5 || r.left < -0.5;
}).map(e => e.tagName + '.' + e.className + ': ' + e.textContent.slice(0, 40))
"""
"""Elements that stick out of the window, or of their cell."""

CONTRAST = """
(() => {
  const rgb = text => { const n = text.match(/[\\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
  const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
  const light = c => { const v = c.slice(0, 3).map(x => x / 255).map(x => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
    return 0.2126 * v[0] + 0.7152 * v[1] + 0.0722 * v[2]; };
  const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05); };
  const ground = e => { const stack = [];
    for (; e; e = e.parentElement) stack.unshift(rgb(getComputedStyle(e).backgroundColor));
    return stack.reduce((below, top) => over(top, below), [255, 255, 255, 1]); };
  const found = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || e.closest('caption') || !e.getClientRects().length) continue;
    const below = ground(e), colour = over(rgb(getComputedStyle(e).color), below);
    found.push({ratio: ratio(colour, below), text: walk.currentNode.data.slice(0, 40)});
  }
  for (const e of document.querySelectorAll('.verdict svg, .tag svg, .bar .l, .bar .o')) {
    const style = getComputedStyle(e), fill = e.matches('svg') ? style.color : style.fill, below = ground(e.closest('div,td,span'));
    found.push({ratio: ratio(over(rgb(fill), below), below) * 1.5, text: e.getAttribute('class') || 'icon'});
  }
  return found;
})()
"""
"""Contrast of every text with what is behind it, by WCAG 2.2; graphics, which need 3:1 and not 4.5:1, count 1.5 times."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tab() -> AsyncIterator[Tab]:
    async with chromium() as it:
        yield it


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [320, 360, 768, 1_152, 1_160, 1_280])
@pytest.mark.parametrize("status", STATUSES.values(), ids=STATUSES)
async def test_nothing_sticks_out(tab: Tab, status: HouseStatus, width: int, dark: bool) -> None:
    await tab.show(page(status), width=width, dark=dark)
    assert await tab.ask("document.documentElement.scrollWidth") <= width
    assert await tab.ask(OVERFLOW) == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1_280])
@pytest.mark.parametrize("status", STATUSES.values(), ids=STATUSES)
async def test_everything_can_be_read(tab: Tab, status: HouseStatus, width: int, dark: bool) -> None:
    await tab.show(page(status), width=width, dark=dark)
    found: list[dict[str, Any]] = await tab.ask(CONTRAST)
    assert len(found) > 10
    assert [it for it in found if it["ratio"] < 4.5] == []


async def test_dark_is_dark(tab: Tab) -> None:
    grounds = []
    for dark in (False, True):
        await tab.show(page(night()), width=800, dark=dark)
        grounds.append(await tab.ask("getComputedStyle(document.documentElement).backgroundColor"))
    assert grounds == ["rgb(247, 247, 245)", "rgb(18, 21, 23)"]


async def test_the_policy_lets_the_style_in_and_nothing_else(tab: Tab) -> None:
    policy = f'<meta http-equiv="Content-Security-Policy" content="{CONTENT_SECURITY_POLICY}">'
    html = page(night()).replace("<head>", "<head>" + policy.replace("; frame-ancestors 'none'", ""))
    await tab.show(html, width=800)
    assert await tab.ask("getComputedStyle(document.body).maxWidth") == "1200px"
    await tab.show(html.replace("--bg:", "--bg: "), width=800)
    assert await tab.ask("getComputedStyle(document.body).maxWidth") == "none", "any other sheet is refused"


async def test_a_phone_shows_the_worst_link_at_once(tab: Tab) -> None:
    await tab.show(page(night()), width=360, height=760)
    assert await tab.ask("document.querySelector('.links tbody tr .name').getBoundingClientRect().top") < 760

"""How does the status page look? One sheet, light and dark, wide and narrow; its hash is all that the page may load."""

from __future__ import annotations

import base64
import hashlib
from typing import Final

STYLE: Final = """
:root{color-scheme:light dark;--bg:#f7f7f5;--card:#fff;--line:#e2e2dd;--text:#1c2024;--dim:#5a626b;
--bad:#b3261e;--bad-bg:#fdecea;--warn:#855300;--warn-bg:#fdf3df;--ok:#1c6b40;--ok-bg:#e8f4ec;--none:#4d5862;--none-bg:#eceef0;
--track:#e6e6e1;--mono:ui-monospace,"SF Mono","Cascadia Mono","DejaVu Sans Mono",Menlo,Consolas,monospace}
@media(prefers-color-scheme:dark){:root{--bg:#121517;--card:#1a1e21;--line:#2d3338;--text:#e4e7ea;--dim:#9ca6b0;
--bad:#ff9a91;--bad-bg:#3a1d1b;--warn:#f0bd62;--warn-bg:#342812;--ok:#84d3a2;--ok-bg:#16301f;--none:#b4bec8;--none-bg:#272d32;--track:#31383e}}
*{box-sizing:border-box}
html{font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","DejaVu Sans",sans-serif;
-webkit-text-size-adjust:100%;background:var(--bg);color:var(--text)}
body{margin:0 auto;max-width:80rem;padding:1.5rem 1.5rem 3rem;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
a{color:inherit}a:hover{text-decoration-thickness:2px}
:focus-visible{outline:2px solid currentColor;outline-offset:2px}
.top{display:flex;flex-wrap:wrap;gap:.25rem 1.25rem;align-items:baseline;justify-content:space-between;font-size:.87rem;color:var(--dim)}
.top b{color:var(--text);font-size:1rem;letter-spacing:.01em}
.top nav{display:flex;flex-wrap:wrap;gap:0 1.1rem}
.top nav a{padding:.2rem 0}
h1{font-size:1.4rem;line-height:1.35;font-weight:600;margin:0;text-wrap:pretty}
h2{font-size:1.05rem;font-weight:600;margin:2.25rem 0 .6rem}
p{margin:.3rem 0 0}
.verdict{display:flex;gap:.9rem;align-items:flex-start;margin:1rem 0 0;padding:1.1rem 1.25rem;border-radius:10px;
color:var(--c);background:var(--c-bg)}
.verdict svg{flex:none;width:1.7rem;height:1.7rem;margin-top:.08rem}
.verdict>div{min-width:0;flex:1}
.verdict p{font-size:.87rem;color:var(--text)}
.bad{--c:var(--bad);--c-bg:var(--bad-bg)}.warn{--c:var(--warn);--c-bg:var(--warn-bg)}
.ok{--c:var(--ok);--c-bg:var(--ok-bg)}.none{--c:var(--none);--c-bg:var(--none-bg)}
.tag{display:inline-flex;align-items:center;gap:.4em;padding:.08rem .55rem .08rem .4rem;border-radius:99px;font-size:.87rem;font-weight:600;
white-space:nowrap;color:var(--c);background:var(--c-bg)}
.tag svg{width:1em;height:1em;flex:none}
.card{background:var(--card);border:1px solid var(--line);border-radius:10px;overflow:hidden}
.card>p{margin:0;padding:.9rem 1rem}
table{width:100%;border-collapse:collapse;table-layout:fixed}
.links :is(th,td):nth-child(1){width:12.5%}.links :is(th,td):nth-child(2){width:14%}.links :is(th,td):nth-child(3){width:20.5%}
.links :is(th,td):nth-child(4){width:18%}.links :is(th,td):nth-child(5){width:17.5%}.links :is(th,td):nth-child(6){width:17.5%}
.targets :is(th,td):nth-child(1){width:12%}.targets :is(th,td):nth-child(2){width:17%}.targets :is(th,td):nth-child(3){width:12%}
.targets :is(th,td):nth-child(4){width:17%}.targets :is(th,td):nth-child(5){width:8%}
caption{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
th,td{padding:.7rem .9rem;text-align:left;vertical-align:top;font-weight:400}
thead th{font-size:.8rem;font-weight:600;color:var(--dim);padding-block:.5rem;white-space:nowrap}
tbody tr{border-top:1px solid var(--line)}
.name{font-weight:600}
small{display:block;font-size:.87rem;color:var(--dim)}
.dim{color:var(--dim)}
.way{font-weight:600}
time{display:inline-block}
.big{font-size:1.02rem;font-weight:600}
.bar{display:block;width:100%;max-width:13rem;height:10px;margin:.35rem 0 .3rem}
.bar .t{fill:var(--track)}.bar .m{fill:var(--c);opacity:.42}.bar .l{fill:var(--c)}.bar .o{fill:var(--text)}
.text{color:var(--text)}
code,.said{font-family:var(--mono);font-size:.85rem}
.said{margin:.25rem 0 0;white-space:pre-wrap}
dl{display:grid;grid-template-columns:fit-content(40%) minmax(0,1fr);gap:.45rem 1.5rem;margin:0;padding:.9rem 1rem}
dt{color:var(--dim)}dd{margin:0;min-width:0}
dd.bad,dd.warn{color:var(--c)}
td dl{padding:0;gap:0 .6rem;font-size:.87rem}
td dt{min-width:4rem}
@media(max-width:72rem){
body{padding:1rem 1rem 2.5rem}
h1{font-size:1.2rem}
.verdict{padding:.9rem 1rem;gap:.75rem}
table,tbody{display:block}
thead{display:none}
.card :is(th,td){width:auto!important;padding:0}
tbody tr{display:grid;grid-template-columns:minmax(0,1fr) auto;gap:.3rem .9rem;padding:.85rem 1rem}
tbody tr:first-child{border-top:0}
tbody tr>*{grid-column:1/-1}
tbody th{grid-column:1;grid-row:1}
tbody td:first-child{grid-column:2;grid-row:1;justify-self:end}
.links td[data-l]:not(:first-child){display:grid;grid-template-columns:6rem minmax(0,1fr);gap:.75rem}
.links td[data-l]:not(:first-child)::before{content:attr(data-l);color:var(--dim);font-size:.87rem;padding-top:.05rem}
td.empty{display:none}
.bar{max-width:22rem}
.targets tr{display:flex;flex-wrap:wrap;align-items:baseline;gap:.15rem 1.1rem}
.targets th{order:-2;flex:1 1 calc(100% - 9rem);min-width:0}
.targets td{color:var(--dim);font-size:.87rem}
.targets td:first-child{order:-1}
.targets td:last-child{flex:1 1 100%;color:var(--text);font-size:inherit}
.targets td:nth-child(4)::before{content:"success ";}
.targets td:nth-child(5)::before{content:"took ";}
.targets td>div{display:inline}
.targets td:last-child>*{display:block}
.targets .abs{display:none}
}
@media(max-width:36rem){dl.house{grid-template-columns:minmax(0,1fr);gap:0}dl.house dd+dt{margin-top:.55rem}}
@media print{.top nav{display:none}}
"""

STYLE_SOURCE: Final = "'sha256-" + base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode() + "'"
"""What a content security policy calls the sheet."""

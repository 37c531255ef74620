"""What does a silent cut look like? `regiondrift demo`: two regions on this machine, to be broken and healed at will."""

from __future__ import annotations

import sys
from typing import Final

COMMANDS: Final = {
    "cut": "the link carries nothing any more, and tells nobody",
    "heal": "undo cut, pause, lag; after promote, rebuild the lost region as standby",
    "pause": "pause replay on the standby",
    "lag": "make the link slower than the writer",
    "promote": "lose the primary's region and promote the standby",
    "status": "what runs where, and what a failover would lose now",
}

KEYS: Final = {"c": "cut", "h": "heal", "p": "pause", "l": "lag", "m": "promote", "s": "status"}

USAGE: Final = "\n".join(
    [
        "usage: regiondrift demo                 two regions, until q or Ctrl-C",
        "       regiondrift demo COMMAND         drive the running demo, from a second terminal",
        "",
        *(f"  {name:9}{text}" for name, text in COMMANDS.items()),
        "",
    ]
)


def main(args: list[str]) -> int:
    """`args`: what follows ``demo`` on the command line. Returns the exit code: 0, 1 if something broke, 2 if it was
    told wrong or no demo runs."""
    if args in (["-h"], ["--help"]):
        sys.stdout.write(USAGE)
        return 0
    if not args:
        from regiondrift.demo.stage import run

        return run()
    if len(args) > 1 or args[0] not in COMMANDS:
        sys.stderr.write(USAGE)
        return 2
    from regiondrift.demo.control import AbsentError, ask

    try:
        code, text = ask(args[0])
    except AbsentError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    (sys.stderr if code else sys.stdout).write(f"{text}\n")
    return code

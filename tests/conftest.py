"""What holds for every test."""

from __future__ import annotations

import asyncio

# Asked for a loop before there is one, Python 3.11 makes one that pytest-asyncio then forgets to close.
asyncio.set_event_loop(None)

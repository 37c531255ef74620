"""What does a person see? Debian's Chromium, headless, off the network, driven over the DevTools protocol.

By hand: ``python tests/servers/chromium.py PAGE.html PICTURE.png [WIDTH [dark]]``.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp

PROGRAMS: Final = ("chromium", "chromium-browser", "google-chrome")
FLAGS: Final = (
    "--headless=new",
    "--remote-debugging-port=0",
    "--remote-allow-origins=*",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-client-side-phishing-detection",
    "--disable-default-apps",
    "--disable-domain-reliability",
    "--disable-features=OptimizationHints,MediaRouter,Translate,AutofillServerCommunication",
    "--no-pings",
    "--metrics-recording-only",
    # Whatever it still wants to look up does not exist.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--force-color-profile=srgb",
    "--hide-scrollbars",
)


def program() -> str | None:
    """Path of a Chromium, if there is one here."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


class Tab:
    """One page of a running Chromium."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._ids = itertools.count(1)

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One call of the DevTools protocol; events in between are dropped.

        Raises:
            RuntimeError: Chromium refused it.
        """
        number = next(self._ids)
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        async for message in self._socket:
            answer = message.json()
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                result: dict[str, Any] = answer["result"]
                return result
        raise RuntimeError(f"{method}: Chromium hung up")

    async def show(self, html: str, *, width: int, dark: bool = False, height: int = 900) -> None:
        """Renders a document in a window of `width` CSS pixels."""
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])
        frame = (await self.call("Page.getFrameTree"))["frameTree"]["frame"]["id"]
        await self.call("Page.setDocumentContent", frameId=frame, html=html)

    async def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        answer = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(str(answer["exceptionDetails"].get("exception", {}).get("description")))
        return answer["result"].get("value")

    async def picture(self) -> bytes:
        """The whole page as PNG, however long it is."""
        answer = await self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        return base64.b64decode(answer["data"])


@asynccontextmanager
async def chromium() -> AsyncIterator[Tab]:
    """A Chromium with one empty tab; ended, with its profile, afterwards.

    Raises:
        FileNotFoundError: there is none here.
    """
    path = program()
    if path is None:
        raise FileNotFoundError(f"none of {', '.join(PROGRAMS)} is installed")
    profile = Path(tempfile.mkdtemp(prefix="chromium-"))
    root = ["--no-sandbox"] if os.geteuid() == 0 else []
    process = await asyncio.create_subprocess_exec(
        path,
        *FLAGS,
        *root,
        f"--user-data-dir={profile}",
        "about:blank",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, "HOME": str(profile)},
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(30):
            port = await _port(profile / "DevToolsActivePort", process)
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                pages = [it for it in await answer.json() if it["type"] == "page"]
            async with session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                tab = Tab(socket)
                await tab.call("Page.enable")
                yield tab
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        shutil.rmtree(profile, ignore_errors=True)


async def _port(file: Path, process: asyncio.subprocess.Process) -> int:
    """The port that Chromium chose; it writes the file when it listens."""
    while not (lines := file.read_text().splitlines() if file.exists() else []):  # noqa: ASYNC240
        if process.returncode is not None:
            raise RuntimeError(f"Chromium ended with {process.returncode}")
        await asyncio.sleep(0.05)
    return int(lines[0])


async def _main(page: str, picture: str, width: str = "1280", scheme: str = "light") -> None:
    async with chromium() as tab:
        await tab.show(Path(page).read_text(), width=int(width), dark=scheme == "dark")  # noqa: ASYNC240
        Path(picture).write_bytes(await tab.picture())  # noqa: ASYNC240


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))

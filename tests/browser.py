"""A headless Chromium for tests, driven over its DevTools pipe.

Owns one browser process with a fresh profile and one tab, and notes whatever the page complains of and asks the
network for. The protocol is JSON messages ended by a zero byte, on descriptors 3 (to the browser) and 4 (from it), so
neither a driver program, nor a port, nor a library is needed.

`python -m tests.browser PAGE PICTURE [FRAGMENT]` takes a picture of a page, as for docs/images.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

DEADLINE_S = 60.0
"""How long any one answer of the browser may take; generous, since CI machines are shared."""

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--disable-breakpad",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--remote-debugging-pipe",
)
_KEYS = {"ArrowLeft": 37, "ArrowRight": 39, "End": 35, "Enter": 13, "Escape": 27, "Home": 36, "Tab": 9}


class BrowserError(Exception):
    """The browser died, did not answer in time, or refused a command; or a script in the page threw."""


def find_browser() -> str | None:
    """Return the path of a Chromium, or None where there is none."""
    return next((found for name in _NAMES if (found := shutil.which(name))), None)


def require_browser() -> None:
    """Skip the test that calls where no Chromium is installed; under CI its absence is a failure."""
    if find_browser() is None and not os.environ.get("CI"):
        pytest.skip("no chromium on PATH (tried " + ", ".join(_NAMES) + "); install one to test pages")


class Browser:
    """One tab. Everything the page printed, threw or blocked is in `complaints`; every URL it asked for in `requests`.

    Args:
        width: Of the window, CSS pixels.
        height: Of the window, CSS pixels.
    """

    def __init__(self, width: int = 1280, height: int = 900) -> None:
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self._size = (width, height)
        self._session: str | None = None
        self._next_id = 0
        self._pending = b""

    def __enter__(self) -> Self:
        binary = find_browser()
        if binary is None:
            raise BrowserError("no chromium on PATH; install one, for example the package `chromium`")
        self._profile = tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True)
        child_reads, self._out = os.pipe()
        self._in, child_writes = os.pipe()
        # Above 4 first: dup2 onto 3 must not hit the descriptor that is to become 4.
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (child_reads, child_writes)]
        argv = [binary, *_FLAGS, f"--user-data-dir={self._profile.name}", "about:blank"]
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_DUP2, ends[0], 3),
            (os.POSIX_SPAWN_DUP2, ends[1], 4),
        ]
        self._pid = os.posix_spawn(binary, argv, os.environ, file_actions=actions, setsid=True)
        for end in (child_reads, child_writes, *ends):
            os.close(end)
        try:
            target = self.call("Target.createTarget", url="about:blank")["targetId"]
            self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Network"):
                self.call(f"{domain}.enable")
            self.show(*self._size)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the browser and all its helpers, politely first."""
        try:
            self._session = None
            self._send("Browser.close")
        except OSError:
            pass  # it is dead already, which is what was wanted
        exited = os.pidfd_open(self._pid)
        if not select.select([exited], [], [], 10)[0]:
            os.killpg(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        for end in (exited, self._in, self._out):
            os.close(end)
        self._profile.cleanup()

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send one DevTools command and return its result; events that arrive meanwhile are noted.

        Raises:
            BrowserError: The command was refused, or the browser is gone or silent.
        """
        number = self._send(method, **params)
        deadline = time.monotonic() + DEADLINE_S
        while True:
            message = self._receive(deadline, method)
            if message.get("id") == number:
                if "error" in message:
                    raise BrowserError(f"{method}: {message['error']['message']}")
                result: dict[str, Any] = message["result"]
                return result
            self._note(message)

    def open(self, page: Path, fragment: str = "") -> None:
        """Load a local file and wait until its scripts have run."""
        self.visit(page.resolve().as_uri() + (f"#{fragment}" if fragment else ""))

    def visit(self, address: str) -> None:
        """Load a page by its address, on 127.0.0.1 or of a file, and wait until its scripts have run.

        Raises:
            BrowserError: There is no such page.
        """
        # An empty page first, since only the fragment changing would be no load at all.
        for url in ("about:blank", address):
            failure = self.call("Page.navigate", url=url).get("errorText")
            if failure:
                raise BrowserError(f"{url}: {failure}")
            bare = url.partition("#")[0]  # a page may change the rest by itself
            self.wait_for(f"location.href.startsWith({json.dumps(bare)}) && document.readyState === 'complete'")

    def evaluate(self, expression: str) -> Any:
        """Return the JSON value of a JavaScript expression in the page (a promise is awaited)."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise BrowserError(details.get("exception", {}).get("description", details["text"]))
        return answer["result"].get("value")

    def wait_for(self, condition: str) -> None:
        """Wait until a JavaScript expression is true in the page.

        Raises:
            BrowserError: It is still false at the deadline.
        """
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            try:
                if self.evaluate(
                    f"new Promise(done => {{ const end = performance.now() + 1000; const look = () => ({condition}) ?"
                    " done(true) : performance.now() > end ? done(false) : setTimeout(look, 10); look(); })"
                ):
                    return
            except BrowserError as error:
                if "navigat" not in str(error) and "context" not in str(error):  # a page load interrupts the look
                    raise
        raise BrowserError(f"not true after {DEADLINE_S:.0f} s: {condition}")

    def box(self, selector: str) -> tuple[float, float, float, float]:
        """Scroll an element into view and return its x, y, width and height in the window, CSS pixels."""
        found = self.evaluate(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); if (!e) return null;"
            " e.scrollIntoView({block: 'center', behavior: 'instant'}); const b = e.getBoundingClientRect();"
            " return [b.x, b.y, b.width, b.height]; })()"
        )
        if found is None:
            raise BrowserError(f"no element matches {selector}")
        return tuple(found)

    def click(self, selector: str) -> None:
        """Click the middle of an element with the mouse."""
        x, y, width, height = self.box(selector)
        at = {"x": x + width / 2, "y": y + height / 2}
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **at)

    def hover(self, selector: str, across: float = 0.5) -> None:
        """Move the mouse over an element, `across` of its width from the left, half of its height down."""
        x, y, width, height = self.box(selector)
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x + width * across, y=y + height / 2)

    def press(self, key: str) -> None:
        """Press and release one named key, for example `Escape`."""
        for kind in ("rawKeyDown", "keyUp"):
            code = _KEYS[key]
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)
            if kind == "rawKeyDown" and key == "Enter":
                self.call("Input.dispatchKeyEvent", type="char", key=key, text="\r")

    def write(self, text: str) -> None:
        """Type into whatever has the focus."""
        self.call("Input.insertText", text=text)

    def show(self, width: int, height: int, *, dark: bool = False, media: str = "") -> None:
        """Set the window's size (CSS pixels), its colour scheme, and the medium (`print`, or empty for the screen)."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        still = {"name": "prefers-reduced-motion", "value": "reduce"}
        self.call("Emulation.setEmulatedMedia", media=media, features=[scheme, still])

    def screenshot(self, path: Path, *, full: bool = False) -> None:
        """Write what the window shows, or the whole page, as a PNG."""
        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=full)
        path.write_bytes(base64.b64decode(answer["data"]))

    def _send(self, method: str, **params: Any) -> int:
        self._next_id += 1
        message = {"id": self._next_id, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._out, data) :]
        return self._next_id

    def _receive(self, deadline: float, waiting_for: str) -> dict[str, Any]:
        while b"\0" not in self._pending:
            if not select.select([self._in], [], [], max(deadline - time.monotonic(), 0))[0]:
                raise BrowserError(f"{waiting_for}: no answer within {DEADLINE_S:.0f} s")
            data = os.read(self._in, 1 << 16)
            if not data:
                raise BrowserError(f"{waiting_for}: the browser has ended")
            self._pending += data
        message, self._pending = self._pending.split(b"\0", 1)
        parsed: dict[str, Any] = json.loads(message)
        return parsed

    def _note(self, message: dict[str, Any]) -> None:
        params = message.get("params", {})
        match message.get("method"):
            case "Runtime.exceptionThrown":
                details = params["exceptionDetails"]
                self.complaints.append(details.get("exception", {}).get("description", details["text"]))
            case "Runtime.consoleAPICalled":
                said = " ".join(str(arg.get("value", arg.get("description"))) for arg in params["args"])
                self.complaints.append(f"console.{params['type']}: {said}")
            case "Log.entryAdded":
                self.complaints.append(f"{params['entry']['source']}: {params['entry']['text']}")
            case "Page.javascriptDialogOpening":
                self.complaints.append(f"dialog: {params['message']}")
                self._send("Page.handleJavaScriptDialog", accept=False)
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])


if __name__ == "__main__":
    with Browser(1360, 1000) as browser:
        browser.open(Path(sys.argv[1]), *sys.argv[3:])
        browser.screenshot(Path(sys.argv[2]))

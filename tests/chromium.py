"""A browser for tests: Debian's Chromium, driven by its DevTools protocol over a pipe.

Owns the process and the few commands that tests of pages need. Where there is no Chromium, tests
skip, and say so (`chromium_path`).
"""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

WAIT_S = 60.0


def chromium_path() -> str | None:
    """Where Chromium is; None: not on this machine."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


class Browser:
    """A Chromium without a window, with one page. `said`: what its console said."""

    def __init__(self, *, width: int = 1280, height: int = 900, phone: bool = False, dark: bool = False) -> None:
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        theirs, self._write = os.pipe()
        self._read, ours = os.pipe()
        # above the two numbers that they get, or one would take the place of the other
        pipes = tuple(fcntl.fcntl(pipe, fcntl.F_DUPFD, 10) for pipe in (theirs, ours))
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        flags += ["--remote-debugging-pipe", f"--user-data-dir={self._profile.name}", "--hide-scrollbars"]
        self._process = subprocess.Popen(
            # the flag --remote-debugging-pipe reads from 3 and writes to 4
            [
                "bash",
                "-c",
                f'exec "$@" 3<&{pipes[0]} 4>&{pipes[1]}',
                "bash",
                chromium_path() or "",
                *flags,
                "about:blank",
            ],
            pass_fds=pipes,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for pipe in (theirs, ours, *pipes):
            os.close(pipe)
        self._number, self._rest = 0, b""
        self.said: list[str] = []
        target = self._call("Target.createTarget", {"url": "about:blank"})["targetId"]
        self._session = self._call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
        self.call("Emulation.setDeviceMetricsOverride", size)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", {"features": scheme})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._write)
        os.close(self._read)
        self._profile.cleanup()

    # What tests say -------------------------------------------------------------------------------

    def go(self, url: str) -> None:
        """Open a page, and wait until it is there."""
        # a mark that is gone with the old page
        self.script("window.wasHere = true")
        self.call("Page.navigate", {"url": url})
        self.wait_for("!window.wasHere && document.readyState === 'complete'")

    def script(self, text: str) -> Any:
        """What an expression gives, in the page."""
        found = self.call("Runtime.evaluate", {"expression": text, "returnByValue": True, "awaitPromise": True})
        if "exceptionDetails" in found:
            raise AssertionError(found["exceptionDetails"])
        return found["result"].get("value")

    def wait_for(self, text: str) -> Any:
        """Ask the page until an expression holds."""
        end = time.monotonic() + WAIT_S
        while time.monotonic() < end:
            try:
                if found := self.script(text):
                    return found
            except (AssertionError, ConnectionError):
                pass  # the page is just being replaced
            select.select([self._read], [], [], 0.05)
        raise AssertionError(f"never: {text}\n{self.text()}\n{self.said}")

    def text(self) -> str:
        """All that the page shows."""
        return str(self.script("document.body.innerText"))

    def wait_text(self, text: str) -> None:
        """Wait until the page shows this."""
        self.wait_for(f"document.body.innerText.includes({json.dumps(text)})")

    def fill(self, selector: str, text: str) -> None:
        """Put a text into a field."""
        field = f"document.querySelector({json.dumps(selector)})"
        self.script(f"{field}.value = {json.dumps(text)}; {field}.dispatchEvent(new Event('input', {{bubbles: true}}))")

    def click(self, selector: str) -> None:
        """Click in the middle of an element."""
        place = self.script(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.scrollIntoView({{block: 'center'}});"
            " const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        at = {"x": place[0], "y": place[1], "button": "left", "clickCount": 1}
        for what in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", {"type": what, **at})

    def press(self, key: str) -> None:
        self.call("Input.dispatchKeyEvent", {"type": "keyDown", "key": key, "text": key})
        self.call("Input.dispatchKeyEvent", {"type": "keyUp", "key": key})

    def picture(self, path: Path, *, whole: bool = True) -> None:
        """Keep a picture of the page."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        options = {"captureBeyondViewport": True, "clip": clip} if whole else {}
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", options)["data"]))

    # The protocol ---------------------------------------------------------------------------------

    def call(self, method: str, parameters: dict[str, Any] | None = None) -> Any:
        """A command to the page."""
        return self._call(method, parameters or {}, session=self._session)

    def _call(self, method: str, parameters: dict[str, Any], *, session: str = "") -> Any:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            found = self._next()
            if found.get("id") == self._number:
                if "error" in found:
                    raise ConnectionError(found["error"]["message"])
                return found["result"]
            self._note(found)

    def _next(self) -> Any:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], WAIT_S)
            more = os.read(self._read, 1 << 20) if ready else b""
            assert more, "Chromium has ended, or does not answer"
            self._rest += more
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def _note(self, event: Any) -> None:
        match event.get("method"):
            case "Log.entryAdded":
                self.said.append(event["params"]["entry"]["text"])
            case "Runtime.consoleAPICalled" | "Runtime.exceptionThrown":
                self.said.append(json.dumps(event["params"])[:500])

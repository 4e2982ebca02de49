"""A browser for tests: Debian's Chromium, driven by its DevTools protocol over a pipe.

Owns the process, its pages, and how a test acts as a person does: it finds what is on a page by
role and name, as the accessibility tree has them, and clicks and types with real input events.
Where there is no Chromium, tests skip, and say so (`chromium_path`).
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
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self, TypeVar

WAIT_S = 60.0
_STEP_S: Final = 0.05
_PLACE: Final = """function () {
  this.scrollIntoView({block: "center", behavior: "instant"});
  const box = this.getClientRects()[0];
  if (!box || this.disabled) return null;
  const x = box.x + box.width / 2, y = box.y + box.height / 2, hit = document.elementFromPoint(x, y);
  return hit && (this.contains(hit) || hit.contains(this)) ? [x, y] : null;
}"""
"""Where an element can be clicked; null: it is not shown, disabled, or something lies over it."""

_SIGHT: Final = """(() => {
  const wanted = %s, look = () => {
    if (!sessionStorage.getItem(wanted) && document.body.innerText.includes(wanted)) {
      sessionStorage.setItem(wanted, Date.now());
    }
  };
  const watch = () => {
    new MutationObserver(look).observe(document.body, {subtree: true, childList: true, characterData: true});
    look();
  };
  if (document.readyState === "loading") addEventListener("DOMContentLoaded", watch); else watch();
})()"""
"""Notes when a text is first shown, in the document in which it is run."""

Got = TypeVar("Got")


def chromium_path() -> str | None:
    """Where Chromium is; None: not on this machine."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


class Element(NamedTuple):
    """What a person sees as one thing: a button, a link, a field. `id`: of its node."""

    role: str
    name: str
    id: int


class Page:
    """One tab, with cookies of its own. `said`: what its console said."""

    def __init__(
        self,
        pipe: "_Pipe",
        *,
        context: str | None = None,
        width: int = 1280,
        height: int = 900,
        phone: bool = False,
        dark: bool = False,
    ) -> None:
        self._pipe = pipe
        self.said: list[str] = []
        where = {} if context is None else {"browserContextId": context}
        target = pipe.call("Target.createTarget", {"url": "about:blank", **where})["targetId"]
        self._session = pipe.call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        pipe.heard[self._session] = self._note
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
        self.call("Emulation.setDeviceMetricsOverride", size)
        # a page in the background gets no frames, and several people look at theirs at once
        self.call("Emulation.setFocusEmulationEnabled", {"enabled": True})
        self.show_as("dark" if dark else "light")

    def show_as(self, scheme: str) -> None:
        """The colours that the person prefers: light or dark."""
        self.call("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})

    # What a person does ---------------------------------------------------------------------------

    def go(self, url: str) -> None:
        """Open a page, and wait until it is there."""
        # a mark that is gone with the old page
        self.script("window.wasHere = true")
        self.call("Page.navigate", {"url": url})
        self.wait_for("!window.wasHere && document.readyState === 'complete'")

    def find(self, role: str, name: str = "", *, within: Element | None = None) -> list[Element]:
        """All things of this role whose name begins with this."""
        place = {"objectId": self._run("document")["objectId"]} if within is None else {"backendNodeId": within.id}
        found = self.call("Accessibility.queryAXTree", {**place, "role": role})["nodes"]
        elements = [
            Element(role, one.get("name", {}).get("value", "").strip(), one["backendDOMNodeId"])
            for one in found
            if not one.get("ignored") and "backendDOMNodeId" in one
        ]
        return [one for one in elements if one.name.startswith(name)]

    def see(self, role: str, name: str = "", *, within: Element | None = None) -> Element:
        """Wait for the one thing of this role whose name begins with this."""
        return self._until(f"one {role} {name!r}", lambda: _only(self.find(role, name, within=within), name))

    def press(self, role: str, name: str = "", *, within: Element | None = None) -> None:
        """Click on it with the mouse, once it can be clicked."""

        def place() -> Any:
            found = _only(self.find(role, name, within=within), name)
            return None if found is None else self._on(found, _PLACE)

        self._click(self._until(f"a {role} {name!r} to click", place))

    def press_to_leave(self, role: str, name: str = "", *, within: Element | None = None) -> None:
        """Click on what leads to another page, and wait until that is there."""
        self.script("window.wasHere = true")
        self.press(role, name, within=within)
        self.wait_for("!window.wasHere && document.readyState === 'complete'")

    def write(self, name: str, text: str, *, role: str = "textbox") -> None:
        """Type into the field with this label, in the place of what it holds."""
        self.press(role, name)
        self._on(self.see(role, name), "function () { this.select(); }")
        self.call("Input.insertText", {"text": text})

    def text(self) -> str:
        """All that the page shows."""
        return str(self.script("document.body.innerText"))

    def wait_text(self, text: str) -> None:
        """Wait until the page shows this."""
        self.wait_for(f"document.body.innerText.includes({json.dumps(text)})")

    def watch_for(self, text: str) -> None:
        """Note from now on when this tab first shows this, also in a page that it loads later."""
        self.script(f"sessionStorage.removeItem({json.dumps(text)})")
        self.script(_SIGHT % json.dumps(text))
        self.call("Page.addScriptToEvaluateOnNewDocument", {"source": _SIGHT % json.dumps(text)})

    def sight_ms(self, text: str) -> int:
        """Wait until the tab has shown what `watch_for` waits for. When it did, by the clock."""
        return int(self.wait_for(f"sessionStorage.getItem({json.dumps(text)})"))

    def picture(self, path: Path, *, whole: bool = True) -> None:
        """Keep a picture of the page."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        options = {"captureBeyondViewport": True, "clip": clip} if whole else {}
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", options)["data"]))

    # By selector ----------------------------------------------------------------------------------

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
        self._click(place)

    # The protocol ---------------------------------------------------------------------------------

    def script(self, text: str) -> Any:
        """What an expression gives, in the page."""
        return self._run(text, by_value=True).get("value")

    def wait_for(self, text: str) -> Any:
        """Ask the page until an expression holds."""
        return self._until(text, lambda: self.script(text))

    def call(self, method: str, parameters: dict[str, Any] | None = None) -> Any:
        """A command to the page."""
        return self._pipe.call(method, parameters or {}, session=self._session)

    def _until(self, what: str, look: Callable[[], Got | None]) -> Got:
        end = time.monotonic() + WAIT_S
        while time.monotonic() < end:
            try:
                if found := look():
                    return found
            except (AssertionError, ConnectionError):
                pass  # the page is just being replaced
            self._pipe.rest(_STEP_S)
        raise AssertionError(f"never: {what}\n{self.script('location.href')}\n{self.text()}\n{self.said}")

    def _run(self, text: str, *, by_value: bool = False) -> Any:
        asked = {"expression": text, "returnByValue": by_value, "awaitPromise": True}
        return _result(self.call("Runtime.evaluate", asked))

    def _on(self, element: Element, function: str) -> Any:
        """What a function gives, called on the element."""
        found = self.call("DOM.resolveNode", {"backendNodeId": element.id})["object"]["objectId"]
        asked = {"functionDeclaration": function, "objectId": found, "returnByValue": True}
        return _result(self.call("Runtime.callFunctionOn", asked)).get("value")

    def _click(self, place: Any) -> None:
        at = {"x": place[0], "y": place[1], "button": "left", "clickCount": 1}
        for what in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", {"type": what, **at})

    def _note(self, event: Any) -> None:
        match event.get("method"):
            case "Log.entryAdded":
                self.said.append(event["params"]["entry"]["text"])
            case "Runtime.consoleAPICalled" | "Runtime.exceptionThrown":
                self.said.append(json.dumps(event["params"])[:500])


class Browser(Page):
    """A Chromium without a window, with its first page."""

    def __init__(self, *, width: int = 1280, height: int = 900, phone: bool = False, dark: bool = False) -> None:
        pipe = _Pipe()
        try:
            super().__init__(pipe, width=width, height=height, phone=phone, dark=dark)
        except BaseException:
            pipe.close()
            raise

    def person(self, *, width: int = 1280, height: int = 900, phone: bool = False, dark: bool = False) -> Page:
        """A page for somebody else, who shares no cookie with the others."""
        context = self._pipe.call("Target.createBrowserContext", {})["browserContextId"]
        return Page(self._pipe, context=context, width=width, height=height, phone=phone, dark=dark)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._pipe.close()


class _Pipe:
    """The process, and the pipe to it. `heard`: who hears the events of a session."""

    def __init__(self) -> None:
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
        self.heard: dict[str, Callable[[Any], None]] = {}

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._write)
        os.close(self._read)
        self._profile.cleanup()

    def rest(self, most_s: float) -> None:
        """Wait until the process says something, but not for long."""
        select.select([self._read], [], [], most_s)

    def call(self, method: str, parameters: dict[str, Any], *, session: str = "") -> Any:
        """What a command gives. Raises `ConnectionError` where the browser refuses it."""
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
            if note := self.heard.get(found.get("sessionId", "")):
                note(found)

    def _next(self) -> Any:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], WAIT_S)
            more = os.read(self._read, 1 << 20) if ready else b""
            assert more, "Chromium has ended, or does not answer"
            self._rest += more
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)


def _only(found: list[Element], name: str) -> Element | None:
    """The one that is meant: with exactly this name, or the only one. Of several nobody knows."""
    exact = [one for one in found if one.name == name]
    meant = exact or found
    return meant[0] if len(meant) == 1 else None


def _result(found: Any) -> Any:
    if "exceptionDetails" in found:
        raise AssertionError(found["exceptionDetails"])
    return found["result"]

"""The console in a real browser: an answer from a phone, and a page that follows by itself.

A router and a console run as `mesh dev` starts them, on SQLite.
"""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import Browser, chromium_path

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 120.0
ROUTE = """
route: pay
on: {type: com.example.invoice}
key: ${{ event.subject }}
steps:
  review:
    approval: {ask: "Pay this invoice?", payload: "${{ event.data }}", role: finance, deadline: 24h}
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium_path() is None, reason="there is no Chromium on this machine"),
]


class Dev:
    """`mesh dev` in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.environment = {
            **os.environ,
            "MESH_BROKER": f"sqlite://{folder}/mesh.db",
            "MESH_DATA_DIR": str(folder / "data"),
            "MESH_PARTITIONS": "1",
            "MESH_DURABILITY": "normal",
            "MESH_CONSOLE_ADDRESS": "127.0.0.1:0",
            "MESH_BY": "ana@example.org",
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
        }
        (folder / "routes").mkdir()
        (folder / "routes" / "pay.yaml").write_text(ROUTE)
        (folder / "approvers.yaml").write_text("finance: [ana@example.org]\n")
        self._folder = folder
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mesh.cli", "dev", "--routes", "routes", "--approvers", "approvers.yaml"],
            cwd=folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._lines: list[str] = []
        self._news = threading.Condition()
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._news:
                self._lines.append(line)
                self._news.notify_all()

    def wait_for(self, pattern: str) -> str:
        """The first group of the first line that fits."""

        def found() -> str | None:
            return next((match[1] for line in self._lines if (match := re.search(pattern, line))), None)

        with self._news:
            assert self._news.wait_for(lambda: found() is not None, WAIT_S), "".join(self._lines)
            return found() or ""

    def publish(self, number: int) -> None:
        event = ["--type", "com.example.invoice", "--source", "/shop", "--subject", str(number)]
        subprocess.run(
            [sys.executable, "-m", "mesh.cli", "publish", *event, "--data", '{"amount": 4711, "note": "<b>bold</b>"}'],
            cwd=self._folder,
            env=self.environment,
            check=True,
            capture_output=True,
            timeout=WAIT_S,
        )

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(WAIT_S) == 0, "".join(self._lines)
        self._reading.join(WAIT_S)
        assert self._process.stdout is not None
        self._process.stdout.close()


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[Dev]:
    found = Dev(tmp_path)
    try:
        yield found
    finally:
        found.close()


def test_an_approver_answers_on_a_phone_and_a_list_follows_by_itself(dev: Dev) -> None:
    link = dev.wait_for(r"to sign in as ana@example.org: (http://\S+)")
    dev.wait_for(r"(partitions_taken_over)")
    url = link.partition("/login")[0]
    with Browser(width=390, height=844, phone=True) as browser:
        browser.go(link)
        browser.click("button.first")
        browser.wait_for("location.pathname === '/'")
        browser.go(f"{url}/approvals")
        browser.wait_text("Nothing waits for you")
        browser.wait_for("document.documentElement.dataset.stream === 'open'")

        # live: nobody reloads the page
        dev.publish(1)
        browser.wait_text("Pay this invoice?")

        # a rejection needs a reason, and keeps what was typed
        browser.click("a.cover")
        browser.wait_text("Your answer")
        assert "4711" in browser.text()
        assert "<b>bold</b>" in browser.text()
        browser.click("button[value=reject]")
        browser.wait_text("Give a reason")
        browser.fill("#reason", "It was paid before")
        browser.click("button[value=reject]")
        browser.wait_text("Your answer counts. It is rejected.")
        assert "It was paid before" in browser.text()

        dev.publish(2)
        browser.go(f"{url}/approvals")
        browser.wait_text("Pay this invoice?")
        browser.click("a.cover")
        browser.wait_text("Your answer")
        browser.click("button[value=approve]")
        browser.wait_text("Your answer counts. It is approved.")

        browser.go(f"{url}/workflow?id=pay%3A2")
        browser.wait_text("Completed")
        assert browser.script("document.querySelectorAll('svg.graph a').length") == 1
        assert browser.script("document.documentElement.scrollWidth") == 390
        refusals = [said for said in browser.said if "422" not in said]
        assert refusals == [], refusals

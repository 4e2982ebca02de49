"""`mesh demo` from outside, as a newcomer runs it.

Its processes, its exit status, what is on the screen, and what it leaves on the disk.
"""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from infra.kafka.kafka import KafkaProcess
from mesh.cli.demo.folder import new_run
from mesh.cli.demo.processes import MeshEnded, Processes
from mesh.cli.demo.script import load_script

pytestmark = pytest.mark.slow

DEMO = (sys.executable, "-m", "mesh", "demo")
WAIT_S = 180.0
RESEND_S = 5.0  # much longer than it takes to answer an interrupt
COMPLETED, WORKFLOWS = 12, 13


def environment(**more: str) -> dict[str, str]:
    """A newcomer's shell.

    It has a token that must not be used, and another mesh that must be left alone.
    """
    own = {name: value for name, value in os.environ.items() if not name.startswith("MESH_")}
    foreign = {
        "GITHUB_TOKEN": "not-to-be-used",
        "GITHUB_API_URL": "http://127.0.0.1:9",
        "MESH_BROKER": "sqlite://other.db",
    }
    return {**own, **foreign, "TERM": "xterm-256color", **more}


def run_demo(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*DEMO, *options],
        cwd=folder,
        check=False,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
    )


def processes_of(folder: Path) -> list[int]:
    """Living processes whose environment names the folder: the demo's router and agents."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"MESH_DATA_DIR={folder}".encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue  # it ended, or is somebody else's
    return found


def outbox(folder: Path, run: int = 1) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f".demo/{run}/outbox.jsonl").read_bytes().splitlines()]


def test_it_ends_rightly_twice_in_a_row(tmp_path: Path) -> None:
    for run in (1, 2):
        done = run_demo(tmp_path, "--yes")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "\x1b" not in done.stdout
        assert (
            "A scripted approver (ana@example.org) answers its questions, through mesh.approvals.responses"
            in done.stdout
        )
        assert "attempt 1 failed" in done.stdout
        assert "attempt 2 of 4" in done.stdout  # the timeline's reason for that dispatch
        assert f".demo/{run}/mesh status" in done.stdout
        assert f"$ .demo/{run}/mesh workflows" in done.stdout
        assert len(outbox(tmp_path, run)) == COMPLETED
        assert processes_of(tmp_path) == []
    assert not (tmp_path / "other.db").exists()


def test_the_commands_that_it_names_read_its_log(tmp_path: Path) -> None:
    assert run_demo(tmp_path).returncode == 0  # without a terminal the script answers
    commands = ("mesh workflows --json", "mesh workflow ferry#418 --json", "mesh dlq list --json")
    workflows, workflow, letters = (
        in_shell(tmp_path, f"MESH_TOPIC_PREFIX=x. .demo/last/{command}") for command in commands
    )
    status = in_shell(tmp_path, ". .demo/last/env; mesh status --json")
    assert len(workflows["workflows"]) == WORKFLOWS
    assert workflow["workflow"]["status"] == "completed"
    assert letters["total"] == 1
    assert status["workflows"] == {"completed": COMPLETED, "rejected": 1}


def in_shell(folder: Path, command: str) -> Any:
    done = subprocess.run(
        ["sh", "-c", command],
        check=False,
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=WAIT_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_it_ends_rightly_on_kafka(tmp_path: Path, kafka: KafkaProcess) -> None:
    done = run_demo(tmp_path, "--yes", "--json", "--broker", f"kafka://{kafka.bootstrap}")
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert result["ok"] is True
    assert result["answered_by"] == "script"
    assert result["topic_prefix"].startswith("demo-")
    assert len(outbox(tmp_path)) == COMPLETED
    assert processes_of(tmp_path) == []


def test_a_broker_that_is_not_there_is_told(tmp_path: Path) -> None:
    done = run_demo(tmp_path, "--yes", "--broker", "kafka://127.0.0.1:9")
    assert done.returncode == 4, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert processes_of(tmp_path) == []


# At the prompt ------------------------------------------------------------------------------------


class Terminal:
    """The demo on a terminal of its own."""

    def __init__(self, process: subprocess.Popen[bytes], screen: int) -> None:
        self.process = process
        self._screen = screen
        self.text = ""
        self._read_to = 0

    def wait_for(self, words: str) -> None:
        """Until it shows `words`, after what was waited for last."""
        give_up = time.monotonic() + WAIT_S
        while (place := self.text.find(words, self._read_to)) < 0:
            left = give_up - time.monotonic()
            assert left > 0, f"{words!r} never came\n{self.text[-4000:]}"
            assert self._read(left), f"it ended before {words!r} came\n{self.text[-4000:]}"
        self._read_to = place + len(words)

    def _read(self, timeout_s: float) -> bool:
        ready, _, _ = select.select([self._screen], [], [], timeout_s)
        try:
            read = os.read(self._screen, 65_536) if ready else b""
        except OSError:  # the other end is closed
            return False
        self.text += read.decode(errors="replace")
        return bool(read)

    def press(self, key: str) -> None:
        """Press one key as soon as the demo reads keys.

        The demo throws away what is typed before that, so that nobody answers a question unread.
        """
        give_up = time.monotonic() + WAIT_S
        while termios.tcgetattr(self._screen)[3] & termios.ICANON:
            assert time.monotonic() < give_up, f"it never read a key\n{self.text[-4000:]}"
            self._read(0.02)
        self.type(key)

    def type(self, line: str) -> None:
        os.write(self._screen, line.encode())

    def interrupt_until(self, words: str) -> None:
        """Press Ctrl-C until the words appear.

        If it comes in the moment before the library begins to wait for a line, the library notices
        it only with the next one.
        """
        give_up = time.monotonic() + WAIT_S
        while words not in self.text[self._read_to :]:
            assert time.monotonic() < give_up, f"{words!r} never came\n{self.text[-4000:]}"
            self.process.send_signal(signal.SIGINT)
            again = time.monotonic() + RESEND_S
            while words not in self.text[self._read_to :] and (left := again - time.monotonic()) > 0:
                if not self._read(left):
                    break
        self._read_to = self.text.index(words, self._read_to) + len(words)

    def wait_ended(self) -> int:
        give_up = time.monotonic() + WAIT_S
        while time.monotonic() < give_up and self._read(1.0):
            pass
        return self.process.wait(WAIT_S)


@contextmanager
def terminal(folder: Path, **more: str) -> Iterator[Terminal]:
    screen, other_end = pty.openpty()
    termios.tcsetwinsize(other_end, (40, 120))
    process = subprocess.Popen(
        DEMO,
        cwd=folder,
        env=environment(**more),
        stdin=other_end,
        stdout=other_end,
        stderr=other_end,
        start_new_session=True,
    )
    os.close(other_end)
    try:
        yield Terminal(process, screen)
    finally:
        if process.poll() is None:
            process.terminate()  # it stops its children
            process.wait(WAIT_S)
        os.close(screen)


def test_a_person_answers_at_the_prompt(tmp_path: Path) -> None:
    editor = tmp_path / "editor.sh"
    editor.write_text("#!/bin/sh\nsed -i 's/^body:.*/&\\n  Edited by hand./' \"$1\"\n")
    editor.chmod(0o755)
    with terminal(tmp_path, EDITOR=str(editor)) as demo:
        for number, key in enumerate(("a", "r", "e", "s", "a", "a"), 1):
            demo.wait_for(f"question {number} of 6")
            demo.press(key)
            if key == "r":
                demo.wait_for("reason")
                demo.type("not like this\r")
        demo.wait_for("What to try next")
        assert demo.wait_ended() == 0, demo.text[-4000:]
    assert "not like this" in demo.text
    assert sum("Edited by hand." in entry["body"] for entry in outbox(tmp_path)) == 1
    assert processes_of(tmp_path) == []


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_everything(tmp_path: Path, sign: signal.Signals) -> None:
    with terminal(tmp_path) as demo:
        demo.wait_for("events sent")
        demo.process.send_signal(sign)
        demo.wait_for("stopping")
        assert demo.wait_ended() == 130
    assert processes_of(tmp_path) == []


def test_quitting_at_a_question_stops_everything(tmp_path: Path) -> None:
    with terminal(tmp_path) as demo:
        demo.wait_for("question 1 of 6")
        demo.press("r")
        demo.wait_for("reason")
        demo.interrupt_until("stopping")  # while it reads a line
        assert demo.wait_ended() == 130
    assert processes_of(tmp_path) == []


def test_a_mesh_that_ends_is_told_with_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = new_run(broker=None, token="0000")
    with Processes(folder, folder.environment(load_script(), os.environ)) as processes:
        processes.start(["agents.issue_triage.not_there"])
        with pytest.raises(MeshEnded, match=r"the mesh ended \(exit status 2\)[\s\S]*can't be imported"):
            check_until_it_raises(processes)
    assert processes_of(tmp_path) == []


def check_until_it_raises(processes: Processes) -> None:
    give_up = time.monotonic() + WAIT_S
    while time.monotonic() < give_up:
        processes.check()
        time.sleep(0.05)  # it can only be asked

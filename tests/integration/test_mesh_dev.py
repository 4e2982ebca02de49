"""`mesh dev` as a person runs it.

It runs processes of their own. One that dies comes back, and one signal stops all.
"""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesh.cli.processes.children import die_with_parent

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
WAIT_S = 90.0

AGENT = """
import os
from mesh import agent

@agent("echo")
async def echo(value: dict) -> dict:
    return value

print("echo runs as", os.getpid(), flush=True)
"""

ROUTE = """
route: echoes
on: {type: t}
key: ${{ event.id }}
steps:
  echo: {agent: echo, input: "${{ event.data }}"}
"""


class Dev:
    """The process and its lines, read in a thread."""

    def __init__(self, folder: Path) -> None:
        self.environment = {
            **os.environ,
            "MESH_BROKER": f"sqlite://{folder}/mesh.db",
            "MESH_DATA_DIR": str(folder / "data"),
            "MESH_PARTITIONS": "2",
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
        }
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mesh.cli", "dev", "--no-console", "--routes", "routes", "echo_agent"],
            cwd=folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._news:
                self.lines.append(line)
                self._news.notify_all()

    def wait_for(self, pattern: str, *, count: int = 1) -> list[str]:
        """All lines that match, once there are `count` of them."""

        def found() -> list[str]:
            return [line for line in self.lines if re.search(pattern, line)]

        with self._news:
            assert self._news.wait_for(lambda: len(found()) >= count, WAIT_S), "".join(self.lines)
            return found()

    def mesh(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "mesh.cli", *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(WAIT_S)
        self._reading.join(WAIT_S)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[Dev]:
    (tmp_path / "echo_agent.py").write_text(AGENT)
    (tmp_path / "routes").mkdir()
    (tmp_path / "routes" / "echoes.yaml").write_text(ROUTE)
    one = Dev(tmp_path)
    yield one
    one.close()


def pid_of(line: str) -> int:
    return int(line.rsplit(" ", 1)[1])


def is_running(pid: int) -> bool:
    """A zombie does not: its parent is gone, and the machine's first process may not care."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def wait_gone(*pids: int) -> None:
    until = time.monotonic() + WAIT_S
    while any(map(is_running, pids)):
        assert time.monotonic() < until, f"still running: {[pid for pid in pids if is_running(pid)]}"
        time.sleep(0.05)


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_whole_mesh_runs_heals_and_stops_with_one_signal(dev: Dev) -> None:
    dev.wait_for("partitions_taken_over")
    first = pid_of(dev.wait_for("^echo_agent.*echo runs as")[-1])
    done = dev.mesh("run", "echoes", "--data", '{"n": 1}', "--wait", "--timeout", "60", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    os.kill(first, signal.SIGKILL)
    dev.wait_for(r"echo_agent.*died.*SIGKILL.*starts again")
    second = pid_of(dev.wait_for("^echo_agent.*echo runs as", count=2)[-1])
    assert second != first
    again = dev.mesh("run", "echoes", "--data", '{"n": 2}', "--wait", "--timeout", "60", "--json")
    assert again.returncode == 0, again.stdout + again.stderr
    dev.process.send_signal(signal.SIGINT)
    assert dev.process.wait(WAIT_S) == 0
    dev.wait_for("stopped")
    assert not is_running(second)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_every_signal_that_ends_us_stops_the_children(dev: Dev, number: signal.Signals) -> None:
    dev.wait_for("partitions_taken_over")
    dev.wait_for("^echo_agent.*echo runs as")
    children = children_of(dev.process.pid)
    assert len(children) == 2
    dev.process.send_signal(number)
    assert dev.process.wait(WAIT_S) == 0
    dev.wait_for("stopped")
    assert not any(map(is_running, children))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent is gone")
def test_children_do_not_outlive_a_mesh_that_is_killed(dev: Dev) -> None:
    dev.wait_for("partitions_taken_over")
    dev.wait_for("^echo_agent.*echo runs as")
    children = children_of(dev.process.pid)
    assert len(children) == 2
    dev.process.kill()
    wait_gone(*children)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent is gone")
def test_a_demos_mesh_does_not_outlive_it(tmp_path: Path) -> None:
    code = """
import os, signal
from mesh.cli.demo.folder import new_run
from mesh.cli.demo.processes import Processes
one = Processes(new_run(broker=None, token="0"), os.environ)
one.start([])
print(one._dev.pid, flush=True)
signal.pause()
"""
    environment = {**os.environ, "MESH_BROKER": f"sqlite://{tmp_path}/mesh.db", "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=environment, stdout=subprocess.PIPE) as demo:
        assert demo.stdout is not None
        child = int(demo.stdout.readline())
        assert is_running(child)
        demo.kill()
    wait_gone(child)


def test_a_child_whose_parent_went_before_it_could_ask_ends_at_once() -> None:
    tie = die_with_parent()
    assert tie is not None
    child = os.fork()
    if not child:  # its parent: not the process that is tied to it
        if not os.fork():
            tie()
            os._exit(0)  # not reached: see the status
        os._exit(os.waitstatus_to_exitcode(os.wait()[1]) & 0xFF)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 128 + signal.SIGTERM

"""`mesh dev` as a person runs it: processes of their own, one that dies comes back, one signal stops all."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

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
            [sys.executable, "-m", "mesh.cli", "dev", "--routes", "routes", "echo_agent"],
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
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


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

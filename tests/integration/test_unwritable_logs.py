"""A service whose log lines can't be written neither dies nor spins."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from mesh_processes import ROOT, WAIT_S

ROUTE = """
route: greet
on: {type: hello}
key: ${{ event.subject }}
steps: {said: {value: 1}}
"""


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "route.yaml").write_text(ROUTE)
    names = {"MESH_BROKER": f"sqlite://{tmp_path}/mesh.db", "MESH_ROUTES": f"{tmp_path}/route.yaml"}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MESH_")}
    return {**kept, **names, "MESH_DATA_DIR": str(tmp_path / "data")}


def unwritable(kind: str) -> Iterator[IO[Any]]:
    if kind == "full disk":
        with Path("/dev/full").open("wb") as full:
            yield full
        return
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        yield pipe


def mesh(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mesh.cli", *arguments]
    return subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=WAIT_S, check=False)


def cpu_s(pid: int) -> float:
    times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("kind", ["full disk", "pipe without a reader"])
def test_a_router_works_on_and_stops_well_although_its_log_takes_nothing(env: dict[str, str], kind: str) -> None:
    for stderr in unwritable(kind):
        router = subprocess.Popen(
            [sys.executable, "-m", "mesh.cli", "router", "--log-level", "debug"],
            env=env,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )
        try:
            until_s, said = time.monotonic() + WAIT_S, ""
            event = ("--type", "hello", "--source", "/t", "--subject", "k", "--id", "e1")
            while "completed" not in said:
                assert router.poll() is None, f"the router has ended with {router.returncode}"
                assert time.monotonic() < until_s, said
                mesh(env, "publish", *event)  # a second time it changes nothing
                said = mesh(env, "workflow", "greet:k").stdout
            before_s, begun_s = cpu_s(router.pid), time.monotonic()
            assert mesh(env, "status").returncode == 0  # a second in which nothing happens, about
            assert cpu_s(router.pid) - before_s < 0.8 * (time.monotonic() - begun_s) + 0.2, "it spins"
            router.send_signal(signal.SIGTERM)
            assert router.wait(WAIT_S) == 0
        finally:
            if router.poll() is None:
                router.kill()
                router.wait(WAIT_S)

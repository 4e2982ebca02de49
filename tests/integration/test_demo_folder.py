"""A run's folder: fresh each time, the last few kept, a living run's never taken away."""

import os
import subprocess
from pathlib import Path

import pytest

from mesh.cli.demo.folder import KEPT, RunFolder, new_run
from mesh.cli.demo.script import load_script


@pytest.fixture(autouse=True)
def _in_its_own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def end(run: RunFolder) -> None:
    os.close(run._lock)  # as its process's end does


def test_runs_are_numbered_and_the_last_ones_are_kept() -> None:
    for _ in range(KEPT + 2):
        end(new_run(broker=None, token="0"))
    assert sorted(int(path.name) for path in Path(".demo").iterdir() if path.name.isdecimal()) == [3, 4, 5, 6, 7]
    assert Path(".demo/last").resolve().name == "7"


def test_a_living_run_keeps_its_folder() -> None:
    living = new_run(broker=None, token="0")
    for _ in range(KEPT + 1):
        end(new_run(broker=None, token="0"))
    assert living.path.exists()
    end(living)


def test_a_run_uses_nothing_of_another_mesh() -> None:
    run = new_run(broker=None, token="0")
    foreign = {"MESH_BROKER": "kafka://prod", "MESH_TOPIC_PREFIX": "prod.", "GITHUB_TOKEN": "t", "PATH": "/bin"}
    own = run.environment(load_script(), foreign)
    assert own["MESH_BROKER"] == f"sqlite://{run.path.resolve()}/mesh.db"
    assert (own["MESH_TOPIC_PREFIX"], own["PATH"]) == ("mesh.", "/bin")
    assert "GITHUB_TOKEN" not in own
    assert own["MESH_OUTBOX"] == str(run.path.resolve() / "outbox.jsonl")
    end(run)


def test_a_given_broker_gets_topics_of_the_runs_own() -> None:
    first, second = (new_run(broker="kafka://localhost:9092", token=token) for token in ("aa", "bb"))
    assert (first.prefix, second.prefix) == ("demo-aa.", "demo-bb.")
    end(first)
    end(second)


def test_a_shell_that_looks_at_a_run_keeps_its_own_project() -> None:
    run = new_run(broker=None, token="0")
    run.write_ways_in(load_script())
    script = f". {run.env_file}; env; echo -- ; . {run.env_file} >/dev/null; {run.command} --version"
    given = {"MESH_APPROVERS": "mine.yaml", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(["sh", "-c", script], env=given, capture_output=True, text=True, check=True, timeout=120)
    own = dict(line.split("=", 1) for line in done.stdout.partition("\n--\n")[0].splitlines() if "=" in line)
    assert own["MESH_APPROVERS"] == "mine.yaml"
    assert {name for name in own if name.startswith("MESH_")} == {
        *("MESH_APPROVERS", "MESH_BROKER", "MESH_TOPIC_PREFIX", "MESH_DATA_DIR", "MESH_BY")
    }
    assert "version" in done.stdout
    end(run)

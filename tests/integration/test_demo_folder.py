"""A run's folder: fresh each time, the last few kept, a living run's never taken away."""

import os
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

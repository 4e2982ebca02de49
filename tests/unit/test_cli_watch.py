"""`mesh watch`: a line for each decision, as it is made."""

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sample_mesh import Writer, approved, result_cause, run, workflow, write_sample

from mesh.adapters.sqlite import SqliteBroker
from mesh.cli.app import mesh
from mesh.core import events as ev
from mesh.ports import Broker


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in {
        "MESH_BROKER": f"sqlite://{tmp_path}/mesh.db",
        "MESH_DATA_DIR": str(tmp_path / "data"),
        "COLUMNS": "200",
    }.items():
        monkeypatch.setenv(name, value)
    with_broker(tmp_path, write_sample)
    return tmp_path


def with_broker(folder: Path, work: Callable[[Broker], Awaitable[Any]]) -> Any:
    async def open_and_work() -> Any:
        broker = await SqliteBroker.open(folder / "mesh.db", client_id="test", durability="normal")
        try:
            return await work(broker)
        finally:
            await broker.close()

    return asyncio.run(open_and_work())


def call(*arguments: str) -> Result:
    result = CliRunner().invoke(mesh, ["watch", *arguments])
    assert result.exit_code == 0, result.output
    return result


def test_the_last_decisions_are_a_line_each_in_the_words_of_timelines(folder: Path) -> None:
    lines = call("--for", "0", "--last", "3").stdout.splitlines()
    assert len(lines) == 3
    assert lines[-1].split("  ", 1)[1] == (
        f"{workflow(1)}  start repeated: nothing changes (the same event started this run)"
    )
    assert call("--for", "0", "--last", "0").stdout == ""
    assert call("--for", "0", "--route", "other").stdout == ""


def test_one_workflow_is_followed_until_it_has_ended(folder: Path) -> None:
    lines = call(workflow(2)).stdout.splitlines()
    assert all(workflow(2) in line for line in lines)
    assert "review skipped" in lines[1]
    assert ";  completed (every step is done)" in lines[1]
    assert "succeeded after 18 ms (version 1.2.0 on host-1);" in lines[1]


def test_each_decision_is_one_line_of_json(folder: Path) -> None:
    lines = [json.loads(line) for line in call(workflow(2), "--json", "--last", "2").stdout.splitlines()]
    assert [one["workflow_id"] for one in lines] == [workflow(2)] * 2
    assert [event["event"] for event in lines[-1]["events"]] == ["InputDismissed.1"]


def test_what_is_decided_meanwhile_is_shown(folder: Path) -> None:
    """The command ends with workflow 1, which goes on while it watches."""

    async def end(broker: Broker) -> None:
        writer = Writer(broker)
        writer.now_ms += 1_000_000
        await writer.decide(workflow(1), ev.Cause(kind="answer", id="a"), approved(1, "a"))
        many = [ev.StepSkipped(step=f"s{n}", reason="if: false") for n in range(7)]
        ended = ev.WorkflowEnded(status="completed", reason="done", run_id=run(1), traceparent="", forget_at_ms=1)
        await writer.decide(workflow(1), result_cause(1, "publish"), *many, ended)

    answering = threading.Thread(target=with_broker, args=(folder, end))
    answering.start()
    lines = call(workflow(1), "--last", "5").stdout.splitlines()
    answering.join()
    assert "review approved" in lines[-2]
    assert lines[-1].endswith(";  and 3 more")


def test_the_status_is_shown_again_until_its_time_is_over(folder: Path) -> None:
    shown = CliRunner().invoke(mesh, ["status", "--watch", "--for", "0"])
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.count("broker ") == 1
    [line] = CliRunner().invoke(mesh, ["status", "--watch", "--for", "0", "--json"]).stdout.splitlines()
    assert json.loads(line)["dead_letters"] == 1


def test_the_status_looks_again_after_a_while(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock that tells when to end is the test's: it goes on by a second at each look."""
    seconds = iter(range(100))
    monkeypatch.setattr("mesh.cli.status.EVERY_S", 0.0)
    monkeypatch.setattr("mesh.cli.status.time", SimpleNamespace(monotonic=lambda: next(seconds)))
    shown = CliRunner().invoke(mesh, ["status", "--watch", "--for", "2", "--json"])
    assert len(shown.stdout.splitlines()) == 2

"""What goes wrong with disks, files and modules is told in a line or two, never by a traceback."""

import asyncio
import json
from errno import ENOSPC
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sample_mesh import write_sample

from mesh.adapters.sqlite import SqliteBroker
from mesh.cli.app import mesh
from mesh.cli.processes import services
from mesh.errors import FileDamaged
from mesh.inspection.read_model import schema as read_model_schema


@pytest.fixture
def sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    async def write() -> None:
        broker = await SqliteBroker.open(tmp_path / "mesh.db", client_id="test", durability="normal")
        await write_sample(broker)
        await broker.close()

    asyncio.run(write())
    monkeypatch.setenv("MESH_BROKER", f"sqlite://{tmp_path}/mesh.db")
    monkeypatch.setenv("MESH_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(mesh, list(arguments), input=stdin)


def test_a_data_folder_that_cannot_be_used_is_one_line(sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (sample / "file").write_text("")
    monkeypatch.setenv("MESH_DATA_DIR", str(sample / "file" / "data"))
    for command in (["status"], ["approvals"], ["workflows"], ["dev"], ["router"]):
        result = call(*command)
        assert result.exit_code == 2, result.output
        assert len(result.stderr.strip().splitlines()) == 1
        assert "MESH_DATA_DIR" in result.stderr


def test_a_full_data_folder_keeps_nobody_from_looking(sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(_: Path) -> None:
        raise OSError(ENOSPC, "No space left on device")

    monkeypatch.setattr(read_model_schema, "make_private", no_room)
    result = call("approvals", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)
    assert "warning: no room in MESH_DATA_DIR" in result.stderr


def test_what_a_services_tasks_raise_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise BaseExceptionGroup("tasks", [BaseExceptionGroup("more", [FileDamaged("damaged")])])

    monkeypatch.setattr(services, "run_service", fail)
    monkeypatch.setattr(services, "run_router", lambda *_: None)
    result = call("router")
    assert (result.exit_code, result.stderr) == (7, "error: damaged\n")


def test_an_error_of_the_system_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(ENOSPC, "No space left on device", "some/file")

    monkeypatch.setattr(services, "run_service", fail)
    monkeypatch.setattr(services, "run_router", lambda *_: None)
    result = call("router")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: some/file: No space left on device")

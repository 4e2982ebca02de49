"""An error with disks, files or modules is a line or two, never a traceback."""

import asyncio
import importlib
import json
import sys
from collections.abc import Iterator
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
    for command in (["status"], ["workflows"], ["dev"], ["router"]):
        result = call(*command)
        assert result.exit_code == 2, result.output
        assert len(result.stderr.strip().splitlines()) == 1
        assert "MESH_DATA_DIR" in result.stderr


def test_who_answers_needs_no_data_folder(sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (sample / "file").write_text("")
    monkeypatch.setenv("MESH_DATA_DIR", str(sample / "file" / "data"))
    result = call("approvals", "--json")
    assert (result.exit_code, json.loads(result.stdout)["total"]) == (0, 1)
    assert "warning: the inbox can't be kept in MESH_DATA_DIR" in result.stderr


def test_a_full_data_folder_keeps_nobody_from_looking(sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(_: Path) -> None:
        raise OSError(ENOSPC, "No space left on device")

    monkeypatch.setattr(read_model_schema, "make_private", no_room)
    result = call("workflows", "--json")
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


GOOD = "from mesh import agent\n\n@agent('good')\nasync def good(x: int) -> int:\n    return x\n"
MODULES = {
    "syntax": ("from mesh import agent\ndef x(:\n", "syntax.py:2: invalid syntax"),
    "tabs": ("if True:\n\tx = 1\n        y = 2\n", "tabs.py:3: "),
    "null": ("x = 1\x00\n", "module null can't be imported: "),
    "library": (
        "import no_such_library_here\n",
        "module library needs no_such_library_here, which is not installed here (*library.py:1)",
    ),
    "deeper": (
        "import json\n\nimport library\n",
        "module deeper needs no_such_library_here, which is not installed here (*library.py:1)",
    ),
    "part": ("import json.no_such_part\n", "module part needs json.no_such_part"),
    "name": ("from json import no_such_name\n", "ImportError: cannot import name 'no_such_name'"),
    "raises": ("def f():\n    return 1 / 0\n\nf()\n", "ZeroDivisionError: division by zero (*raises.py:2)"),
    "library_raises": ("import json\n\njson.loads('{')\n", "(*library_raises.py:3)"),
    "lines": ("raise ValueError('one\\ntwo')\n", "ValueError: one two (*lines.py:1)"),
    "leaves": ("import sys\n\nsys.exit(0)\n", "SystemExit: 0 (*leaves.py:3)"),
    "bare": (GOOD.replace("('good')", ""), 'the agent has no name (write `@agent("my-agent")` above the function)'),
    "nameless": (GOOD.replace("'good'", ""), "missing 1 required positional argument: 'name' (*nameless.py:3)"),
    "misspelt": (GOOD.replace("'good'", "'good', concurency=3"), "'concurency' (*misspelt.py:3)"),
    "worded": (GOOD.replace("'good'", "'good', concurrency='3'"), "(*worded.py:3)"),
    "untyped": (GOOD.replace(": int", ""), "parameter 'x' has no type"),
    "empty": ("", "module empty defines no agent"),
    "./good.py": ("", "./good.py is not a module's name: write `good`"),
    "good.py": ("", "write `good`"),
    "agents/triage.py": ("", "write `agents.triage`"),
    ".good": ("", "write `good`"),
    "../": ("", "write a dotted name"),
    "not_there": (None, "run from the folder that holds it"),
    "package.not_there": (None, "run from the folder that holds it"),
}


@pytest.fixture
def modules(sample: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The modules above, and what importing them leaves behind is gone afterwards."""
    (sample / "package").mkdir()
    (sample / "package" / "__init__.py").write_text("")
    (sample / "routes").mkdir()
    for name, (text, _) in MODULES.items():
        if text is not None and name.isidentifier():
            (sample / f"{name}.py").write_text(text)
    monkeypatch.setattr(sys, "path", [str(sample), *sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield sample
    for name in set(sys.modules) - before:
        del sys.modules[name]
    importlib.invalidate_caches()


@pytest.mark.parametrize("name", MODULES)
def test_an_error_of_an_agents_module_is_one_line_that_blames_what_is_to_blame(modules: Path, name: str) -> None:
    wanted = MODULES[name][1].replace("*", f"{modules}/")
    for command in (["agent", name], ["dev", name], ["routes", "check", "routes", "--agents", name]):
        result = call(*command)
        assert (result.exit_code, result.stdout) == (2, ""), result.output
        assert len(result.stderr.splitlines()) == 1
        assert wanted in result.stderr
        assert ("folder that holds it," in result.stderr) == ("not_there" in name)


@pytest.mark.parametrize("command", ["agent", "dev"])
def test_ctrl_c_while_a_module_is_imported_ends_at_once(modules: Path, command: str) -> None:
    (modules / "slow.py").write_text("raise KeyboardInterrupt\n")
    result = call(command, "slow")
    assert (result.exit_code, result.output) == (130, "")

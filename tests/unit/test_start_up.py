"""What a command loads before it does its work. Time is never measured here: machines differ."""

import subprocess
import sys
from pathlib import Path

import pytest

# what costs tens of milliseconds and is of no use to the command
NEVER = {
    "pydantic": "MESH_ variables are read by hand",
    "rich.traceback": "structlog would load it for tracebacks that we never show",
    "rich.pretty": "as above; it loads attrs as well",
    "pygments": "colours source text in rich's tracebacks",
    "opentelemetry": "tracing and metrics are off",
    "jsonschema": "only an edited payload is checked against a schema",
    "referencing": "comes with jsonschema",
    "uvloop": "only services need a fast loop",
    "httpx": "only the notifier and the demo send HTTP requests",
    "aiokafka": "the broker is SQLite",
    "mesh.services.router.router": "a command is not a router",
    "mesh.testing": "only tests need it",
}
# for who answers: the inbox has all that is open
NOT_FOR_APPROVERS = {
    "mesh.inspection.read_model.model": "nobody reads the log",
    "mesh.inspection.read_model.queries": "as above",
    "mesh.core.replay": "as above",
    "mesh.routes.expressions.compiler": "no --if is given",
}
# for the help alone: nothing is configured, opened or drawn
NOT_FOR_HELP = {
    "pydantic": "no settings are read",
    "structlog": "nothing is logged",
    "rich": "click draws the help",
    "asyncio": "nothing is waited for",
    "apsw": "no file is opened",
}


def loaded_by(*arguments: str, folder: Path, **settings: str) -> set[str]:
    env = {"PATH": "", "MESH_BROKER": f"sqlite://{folder}/mesh.db", "MESH_DATA_DIR": str(folder / "data"), **settings}
    program = (
        "import atexit, sys; from mesh.cli import main; sys.argv[0] = 'mesh'\n"
        "atexit.register(lambda: print('loaded', *sys.modules, file=sys.stderr)); main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], env=env, cwd=folder, capture_output=True, text=True, check=False
    )
    [line] = [line for line in done.stderr.splitlines() if line.startswith("loaded ")]
    assert "Traceback" not in done.stderr
    return set(line.split()[1:])


def unwanted(modules: set[str], names: dict[str, str]) -> dict[str, str]:
    return {name: why for name, why in names.items() if name in modules}


@pytest.mark.parametrize("arguments", [("approvals",), ("status",)], ids=" ".join)
def test_a_command_loads_only_what_it_needs(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert loaded_by("topics", "apply", folder=tmp_path) >= {"apsw"}

    modules = loaded_by(*arguments, folder=tmp_path)

    assert modules >= {"apsw", "structlog", "rich.console"}  # it has done its work
    assert unwanted(modules, NEVER) == {}
    assert unwanted(modules, NOT_FOR_APPROVERS if arguments == ("approvals",) else {}) == {}


def test_the_help_loads_next_to_nothing(tmp_path: Path) -> None:
    modules = loaded_by("--help", folder=tmp_path)

    assert unwanted(modules, NEVER | NOT_FOR_HELP) == {}


def test_a_command_on_kafka_loads_no_broker_of_sqlite(tmp_path: Path) -> None:
    # without its file for TLS the command ends with an error as soon as it opens the broker
    tls = {"MESH_KAFKA_SECURITY_PROTOCOL": "SSL", "MESH_KAFKA_CA_FILE": str(tmp_path / "absent.pem")}
    modules = loaded_by("topics", folder=tmp_path, MESH_BROKER="kafka://127.0.0.1:1", **tls)

    assert "aiokafka" in modules
    assert "mesh.adapters.sqlite" not in modules

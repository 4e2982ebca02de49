"""A run's folder: `.demo/<number>/`, with everything that the run writes.

Owns where things are, the environment that keeps one run from disturbing another, and how many runs
are kept. A run holds a lock as long as it lives, so that another one never removes its folder.
`command` calls it.
"""

import fcntl
import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from mesh.cli.demo.script import Script
from mesh.errors import OperatorError
from mesh.resources import CHECKOUT

ROOT: Final = Path(".demo")
KEPT: Final = 5  # how many runs are kept, this one included
LAST: Final = "last"
DRAIN_S: Final = 5


class RunFolder:
    """One run's files. `broker`: its address. `prefix`: that of its topics."""

    def __init__(self, path: Path, lock: int, *, broker: str | None, token: str) -> None:
        self.path = path
        self._lock = lock  # held until the process ends
        self.broker = broker or f"sqlite://{path.resolve() / 'mesh.db'}"
        # a given broker may hold other meshes, and earlier runs
        self.prefix = f"demo-{token}." if broker else "mesh."

    @property
    def outbox(self) -> Path:
        return self.path / "outbox.jsonl"

    @property
    def data(self) -> Path:
        return self.path / "data"

    @property
    def env_file(self) -> Path:
        return self.path / "env"

    @property
    def command(self) -> Path:
        return self.path / "mesh"

    @property
    def new_issue(self) -> Path:
        """An issue that the run has not seen, for the person to publish."""
        return self.path / "new-issue.json"

    def log(self, name: str) -> Path:
        return self.path / f"{name}.log"

    def variables(self, script: Script) -> dict[str, str]:
        """The variables that point a command or a service at this run."""
        own = self.path.resolve()
        return {
            "MESH_BROKER": self.broker,
            "MESH_DURABILITY": "normal",  # nobody needs a demo's log after a power loss
            "MESH_TOPIC_PREFIX": self.prefix,
            "MESH_DATA_DIR": str(own / "data"),
            "MESH_ROUTES": str(script.folder / "routes"),
            "MESH_APPROVERS": str(script.folder / "approvers.yaml"),
            "MESH_OUTBOX": str(own / "outbox.jsonl"),  # set, so that no token is ever used
            "MESH_DUPLICATES_INDEX": str(own / "duplicates.db"),
            "MESH_PUBLISH_LOCKS": str(own / "locks"),
            **_search_path(os.environ),
        }

    def environment(self, script: Script, surroundings: Mapping[str, str]) -> dict[str, str]:
        """The environment of the demo's own processes.

        It is the surrounding one, without anything that belongs to another mesh and without
        GitHub's token.
        """
        kept = {
            name: value for name, value in surroundings.items() if not name.startswith(("MESH_", "GITHUB_", "OTEL_"))
        }
        return {
            **kept,
            **self.variables(script),
            "MESH_DEMO_FAULT": script.fault,
            "MESH_LOG_FORMAT": "console",
            "MESH_DRAIN_TIMEOUT_S": str(DRAIN_S),
            "NO_COLOR": "1",
            "PYTHONUNBUFFERED": "1",
        }

    def write_ways_in(self, script: Script) -> None:
        """Write two ways to the run: `FOLDER/mesh` and `FOLDER/env`.

        `FOLDER/mesh` is `mesh` for this run, whatever the shell has set, and leaves the shell as it
        was. After `. FOLDER/env` every query in that shell is about this run. The shell may go on
        to a project of its own, so `env` names nothing that a project has: neither routes nor
        approvers.
        """
        variables = {**self.variables(script), "MESH_BY": script.approver}
        call = f'exec {shlex.quote(sys.executable)} -m mesh.cli "$@"'
        self.command.write_text(
            "\n".join(["#!/bin/sh", "# `mesh`, about this run of the demo", *_exports(variables), call, ""])
        )
        self.command.chmod(0o755)
        seen = {name: variables[name] for name in ("MESH_BROKER", "MESH_TOPIC_PREFIX", "MESH_DATA_DIR", "MESH_BY")}
        title = f"# Lets the queries of `mesh` in this shell read this run of the demo:  . {self.path}/env"
        path = f'export PATH={shlex.quote(str(Path(sys.executable).parent))}":$PATH"'
        self.env_file.write_text("\n".join([title, *_exports(seen), path, ""]))


def _exports(variables: Mapping[str, str]) -> list[str]:
    return [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]


def _search_path(surroundings: Mapping[str, str]) -> dict[str, str]:
    """Let the demo's processes find the checkout's `agents` first.

    Another package may be installed under this name.
    """
    if CHECKOUT is None:
        return {}
    return {"PYTHONPATH": os.pathsep.join(filter(None, (str(CHECKOUT), surroundings.get("PYTHONPATH"))))}


def new_run(*, broker: str | None, token: str) -> RunFolder:
    """Make a new folder with the next number. Older ones beyond `KEPT` are removed.

    `broker`: None for a file of the run's own.
    """
    try:
        ROOT.mkdir(exist_ok=True)
        path, lock = _claim()
    except OSError as error:
        raise OperatorError(
            f"{ROOT.resolve()} can't be written: {error.strerror}; run the demo where you may write"
        ) from error
    _prune()
    last = ROOT / LAST
    last.unlink(missing_ok=True)
    last.symlink_to(path.name)
    return RunFolder(path, lock, broker=broker, token=token)


def _runs() -> list[Path]:
    """The folders of all runs, the oldest first."""
    return sorted((path for path in ROOT.iterdir() if path.name.isdecimal()), key=lambda path: int(path.name))


def _claim() -> tuple[Path, int]:
    while True:
        number = max((int(path.name) for path in _runs()), default=0) + 1
        path = ROOT / str(number)
        try:
            path.mkdir()
        except FileExistsError:
            continue  # another run began at this moment
        lock = os.open(path / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC)
        fcntl.flock(lock, fcntl.LOCK_EX)
        return path, lock


def _prune() -> None:
    for path in _runs()[:-KEPT]:
        lock = (
            os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            if not (path / "lock").exists()
            else os.open(path / "lock", os.O_RDWR)
        )
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue  # it still runs
        else:
            shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(lock)

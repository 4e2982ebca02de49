"""The demo's five processes: a router and four agents, started as anybody would start them.

Owns their life. Each is a session of its own, so that a terminal's Ctrl-C reaches the demo alone.
The demo then stops them in order: agents first, since the router still takes their last results.
Their output goes to files. It does not supervise: the run fails if one dies (`mesh dev` starts
again what dies).
"""

import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from mesh.cli.demo.folder import DRAIN_S, RunFolder
from mesh.cli.processes.children import die_with_parent
from mesh.errors import OperatorError

PATIENCE_S: Final = DRAIN_S + 5.0
TAIL_LINES: Final = 12
TAIL_BYTES: Final = 16_384


class ProcessDied(OperatorError):
    """A process of the demo ended although nobody told it to."""


class DemoProcess:
    def __init__(self, name: str, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own command line
                [sys.executable, "-m", "mesh.cli", *arguments],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent(),  # noqa: PLW1509 - it takes no lock, and we start processes before threads
            )

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def terminate(self) -> None:
        if self.is_alive:
            self._process.terminate()

    def wait(self, timeout_s: float) -> None:
        try:
            self._process.wait(max(0.0, timeout_s))
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        if self.is_alive:
            self._process.kill()
        self._process.wait()

    def obituary(self) -> str:
        """How the process ended, and the end of its output."""
        code = self._process.poll() or 0
        how = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        return f"the {self.name} died ({how}); the end of {self.log}:\n{last_lines(self.log)}"


class Processes:
    """All processes. None is left after the `with`, whatever happens in it."""

    def __init__(self, folder: RunFolder, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._environment = environment
        self._router: list[DemoProcess] = []
        self._agents: list[DemoProcess] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, agent_modules: Sequence[str]) -> None:
        self._router.append(self._start("router", ["router"]))
        for module in agent_modules:
            self._agents.append(self._start(module.rpartition(".")[2].replace("_", "-"), ["agent", module]))

    def _start(self, name: str, arguments: Sequence[str]) -> DemoProcess:
        own = {
            **self._environment,
            "MESH_INSTANCE": f"{name}-1",
            "MESH_HEARTBEAT_FILE": str(self._folder.path.resolve() / f"{name}.alive"),
        }
        return DemoProcess(name, arguments, own, self._folder.log(name))

    def check(self) -> None:
        """Raise `ProcessDied` if a process has ended."""
        for process in (*self._router, *self._agents):
            if not process.is_alive:
                raise ProcessDied(process.obituary())

    def stop(self) -> None:
        """Stop the agents, and then the router, each with a moment to finish.

        An interrupt meanwhile ends them at once.
        """
        try:
            for share in (self._agents, self._router):
                give_up = time.monotonic() + PATIENCE_S
                for process in share:
                    process.terminate()
                for process in share:
                    process.wait(give_up - time.monotonic())
        finally:
            for process in (*self._agents, *self._router):
                process.kill()


def last_lines(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - TAIL_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    return "\n".join(f"  {line}" for line in lines[-TAIL_LINES:]) or "  (it said nothing)"

"""The demo's mesh: one `mesh dev`, which runs the router and the agents as anybody would.

Owns its life. It has a session of its own, so that a terminal's Ctrl-C reaches the demo alone. The
demo then stops it in good order. What it says goes to a file.
"""

import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Final, Self

from mesh.cli.demo.folder import DRAIN_S, RunFolder
from mesh.cli.processes.children import die_with_parent
from mesh.errors import OperatorError

PATIENCE_S: Final = 2 * DRAIN_S + 15.0  # `mesh dev` gives first the agents, then the router, their time
TAIL_LINES: Final = 12
TAIL_BYTES: Final = 16_384


class MeshEnded(OperatorError):
    """The demo's mesh ended by itself."""


class Processes:
    """The mesh's processes. None is left after the `with`, even after an error."""

    def __init__(self, folder: RunFolder, environment: Mapping[str, str]) -> None:
        self._log = folder.log("mesh")
        self._environment = environment
        self._dev: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, agent_modules: Sequence[str]) -> None:
        with self._log.open("ab") as output:
            self._dev = subprocess.Popen(  # noqa: S603 - our own command line
                [sys.executable, "-m", "mesh.cli", "dev", "--no-console", *agent_modules],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent(),  # noqa: PLW1509 - it takes no lock, and we start it before any thread
            )

    def check(self) -> None:
        """Raise `MeshEnded`, with the end of what it said, if the mesh has ended."""
        if self._dev is None or (code := self._dev.poll()) is None:
            return
        how = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        raise MeshEnded(f"the mesh ended ({how}); {self.last_words()}")

    def last_words(self) -> str:
        """The end of what the mesh said."""
        with self._log.open("rb") as file:
            file.seek(max(0, self._log.stat().st_size - TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()[-TAIL_LINES:]
        return f"the end of {self._log}:\n" + ("\n".join(f"  {line}" for line in lines) or "  (nothing was said)")

    def stop(self) -> None:
        """Stop the agents, and then the router. An interrupt meanwhile ends them at once."""
        if self._dev is None:
            return
        try:
            self._dev.terminate()
            self._dev.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self._dev.kill()
            self._dev.wait()

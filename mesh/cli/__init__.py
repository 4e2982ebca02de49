"""The command line: `mesh`.

Owns what people type and read. It must not decide anything about workflows: it reads the read
model, publishes to the public topics, and starts services through `mesh.wiring`. The console script
and `python -m mesh.cli` call it. docs/cli.md has every command's JSON shapes and exit codes.
"""

import sys
from io import TextIOWrapper
from typing import Final

_INTERRUPTED: Final = 130  # as in `exit_codes`, which is not loaded yet


def main() -> None:
    """The console script."""
    try:
        from mesh.cli.app import mesh  # noqa: PLC0415 - `import mesh.cli` alone should cost nothing
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(
                errors="backslashreplace"
            )  # a title in Japanese must not end a command on a Latin-1 terminal
    mesh()

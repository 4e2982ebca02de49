"""The command line: `mesh`.

Owns what people type and read. It must not decide anything about workflows: it reads the read
model, publishes to the public topics, and starts services through `mesh.wiring`. The console script
and `python -m mesh.cli` call it. docs/cli.md has every command's JSON shapes and exit codes.
"""

import gc
import os
import sys
from io import TextIOWrapper
from typing import Final

# as in `exit_codes`, which is not loaded yet
_INTERRUPTED: Final = 130
_OPERATORS: Final = 2

_STDERR: Final = 2  # the number of the last of the three streams


def main() -> None:
    """The console script."""
    # Modules that load are not garbage, and a command makes fewer objects than these: looking for
    # garbage took a tenth of a command's time. Services set their own limits.
    gc.set_threshold(200_000, 20, 100)
    _open_streams()
    try:
        from mesh.cli.app import mesh  # noqa: PLC0415 - `import mesh.cli` alone should cost nothing
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(
                errors="backslashreplace"
            )  # a title in Japanese must not end a command on a Latin-1 terminal
    try:
        mesh()
    except OSError as error:  # the help, which click writes before any command begins
        os.write(2, f"error: the output can't be written: {error.strerror or error}\n".encode())
        sys.exit(_OPERATORS)
    except KeyboardInterrupt:  # while a command's module is loaded
        sys.exit(_INTERRUPTED)
    finally:
        _give_up_what_cannot_be_written()
        # the interpreter looks through everything once more at its end: another tenth
        gc.freeze()


def _give_up_what_cannot_be_written() -> None:
    """Python would write it once more at its end, and tell of the same error in its own words."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _open_streams() -> None:
    """Let streams that the caller closed (`mesh status >&-`) lead nowhere.

    Python has none for them then, and the next file that is opened, perhaps the broker's, would get
    their number and what is meant for a terminal.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        os.set_inheritable(number, True)  # noqa: FBT003 - the only way to call it
    os.close(number)
    sys.stdin = sys.stdin or open(0)  # noqa: SIM115 - for the process's life
    sys.stdout = sys.stdout or open(1, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w")  # noqa: SIM115

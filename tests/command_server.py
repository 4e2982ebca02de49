"""Runs commands of `mesh` for tests, each in a process of its own that has nothing left to import.

Most of a short command's time goes into loading Python modules, and tests run hundreds of them.
This process loads the modules once and forks for each command. The command is `mesh.cli.main` with
its own arguments, environment, folder and streams. `Commands` is the tests' side;
`python command_server.py FD` is the server's, which ends when the tests' side of the socket is
closed.
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryFile
from threading import Lock, Thread
from typing import Final

MOST_BYTES: Final = 200_000  # of one request
WAIT_S: Final = 60.0
KILLED: Final = -signal.SIGKILL


class Commands:
    """The tests' side. Several threads may run commands at once."""

    def __init__(self, env: Mapping[str, str], cwd: Path) -> None:
        self._lock = Lock()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (self._socket, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * MOST_BYTES)
        self._server = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno())],
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )
        theirs.close()

    def run(
        self, arguments: Sequence[str], *, env: Mapping[str, str], cwd: Path, stdin: bytes, timeout_s: float
    ) -> tuple[int, bytes, bytes]:
        """The exit code, standard output and standard error. Raises `TimeoutError`."""
        request = json.dumps([list(arguments), dict(env), str(cwd)]).encode()
        with TemporaryFile() as out, TemporaryFile() as err:
            (given, give), (told, tell) = os.pipe(), os.pipe()
            try:
                with self._lock:
                    socket.send_fds(self._socket, [request], [given, out.fileno(), err.fileno(), tell])
            finally:
                os.close(given)
                os.close(tell)
            Thread(target=_write, args=(give, stdin), daemon=True).start()
            with os.fdopen(told, "rb", buffering=0) as answer:
                code = _code(answer.fileno(), timeout_s)
            return code, _text(out.fileno()), _text(err.fileno())

    def close(self) -> None:
        self._socket.close()
        self._server.wait(WAIT_S)


def _write(fd: int, data: bytes) -> None:
    with suppress(BrokenPipeError), os.fdopen(fd, "wb") as pipe:
        pipe.write(data)


def _text(fd: int) -> bytes:
    return os.pread(fd, os.fstat(fd).st_size, 0)


def _code(fd: int, timeout_s: float) -> int:
    """What the command says: its process id, and its exit code at the end."""
    said, end = b"", time.monotonic() + timeout_s
    while True:
        if not select.select([fd], [], [], max(0.0, end - time.monotonic()))[0]:
            # a command that has not named itself yet can't be killed, and 0 would be all of us
            if said:
                with suppress(ProcessLookupError):
                    os.kill(int(said.split()[0]), signal.SIGKILL)
            raise TimeoutError(f"a command took longer than {timeout_s:g} s")
        more = os.read(fd, 100)
        if not more:
            words = said.split()
            return int(words[1]) if len(words) > 1 else KILLED
        said += more


# The server ---------------------------------------------------------------------------------------


def serve(requests: socket.socket) -> None:
    from mesh.cli.app import COMMANDS  # noqa: PLC0415 - the tests' side needs none of it

    for entry in COMMANDS.values():
        import_module(entry.place.partition(":")[0])
    for name in ("mesh.adapters.sqlite", "mesh.adapters.kafka", "jsonschema"):
        import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the commands here
    while True:
        request, fds, _, _ = socket.recv_fds(requests, MOST_BYTES, 4)
        if not request:
            return
        if os.fork() == 0:
            requests.close()
            _become(request, fds)
        for fd in fds:
            os.close(fd)


def _become(request: bytes, fds: Sequence[int]) -> None:
    """Run the command in this process, and end."""
    arguments, env, cwd = json.loads(request)
    tell = fds[3]
    code = 1
    try:
        os.write(tell, b"%d " % os.getpid())
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.chdir(cwd)
        os.environ.clear()
        os.environ.update(env)
        for number in range(3):
            os.dup2(fds[number], number)
            os.close(fds[number])
        sys.argv = ["mesh", *arguments]
        from mesh.cli import main  # noqa: PLC0415 - loaded already

        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException as error:  # noqa: BLE001 - as a process that ends by a traceback
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        with suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os.write(tell, b"%d" % code)
        os._exit(code)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))

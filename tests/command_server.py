"""Runs commands of `mesh` for tests, each in a process of its own that has nothing left to import.

Most of a short command's time goes into loading Python modules, and tests run hundreds of them.
This process loads the modules once and forks for each command. The command is `mesh.cli.main` with
its own arguments, environment, folder and streams. `Commands` is the tests' side: it runs a command
to its end, or starts one that goes on (`Started`), such as a router. `python command_server.py FD`
is the server's side, which ends when the tests' side of the socket is closed.
"""

import gc
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
        with TemporaryFile() as out, TemporaryFile() as err:
            given, give = os.pipe()
            try:
                told = self._begin(arguments, env, cwd, [given, out.fileno(), err.fileno()])
            finally:
                os.close(given)
            Thread(target=_write, args=(give, stdin), daemon=True).start()
            with os.fdopen(told, "rb", buffering=0) as answer:
                code = _code(answer.fileno(), timeout_s)
            return code, _text(out.fileno()), _text(err.fileno())

    def start(self, arguments: Sequence[str], *, env: Mapping[str, str], cwd: Path, output: int) -> "Started":
        """A process that goes on. `output`: the file for both of its streams."""
        nothing = os.open(os.devnull, os.O_RDONLY)
        try:
            return Started(self._begin(arguments, env, cwd, [nothing, output, output]))
        finally:
            os.close(nothing)

    def _begin(self, arguments: Sequence[str], env: Mapping[str, str], cwd: Path, streams: Sequence[int]) -> int:
        """Have a command begin.

        Returns the pipe on which it says its process id, and its exit code at the end.
        """
        request = json.dumps([list(arguments), dict(env), str(cwd)]).encode()
        told, tell = os.pipe()
        try:
            with self._lock:
                socket.send_fds(self._socket, [request], [*streams, tell])
        finally:
            os.close(tell)
        return told

    def close(self) -> None:
        self._socket.close()
        self._server.wait(WAIT_S)


class Started:
    """A process that was forked for a test. It is used as a `subprocess.Popen`."""

    def __init__(self, told: int) -> None:
        if not select.select([told], [], [], WAIT_S)[0]:
            raise TimeoutError(f"a process was not forked in {WAIT_S:g} s")
        said = os.read(told, 100).split()
        if not said:
            raise ChildProcessError("a process ended before it could say its id")
        self.pid = int(said[0])
        self.returncode: int | None = None
        self._told, self._said = told, said
        try:
            self._process: int | None = os.pidfd_open(self.pid)
        except ProcessLookupError:  # it has ended
            self._process = None

    def poll(self) -> int | None:
        return self._wait(0)

    def wait(self, timeout_s: float) -> int:
        """The exit code. Raises `TimeoutError`."""
        code = self._wait(timeout_s)
        if code is None:
            raise TimeoutError(f"process {self.pid} did not end in {timeout_s:g} s")
        return code

    def send_signal(self, number: int) -> None:
        """Nothing happens to a process that has ended."""
        if self.poll() is None and self._process is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._process, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _wait(self, timeout_s: float) -> int | None:
        if self.returncode is None and (self._process is None or select.select([self._process], [], [], timeout_s)[0]):
            # all that it will ever say is there
            with os.fdopen(self._told, "rb") as rest:
                said = [*self._said, *rest.read().split()]
            self.returncode = int(said[1]) if len(said) > 1 else KILLED
            if self._process is not None:
                os.close(self._process)
        return self.returncode


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
    # Otherwise each child's collector would walk all that is loaded, and so copy its pages.
    gc.collect()
    gc.freeze()
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
        os.set_inheritable(tell, False)
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

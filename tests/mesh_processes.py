"""A mesh of real processes for tests: routers and agents that can be stopped, killed and frozen.

It runs on SQLite or on Kafka. Owns folders, environments and processes. Everything is under the
test's own folder and topic prefix, and every process is ended by its id.
"""

import asyncio
import atexit
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import apsw
from command_server import Commands, Started

from mesh.adapters.system import SystemClock, SystemEntropy
from mesh.codec.outcomes import Outcome, decode_outcome
from mesh.core.topics import Topics
from mesh.ports import Broker, TopicPartition
from mesh.services.client import Client
from mesh.settings import Settings, load_settings
from mesh.wiring import make_topics, open_broker

ROOT = Path(__file__).resolve().parent.parent
WAIT_S = 120.0  # generous: the machine may be busy

_STARTED = ("router_starts", "agent_started", "notifier_starts", "gateway_listens", "console at http")

Got = TypeVar("Got")


class Ran(NamedTuple):
    """The result of a `mesh` command."""

    code: int
    out: bytes
    err: str

    @property
    def json(self) -> Any:
        """What `--json` printed."""
        return json.loads(self.out)

    @property
    def error(self) -> Any:
        """What a failing command printed with `--json`."""
        return json.loads(self.err)["error"]


class Process:
    """One process of the mesh. Its output goes to a file that a failing test can show.

    `command`: the words after `mesh`, or a whole command of its own, which begins with `python`'s
    path. The first is forked from a process that has the mesh loaded, the second is a new
    interpreter.
    """

    def __init__(self, name: str, command: Sequence[str], env: dict[str, str], log: Path) -> None:
        self.name, self.log = name, log
        self._process: subprocess.Popen[bytes] | Started
        with log.open("ab") as output:
            if command[0] == sys.executable:
                self._process = subprocess.Popen(
                    command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
                )
            else:
                self._process = commands().start(command, env=env, cwd=ROOT, output=output.fileno())

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        """Kill the process as `kill -9` does, without a goodbye."""
        self._process.kill()
        self._process.wait(WAIT_S)

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def wait_started(self) -> None:
        """Wait until the process runs.

        Before that, a signal would end it as it ends a bare interpreter.
        """
        end = time.monotonic() + WAIT_S
        while not any(sign in self.text() for sign in _STARTED):
            assert self.is_alive, f"{self.name} ended with {self._process.returncode}\n{self.text()[-3000:]}"
            assert time.monotonic() < end, f"{self.name} does not start\n{self.text()[-3000:]}"
            time.sleep(0.02)

    def stop(self) -> int:
        """Stop gracefully. Returns the exit status."""
        self.wait_started()
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(WAIT_S)

    def text(self) -> str:
        return self.log.read_text(errors="replace")


def freeze_between_transactions(pid: int, file: Path) -> None:
    """Stop a process with SIGSTOP while it holds no lock of the SQLite file.

    Stopped inside a transaction it would hold up every writer, as docs/architecture.md says.
    """
    connection = apsw.Connection(str(file))
    connection.set_busy_timeout(2_000)  # much longer than the others' own transactions
    try:
        while True:
            os.kill(pid, signal.SIGSTOP)
            try:
                connection.execute("BEGIN IMMEDIATE; ROLLBACK")
            except apsw.BusyError:
                os.kill(pid, signal.SIGCONT)
                time.sleep(0.05)  # it must come out of its transaction before the next try
            else:
                return
    finally:
        connection.close()


@cache
def commands() -> Commands:
    """What runs the commands of this whole run, until its end."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    server = Commands({**os.environ, "PYTHONPATH": path}, ROOT)
    atexit.register(server.close)
    return server


class MeshProcesses:
    """All processes of one mesh, and a connection to its broker."""

    def __init__(self, broker: str, folder: Path, *, prefix: str = "mesh.", session_timeout_s: float = 3.0) -> None:
        self.broker_url, self.folder, self.prefix = broker, folder, prefix
        self.session_timeout_s = session_timeout_s
        self.topics = Topics(prefix)
        self.routes = folder / "routes"
        self.approvers = folder / "approvers.yaml"
        self.processes: list[Process] = []
        self.routes.mkdir(parents=True, exist_ok=True)

    def env(self, **more: str) -> dict[str, str]:
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("MESH_")},
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
            "MESH_BROKER": self.broker_url,
            "MESH_DURABILITY": "normal",  # no test cuts the power, and many are faster so
            "MESH_TOPIC_PREFIX": self.prefix,
            "MESH_DATA_DIR": str(self.folder / "data"),
            "MESH_ROUTES": str(self.routes),
            "MESH_APPROVERS": str(self.approvers),
            "MESH_LOG_FORMAT": "json",
            "MESH_SESSION_TIMEOUT_S": str(self.session_timeout_s),
            "MESH_CHECKPOINT_INTERVAL_S": "1",
            "MESH_OUTBOX": str(self.folder / "outbox.jsonl"),
            "MESH_DUPLICATES_INDEX": str(self.folder / "duplicates.db"),
            **more,
        }

    def settings(self) -> Settings:
        return load_settings(
            broker=self.broker_url,
            topic_prefix=self.prefix,
            data_dir=self.folder / "data",
            routes=(self.routes,),
            approvers=self.approvers,
        )

    def router(self, name: str = "router", **env: str) -> Process:
        return self._start(name, ["router"], env)

    def agent(self, *modules: str, name: str = "", **env: str) -> Process:
        return self._start(name or modules[0].rpartition(".")[2], ["agent", *modules], env)

    def notifier(self, name: str = "notifier", **env: str) -> Process:
        return self._start(name, ["notifier"], env)

    def gateway(self, name: str = "gateway", **env: str) -> Process:
        return self._start(name, ["gateway"], {"MESH_GATEWAY_ADDRESS": "127.0.0.1:0", **env})

    def console(self, name: str = "console", **env: str) -> Process:
        return self._start(name, ["console"], {"MESH_CONSOLE_ADDRESS": "127.0.0.1:0", **env})

    def command(self, name: str, *arguments: str) -> Process:
        """A command of `mesh` that may be killed while it runs."""
        return self._start(name, arguments, {})

    async def cli(self, *arguments: str | Path, stdin: bytes = b"", code: int | None = 0, **env: str) -> Ran:
        """Run a command of `mesh` to its end. `code`: the exit code to expect (None: any)."""
        ended = await asyncio.to_thread(
            commands().run, [*map(str, arguments)], env=self.env(**env), cwd=ROOT, stdin=stdin, timeout_s=WAIT_S
        )
        ran = Ran(ended[0], ended[1], ended[2].decode())
        assert code in {None, ran.code}, f"mesh {arguments}: {ran}\n{self.logs()}"
        return ran

    async def json(self, *arguments: str | Path) -> Any:
        """What a command that succeeds prints with `--json`."""
        return (await self.cli(*arguments, "--json")).json

    async def wait_settled(self) -> Any:
        """Wait until routers have read everything and reported it.

        Returns `mesh status --json` of that moment.
        """

        async def settled() -> Any:
            status = await self.json("status")
            ingress = sum(one["lag"] for one in status["ingress"])
            return (
                status
                if not ingress + sum(one["inbox_lag"] + one["results_lag"] for one in status["partitions"])
                else None
            )

        return await self.wait_until("everything is read", settled)

    def _start(self, name: str, command: Sequence[str], env: dict[str, str]) -> Process:
        number = len(self.processes)
        own = self.env(
            MESH_INSTANCE=f"{name}-{number}", MESH_HEARTBEAT_FILE=str(self.folder / f"heartbeat-{number}"), **env
        )
        # what is forked runs the code that its parent has loaded
        words = [sys.executable, "-m", "mesh", *command] if "PYTHONPATH" in env else command
        process = Process(name, words, own, self.folder / f"{number:02}-{name}.log")
        self.processes.append(process)
        return process

    def freeze(self, process: Process) -> None:
        """Stop the process, but not inside a SQLite transaction."""
        if self.broker_url.startswith("sqlite://"):
            freeze_between_transactions(process.pid, Path(self.broker_url.removeprefix("sqlite://")))
        else:
            process.freeze()

    def end(self) -> None:
        """Kill every process that is left."""
        for process in self.processes:
            if process.is_alive:
                process.kill()

    def logs(self) -> str:
        """The end of every process's output, for a failing test."""
        return "\n".join(f"--- {p.log.name}\n{p.text()[-3000:]}" for p in self.processes)

    async def open_broker(self) -> Broker:
        return await open_broker(self.broker_url, client_id="test", settings=self.settings())

    @asynccontextmanager
    async def broker(self) -> AsyncIterator[Broker]:
        """A connection to the mesh's broker, which is closed whatever happens."""
        broker = await self.open_broker()
        try:
            yield broker
        finally:
            await broker.close()

    async def make_topics(self, *agents: str) -> None:
        broker = await self.open_broker()
        try:
            await make_topics(broker, self.settings(), agents)
        finally:
            await broker.close()

    async def client(self) -> Client:
        return Client(await self.open_broker(), self.topics, clock=SystemClock(), entropy=SystemEntropy())

    async def wait_outcomes(self, count: int, *, timeout_s: float = WAIT_S) -> dict[str, Outcome]:
        """Wait until `count` workflows have ended. Returns their outcomes by workflow id."""
        broker = await self.open_broker()
        outcomes: dict[str, Outcome] = {}
        try:
            reader = await broker.reader()
            info = (await broker.topics())[self.topics.outcomes]
            reader.assign({TopicPartition(self.topics.outcomes, p): 0 for p in range(info.partitions)})
            end = time.monotonic() + timeout_s
            while len(outcomes) < count:
                for record in await reader.poll(max_records=1000, timeout_s=0.5):
                    outcome = decode_outcome(record)
                    outcomes[outcome.workflow_id] = outcome
                if time.monotonic() > end:
                    raise AssertionError(f"{len(outcomes)} of {count} workflows ended in time\n{self.logs()}")
        finally:
            await broker.close()
        return outcomes

    async def wait_until(
        self, what: str, condition: Callable[[], Awaitable[Got | None]], *, timeout_s: float = WAIT_S
    ) -> Got:
        """Wait until `condition` gives something, and return it.

        It is asked at intervals, for things that can only be asked for.
        """
        end = time.monotonic() + timeout_s
        while True:
            got = await condition()
            if got is not None and got is not False:
                return got
            if time.monotonic() > end:
                raise AssertionError(f"{what}: not in time\n{self.logs()}")
            await asyncio.sleep(0.1)


@contextmanager
def mesh_processes(broker: str, folder: Path, **options: Any) -> Iterator[MeshProcesses]:
    """A mesh whose processes end with the block, whatever happened in it."""
    mesh = MeshProcesses(broker, folder, **options)
    try:
        yield mesh
    finally:
        mesh.end()

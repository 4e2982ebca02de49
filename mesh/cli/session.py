"""What every command needs: settings, the broker, the read model, and a way to print.

Owns how they are opened and closed, and whether a command prints for people or for programs. It
must not know any command.
"""

import asyncio
import functools
import logging
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, TypeVar, cast

import click
import msgspec
from rich.console import Console, RenderableType
from rich.text import Text

from mesh.adapters.system import SystemClock, SystemEntropy
from mesh.cli.text.format import counted
from mesh.codec import exact_json
from mesh.core.topics import Topics
from mesh.errors import NotFound, OperatorError
from mesh.inspection.inbox import Inbox, inbox_path
from mesh.inspection.read_model import model_path
from mesh.observability import configure_logging
from mesh.ports import Broker
from mesh.services.client import Client
from mesh.settings import Settings, SqliteAddress, load_settings, parse_broker_url
from mesh.wiring import open_broker

if TYPE_CHECKING:
    from mesh.cli.remote.api import Api
    from mesh.codec.signing_keys import SigningKey
    from mesh.inspection.read_model import ReadModel

P = ParamSpec("P")
T = TypeVar("T")

WIDE: Final = 200  # columns if the output is not a terminal: better a long line than a cut id
PROGRESS_FROM: Final = 5_000  # from this many records to catch up, a person is shown a line


class Session:
    """One run of a command."""

    def __init__(self, settings: Settings, *, as_json: bool, api: "Api | None" = None) -> None:
        self.settings = settings
        self.api = api
        """The console that is asked instead of a broker."""
        self.as_json = as_json
        self.topics = Topics(settings.topic_prefix)
        self.clock = SystemClock()
        self.out = console(sys.stdout)
        self.err = console(sys.stderr)
        self.key_file: Path | None = None  # of who answers, and signs
        self._key: SigningKey | None = None

    @property
    def is_interactive(self) -> bool:
        """Whether a person can be asked."""
        return not self.as_json and sys.stdin.isatty() and sys.stdout.isatty()

    def confirm_apply(self) -> None:
        """Ask on a terminal. Raises `OperatorError` if nobody can be asked, or the answer is no."""
        if not self.is_interactive:
            raise OperatorError("nothing is applied: there is no terminal to ask on, so it needs --yes")
        if not click.confirm("Apply this?", err=True):
            raise OperatorError("nothing is applied")

    def now_ms(self) -> int:
        return self.clock.now_ms()

    def fresh_id(self) -> str:
        return SystemEntropy().token()

    def signing_key(self) -> "SigningKey | None":
        """The key that signs answers; None: they are not signed. Asks once for its passphrase."""
        if self.key_file is not None and self._key is None:
            from mesh.codec.signing_keys import is_encrypted, load_key  # noqa: PLC0415 - only who signs needs it

            secret: str | None = None
            if is_encrypted(self.key_file):
                if not sys.stdin.isatty():
                    raise OperatorError(f"the key {self.key_file} has a passphrase, and there is no terminal to ask on")
                secret = click.prompt(f"passphrase of {self.key_file}", hide_input=True, err=True)
            self._key = load_key(self.key_file, secret)
        return self._key

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run(work)

    def emit(self, document: Any) -> None:
        """Print a value as JSON. Structs are printed by their fields."""
        plain = msgspec.to_builtins(document)
        click.echo(exact_json.encode(plain, indent=True).decode())

    def show(self, *parts: RenderableType) -> None:
        """Print for people."""
        for part in parts:
            self.out.print(part, soft_wrap=isinstance(part, str | Text) and not self.out.is_terminal)

    def note(self, text: str) -> None:
        """Tell a person something that is not a result. Silent if a program reads."""
        if not self.as_json:
            self.err.print(text, style="dim", markup=False)

    @asynccontextmanager
    async def broker(self, *, read_only: bool = False) -> AsyncIterator[Broker]:
        if self.api is not None:
            raise _needs_broker()
        if read_only:
            self._check_file()
        broker = await open_broker(
            self.settings.broker, client_id="mesh-cli", settings=self.settings, read_only=read_only
        )
        try:
            yield broker
        finally:
            await broker.close()

    @asynccontextmanager
    async def model(self, *, read_only: bool = True) -> "AsyncIterator[tuple[Broker, ReadModel]]":
        """The broker and the read model, caught up. `read_only`: the command sends nothing."""
        from mesh.inspection.read_model import ReadModel  # noqa: PLC0415 - it takes as long to load as all else together

        path = model_path(self.settings.data_dir, self.settings.broker, self.settings.topic_prefix)
        async with (
            self.broker(read_only=read_only) as broker,
            ReadModel(broker, self.topics, path, on_progress=self._progress(), on_full=self._tell_full) as model,
        ):
            await model.catch_up()
            yield broker, model

    @asynccontextmanager
    async def inbox(self, *, read_only: bool = True) -> AsyncIterator[tuple[Broker, Inbox]]:
        """The broker and what is open for people, caught up. It reads no log."""
        if self.api is not None:
            from mesh.cli.remote.inbox import RemoteInbox  # noqa: PLC0415 - only where there is no broker

            async with RemoteInbox(self.api) as remote:
                await remote.catch_up()
                yield cast("Broker", _NoBroker()), remote
            return
        path = inbox_path(self.settings.data_dir, self.settings.broker, self.settings.topic_prefix)
        async with (
            self.broker(read_only=read_only) as broker,
            Inbox(
                broker,
                self.topics,
                path,
                now_ms=self.now_ms,
                on_progress=self._progress(),
                on_unkept=self._tell_unkept,
            ) as inbox,
        ):
            await inbox.catch_up()
            yield broker, inbox

    def _tell_full(self, why: str) -> None:
        """Warn on standard error that the cache has no room, even if a program reads the output."""
        warning = f"no room in MESH_DATA_DIR ({self.settings.data_dir}): {why}; this command reads the log into memory"
        click.echo(f"warning: {warning}", err=True)

    def _tell_unkept(self, why: str) -> None:
        """Also where a program reads: on standard error."""
        folder = self.settings.data_dir
        click.echo(
            f"warning: the inbox can't be kept in MESH_DATA_DIR ({folder}): {why}; each command reads it again",
            err=True,
        )

    def _check_file(self) -> None:
        address = parse_broker_url(self.settings.broker)
        if isinstance(address, SqliteAddress) and not address.path.exists():
            raise NotFound(
                f"there is no mesh at {address.path} yet: `mesh dev` starts one, or say with --broker where it is"
            )

    def client(self, broker: Broker) -> Client:
        """A client over a broker that its caller closes."""
        return Client(
            broker,
            self.topics,
            clock=self.clock,
            entropy=SystemEntropy(),
            max_event_bytes=self.settings.max_event_bytes,
        )

    def _progress(self) -> Callable[[int], None]:
        told = False

        def tell(left: int) -> None:
            nonlocal told
            if left >= PROGRESS_FROM and not told and self.err.is_terminal:
                told = True
                self.note(f"reading {counted(left, 'record')} that are new since the last command ...")

        return tell


class _NoBroker:
    """In the place of a broker, where the console is asked: what needs one says so."""

    def __getattr__(self, name: str) -> Any:
        raise _needs_broker()


def _needs_broker() -> OperatorError:
    return OperatorError(
        "this needs the broker, and MESH_CONSOLE_TOKEN_FILE is set, so the console is asked: give --broker URL. Over the "
        "console there are mesh approvals, workflows and its verbs, incidents, operations, dlq and status"
    )


def api_of(settings: Settings, *, broker: str | None) -> "Api | None":
    """The console that is asked; None: the broker is. `broker`: the one that a command names."""
    if settings.console_token_file is None or broker is not None:
        return None
    from mesh.cli.remote.api import Api  # noqa: PLC0415 - slow to load, and few need it

    return Api(settings.console_url, settings.console_token_file)


def console(stream: Any) -> Console:
    """A console as wide as the terminal or COLUMNS, else wide enough for whole ids."""
    known = stream.isatty() or "COLUMNS" in os.environ
    return Console(file=stream, highlight=False, width=None if known else WIDE)


def mesh_command(function: Callable[Concatenate[Session, P], None]) -> Callable[..., None]:
    """Give a command `--broker` and `--json`, and a `Session` as its first argument."""

    @click.option("--broker", metavar="URL", help="sqlite://PATH or kafka://HOST:PORT (else MESH_BROKER).")
    @click.option("--json", "as_json", is_flag=True, help="Print JSON for programs (shapes in docs/cli.md).")
    @functools.wraps(function)
    def command(*args: P.args, **options: P.kwargs) -> None:
        broker: Any = options.pop("broker")
        as_json = options.pop("as_json")
        settings = load_settings(broker=broker)
        configure_logging(level="warning", log_format=settings.log_format)
        # a failure is reported once, as an error of the mesh
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
        function(Session(settings, as_json=bool(as_json), api=api_of(settings, broker=broker)), *args, **options)

    return command

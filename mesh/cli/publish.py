"""`mesh publish`: events from options, a file, a GitHub payload or standard input.

Owns how events are read and checked; `mesh.services.client` sends them.
"""

import asyncio
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import click

from mesh.cli.exit_codes import INTERRUPTED
from mesh.cli.github import check_delivery, delivery_options, github_event
from mesh.cli.lines import Lines
from mesh.cli.session import Session, mesh_command
from mesh.cli.text.format import counted, printable
from mesh.codec import exact_json
from mesh.codec.cloudevents import normal_event, present
from mesh.errors import MalformedRecord, MeshError
from mesh.services.client import Client

BATCH: Final = 500


def json_option(text: str, option: str) -> Any:
    """The JSON value of an option: of the file in `@FILE`, or of the text itself."""
    raw: bytes | str = text
    if text.startswith("@"):
        try:
            raw = Path(text[1:]).read_bytes()
        except OSError as error:
            raise click.BadParameter(f"{text[1:]} can't be read: {error.strerror}", param_hint=option) from error
    try:
        return exact_json.decode(raw)
    except exact_json.NotJson as error:
        raise click.BadParameter(f"{error}; write '{{\"a\": 1}}', '\"text\"', or @FILE", param_hint=option) from error
    except exact_json.JsonRefused as error:
        raise click.BadParameter(str(error), param_hint=option) from error


@click.command(short_help="Publish events.")
@click.argument("source_file", metavar="[FILE | -]", required=False)
@click.option("--type", "event_type", metavar="TYPE", help="CloudEvents type, e.g. com.example.order.placed.")
@click.option("--source", metavar="URI", help="CloudEvents source: who says so.")
@click.option("--id", "event_id", metavar="ID", help="The event's id; a fresh one without it.")
@click.option("--subject", metavar="TEXT", help="What it is about.")
@click.option("--data", metavar="JSON|@FILE", help="Its data.")
@click.option(
    "--github",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The body of a GitHub webhook.",
)
@delivery_options
@click.option("--key", metavar="TEXT", help="The record's key; events of one key stay in order.")
@mesh_command
def publish(
    session: Session,
    *,
    source_file: str | None,
    event_type: str | None,
    source: str | None,
    event_id: str | None,
    subject: str | None,
    data: str | None,
    github: Path | None,
    delivery: str | None,
    kind: str | None,
    key: str | None,
) -> None:
    """Publish events.

    They come from options, from a FILE with one CloudEvent in JSON (or a list of them), or from
    standard input (-), one on each line.

    \b
    mesh publish --type com.example.order.placed --source /shop --data '{"order": 7}'
    mesh publish --github payload.json --delivery 72d3162e-cc78-11e3-81ab-4c9367dc0958
    mesh publish --github push.json --kind push
    mesh publish event.json
    producer | mesh publish -

    Lines are sent as they come. Ctrl-C sends what was read, and says how many events were
    published.

    An event that was published before (the same id and source) changes nothing.
    """  # noqa: D301 - \b is click\'s mark of a paragraph to leave as it is
    given = {"type": event_type, "source": source, "id": event_id, "subject": subject}
    attributes = {name: value for name, value in given.items() if value is not None}
    ways = [source_file is not None, github is not None, bool(attributes) or data is not None]
    if sum(ways) != 1:
        raise click.UsageError("say what to publish in one way: --type with --source, --github FILE, a FILE, or -")
    check_delivery(is_github=github is not None, delivery=delivery, kind=kind)
    if source_file == "-":
        if not session.run(_publish_lines(session, sys.stdin.buffer, key)):
            sys.exit(INTERRUPTED)
        return
    if github is not None:
        events = [github_event(github.read_bytes(), delivery=delivery, kind=kind)]
    elif source_file is None:
        events = [_of_options(attributes, data)]
    else:
        events = _of_file(Path(source_file))
    session.run(_publish(session, events, key))


def _of_options(attributes: dict[str, str], data: str | None) -> dict[str, Any]:
    missing = [f"--{name}" for name in ("type", "source") if name not in attributes]
    if missing:
        raise click.UsageError(f"an event needs {' and '.join(missing)}")
    return attributes if data is None else {**attributes, "data": json_option(data, "--data")}


def _of_file(path: Path) -> list[dict[str, Any]]:
    try:
        document = exact_json.decode(path.read_bytes())
    except OSError as error:
        raise click.BadParameter(f"{path} can't be read: {error.strerror}", param_hint="FILE") from error
    except exact_json.JsonRefused as error:
        raise MalformedRecord(f"{path}: {error}") from error
    events = document if isinstance(document, list) else [document]
    return [_checked(event, str(path)) for event in events]


def _checked(event: Any, where: str) -> dict[str, Any]:
    if not isinstance(event, dict):
        raise MalformedRecord(f"{where}: a CloudEvent is a JSON object with id, source, type and data")
    try:
        normal_event({"specversion": "1.0", "id": "-", **present(event)})
    except MalformedRecord as error:
        raise MalformedRecord(f"{where}: {error}") from error
    return event


class _Sent:
    """What this command has published so far."""

    def __init__(self, session: Session, client: Client, key: str | None) -> None:
        self._session = session
        self._client = client
        self._key = key
        self._done: list[dict[str, Any]] = []  # all of them with --json, else the first
        self.count = 0

    async def send(self, events: Sequence[dict[str, Any]]) -> None:
        """Send the events in batches. An error says what was published before it."""
        try:
            for first in range(0, len(events), BATCH):
                await self._send(events[first : first + BATCH])
        except MeshError as error:
            error.args = (f"{error}{self.before()}",)
            raise

    async def _send(self, batch: Sequence[dict[str, Any]]) -> None:
        ids = await self._client.publish_all(batch, key=self._key)
        for event_id, event in zip(ids, batch, strict=True):
            if self._session.as_json or not self.count:
                self._done.append({"id": event_id, "source": event["source"], "type": event["type"]})
            self.count += 1

    def before(self) -> str:
        return f" ({counted(self.count, 'event')} before it: published)" if self.count else ""

    def tell(self) -> None:
        if self._session.as_json:
            self._session.emit({"published": self._done})
        elif self.count == 1:
            self._session.show(f"published {printable(self._done[0]['id'])}")
            self._session.note(f"what becomes of it: mesh event '{printable(self._done[0]['id'])}'")
        else:
            self._session.show(f"published {counted(self.count, 'event')}")


async def _publish(session: Session, events: Sequence[dict[str, Any]], key: str | None) -> None:
    """Publish the events in batches.

    If a line is malformed, those before it are published, and the output says so.
    """
    async with session.broker() as broker:
        sent = _Sent(session, session.client(broker), key)
        await sent.send(events)
    sent.tell()


async def _publish_lines(session: Session, stream: Any, key: str | None) -> bool:
    """Publish each line as it comes.

    False: it was interrupted, and all that was read before is sent.
    """
    async with session.broker() as broker:
        sent, lines = _Sent(session, session.client(broker), key), Lines(stream)
        _stop_on_signals(lines.stop)
        number = 0
        async for batch in lines.batches():
            await _send_lines(sent, batch, number, session.settings.max_event_bytes // 2)
            number += len(batch)
    if lines.is_stopped and not session.as_json:
        session.show(f"interrupted; published {counted(sent.count, 'event')}")
    else:
        sent.tell()
    return not lines.is_stopped


async def _send_lines(sent: _Sent, lines: Sequence[bytes], number: int, large_bytes: int) -> None:
    """Send the events of these lines.

    If a line can't be sent, the lines before it are published, and the error says so.
    """
    events: list[dict[str, Any]] = []
    for line in lines:
        number += 1
        if not line.strip():
            continue
        if len(line) > large_bytes:  # it may be too large, and only those before it are to be sent then
            await sent.send(events)
            events = []
        try:
            events.append(_of_line(line, number))
        except MalformedRecord as error:
            await sent.send(events)
            raise MalformedRecord(f"{error}{sent.before()}") from error
    await sent.send(events)


def _of_line(line: bytes, number: int) -> dict[str, Any]:
    try:
        return _checked(exact_json.decode(line), f"line {number}")
    except exact_json.JsonRefused as error:
        raise MalformedRecord(f"line {number}: {error}") from error


def _stop_on_signals(stop: Callable[[], None]) -> None:
    """The first signal ends the reading; the second ends the command at once."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)

    def first() -> None:
        for number in numbers:
            loop.remove_signal_handler(number)
        stop()

    with suppress(NotImplementedError, RuntimeError, ValueError):  # not the main thread, or Windows
        for number in numbers:
            loop.add_signal_handler(number, first)

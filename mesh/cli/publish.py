"""`mesh publish`: events from options, a file, a GitHub payload, or JSON lines on standard input."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import click

from mesh.cli.session import Session, mesh_command
from mesh.cli.text.format import counted, printable
from mesh.codec import exact_json
from mesh.codec.cloudevents import validate_event
from mesh.codec.github import issue_event, read_payload
from mesh.errors import MalformedRecord
from mesh.services.client import Client

BATCH: Final = 500


def json_option(text: str, option: str) -> Any:
    """The JSON of an option: `@FILE`, or JSON itself."""
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
    help="The body of a GitHub `issues` webhook.",
)
@click.option(
    "--delivery", metavar="ID", help="With --github: the X-GitHub-Delivery header, which becomes the event's id."
)
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
    key: str | None,
) -> None:
    """Publish events: of options, of a FILE with one CloudEvent in JSON (or a list of them), or of standard input (-), one a line.

    \b
    mesh publish --type com.example.order.placed --source /shop --data '{"order": 7}'
    mesh publish --github payload.json --delivery 72d3162e-cc78-11e3-81ab-4c9367dc0958
    mesh publish event.json
    producer | mesh publish -

    An event that was published before (the same id and source) changes nothing.
    """  # noqa: D301 - \b is click\'s mark of a paragraph to leave as it is
    given = {"type": event_type, "source": source, "id": event_id, "subject": subject}
    attributes = {name: value for name, value in given.items() if value is not None}
    ways = [source_file is not None, github is not None, bool(attributes) or data is not None]
    if sum(ways) != 1:
        raise click.UsageError("say what to publish in one way: --type with --source, --github FILE, a FILE, or -")
    if github is None and delivery is not None:
        raise click.UsageError("--delivery is the id of a GitHub webhook's delivery; it needs --github")
    if github is not None:
        raw = github.read_bytes()
        events: Iterable[dict[str, Any]] = [issue_event(read_payload(raw), delivery=delivery, raw=raw)]
    elif source_file is None:
        events = [_of_options(attributes, data)]
    elif source_file == "-":
        events = _of_lines(sys.stdin.buffer)
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


def _of_lines(stream: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(stream, 1):
        if not line.strip():
            continue
        try:
            yield _checked(exact_json.decode(line), f"line {number}")
        except exact_json.JsonRefused as error:
            raise MalformedRecord(f"line {number}: {error}") from error


def _checked(event: Any, where: str) -> dict[str, Any]:
    if not isinstance(event, dict):
        raise MalformedRecord(f"{where}: a CloudEvent is a JSON object with id, source, type and data")
    try:
        validate_event({"specversion": "1.0", "id": "-", **event})
    except MalformedRecord as error:
        raise MalformedRecord(f"{where}: {error}") from error
    return event


async def _publish(session: Session, events: Iterable[dict[str, Any]], key: str | None) -> None:
    """In batches; what stood before a malformed line is published, and said to be."""
    done: list[dict[str, Any]] = []
    async with session.broker() as broker:
        client = session.client(broker)
        batch: list[dict[str, Any]] = []
        try:
            for event in events:
                batch.append(event)
                if len(batch) == BATCH:
                    done += await _send(client, batch, key)
                    batch = []
            done += await _send(client, batch, key)
        except MalformedRecord as error:
            done += await _send(client, batch, key)
            before = f" ({counted(len(done), 'event')} before it: published)" if done else ""
            raise MalformedRecord(f"{error}{before}") from error
    if session.as_json:
        session.emit({"published": done})
    elif len(done) == 1:
        session.show(f"published {printable(done[0]['id'])}")
        session.note(f"what becomes of it: mesh event '{printable(done[0]['id'])}'")
    else:
        session.show(f"published {counted(len(done), 'event')}")


async def _send(client: Client, batch: list[dict[str, Any]], key: str | None) -> list[dict[str, Any]]:
    ids = await client.publish_all(batch, key=key) if batch else []
    return [
        {"id": event_id, "source": event["source"], "type": event["type"]}
        for event_id, event in zip(ids, batch, strict=True)
    ]

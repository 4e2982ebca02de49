"""`mesh log verify | export`: fold the log from the broker, and give one workflow to an auditor.

Owns the comparison of two folds. `verify` uses no read model and no checkpoint, so its result
depends on the log alone.
"""

import sys
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import click
from rich.text import Text

from mesh.cli.exit_codes import FAILED
from mesh.cli.session import Session, mesh_command
from mesh.cli.text.format import counted, printable
from mesh.codec import exact_json
from mesh.codec.jws_bodies import mesh_of
from mesh.codec.log import decode_log_record
from mesh.codec.state import canonical_workflow
from mesh.core import ids
from mesh.core.replay import PartitionFold
from mesh.errors import NotFound, OperatorError
from mesh.inspection.audit.bundle import Head, bundle_lines
from mesh.ports import Broker, Record, TopicPartition
from mesh.services.reading import read_up_to


@click.group(short_help="Fold and verify the log.")
def log() -> None:
    """The log of decisions: the only truth."""


@log.command(short_help="Fold the whole log, and print each workflow's digest.")
@click.option(
    "--against",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help='Compare with a file of digests by workflow id, e.g. another run\'s --json: {"workflows": {ID: DIGEST}}.',
)
@mesh_command
def verify(session: Session, *, against: Path | None) -> None:
    """Fold the whole log from the broker, and print each workflow's digest.

    It uses no read model and no checkpoint. A digest is the SHA-256 of the workflow's canonical
    JSON. Two folds of one log agree on every digest. Exits with 1 if --against differs.
    """
    expected = None if against is None else _read_digests(against)
    found, records = session.run(_fold(session))
    differing = _compare(expected, found) if expected is not None else {}
    if session.as_json:
        session.emit({"workflows": found, "records": records, "differing": differing})
    else:
        for workflow_id, digest in found.items():
            style = "red" if workflow_id in differing else "default"
            session.show(Text(f"{digest}  {printable(workflow_id)}", style=style))
        for workflow_id, problem in differing.items():
            session.show(Text(f"! {printable(workflow_id)}: {problem}", style="red"))
        said = f"{counted(len(found), 'workflow')} of {counted(records, 'record')}"
        same = "" if expected is None else ("; all agree" if not differing else f"; {len(differing)} differ")
        session.note(said + same)
    if differing:
        sys.exit(FAILED)


@log.command(short_help="Write a workflow's decisions, and the records of people, to a file.")
@click.option("--workflow", "workflow_id", metavar="ID", required=True, help="The whole id of the workflow.")
@mesh_command
def export(session: Session, *, workflow_id: str) -> None:
    """Print a bundle for `mesh audit verify`: a line of JSON for each record, as the broker has it.

    It has all decisions about the workflow, and all people, roles and keys of all times. Only who
    may read the log can do this.

    mesh log export --workflow refund:4711 > refund-4711.jsonl
    """
    for line in session.run(_export(session, workflow_id)):
        click.echo(line)  # bytes, as they are


async def _export(session: Session, workflow_id: str) -> list[bytes]:
    topics = session.topics
    async with session.broker(read_only=True) as broker:
        found = await broker.topics()
        info = found.get(topics.log)
        if info is None:
            raise NotFound(f"this broker has no topic {topics.log}: no mesh was set up here (check --broker)")
        partition = ids.partition_of_key(workflow_id.encode(), info.partitions)
        mesh = mesh_of(topics.prefix, await broker.cluster_id())
        head = Head(bundle=1, mesh=mesh, workflow_id=workflow_id, log=topics.log, partition=partition)
        kept = [name for name in (topics.people, topics.delegations) if name in found]
        people = [record for name in kept for record in await _all(broker, TopicPartition(name, 0))]
        decisions = await _all(broker, TopicPartition(topics.log, partition))
    if not any(record.key == workflow_id.encode() for record in decisions):
        raise NotFound(f"the log has no decision about {workflow_id}: give the whole id (`mesh workflows list`)")
    return list(bundle_lines(head, people, decisions))


async def _all(broker: Broker, place: TopicPartition) -> list[Record]:
    """All records of a partition, up to its end."""
    ends, begins = await broker.end_offsets([place]), await broker.begin_offsets([place])
    reader = await broker.reader()
    try:
        reader.assign(begins)
        return [one async for batch in read_up_to(reader, ends) for one in batch if one.offset < ends[place]]
    finally:
        await reader.close()


async def _fold(session: Session) -> tuple[dict[str, str], int]:
    topic = session.topics.log
    async with session.broker(read_only=True) as broker:
        info = (await broker.topics()).get(topic)
        if info is None:
            raise NotFound(f"this broker has no topic {topic}: no mesh was set up here (check --broker and the prefix)")
        partitions = [TopicPartition(topic, p) for p in range(info.partitions)]
        ends, begins = await broker.end_offsets(partitions), await broker.begin_offsets(partitions)
        folds = {tp: PartitionFold(tp.partition, next_offset=begins[tp]) for tp in partitions}
        reader = await broker.reader()
        reader.assign(begins)
        records = 0
        async for batch in read_up_to(reader, ends):
            for record in batch:
                where = TopicPartition(record.topic, record.partition)
                if record.offset < ends[where]:
                    folds[where].apply(record.offset, decode_log_record(record))
                    records += 1
        await reader.close()
    states = {name: state for fold in folds.values() for name, state in fold.state.workflows.items()}
    return {name: "sha256:" + sha256(canonical_workflow(states[name])).hexdigest() for name in sorted(states)}, records


def _read_digests(path: Path) -> Mapping[str, str]:
    try:
        document = exact_json.decode(path.read_bytes())
        digests = document.get("workflows", document)
        return {str(name): str(digest) for name, digest in digests.items()}
    except (exact_json.JsonRefused, AttributeError) as error:
        raise OperatorError(
            f'{path} holds no digests: {error}; it has the form {{"workflows": {{ID: DIGEST}}}}'
        ) from error


def _compare(expected: Mapping[str, str], found: Mapping[str, str]) -> dict[str, str]:
    differing = {}
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            differing[name] = "the log has no such workflow"
        elif name not in expected:
            differing[name] = "only the log has it"
        elif expected[name] != found[name]:
            differing[name] = f"the log gives {found[name]}, the file {expected[name]}"
    return differing

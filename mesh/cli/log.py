"""`mesh log verify | export | import`: fold the log, and carry it elsewhere.

Owns the comparison of two folds. `verify` uses no read model and no checkpoint, so its result
depends on the log alone.
"""

import sys
from collections.abc import Mapping
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Final

import click
from rich.text import Text

from mesh.cli.exit_codes import FAILED
from mesh.cli.options import by_option
from mesh.cli.session import Session, mesh_command
from mesh.cli.text.format import counted, printable
from mesh.codec import exact_json
from mesh.codec.exports import ExportHead
from mesh.codec.jws_bodies import mesh_of
from mesh.codec.key_files import keys_path, read_keys, write_keys
from mesh.codec.sealing import Key
from mesh.codec.times import rfc3339
from mesh.core import ids
from mesh.errors import NotFound, OperatorError
from mesh.inspection.audit.bundle import Head, bundle_lines
from mesh.inspection.history.exporting import export_log
from mesh.inspection.history.folding import digests, fold_partition, log_ends
from mesh.inspection.history.importing import Checked, Import
from mesh.ports import Broker, Record, TopicPartition
from mesh.services.reading import read_up_to
from mesh.services.vault import Vault
from mesh.wiring.files import local_path, read_here, written

_CHECKED: Final = "every record of the log was read from the broker and folded"


@click.group(short_help="Fold and verify the log.")
def log() -> None:
    """The log of decisions: the only truth."""


@log.command(short_help="Fold the whole log, and print each workflow's digest.")
@click.option(
    "--against",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help='Compare with a file of digests by workflow id, e.g. another run\'s --json: {"workflows": {ID: DIGEST}}.',
)
@click.option(
    "--file",
    "exported",
    metavar="FILE",
    help="Fold the log in this file of `mesh log export`, and not the broker's.",
)
@mesh_command
def verify(session: Session, *, against: Path | None, exported: str | None) -> None:
    """Fold the whole log from the broker, and print each workflow's digest.

    It uses no read model and no checkpoint. A digest is the SHA-256 of the workflow's canonical
    JSON. Two folds of one log agree on every digest. Exits with 1 if --against differs. Of a file
    each line's sum is checked, too, and what the head says of the log.
    """
    expected = None if against is None else _read_digests(against)
    found, records = session.run(_fold(session)) if exported is None else _fold_file(exported)
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
        session.note("every record of the log was read and folded; the file is whole" if exported else _CHECKED)
    if differing:
        sys.exit(FAILED)


@log.command(short_help="Write the log to a file, or a workflow's decisions for an auditor.")
@click.argument("file", required=False)
@click.option("--workflow", "workflow_id", metavar="ID", help="Print the bundle of this workflow (its whole id).")
@by_option("writes the file")
@mesh_command
def export(session: Session, *, file: str | None, workflow_id: str | None, by: str) -> None:
    """Write the whole log to FILE, or print a bundle of one workflow for `mesh audit verify`.

    FILE has the log, the routes and their activations, the people, keys, calendars and delegations,
    and what is open for approvers: `mesh log import` makes a mesh of it, on any broker. Inputs that
    no router has decided on are counted and do not go with it: for a move stop upstream and the
    routers first.

    A bundle has all decisions about the workflow, and all people, roles and keys of all times. Only
    who may read the log can do either.

    \b
    mesh log export mesh-2026-11-30.gz
    mesh log export s3://backups/mesh/mesh-2026-11-30.gz
    mesh log export --workflow refund:4711 > refund-4711.jsonl
    """  # noqa: D301 - \b is click's mark of a paragraph to leave as it is
    if workflow_id is not None and file is None:
        for line in session.run(_export(session, workflow_id)):
            click.echo(line)  # bytes, as they are
    elif file is not None and workflow_id is None:
        keys = keys_path(local_path(file))
        if keys.exists():
            raise OperatorError(f"{keys} is there already: name another file")
        with written(file) as path:
            head = session.run(_export_all(session, path, keys, by))
        _tell_exported(session, head, file)
    else:
        raise click.UsageError("give FILE for the whole log, or --workflow ID for one workflow")


@log.command("import", short_help="Make a mesh of a file of `mesh log export`.")
@click.argument("file")
@click.option(
    "--leave-unread", is_flag=True, help="Also where inputs that nobody had decided on stay behind on the old broker."
)
@click.option(
    "--keys",
    "keys_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The keys of private workflows; without it, FILE.keys if it is there.",
)
@click.option(
    "--erase-unreadable", is_flag=True, help="Private workflows whose keys are missing are erased in the new mesh."
)
@mesh_command
def import_log(
    session: Session, *, file: str, leave_unread: bool, keys_file: Path | None, erase_unreadable: bool
) -> None:
    """Write the log in FILE to an empty mesh, on this broker, and show that it folds equally.

    The whole file is checked before anything is written. Topics are created as they are needed.
    Tasks and questions that nobody has answered are sent again. Afterwards start routers and
    agents; routes and people are in force two seconds after the import. An import that was
    interrupted goes on when it is run again.
    """
    with read_here(file) as path, closing(Checked(path, _keys_of(file, keys_file))) as checked:
        lacking = checked.unreadable
        if lacking and not erase_unreadable:
            raise OperatorError(
                f"the keys of {counted(len(lacking), 'private workflow')} are missing, as that of {lacking[0]}: give them "
                "with --keys, or let the new mesh treat these as erased, with --erase-unreadable"
            )
        unread = sum(checked.head.unread.values())
        if unread and not leave_unread:
            raise OperatorError(
                f"when {file} was written, {counted(unread, 'input')} had not been decided ({_by_topic(checked.head.unread)}), "
                "and they are not in it. Export again when upstream and routers are stopped and `mesh status` is quiet, "
                "or leave them behind with --leave-unread"
            )
        sent_again = session.run(_import(session, checked))
    _tell_imported(session, checked.head, sent_again, has_private=bool(checked.keys))


def _keys_of(file: str, given: Path | None) -> dict[str, Key]:
    path = given or keys_path(local_path(file))
    return read_keys(path) if given is not None or path.exists() else {}


async def _import(session: Session, checked: Checked) -> int:
    settings = session.settings
    async with session.broker() as broker:
        work = Import(
            broker,
            session.topics,
            checked,
            replicas=settings.replicas,
            task_partitions=settings.task_partitions,
        )
        await work.run()
    return work.sent_again


def _tell_imported(session: Session, head: ExportHead, sent_again: int, *, has_private: bool) -> None:
    workflows, records = sum(part.workflows for part in head.log), head.topics.get("log", 0)
    if session.as_json:
        session.emit({"from": head.mesh, "workflows": workflows, "records": records, "sent_again": sent_again})
        return
    session.note(f"{counted(workflows, 'workflow')} of {counted(records, 'record')} came from {head.mesh}")
    session.note(f"the log was read back: each of {head.partitions} partitions folds to the same states as before")
    session.note(f"{counted(sent_again, 'record')} that nobody had answered: sent again")
    session.note(f"next: start routers with MESH_PARTITIONS={head.partitions}, then agents, then upstream")
    if has_private:
        session.note(
            "run `mesh approvals republish` when routers run: questions of private workflows were not in the file"
        )


async def _export_all(session: Session, file: Path, keys: Path, by: str) -> ExportHead:
    topics = session.topics
    mesh = await _named(session)
    async with session.broker(read_only=True) as broker:
        head = await export_log(
            broker, topics, file, mesh=mesh, at=rfc3339(session.now_ms()), by=by, version=version("agent-mesh")
        )
        # after the log: each key was there before what it has sealed
        vault = Vault(broker, topics)
        await vault.refresh()
        await vault.close()
    if vault.keys:
        write_keys(keys, vault.keys.values())
        session.note(f"the keys of private workflows are in {keys}: keep it apart, it opens them")
    return head


async def _named(session: Session) -> str:
    """The mesh's name. By it an import knows the mesh that a file is of."""
    async with session.broker(read_only=True) as broker:
        name = await broker.cluster_id()
    if not name:
        # a file has no name before somebody who may write asks for it
        async with session.broker() as broker:
            name = await broker.cluster_id()
    return mesh_of(session.topics.prefix, name)


def _tell_exported(session: Session, head: ExportHead, file: str) -> None:
    if session.as_json:
        session.emit({"file": file, "head": head})
        return
    workflows = sum(part.workflows for part in head.log)
    session.note(f"{counted(workflows, 'workflow')} of {counted(head.lines, 'record')} are in {file}")
    if head.unread:
        session.note(f"not in it: inputs that nobody has decided on yet ({_by_topic(head.unread)})")


def _by_topic(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{topic}: {count:,}" for topic, count in sorted(counts.items()))


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
        vault = Vault(broker, topics)
        decisions = list(await vault.open(await _all(broker, TopicPartition(topics.log, partition))))
        await vault.close()
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
    """A partition after the other, so that memory holds the states of none."""
    topic, found, records = session.topics.log, dict[str, str](), 0
    async with session.broker(read_only=True) as broker:
        info = (await broker.topics()).get(topic)
        if info is None:
            raise NotFound(f"this broker has no topic {topic}: no mesh was set up here (check --broker and the prefix)")
        vault = Vault(broker, session.topics)
        for place, end in (await log_ends(broker, topic, info.partitions)).items():
            _, workflows, count = await fold_partition(broker, place, end, vault)
            found |= digests(workflows)
            workflows.close()
            records += count
        await vault.close()
    return dict(sorted(found.items())), records


def _fold_file(file: str) -> tuple[dict[str, str], int]:
    with read_here(file) as path, closing(Checked(path, _keys_of(file, None))) as checked:
        found = {name: digest for _, workflows in checked.folds.values() for name, digest in digests(workflows)}
    return dict(sorted(found.items())), checked.head.topics.get("log", 0)


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

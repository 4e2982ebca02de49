"""The command `mesh demo`, from its options to its exit status.

Owns the order of a run: folder, processes, conductor, report. It must not know what a run sends.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import click
import orjson
from rich.console import RenderableType
from rich.text import Text

from mesh.cli.demo.checks import Check, check, gather
from mesh.cli.demo.conductor import Conductor, Ended, Stalled
from mesh.cli.demo.folder import RunFolder, new_run
from mesh.cli.demo.processes import MeshEnded, Processes
from mesh.cli.demo.report import checks_table, next_steps, show_ends
from mesh.cli.demo.screen import Screen
from mesh.cli.demo.script import AGENT_MODULES, Script, load_script
from mesh.cli.demo.view import Watcher
from mesh.cli.exit_codes import FAILED
from mesh.cli.processes.children import stop_signals
from mesh.cli.session import Session
from mesh.cli.topics import agents_of_routes
from mesh.errors import MeshError, SettingsInvalid
from mesh.inspection.read_model import ReadModel, model_path
from mesh.observability import configure_logging
from mesh.settings import MemoryAddress, load_settings, parse_broker_url
from mesh.wiring import make_topics


@click.command(short_help="Watch a mesh work, and answer its questions.")
@click.option("--yes", is_flag=True, help="Let a scripted approver answer; so it is without a terminal, too.")
@click.option(
    "--broker", metavar="URL", help="kafka://HOST:PORT or sqlite://PATH; a file in the run's folder without it."
)
@click.option("--json", "as_json", is_flag=True, help="Print only the result, as JSON.")
def demo(*, yes: bool, broker: str | None, as_json: bool) -> None:
    """Run a mesh of five processes on sample events, and answer what it asks.

    A router and four agents sort GitHub issues; some replies need a person's word before they are
    posted (to a file: nothing leaves this machine). Everything is kept in .demo/NUMBER, and nothing
    that the shell has set for another mesh is used. Exits with 0 if every event came to its right
    end.
    """
    script = load_script()
    if broker is not None and isinstance(parse_broker_url(broker), MemoryAddress):
        raise SettingsInvalid(
            "the demo has five processes, which memory:// can't join: use sqlite://PATH or kafka://HOST:PORT"
        )
    _forget_other_meshes()
    folder = new_run(broker=broker, token=os.urandom(4).hex())
    folder.write_ways_in(script)
    _write_new_issue(folder, script)
    session = _session(folder, script, as_json=as_json)
    with folder.log("demo").open("a") as log:
        # libraries' log lines must not disturb the screen
        configure_logging(level="warning", stream=log)
        ok = _play(session, folder, script, by_hand=session.is_interactive and not yes)
    sys.exit(0 if ok else FAILED)


def _forget_other_meshes() -> None:
    """Drop the settings that the shell has for another mesh.

    An earlier run's `env` file may have set them.
    """
    for name in [name for name in os.environ if name.startswith("MESH_")]:
        del os.environ[name]


def _session(folder: RunFolder, script: Script, *, as_json: bool) -> Session:
    settings = load_settings(
        broker=folder.broker,
        topic_prefix=folder.prefix,
        data_dir=folder.data,
        routes=(script.folder / "routes",),
        approvers=script.folder / "approvers.yaml",
    )
    return Session(settings, as_json=as_json)


def _write_new_issue(folder: RunFolder, script: Script) -> None:
    """Write a sample under a new number, which the mesh then takes for another issue."""
    like = next(one for one in script.workflows if one.review == "approve")
    number = max(one.issue["number"] for one in script.workflows) + 1
    payload = orjson.loads(like.raw)
    payload["issue"]["number"] = number
    folder.new_issue.write_bytes(orjson.dumps(payload, option=orjson.OPT_INDENT_2))


def _play(session: Session, folder: RunFolder, script: Script, *, by_hand: bool) -> bool:
    """Play the run and report. Returns whether all is right, and never leaves a process behind."""
    environment = folder.environment(script, os.environ)
    with ExitStack() as stack:
        stack.enter_context(_hang_up_is_interrupt())
        processes = stack.enter_context(Processes(folder, environment))
        try:
            return asyncio.run(_run(session, folder, script, processes, by_hand=by_hand))
        except (MeshEnded, Stalled) as error:
            _tell_failure(session, folder, error)
            return False
        except KeyboardInterrupt:
            session.note(f"\nstopping the mesh; what it did so far is kept in {folder.path}")
            raise


@contextmanager
def _hang_up_is_interrupt() -> Iterator[None]:
    """A closed terminal, or SIGTERM, ends the run as Ctrl-C does, in good order."""

    def interrupt(number: int, frame: Any) -> None:  # noqa: ARG001 - a signal handler's form
        signal.raise_signal(signal.SIGINT)

    before = {number: signal.signal(number, interrupt) for number in stop_signals() if number != signal.SIGINT}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


async def _run(session: Session, folder: RunFolder, script: Script, processes: Processes, *, by_hand: bool) -> bool:
    agents = tuple(agents_of_routes(session.settings.routes))
    path = model_path(folder.data, folder.broker, folder.prefix)
    screen = Screen(None if session.as_json else session.out, script)
    screen.say(*_greeting(folder, script, by_hand=by_hand))
    async with session.broker() as broker:
        await make_topics(broker, session.settings, agents)
        processes.start(AGENT_MODULES)
        async with ReadModel(broker, session.topics, path) as model:
            watcher = Watcher(broker, session.topics, model, script, agents)
            conductor = Conductor(
                session=session,
                script=script,
                broker=broker,
                watcher=watcher,
                processes=processes,
                screen=screen,
                partitions=session.settings.partitions,
                by_hand=by_hand,
            )
            try:
                ended = await conductor.run()
            finally:
                screen.rest()
            await asyncio.to_thread(processes.stop)
            await watcher.look(ended.view.sent, session.now_ms())
            checks = check(script, await gather(script, watcher, ended, folder.outbox))
            if session.as_json:
                session.emit(_document(folder, script, ended, checks))
            else:
                show_ends(session, script, folder)
                session.show(*_report(folder, ended, checks), *next_steps(script, folder), *_verdict(folder, checks))
    return not any(one.problem for one in checks)


def _greeting(folder: RunFolder, script: Script, *, by_hand: bool) -> list[RenderableType]:
    where = f"A mesh of its own in {folder.path}" + (
        "" if folder.prefix == "mesh." else f", on {folder.broker}, topics {folder.prefix}*"
    )
    if by_hand:
        who = f"When it asks a person, that is you, as {script.approver} (a maintainer)."
    else:
        who = f"A scripted approver ({script.approver}) answers its questions, through {folder.prefix}approvals.responses."
    return [Text(f"{where}: a router and four agents, five processes.\n{who}\n")]


def _report(folder: RunFolder, ended: Ended, checks: list[Check]) -> list[RenderableType]:
    """Whether each event, each answer, the dead letters and the outbox are as they should be."""
    parts: list[RenderableType] = [Text("\nWhether all is right\n", style="bold"), checks_table(checks)]
    if ended.answers and not ended.by_hand:
        where = f"{folder.prefix}approvals.responses"
        parts.append(
            Text(f"\nThe answers were the script's; it sent them to {where}, as any approver may.", style="dim")
        )
    return parts


def _verdict(folder: RunFolder, checks: list[Check]) -> list[RenderableType]:
    if not any(one.problem for one in checks):
        return []
    return [Text(f"\nNot everything is right: see ✗ above; the logs are in {folder.path}.", style="bold red")]


def _document(folder: RunFolder, script: Script, ended: Ended, checks: list[Check]) -> dict[str, Any]:
    return {
        "ok": not any(one.problem for one in checks),
        "folder": str(folder.path),
        "broker": folder.broker,
        "topic_prefix": folder.prefix,
        "answered_by": "person" if ended.by_hand else "script",
        "events": [
            {"name": one.name, "workflow_id": one.workflow or None, "end": ended.view.end_of(one)}
            for one in script.deliveries
        ],
        "checks": [{"what": one.what, "ok": not one.problem, "problem": one.problem} for one in checks],
    }


def _tell_failure(session: Session, folder: RunFolder, error: MeshError) -> None:
    if session.as_json:
        session.emit({"ok": False, "folder": str(folder.path), "problem": str(error)})
        return
    session.show("", Text("the demo failed: ", style="bold red") + Text(str(error), style="default"))
    session.show(Text(f"all logs are in {folder.path}", style="dim"))

"""`mesh dev`: a whole mesh on this machine.

The router and each agent are processes of their own, as in production.

Owns the children. It starts them, passes on their output with their name before it, restarts those
that died (after a growing pause), and stops all of them with one Ctrl-C. Each child is in a session
of its own, so a terminal's Ctrl-C reaches this process alone. It then stops the children in its own
order: agents first, since the router still has to take their last results. If this process is
killed outright, the kernel tells them to stop.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import click
from rich.text import Text

from mesh.cli.processes.children import die_with_parent, stop_signals
from mesh.cli.processes.routes_at_start import warnings_at_start
from mesh.cli.processes.services import force_option
from mesh.cli.routes.check import cards_of_modules, finding_line
from mesh.cli.session import Session, mesh_command
from mesh.cli.text.format import duration, printable
from mesh.cli.topics import agents_of_routes
from mesh.data_folders import data_folder_named
from mesh.settings import load_settings
from mesh.wiring import make_topics, own_routes

COLOURS: Final = ("cyan", "magenta", "green", "yellow", "blue", "bright_red", "bright_cyan", "bright_magenta")
FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 15.0
STEADY_S: Final = 30.0  # a child that lived this long starts again after the shortest pause
LINE_BYTES: Final = 1_048_576
KILL_AFTER_S: Final = 5.0  # seconds past the drain time


class Child:
    """One process and its restarts. `number`: 0 is the router, and then each module."""

    def __init__(self, name: str, arguments: Sequence[str], number: int) -> None:
        self.name = name
        self.arguments = arguments
        self.colour = COLOURS[number % len(COLOURS)]
        self.number = number
        self.process: asyncio.subprocess.Process | None = None
        self.starts = 0

    def signal(self, number: int) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(number)


@click.command(short_help="Run a whole mesh on this machine.")
@click.argument("modules", metavar="MODULE...", nargs=-1)
@click.option(
    "--routes", multiple=True, type=click.Path(path_type=Path), help="Route files and folders (else MESH_ROUTES)."
)
@click.option("--approvers", type=click.Path(path_type=Path), help="Who has which role (else MESH_APPROVERS).")
@click.option("--no-console", is_flag=True, help="Without the pages for people (`mesh console`).")
@force_option
@mesh_command
def dev(
    session: Session,
    *,
    modules: tuple[str, ...],
    routes: tuple[Path, ...],
    approvers: Path | None,
    no_console: bool,
    force: bool,
) -> None:
    """Run a router, the console, and the agents of each MODULE, each as a process, until Ctrl-C.

    \b
    mesh dev --routes agents/issue_triage/routes \\
        agents.issue_triage.classifier agents.issue_triage.drafter

    Topics that are missing are created first. A process that dies is started again. The route files
    are checked first, as by `mesh routes check`: on errors nothing starts.
    """  # noqa: D301 - \b is click's mark of a paragraph to leave as it is
    # so a module that can't be loaded is an error before anything starts
    cards = cards_of_modules(session, modules)
    environment = _environment(session, routes, approvers)
    settings = load_settings(routes=routes) if routes else session.settings
    for finding in warnings_at_start(own_routes(settings), agents=cards if modules else None, force=force):
        if not session.as_json:
            session.err.print(finding_line(finding), soft_wrap=True)
    options = ["--force"] if force else []
    children = [Child("router", ["router", *options, *([] if session.as_json else ["--checked"])], 0)]
    for number, module in enumerate(modules, 1):
        children.append(Child(module.rpartition(".")[2], ["agent", module], number))
    if not no_console:
        children.append(Child("console", ["console"], len(children)))
    wanted = sorted({*cards, *agents_of_routes(routes or session.settings.routes)})
    session.run(_dev(session, children, environment, wanted))


def _environment(session: Session, routes: Sequence[Path], approvers: Path | None) -> dict[str, str]:
    environment = {**os.environ, "MESH_BROKER": session.settings.broker, "PYTHONUNBUFFERED": "1"}
    if routes:
        environment["MESH_ROUTES"] = ",".join(str(path) for path in routes)
    if approvers is not None:
        environment["MESH_APPROVERS"] = str(approvers)
    if session.as_json:
        environment["MESH_LOG_FORMAT"] = "json"
    elif session.out.is_terminal:
        environment.setdefault("MESH_LOG_FORMAT", "console")
        environment.setdefault("FORCE_COLOR", "1")
    return environment


async def _dev(session: Session, children: list[Child], environment: Mapping[str, str], agents: Sequence[str]) -> None:
    with data_folder_named(session.settings):
        session.settings.data_dir.mkdir(parents=True, exist_ok=True)
    async with session.broker() as broker:
        await make_topics(broker, session.settings, agents)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in stop_signals():
        loop.add_signal_handler(number, stopping.set)
    session.note(f"mesh on {session.settings.broker}: {', '.join(child.name for child in children)}; Ctrl-C stops all")
    dev_mesh = _Supervisor(session, environment, stopping)
    async with asyncio.TaskGroup() as group:
        for child in children:
            group.create_task(dev_mesh.keep(child))
        await stopping.wait()
        with suppress(OSError):  # the terminal may be closed
            session.note("stopping ...")
        await dev_mesh.stop(children)
    with suppress(OSError):
        session.note("stopped")


class _Supervisor:
    def __init__(self, session: Session, environment: Mapping[str, str], stopping: asyncio.Event) -> None:
        self._session = session
        self._environment = environment
        self._stopping = stopping

    async def keep(self, child: Child) -> None:
        """Run the child until the mesh stops, and start it again whenever it dies."""
        next_pause_s = FIRST_PAUSE_S
        while not self._stopping.is_set():
            began = time.monotonic()
            code = await self._live(child)
            if self._stopping.is_set():
                return
            lived_s = time.monotonic() - began
            pause_s = FIRST_PAUSE_S if lived_s > STEADY_S else next_pause_s
            next_pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
            self._say(
                child,
                f"died after {duration(lived_s * 1_000)} ({_said(code)}); starts again in {pause_s:g} s",
                "bold red",
            )
            try:
                async with asyncio.timeout(pause_s):
                    await self._stopping.wait()
            except TimeoutError:
                continue

    async def _live(self, child: Child) -> int:
        heartbeat = self._session.settings.data_dir / f"heartbeat-{child.name}"
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "mesh.cli",
            *child.arguments,
            env={
                **self._environment,
                "MESH_HEARTBEAT_FILE": str(heartbeat),
                "MESH_METRICS_ADDRESS": address_after(self._session.settings.metrics_address, child.number),
            },
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=die_with_parent(),
            limit=LINE_BYTES,
        )
        child.process = process
        child.starts += 1
        if self._stopping.is_set():
            child.signal(signal.SIGTERM)
        if process.stdout is not None:
            await self._pass_on(child, process.stdout)
        return await process.wait()

    async def _pass_on(self, child: Child, stream: asyncio.StreamReader) -> None:
        while True:
            try:
                line = await stream.readline()
            except ValueError:  # a line beyond the limit: its beginning is gone, the rest follows
                continue
            if not line:
                return
            self._say(child, line.decode(errors="replace").rstrip("\n"))

    def _say(self, child: Child, text: str, style: str = "") -> None:
        # a closed terminal must not keep us from stopping the children in order
        with suppress(OSError):
            if self._session.as_json and not style:
                click.echo(text)
                return
            head = Text(f"{child.name:<16} ", style=child.colour)
            body = Text(printable(text), style=style) if style else Text.from_ansi(text)
            self._session.out.print(head + body, soft_wrap=True)

    async def stop(self, children: Sequence[Child]) -> None:
        """Stop the agents first, then the router.

        A child that does not end within its drain time is killed.
        """
        patience_s = self._session.settings.drain_timeout_s + KILL_AFTER_S
        agents = [child for child in children if child.arguments[0] != "router"]  # and the console
        routers = [child for child in children if child.arguments[0] == "router"]
        for share in (agents, routers):
            for child in share:
                child.signal(signal.SIGTERM)
            for child in share:
                await self._end(child, patience_s)

    async def _end(self, child: Child, patience_s: float) -> None:
        if child.process is None:
            return
        try:
            async with asyncio.timeout(patience_s):
                await child.process.wait()
        except TimeoutError:
            self._say(child, f"did not stop within {patience_s:g} s, and is killed", "bold red")
            child.signal(signal.SIGKILL)


def address_after(address: str, number: int) -> str:
    """The address for one of several processes: one port each, from that of the setting on."""
    host, _, port = address.rpartition(":")
    return f"{host}:{int(port) + number}" if int(port) else address


def _said(code: int) -> str:
    if code < 0:
        return signal.Signals(-code).name
    return f"exit code {code}"

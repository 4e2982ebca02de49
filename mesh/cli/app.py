"""The root command: which commands there are, and where each one lives.

Owns the list of commands, and how an error of the mesh ends: as one line and an exit code. It must
not import a command's module before that command runs, so that `mesh --help` and short commands pay
for nothing else. `mesh.cli.main` calls it.
"""

import importlib
import json
import sys
from collections.abc import Iterator
from errno import EPIPE
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from mesh.cli.exit_codes import INTERRUPTED, exit_code_of
from mesh.errors import MeshError, OperatorError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class Entry(NamedTuple):
    place: str  # module:attribute
    help: str  # as the module's own first line; repeated here so that the list costs no import


SECTIONS: Final[dict[str, dict[str, Entry]]] = {
    "To begin": {
        "demo": Entry("mesh.cli.demo.command:demo", "Watch a mesh work, and answer its questions."),
        "completion": Entry(
            "mesh.cli.completion:completion", "Print the script that makes your shell complete `mesh`."
        ),
    },
    "For those who send events": {
        "publish": Entry("mesh.cli.publish:publish", "Publish events."),
        "events": Entry("mesh.cli.events:events", "List events, and tell what became of one."),
        "run": Entry("mesh.cli.run:run", "Start one workflow of a route by hand."),
    },
    "For those who approve": {
        "approvals": Entry("mesh.cli.approvals.group:approvals", "List what waits for a person, show it, answer it."),
        "delegations": Entry("mesh.cli.delegations:delegations", "Say who may answer for whom, and until when."),
        "absences": Entry("mesh.cli.absences:absences", "Say who is away, and until when."),
    },
    "For operators": {
        "status": Entry("mesh.cli.status:status", "Show the mesh on one screen, and why something is stuck."),
        "doctor": Entry("mesh.cli.doctor:doctor", "Examine the mesh itself: broker, topics, processes, files."),
        "incidents": Entry("mesh.cli.incidents:incidents", "List what is wrong: incidents, grouped by cause."),
        "watch": Entry("mesh.cli.watch:watch", "Follow what is decided, line by line."),
        "workflows": Entry(
            "mesh.cli.workflows.show:workflows", "List workflows; show, cancel, repair or migrate them."
        ),
        "operations": Entry("mesh.cli.operations:operations", "List what was ordered of many workflows at once."),
        "agents": Entry("mesh.cli.agents:agents", "List agents and who is alive."),
        "approver": Entry("mesh.cli.approver:approver", "Make keys, and say whose key signs answers."),
        "audit": Entry("mesh.cli.audit:audit", "Verify what the log proves of approvals."),
        "people": Entry("mesh.cli.people:people", "Show who has which role; plan and apply changes."),
        "notices": Entry("mesh.cli.notices:notices", "List what people were told of approvals."),
        "calendars": Entry("mesh.cli.calendars:calendars", "Show working hours; plan and apply changes."),
        "clock": Entry("mesh.cli.clock:clock", "Show clocks that jumped, and release deadlines."),
        "dlq": Entry("mesh.cli.dlq:dlq", "Look at dead letters, send them back, discard them."),
        "topics": Entry("mesh.cli.topics:topics", "List, plan and apply the topics."),
        "archive": Entry("mesh.cli.archive:archive", "Archive the workflows that are over."),
        "log": Entry("mesh.cli.log:log", "Fold and verify the log."),
    },
    "For those who write routes": {
        "routes": Entry(
            "mesh.cli.routes.group:routes", "Check, apply, explain, draw, compare and replay routing rules."
        ),
    },
    "To run services": {
        "dev": Entry("mesh.cli.processes.dev:dev", "Run a whole mesh on this machine."),
        "router": Entry("mesh.cli.processes.services:router", "Run a router."),
        "agent": Entry("mesh.cli.processes.services:agent", "Run agents."),
        "notifier": Entry("mesh.cli.processes.services:notifier", "Tell people what waits for their approval."),
        "gateway": Entry("mesh.cli.processes.services:gateway", "Take events and webhooks over HTTP."),
        "console": Entry("mesh.cli.processes.console:console", "Run the pages in which people answer and look."),
        "health": Entry("mesh.cli.processes.services:health", "Tell whether the service of this folder is alive."),
    },
}
SHORT_FORMS: Final = {
    "workflow": Entry("mesh.cli.workflows.show:workflow", "mesh workflows show ID; a verb may come before ID"),
    "approval": Entry("mesh.cli.approvals.listing:show_approval", "mesh approvals show ID"),
    "event": Entry("mesh.cli.events:show_event", "mesh events show ID"),
    "approve": Entry("mesh.cli.approvals.verdicts:approve", "mesh approvals approve ID"),
    "reject": Entry("mesh.cli.approvals.verdicts:reject", "mesh approvals reject ID"),
    "choose": Entry("mesh.cli.approvals.votes:choose", "mesh approvals choose ID CHOICE"),
    "withdraw": Entry("mesh.cli.approvals.votes:withdraw", "mesh approvals withdraw ID"),
    "claim": Entry("mesh.cli.approvals.orders:claim", "mesh approvals claim ID"),
    "unclaim": Entry("mesh.cli.approvals.orders:unclaim", "mesh approvals unclaim ID"),
    "ask-back": Entry("mesh.cli.approvals.questions:ask_back", "mesh approvals ask-back ID TEXT"),
    "inform": Entry("mesh.cli.approvals.questions:inform", "mesh approvals inform ID TEXT"),
    "comment": Entry("mesh.cli.approvals.votes:comment", "mesh approvals comment ID TEXT"),
    "delegate": Entry("mesh.cli.delegations:add", "mesh delegations add --to PERSON --until WHEN"),
    "absent": Entry("mesh.cli.absences:add", "mesh absences add --until WHEN"),
}
COMMANDS: Final = {name: entry for section in SECTIONS.values() for name, entry in section.items()}
_ALL: Final = COMMANDS | SHORT_FORMS
_AS_JSON: Final = "mesh.as_json"  # in the context's meta: whether errors are JSON


class RootGroup(click.Group):
    """Loads a command's module when it is asked for, and turns every error into one line.

    The process ends with the exit code of the error.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_ALL)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        entry = _ALL.get(cmd_name)
        if entry is None:
            return None
        module, _, attribute = entry.place.partition(":")
        _load_structlog(cmd_name)
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in _ALL and not ctx.resilient_parsing:
            from difflib import get_close_matches  # noqa: PLC0415 - only for a mistyped command

            close = get_close_matches(args[0], _ALL, n=1)
            hint = f"; did you mean `mesh {close[0]}`?" if close else "; `mesh --help` lists them"
            ctx.fail(f"there is no command {args[0]!r}{hint}")
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list["CompletionItem"]:
        from click.shell_completion import CompletionItem  # noqa: PLC0415 - only when a shell asks

        # from the list above: click's own method would load every command's module
        found = [CompletionItem(name, help=entry.help) for name, entry in _ALL.items() if name.startswith(incomplete)]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        for title, section in {**SECTIONS, "Short forms": SHORT_FORMS}.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(10), entry.help) for name, entry in section.items()])

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        as_json = "--json" in args
        try:
            ctx = super().make_context(info_name, args, parent, **extra)
        except click.ClickException as error:
            if not as_json:
                raise
            _report_usage(error)
            raise click.exceptions.Exit(error.exit_code) from error
        ctx.meta[_AS_JSON] = as_json
        return ctx

    def invoke(self, ctx: click.Context) -> Any:
        as_json = ctx.meta[_AS_JSON]
        try:
            return super().invoke(ctx)
        except (MeshError, TimeoutError) as error:
            _report(error, as_json=as_json)
            ctx.exit(exit_code_of(error))
        except BaseExceptionGroup as group:  # of a service's tasks
            errors = [error for error in _flat(group) if isinstance(error, MeshError | TimeoutError)]
            if not errors:
                raise
            _report(errors[0], as_json=as_json)
            ctx.exit(exit_code_of(errors[0]))
        except OSError as error:
            if error.errno == EPIPE:  # click ends quietly then
                raise
            told = OperatorError(_of_system(error))
            _report(told, as_json=as_json)
            ctx.exit(exit_code_of(told))
        except click.ClickException as error:
            if not as_json:
                raise
            _report_usage(error)
            ctx.exit(error.exit_code)
        except (KeyboardInterrupt, click.Abort):
            ctx.exit(INTERRUPTED)


def _load_structlog(command: str) -> None:
    """Load it without rich's tracebacks, which we never use: they took a sixth of a command's time.

    Not for `agent`: what an author's module uses of structlog must be there.
    """
    if command == "agent" or "structlog" in sys.modules or "rich" in sys.modules:
        return
    # None makes the import fail, as if rich were not there; structlog then does without it
    sys.modules["rich"] = None  # type: ignore[assignment]
    try:
        importlib.import_module("structlog")
    finally:
        del sys.modules["rich"]


def _of_system(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}. Check the disk, its space and whose the file is."


def _flat(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _flat(error)
        else:
            yield error


def _echo_json(kind: str, message: str, exit_code: int) -> None:
    body = {"kind": kind, "message": message, "exit_code": exit_code}
    click.echo(json.dumps({"error": body}), err=True)


def _report_usage(error: click.ClickException) -> None:
    """Print a mistake on the command line as one line of JSON."""
    kind = "UsageError" if isinstance(error, click.UsageError) else type(error).__name__
    _echo_json(kind, error.format_message(), error.exit_code)


def _report(error: MeshError | TimeoutError, *, as_json: bool) -> None:
    if as_json:
        _echo_json(type(error).__name__, str(error), exit_code_of(error))
        return
    from mesh.cli.text.format import printable  # noqa: PLC0415 - only for an error

    # an id or a message from outside must not be able to move the cursor
    click.echo(click.style("error: ", fg="red", bold=True) + printable(str(error)), err=True)


@click.group(cls=RootGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="agent-mesh", prog_name="mesh")
def mesh() -> None:
    """Events in, work by agents, pauses for people: a mesh over a message broker.

    A command is a noun, then a verb: `mesh workflows show ID`. A noun alone lists. Each command has
    --help.

    The broker is the one of --broker, or of MESH_BROKER (sqlite://.mesh/mesh.db by default). With
    --json every command prints JSON, its errors too.
    """

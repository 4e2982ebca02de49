"""The root command: which commands there are, and where each one lives.

Modules are loaded when their command runs, so that `mesh --help` and short commands pay for nothing
else. Errors of the mesh end here, as one line and an exit code.
"""

import importlib
import json
import sys
from typing import Any, Final, NamedTuple

import click

from mesh.cli.exit_codes import INTERRUPTED, exit_code_of
from mesh.errors import MeshError


class Entry(NamedTuple):
    place: str  # module:attribute
    help: str  # as the module's own first line; repeated here so that the list costs no import


SECTIONS: Final[dict[str, dict[str, Entry]]] = {
    "First": {
        "demo": Entry("mesh.cli.demo.command:demo", "Watch a mesh work, and answer its questions."),
    },
    "Upstream": {
        "publish": Entry("mesh.cli.publish:publish", "Publish events."),
        "event": Entry("mesh.cli.event:event", "Tell what became of an event."),
        "run": Entry("mesh.cli.run:run", "Start one workflow of a route by hand."),
    },
    "Approvers": {
        "approvals": Entry("mesh.cli.approvals.commands:approvals", "List what waits for a person, and answer it."),
        "approve": Entry("mesh.cli.approvals.commands:approve", "Approve, or approve an edited payload."),
        "reject": Entry("mesh.cli.approvals.commands:reject", "Reject."),
    },
    "Operators": {
        "status": Entry("mesh.cli.status:status", "Show the mesh on one screen, and why something is stuck."),
        "workflows": Entry(
            "mesh.cli.workflows.show:workflows", "List workflows; move them to another version of their rules."
        ),
        "workflow": Entry(
            "mesh.cli.workflows.show:workflow",
            "Show a workflow's timeline; cancel it; retry, skip or fail its incidents.",
        ),
        "agents": Entry("mesh.cli.agents:agents", "List agents and who is alive."),
        "routes": Entry(
            "mesh.cli.routes.group:routes", "Check, apply, explain, draw, compare and replay routing rules."
        ),
        "dlq": Entry("mesh.cli.dlq:dlq", "Look at dead letters."),
        "topics": Entry("mesh.cli.topics:topics", "Plan and apply the topics."),
        "log": Entry("mesh.cli.log:log", "Fold and verify the log."),
    },
    "Services": {
        "dev": Entry("mesh.cli.processes.dev:dev", "Run a whole mesh on this machine."),
        "router": Entry("mesh.cli.processes.services:router", "Run a router."),
        "agent": Entry("mesh.cli.processes.services:agent", "Run agents."),
        "health": Entry("mesh.cli.processes.services:health", "Tell whether the service of this folder is alive."),
    },
}
COMMANDS: Final = {name: entry for section in SECTIONS.values() for name, entry in section.items()}


class RootGroup(click.Group):
    """Loads a command's module when it is asked for, and turns the mesh's errors into a line and an
    exit code.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module, _, attribute = entry.place.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            from difflib import get_close_matches  # noqa: PLC0415 - only for a mistyped command

            close = get_close_matches(args[0], COMMANDS, n=1)
            hint = f"; did you mean `mesh {close[0]}`?" if close else "; `mesh --help` lists them"
            ctx.fail(f"there is no command {args[0]!r}{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        for title, section in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(10), entry.help) for name, entry in section.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (MeshError, TimeoutError) as error:
            _report(error, as_json="--json" in sys.argv)
            ctx.exit(exit_code_of(error))
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)


def _report(error: MeshError | TimeoutError, *, as_json: bool) -> None:
    if as_json:
        body = {"kind": type(error).__name__, "message": str(error), "exit_code": exit_code_of(error)}
        click.echo(json.dumps({"error": body}), err=True)
        return
    click.echo(click.style("error: ", fg="red", bold=True) + str(error), err=True)


@click.group(cls=RootGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="agent-mesh", prog_name="mesh")
def mesh() -> None:
    """Events in, work by agents, pauses for people: a mesh over a message broker.

    Where the broker is: --broker, or MESH_BROKER (sqlite://.mesh/mesh.db by default). Every command
    takes --json.
    """

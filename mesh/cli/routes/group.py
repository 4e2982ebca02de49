"""`mesh routes`: tools for those who write and run routing rules.

Owns the group and its help; every command is a module of its own.
"""

import click

from mesh.cli.grammar import NounGroup
from mesh.cli.pausing import pause_command, resume_command
from mesh.cli.routes.apply import apply, rollback
from mesh.cli.routes.check import check, schema
from mesh.cli.routes.explain import explain
from mesh.cli.routes.graph import graph
from mesh.cli.routes.replay import replay
from mesh.cli.routes.versions import diff, list_routes, show


@click.group(cls=NounGroup, short_help="Check, apply, explain, draw, compare and replay routing rules.")
def routes() -> None:
    """Routing rules. Without a verb: list.

    Check them before they run, make them active, see what they do with an event, and what a change
    would do to past workflows.

    \b
    mesh routes check routes/                     what is wrong with the files
    mesh routes apply routes/                     make them active; running routers take them up
    mesh routes explain event.json                which rules match an event, and why
    mesh routes graph routes/triage.yaml          a picture (Mermaid) of a route, or of one workflow
    mesh routes diff routes/triage.yaml           the file against what runs
    mesh routes replay --since 7d triage.yaml     what the changed rules would have decided
    """  # noqa: D301 - \b is click\'s mark of a paragraph to leave as it is


OF_ROUTES = (pause_command("route"), resume_command("route"))
for command in (*OF_ROUTES, check, apply, rollback, list_routes, show, diff, explain, graph, replay, schema):
    routes.add_command(command)

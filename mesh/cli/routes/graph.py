"""`mesh routes graph`: a route, or one workflow on it, as a Mermaid flowchart.

Owns which route, state and decisions are drawn; `mesh.inspection.diagram` draws them.
"""

from pathlib import Path

import click
import msgspec

from mesh.cli.choice import pick_workflow
from mesh.cli.routes.versions import is_file
from mesh.cli.session import Session, mesh_command
from mesh.cli.text.format import printable
from mesh.codec.route_file import load_routes
from mesh.core.ids import BUILT_IN
from mesh.core.route import Route
from mesh.errors import NotFound, OperatorError
from mesh.inspection.diagram import of_route, of_workflow, step_times
from mesh.inspection.read_model import ReadModel, queries
from mesh.inspection.route_versions import read_stored


class Drawn(msgspec.Struct, frozen=True, kw_only=True):
    route: str
    digest: str
    workflow_id: str | None
    mermaid: str


@click.command(short_help="Draw a route, or one workflow, as Mermaid.")
@click.argument("what", metavar="FILE|ROUTE|WORKFLOW-ID")
@mesh_command
def graph(session: Session, *, what: str) -> None:
    """Draw a route, or one workflow on it, as Mermaid.

    Of a FILE, all its routes are drawn; of a ROUTE, the version that is in use; of a workflow, its
    way in colours.

    \b
    mesh routes graph routes/triage.yaml > triage.mmd
    mesh routes graph 'issue-triage:octo/repo#12'        any unique part of the id will do

    GitHub, GitLab and many editors draw it in a ```mermaid block.
    """  # noqa: D301 - \b is click\'s mark of a paragraph to leave as it is
    drawn = _of_file(what) if is_file(what) else [session.run(_online(session, what))]
    if session.as_json:
        session.emit({"graphs": drawn})
        return
    for number, one in enumerate(drawn):
        click.echo(
            f"{'' if number == 0 else chr(10)}%% {printable(one.workflow_id or one.route)}, rules {one.digest[7:19]}"
        )
        click.echo(one.mermaid, nl=False)


def _of_file(what: str) -> list[Drawn]:
    return [_drawn(one.route) for one in load_routes([Path(what)])]


def _drawn(route: Route) -> Drawn:
    return Drawn(route=route.name, digest=route.digest, workflow_id=None, mermaid=of_route(route))


async def _online(session: Session, what: str) -> Drawn:
    async with session.model() as (broker, model):
        stored = await read_stored(broker, session.topics)
        versions = {version.digest: version for version in stored.versions}
        known = {digest: version.route for digest, version in versions.items() if version.route is not None}
        digest = stored.digests_at(session.now_ms()).get(what)
        if digest is not None and digest in versions:
            route = versions[digest].route
            if route is None:
                raise OperatorError(versions[digest].problem)
            return _drawn(route)
        return _of_workflow(session, model, known, _workflow_id(session, model, what))


def _workflow_id(session: Session, model: ReadModel, what: str) -> str:
    try:
        return pick_workflow(session, model, what, changes=False)
    except NotFound as error:
        raise NotFound(
            f"{what!r} is not a file, a stored route or a part of a workflow's id (`mesh routes list`, `mesh workflows`)"
        ) from error


def _of_workflow(session: Session, model: ReadModel, known: dict[str, Route], workflow_id: str) -> Drawn:
    if workflow_id.startswith(BUILT_IN):
        raise NotFound(
            f"{workflow_id} is a workflow of the mesh itself, and has no rules to draw: `mesh workflows show '{workflow_id}'` shows it"
        )
    state = queries.workflow_state(model.db, workflow_id)
    if state is None:
        raise NotFound(f"workflow {workflow_id} is not in the read model; try again")
    route = known.get(state.digest)
    if route is None:
        raise NotFound(
            f"the rules of {workflow_id}, version {state.digest}, are not stored on this broker, or can't be read"
        )
    times = step_times(entry.decision for entry in queries.decisions_of(model.db, workflow_id))
    picture = of_workflow(route, state, times, now_ms=session.now_ms())
    return Drawn(route=route.name, digest=route.digest, workflow_id=workflow_id, mermaid=picture)

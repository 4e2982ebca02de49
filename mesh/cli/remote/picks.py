"""Which workflow or cause a part of an id means, of those that the console knows."""

from mesh.cli.choice import SHOWN, Among, pick
from mesh.cli.remote.api import MOST_ROWS, Api
from mesh.cli.session import Session
from mesh.errors import NotFound, SenderError
from mesh.inspection.documents.workflows import WorkflowDocument
from mesh.inspection.read_model.pages import Found


async def workflow_of(session: Session, api: Api, given: str, *, changes: bool = False) -> WorkflowDocument:
    """The workflow that `given` means, running or ended."""
    try:
        return await api.workflow(given)
    except NotFound:
        found = await _containing(api, given)
    among = Among("workflow", "workflows", "mesh workflows list", lambda _: None, lambda *_: found)
    return await api.workflow(pick(session, given, among, changes=changes))


async def _containing(api: Api, part: str) -> Found:
    try:
        page = await api.workflows(q=part, limit=SHOWN)
    except SenderError:
        # an approver sees no list, and has to know the whole id
        return Found(0, [])
    return Found(page.total, [one.workflow_id for one in page.items])


async def cause_of(session: Session, api: Api, given: str) -> str:
    """The id of the cause that `given` means."""
    page = await api.causes(limit=MOST_ROWS)
    ids = [one.cause for one in page.items]
    fits = [one for one in ids if given in one]
    among = Among(
        "cause",
        "causes",
        "mesh incidents",
        lambda given: given if given in ids else None,
        lambda *_: Found(len(fits), fits[:SHOWN]),
    )
    return pick(session, given, among, changes=False)

"""Workflows, incidents, agents and the mesh as a whole, for programs."""

from typing import Any, Final

from mesh.console.api.answers import Refused
from mesh.console.api.endpoint import PAGED, Asking, Endpoint, Parameter
from mesh.console.pages.workflow import forbid_foreign
from mesh.console.pages.workflows import STATES, of_state, where_of
from mesh.core.state import Workflow
from mesh.errors import NotFound
from mesh.inspection.documents.meshes import Agents, MeshDocument, agent_document, mesh_document
from mesh.inspection.documents.pages import Listed, listed
from mesh.inspection.documents.people import Me, me_document
from mesh.inspection.documents.workflows import (
    CauseAndIncidents,
    CauseDocument,
    WorkflowDocument,
    WorkflowItem,
    cause_document,
    document_of,
    incident_document,
    workflow_item,
)
from mesh.inspection.mesh_status import MeshStatus
from mesh.inspection.read_model import queries
from mesh.inspection.read_model.where import Where

_STEPS_NAMED: Final = 5  # of one workflow in a list; all are counted
_DAY_MS: Final = 86_400_000
_COLUMNS: Final = ("route", "step", "agent", "kind")


async def _me(asking: Asking) -> Me:
    reader = asking.reader
    return me_document(reader.name, reader.roles, reader.own, sees_all=reader.sees_all)


# Workflows ----------------------------------------------------------------------------------------


async def _workflows(asking: Asking) -> Listed[WorkflowItem]:
    given, now_ms = asking.given, asking.desk.now_ms()
    said = [text for text in (where_of(given), given["where"]) if text]
    where = Where(" && ".join(f"({text})" for text in said), now_ms) if said else None
    names = {"route": "route", "cause": "cause", "q": "part", "step": "step", "agent": "agent"}
    filters: dict[str, Any] = {to: given[name] or None for name, to in names.items()}

    def found(db: Any) -> Listed[WorkflowItem]:
        page = queries.workflows(
            db,
            **filters,
            **of_state(given["state"]),
            where=where,
            unchanged_since_ms=given.moment_ms("older_than", now_ms),
            built_in=bool(given["built_in"]),
            limit=given.rows,
            after=given.after,
        )
        named = queries.incidents_of(db, [row.workflow_id for row in page if row.incidents], limit=_STEPS_NAMED)
        return listed([workflow_item(row, named.get(row.workflow_id, ())) for row in page], page)

    return await asking.desk.log(found)


async def _workflow(asking: Asking) -> WorkflowDocument:
    workflow_id, with_payloads = asking.given["id"], bool(asking.given["payloads"])
    await forbid_foreign(asking.desk, asking.reader, workflow_id)

    def found(db: Any) -> WorkflowDocument:
        state = queries.workflow_state(db, workflow_id)
        if state is None:
            raise NotFound(f"There is no workflow {workflow_id}, or its memory has ended.")
        entries = queries.decisions_of(db, workflow_id)
        search = queries.search_attributes(db, workflow_id)
        return document_of(state, entries, _limiters(db, state), search, payloads=with_payloads)

    return await asking.desk.log(found)


def _limiters(db: Any, state: Workflow) -> dict[str, Workflow]:
    asked = sorted({slots[-1].limit for slots in state.slots.values()})
    return {name: found for name in asked if (found := queries.workflow_state(db, name)) is not None}


# Incidents ----------------------------------------------------------------------------------------


async def _incidents(asking: Asking) -> Listed[CauseDocument]:
    given = asking.given
    only = {name: given[name] for name in _COLUMNS if given[name]}
    since_ms = given.moment_ms("since", asking.desk.now_ms()) or 0

    def found(db: Any) -> Listed[CauseDocument]:
        page = queries.causes(db, only=only, since_ms=since_ms, limit=given.rows, after=given.after)
        return listed([cause_document(row, queries.example(db, row.cause)) for row in page], page)

    return await asking.desk.log(found)


async def _incident(asking: Asking) -> CauseAndIncidents:
    given, cause = asking.given, asking.given["cause"]
    since_ms = given.moment_ms("since", asking.desk.now_ms()) or 0

    def found(db: Any) -> CauseAndIncidents:
        rows = queries.causes(db, only={"cause": cause}, limit=1)
        if not rows:
            raise NotFound(f"No workflow waits because of {cause}: /api/v1/incidents has what is open.")
        page = queries.incidents(db, cause, since_ms=since_ms, limit=given.rows, after=given.after)
        incidents = listed([incident_document(row) for row in page], page)
        return CauseAndIncidents(cause=cause_document(rows[0], queries.example(db, cause)), incidents=incidents)

    return await asking.desk.log(found)


# The mesh -----------------------------------------------------------------------------------------


async def _agents(asking: Asking) -> Agents:
    status, now_ms = _looked(asking), asking.desk.now_ms()
    cards = await asking.desk.log(queries.cards)
    return Agents(agents=tuple(agent_document(one, cards, now_ms) for one in status.agents))


async def _status(asking: Asking) -> MeshDocument:
    status = _looked(asking)
    cards = await asking.desk.log(queries.cards)
    undelivered = await asking.desk.undelivered(status.at_ms - _DAY_MS)
    return mesh_document(status, cards, undelivered, asking.given.rows)


def _looked(asking: Asking) -> MeshStatus:
    """The mesh as of the last look, which is some seconds old at the most."""
    status = asking.desk.projector.status
    if status is None:
        raise Refused(503, "the console has not looked at the mesh yet; try again", headers={"retry-after": "2"})
    return status


_ID: Final = Parameter("id", "The whole id.", "id", is_needed=True)
_SINCE: Final = Parameter("since", "Those since then.", "moment")
_OF_INCIDENTS: Final = tuple(Parameter(name, f"Of this {name}.") for name in _COLUMNS)

ENDPOINTS: Final = (
    Endpoint("GET", "/api/v1/me", "whoAmI", "Who asks, and what they may see.", _me, Me),
    Endpoint(
        "GET",
        "/api/v1/workflows",
        "listWorkflows",
        "Workflows, the last changed first.",
        _workflows,
        Listed[WorkflowItem],
        parameters=(
            Parameter("state", "Those in this state.", choices=STATES),
            Parameter("route", "Those of this route."),
            Parameter("step", "Those in which this step is under way, or has an incident."),
            Parameter("agent", "Those with a step at this agent."),
            Parameter("cause", "Those with an incident of this cause."),
            Parameter("age", "Those with a step that has been as it is for so long.", "span"),
            Parameter("older_than", "Those that have not changed since then.", "moment"),
            Parameter("attr", "Those with this search attribute, as NAME:VALUE.", is_repeatable=True),
            Parameter("where", "Those for which this expression holds, as `mesh workflows --where` takes it."),
            Parameter("q", "Those with this in their ids."),
            Parameter("built_in", "With the mesh's own workflows.", "flag"),
            *PAGED,
        ),
        needs_all=True,
    ),
    Endpoint(
        "GET",
        "/api/v1/workflow",
        "showWorkflow",
        "One workflow, with its timeline.",
        _workflow,
        WorkflowDocument,
        parameters=(_ID, Parameter("payloads", "Events with their payloads.", "flag")),
        refuses={404: "There is none, or its memory has ended."},
    ),
    Endpoint(
        "GET",
        "/api/v1/incidents",
        "listIncidents",
        "The causes of open incidents, the most frequent first.",
        _incidents,
        Listed[CauseDocument],
        parameters=(*_OF_INCIDENTS, _SINCE, *PAGED),
        needs_all=True,
    ),
    Endpoint(
        "GET",
        "/api/v1/incident",
        "showIncident",
        "A cause, and the workflows that have it.",
        _incident,
        CauseAndIncidents,
        parameters=(Parameter("cause", "Its id.", "id", is_needed=True), _SINCE, *PAGED),
        needs_all=True,
        refuses={404: "No workflow waits because of it."},
    ),
    Endpoint(
        "GET", "/api/v1/agents", "listAgents", "Agents, their replicas and schemas.", _agents, Agents, needs_all=True
    ),
    Endpoint(
        "GET",
        "/api/v1/status",
        "showStatus",
        "The mesh, and what is stuck.",
        _status,
        MeshDocument,
        parameters=(Parameter("limit", "How many incidents to name; all are counted.", "rows"),),
        needs_all=True,
    ),
)

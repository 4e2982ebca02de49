"""A step's `approval`: the question to a person, its terms, and the schema that edits must meet.

Also `approve`, the terms of the approvals that a step's agent may ask for.

`compiler` calls this.
"""

from collections.abc import Mapping
from typing import Any, cast

from mesh.core.json_values import kind_of
from mesh.core.route import ApprovalWork, OnExpiry, ToolTerms, VotingTerms
from mesh.routes.control_flow import EMPTY
from mesh.routes.expressions.compiler import CompiledTemplate
from mesh.routes.problems import DocumentPath, Part
from mesh.routes.stages import deadline
from mesh.routes.voting import is_voted, on_expiry, voting


def approval(step: Part, steps: Mapping[str, Part], requester: CompiledTemplate | None) -> ApprovalWork | None:
    """The approval of a step.

    `steps`: all steps of the route, by name. `requester`: the route's.
    """
    part = step.mapping("approval")
    if part is None:
        return None
    part.check_required()
    if "ask" in part.value:
        part.text("ask", "the question to the person")
    payload = part.template("payload")
    ask, terms = part.template("ask"), None
    due = deadline(part)
    # of items too: a router that knows no such approvals must stop at their events (ADR 16)
    if is_voted(part.value) or "for_each" in step.value:
        _schema(part, "form")
        terms = voting(part, steps, requester)
    elif "role" not in part.value:
        part.missing("role")
    return ApprovalWork(
        ask=ask or EMPTY,
        payload=payload or EMPTY,
        role=_role(part, terms),
        deadline_s=due.seconds,
        deadline_at=due.at,
        deadline_working=due.working,
        on_expiry=on_expiry(part, terms) if terms else cast("OnExpiry", part.choice("on_expiry")),
        payload_schema=_schema(part, "payload_schema"),
        payload_from=_payload_from(payload, steps, "agent"),
        payload_step=_payload_from(payload, steps, "capability"),
        voting=terms,
    )


def tool_terms(step: Part, steps: Mapping[str, Part], requester: CompiledTemplate | None) -> ToolTerms | None:
    """The terms of the approvals that a step's agent may ask for. The rest as of `approval`."""
    part = step.mapping("approve")
    if part is None:
        return None
    due = deadline(part)
    _schema(part, "form")
    terms = voting(part, steps, requester)
    work = ApprovalWork(
        ask=EMPTY,
        payload=EMPTY,
        role=_role(part, terms),
        deadline_s=due.seconds,
        deadline_at=due.at,
        deadline_working=due.working,
        on_expiry=on_expiry(part, terms),
        payload_schema=_schema(part, "payload_schema"),
        voting=terms,
    )
    return ToolTerms(asks=work, limit=part.whole("limit"))


def _role(part: Part, terms: VotingTerms | None) -> str:
    """The role that may answer, if it is one, and known before anything is asked."""
    if terms is None:
        return (part.text("role", part.keys["role"].hint) or "") if "role" in part.value else ""
    roles = [group.role.source for group in terms.groups if group.role is not None and not group.role.paths]
    return roles[0] if len(roles) == len(terms.groups) == 1 else ""


def _schema(part: Part, key: str) -> dict[str, Any] | None:
    schema = part.value.get(key)
    if key not in part.value:
        return None
    if not isinstance(schema, dict):
        part.problem(key, f"{key} must be a JSON Schema, not {kind_of(schema)}")
        return None
    from mesh.core.schemas import NoSchema, check_schema, unusable_patterns  # noqa: PLC0415 - slow to load

    path: DocumentPath = (*part.path, key)
    for at in _distant_references(schema, path):
        part.book.add(at, "a $ref must point into the schema itself", "begin it with #")
    try:
        check_schema(schema)
    except NoSchema as error:
        part.book.add(path + error.path, f"{key} is not a JSON Schema: {error}")
    for below, reason in unusable_patterns(schema):
        part.book.add(path + below, reason, "write it without look-around and back-references")
    return schema


def _distant_references(schema: Any, path: DocumentPath) -> list[DocumentPath]:
    """Where a schema points outside itself. Nothing may be fetched to validate an answer."""
    found: list[DocumentPath] = []
    if isinstance(schema, dict):
        for key, value in schema.items():
            if key in ("$ref", "$dynamicRef") and isinstance(value, str) and not value.startswith("#"):
                found.append((*path, key))
            found += _distant_references(value, (*path, key))
    elif isinstance(schema, list):
        for place, item in enumerate(schema):
            found += _distant_references(item, (*path, place))
    return found


def _payload_from(payload: CompiledTemplate | None, steps: Mapping[str, Part], kind: str) -> str | None:
    """The agent whose output the payload is, if it is the output of exactly one step.

    If that step names a capability, the step.
    """
    if payload is None or payload.whole is None or len(payload.whole.reads) != 1:
        return None
    path = payload.whole.reads[0].segments
    step = steps.get(str(path[1])) if len(path) == 2 and path[0] == "steps" else None  # noqa: PLR2004
    if step is None or payload.whole.source != f"steps.{path[1]}" or kind not in step.value:
        return None
    if "for_each" in step.value:  # a list of them
        return None
    return str(step.value["agent"] if kind == "agent" else path[1])

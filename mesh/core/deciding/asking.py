"""Asking: a question to people, and whether an answer to it counts. An approval has exactly one verdict, given by people entitled to give it."""

import re
from typing import Any, Final

import msgspec
from jsonschema import Draft202012Validator, SchemaError
from referencing import Registry
from referencing.exceptions import Unresolvable

from mesh.core import ids
from mesh.core.canonical import digest
from mesh.core.deciding.dispatching import round_of
from mesh.core.deciding.draft import Draft
from mesh.core.events import AnswerRefused, ApprovalRequested
from mesh.core.inputs import AnswerGiven
from mesh.core.route import ApprovalWork
from mesh.core.state import StepState

__all__ = ["ask", "find_open", "is_edit", "refusal"]

_VERDICTS: Final = {"succeeded": "approved", "rejected": "rejected"}
_NOTHING_ELSE: Final[Registry[Any]] = Registry()
"""The default registry fetches what a schema refers to."""
_SHOWN: Final = 300  # characters of a validator's message, which quotes the value


def ask(draft: Draft, name: str, work: ApprovalWork, reason: str) -> None:
    """Raises `ExpressionError`."""
    workflow, scope = draft.live, draft.scope_of(name)
    payload = work.payload.render(scope)
    turn = round_of(draft, name)
    approval = ids.approval_id(workflow.workflow_id, workflow.run_id, ids.instance(name, round=turn))
    draft.add(
        ApprovalRequested(
            step=name,
            approval_id=approval,
            question=str(work.ask.render(scope)),
            payload=payload,
            digest=digest(payload),
            role=work.role,
            on_expiry=work.on_expiry,
            traceparent=draft.traceparent(approval),
            reason=reason,
            deadline_at_ms=None if work.deadline_s is None else draft.now_ms + int(work.deadline_s * 1000),
            payload_schema=_payload_schema(draft, work),
            round=turn,
        )
    )


def _payload_schema(draft: Draft, work: ApprovalWork) -> dict[str, Any] | None:
    if work.payload_schema is not None:
        return work.payload_schema
    source = draft.live.steps.get(work.payload_step or "")
    card = draft.directory.agents.get(source.agent if source is not None else work.payload_from or "")
    return card.output_schema if card else None


def find_open(draft: Draft, given: AnswerGiven) -> tuple[str, StepState] | AnswerRefused:
    """The step that waits for this answer, or why none does."""
    parsed, workflow = ids.parse_step_id(given.approval_id), draft.workflow
    step = workflow.steps.get(parsed.step) if parsed and workflow and workflow.run_id == parsed.run_id else None
    if parsed is None or step is None or step.task_id != given.approval_id or step.attempt:
        return _refused(given, "unknown", f"no approval {given.approval_id} was asked, or its memory has ended")
    if step.status == "asking":
        return parsed.step, step
    if step.incident is not None and step.incident.kind == "expired":
        return _refused(given, "late", "its deadline has passed, and an operator has it now", closed=True)
    if step.incident is not None:
        return _refused(given, "closed", f"an operator has it now: {step.incident.message}", closed=True)
    verdict = _VERDICTS.get(step.status, "")
    if step.expired:
        return _refused(given, "late", f"its deadline had passed, and it was {verdict}", verdict=verdict, closed=True)
    return _refused(given, "closed", f"it is closed: {verdict or step.status}", verdict=verdict, closed=True)


def is_edit(given: AnswerGiven, step: StepState) -> bool:
    """Whether it approves another payload than was asked. By digest, since Python holds 1 and true for equal."""
    return given.decision == "approve" and given.payload is not msgspec.UNSET and digest(given.payload) != step.digest


def refusal(draft: Draft, given: AnswerGiven, step: StepState) -> AnswerRefused | None:
    """Why this answer to an open approval does not count; None if it does."""
    if step.due_at_ms is not None and given.source_at_ms > step.due_at_ms:
        return _refused(given, "late", "it reached the broker after the deadline")
    if step.role not in draft.directory.roles.get(given.by, frozenset()):
        return _refused(given, "role", f"{given.by or 'nobody'} does not have the role {step.role}")
    if given.digest is not None and given.digest != step.digest:
        return _refused(given, "digest", f"it answers another payload: the one that was asked has {step.digest}")
    if step.payload_schema is not None and is_edit(given, step):
        problem = _misfit(step.payload_schema, given.payload)
        if problem:
            return _refused(given, "schema", problem)
    return None


def _misfit(schema: dict[str, Any], payload: Any) -> str:
    """Where the edit does not fit its schema; empty if it does.

    The schema may be an agent's, which nobody has checked: one that can't be used lets no edit pass, and must do no more harm. Nothing is fetched for it.
    """
    try:
        Draft202012Validator.check_schema(schema)
        problem = next(Draft202012Validator(schema, registry=_NOTHING_ELSE).iter_errors(payload), None)
    except (SchemaError, Unresolvable, RecursionError, re.error) as error:
        return f"no edit can be checked, since the payload's schema can't be used: {str(error)[:_SHOWN]}"
    if problem is None:
        return ""
    where = problem.json_path.replace("$", "payload", 1)
    return f"the edited payload does not fit: {where}: {problem.message[:_SHOWN]}"


def _refused(given: AnswerGiven, code: str, message: str, *, verdict: str = "", closed: bool = False) -> AnswerRefused:
    return AnswerRefused(
        approval_id=given.approval_id,
        answer_id=given.answer_id,
        code=code,
        message=message,
        by=given.by,
        verdict=verdict,
        closed=closed,
    )

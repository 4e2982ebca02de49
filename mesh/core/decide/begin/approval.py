"""Ask people: the question of an approval goes out.

`mesh.core.decide.settle.approval` closes it.
"""

from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace

from mesh.core import ids
from mesh.core.approvals import Group, Terms
from mesh.core.decide.begin.instants import instant_ms, working_instant_ms
from mesh.core.decide.begin.task import round_of
from mesh.core.decide.begin.terms import rendered, why_nobody
from mesh.core.decide.draft import Draft
from mesh.core.events import ApprovalRequested, ApprovalRequested2, IncidentRaised
from mesh.core.json_values import digest
from mesh.core.route import ApprovalWork, ExpressionError, VotingTerms
from mesh.core.schedules import rfc3339
from mesh.core.signing import stricter


def ask(draft: Draft, name: str, work: ApprovalWork, reason: str) -> None:
    """Send the question of an approval. Raises `ExpressionError`.

    If its seats can't be filled by the people there are, the step is an incident instead.
    """
    asked = _question(draft, name, work, reason)
    if work.voting is not None:
        draft.add(_to_voters(draft, name, asked, work, work.voting))
    elif draft.directory.answers != "none":
        draft.add(_on_terms(draft, asked, _of_one(work)))
    else:
        draft.add(asked)


def _of_one(work: ApprovalWork) -> Terms:
    """The terms of an approval that names a role alone, where answers must be signed.

    As one of version 1 it would not know which answers it has judged, so one that came before its
    role could be sent again.
    """
    return Terms(groups=(Group(need=1, role=work.role),), expiry_choice=work.on_expiry)


def _question(draft: Draft, name: str, work: ApprovalWork, reason: str) -> ApprovalRequested:
    workflow, scope = draft.live, draft.scope_of(name)
    payload = work.payload.render(scope)
    turn = round_of(draft, name)
    state = workflow.steps.get(name)
    # of an approval `hop` counts the questions; each has its own id, so that an answer to the one
    # before does not count for this one
    asked = 1 if state is None else state.hop
    # an agent that asks again has another payload, or an operator has had it try again
    if state is not None and ids.is_tool(name):
        asked += 1
    approval = ids.approval_id(workflow.workflow_id, workflow.run_id, ids.instance(name, round=turn, hop=asked))
    return ApprovalRequested(
        step=name,
        approval_id=approval,
        question=str(work.ask.render(scope)),
        payload=payload,
        digest=digest(payload),
        role=work.role,
        on_expiry=work.on_expiry,
        traceparent=draft.traceparent(approval),
        reason=reason,
        deadline_at_ms=_deadline_ms(draft, name, work),
        payload_schema=_payload_schema(draft, work),
        round=turn,
        asked=asked,
    )


def _deadline_ms(draft: Draft, name: str, work: ApprovalWork) -> int | None:
    """The instant of the deadline; None: it stays open. Raises `ExpressionError`."""
    if work.deadline_working is not None:
        return working_instant_ms(draft, work.deadline_working, draft.now_ms)
    if work.deadline_at is None:
        return None if work.deadline_s is None else draft.now_ms + int(work.deadline_s * 1000)
    found = instant_ms(work.deadline_at.render(draft.scope_of(name)), "deadline")
    # nobody could answer, and `on_expiry` would decide at once
    if found <= draft.now_ms:
        raise ExpressionError(f"the deadline {rfc3339(found)} had passed when it was to be asked")
    return found


def _to_voters(
    draft: Draft, name: str, asked: ApprovalRequested, work: ApprovalWork, voting: VotingTerms
) -> ApprovalRequested2 | IncidentRaised:
    """The same question, on terms; or why nobody could answer it."""
    terms = rendered(draft, name, voting)
    lacking = why_nobody(draft, terms) if voting.on_nobody == "incident" else ""
    if lacking:
        return IncidentRaised(step=name, kind="nobody", message=lacking)
    return _on_terms(draft, asked, terms, sorted(work.calendars))


def _on_terms(
    draft: Draft, asked: ApprovalRequested, terms: Terms, calendars: Iterable[str] = ()
) -> ApprovalRequested2:
    # what the mesh asks for now goes with the question, so a later setting takes nothing from it
    terms = replace(terms, signed=stricter(terms.signed, draft.directory.answers))
    fields = {field: getattr(asked, field) for field in asked.__struct_fields__ if field != "role"}
    people = draft.directory.people
    return ApprovalRequested2(
        **fields,
        role=_role(terms.groups[0].role, terms.rule, len(terms.groups)),
        terms=terms,
        people="" if people is None else people.digest,
        calendars={name: (draft.directory.calendars or {})[name].digest for name in calendars},
    )


def _role(role: str, rule: str, groups: int) -> str:
    """What tools of version 1 show as the role: the role if there is one alone, else the rule."""
    return role if role and groups == 1 else rule


def _payload_schema(draft: Draft, work: ApprovalWork) -> dict[str, Any] | None:
    if work.payload_schema is not None:
        return work.payload_schema
    # the agent that did the step, if it is known: of a capability or after a hand-over the route
    # does not say which
    source = draft.live.steps.get(work.payload_step or "")
    card = draft.directory.agents.get(source.agent if source is not None else work.payload_from or "")
    # it goes into the event, so a newer card changes nothing about a question that is open
    return card.output_schema if card else None

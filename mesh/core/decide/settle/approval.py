"""Close an approval: does an answer count, and what is the verdict?

There is one verdict, by an answer or by the deadline.
"""

from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

from mesh.core import ids
from mesh.core.approvals import Held
from mesh.core.decide.begin import for_each
from mesh.core.decide.begin.end import end, rejection_reason
from mesh.core.decide.begin.terms import why_nobody_left
from mesh.core.decide.draft import Draft
from mesh.core.decide.progress import settled
from mesh.core.decide.settle.budget import on_budget_answer
from mesh.core.decide.settle.delegates import in_force_for, why_no_mandate, why_not_covered
from mesh.core.decide.settle.personal import on_personal
from mesh.core.decide.settle.refusing import Refusal
from mesh.core.decide.settle.signatures import signed_event, why_unproven
from mesh.core.decide.settle.stages import due_stage, escalated, why_escalated
from mesh.core.decide.settle.tools import on_tool_verdict
from mesh.core.decide.settle.voting import close_at_deadline, closing, on_word, refused, whole, why_expired
from mesh.core.decide.settle.words import asking_of, held_word, is_repeated
from mesh.core.delegations import Mandate
from mesh.core.events import (
    AnswerRefused,
    ApprovalClosed,
    ApprovalClosed2,
    ApprovalWithdrawn,
    DeadlineMoved,
    IncidentRaised,
    QuestionAsked,
)
from mesh.core.inputs import AnswerGiven, AnswerGiven2, AnswerUnreadable, CheckedAnswer, without_more
from mesh.core.joins import rejection_is_taken
from mesh.core.json_values import digest
from mesh.core.schemas import why_unfit
from mesh.core.signing import stricter
from mesh.core.state import StepState, Workflow


def on_answer(draft: Draft, given: AnswerGiven | AnswerGiven2) -> None:
    if isinstance(given, AnswerGiven2) and given.is_personal:
        on_personal(draft, given)
        return
    voted = _asks_voters(draft, given.approval_id)
    if _is_unproven(draft, given, voted):
        return
    if voted is not None:
        _on_word(draft, whole(given), *voted)
    elif isinstance(given, AnswerGiven):
        _on_first(draft, given)
    else:
        _on_more(draft, given)


def _is_unproven(draft: Draft, given: AnswerGiven | AnswerGiven2, voted: tuple[str, StepState] | None) -> bool:
    """Whether the answer is refused for its signature. Logs the signature of one that has any."""
    found = find_open(draft, given)
    if isinstance(found, AnswerRefused) and found.code == "unknown":
        return False
    if isinstance(given, CheckedAnswer):
        draft.add(signed_event(given))
    level = "none" if voted is None else asking_of(voted[1]).terms.signed
    why = why_unproven(given, stricter(draft.directory.answers, level))
    if why is None:
        return False
    end = found if isinstance(found, AnswerRefused) else _refused(given, why.code, why.message)
    if voted is not None:
        draft.add(refused(whole(given), *voted, why, like=end))
    else:
        draft.add(replace(end, code=why.code, message=why.message))
    return True


def _asks_voters(draft: Draft, approval_id: str) -> tuple[str, StepState] | None:
    """The step that has asked this in version 2, whether it is open or closed."""
    parsed, workflow = ids.parse_step_id(approval_id), draft.workflow
    step = workflow.steps.get(parsed.step) if parsed and workflow and workflow.run_id == parsed.run_id else None
    if parsed is None or step is None or step.asking is None or step.task_id != approval_id:
        return None
    return parsed.step, step


def _on_word(draft: Draft, word: AnswerGiven2, name: str, step: StepState) -> None:
    """Judge an answer to an approval of version 2."""
    # by the broker's time of the answer: its rights must not depend on when the timer is decided
    if step.due_at_ms is None or word.source_at_ms <= step.due_at_ms:
        escalate_by(draft, name, word.source_at_ms - 1)
    found = find_open(draft, word)
    if not isinstance(found, AnswerRefused):
        due_ms = step.due_at_ms
        closed = on_word(draft, word, name, draft.live.steps[name])
        if closed is not None:
            close(draft, closed)
        elif draft.live.steps[name].due_at_ms != due_ms:
            judge_held(draft, name)
    elif is_repeated(word, step):
        why = Refusal("repeated", f"the answer with this id was judged before; {found.message}")
        draft.add(refused(word, name, step, why, like=found))
    else:
        draft.add(refused(word, name, step, Refusal(found.code, found.message), like=found))


def judge_held(draft: Draft, name: str) -> None:
    """Judge the answers that are in time since the deadline was moved, by their broker times."""
    before = draft.live.steps[name]
    # looked up each time: one of them may move the deadline again, or close the approval
    while _is_open(draft, name, before) and (held := _next_held(draft.live.steps[name])) is not None:
        _on_word(draft, held_word(draft, before.task_id, held), name, draft.live.steps[name])


def _next_held(step: StepState) -> Held | None:
    """The earliest of the held answers that are in time now."""
    held = () if step.asking is None else step.asking.held
    in_time = (one for one in held if step.due_at_ms is None or one.at_ms <= step.due_at_ms)
    return min(in_time, key=lambda one: (one.at_ms, one.source), default=None)


def refuse_held(draft: Draft, before: Workflow) -> None:
    """Refuse the answers that were held for an approval which this decision has ended.

    `before`: the workflow as it was. Each answer gets its receipt so.
    """
    ended = {event.step: event for event in draft.events if isinstance(event, ENDS)}
    for name, event in ended.items():
        step = before.steps.get(name)
        if step is None or step.asking is None or not step.asking.held or _is_open(draft, name, step):
            continue
        verdict = event.verdict if isinstance(event, ApprovalClosed2) else ""
        judged = {getattr(one, "source", None) for one in draft.events}
        for held in step.asking.held:
            if held.source not in judged:
                word = held_word(draft, step.task_id, held)
                why = _why_ended(draft, name, step, held)
                end = _refused(word, why.code, "", verdict=verdict, closed=True)
                draft.add(refused(word, name, step, why, like=end))


def _why_ended(draft: Draft, name: str, before: StepState, held: Held) -> Refusal:
    moves = [one for one in draft.events if isinstance(one, DeadlineMoved | QuestionAsked) and one.step == name]
    if held.at_ms <= max([before.due_at_ms or 0, *(one.deadline_at_ms or 0 for one in moves)]):
        return Refusal("closed", "it is closed: another answer has brought the verdict")
    return Refusal("late", "it reached the broker after the deadline, which nobody has moved behind it")


ENDS: Final = (ApprovalClosed2, ApprovalWithdrawn, IncidentRaised)
"""What ends an open approval."""


def _is_open(draft: Draft, name: str, before: StepState) -> bool:
    step = draft.workflow.steps.get(name) if draft.workflow is not None else None
    return step is not None and step.status == "asking" and step.task_id == before.task_id


def find_asking(draft: Draft, approval_id: str) -> tuple[str, StepState] | Refusal:
    """The open approval of version 2 with this id, or why an order about it can't be obeyed."""
    parsed, workflow = ids.parse_step_id(approval_id), draft.workflow
    step = workflow.steps.get(parsed.step) if parsed and workflow and workflow.run_id == parsed.run_id else None
    if parsed is None or step is None or step.task_id != approval_id or step.attempt:
        return Refusal("unknown", f"no approval {approval_id} is open: `mesh approvals` lists them")
    if step.status != "asking":
        return Refusal("closed", f"{approval_id} is closed: {_VERDICTS.get(step.status, step.status)}")
    if step.asking is None:
        message = f"{approval_id} is an approval of one answer: only one with votes takes such an order"
        return Refusal("version", message)
    return parsed.step, step


def escalate_by(draft: Draft, name: str, up_to_ms: int) -> None:
    """Bring about the stages of an open approval whose instants are not after `up_to_ms`."""
    step = draft.live.steps[name]
    while step.status == "asking" and (stage := due_stage(step, up_to_ms)) is not None:
        draft.add(escalated(name, step, stage))
        # a vote from before the stage may be enough now
        closed = closing(draft, name, reason=why_escalated(stage))
        if closed is not None:
            close(draft, closed)
            return
        step = draft.live.steps[name]


def reach_stage(draft: Draft, name: str, due_ms: int) -> None:
    """Bring about the stages up to an instant, and see that people are left who can answer.

    All answers from before the instant must have been read.
    """
    escalate_by(draft, name, due_ms)
    step = draft.workflow.steps.get(name) if draft.workflow is not None else None
    # an answer that is later than a stage brings it about too, but one from before may be unread
    # then, and may still fill a seat: so only the timer looks, which has the barrier
    if step is None or step.status != "asking" or step.asking is None or not step.asking.stage:
        return
    stage = step.asking.terms.stages[step.asking.stage - 1]
    lacking = why_nobody_left(draft, step.asking, stage.at_ms + 1)
    if lacking:
        draft.add(IncidentRaised(step=name, kind="nobody", message=f"it was escalated to {stage.who}: {lacking}"))


def _on_more(draft: Draft, given: AnswerGiven2) -> None:
    """Refuse an answer that says more than an approval of version 1 takes.

    One that is signed may say no more than that.
    """
    plain = without_more(replace(given, on_behalf=""))
    if plain is not None:
        _on_first(draft, plain, given if given.on_behalf else None)
        return
    found = find_open(draft, given)
    if isinstance(found, AnswerRefused):
        draft.add(found)
    else:
        message = f"this approval takes approve and reject alone, without choice, form or text: {given.decision}"
        draft.add(_refused(given, "malformed", message))


def _on_first(draft: Draft, given: AnswerGiven, delegated: AnswerGiven2 | None = None) -> None:
    """Judge an answer to an approval of version 1: the first that counts is the verdict.

    `delegated`: the same answer, if it is for somebody else.
    """
    on_behalf = "" if delegated is None else delegated.on_behalf
    found = find_open(draft, given)
    if isinstance(found, AnswerRefused):
        draft.add(replace(found, on_behalf=on_behalf))
        return
    name, step = found
    mandates = () if delegated is None else in_force_for(draft, delegated, draft.directory.answers)
    refused = refusal(draft, given, step, delegated, mandates)
    if refused is not None:
        draft.add(replace(refused, on_behalf=on_behalf))
        return
    edited = is_edit(given, step)
    close(
        draft,
        ApprovalClosed(
            step=name,
            approval_id=given.approval_id,
            verdict="approved" if given.decision == "approve" else "rejected",
            payload=given.payload if edited else step.input,
            by=given.by,
            role=step.role,
            answer_id=given.answer_id,
            reason=given.reason,
            edited=edited,
            on_behalf=on_behalf,
            delegation=next((one.delegation for one in mandates if step.role in one.roles), ""),
        ),
    )


def on_unreadable_answer(draft: Draft, given: AnswerUnreadable) -> None:
    """Refuse an answer that can't be read. The approval stays as it is."""
    found = find_open(draft, given)
    refused = _refused(given, given.code, given.message)
    if isinstance(found, AnswerRefused):
        refused = replace(refused, verdict=found.verdict, closed=found.closed)
    draft.add(refused)


def expire(draft: Draft, name: str, step: StepState) -> None:
    """Close an approval that nobody answered by the deadline."""
    # whichever timer is decided first: what came about before the deadline may have closed it
    if step.asking is not None and step.due_at_ms is not None:
        escalate_by(draft, name, step.due_at_ms - 1)
        if any(isinstance(event, ApprovalClosed2) for event in draft.events):
            return
        step = draft.live.steps[name]
    if step.on_expiry == "incident":
        waited = f"nobody with role {step.role} answered by the deadline"
        message = waited if step.asking is None else why_expired(step)
        draft.add(IncidentRaised(step=name, kind="expired", message=message))
        return
    if step.asking is not None:
        close(draft, close_at_deadline(name, step))
        return
    close(
        draft,
        ApprovalClosed(
            step=name,
            approval_id=step.task_id,
            verdict="approved" if step.on_expiry == "approve" else "rejected",
            payload=step.input,
            reason=f"no answer by the deadline; on_expiry: {step.on_expiry}",
            expired=True,
        ),
    )


def close(draft: Draft, closed: ApprovalClosed) -> None:
    """Close it, and let what follows from the verdict act."""
    draft.add(closed)
    # the question for more budget belongs to no step, so nothing needs it in the route
    if ids.is_budget(closed.step):
        on_budget_answer(draft, closed)
        return
    if ids.is_tool(closed.step):
        on_tool_verdict(draft, closed)
        return
    if ids.is_item(closed.step):
        _close_item(draft, closed.step)
        return
    # at once, even while other branches are under way: nothing in the route handles it
    if closed.verdict == "rejected" and not rejection_is_taken(draft.route, closed.step):
        end(draft, "rejected", rejection_reason(draft.live.steps[closed.step], closed.step))
        return
    settled(draft, closed.step)


def _close_item(draft: Draft, place: str) -> None:
    """Go on after the verdict on an item. More rejections than are tolerated end the workflow."""
    name = ids.step_of(place)
    if for_each.is_beyond_tolerance(draft, name):
        end(draft, "rejected", rejection_reason(draft.live.steps[place], place))
    else:
        settled(draft, place)


_VERDICTS: Final = {"succeeded": "approved", "rejected": "rejected"}


def find_open(
    draft: Draft, given: AnswerGiven | AnswerGiven2 | AnswerUnreadable
) -> tuple[str, StepState] | AnswerRefused:
    """The step that waits for this answer, or why no step does."""
    parsed, workflow = ids.parse_step_id(given.approval_id), draft.workflow
    step = workflow.steps.get(parsed.step) if parsed and workflow and workflow.run_id == parsed.run_id else None
    if parsed is not None and step is not None and step.task_id != given.approval_id and _was_asked_before(step):
        message = f"it is closed: {parsed.step} has moved on to another question since"
        return _refused(given, "closed", message, closed=True)
    if parsed is not None and workflow is not None and _has_ended(workflow, parsed):
        return _refused(given, "closed", "it is closed, and so are all of its for-each", closed=True)
    # a step with attempts is a task or a call, so its id is not an approval's
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


def _has_ended(workflow: Workflow, asked: ids.TaskId) -> bool:
    """Whether this is an item of a for-each that has ended, so nothing of the item is kept."""
    each = workflow.steps.get(ids.step_of(asked.step)) if ids.is_of_item(asked.step) else None
    return each is not None and each.fan is None and workflow.run_id == asked.run_id


def _was_asked_before(step: StepState) -> bool:
    """Whether the step has had questions before the one that it has, or is to have, now."""
    return step.round > 1 or (step.hop > 1 and not step.attempt)


def is_edit(given: AnswerGiven, step: StepState) -> bool:
    """Whether the answer approves a payload other than the one that was asked."""
    # by digest, because Python holds 1 and true to be equal
    return given.decision == "approve" and given.payload is not msgspec.UNSET and digest(given.payload) != step.digest


def refusal(
    draft: Draft,
    given: AnswerGiven,
    step: StepState,
    delegated: AnswerGiven2 | None = None,
    mandates: Sequence[Mandate] = (),
) -> AnswerRefused | None:
    """Why this answer to an open approval does not count; None if it counts.

    `delegated`: the same answer, if it is for somebody else, under one of the `mandates`.
    """
    # by the broker's timestamp of the answer, however late it is read
    if step.due_at_ms is not None and given.source_at_ms > step.due_at_ms:
        return _refused(given, "late", "it reached the broker after the deadline")
    if delegated is not None:
        why = _why_not_for(draft, delegated, step, mandates)
        if why is not None:
            return _refused(given, why.code, why.message)
    elif step.role not in draft.directory.roles.get(given.by, frozenset()):
        where = f" in {draft.directory.roles_from}" if draft.directory.roles_from else ""
        return _refused(given, "role", f"{given.by or 'nobody'} does not have the role {step.role}{where}")
    # optional: without edits there is one payload alone that the answer can be for
    if given.digest is not None and given.digest != step.digest:
        return _refused(given, "digest", f"it answers another payload: the one that was asked has {step.digest}")
    if step.payload_schema is not None and is_edit(given, step):
        problem = why_unfit(step.payload_schema, given.payload, "the edited payload", at="payload")
        if problem:
            return _refused(given, "schema", problem)
    return None


def _why_not_for(draft: Draft, delegated: AnswerGiven2, step: StepState, mandates: Sequence[Mandate]) -> Refusal | None:
    """Why somebody may not answer for the person with the role."""
    if not mandates:
        return why_no_mandate(draft, delegated)
    if any(step.role in one.roles for one in mandates):
        return None
    return why_not_covered(delegated, mandates, step.role)


def _refused(
    given: AnswerGiven | AnswerGiven2 | AnswerUnreadable,
    code: str,
    message: str,
    *,
    verdict: str = "",
    closed: bool = False,
) -> AnswerRefused:
    return AnswerRefused(
        approval_id=given.approval_id,
        answer_id=given.answer_id,
        code=code,
        message=message,
        by=given.by,
        verdict=verdict,
        closed=closed,
    )

"""The inputs that a recording gives back to the sandbox.

They are commands, results, ends of calls, slots and answers, addressed to the sandbox's run. Owns
how a recorded input is addressed to the run; `mesh.inspection.what_if.sandbox` calls it.
"""

from typing import Any, Final, Literal, assert_never

import msgspec

from mesh.core import ids
from mesh.core.events import (
    ApprovalRequested,
    ApprovalWanted,
    CallFailed,
    CallMade,
    CallSucceeded,
    CallWithdrawn,
    CommandAccepted,
    PayloadEdited,
    SlotRequested,
    TaskDispatched,
    TaskFailed,
    TaskHandedOver,
    TaskSucceeded,
    VoteCast,
    VoteTakenBack,
)
from mesh.core.inputs import (
    NOWHERE,
    AnswerGiven,
    AnswerGiven2,
    CallEnded,
    CommandGiven,
    Input,
    ResultReceived,
    SlotDenied,
    SlotGiven,
    TaskError,
    TaskUndeliverable,
    Undeliverable,
)
from mesh.inspection.what_if.recording import Attempt, Outcome, Question, Word

_CALL_ENDS: Final = frozenset({"failed", "rejected", "cancelled", "refused"})
_COMMANDS: Final[dict[str, Literal["cancel", "retry", "skip", "fail"]]] = {
    "cancel": "cancel",
    "retry": "retry",
    "skip": "skip",
    "fail": "fail",
}


def command_input(workflow_id: str, accepted: CommandAccepted, place: str | None) -> CommandGiven:
    return CommandGiven(
        workflow_id=workflow_id,
        command_id=accepted.command_id,
        command=_COMMANDS[accepted.command],
        by=accepted.by,
        reason=accepted.reason,
        step=place,
        **NOWHERE,
        source_at_ms=0,
    )


def result_input(workflow_id: str, event: TaskDispatched | CallMade, attempt: Attempt, outcome: Outcome) -> Input:
    about: dict[str, Any] = {"workflow_id": workflow_id, "task_id": event.task_id, "attempt": event.attempt}
    match outcome:
        case TaskSucceeded():
            return ResultReceived(status="succeeded", output=outcome.output, usage=outcome.usage, **about)
        case TaskHandedOver():
            return ResultReceived(status="handed_over", handover=attempt.handed, usage=outcome.usage, **about)
        case ApprovalWanted():
            return ResultReceived(status="approval_wanted", approval=attempt.wanted, usage=outcome.usage, **about)
        case TaskFailed(kind="undeliverable"):
            return TaskUndeliverable(code="recorded", message=outcome.message, **about)
        case TaskFailed() if outcome.deaths:
            about["agent_instance"] = outcome.agent_instance
            return ResultReceived(status="interrupted", usage=outcome.usage, **about)
        case TaskFailed():
            error = TaskError(
                kind=outcome.kind,
                message=outcome.message,
                retryable=outcome.retryable,
                retry_after_s=outcome.retry_after_s,
            )
            return ResultReceived(status="failed", error=error, usage=outcome.usage, **about)
        case CallSucceeded():
            ended = {**about, **NOWHERE, "source_at_ms": 0, "called": outcome.called}
            return CallEnded(status="completed", output=outcome.output, usage=outcome.usage, **ended)
        case _:
            return _call_failed(about, event, outcome)


def _call_failed(about: dict[str, Any], event: TaskDispatched | CallMade, failed: CallFailed) -> Input:
    # that is not how a workflow ends: the call itself could not be sent
    if failed.kind not in _CALL_ENDS:
        name = f"{ids.attempt_id(event.task_id, event.attempt)}/call"
        return Undeliverable(
            workflow_id=about["workflow_id"], effect_id=name, topic="", code="recorded", message=failed.message
        )
    ended = {**about, **NOWHERE, "source_at_ms": 0, "called": failed.called, "status": failed.kind}
    return CallEnded(reason=failed.message, usage=failed.usage, **ended)


def report_input(workflow_id: str, event: CallWithdrawn | CallFailed, usage: dict[str, float] | None) -> CallEnded:
    about: dict[str, Any] = {"task_id": event.task_id, "attempt": event.attempt, "called": event.called}
    return CallEnded(workflow_id=workflow_id, status="cancelled", usage=usage, **about, **NOWHERE, source_at_ms=0)


def slot_input(workflow_id: str, event: SlotRequested, now_ms: int, *, denied: bool = False) -> SlotGiven | SlotDenied:
    about: dict[str, Any] = {"workflow_id": workflow_id, "limit": event.limit, **NOWHERE, "source_at_ms": now_ms}
    about |= {"task_id": event.task_id, "attempt": event.attempt}
    return SlotDenied(message="as recorded", **about) if denied else SlotGiven(asked_at_ms=now_ms, **about)


def answer_input(
    workflow_id: str, event: ApprovalRequested, question: Question, at_ms: int
) -> AnswerGiven | AnswerGiven2 | Undeliverable | None:
    """The recorded answer to a question; None if nobody answered."""
    if question.undeliverable:
        return Undeliverable(
            workflow_id=workflow_id,
            effect_id=event.approval_id,
            topic="",
            code="recorded",
            message=question.undeliverable,
        )
    closed = question.closed
    if closed is None:
        return None
    said: dict[str, Any] = {
        "workflow_id": workflow_id,
        "approval_id": event.approval_id,
        "answer_id": closed.answer_id,
        "decision": "approve" if closed.verdict == "approved" else "reject",
        "by": closed.by,
        "reason": closed.reason,
        "payload": closed.payload if closed.edited else msgspec.UNSET,
        **NOWHERE,
        "source_at_ms": at_ms,
    }
    return AnswerGiven2(**said, on_behalf=closed.on_behalf) if closed.on_behalf else AnswerGiven(**said)


def word_input(workflow_id: str, approval_id: str, word: Word, at_ms: int) -> AnswerGiven2:
    """What a person said in an approval of several people. The sandbox says what they saw."""
    about: dict[str, Any] = {
        "workflow_id": workflow_id,
        "approval_id": approval_id,
        **NOWHERE,
        "source_at_ms": at_ms,
    }
    match word:
        case VoteCast(vote=vote):
            about |= {"answer_id": vote.answer_id, "by": vote.by, "reason": vote.reason, "form": vote.form}
            return AnswerGiven2(decision="choose", choice=vote.choice, on_behalf=vote.on_behalf, **about)
        case VoteTakenBack():
            return AnswerGiven2(decision="withdraw", answer_id=word.answer_id, by=word.by, **about)
        case PayloadEdited():
            # the same answer may also be a vote, and then that has its id
            edit = f"{word.answer_id}/edit"
            return AnswerGiven2(decision="edit", answer_id=edit, by=word.by, payload=word.payload, **about)
        case _:
            assert_never(word)

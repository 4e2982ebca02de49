"""Questions back: who may ask and answer, the agent's task, and what becomes of it.

An answer of a person is judged by `mesh.core.decide.settle.words`, which asks here. A task's result
comes from `mesh.core.decide.settle.task`. Whatever else would be an incident at the place of a
question is its answer, and says that it failed; `mesh.core.decide.draft` sees to that.
"""

from typing import Any, Final

import msgspec

from mesh.core import ids
from mesh.core.approvals import MOST_NOTES, MOST_TEXT, Asking
from mesh.core.decide.begin.task import dispatch, question_work
from mesh.core.decide.draft import Draft
from mesh.core.decide.settle.refusing import Refusal
from mesh.core.events import QuestionAnswered, QuestionAsked
from mesh.core.inputs import AnswerGiven2
from mesh.core.json_values import text_of
from mesh.core.questions import MOST_PROPOSAL, Question, Reply, found_among, names_of
from mesh.core.state import StepState
from mesh.core.voting import Body, belongs

_ASKED_OFTEN: Final = {1: "one question may be asked, and was"}


# Judging ------------------------------------------------------------------------------------------


def room_for_notes(asking: Asking) -> int:
    """How many more notes there may be. The answer to each open question has its place."""
    return MOST_NOTES - asking.notes - len(asking.questions)


def why_not_asked(draft: Draft, word: AnswerGiven2, asking: Asking) -> Refusal | None:
    """Why this question can't be asked."""
    back = asking.terms.asking_back
    if back is None:
        return Refusal("question", "its route lets nobody ask back: add a comment")
    to = found_among(back.to, word.to)
    if to is None:
        return Refusal("question", f"say whom you ask: send as `to` one of {names_of(back.to)}")
    if asking.asked >= back.limit:
        return Refusal("limit", _ASKED_OFTEN.get(back.limit, f"{back.limit} questions may be asked, and were"))
    # with the answer it takes two
    if room_for_notes(asking) <= 1:
        return Refusal("limit", f"an approval takes {MOST_NOTES} notes")
    short = draft.shortage({}) if to.agent else None
    if short is not None:
        return Refusal("limit", f"the agent can't be asked, because the workflow's budget lacks {short.what}")
    return None


def why_not_answered(word: AnswerGiven2, asking: Asking, body: Body) -> Refusal | None:
    """Why this is no answer to an open question, or not of this person."""
    question = open_question(word, asking)
    if question is None:
        numbers = ", ".join(str(one.number) for one in asking.questions if not one.to.agent)
        known = f"open are {numbers}: send one as `question`" if numbers else "none is open"
        return Refusal("question", f"it answers no open question; {known}")
    to = question.to
    if belongs(body, to.role, to.people):
        return None
    return Refusal("role", f"{word.by or 'nobody'} was not asked; question {question.number} is for {to.name}")


def open_question(word: AnswerGiven2, asking: Asking) -> Question | None:
    """The question to people that the answer is for; the only one, if it names none."""
    to_people = [one for one in asking.questions if not one.to.agent]
    if word.question:
        return next((one for one in to_people if one.number == word.question), None)
    return to_people[0] if len(to_people) == 1 else None


# Asking and answering -----------------------------------------------------------------------------


def asked(said: dict[str, Any], word: AnswerGiven2, step: StepState, asking: Asking) -> QuestionAsked:
    """The question's event. `said`: what all events of an answer say of it."""
    back = asking.terms.asking_back
    to = None if back is None else found_among(back.to, word.to)
    if back is None or to is None:
        raise AssertionError(f"{word.approval_id}: nobody was asked")
    due_ms = step.due_at_ms
    return QuestionAsked(
        **said,
        question=asking.asked + 1,
        note=asking.notes + 1,
        text=word.text,
        to=to,
        before_ms=due_ms,
        deadline_at_ms=None if due_ms is None else due_ms + back.extends_ms,
    )


def ask(draft: Draft, event: QuestionAsked) -> None:
    """Take the question, and send it if an agent is to answer."""
    draft.add(event)
    agent = event.to.agent
    if not agent:
        return
    step = draft.live.steps[event.step]
    value = {"question": event.text, "payload": step.input, "approval_id": event.approval_id}
    place = ids.question_place(event.step, event.question)
    # by the same count of questions at the step as the approval has, so that its id is new
    dispatch(draft, place, question_work(agent), value, f"{event.by} asks", attempt=1, hop=step.hop)


def informed(said: dict[str, Any], word: AnswerGiven2, asking: Asking) -> QuestionAnswered:
    """The event of a person's answer."""
    question = open_question(word, asking)
    if question is None:
        raise AssertionError(f"{word.approval_id}: no question is answered")
    return QuestionAnswered(**said, question=question.number, note=asking.notes + 1, reply=Reply(text=word.text))


def answered(draft: Draft, place: str, output: Any) -> None:
    """Take an agent's result as the answer."""
    approval, number = ids.asked_by(place)
    step = draft.live.steps[approval]
    if step.asking is None:
        raise AssertionError(f"{place} of {draft.workflow_id} is no question of an approval")
    draft.add(
        QuestionAnswered(
            step=approval,
            approval_id=step.task_id,
            by="",
            at_ms=draft.now_ms,
            answer_id="",
            question=number,
            note=step.asking.notes + 1,
            reply=reply_of(output),
            agent=draft.live.steps[place].agent,
        )
    )


def reply_of(output: Any) -> Reply:
    """What an agent says: its output's `text`, and `proposal` if there is one; or all of it."""
    if not isinstance(output, dict) or not isinstance(output.get("text"), str):
        return Reply(text=_cut(output if isinstance(output, str) else text_of(output)))
    text, proposal = output["text"], output.get("proposal", msgspec.UNSET)
    if proposal is not msgspec.UNSET and len(text_of(proposal).encode("utf-8", "surrogatepass")) > MOST_PROPOSAL:
        note = f"(its proposal is left out: it has more than {MOST_PROPOSAL:,} bytes)"
        return Reply(text=f"{_cut(text, room=len(note) + 1)}\n{note}")
    return Reply(text=_cut(text), proposal=proposal)


def _cut(text: str, *, room: int = 0) -> str:
    """The text, or as much of it as a note may have."""
    raw = text.encode("utf-8", "replace")
    most = MOST_TEXT - room
    return text if len(raw) <= most else raw[: most - 3].decode("utf-8", "ignore") + "..."

"""An operator's orders about one open approval: move its deadline, reassign it, void a vote.

An operator can't vote, and can't lift what the route excludes. The directory has people as of the
order's time, as of an answer. An order may call a person by any of their names.
"""

from mesh.core.approvals import Change, Vote
from mesh.core.decide.draft import Draft
from mesh.core.decide.settle.approval import close, escalate_by, find_asking, judge_held
from mesh.core.decide.settle.refusing import Refusal, refuse_command
from mesh.core.decide.settle.voting import closing
from mesh.core.decide.settle.words import asking_of
from mesh.core.events import ApprovalReassigned, CommandAccepted, DeadlineMoved, VoteTakenBack
from mesh.core.inputs import ApprovalOrder, CommandGiven
from mesh.core.people import further_names, id_of, person_of
from mesh.core.schedules import rfc3339
from mesh.core.state import StepState
from mesh.core.voting import Body, standing, takes_part, why_excluded, without


def on_order(draft: Draft, given: CommandGiven, order: ApprovalOrder) -> None:
    """Obey the order, or refuse it. Either way its sender gets one receipt."""
    found = find_asking(draft, order.approval_id)
    if not isinstance(found, Refusal):
        name, step = found
        # as of an answer: what came about before the order must not depend on the timer
        if step.due_at_ms is None or given.source_at_ms <= step.due_at_ms:
            escalate_by(draft, name, given.source_at_ms - 1)
        found = find_asking(draft, order.approval_id)
    if not isinstance(found, Refusal):
        found = _why_not(draft, given, order, found[1]) or found
    if isinstance(found, Refusal):
        refuse_command(draft, given, found.code, found.message)
        return
    draft.add(CommandAccepted(command_id=given.command_id, command=given.command, by=given.by, reason=given.reason))
    name, step = found
    match given.command:
        case "extend":
            _extend(draft, given, name, step, _moved_to(order, step))
        case "reassign":
            _reassign(draft, given, order, name)
        case _:
            draft.add(_void(draft, given, order, name, step))


# Whether it can be ------------------------------------------------------------------------------


def _why_not(draft: Draft, given: CommandGiven, order: ApprovalOrder, step: StepState) -> Refusal | None:
    match given.command:
        case "extend":
            return _why_not_extended(given, order, step)
        case "reassign":
            return _why_not_reassigned(draft, order, step)
        case _:
            has_voted = _vote_of(draft, order.voter, step) is not None
            return None if has_voted else Refusal("no_vote", f"{order.voter} has no vote in {order.approval_id}")


def _why_not_extended(given: CommandGiven, order: ApprovalOrder, step: StepState) -> Refusal | None:
    if step.due_at_ms is None:
        return Refusal("deadline", f"{order.approval_id} has no deadline: it stays open")
    if given.source_at_ms > step.due_at_ms:
        return Refusal("late", f"the deadline of {order.approval_id} had passed: {rfc3339(step.due_at_ms)}")
    if _moved_to(order, step) <= step.due_at_ms:
        message = f"the deadline of {order.approval_id} is {rfc3339(step.due_at_ms)}: name a later time"
        return Refusal("deadline", message)
    return None


def _moved_to(order: ApprovalOrder, step: StepState) -> int:
    return order.until_ms or (step.due_at_ms or 0) + order.by_ms


def _why_not_reassigned(draft: Draft, order: ApprovalOrder, step: StepState) -> Refusal | None:
    asking = asking_of(step)
    editors = frozenset(map(person_of, asking.editors)) if asking.terms.not_editors else frozenset()
    for name in order.people:
        body = _body(draft, name)
        why = why_excluded(asking.terms, body) or ("they have edited it" if body.is_among(editors) else "")
        if why:
            return Refusal("excluded", f"{name} can't vote here: {why}; no order lifts that")
    return None


def _body(draft: Draft, name: str) -> Body:
    """Whom an order means by a name."""
    people = draft.directory.people
    person = id_of(people, name)
    return Body(person_of(person), frozenset(), further_names(people, person))


def _vote_of(draft: Draft, name: str, step: StepState) -> Vote | None:
    """The vote of the person whom an order means, under whatever name it was given."""
    body = _body(draft, name)
    return next((vote for vote in asking_of(step).votes if takes_part(vote, body)), None)


# What it brings about -----------------------------------------------------------------------------


def _extend(draft: Draft, given: CommandGiven, name: str, step: StepState, to_ms: int) -> None:
    moved = DeadlineMoved(
        step=name,
        approval_id=step.task_id,
        before_ms=step.due_at_ms or 0,
        deadline_at_ms=to_ms,
        by=given.by,
        at_ms=given.source_at_ms,
    )
    draft.add(moved)
    judge_held(draft, name)


def _reassign(draft: Draft, given: CommandGiven, order: ApprovalOrder, name: str) -> None:
    # answers of before still count, even if they are read later
    # by id: the order means the same person, also if somebody else has the name later
    people = tuple(dict.fromkeys(id_of(draft.directory.people, one) for one in order.people))
    change = Change(from_ms=given.source_at_ms, roles=order.roles, people=people, alone=order.replace)
    draft.add(ApprovalReassigned(step=name, approval_id=order.approval_id, by=given.by, change=change))
    closed = closing(draft, name, reason=f"{given.by} has reassigned it, and the votes that were there suffice")
    if closed is not None:
        close(draft, closed)


def _void(draft: Draft, given: CommandGiven, order: ApprovalOrder, name: str, step: StepState) -> VoteTakenBack:
    asking = asking_of(step)
    vote = _vote_of(draft, order.voter, step)
    voter = order.voter if vote is None else vote.by
    now = standing(asking.terms, without(asking.votes, voter), asking.changes)
    return VoteTakenBack(
        step=name,
        approval_id=step.task_id,
        by=voter,
        at_ms=given.source_at_ms,
        answer_id=given.command_id,
        why="void",
        edition=asking.edition,
        have=now.have,
        need=now.need,
    )

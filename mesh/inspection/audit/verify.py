"""Verify a bundle: each answer's signature and right, each digest, and each verdict, by fold.

Owns what an auditor reads. Each failure names the place in the log, the approval, and what does
not hold. It takes no event's word for what can be computed: the votes that are in force, and the
verdict that they bring, come from the fold of the decisions.
"""

from typing import NamedTuple

import msgspec

from mesh.codec.signed_answers import Judge
from mesh.core.approvals import Asking, Held, Terms, Vote
from mesh.core.events import (
    AnswerHeld,
    AnswerRefused,
    AnswerSigned,
    ApprovalClosed,
    ApprovalClosed2,
    Decision,
    Event,
    NoteAdded,
    PayloadEdited,
    PayloadsSealed,
    VoteCast,
    VoteTakenBack,
)
from mesh.core.evolve import evolve
from mesh.core.json_values import digest
from mesh.core.ownership import Epochs
from mesh.core.people import People, further_names, id_of, person_of
from mesh.core.signing import Level, Proof
from mesh.core.state import StepState, Workflow
from mesh.core.voting import Body, may_edit, may_vote, verdict_of, why_excluded
from mesh.inspection.audit.bundle import Bundle
from mesh.inspection.audit.delegates import giver_body, why_no_delegation
from mesh.inspection.audit.signatures import Checked


class Failure(NamedTuple):
    """What does not hold. `offset`: of the decision in the log."""

    offset: int
    about: str  # the approval, or the workflow
    what: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What was looked at, and what of it does not hold.

    `claimed`: answers that counted and that nobody has signed; they prove nothing of who it was.
    `unproven`: rights that came from a file, which no topic has.
    """

    workflow_id: str
    decisions: int
    approvals: int
    signed: int
    claimed: int
    unproven: int
    failures: tuple[Failure, ...]


_Word = VoteCast | VoteTakenBack | PayloadEdited | NoteAdded
_COUNTS = (VoteCast, VoteTakenBack, PayloadEdited, NoteAdded)


def verify(bundle: Bundle) -> Report:
    """Check the whole bundle."""
    audit = _Audit(bundle)
    audit.run()
    return Report(
        workflow_id=bundle.head.workflow_id,
        decisions=audit.decisions,
        approvals=len(audit.approvals),
        signed=audit.signed,
        claimed=audit.claimed,
        unproven=audit.unproven,
        failures=tuple(audit.failures),
    )


class _Audit:
    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._epochs = Epochs()
        self._workflow: Workflow | None = None
        self._checked: dict[tuple[str, str], Checked] = {}  # by approval and answer id
        self._counted: dict[tuple[str, str, str], int] = {}  # the decision in which an answer id has counted
        self._offset = 0
        self.failures: list[Failure] = []
        self.approvals: set[str] = set()
        self.decisions = self.signed = self.claimed = self.unproven = 0

    def run(self) -> None:
        last = -1
        for offset, record in self._bundle.log:
            self._offset = offset
            if offset <= last:
                self._fail(self._bundle.head.workflow_id, f"the record at {offset} is not behind the one at {last}")
            last = offset
            # as every fold: a decision of an owner that was deposed does not count
            if self._epochs.observe(record) and isinstance(record, Decision):
                self.decisions += 1
                self._decision(record)
        if not self.decisions:
            self._fail(self._bundle.head.workflow_id, "no decision about it is here")

    def _fail(self, about: str, what: str) -> None:
        self.failures.append(Failure(self._offset, about, what))

    def _decision(self, decision: Decision) -> None:
        for event in decision.events:
            if isinstance(event, PayloadsSealed):
                self._fail(decision.workflow_id, "it is sealed, and its key is erased or missing: it proves nothing")
            elif isinstance(event, AnswerSigned):
                self._signature(event, decision)
            else:
                self._event(event, decision)
            try:
                self._workflow = evolve(self._workflow, event, workflow_id=decision.workflow_id, at_ms=decision.at_ms)
            # whatever a changed log makes of the fold is a failure of the log
            except (ValueError, KeyError, AssertionError, AttributeError, TypeError) as error:
                self._fail(decision.workflow_id, f"{type(event).__name__} does not fit what came before: {error}")

    # Signatures ----------------------------------------------------------------------------------

    def _judge(self, at_ms: int) -> Judge:
        people = self._bundle.people_at(at_ms)
        roles = {} if people is None else people.roles
        return Judge(mesh=self._bundle.head.mesh, key=self._bundle.keys.get, people=people, roles=roles)

    def _signature(self, event: AnswerSigned, decision: Decision) -> None:
        found = Checked(event, decision.cause, self._judge(decision.cause.at_ms))
        # anybody may send a forged one under the id of a true one, before it or after
        known = self._checked.get((event.approval_id, event.answer_id))
        if known is None or known.problem:
            self._checked[event.approval_id, event.answer_id] = found
        codes = {one.code for one in decision.events if isinstance(one, AnswerRefused)}
        if event.proof is not None:
            self.signed += 1
            if found.problem:
                self._fail(event.approval_id, f"the signature of {event.by} does not hold: {found.problem}")
            elif found.proof is not None and _who(found.proof) != _who(event.proof):
                self._fail(
                    event.approval_id, f"the log says that {event.proof.signer} has signed, and it was another key"
                )
        # what only the router's clock setting refuses may hold; all else must not
        elif not found.problem and not codes & {"stale"}:
            self._fail(event.approval_id, f"an answer of {event.by} was refused for its signature, which holds")

    # Answers -------------------------------------------------------------------------------------

    def _event(self, event: Event, decision: Decision) -> None:
        if isinstance(event, _COUNTS):
            self._word(event, decision)
        elif isinstance(event, ApprovalClosed2):
            self._closed(event, decision)
        elif isinstance(event, ApprovalClosed) and event.answer_id:
            self._closed_by_first(event, decision)
        elif isinstance(event, AnswerHeld):
            self._held_rights(event)
        if getattr(event, "approval_id", "") and not isinstance(event, AnswerRefused):
            self.approvals.add(str(getattr(event, "approval_id", "")))

    def _open(self, event: _Word | ApprovalClosed2) -> tuple[StepState, Asking] | None:
        """The step as it was before the event; None, and a failure, if it was not open."""
        step = None if self._workflow is None else self._workflow.steps.get(event.step)
        if step is None or step.asking is None or step.status != "asking" or step.task_id != event.approval_id:
            self._fail(event.approval_id, f"{type(event).__name__} though it is not open")
            return None
        return step, step.asking

    def _word(self, event: _Word, decision: Decision) -> None:
        found = self._open(event)
        if found is None or (isinstance(event, VoteTakenBack) and event.why == "void"):
            return
        step, asking = found
        by, answer_id, at_ms = _said(event)
        self._once(event.approval_id, by, answer_id)
        self._proven(event, asking.terms, by, answer_id)
        if isinstance(event, VoteCast):
            self._vote(event.vote, event.approval_id, step, asking)
        elif isinstance(event, PayloadEdited):
            if digest(event.payload) != event.digest:
                self._fail(event.approval_id, f"edition {event.edition} is not what its digest says")
            self._right(event.approval_id, by, at_ms, asking, decision.cause.at_ms, is_edit=True)

    def _once(self, approval_id: str, by: str, answer_id: str) -> None:
        # an edit and its vote are one answer, in one decision
        first = self._counted.setdefault((approval_id, person_of(by), answer_id), self._offset)
        if first != self._offset:
            self._fail(approval_id, f"the answer {answer_id} of {by} counts twice: at {first} too")

    def _proven(self, event: _Word, terms: Terms, by: str, answer_id: str) -> None:
        approval_id = event.approval_id
        checked = self._checked.get((approval_id, answer_id))
        if checked is None:
            self.claimed += 1
            if terms.signed != "none":
                self._fail(approval_id, f"the answer of {by} must be signed, and the log has no signature of it")
            if isinstance(event, VoteCast) and event.vote.proof is not None:
                self._fail(approval_id, f"the vote of {by} has a proof, and the log has no signature of it")
            return
        if person_of(checked.signed.by) != person_of(by):
            self._fail(approval_id, f"the answer {answer_id} is of {checked.signed.by}, and counts as one of {by}")
        if terms.signed == "own" and (checked.proof is None or checked.proof.how != "own"):
            self._fail(approval_id, f"the answer of {by} must be signed with their own key, and is not")
        if checked.problem and checked.signed.proof is None:
            self._fail(approval_id, f"an answer of {by} counts, and its signature was refused")
        self._trusted(checked, by)
        self._same_words(event, checked, terms)

    def _trusted(self, checked: Checked, by: str) -> None:
        known = None if checked.proof is None else self._bundle.keys.get(checked.proof.kid)
        distrusted_ms = None if known is None else known.distrusted_ms
        if known is not None and distrusted_ms is not None and distrusted_ms <= checked.at_ms:
            why = "" if known.revocation is None else known.revocation.reason
            self._fail(
                checked.signed.approval_id, f"the answer of {by} counts, and its key is distrusted since then: {why}"
            )

    def _same_words(self, event: _Word, checked: Checked, terms: Terms) -> None:
        """Hold what counted against what is signed."""
        said, approval_id = checked.body, event.approval_id
        if not said:
            return
        if isinstance(event, PayloadEdited) and said.get("payload_digest") != event.digest:
            self._fail(approval_id, f"edition {event.edition} is not the one that {event.by} has signed")
        if isinstance(event, VoteCast):
            if event.vote.digest != (said.get("payload_digest") or said.get("digest")):
                self._fail(approval_id, f"the vote of {event.vote.by} is for another payload than they have signed")
            giver = id_of(self._bundle.people_at(checked.at_ms), str(said.get("for") or event.vote.by))
            if person_of(giver) != person_of(event.vote.person):
                self._fail(approval_id, f"a vote of {event.vote.by} is of {event.vote.person}, and they signed another")
            if not _is_choice(said, event.vote, terms):
                self._fail(approval_id, f"the vote of {event.vote.by} is {event.vote.choice}, and they signed another")
        wanted = {VoteTakenBack: {"withdraw"}, NoteAdded: {"comment"}}.get(type(event))
        if wanted is not None and said.get("decision") not in wanted:
            self._fail(approval_id, f"{type(event).__name__} is not what {checked.signed.by} has signed")

    # Rights --------------------------------------------------------------------------------------

    def _vote(self, vote: Vote, approval_id: str, step: StepState, asking: Asking) -> None:
        if vote.digest != step.digest or digest(step.input) != step.digest:
            self._fail(approval_id, f"the vote of {vote.by} is not for the payload of the edition")
        self._right(approval_id, vote.by, vote.at_ms, asking, self._at_ms(approval_id, vote), vote=vote)

    def _at_ms(self, approval_id: str, vote: Vote) -> int:
        """The broker's own time of a vote, by which its rights are judged."""
        checked = self._checked.get((approval_id, vote.answer_id))
        return vote.at_ms if checked is None else checked.at_ms

    def _right(
        self,
        approval_id: str,
        by: str,
        at_ms: int,
        asking: Asking,
        broker_ms: int,
        *,
        vote: Vote | None = None,
        is_edit: bool = False,
    ) -> None:
        people = self._bundle.people_at(broker_ms)
        if people is None:
            self.unproven += 1
            if vote is not None and vote.people:
                self._fail(approval_id, f"the version {vote.people} of the people, which judged {by}, is not here")
            return
        if vote is not None and vote.people != people.digest:
            self._fail(
                approval_id, f"{by} was judged by version {vote.people or 'none'}, and {people.digest} was in effect"
            )
        body = _body(people, by)
        self._excluded(approval_id, by, body, asking, is_edit=is_edit)
        # the right is that of the person whose vote it is, as far as they have delegated it
        if vote is not None and vote.on_behalf:
            by, body = vote.on_behalf, giver_body(self._bundle, people, vote.delegation, vote.on_behalf)
            self._excluded(approval_id, by, body, asking, is_edit=False)
            self._delegated(approval_id, vote, body, asking, broker_ms)
        may = may_edit if is_edit else may_vote
        if not may(asking.terms, body, asking.changes, at_ms):
            self._fail(approval_id, f"{by} had no right to {'edit' if is_edit else 'vote'} at that time")
        if vote is not None and not frozenset(vote.roles) <= body.roles:
            more = ", ".join(sorted(frozenset(vote.roles) - body.roles))
            self._fail(approval_id, f"{by} did not have the roles that the vote says: {more}")

    def _excluded(self, approval_id: str, by: str, body: Body, asking: Asking, *, is_edit: bool) -> None:
        why = "" if is_edit else why_excluded(asking.terms, body)
        if why:
            self._fail(approval_id, f"{by} has voted and was excluded: {why}")
        if asking.terms.not_editors and not is_edit and body.is_among(map(person_of, asking.editors)):
            self._fail(approval_id, f"{by} has voted and was excluded: they have edited it")

    def _delegated(self, approval_id: str, vote: Vote, giver: Body, asking: Asking, broker_ms: int) -> None:
        """Check that the person whose vote it is has let the other give it, and takes part once."""
        self._in_force(
            approval_id, vote.delegation, vote.by, vote.on_behalf, level=asking.terms.signed, at_ms=broker_ms
        )
        if vote.by_roles != giver.by_roles:
            self._fail(
                approval_id, f"the vote of {vote.by} for {vote.on_behalf} says another scope than {vote.delegation}"
            )

    def _in_force(
        self, approval_id: str, delegation: str, by: str, on_behalf: str, *, level: Level, at_ms: int
    ) -> None:
        whole = {"by": by, "on_behalf": on_behalf}
        for why in why_no_delegation(self._bundle, delegation, **whole, level=level, at_ms=at_ms):
            self._fail(approval_id, why)

    def _held_rights(self, event: AnswerHeld) -> None:
        """What a late answer says of its sender's roles."""
        held = event.answer
        people = self._bundle.people_at(held.at_ms)
        if held.mandates and people is not None:
            self._mandates(event.approval_id, held)
        if people is not None and not frozenset(held.roles) <= _body(people, held.by).roles:
            self._fail(event.approval_id, f"{held.by} did not have the roles that the late answer says")

    def _mandates(self, approval_id: str, held: Held) -> None:
        for one in held.mandates:
            self._in_force(approval_id, one.delegation, held.by, held.on_behalf, level="none", at_ms=held.at_ms)

    # Verdicts ------------------------------------------------------------------------------------

    def _closed(self, event: ApprovalClosed2, decision: Decision) -> None:
        found = self._open(event)
        if found is None:
            return
        step, asking = found
        if event.payload != step.input or digest(event.payload) != step.digest:
            self._fail(event.approval_id, "it closed with another payload than that of its edition")
        if event.votes != asking.votes:
            self._fail(event.approval_id, "the votes of its verdict are not those in force")
        verdict = verdict_of(asking.terms, asking.votes, asking.changes)
        if event.expired:
            if step.due_at_ms is None or decision.at_ms < step.due_at_ms:
                self._fail(event.approval_id, "it expired before its deadline")
            if verdict is not None or event.choice != asking.terms.expiry_choice:
                self._fail(event.approval_id, "it expired, and its votes or its terms say another verdict")
        elif verdict is None or (verdict.verdict, verdict.choice) != (event.verdict, event.choice):
            come_to = "nothing" if verdict is None else f"{verdict.verdict} ({verdict.choice})"
            self._fail(
                event.approval_id, f"it closed as {event.verdict} ({event.choice}), and its votes come to {come_to}"
            )

    def _closed_by_first(self, event: ApprovalClosed, decision: Decision) -> None:
        """Check an approval of version 1: its first answer is the verdict."""
        checked = self._checked.get((event.approval_id, event.answer_id))
        if checked is None:
            self.claimed += 1
        else:
            self._trusted(checked, event.by)
            said = "approved" if checked.body.get("decision") == "approve" else "rejected"
            if checked.body and said != event.verdict:
                self._fail(event.approval_id, f"it is {event.verdict}, and {event.by} has signed another")
        people = self._bundle.people_at(decision.cause.at_ms)
        if people is None:
            self.unproven += 1
            return
        by, body = event.by, _body(people, event.by)
        if event.on_behalf:
            by, body = event.on_behalf, giver_body(self._bundle, people, event.delegation, event.on_behalf)
            at_ms = decision.cause.at_ms
            self._in_force(event.approval_id, event.delegation, event.by, by, level="none", at_ms=at_ms)
        if event.role not in body.roles:
            self._fail(event.approval_id, f"{by} did not have the role {event.role} at that time")


def _said(event: _Word) -> tuple[str, str, int]:
    """Who has said it, with which id, and when."""
    if isinstance(event, VoteCast):
        return event.vote.by, event.vote.answer_id, event.vote.at_ms
    return event.by, event.answer_id, event.at_ms


def _who(proof: Proof) -> tuple[str, str, str]:
    return proof.kid, proof.signer, proof.how


def _is_choice(said: dict[str, object], vote: Vote, terms: Terms) -> bool:
    """Whether the signed body says this vote."""
    if said.get("choice"):
        return said["choice"] == vote.choice
    return (said.get("decision") == "reject") == (vote.choice in terms.rejects)


def _body(people: People, by: str) -> Body:
    person = people.named(by)
    roles = frozenset[str]() if person is None else person.roles
    return Body(person_of(by), roles, further_names(people, by))

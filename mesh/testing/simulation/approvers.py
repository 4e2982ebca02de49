"""People who are asked, and who answer well or badly.

They answer early, at the last moment, late, twice, edited, without the role, and with the digest of
something else. Where several vote, they also choose, edit, withdraw, comment and ask back.
Owns what approvers do. `parties` calls it.
"""

from functools import partial
from typing import Any, Final

import msgspec

from mesh.codec.approvals import ApprovalRequest, encode_response
from mesh.core import ids
from mesh.core.approvals import Terms
from mesh.core.inputs import AnswerKind, ApprovalOrder, Command
from mesh.core.json_values import digest
from mesh.testing.simulation.ground import Ground
from mesh.testing.simulation.personal import PersonalWords
from mesh.testing.simulation.signers import Signers

_OF_TIME: Final[tuple[AnswerKind, ...]] = ("claim", "release", "extend")
_VOTES: Final = frozenset({"approve", "choose", "reject"})
_QUESTIONS: Final[tuple[AnswerKind, ...]] = ("ask", "ask", "inform")
_ORDERS: Final[tuple[Command, ...]] = ("extend", "reassign", "void")


class Approvers:
    """All approvers of a run.

    Call `on_request` when a question was delivered, and `expect` when one will be. `answer` gives
    one answer.
    """

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._asked: set[str] = set()
        self._signers = Signers(ground)
        self._words: PersonalWords | None = None  # None: nobody signs or answers for others

    def organise(self, for_s: float) -> None:
        """From now on people sign, let others answer for them, and are away."""
        self._words = PersonalWords(self._ground, self._signers)
        self._words.begin(for_s)

    def expect(self, approval: str, within_s: float) -> None:
        """Plan an answer to something that nobody has asked yet."""
        self._ground.later(within_s, lambda: self.answer(approval, "ana", "approve", early=True))

    def on_request(self, request: ApprovalRequest) -> None:
        ground, rng = self._ground, self._ground.rng
        if request.approval_id in self._asked and rng.random() < 0.8:
            return
        self._asked.add(request.approval_id)
        if request.terms is not None:
            self._vote(request, request.terms)
            return
        entitled = "ben" if request.role == "lead" else rng.choice(["ana", "ben"])
        if ground.is_calm:
            ground.later(0.2, lambda: self.answer(request.approval_id, entitled, "approve"))
            return
        left_s = 30.0
        if request.deadline_at_ms is not None:
            left_s = max(0.0, (request.deadline_at_ms - ground.clock.now_ms()) / 1000)
        for _ in range(rng.choice([0, 1, 1, 1, 2, 3])):
            at_s = rng.choice([rng.uniform(0, left_s), left_s - rng.uniform(0, 0.3), left_s + rng.uniform(-0.005, 0.3)])
            self._plan_answer(request, entitled, at_s)

    def _vote(self, request: ApprovalRequest, terms: Terms) -> None:
        """Plan what several people do: most of it fits, and not all of it together."""
        ground, rng = self._ground, self._ground.rng
        payloads = [request.payload, {"draft": "better"}, {"other": 1}]
        for _ in range(rng.choice([2, 4, 8, 12])):
            by = rng.choice(["ana", "ana", "ben", "ben", "CEM", "cem", "slack:C", "eve"])
            decision: AnswerKind = rng.choice(
                [
                    "approve",
                    "choose",
                    "choose",
                    "choose",
                    "reject",
                    "edit",
                    "withdraw",
                    "comment",
                    *_OF_TIME,
                    *_QUESTIONS,
                ]
            )
            if self._words is not None and rng.random() < 0.5:
                decision = "approve"
            said: dict[str, Any] = {"digest": digest(rng.choice([*payloads[:1] * 4, *payloads]))}
            match decision:
                case "choose":
                    said["choice"] = rng.choice([*terms.choices[:1] * 3, *terms.choices, "elsewhere"])
                case "edit":
                    said["payload"] = rng.choice(payloads)
                case "claim" | "release" | "extend":
                    said = {}
                case "comment":
                    said = {"text": "which one?"}
                case "ask":
                    said = {"text": "which one?", "to": rng.choice(["alpha", "lead", "lead", "nobody"])}
                case "inform":
                    said = {"text": "that one", "question": rng.choice([1, 1, 2])}
                case "reject":
                    said["reason"] = rng.choice(["", "no"])
                case _:
                    pass
            if self._words is not None and decision in _VOTES and rng.random() < 0.5:
                said["on_behalf"] = self._words.giver_for(by)
            at_s = 0.2 if ground.is_calm else rng.choice([rng.uniform(0, 16), rng.uniform(14.9, 15.3)])
            ground.later(at_s, partial(self.answer, request.approval_id, by, decision, **said))
        for _ in range(rng.choice([0, 0, 1, 2])):
            at_s = rng.choice([rng.uniform(0, 16), rng.uniform(14.7, 15.0)])
            ground.later(at_s, partial(self._order, request.approval_id, rng.choice(_ORDERS)))

    def _order(self, approval: str, command: Command) -> None:
        """An operator moves the deadline, reassigns it, or voids a vote."""
        rng, parsed = self._ground.rng, ids.parse_step_id(approval)
        if parsed is None:
            raise AssertionError(f"{approval} is no approval's id")
        match command:
            case "extend":
                order = ApprovalOrder(approval_id=approval, by_ms=2_000)
            case "void":
                order = ApprovalOrder(approval_id=approval, voter=rng.choice(["ana", "ben"]))
            case _:
                people, is_alone = (rng.choice(["eve", "slack:C"]),), rng.random() < 0.3
                order = ApprovalOrder(approval_id=approval, people=people, replace=is_alone)
        self._ground.command(command, parsed.workflow_id, order=order)

    def _plan_answer(self, request: ApprovalRequest, entitled: str, at_s: float) -> None:
        rng = self._ground.rng
        by = rng.choice([entitled, entitled, entitled, "eve", "nobody"])
        decision: AnswerKind = rng.choice(["approve", "approve", "reject"])
        seen = rng.choice([request.digest, None, request.digest, "sha256:" + "0" * 64])
        payload = rng.choice([msgspec.UNSET, msgspec.UNSET, {"draft": "better"}, {"other": 1}])
        said: dict[str, Any] = {"digest": seen, "payload": payload}
        if self._words is not None and rng.random() < 0.3:
            said["on_behalf"] = self._words.giver_for(by)
        self._ground.later(at_s, lambda: self.answer(request.approval_id, by, decision, **said))

    def answer(
        self,
        approval: str,
        by: str,
        decision: AnswerKind,
        *,
        early: bool = False,
        **said: Any,
    ) -> None:
        ground = self._ground
        signer = None
        if self._words is not None:
            signer = self._signers.signer(by)
        ground.note("approver", f"{by} answers {decision} to {approval}" + (" before it is asked" if early else ""))
        record = encode_response(
            topics=ground.topics,
            approval_id=approval,
            decision=decision,
            by=by,
            answer_id=ground.fresh("answer" if signer is None else "answer-of-a-person"),
            at_ms=ground.clock.now_ms(),
            signer=signer,
            **said,
        )
        ground.send(record)
        if ground.rng.random() < 0.1:
            ground.send(record)

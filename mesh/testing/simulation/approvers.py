"""People who are asked, and who answer well or badly.

They answer early, at the last moment, late, twice, edited, without the role, and with the digest of
something else. Owns what approvers do. `parties` calls it.
"""

from typing import Any

import msgspec

from mesh.codec.approvals import ApprovalRequest, encode_response
from mesh.testing.simulation.ground import Ground


class Approvers:
    """All approvers of a run.

    Call `on_request` when a question was delivered, and `expect` when one will be. `answer` gives
    one answer.
    """

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._asked: set[str] = set()

    def expect(self, approval: str, within_s: float) -> None:
        """Plan an answer to something that nobody has asked yet."""
        self._ground.later(within_s, lambda: self.answer(approval, "ana", "approve", early=True))

    def on_request(self, request: ApprovalRequest) -> None:
        ground, rng = self._ground, self._ground.rng
        if request.approval_id in self._asked and rng.random() < 0.8:
            return
        self._asked.add(request.approval_id)
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

    def _plan_answer(self, request: ApprovalRequest, entitled: str, at_s: float) -> None:
        rng = self._ground.rng
        by = rng.choice([entitled, entitled, entitled, "eve", "nobody"])
        decision = rng.choice(["approve", "approve", "reject"])
        digest = rng.choice([request.digest, None, request.digest, "sha256:" + "0" * 64])
        payload = rng.choice([msgspec.UNSET, msgspec.UNSET, {"draft": "better"}, {"other": 1}])
        self._ground.later(at_s, lambda: self.answer(request.approval_id, by, decision, digest=digest, payload=payload))

    def answer(
        self,
        approval: str,
        by: str,
        decision: Any,
        *,
        digest: str | None = None,
        payload: Any = msgspec.UNSET,
        early: bool = False,
    ) -> None:
        ground = self._ground
        ground.note("approver", f"{by} answers {decision} to {approval}" + (" before it is asked" if early else ""))
        record = encode_response(
            topics=ground.topics,
            approval_id=approval,
            decision=decision,
            by=by,
            answer_id=ground.fresh("answer"),
            at_ms=ground.clock.now_ms(),
            digest=digest,
            payload=payload,
        )
        ground.send(record)
        if ground.rng.random() < 0.1:
            ground.send(record)

"""One answer's signature, checked again over its bytes, as its owner did.

Owns what an audit asks of a signature. `mesh.codec.signed_answers` has the checks themselves, so
the audit and the owner can't differ. The edit beside a signature is in the log only if it counted.
"""

from typing import Any

from mesh.codec.signed_answers import Judge, Wrong, of_this_mesh, proof_by, signed_body
from mesh.core.approver_keys import KnownKey
from mesh.core.events import AnswerSigned, Cause
from mesh.core.people import id_of, person_of
from mesh.core.signing import Proof


class Checked:
    """What a signature comes to. `problem` empty: it holds, and `proof` says whose it is."""

    def __init__(self, signed: AnswerSigned, cause: Cause, judge: Judge) -> None:
        self.signed = signed
        self.at_ms = cause.at_ms
        self.body: dict[str, Any] = {}
        self.proof: Proof | None = None
        self.problem = ""
        try:
            self.body, known = signed_body(signed.jws, judge.key)
            self.proof = self._proof(known, judge)
        except Wrong as wrong:
            self.problem = str(wrong)

    def _proof(self, known: KnownKey, judge: Judge) -> Proof:
        said, signed = self.body, self.signed
        same = {"approval_id": signed.approval_id, "answer_id": signed.answer_id}
        if any(said.get(name) != value for name, value in same.items()):
            raise Wrong("signature", "it is for another approval, or has another answer id, than the log says")
        by = said.get("by")
        if not isinstance(by, str) or person_of(id_of(judge.people, by)) != person_of(id_of(judge.people, signed.by)):
            raise Wrong("signature", f"it is signed as the answer of {by!r}, and the log says {signed.by}")
        of_this_mesh(said, judge)
        return proof_by(known, said, by=by, approval_id=signed.approval_id, at_ms=self.at_ms, judge=judge)

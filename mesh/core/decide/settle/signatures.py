"""What an answer must bring to be its person's: the check of its signature comes before all else.

Each answer that fails has one of these codes, in this order. None of them uses up the answer's id,
but `stale`, since then its person has signed it.

    signature, key, stale   the owner's check, which the input has
    unsigned                the mesh or the approval asks for more than the answer brings
"""

from mesh.core.decide.settle.refusing import Refusal
from mesh.core.events import AnswerSigned
from mesh.core.inputs import AnswerGiven, AnswerGiven2, CheckedAnswer
from mesh.core.signing import Level


def why_unproven(given: AnswerGiven | AnswerGiven2, level: Level) -> Refusal | None:
    """Why it is not proven enough whose answer this is; None if it is.

    An answer that is held was asked for that when it came, and never comes here again.
    """
    if not isinstance(given, CheckedAnswer):
        # never taken for one without a signature
        if isinstance(given, AnswerGiven2) and given.jws:
            return Refusal("signature", "nobody has checked its signature")
        message = "an answer must be signed here: `mesh approve --key FILE`, and docs/approvals.md for other clients"
        return None if level == "none" else Refusal("unsigned", message)
    if given.proof is None:
        return Refusal(given.code, given.why)
    if level == "own" and given.proof.how != "own":
        message = f"{given.proof.signer} has signed for {given.by}, and this approval takes a person's own key alone"
        return Refusal("unsigned", message)
    return None


def signed_event(given: CheckedAnswer) -> AnswerSigned:
    """What the log keeps of the signature."""
    return AnswerSigned(
        approval_id=given.approval_id, answer_id=given.answer_id, by=given.by, jws=given.jws, proof=given.proof
    )

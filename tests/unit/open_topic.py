"""The topic of open approvals as a test keeps it: each effect is taken at once."""

from mesh.codec.open_approvals import encode_shown
from mesh.core.open_approvals import ShowApproval
from mesh.core.topics import Topics

_TOPICS = Topics()


def show(held: dict[tuple[str, str], bytes], effect: ShowApproval) -> None:
    """Do with the parts that a reader holds what the effect's record says."""
    value = encode_shown(effect, topics=_TOPICS).value
    held.pop((effect.approval_id, effect.part), None)
    if value is not None:
        held[effect.approval_id, effect.part] = value

"""How far a router has read, as its group's commit says for people.

Owns the text beside the committed offset of an inbox partition: the position in results. It is for
the lag that `mesh status` shows, not for correctness. The log's positions move with decisions, and
signs of life bring none.
"""

import re
from typing import Final

from mesh.ports import Committed

_TEXT: Final = re.compile(r"results:([0-9]{1,19})")


def told(inbox: int, results: int) -> Committed:
    """The commit of a partition whose owner reads its inbox and its results on from there."""
    return Committed(inbox, f"results:{results}")


def results_position(committed: Committed | None) -> int:
    """The position in results that a commit says; 0 if it says none."""
    found = _TEXT.fullmatch(committed.metadata) if committed is not None else None
    return int(found[1]) if found else 0

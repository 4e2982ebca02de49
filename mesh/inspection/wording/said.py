"""The two texts of an event, and its tone.

Owns their form; every module of `mesh.inspection.wording` makes them.
"""

from typing import Any, Literal, NamedTuple

Tone = Literal["good", "bad", "people", "work", "quiet"]


class Said(NamedTuple):
    """What is said about one event, in two texts.

    `what` and `why`: a timeline's line, beside the step. `shows`: values that belong to it.

    `told`: a transcript's sentence, without times and offsets. What leaves the router begins with
    `->`. Empty if the heading of its decision says everything.
    """

    step: str
    what: str
    tone: Tone
    why: str = ""
    told: str = ""
    shows: tuple[tuple[str, Any], ...] = ()

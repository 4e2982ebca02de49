"""The two texts of an event, and its tone."""

from typing import Any, Literal, NamedTuple

Tone = Literal["good", "bad", "people", "work", "quiet"]


class Said(NamedTuple):
    """`what` and `why`: a timeline's line, beside the step. `shows`: values that belong to it.

    `told`: a transcript's sentence, without times and offsets; what leaves the router begins with
    `->`. Empty where the heading of its decision says all.
    """

    step: str
    what: str
    tone: Tone
    why: str = ""
    told: str = ""
    shows: tuple[tuple[str, Any], ...] = ()

"""An event of the log as one line for people: what, and why.

Owns the colours; the words come from `mesh.inspection.wording`. `mesh.cli.text.timeline` makes
tables of these lines.
"""

from typing import Any, Final, NamedTuple

from mesh.core.events import Decision, Event
from mesh.inspection.wording import Tone, words_of
from mesh.inspection.wording.workflows import TONES

GOOD: Final = "green"
BAD: Final = "red"
PEOPLE: Final = "yellow"
WORK: Final = "cyan"
QUIET: Final = "dim"

STYLES: Final[dict[Tone, str]] = {"good": GOOD, "bad": BAD, "people": PEOPLE, "work": WORK, "quiet": QUIET}
END_STYLES: Final = {status: STYLES[tone] for status, tone in TONES.items()}
STEP_STYLES: Final = {
    "running": WORK,
    "iterating": WORK,
    "calling": WORK,
    "claiming": WORK,
    "retrying": PEOPLE,
    "asking": PEOPLE,
    "waiting": PEOPLE,
    "held": PEOPLE,
    "queued": PEOPLE,
    "suspended": PEOPLE,
    "incident": BAD,
}


class Line(NamedTuple):
    """One event for people. `payloads`: named values that `--payloads` shows below it."""

    step: str
    what: str
    style: str
    why: str = ""
    payloads: tuple[tuple[str, Any], ...] = ()


def describe(event: Event, decision: Decision) -> Line:
    """The line of an event. An event of a newer version is shown by its type's name."""
    said = words_of(event, decision)
    if said is None:
        return Line("", type(event).__name__, QUIET)
    return Line(said.step, said.what, STYLES[said.tone], said.why, said.shows)

"""An approval's `remind`: when the notifier reminds those who have not answered.

`mesh.routes.voting` calls this.
"""

from collections.abc import Iterator
from typing import Any

from mesh.core.reminding import MOST_BEFORE, Reminding
from mesh.routes.problems import Part, shown, written_duration
from mesh.routes.stages import below
from mesh.routes.step_keys import REMIND
from mesh.routes.values import LONGEST_S, NEVER, seconds_of

_HINT = "write durations such as 4h or [4h, 1h]"


def reminding(part: Part) -> Reminding | None:
    """What the route says of reminders; None: nothing."""
    if "remind" not in part.value:
        return None
    remind = below(part, ("remind",), part.value["remind"], REMIND.keys, part.keys["remind"].example)
    if remind is None:
        return None
    if not remind.value.keys() & {"before", "every"}:
        remind.problem("before", "remind says neither before nor every", part.keys["remind"].example)
    return Reminding(
        before_ms=tuple(int(seconds * 1000) for seconds in _before(part, remind)),
        every_ms=int(remind.duration("every") * 1000),
        cooldown_ms=int(remind.duration("cooldown") * 1000),
    )


def _before(part: Part, remind: Part) -> Iterator[float]:
    if "before" not in remind.value:
        return
    value: Any = remind.value["before"]
    times = value if isinstance(value, list) else [value]
    deadline = part.value.get("deadline", NEVER)
    if deadline == NEVER:
        remind.problem("before", "there is no deadline to remind before", "write a deadline, or use every")
    if not 0 < len(times) <= MOST_BEFORE:
        remind.problem("before", f"before has {len(times)} times", f"write 1 to {MOST_BEFORE} durations")
    limit = seconds_of(deadline)
    for one in times:
        seconds = seconds_of(one)
        if seconds is None or not 0 < seconds <= LONGEST_S:
            remind.problem("before", f"before can't be {shown(one)}", _HINT)
        elif limit is not None and seconds >= limit:
            message = f"{one} before a deadline of {written_duration(limit)} is before anybody was asked"
            remind.problem("before", message, "write a shorter time")
        else:
            yield seconds

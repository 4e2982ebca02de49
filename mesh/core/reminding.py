"""When people are reminded of an approval: the instants that its route asks for.

Owns the arithmetic alone. Reminders decide nothing: `mesh notifier` sends them, and the log has no
word of them. The terms of an approval carry what the route says, so the notifier needs no route.
"""

from typing import Final

import msgspec

_HOUR_MS: Final = 3_600_000
MOST_BEFORE: Final = 20  # times before a deadline


class Reminding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`before_ms`: how long before the deadline. `every_ms`: how long between two; 0: never.

    `cooldown_ms`: a reminder that would come sooner after the one before is left out.
    """

    before_ms: tuple[int, ...] = ()
    every_ms: int = 0
    cooldown_ms: int = 0


DEFAULT: Final = Reminding(before_ms=(_HOUR_MS,))
"""Where the route says nothing: once, an hour before the deadline."""


def last_instant(reminding: Reminding, asked_at_ms: int, deadline_at_ms: int | None, until_ms: int) -> int | None:
    """The last instant of a reminder in `(asked_at_ms, until_ms]`; None: there is none."""
    found = [at for at in _before(reminding, deadline_at_ms) if asked_at_ms < at <= until_ms]
    if reminding.every_ms and (times := (until_ms - asked_at_ms) // reminding.every_ms) > 0:
        found.append(asked_at_ms + times * reminding.every_ms)
    return max(found, default=None)


def next_instant(reminding: Reminding, asked_at_ms: int, deadline_at_ms: int | None, after_ms: int) -> int | None:
    """The first instant later than `after_ms` and before the deadline; None: there is none."""
    found = [at for at in _before(reminding, deadline_at_ms) if at > max(asked_at_ms, after_ms)]
    if reminding.every_ms:
        times = max(0, (after_ms - asked_at_ms) // reminding.every_ms) + 1
        found.append(asked_at_ms + times * reminding.every_ms)
    return min((at for at in found if deadline_at_ms is None or at < deadline_at_ms), default=None)


def _before(reminding: Reminding, deadline_at_ms: int | None) -> list[int]:
    return [] if deadline_at_ms is None else [deadline_at_ms - before for before in reminding.before_ms]

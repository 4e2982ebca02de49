"""Times that people write: a time, or how long ago it was."""

import click

from mesh.codec.times import parse_rfc3339
from mesh.routes.values import LONGEST_S, seconds_of


def moment(text: str, now_ms: int, option: str) -> int:
    """The time that is meant: a time, or a duration (as routes write it) before now."""
    seconds = seconds_of(text)
    if seconds is not None and 0 < seconds <= LONGEST_S:
        return now_ms - int(seconds * 1_000)
    try:
        return parse_rfc3339(text if "T" in text else f"{text}T00:00:00Z")
    except ValueError as error:
        raise click.BadParameter(
            f"{text!r} is not a time: write 2h, 7d, 2026-11-20 or 2026-11-20T08:00:00Z", param_hint=option
        ) from error


def later_moment(text: str, now_ms: int, option: str) -> int:
    """The time that is meant: a time, or a duration (as routes write it) from now."""
    seconds = seconds_of(text)
    if seconds is not None and 0 < seconds <= LONGEST_S:
        return now_ms + int(seconds * 1_000)
    try:
        return parse_rfc3339(text if "T" in text else f"{text}T00:00:00Z")
    except ValueError as error:
        raise click.BadParameter(
            f"{text!r} is not a time: write 14d (from now), 2026-12-24 (its midnight, UTC) or 2026-12-24T08:00:00Z",
            param_hint=option,
        ) from error

"""Times that a template gives: of a wait, and of an approval's deadline."""

from datetime import datetime
from typing import Any

from mesh.core.json_values import kind_of
from mesh.core.route import ExpressionError


def instant_ms(value: Any, key: str) -> int:
    """An RFC 3339 time in milliseconds since the epoch. Raises `ExpressionError`.

    `key`: what the route calls it.
    """
    if not isinstance(value, str):
        raise ExpressionError(f"{key} needs a time as a string, such as 2026-11-24T09:00:00Z, not {kind_of(value)}")
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        raise ExpressionError(f"{key} needs a time such as 2026-11-24T09:00:00Z, and got {value[:60]}") from None
    # it would mean another moment on each router's machine
    if found.tzinfo is None:
        raise ExpressionError(f"the time {value[:60]} has no offset: write Z or +01:00 after it")
    return int(found.timestamp() * 1000)

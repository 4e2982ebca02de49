"""How long something has lasted, and how many there are, in the words of `mesh status`."""


def span(ms: int) -> str:
    seconds = max(0, ms) // 1_000
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds} s"
    minutes = seconds // 60
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h"  # noqa: PLR2004 - two hours


def tasks(count: int) -> str:
    return "a task waits" if count == 1 else f"{count:,} tasks wait"


def numbers(found: tuple[int, ...]) -> str:
    """Partitions, the first few by number."""
    shown = ", ".join(map(str, found[:8]))
    return shown if len(found) <= 8 else f"{shown} and {len(found) - 8} more"  # noqa: PLR2004 - eight fit on a line

"""`private: true` in a route: what such a route may not do, because it would leave the seal.

A private workflow's decisions are sealed in the log with a key of its own. What it would write into
the log of another workflow, or of the mesh, is sealed with nothing, so it is refused.

`compiler` calls this.
"""

from collections.abc import Mapping
from typing import Final

from mesh.routes.problems import Part, shown

_KINDS: Final = {
    "workflow": ("a private route can't call another", "let an agent do the work, in a step of this route"),
    "emit": ("a private route can't emit events", "say what upstream must know in `output`: it is kept for 30 days"),
}
_KEYS: Final = {"alias": "an alias lies open in the log of the mesh"}


def private_of(root: Part, steps: Mapping[str, Part]) -> bool:
    """Whether the route is private. Its problems are noted."""
    value = root.value.get("private", False)
    if not isinstance(value, bool):
        root.problem("private", f"private can't be {shown(value)}", "write true or false")
        return False
    if not value:
        return False
    if "on" not in root.value:
        root.problem("private", "a private route can't be called by others", "let an event start it: on: ...")
    if "search" in root.value:
        root.problem("search", "a private route has no search attributes: they lie open", "remove search, or private")
    for part in steps.values():
        _check(part)
    return True


def _check(part: Part) -> None:
    for kind, (problem, hint) in _KINDS.items():
        if kind in part.value:
            part.problem(kind, problem, hint)
    for key, why in _KEYS.items():
        if key in part.value:
            part.problem(key, f"a private route gives no {key}: {why}", "find the workflow by its key")
    wait = part.value.get("wait")
    if isinstance(wait, dict) and "event" in wait:
        part.problem(
            "wait", "a private route can't wait for events: one that comes too early lies open", "ask by an approval"
        )
    limit = part.value.get("limit")
    if isinstance(limit, dict) and "key" in limit:
        part.problem("limit", "a private route's limits have no key: it lies open", "limit: NAME")

"""Events with large lists, and routes whose expressions go through them.

Owns both. What goes through one list once is cheap, however long the list is. What goes through a
list for each item of a list costs more than an evaluation may, so it must end as an incident, as a
dead letter, or as a guard that lets nothing in. `mesh.testing.promises.costs` judges which.
`Plan.heavy` names the routes of a run; `repertoire` compiles them, and `parties` publishes.
"""

from typing import Any, Final

from mesh.testing.simulation.routes import RETRY

MANY: Final = 16_000
"""Items of a list that is gone through once."""

SQUARE: Final = 1_100
"""Items of a list that is gone through for each of its items: more than a million together."""

# No macro here is decided early, so each costs at least the product of its lists' lengths.
_ALL: Final = "event.data.square.all(a, event.data.square.all(b, a + b >= 0))"
_NONE: Final = "event.data.square.exists(a, event.data.square.exists(b, a + b < 0))"
_FILTERED: Final = "event.data.square.filter(a, event.data.square.exists(b, a + b < 0))"
_MAPPED: Final = "event.data.square.map(a, event.data.square.exists_one(b, b == a))"

_ONCE: Final[dict[str, Any]] = {
    "value": {
        "even": "${{ size(event.data.many.filter(i, i % 2 == 0)) }}",
        "all": "${{ event.data.many.all(i, i >= 0) }}",
        "some": "${{ event.data.many.exists(i, i < 0) }}",
        "sum": "${{ size(event.data.many.map(i, i + 1)) }}",
    },
}
_FEW: Final[dict[str, Any]] = {
    "needs": "once",
    "for_each": "${{ event.data.many.filter(i, i < 2) }}",
    "agent": "gamma",
    "input": {"item": "${{ item }}"},
    "timeout": "6s",
    "retry": RETRY,
}
_TASK: Final[dict[str, Any]] = {"agent": "alpha", "input": {}, "timeout": "6s", "retry": RETRY}
_STEPS: Final[dict[str, Any]] = {"once": _ONCE, "few": _FEW}


def _route(name: str, **costly: Any) -> dict[str, Any]:
    """A route with one step that costs too much, beside those that don't."""
    return {"route": name, "steps": {**_STEPS, "costly": {**_TASK, "needs": "once", **costly}}}


_DOCUMENTS: Final[tuple[dict[str, Any], ...]] = (
    _route("heavy-if", **{"if": _ALL}),
    _route("heavy-input", input={"squares": f"${{{{ {_MAPPED} }}}}"}),
    _route("heavy-items", for_each=f"${{{{ {_FILTERED} }}}}", input={"item": "${{ item }}"}),
    {"route": "heavy-key", "key": f"${{{{ event.subject + string({_NONE}) }}}}", "steps": _STEPS},
    {"route": "heavy-guard", "on": {"type": "sim.heavy-guard", "if": _ALL}, "steps": _STEPS},
)

HEAVY: Final = {str(document["route"]): document for document in _DOCUMENTS}
"""By name; an event of type `sim.<name>` is for one."""


def heavy_event(kind: str, number: int, *, is_large: bool) -> dict[str, Any]:
    """An event for this route. With small lists, whatever is done with them is cheap."""
    many, square = (MANY, SQUARE) if is_large else (3, 3)
    return {
        "specversion": "1.0",
        "id": f"heavy-{number}",
        "source": "/sim",
        "type": f"sim.{kind}",
        "subject": f"heavy{number}",
        "data": {"n": number, "many": [*range(many)], "square": [*range(square)]},
    }

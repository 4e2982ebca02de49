"""Search attributes: what a route says by which its workflows are found.

Owns how they are made of the start event. `decide` calls it once for a run, and the event of the
start has what it gives.
"""

from collections.abc import Mapping
from typing import Any, Final

from mesh.core.route import ExpressionError, Scope, Template

MOST: Final = 16  # attributes of a route: each is in the log and in an index
MAX_TEXT: Final = 256  # characters of a value; a longer one is cut off

Attribute = str | int | float | bool


def attributes(search: Mapping[str, Template], cloud_event: dict[str, Any]) -> dict[str, Attribute] | None:
    """The attributes that have a value; None if none has.

    One that can't be evaluated, or gives null, a list or an object, is left out: what people search
    by must not keep a workflow from its work.
    """
    scope: Scope = {"event": cloud_event}
    found = {name: value for name, template in search.items() if (value := _value(template, scope)) is not None}
    return found or None


def _value(template: Template, scope: Scope) -> Attribute | None:
    try:
        value = template.render(scope)
    except ExpressionError:
        return None
    match value:
        case str():
            return value[:MAX_TEXT]
        case bool() | int() | float():
            return value
        case _:
            return None

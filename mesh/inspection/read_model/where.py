"""`--where`: which workflows are meant, in the language of routes.

Owns what such an expression may read, and how it becomes a condition of a query:

    search   the attributes that the route's `search` gave
    status   as `mesh workflows --status` takes it; `incident` where a step waits for an operator
    route    its name
    step     a step that is under way; empty if none is
    age      how long that step has been as it is; without one, since the workflow last changed

A workflow with several steps under way fits if the expression holds for one of them. Where an
attribute is missing, or of another type than the expression takes, the workflow does not fit. What
an expression may cost is bounded as it is in routes.
"""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import apsw
import msgspec

from mesh.core.route import ExpressionError
from mesh.errors import OperatorError
from mesh.inspection.read_model.search import read_attributes
from mesh.routes.expressions.compiler import compile_expression
from mesh.routes.expressions.syntax import Binary, Constant, Logic, Name, Node, Select, parse
from mesh.routes.expressions.tokens import ExpressionSyntaxError
from mesh.routes.expressions.values import Duration

NAMES: Final = ("search", "status", "route", "step", "age")
_OF_STEPS: Final = frozenset({"step", "age"})
_MS: Final = 1_000_000  # nanoseconds
_COLUMNS: Final = "workflow_id, route, CASE WHEN incidents > 0 THEN 'incident' ELSE status END, updated_at_ms"
_SEARCH: Final = "(SELECT attributes FROM search WHERE search.workflow_id = workflows.workflow_id)"
_STEPS: Final = (
    "(SELECT json_group_array(json_array(step, since_ms)) FROM open_steps"
    " WHERE open_steps.workflow_id = workflows.workflow_id)"
)
_steps: Final = msgspec.json.Decoder(list[tuple[str, int]]).decode


class Condition(NamedTuple):
    """A condition of a query on `workflows`, and its values."""

    sql: str
    values: tuple[str, ...]


class Where:
    """A compiled expression."""

    def __init__(self, text: str, now_ms: int) -> None:
        """Compile it. Raises `OperatorError` if it does not hold, or reads what is not there."""
        try:
            self._expression = compile_expression(text)
        except ExpressionSyntaxError as error:
            raise OperatorError(f"--where {text!r}, column {error.column}: {error}") from error
        roots = {str(read.segments[0]): read.column for read in self._expression.reads}
        for root, column in roots.items():
            if root not in NAMES:
                raise OperatorError(
                    f"--where {text!r}, column {column}: unknown name {root}; there are {', '.join(NAMES)}, "
                    "and an attribute is search.NAME"
                )
        self.text = text
        self._now_ms = now_ms
        self._reads_steps = not _OF_STEPS.isdisjoint(roots)
        self._known: dict[str, bool] = {}
        self.problem = ""
        """The last reason why a workflow could not be judged."""

    def condition(self, db: apsw.Connection) -> Condition:
        """The condition. It calls back, on this connection alone."""
        db.create_scalar_function("mesh_fits", self._fits, 6)
        steps = _STEPS if self._reads_steps else "NULL"
        # first what an index can tell, so that few workflows are looked at
        told = [*_required(parse(self.text)), Condition(f"mesh_fits({_COLUMNS}, {_SEARCH}, {steps})", ())]
        return Condition(" AND ".join(one.sql for one in told), tuple(value for one in told for value in one.values))

    def _fits(self, *row: Any) -> bool:
        workflow_id, route, status, updated_ms, search, steps = row
        # a page is counted and read, each with a pass of its own
        if workflow_id not in self._known:
            scope = {"search": read_attributes(search), "route": route, "status": status}
            under_way = _steps(steps) if steps else []
            self._known[workflow_id] = any(
                self._holds({**scope, "step": step, "age": Duration((self._now_ms - since_ms) * _MS)})
                for step, since_ms in under_way or [("", updated_ms)]
            )
        return self._known[workflow_id]

    def _holds(self, scope: dict[str, Any]) -> bool:
        try:
            return self._expression.is_true(scope)
        except ExpressionError as error:
            self.problem = str(error)
            return False


def _required(node: Node) -> Iterator[Condition]:
    """Conditions that must hold, whatever else does."""
    match node:
        case Logic(op="&&", operands=operands):
            for one in operands:
                yield from _required(one)
        case Binary(op="==", left=Constant(value=str() as value), right=known):
            yield from _known(known, value)
        case Binary(op="==", left=known, right=Constant(value=str() as value)):
            yield from _known(known, value)
        case _:
            pass


def _known(node: Node, value: str) -> Iterator[Condition]:
    match node:
        case Select(target=Name(name="search"), field=name):
            sql = "workflow_id IN (SELECT workflow_id FROM search_texts WHERE name = ? AND value = ?)"
            yield Condition(sql, (name, value))
        case Name(name="route"):
            yield Condition("route = ?", (value,))
        case Name(name="status") if value == "incident":
            yield Condition("incidents > 0", ())
        case Name(name="status"):
            yield Condition("status = ?", (value,))
        case _:
            pass

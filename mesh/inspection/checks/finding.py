"""What a finding is, and what a route can be checked against.

Owns the values that every module of `mesh.inspection.checks` takes and gives. It has no rules.
"""

from collections.abc import Collection, Mapping
from typing import Any, Literal

import msgspec

from mesh.core.capabilities import Contract
from mesh.core.route import AgentWork, Route
from mesh.core.signing import Level
from mesh.core.state import AgentCard
from mesh.inspection.card_conflicts import SchemaConflict
from mesh.inspection.checks.capabilities import Schemas, schemas_of
from mesh.inspection.inference.value_types import ANYTHING, Of, Shape
from mesh.routes.problems import DocumentPath

Severity = Literal["error", "warning"]


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What a route can be checked against. None: not known, so not checked."""

    agents: Mapping[str, AgentCard] | None = None
    roles: Collection[str] | None = None
    routes: Mapping[str, Route] | None = None  # in the files that are checked, by name
    contracts: Mapping[str, Contract] | None = None
    calendars: Collection[str] | None = None
    conflicts: Mapping[str, SchemaConflict] = {}  # agents whose living replicas disagree, by name
    answers: Level = "none"  # what every answer must bring

    def schemas(self, work: AgentWork) -> Schemas | None:
        return schemas_of(work, self.agents, self.contracts)

    def output_of(self, agent: str) -> Shape:
        """The shape of what this agent gives."""
        card = (self.agents or {}).get(agent)
        return _of(card.output_schema if card is not None else None)

    def output(self, work: AgentWork) -> Shape:
        """The shape of what the step's first agent, or its capability, gives."""
        schemas = self.schemas(work)
        return _of(schemas.output if schemas is not None else None)


def _of(schema: dict[str, Any] | None) -> Shape:
    return ANYTHING if schema is None else Of(schema, schema)


class RouteFinding(msgspec.Struct, frozen=True, kw_only=True):
    path: DocumentPath
    severity: Severity
    code: str
    message: str
    hint: str = ""


def error(path: DocumentPath, code: str, message: str, hint: str = "") -> RouteFinding:
    return RouteFinding(path=path, severity="error", code=code, message=message, hint=hint)


def warning(path: DocumentPath, code: str, message: str, hint: str = "") -> RouteFinding:
    return RouteFinding(path=path, severity="warning", code=code, message=message, hint=hint)


def written(route: Route, step: str) -> dict[str, Any]:
    """The step as the route's document has it."""
    found: dict[str, Any] = route.definition["steps"][step]
    return found


def path_of(route: Route, step: str) -> tuple[str, str, str]:
    """Where the terms of a step's approval are, or of those that its agent may ask for."""
    return ("steps", step, "approval" if "approval" in written(route, step) else "approve")

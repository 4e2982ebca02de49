"""Which workflows are meant: the options of `mesh workflows list` and of its verbs in bulk.

Owns these options, and how they become a query of the read model.
"""

from collections.abc import Callable
from functools import reduce
from typing import Any, Final, NamedTuple, TypedDict

import click

from mesh.cli.incidents import pick_cause
from mesh.cli.moments import moment
from mesh.cli.session import Session
from mesh.inspection.read_model import ReadModel, queries
from mesh.inspection.read_model.pages import Page
from mesh.inspection.read_model.queries import WorkflowRow
from mesh.inspection.read_model.where import Where

STATUSES: Final = ("expected", "running", "completed", "failed", "rejected", "cancelled", "incident", "paused")


class FilterOptions(TypedDict):
    """What the options of `workflow_filters` give."""

    status: str | None
    route: str | None
    step: str | None
    agent: str | None
    cause: str | None
    older_than: str | None
    where: str | None


_OPTIONS: Final = {
    "status": click.option(
        "--status",
        type=click.Choice(STATUSES),
        help="Only these; `incident`: running ones that wait for an operator; `paused`: those that an operator holds; `expected`: no run yet, only events that wait for one.",
    ),
    "route": click.option("--route", metavar="ROUTE", help="Only this route's."),
    "step": click.option(
        "--step", metavar="STEP", help="Only those in which this step is under way, or has an incident."
    ),
    "agent": click.option(
        "--agent", metavar="AGENT", help="Only those with a step at this agent that is under way, or has an incident."
    ),
    "cause": click.option(
        "--cause", metavar="CAUSE", help="Only those with an incident of this cause (`mesh incidents`)."
    ),
    "older_than": click.option(
        "--older-than", metavar="TIME", help="Only those that have not changed since then: 2h, 7d, 2026-11-20."
    ),
    "where": click.option(
        "--where",
        metavar="EXPRESSION",
        help="Only those for which this holds: an expression as in routes, on search, status, route, step and age.",
    ),
}


def workflow_filters(function: Callable[..., Any], *, without: str = "") -> Callable[..., Any]:
    """Add the options that say which workflows. `without`: one that the command has itself."""
    options = [option for name, option in _OPTIONS.items() if name != without]
    return reduce(lambda inner, option: option(inner), reversed(options), function)


class WorkflowFilter(NamedTuple):
    """A query for workflows. `parts`: its conditions by option, as `queries.workflows` has them."""

    parts: dict[str, dict[str, Any]]
    where: Where | None

    def page(
        self, model: ReadModel, *, built_in: bool = False, limit: int | None = None, after: str | None = None
    ) -> Page[WorkflowRow]:
        return _page(model, self.parts, built_in=built_in, limit=limit, after=after)

    def why_none(self, model: ReadModel) -> str:
        """Which part of a filter that fits nothing excludes everything."""
        alone = {name: _page(model, {name: part}, limit=1).total for name, part in self.parts.items()}
        nothing = [name for name, count in alone.items() if not count]
        if nothing:
            return f"{' and '.join(nothing)} alone {'fits' if len(nothing) == 1 else 'fit'} no workflow"
        return "no workflow fits all of it: alone " + ", ".join(
            f"{name} fits {count:,}" for name, count in alone.items()
        )


def _page(model: ReadModel, parts: dict[str, dict[str, Any]], **how: Any) -> Page[WorkflowRow]:
    conditions = {name: value for part in parts.values() for name, value in part.items()}
    return queries.workflows(model.db, **conditions, **how)


def workflow_filter(
    session: Session,
    model: ReadModel,
    *,
    status: str | None,
    route: str | None,
    step: str | None,
    agent: str | None,
    cause: str | None,
    older_than: str | None,
    where: str | None,
) -> WorkflowFilter:
    """The query that these options mean."""
    condition = None if where is None else Where(where, session.now_ms())
    found: dict[str, tuple[str, object | None]] = {
        f"--status {status}": ("status", status),
        f"--route {route}": ("route", route),
        f"--step {step}": ("step", step),
        f"--agent {agent}": ("agent", agent),
        f"--cause {cause}": ("cause", None if cause is None else pick_cause(session, model, cause)),
        f"--older-than {older_than}": (
            "unchanged_since_ms",
            None if older_than is None else moment(older_than, session.now_ms(), "--older-than"),
        ),
        f"--where {where!r}": ("where", condition),
    }
    parts = {option: {name: value} for option, (name, value) in found.items() if value is not None}
    return WorkflowFilter(parts, condition)

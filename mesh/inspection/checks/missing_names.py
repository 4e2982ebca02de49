"""Check names: agents, capabilities, roles and routes that do not exist.

Owns the findings about names that a route refers to. `mesh.inspection.checks.findings_of` calls it.
"""

from collections.abc import Collection, Iterator

from mesh.core.route import AgentWork, CallWork, Route, approval_of, approvals_of, roles_of
from mesh.inspection.checks.capabilities import capability_problems
from mesh.inspection.checks.finding import Known, RouteFinding, error, path_of, warning, written
from mesh.routes.problems import DocumentPath, near


def findings(route: Route, known: Known) -> Iterator[RouteFinding]:
    if known.agents is not None:
        for path, agent in _agents(route):
            if agent not in known.agents:
                yield error(path, "unknown_agent", f"no agent is called {agent}", near(agent, known.agents))
    for path, agent in _agents(route):
        if agent in known.conflicts:
            hint = "tasks go to either: let all replicas run one version"
            yield warning(path, "schemas_differ", str(known.conflicts[agent]), hint)
    for path, code, message, hint in capability_problems(route, known.agents, known.contracts):
        yield error(path, code, message, hint)
    if known.roles is not None:
        yield from _roles(route, known.roles)
    if known.routes is not None:
        yield from _calls(route, known.routes)


def _agents(route: Route) -> Iterator[tuple[DocumentPath, str]]:
    """Every agent that may get a task, and the path where the route names it."""
    for name, step in route.steps.items():
        at: DocumentPath = ("steps", name)
        if isinstance(step.work, AgentWork):
            if step.work.agent:
                yield (*at, "agent"), step.work.agent
            if step.work.handover is not None:
                to = written(route, name)["handover"]["to"]
                for place, agent in enumerate([to] if isinstance(to, str) else to):
                    yield (*at, "handover", "to", *([] if isinstance(to, str) else [place])), agent
        asks = approval_of(step)
        if asks is not None and asks.voting is not None:
            for asked in () if asks.voting.ask_back is None else asks.voting.ask_back.to:
                if asked.agent:
                    yield (*path_of(route, name), "ask_back"), asked.agent
        if step.undo is not None and step.undo.agent:
            yield (*at, "undo", "agent"), step.undo.agent


def _calls(route: Route, routes: Collection[str]) -> Iterator[RouteFinding]:
    for name, step in route.steps.items():
        if isinstance(step.work, CallWork) and step.work.route not in routes:
            message = f"no route of these files is called {step.work.route}: the step becomes an incident if the router has none either"
            yield warning(("steps", name, "workflow"), "unknown_route", message, near(step.work.route, routes))


def _roles(route: Route, roles: Collection[str]) -> Iterator[RouteFinding]:
    for name, work in approvals_of(route):
        for role in roles_of(work):
            if role not in roles:
                message = f"nobody has the role {role}, so every answer would be refused"
                yield error((*path_of(route, name), "role"), "unknown_role", message, near(role, roles))

"""Which routes an event starts, and with which workflow ids. Ingress asks this for every event.

Owns the index by event type, so that among a thousand routes an event costs only those of its own
type. Owns the rules of matching too: a guard that is false or can't be evaluated does not match; a
key that can't be made is a problem that somebody must see. `explain` says the same to people.
"""

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import msgspec
from msgspec.structs import replace

from mesh.core.ids import MAX_KEY_LENGTH, alias_id, workflow_id
from mesh.core.json_values import kind_of, text_of
from mesh.core.route import ExpressionError, Route, Scope, Template

_NONE: Final[tuple[Route, ...]] = ()


class Match(msgspec.Struct, frozen=True, kw_only=True):
    """The event starts this route's workflow. `key` is as the route made it, not escaped."""

    route: Route
    key: str
    workflow_id: str


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """A step of this route's workflow waits, or will wait, for the event.

    `key` is as the step made it, not escaped. `workflow_id` may be an alias. `only_live`: the step
    is of an earlier version, under which no workflow starts any more.
    """

    route: Route
    key: str
    workflow_id: str
    only_live: bool = False


class MatchProblem(msgspec.Struct, frozen=True, kw_only=True):
    """The event is for this route, but it gives no workflow id.

    The message says why, and what to do.
    """

    route: Route
    message: str


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """How one route answers an event.

    `matched`: it starts a workflow, whose id is the reason's last word. `offered`: the workflows in
    which a step may wait for it.
    """

    route: str
    matched: bool
    reason: str
    offered: tuple[str, ...] = ()


class _Awaiting(NamedTuple):
    route: Route
    key: Template
    alias: str
    only_live: bool


class RouteIndex:
    """The routes by event type. Immutable: make a new one for another set of routes.

    `earlier`: versions that start nothing, but on which workflows may still wait for events.
    """

    def __init__(self, routes: Iterable[Route], earlier: Iterable[Route] = ()) -> None:
        # sorted, so that all routers number the records of one event alike: a copy is known by that
        self._routes = tuple(sorted(routes, key=lambda route: route.name))
        by_type: dict[str, list[Route]] = {}
        for route in self._routes:
            # times start it, and no event does, whatever its type
            if route.on is not None and route.on.schedule is None:
                by_type.setdefault(route.on.type, []).append(route)
        self._by_type = {kind: tuple(found) for kind, found in by_type.items()}
        self._awaiting: dict[str, list[_Awaiting]] = {}
        for route in self._routes:
            self._await(route, only_live=False)
        for route in sorted(earlier, key=lambda route: (route.name, route.digest)):
            self._await(route, only_live=True)

    def _await(self, route: Route, *, only_live: bool) -> None:
        """Index the steps that wait.

        Versions whose steps find their workflow the same way are indexed once.
        """
        for awaited in route.awaited:
            key, known = awaited.key or route.key, self._awaiting.setdefault(awaited.type, [])
            if key is not None and not any(
                (one.route.name, one.key.source, one.alias) == (route.name, key.source, awaited.alias) for one in known
            ):
                known.append(_Awaiting(route, key, awaited.alias, only_live))

    def match(self, cloud_event: dict[str, Any]) -> list[Match | MatchProblem]:
        """One entry for each route that the event is for, in the order of the routes' names."""
        scope: Scope = {"event": cloud_event}
        routes = self._by_type.get(cloud_event.get("type", ""), _NONE)
        return [_matched(route, scope) for route in routes if _refusal(route, scope) is None]

    def offers(self, cloud_event: dict[str, Any]) -> list[Offer]:
        """The workflows in which a step waits for the event, or may wait for it later.

        One for each route and key, or their aliases. If the event does not give a key, it finds no
        workflow.
        """
        found: dict[str, Offer] = {}
        for route, template, alias, only_live in self._awaiting.get(cloud_event.get("type", ""), ()):
            try:
                key = made_key(template, {"event": cloud_event})
            except ExpressionError:
                continue
            # under any other key no workflow can have started
            if key.strip() and len(key) <= MAX_KEY_LENGTH:
                target = alias_id(route.name, alias, key) if alias else workflow_id(route.name, key)
                offer = Offer(route=route, key=key, workflow_id=target, only_live=only_live)
                # current versions come first, so an earlier one counts only if no current one finds
                # the workflow
                found.setdefault(offer.workflow_id, offer)
        return list(found.values())

    def explain(self, cloud_event: dict[str, Any]) -> list[Explanation]:
        """Every route's explanation, in the order of the routes' names."""
        scope: Scope = {"event": cloud_event}
        offered: dict[str, list[str]] = {}
        for offer in self.offers(cloud_event):
            offered.setdefault(offer.route.name, []).append(offer.workflow_id)
        return [replace(_explained(route, scope), offered=tuple(offered.get(route.name, ()))) for route in self._routes]


def _refusal(route: Route, scope: Scope) -> str | None:
    """Why the guard keeps the event out; None if it lets it in."""
    guard = route.on.condition if route.on is not None else None
    if guard is None:
        return None
    try:
        return None if guard.is_true(scope) else f"its guard is false: {guard.source}"
    except ExpressionError as error:
        return f"its guard can't be evaluated: {error}"


def _matched(route: Route, scope: Scope) -> Match | MatchProblem:
    try:
        key = _key(route, scope)
    except ExpressionError as error:
        return MatchProblem(route=route, message=f"route {route.name} can't make its key: {error}")
    if not key.strip():
        return MatchProblem(route=route, message=f"route {route.name} makes an empty key of this event")
    if len(key) > MAX_KEY_LENGTH:
        return MatchProblem(
            route=route,
            message=f"route {route.name} makes a key of {len(key)} characters ({MAX_KEY_LENGTH} at the most; choose less of the event)",
        )
    return Match(route=route, key=key, workflow_id=workflow_id(route.name, key))


def _key(route: Route, scope: Scope) -> str:
    """Raises `ExpressionError`."""
    if route.key is None:
        return _event_key(scope["event"])
    return made_key(route.key, scope)


def made_key(template: Template, scope: Scope) -> str:
    """The value of a template as part of an id. Raises `ExpressionError`."""
    value = template.render(scope)
    if value is None or isinstance(value, dict | list):
        raise ExpressionError(f"{template.source} is {kind_of(value)}; it must be a string, a number or a bool")
    return text_of(value)


def _event_key(event: dict[str, Any]) -> str:
    """`<source>+<id>`, the source escaped so that no two events have the same."""
    source = str(event.get("source", "")).replace("%", "%25").replace("+", "%2B")
    return f"{source}+{event.get('id', '')}"


def _explained(route: Route, scope: Scope) -> Explanation:
    kind = scope["event"].get("type", "")
    if route.on is None:
        reason = "no event starts it: steps of other routes call it"
        return Explanation(route=route.name, matched=False, reason=reason)
    if route.on.schedule is not None:
        reason = f"no event starts it: it starts at {route.on.schedule.cron} ({route.on.schedule.timezone})"
        return Explanation(route=route.name, matched=False, reason=reason)
    if kind != route.on.type:
        return Explanation(
            route=route.name, matched=False, reason=f"it takes events of type {route.on.type}, not {kind}"
        )
    refusal = _refusal(route, scope)
    if refusal is not None:
        return Explanation(route=route.name, matched=False, reason=refusal)
    found = _matched(route, scope)
    if isinstance(found, MatchProblem):
        return Explanation(route=route.name, matched=False, reason=found.message)
    return Explanation(route=route.name, matched=True, reason=f"it starts {found.workflow_id}")

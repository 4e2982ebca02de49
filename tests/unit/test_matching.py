"""Matching: which routes an event starts, with which ids, and what is said of those it does not."""

from typing import Any

import pytest

from mesh.core.ids import MAX_KEY_LENGTH
from mesh.core.matching import Explanation, Match, MatchProblem, Offer, RouteIndex
from mesh.core.route import Route
from mesh.routes.compiler import compile_route


def route(name: str, *, on: str = "t", guard: str | None = None, key: str | None = None) -> Route:
    document: dict[str, Any] = {"route": name, "on": {"type": on}, "steps": {"a": {"agent": "x", "input": 1}}}
    if guard is not None:
        document["on"]["if"] = guard
    if key is not None:
        document["key"] = key
    return compile_route(document)


def payments(name: str = "a", **wait: Any) -> Route:
    charge = {"agent": "x", "input": 1, "alias": "${{ steps.charge.id }}"}
    steps = {"charge": charge, "paid": {"wait": {"event": "t", **wait}}}
    return compile_route({"route": name, "on": {"type": "other"}, "key": "${{ event.subject }}", "steps": steps})


def event(**data: Any) -> dict[str, Any]:
    return {"specversion": "1.0", "id": "7", "source": "/s", "type": "t", "data": data}


def only(found: list[Match | MatchProblem]) -> Match | MatchProblem:
    [one] = found
    return one


def test_matches_come_in_the_order_of_names() -> None:
    index = RouteIndex([route("b"), route("c", on="other"), route("a")])
    assert [found.route.name for found in index.match(event())] == ["a", "b"]


def test_an_event_of_no_routes_type_matches_nothing() -> None:
    index = RouteIndex([route("a", on="other")])
    assert index.match(event()) == []
    assert index.match({"id": "1"}) == []


def test_a_guard_that_is_false_or_fails_keeps_the_event_out() -> None:
    index = RouteIndex(
        [
            route("no", guard="event.data.n > 1"),
            route("missing", guard="event.data.m > 1"),
            route("no-bool", guard="event.data.n"),
            route("yes", guard="event.data.n == 1"),
        ]
    )
    assert [found.route.name for found in index.match(event(n=1))] == ["yes"]


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ("octo/repo#1", "octo/repo#1"),
        (12, "12"),
        (-1, "-1"),
        (2**70, str(2**70)),
        (1.5, "1.5"),
        (True, "true"),
        (" x ", " x "),
    ],
)
def test_the_key_is_a_scalar_as_text(value: Any, key: str) -> None:
    found = only(RouteIndex([route("a", key="${{ event.data.k }}")]).match(event(k=value)))
    assert isinstance(found, Match)
    assert (found.key, found.workflow_id) == (key, f"a:{key}")


def test_the_workflow_id_escapes_the_key() -> None:
    found = only(RouteIndex([route("a", key="${{ event.data.k }}")]).match(event(k="50%\n")))
    assert isinstance(found, Match)
    assert (found.key, found.workflow_id) == ("50%\n", "a:50%25%0A")


def test_without_a_key_the_events_source_and_id_are_the_key() -> None:
    found = only(RouteIndex([route("a")]).match(event()))
    assert isinstance(found, Match)
    assert found.key == "/s+7"


def test_no_two_events_have_the_same_key_of_source_and_id() -> None:
    index = RouteIndex([route("a")])
    keys = set()
    for source, number in (("a+b", "c"), ("a", "b+c"), ("a%2Bb", "c"), ("a%", "2Bb+c")):
        found = only(index.match({**event(), "source": source, "id": number}))
        assert isinstance(found, Match)
        keys.add(found.key)
    assert len(keys) == 4


KEY_PROBLEMS: list[tuple[dict[str, Any], str]] = [
    ({}, "route a can't make its key: event.data.k is not there; event.data is empty (in: event.data.k)"),
    ({"k": None}, "route a can't make its key: ${{ event.data.k }} is null; it must be a string, a number or a bool"),
    (
        {"k": ["x"]},
        "route a can't make its key: ${{ event.data.k }} is a list; it must be a string, a number or a bool",
    ),
    (
        {"k": {}},
        "route a can't make its key: ${{ event.data.k }} is an object; it must be a string, a number or a bool",
    ),
    ({"k": " "}, "route a makes an empty key of this event"),
    (
        {"k": "x" * (MAX_KEY_LENGTH + 1)},
        "route a makes a key of 513 characters (512 at the most; choose less of the event)",
    ),
]


@pytest.mark.parametrize(("data", "message"), KEY_PROBLEMS)
def test_a_key_that_cant_be_made_is_a_problem(data: dict[str, Any], message: str) -> None:
    index = RouteIndex([route("a", key="${{ event.data.k }}")])
    found = only(index.match(event(**data)))
    assert isinstance(found, MatchProblem)
    assert found.message == message
    assert index.explain(event(**data)) == [Explanation(route="a", matched=False, reason=message)]


def test_the_longest_key_is_taken() -> None:
    found = only(RouteIndex([route("a", key="${{ event.data.k }}")]).match(event(k="x" * MAX_KEY_LENGTH)))
    assert isinstance(found, Match)


def test_every_route_explains_itself() -> None:
    index = RouteIndex(
        [
            route("a", key="${{ event.data.n }}"),
            route("b", on="other"),
            route("c", guard="event.data.n > 1"),
            route("d", guard="event.data.m > 1"),
        ]
    )
    assert index.explain(event(n=1)) == [
        Explanation(route="a", matched=True, reason="it starts a:1"),
        Explanation(route="b", matched=False, reason="it takes events of type other, not t"),
        Explanation(route="c", matched=False, reason="its guard is false: event.data.n > 1"),
        Explanation(
            route="d",
            matched=False,
            reason="its guard can't be evaluated: event.data.m is not there; event.data has: n (in: event.data.m > 1)",
        ),
    ]


def test_routes_of_other_types_are_not_looked_at() -> None:
    class Untouchable(dict[str, Any]):
        def __getitem__(self, name: str) -> Any:
            raise AssertionError(f"a guard read {name}")

    others = [route(f"r{number}", on=f"type-{number}", guard="event.data.n == 1") for number in range(100)]
    found = RouteIndex([*others, route("mine", key="k")]).match(Untouchable(event()))
    assert [one.route.name for one in found] == ["mine"]


# Offers -------------------------------------------------------------------------------------------


def waiting(name: str, *waits: dict[str, Any], **more: Any) -> Route:
    steps = {f"w{number}": {"wait": wait} for number, wait in enumerate(waits)}
    return compile_route({"route": name, "on": {"type": "start"}, "steps": steps, **more})


def ids_of(offers: list[Offer]) -> list[str]:
    return [offer.workflow_id for offer in offers]


def test_an_event_is_offered_where_a_step_waits_for_its_type_by_the_steps_key_or_the_routes() -> None:
    index = RouteIndex(
        [
            waiting("own", {"event": "t", "key": "${{ event.data.order }}"}),
            waiting("routes", {"event": "t"}, key="${{ event.id }}"),
            waiting("other", {"event": "other"}, key="${{ event.id }}"),
            route("none"),
        ]
    )
    assert ids_of(index.offers(event(order=5))) == ["own:5", "routes:7"]
    assert index.offers({"id": "1"}) == []


def test_an_event_is_offered_once_to_a_workflow_and_to_each_that_a_key_names() -> None:
    same = {"event": "t", "key": "${{ event.data.order }}"}
    index = RouteIndex([waiting("r", same, same, {"event": "t", "key": "${{ event.data.also }}"})])
    assert ids_of(index.offers(event(order="a", also="b"))) == ["r:a", "r:b"]
    assert ids_of(index.offers(event(order="a", also="a"))) == ["r:a"]


@pytest.mark.parametrize("order", [None, [], {}, "", " ", "x" * (MAX_KEY_LENGTH + 1)])
def test_an_event_that_gives_no_key_finds_no_workflow(order: Any) -> None:
    index = RouteIndex([waiting("r", {"event": "t", "key": "${{ event.data.order }}"})])
    assert index.offers(event(order=order)) == []
    assert index.offers(event()) == []


def test_a_wait_for_the_type_that_starts_its_route_is_offered_the_event_too() -> None:
    """The core knows that the start event is not what its own workflow waits for."""
    index = RouteIndex([waiting("r", {"event": "start"}, key="k")])
    found = {**event(), "type": "start"}
    assert [match.workflow_id for match in index.match(found) if isinstance(match, Match)] == ["r:k"]
    assert ids_of(index.offers(found)) == ["r:k"]


def waits_for_paid(name: str, *keys: str | None) -> Route:
    """A route with a step for each key. Each step waits for an event of type `paid`.

    None: by the route's own key.
    """
    steps: dict[str, Any] = {}
    for number, made in enumerate(keys):
        awaited = {"event": "paid"} if made is None else {"event": "paid", "key": made}
        steps[f"w{number}"] = {"wait": awaited}
    return compile_route({"route": name, "on": {"type": "t"}, "key": "${{ event.data.k }}", "steps": steps})


def paid(**data: Any) -> dict[str, Any]:
    return {**event(**data), "type": "paid"}


def offered(index: RouteIndex, **data: Any) -> list[tuple[str, bool]]:
    return [(offer.workflow_id, offer.only_live) for offer in index.offers(paid(**data))]


def test_an_event_is_offered_once_to_each_workflow_that_may_wait_for_it() -> None:
    index = RouteIndex([waits_for_paid("a", None, None, "${{ event.data.n }}"), waits_for_paid("b", None)])
    assert offered(index, k="1", n="2") == [("a:1", False), ("a:2", False), ("b:1", False)]
    assert offered(index, k="1", n="1") == [("a:1", False), ("b:1", False)]
    assert offered(index, n="2") == [("a:2", False)]
    assert offered(index, k=" ") == []
    assert index.offers(event(k="1")) == []


def test_workflows_of_an_earlier_version_are_still_offered_what_they_wait_for() -> None:
    """Also where no version of their route is active any more."""
    earlier = [waits_for_paid("a", None, "${{ event.data.n }}"), waits_for_paid("c", None)]
    index = RouteIndex([waits_for_paid("a", None)], earlier)
    assert index.match(event(k="1")) == RouteIndex([waits_for_paid("a", None)]).match(event(k="1"))
    assert offered(index, k="1", n="2") == [("a:1", False), ("a:2", True), ("c:1", True)]
    assert offered(index, k="1", n="1") == [("a:1", False), ("c:1", True)]


def test_an_explanation_names_the_workflows_in_which_a_step_may_wait_for_the_event() -> None:
    def waiting(name: str) -> Route:
        wait = {"event": "shop.paid", "key": "${{ event.data.order }}"}
        return compile_route({"route": name, "on": {"type": "t"}, "steps": {"paid": {"wait": wait}}})

    event = {"id": "1", "source": "/s", "type": "shop.paid", "data": {"order": "A 1"}}
    found = RouteIndex([waiting("one"), waiting("two")]).explain(event)
    assert [(one.matched, one.offered) for one in found] == [(False, ("one:A 1",)), (False, ("two:A 1",))]
    assert RouteIndex([waiting("one")]).explain({**event, "data": None})[0].offered == ()


def test_an_event_is_offered_to_the_alias_that_a_wait_names() -> None:
    index = RouteIndex([payments(alias="charge", key="${{ event.data.id }}")])
    [offer] = index.offers(event(id="p/1"))
    assert (offer.workflow_id, offer.key, offer.route.name) == ("mesh.alias:a.charge/p/1", "p/1", "a")
    assert index.offers(event()) == []


def test_an_event_is_offered_by_key_and_by_alias_where_steps_wait_for_both() -> None:
    document = payments(alias="charge", key="${{ event.data.id }}").definition
    document["steps"]["other"] = {"wait": {"event": "t", "key": "${{ event.data.id }}"}}
    index = RouteIndex([compile_route(document)])
    assert [offer.workflow_id for offer in index.offers(event(id="p1"))] == ["mesh.alias:a.charge/p1", "a:p1"]


def test_no_event_starts_a_route_with_a_schedule() -> None:
    document = {"route": "a", "on": {"schedule": "0 9 * * *"}, "steps": {"a": {"agent": "x", "input": 1}}}
    index = RouteIndex([compile_route(document)])
    assert index.match({"type": "", "id": "1", "source": "/s"}) == []
    assert index.explain(event()) == [
        Explanation(route="a", matched=False, reason="no event starts it: it starts at 0 9 * * * (UTC)")
    ]

"""Which steps of a route can ever run: found by trying every way in which the steps can come out.

Owns the search. It knows few values: an approval's verdict, that a skipped step's output is null,
and what was assumed about conditions on the start event. Everything else it takes for possible. So
if it calls a step unreachable, that is true for every event. The rules of progress are those of
`mesh.core.decide.progress`. `mesh.inspection.checks` calls it.

What a step reads of another one counts only if that one is certainly settled when the step acts. A
join of some of its needs acts while the others are still open, and a loop's body reads the round
before. An operator's `skip`, a cancelled race and a status that no condition reads would only
multiply the ways. They are tried only for steps whose status, or output as a whole, some condition
reads.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

import msgspec

from mesh.core.joins import rejection_is_taken, takes
from mesh.core.route import AgentWork, ApprovalWork, CallWork, EndWork, Route, Step, WaitWork
from mesh.inspection.inference.partial_evaluation import NOTHING, Atom, Facts, assumed, first_open, held, outcome
from mesh.routes.expressions.paths import Segments

MAX_WORLDS: Final = 20_000
_Outcome = Literal["succeeded", "rejected", "skipped", "blocked", "failed", "cancelled", "dropped", "ended"]
"""How a step came out, as `status` has it.

`dropped`: an operator skipped it. `ended`: the workflow ended there, so what needs it never acts.
"""


class Unreachable(msgspec.Struct, frozen=True, kw_only=True):
    """A step that never runs.

    `condition`: its needs can be done, but then its `if` is always false. Otherwise its needs can
    never be done together.
    """

    step: str
    condition: bool


class _World(NamedTuple):
    """One way in which the first steps can come out.

    It has their outcomes, what was settled when each of them acted, and what was assumed of the
    start event.
    """

    outcomes: Mapping[str, _Outcome]
    settled: Mapping[str, frozenset[str]]
    facts: Facts

    def to(self, name: str, result: _Outcome, settled: frozenset[str]) -> "_World":
        return _World({**self.outcomes, name: result}, {**self.settled, name: settled}, self.facts)


def unreachable(route: Route) -> list[Unreachable]:
    """The steps that can't run, however the others come out.

    Empty if there are too many ways to try.
    """
    search = _Search(route)
    search.run()
    if search.worlds >= MAX_WORLDS:
        return []
    return [Unreachable(step=name, condition=name in search.asked) for name in route.steps if name not in search.ran]


def settled_before(step: Step, good: Sequence[str], settled: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """The steps that are certainly settled when this one acts because of `good`, some of its needs.

    `settled`: the same for each of those needs.
    """
    before = [settled[name] | {name} for name in good]
    if step.enough is None or len(good) <= step.enough:
        found = frozenset[str]().union(*before)
    else:  # only `enough` are sure to be settled, and nobody knows which
        found = before[0].intersection(*before)
    return found.union(step.needs) if step.enough is None or step.first_of else found


class _Search:
    def __init__(self, route: Route) -> None:
        self.route = route
        self.order = list(route.steps)
        self.ran: set[str] = set()
        self.asked: set[str] = set()  # steps whose `if` was asked, at least once
        self.worlds = 0
        self.told = frozenset(_told(route))
        # Elsewhere to be cancelled only keeps other steps from running, and the outcomes that are
        # tried anyway show all that can run. Each outcome more multiplies the ways to try.
        self.races = raced(route) & self.told

    def run(self) -> None:
        guard = self.route.on.condition if self.route.on is not None else None
        # The route starts only for events that pass its guard, so what the guard says is known.
        todo = [_World({}, {}, NOTHING if guard is None else held(guard.source))]
        while todo and self.worlds < MAX_WORLDS and len(self.ran) < len(self.order):
            world = todo.pop()
            self.worlds += 1
            if len(world.outcomes) < len(self.order):
                todo += self._next(self.route.steps[self.order[len(world.outcomes)]], world)

    def _next(self, step: Step, world: _World) -> Iterator[_World]:
        """The ways in which the next step can come out.

        The likeliest comes last, because the last one is tried first.
        """
        if step.name in self.races:
            yield world.to(step.name, "cancelled", frozenset())
        hindered = _hindered(step, world.outcomes)
        if hindered is not None:
            yield world.to(step.name, hindered, frozenset())
            return
        self.asked.add(step.name)
        settled = settled_before(step, _good(step, world.outcomes), world.settled)
        holds: bool | None = True
        atom: Atom | None = None
        if step.condition is not None:
            facts = _known(self.route, world, settled)
            holds, atom = outcome(step.condition.source, facts), first_open(step.condition.source, facts)
        if atom is not None:
            for one in (False, True):
                yield world._replace(facts=assumed(world.facts, atom, holds=one))
            return
        yield from (world.to(step.name, result, settled) for result in self._outcomes(step, holds=holds))

    def _outcomes(self, step: Step, *, holds: bool | None) -> list[_Outcome]:
        if holds is False:
            return ["skipped"]
        self.ran.add(step.name)
        found: list[_Outcome] = ["skipped"] if holds is None else []
        # elsewhere it lets no step run that a success would not
        found += ["dropped"] if step.name in self.told and _may_need_an_operator(step) else []
        return [*found, *_otherwise(self.route, step), "ended" if isinstance(step.work, EndWork) else "succeeded"]


def _told(route: Route) -> Iterator[str]:
    """The steps about which some condition reads the status, or the output as a whole.

    Such an output may be null.
    """
    for step in route.steps.values():
        for path in step.condition.paths if step.condition is not None else ():
            root, _, name = path.partition(".")
            if root in ("status", "steps") and name in route.steps:
                yield name


def _may_need_an_operator(step: Step) -> bool:
    """Whether the step can become an incident.

    Any step can, except a plain wait: for a time, or for an event whose time-out is not an
    incident.
    """
    match step.work:
        case WaitWork(until=None, timeout_s=timeout_s, on_timeout=on_timeout):
            given_up = timeout_s is not None and on_timeout == "incident"
            return given_up or step.condition is not None or step.repeat is not None
        case _:
            return True


def raced(route: Route) -> frozenset[str]:
    """The steps that the winner of a race may cancel: its rivals, and what serves only them."""
    found = {need for step in route.steps.values() if step.first_of and len(step.needs) > 1 for need in step.needs}
    # backwards: what needs a step comes after it, so one pass finds
    # all that serves the rivals alone
    for name in reversed(route.steps):
        dependents = route.dependents[name]
        if dependents and found.issuperset(dependents):
            found.add(name)
    return frozenset(found)


def _hindered(step: Step, outcomes: Mapping[str, _Outcome]) -> _Outcome | None:
    """How a step comes out if its needs do not let it act; None if they do."""
    good = _good(step, outcomes)
    if len(good) >= (len(step.needs) if step.enough is None else step.enough):
        return None
    found = [outcomes[need] for need in step.needs]
    if "ended" in found:
        return "ended"
    passed = step.enough is not None and all(one in ("succeeded", "skipped", "dropped") for one in found)
    return "skipped" if passed else "blocked"


def _good(step: Step, outcomes: Mapping[str, _Outcome]) -> list[str]:
    """The needs that came out in a way that counts for this step."""
    return [need for need in step.needs if _counts(step, need, outcomes[need], skipped=step.enough is None)]


def _counts(step: Step, need: str, result: _Outcome, *, skipped: bool) -> bool:
    if result == "succeeded" or (skipped and result in ("skipped", "dropped")):
        return True
    return result != "ended" and takes(step, need, rejected=result == "rejected")


def _otherwise(route: Route, step: Step) -> list[_Outcome]:
    """How else a step that runs may come out, if the workflow continues after it."""
    match step.work:
        case ApprovalWork() if step.for_each is None:
            # If no step takes a rejection, it ends the workflow, and nothing more runs.
            return ["rejected"] if rejection_is_taken(route, step.name) else []
        case AgentWork(on_exhausted="continue") | CallWork(on_exhausted="continue"):
            return ["failed"]
        case WaitWork(on_timeout="skip", timeout_s=float()):
            return ["skipped"]
        case _:
            return []


_VERDICTS: Final = {"succeeded": "approved", "rejected": "rejected", "skipped": "skipped"}


def _known(route: Route, world: _World, settled: frozenset[str]) -> Facts:
    """What a step's condition knows of the steps that are settled before it."""
    known: dict[Segments, Any] = dict(world.facts.known)
    for name in settled:
        result = world.outcomes[name]
        known["status", name] = "skipped" if result == "dropped" else result
        is_one = isinstance(route.steps[name].work, ApprovalWork) and route.steps[name].for_each is None
        if is_one and result != "dropped":
            known["steps", name, "verdict"] = _VERDICTS.get(result)
        elif result in ("skipped", "dropped"):
            known["steps", name] = None
    return Facts(known, world.facts.truths)

"""`MeshKit`: a mesh for one test, with the real router and a cast of played agents and people.

    def test_a_big_refund_asks_a_person(mesh_kit: MeshKit) -> None:
        mesh_kit.route("routes/refund.yaml")
        mesh_kit.agent("checker", {"risk": "high"})
        mesh_kit.agent("payer", fails("ConnectError", times=2), then={"paid": True})
        mesh_kit.person("ana", roles=["manager"])
        run = mesh_kit.publish(type="shop.refund", subject="42", data={"amount": 900})
        run.waits_for("approve")
        mesh_kit.advance("23h")
        run.approve("approve", by="ana")
        assert run.outcome.status == "completed"
        mesh_kit.matches("a-big-refund.txt")

Owns the test's own verbs. It must not drive the mesh: an engine does. After each call, everything
has happened that needs no time. Time passes in `advance`, and in calls that wait for something.
`mesh.testing.kit.engines` has what the mesh runs on.
"""

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import msgspec

from mesh import defaults
from mesh.agent.definition import Agent
from mesh.codec.approvals import Personal
from mesh.codec.approvers_file import load_approvers, load_people
from mesh.codec.calendars import digest_of, encode_calendar, encode_calendar_activation
from mesh.codec.calendars_file import load_calendar, load_calendar_text
from mesh.codec.cloudevents import present, to_record
from mesh.codec.definitions import encode_activation, encode_definition
from mesh.codec.times import parse_rfc3339, rfc3339
from mesh.core import ids
from mesh.core.activation import DELAY_MS
from mesh.core.events import ScheduleFired
from mesh.core.forks import PlannedFork
from mesh.core.inputs import Command
from mesh.core.matching import RouteIndex
from mesh.core.pauses import agent_target, route_target
from mesh.core.people import People, Person, people_of, shared_names
from mesh.core.route import Route
from mesh.core.state import Workflow
from mesh.errors import MalformedRecord
from mesh.inspection.wording.phrases import as_json, event_words
from mesh.testing.kit.account import Account
from mesh.testing.kit.bulk import Bulk, fork_of
from mesh.testing.kit.cast import PlayedAgent, PlayedPerson, Question
from mesh.testing.kit.commands import send_command
from mesh.testing.kit.durations import Duration, seconds
from mesh.testing.kit.engines import Engine, RealEngine, VirtualEngine
from mesh.testing.kit.errors import KitError, Refused, is_for_the_test, unknown
from mesh.testing.kit.golden import compare
from mesh.testing.kit.route_sources import RouteSources
from mesh.testing.kit.run import Run, is_moving, is_stuck
from mesh.testing.kit.scripts import Answers
from mesh.testing.kit.stage import Stage
from mesh.testing.transcript import steps_of

__tracebackhide__ = is_for_the_test

T = TypeVar("T")

BEGINS_AT: Final = "2026-01-01T00:00:00Z"
_TOO_LONG_S: Final = 20 * 365 * 86_400.0
_REAL_PATIENCE_S: Final = 60.0


class MeshKit:
    """A mesh for one test.

    `folder`: relative paths are looked up here first (it is the test's own folder), and then in
    `root`.

    `broker`: the URL of a real broker, which is used in real time under `topic_prefix`. Without it,
    everything is in memory and in virtual time.
    """

    def __init__(
        self,
        *,
        title: str = "",
        folder: Path | None = None,
        root: Path | None = None,
        regen: bool = False,
        broker: str | None = None,
        topic_prefix: str = defaults.TOPIC_PREFIX,
        begins_at: str = BEGINS_AT,
    ) -> None:
        self._title = title or "What happened"
        self._folders = [path for path in (folder, root) if path is not None] or [Path.cwd()]
        self._sources = RouteSources(self._folders)
        self._names: dict[str, tuple[str, ...]] = {}  # the further names of people
        self._regen = regen
        self._routes: dict[str, Route] = {}
        self._versions: dict[str, Route] = {}  # all that were ever active, by digest
        self._is_open = False
        self._engine: Engine
        if broker is None:
            self._engine = VirtualEngine(parse_rfc3339(begins_at))
        else:
            self._engine = RealEngine(broker, prefix=topic_prefix, patience_s=_REAL_PATIENCE_S)
        self._account = Account(self._title, self.stage, self._engine.now_ms())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the mesh. It leaves nothing behind for another test to see."""
        self._engine.close()

    @property
    def stage(self) -> Stage:
        return self._engine.stage

    # Setting up -----------------------------------------------------------------------------------

    def route(self, source: str | Path | Mapping[str, Any]) -> None:
        """Take a route: a file, or a folder of them; a document as a dict; or YAML as text.

        Raises `RouteInvalid`, which names the file, the line and the remedy.
        """
        if self._is_open:
            raise KitError("the mesh runs already: give it every route before the first event, or mesh_kit.apply(...)")
        for route, file in self._sources.read(source):
            if route.name in self._routes:
                raise KitError(f"the mesh has a route {route.name} already: give this one another name")
            self._routes[route.name] = route
            self._account.add_route(route, file)

    def apply(self, source: str | Path | Mapping[str, Any]) -> None:
        """Activate new routes, or new versions of routes, while the mesh runs.

        It does what `mesh routes apply` does. The versions are in effect when this returns, two
        seconds later. Workflows that run go on by the version that they have, unless `run.migrate`
        moves them.
        """
        self._open()
        routes = [route for route, _ in self._sources.read(source)]
        for route in routes:
            self._routes[route.name] = self._versions[route.digest] = route
            told = [f"    {name}: {as_json(step)}" for name, step in steps_of(route)]
            self._account.add_line("\n".join([f"route {route.name} is this now", *told]), self.now_ms())
        records = [encode_definition(route, self.stage.topics) for route in routes]
        active = encode_activation(
            {route.name: route.digest for route in routes},
            topics=self.stage.topics,
            activation_id=self.stage.fresh("activation"),
            by="operator",
            at_ms=self.now_ms(),
            beginning=False,
        )
        self.act(self.stage.send([*records, active]))
        self._engine.flow(DELAY_MS / 1000, lambda: False)

    def agent(
        self,
        name: str | Agent[Any, Any],
        script: Any = msgspec.UNSET,
        *,
        then: Any = msgspec.UNSET,
        after: Duration = 0,
        capabilities: Iterable[str] = (),
        max_outstanding: int | None = None,
    ) -> PlayedAgent:
        """Play an agent by a script, or let a real agent work: `mesh_kit.agent(classify)`.

        `script`: see `mesh.testing.kit.scripts`. `then`: what comes after the script has ended.
        `after`: how long each reply takes. `capabilities`: those that the agent is registered for,
        besides a real agent's own. `max_outstanding`: how many tasks the agent wants to have at
        once, as an `@agent` may say.

        The result knows its `calls`. A second call for the same agent replaces the script.
        """
        if isinstance(name, Agent):
            script, name = name, name.name
        if script is msgspec.UNSET:
            raise KitError(
                f"the agent {name} needs a script: an output, a function, a list, fails(...), silent, or an @agent"
            )
        played = PlayedAgent(name, script, then, seconds(after), self.stage.faults.append)
        played.capabilities += tuple(capabilities)
        played.max_outstanding = max_outstanding or played.max_outstanding
        self.stage.agents[name] = played
        if self._is_open:
            self._engine.renew()
        return played

    def person(
        self,
        name: str,
        *,
        roles: str | Iterable[str] = (),
        names: str | Iterable[str] = (),
        answers: Answers | None = None,
    ) -> None:
        """Add a person who may be asked, or change who they are from now on.

        `name`: the person's id. `names`: further names that answers and routes may use. `answers`:
        what the person answers without the test's doing. It is approves(...), rejects(...), a list,
        a mapping by step, or a function of the question. Without it the test answers, with
        `run.approve`.
        """
        held = frozenset([roles] if isinstance(roles, str) else roles)
        self.stage.people[name] = PlayedPerson(name, held, answers)
        self._names[name] = (names,) if isinstance(names, str) else tuple(names)
        self._engine.set_roles(self._roles(), self._people())

    def people(self, file: str | Path) -> None:
        """Add everybody whom an approvers file names, with their roles and further names."""
        path = self._sources.path(file)
        names = {person.id: person.names for person in load_people(path).persons.values()}
        for name, roles in load_approvers(path).items():
            self.person(name, roles=roles, names=names.get(name, ()))

    def delegate(
        self, giver: str, to: str, *, lasts: Duration = "1h", roles: Sequence[str] = (), routes: Sequence[str] = ()
    ) -> None:
        """Let one person answer for another, as that person says in an answer.

        It is in effect when this returns, two seconds later. Raises `Refused` if it does not count.
        """
        self._open()
        until_ms = self.now_ms() + int(seconds(lasts) * 1000)
        said = Personal(until_ms=until_ms, roles=tuple(roles), routes=tuple(routes))
        answer_id = self.act(self.stage.say("delegate", giver, said, to))
        receipt = self.stage.receipts.get(answer_id)
        if receipt is not None and receipt.status == "refused":
            raise Refused(f"{giver}'s delegation does not count: {receipt.message}", code=receipt.code)
        self._engine.flow(DELAY_MS / 1000, lambda: False)

    def calendar(self, source: str | Path) -> None:
        """Apply a calendar of working hours: a file, or its YAML as text.

        It is in effect when this returns, two seconds later.
        """
        self._open()
        today = self.now.date()
        is_text = isinstance(source, str) and "\n" in source
        found = load_calendar_text(str(source), today) if is_text else load_calendar(self._sources.path(source), today)
        active = encode_calendar_activation(
            found.name,
            digest_of(found),
            topics=self.stage.topics,
            activation_id=self.stage.fresh("calendar"),
            by="operator",
            at_ms=self.now_ms(),
        )
        self.act(self.stage.send([encode_calendar(found, self.stage.topics), active]))
        self._engine.flow(DELAY_MS / 1000, lambda: False)

    def pause(self, *, agent: str = "", route: str = "", by: str = "operator", reason: str = "") -> None:
        """As an operator, hold an agent or a route: nothing goes out to it until it resumes.

        Raises `Refused` if it is paused already.
        """
        self._order("pause", agent, route, by, reason)

    def resume(self, *, agent: str = "", route: str = "", by: str = "operator", reason: str = "") -> None:
        """As an operator, let what a pause has held go on. Raises `Refused` if it is not paused."""
        self._order("resume", agent, route, by, reason)

    def _order(self, command: Command, agent: str, route: str, by: str, reason: str) -> None:
        if bool(agent) == bool(route):
            raise KitError(f"{command} what? agent='...' or route='...'")
        self._open()
        target = agent_target(agent) if agent else route_target(route)
        send_command(self, command, ids.PAUSES, by=by, reason=reason, target=target)

    def _people(self) -> People | None:
        """Everybody with their further names; None if nobody has one."""
        persons = [Person(id=name, names=self._names[name], roles=roles) for name, roles in self._roles().items()]
        for shared in shared_names(persons):
            raise KitError(f"{shared.one} and {shared.other} share the name {shared.name}: a name is one person's")
        people = people_of(persons)
        return people if people.has_further_names else None

    def _roles(self) -> dict[str, frozenset[str]]:
        return {person.name: person.roles for person in self.stage.people.values()}

    def _open(self) -> None:
        if self._is_open:
            return
        if not self._routes:
            raise KitError("the mesh has no route yet: mesh_kit.route(...)")
        self._is_open = True
        self._versions = {route.digest: route for route in self._routes.values()}
        self._engine.start(list(self._routes.values()), self._roles())
        self._engine.set_roles(self._roles(), self._people())
        self._account.began_ms = self._engine.now_ms()

    # Moving on ------------------------------------------------------------------------------------

    def publish(self, event: Mapping[str, Any] | None = None, /, **attributes: Any) -> Run:
        """Publish a CloudEvent, by its attributes and `data`; `id` and `source` may be left out.

        Returns the run that the event begins, or the workflow that it comes to.
        """
        self._open()
        given = {**(event or {}), **attributes}
        whole = {"specversion": "1.0", "id": self.stage.fresh("event"), "source": "/test", **present(given)}
        try:
            record = to_record(whole, topic=self.stage.topics.events)
        except MalformedRecord as error:
            raise KitError(f"this is not a CloudEvent: {error}") from error
        self.stage.published[whole["id"]] = whole
        self.act(self.stage.send([record]))
        if not any(heard.decision.cause.id == whole["id"] for heard in self.stage.heard):
            self._account.add_line(f"{event_words(whole)}: nobody takes it", self.now_ms())
        found = self.stage.begun_by(whole["id"])
        return Run(self, event_id=whole["id"], found=next(iter(found.items())) if len(found) == 1 else None)

    def run(self, workflow_id: str) -> Run:
        """Return the latest run of the workflow with this id, `<route>:<key>`."""
        return Run(self, found=(workflow_id, ""))

    def advance(self, duration: Duration) -> None:
        """Let this much time pass. Everything that is due by then has happened."""
        self._open()
        self.stage.act += 1
        self._engine.flow(seconds(duration), lambda: False)
        self._engine.catch_up()

    def operation(
        self,
        command: Command,
        runs: Sequence[Run],
        *,
        by: str = "operator",
        reason: str = "",
        step: str | None = None,
        input: Any = msgspec.UNSET,  # noqa: A002 - the field's name
        output: Any = msgspec.UNSET,
    ) -> dict[str, str]:
        """As an operator, order one thing of several runs at once, as a bulk operation.

        The commands are a run's verbs. `step`: of fork, the step from which the new runs go on.
        Returns by workflow what became of it: `accepted`, or the code of the refusal.
        """
        to = {route: one.digest for route, one in self._routes.items()} if command == "migrate" else {}
        about: dict[str, Any] = {"by": by, "reason": reason, "step": step, "given": input, "output": output, "to": to}
        bulk = Bulk(self.stage, command, [run.id for run in runs], at_ms=self.now_ms(), **about)
        self.act(bulk.order(self._versions))
        if not self._engine.flow(_REAL_PATIENCE_S, bulk.is_over):
            raise KitError(f"the operation to {command} is not over in {_REAL_PATIENCE_S:g} s: {bulk.codes()}")
        self._engine.settle()
        return bulk.codes()

    def next_start(self, route: str) -> Run:
        """Let time pass until the schedule of `route` starts a workflow. Returns its run.

        Raises `KitError` if the schedule starts no more workflows.
        """
        self._open()
        if route not in self._routes:
            raise KitError(unknown("the mesh has no route", route, list(self._routes)))
        on = self._routes[route].on
        if on is None or on.schedule is None:
            raise KitError(f"the route {route} has no schedule: on: {{schedule: ...}}")
        self.stage.act += 1
        schedule_id, before = ids.schedule_id(route), len(self.stage.heard)

        def next_at_ms() -> int | None:
            schedule = self.stage.workflow(schedule_id)
            return schedule.plan.next_at_ms if schedule is not None and schedule.plan is not None else None

        def started() -> str | None:
            fired = (
                ids.workflow_id(route, event.key)
                for heard in self.stage.heard[before:]
                for event in heard.decision.events
                if isinstance(event, ScheduleFired) and event.route == route
            )
            return next((one for one in fired if self.stage.workflow(one) is not None), None)

        self._engine.settle()
        self._engine.flow(_REAL_PATIENCE_S, lambda: next_at_ms() is not None)
        due_ms = next_at_ms()
        if due_ms is None:
            raise KitError(f"the schedule of {route} has ended: mesh_kit.apply(...) a newer version of the route")
        limit_s = (due_ms - self.now_ms()) / 1000 + _REAL_PATIENCE_S
        self._engine.flow(limit_s, lambda: started() is not None)
        self._engine.settle()
        found = started()
        if found is None:
            raise KitError(f"{route} has not been started in {limit_s:.0f} s by its schedule")
        return self.run(found)

    def note(self, text: str) -> None:
        """Add a line for the reader of the transcript."""
        self._account.add_line(text, self.now_ms(), is_note=True)

    @property
    def now(self) -> datetime:
        """The mesh's current time."""
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=self.now_ms())

    def now_ms(self) -> int:
        return self._engine.now_ms()

    # The transcript -------------------------------------------------------------------------------

    def transcript(self, *, times: bool | None = None) -> str:
        """Write what has happened so far, as a conversation.

        `times` false: only what is the same on every broker (docs/testing.md says what that leaves
        out). By default, times are written in virtual time alone.
        """
        return self._account.text(with_times=self._engine.is_virtual if times is None else times)

    def matches(self, name: str = "", *, times: bool | None = None) -> None:
        """Compare the transcript with a file beside the test; `pytest --regen` writes it.

        By default the file has the test's name.
        """
        path = self._folders[0] / (name or f"{'-'.join(self._title.lower().split())}.txt")
        compare(self.transcript(times=times), path, regen=self._regen)

    @property
    def steps(self) -> int:
        """How much work it was, in steps of the virtual loop. It is 0 in real time."""
        return self._engine.loop.steps if isinstance(self._engine, VirtualEngine) else 0

    # For runs -------------------------------------------------------------------------------------

    def act(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Do something, and let everything happen that follows from it at once."""
        self.stage.act += 1
        result = self._engine.run(coroutine)
        self._engine.settle()
        return result

    def wait_for(self, run: Run, condition: Callable[[], bool], wanted: str) -> None:
        """Let time pass until the condition holds. Raises `StandsStill` if it never will."""
        self._open()
        self._engine.settle()

        def is_over() -> bool:
            if condition():
                return True
            run.check_moving(wanted)
            return False

        limit_s = _TOO_LONG_S if self._engine.is_virtual else _REAL_PATIENCE_S
        if not is_over() and not self._engine.flow(limit_s, is_over):
            raise KitError(f"{run.id} has not come to {wanted} in {limit_s:g} s: {run.standing()}")

    def is_moving(self, workflow: Workflow) -> bool:
        """Whether time alone moves the workflow on.

        Either one of its own steps moves, or another workflow that it waits for does.
        """
        steps = self.stage.open_steps(workflow).values()
        if any(is_moving(step, self.stage.promised) for step in steps):
            return True
        if not steps:
            return workflow.pause is None
        if all(is_stuck(step) for step in steps):
            return False
        others = (other for other in self.stage.workflows() if other.status == "running" and other is not workflow)
        return any(
            is_moving(step, self.stage.promised) for other in others for step in self.stage.open_steps(other).values()
        )

    def workflow_of(self, event_id: str) -> tuple[str, str]:
        """The workflow and run that an event came to.

        Raises `KitError` unless there is exactly one.
        """
        found = self.stage.begun_by(event_id)
        if len(found) == 1:
            return next(iter(found.items()))
        if found:
            names = ", ".join(sorted(found))
            raise KitError(f"{event_id} came to {len(found)} workflows, {names}: take one with mesh_kit.run(...)")
        event = self.stage.published.get(event_id, {})
        said = "; ".join(f"{one.route}: {one.reason}" for one in RouteIndex(self._routes.values()).explain(dict(event)))
        raise KitError(f"the event {event_id} began nothing. {said}")

    def fork_of(self, run: Run, step: str) -> PlannedFork:
        """What a fork of this run from this step would be."""
        mark = self.stage.fresh("fork").removeprefix("fork-")
        return fork_of(self.stage, run.id, step, self._versions, mark)

    def digest_of(self, route: str) -> str:
        return self._routes[route].digest

    def steps_of(self, route: str) -> Iterable[str]:
        return self._routes[route].steps if route in self._routes else ()

    def check_person(self, name: str) -> None:
        further = {own for names in self._names.values() for own in names}
        if name not in self.stage.people and name not in further:
            raise KitError(unknown("there is nobody named", name, list(self.stage.people)))

    def only_person_for(self, question: Question) -> str:
        role = question.role
        able = [person.name for person in self.stage.people.values() if person.may_answer(question)]
        if len(able) == 1:
            return able[0]
        who = (
            f"{', '.join(able)} have it: say by=..."
            if able
            else f"nobody has it: mesh_kit.person('ana', roles=[{role!r}])"
        )
        raise KitError(f"who answers? The role is {role}, and {who}")

    def when(self, at_ms: int) -> str:
        """Format a time to the second: owners' clocks are a millisecond before the broker's."""
        return rfc3339(round(at_ms / 1000) * 1000).replace(".000Z", "Z")

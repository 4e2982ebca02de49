"""The account of a test: what its mesh has done, as a conversation.

Owns the order of its lines, and the lines that no decision causes. `MeshKit` adds those, and
asks for the text; `mesh.testing.transcript` has the words.
"""

from collections.abc import Sequence
from typing import NamedTuple

from mesh.core.events import ScheduleFired, WorkflowStarted
from mesh.core.ids import is_schedule, is_silent
from mesh.core.route import Route
from mesh.testing.kit.stage import Heard, Stage
from mesh.testing.transcript import Writer
from mesh.testing.transcript.words import Words


class _Aside(NamedTuple):
    """A line between decisions: a note, or an event that nobody took."""

    after: int  # how many decisions had been heard by then
    at_ms: int
    text: str
    is_note: bool


class Account:
    """`began_ms`: when the mesh began, from which the account counts."""

    def __init__(self, title: str, stage: Stage, began_ms: int) -> None:
        self.began_ms = began_ms
        self._title = title
        self._stage = stage
        self._routes: dict[str, tuple[Route, str]] = {}
        self._asides: list[_Aside] = []

    def add_route(self, route: Route, file: str) -> None:
        """Tell of a route that the mesh begins with."""
        self._routes[route.name] = route, file

    def add_line(self, text: str, at_ms: int, *, is_note: bool = False) -> None:
        """Add a line behind what has happened so far."""
        self._asides.append(_Aside(len(self._stage.heard), at_ms, text, is_note))

    def text(self, *, with_times: bool) -> str:
        """Write what has happened so far.

        `with_times` false: only what is the same on every broker.
        """
        writer = Writer(self._title)
        for route, file in self._routes.values():
            writer.route(route, file=file)
        words = Words()
        told = {id(heard): words.tell(heard.decision) for heard in self._stage.heard}
        asides = list(self._asides)
        course = self._stage.heard if with_times else self._by_workflow()
        _name_runs(writer, course, with_times=with_times)
        idle = self._idle_schedules()
        for place, heard in enumerate(course):
            while asides and asides[0].after <= place:
                self._write_aside(writer, asides.pop(0), with_times=with_times)
            # every partition decides alike on a pause, and one of them says so
            if heard.decision.workflow_id in idle or is_silent(heard.decision.workflow_id):
                continue
            clock = self._clock(heard.decision.at_ms) if with_times else ""
            heading, body = told[id(heard)]
            writer.paragraph(f"{clock}{heard.decision.workflow_id}  {heading}", body, heard.stand)
        for aside in asides:
            self._write_aside(writer, aside, with_times=with_times)
        return writer.text()

    def _idle_schedules(self) -> set[str]:
        """The schedules of other routes that are set, and that do nothing else in the test.

        A test of one route in a folder is not about its neighbours' schedules.
        """
        if len(self._routes) < 2:
            return set()
        schedules = {one.decision.workflow_id for one in self._stage.heard if is_schedule(one.decision.workflow_id)}
        busy = {
            one.decision.workflow_id
            for one in self._stage.heard
            if one.decision.cause.kind == "command"
            or any(isinstance(event, ScheduleFired) for event in one.decision.events)
        }
        return schedules - busy

    def _by_workflow(self) -> list[Heard]:
        """Sort decisions by the test's acts, and those of one act by workflow.

        Across workflows there is no order but the order of the test's acts. For each act, the
        workflows that it was done to come first, and then the others by id.
        """
        heard_all, published = self._stage.heard, self._stage.published
        done_to = {
            (heard.act, heard.decision.workflow_id)
            for heard in heard_all
            if heard.decision.cause.kind in {"answer", "command"} or heard.decision.cause.id in published
        }

        def place(heard: Heard) -> tuple[int, bool, str]:
            workflow_id = heard.decision.workflow_id
            return heard.act, (heard.act, workflow_id) not in done_to, workflow_id

        return sorted(heard_all, key=place)

    def _write_aside(self, writer: Writer, aside: _Aside, *, with_times: bool) -> None:
        if aside.is_note:
            writer.note(aside.text)
        else:
            clock = self._clock(aside.at_ms) if with_times else ""
            writer.lines += [f"{clock}{aside.text}", ""]

    def _clock(self, at_ms: int) -> str:
        """Format the time of the test's clock, to the second.

        What is due at a time happens some milliseconds after it, and an owner's clock is up to a
        millisecond before the broker's.
        """
        days, seconds = divmod(round((at_ms - self.began_ms) / 1000), 86_400)
        clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
        return f"{days}d {clock}  " if days else f"{clock}  "


def _name_runs(writer: Writer, course: Sequence[Heard], *, with_times: bool) -> None:
    """Give names to runs, and to scheduled times where no times are told."""
    for event in (event for heard in course for event in heard.decision.events):
        if isinstance(event, WorkflowStarted):
            writer.name_run(event.run_id)
        elif isinstance(event, ScheduleFired) and not with_times:
            writer.name_time(event.key)

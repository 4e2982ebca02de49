"""A partition's conversation as text, for people to read and to review as a diff.

What came in, what was decided, what left, and how the workflow is afterwards.
"""

from typing import Any

from core_voice import effect_line, event_line, input_line
from one_partition import START_MS, Partition

from mesh.core.effects import Effect
from mesh.core.events import Event
from mesh.core.inputs import Input
from mesh.core.open_approvals import ShowApproval
from mesh.core.route import Route
from mesh.testing.transcript import Writer, since, stand


class Transcript(Partition):
    """A partition that writes down all that is given to it, each event with all its fields.

    The first run of a workflow is called RUN1, and so on.
    """

    def __init__(self, title: str, *routes: Route, **more: Any) -> None:
        self.writer = Writer(title)
        self.lines = self.writer.lines
        super().__init__(*routes, **more)
        for number, one in enumerate(routes, 1):
            version = f"VERSION{number}" if len({other.name for other in routes}) < len(routes) else ""
            self.writer.route(one, version=version)

    def note(self, text: str) -> None:
        self.writer.note(text)

    def take_over(self, token: str) -> None:
        super().take_over(token)
        if self.decisions:
            self.note(f"router-{token} takes over, with nothing but the log")

    def give(self, given: Input) -> tuple[Event, ...]:
        before = len(self.decisions)
        events = super().give(given)
        body = [event_line(event, _clock) for event in events]
        decided = len(self.decisions) > before
        body += (
            [f"-> {effect_line(effect)}" for effect in self.effects() if not _is_said(effect)]
            if decided
            else ["(nothing)"]
        )
        for event in events:
            self.writer.name_run(getattr(event, "run_id", ""))
        heading = f"{_clock(self.now_ms)}  {input_line(given, _clock)}"
        self.writer.paragraph(heading, body, stand(self.state.workflows.get(given.workflow_id)))
        return events

    def text(self) -> str:
        return self.writer.text()


def _is_said(effect: Effect) -> bool:
    """Whether the event above it says the same."""
    return isinstance(effect, ShowApproval)


def _clock(at_ms: int) -> str:
    """Since the first input, as hours:minutes:seconds."""
    return since(at_ms - START_MS)

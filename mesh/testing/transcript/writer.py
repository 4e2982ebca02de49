"""The layout of a transcript, and the few phrases that all transcripts share.

Owns the layout alone. It must not know what decisions mean: `words` does.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mesh.core.pauses import words
from mesh.core.route import Route
from mesh.core.state import Workflow
from mesh.inspection.wording.phrases import as_json

_LINES_OF_ITS_OWN = frozenset({"route", "on", "key", "steps"})


class Writer:
    """A transcript that is being written.

    `text` calls the first run that was named RUN1, and so on, because a run's id says nothing to a
    reader. In the same way TIME1 and so on are the times of schedules.
    """

    def __init__(self, title: str) -> None:
        self.lines = [title, "=" * len(title), ""]
        self._runs: dict[str, str] = {}
        self._times: dict[str, str] = {}
        self._versions: dict[str, str] = {}

    def route(self, route: Route, *, file: str = "", version: str = "") -> None:
        """Write a route with its steps, or with its file's name if it has one.

        `version`: what its digest is called, if there are several versions.
        """
        self.lines.append(
            f"route {route.name}" + (f", from {file}" if file else "") + (f", {version}" if version else "")
        )
        if version:
            self._versions[route.digest] = version
        if not file:
            self.lines += [f"    {name}: {as_json(step)}" for name, step in steps_of(route)]
        self.lines.append("")

    def note(self, text: str) -> None:
        self.lines += [f"# {text}", ""]

    def paragraph(self, heading: str, body: Iterable[str], workflow: str) -> None:
        """Write one input and what came of it. `workflow`: its state after that."""
        self.lines += [heading, *(f"    {line}".rstrip() for line in body), f"    = {workflow}", ""]

    def name_run(self, run_id: str) -> None:
        if run_id:
            self._runs.setdefault(run_id, f"RUN{len(self._runs) + 1}")

    def name_time(self, time: str) -> None:
        self._times.setdefault(time, f"TIME{len(self._times) + 1}")

    def text(self) -> str:
        text = "\n".join(self.lines)
        for run, name in {**self._versions, **self._runs, **self._times}.items():
            text = text.replace(run, name)
        return text


def steps_of(route: Route) -> Iterator[tuple[str, Any]]:
    """The steps of the definition, and then the rest of it."""
    yield from route.definition["steps"].items()
    yield from ((key, value) for key, value in route.definition.items() if key not in _LINES_OF_ITS_OWN)


def since(ms: int) -> str:
    """Format a duration as hours:minutes:seconds, to the millisecond."""
    seconds, rest = divmod(ms, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{rest:03}"


def stand(workflow: Workflow | None) -> str:
    if workflow is None:
        return "no such workflow"
    if workflow.holder is not None:
        return f"{workflow.status}: the alias of {workflow.holder.workflow_id}"
    if workflow.plan is not None:
        schedule = workflow.plan.schedule
        return f"{workflow.status}: starts {f'at {schedule.cron} ({schedule.timezone})' if schedule else 'no more'}"
    if workflow.limiter is not None:
        waiting = ", ".join(claim.name for claim in workflow.limiter.queue)
        return f"out: {', '.join(workflow.limiter.holders) or 'nothing'}; waiting: {waiting or 'nothing'}"
    if workflow.pauses is not None:
        return "paused: " + (", ".join(map(words, workflow.pauses.paused)) or "nothing")
    return f"{workflow.status}: {_steps(workflow.steps) or 'nothing has begun'}"


def _steps(steps: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {step.status}" for name, step in steps.items())

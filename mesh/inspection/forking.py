"""Forks in the making: what a new run keeps of another one, and what it is called.

Owns how they are read from a workflow's decisions, because one that has ended holds no results.
Nothing is sent. `mesh workflows fork` and the kit for tests call it.
"""

from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any, Final, NamedTuple

import msgspec

from mesh.core import ids
from mesh.core.events import CompensationStarted, Decision, WorkflowEnded, WorkflowForked, WorkflowStarted
from mesh.core.evolve import evolve
from mesh.core.forks import Fork, PlannedFork, kept_results
from mesh.core.route import Route
from mesh.core.state import Workflow
from mesh.errors import NotFound, OperatorError

MARK: Final = "~"  # between the other's key and what makes the new one's its own
_MARK_DIGITS: Final = 8

Versions = Mapping[str, Route | None]
"""Routes by digest; None: the version can't be read here."""


class LastRun(NamedTuple):
    """A workflow's newest run: its start, and its state before it ended or was undone.

    `forked_into`: the workflows that went on from it.
    """

    started: WorkflowStarted
    state: Workflow
    forked_into: frozenset[str]


def last_run(decisions: Iterable[Decision], workflow_id: str) -> LastRun:
    """Fold the decisions about a workflow. Raises `NotFound` if it has had no run."""
    started: WorkflowStarted | None = None
    state: Workflow | None = None
    is_over, into = False, set[str]()
    for decision in decisions:
        for event in decision.events:
            if isinstance(event, WorkflowStarted):
                started, is_over, into = event, False, set()
            if isinstance(event, WorkflowForked) and event.into:
                into.add(event.into)
            is_over = is_over or isinstance(event, CompensationStarted | WorkflowEnded)
            if not is_over:
                state = evolve(state, event, workflow_id=workflow_id, at_ms=decision.at_ms)
    if started is None or state is None:
        raise NotFound(f"{workflow_id} has had no run: there is nothing to fork")
    return LastRun(started, state, frozenset(into))


def planned(run: LastRun, step: str, versions: Versions, *, to: str = "", mark: str) -> PlannedFork:
    """The fork of this run from a step.

    `to`: the digest of the version; without it, that of the run. `mark`: what makes its id its own.
    Raises `NotFound` if the version can't be read, and `OperatorError` if it has no such step.
    """
    started, state, _ = run
    digest = to or state.digest
    route = versions.get(digest)
    if route is None:
        raise NotFound(f"version {digest[7:19]} of {state.route} can't be read here: name another with --to")
    if step not in route.steps:
        raise OperatorError(f"route {route.name} has no step {step}: {', '.join(route.steps)}")
    kept = kept_results(route, step, state.steps)
    fork = Fork(
        of=state.workflow_id, run_id=state.run_id, event=started.cloud_event, steps=kept, private=started.private
    )
    return PlannedFork(into=ids.workflow_id(route.name, f"{state.key}{MARK}{mark}"), to=digest, fork=fork)


def mark_of(run: LastRun, step: str, *, to: str = "", task_input: Any = msgspec.UNSET) -> str:
    """The same for the same fork: who orders it twice has one new run, and not two."""
    given = [] if task_input is msgspec.UNSET else [task_input]
    said = msgspec.json.encode([run.state.run_id, step, to or run.state.digest, *given], order="deterministic")
    return sha256(said).hexdigest()[:_MARK_DIGITS]

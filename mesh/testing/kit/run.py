"""One run of a workflow, as a test sees and moves it.

Owns the verbs of a run: waiting, answering, and what an operator may do. It must not know the
broker or the engine: it asks its `MeshKit`.
"""

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from mesh.core.events import CallMade
from mesh.core.forks import PlannedFork
from mesh.core.inputs import ApprovalOrder, Command
from mesh.core.state import StepState, Workflow
from mesh.inspection.wording.phrases import lasting
from mesh.testing.kit.cast import Question
from mesh.testing.kit.commands import send_command
from mesh.testing.kit.durations import Duration, seconds
from mesh.testing.kit.errors import KitError, Refused, StandsStill, is_for_the_test, unknown
from mesh.testing.kit.scripts import Answer, approves, chooses, rejects

if TYPE_CHECKING:
    from mesh.testing.kit.kit import MeshKit

__tracebackhide__ = is_for_the_test

_MOVES_BY_ITSELF = frozenset(
    {"running", "retrying", "queued"}
)  # queued counts: the holders of the slots have tasks out, and those end
_MOVED_BY_OTHERS = frozenset(
    {"iterating", "again", "held", "suspended"}
)  # of the same workflow: its items, a loop's other steps, who grants more budget, who approves


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """How a run ended.

    `status`: completed, failed, rejected or cancelled. `data`: the outcome's data; None unless the
    run completed.
    """

    status: str
    reason: str
    data: Any


class Run:
    """One run, made by `MeshKit.publish` and `MeshKit.run`.

    If a method needs something to have happened, it lets time pass until it has, and no further.
    """

    def __init__(self, kit: "MeshKit", *, event_id: str = "", found: tuple[str, str] | None = None) -> None:
        """Name the run by its event, or by `found`: workflow and run (empty: the latest)."""
        self._kit = kit
        self._event_id = event_id
        self._found = found

    def __repr__(self) -> str:
        return f"<run of {self._found[0]}>" if self._found else f"<run that {self._event_id} begins>"

    # What it is -----------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """The workflow's id, `<route>:<key>`."""
        return self._where()[0]

    def _where(self) -> tuple[str, str]:
        """The ids of the workflow and the run.

        Raises `KitError` if the event has come to no workflow, or to several.
        """
        if self._found is None:
            self._found = self._kit.workflow_of(self._event_id)
        workflow_id, run_id = self._found
        if not run_id:
            workflow = self._kit.stage.workflow(workflow_id)
            run_id = workflow.run_id if workflow else ""
        return workflow_id, run_id

    def _workflow(self) -> Workflow:
        workflow_id, run_id = self._where()
        workflow = self._kit.stage.workflow(workflow_id)
        if workflow is None:
            known = sorted(one.workflow_id for one in self._kit.stage.workflows())
            raise KitError(unknown("there is no workflow", workflow_id, known))
        if workflow.run_id != run_id:
            raise KitError(f"{workflow_id} has begun another run since: take the one that the later event began")
        return workflow

    @property
    def status(self) -> str:
        """The status: running, or how the run ended."""
        return self._workflow().status

    @property
    def steps(self) -> dict[str, str]:
        """The status of each step that has begun or been settled."""
        return {name: step.status for name, step in self._workflow().steps.items()}

    def output(self, step: str) -> Any:
        """The output of a step, as the route sees it in `steps.NAME`.

        It is an agent's output, or the verdict and payload of an approval.
        """
        workflow_id, run_id = self._where()
        found = self._kit.stage.outputs.get((workflow_id, run_id), {})
        if step not in found:
            raise KitError(unknown(f"{workflow_id} has no output yet of the step", step, list(found)))
        return found[step]

    def called(self, step: str) -> "Run":
        """The run that a `workflow:` step has called last; `step` may be an item (`notes[2]`).

        Waits until it has called.
        """
        self._check_step(step)
        self._kit.wait_for(self, lambda: self._begun_by(step) is not None, f"{step} to call its workflow")
        begun = self._begun_by(step)
        assert begun is not None
        return Run(self._kit, found=begun)

    def _begun_by(self, step: str) -> tuple[str, str] | None:
        """The workflow and the run that the step's last call began; None if none has begun."""
        here, _ = self._where()
        calls = [
            event
            for heard in self._kit.stage.heard
            if heard.decision.workflow_id == here
            for event in heard.decision.events
            if isinstance(event, CallMade) and event.step == step
        ]
        workflow = self._kit.stage.workflow(calls[-1].called) if calls else None
        return None if workflow is None else (workflow.workflow_id, workflow.run_id)

    # Waiting --------------------------------------------------------------------------------------

    @property
    def outcome(self) -> Ended:
        """How the run ended.

        Lets time pass as long as something goes on without outside help. Raises `StandsStill` if
        the run waits for something that nobody will do.
        """
        self._kit.wait_for(self, lambda: self._where() in self._kit.stage.outcomes, "its end")
        found = self._kit.stage.outcomes[self._where()]
        return Ended(status=found.status, reason=found.reason, data=found.output)

    def waits_for(self, step: str) -> Question:
        """Wait until `step` asks a person. Returns what it asks."""
        self._check_step(step)

        def asks() -> bool:
            return self._question(step) is not None and self._state(step).status == "asking"

        self._kit.wait_for(self, asks, f"{step} to ask")
        question = self._question(step)
        assert question is not None
        return question

    def reaches(self, step: str, status: str) -> None:
        """Wait until `step` has this status.

        The status is one of running, retrying, waiting, incident, succeeded, skipped and so on.
        """
        self._check_step(step)
        self._kit.wait_for(self, lambda: self._state(step).status == status, f"{step} to be {status}")

    def needs_operator(self, step: str) -> str:
        """Wait until `step` is an incident, which only an operator can end.

        Returns what went wrong.
        """
        self.reaches(step, "incident")
        incident = self._state(step).incident
        return incident.message if incident else ""

    def _state(self, step: str) -> Any:
        return self._workflow().steps.get(step, _NOT_BEGUN)

    def _question(self, step: str) -> Question | None:
        return self._kit.stage.questions.get(self._state(step).task_id)

    def _check_step(self, step: str) -> None:
        workflow = self._workflow()
        known = list(self._kit.steps_of(workflow.route))
        if step not in workflow.steps and step.partition("[")[0].partition(".")[0] not in known:
            raise KitError(unknown(f"the route {workflow.route} has no step", step, known))

    # Moving ---------------------------------------------------------------------------------------

    def approve(
        self,
        step: str,
        *,
        by: str = "",
        payload: Any = msgspec.UNSET,
        reason: str = "",
        form: Any = None,
        on_behalf: str = "",
    ) -> None:
        """Approve a question that was asked; `payload` is an edit.

        `by` may be left out if only one person has the role. `on_behalf`: the person who has
        delegated to `by` (`mesh_kit.delegate`). Raises `Refused` if the answer does not count.
        """
        self.answer(step, approves(payload=payload, reason=reason, form=form, on_behalf=on_behalf), by=by)

    def reject(self, step: str, *, by: str = "", reason: str = "", form: Any = None) -> None:
        """Reject a question that was asked. The rest is as in `approve`."""
        self.answer(step, rejects(reason=reason, form=form), by=by)

    def choose(
        self,
        step: str,
        choice: str,
        *,
        by: str = "",
        payload: Any = msgspec.UNSET,
        reason: str = "",
        form: Any = None,
    ) -> None:
        """Vote for one of the approval's `choices`. The rest is as in `approve`."""
        self.answer(step, chooses(choice, payload=payload, reason=reason, form=form), by=by)

    def edit(self, step: str, payload: Any, *, by: str = "", reason: str = "") -> None:
        """Edit the payload without a vote. It resets all votes."""
        self.answer(step, Answer(decision="edit", payload=payload, reason=reason), by=by)

    def withdraw(self, step: str, *, by: str) -> None:
        """Take the person's vote back."""
        self.answer(step, Answer(decision="withdraw"), by=by)

    def comment(self, step: str, text: str, *, by: str) -> None:
        self.answer(step, Answer(decision="comment", text=text), by=by)

    def ask_back(self, step: str, text: str, *, by: str, to: str = "") -> None:
        """Ask before answering: `to` is whom the route names; not needed if it names one alone."""
        self.answer(step, Answer(decision="ask", text=text, to=to), by=by)

    def inform(self, step: str, text: str, *, by: str, question: int = 0) -> None:
        """Answer a question that was asked back; its number is not needed if one alone is open."""
        self.answer(step, Answer(decision="inform", text=text, question=question), by=by)

    def answer(self, step: str, answer: Answer, *, by: str = "") -> None:
        """Answer a question that was asked, as a person. The rest is as in `approve`."""
        self._answer(step, by, answer)

    def _answer(self, step: str, by: str, answer: Answer) -> None:
        kit = self._kit
        self._check_step(step)
        question = self._question(step)
        if question is None:
            raise KitError(
                f"{self.id} has not asked {step} yet: {self.standing()}. To let time pass until it does: run.waits_for({step!r})"
            )
        person = by or kit.only_person_for(question)
        kit.check_person(person)
        answer_id = kit.act(kit.stage.answer(question.approval_id, person, answer))
        receipt = kit.stage.receipts.get(answer_id)
        if receipt is not None and receipt.status == "refused":
            raise Refused(
                f"{person}'s answer to {step} of {self.id} does not count: {receipt.message} ({receipt.code})",
                code=receipt.code,
            )

    def cancel(self, *, by: str = "operator", reason: str = "") -> None:
        """Cancel the run, as an operator. Raises `Refused` if it can't be cancelled."""
        self._command("cancel", by, reason, None)

    def retry(
        self,
        step: str | None = None,
        *,
        by: str = "operator",
        reason: str = "",
        input: Any = msgspec.UNSET,  # noqa: A002 - the field's name
    ) -> None:
        """As an operator, let one incident be tried again, or all of them.

        `input`: another input, for one incident. A `step` that is a closed approval is asked again.
        """
        if step is not None:
            self._check_step(step)
        self._command("retry", by, reason, step, input=input)

    def skip(self, step: str | None = None, *, by: str = "operator", reason: str = "") -> None:
        """As an operator, go on without the step that is an incident, or without all of them.

        It may also be an item (`check[7]`) or a compensation (`hotel.undo`).
        """
        self._of_incident("skip", step, by, reason)

    def fail(self, step: str | None = None, *, by: str = "operator", reason: str = "") -> None:
        """As an operator, let an incident end the workflow as failed."""
        self._of_incident("fail", step, by, reason)

    def complete(self, step: str, output: Any, *, by: str = "operator", reason: str = "") -> None:
        """As an operator, give the output of a step by hand. Raises `Refused` if it can't be."""
        self._check_step(step)
        self._command("complete", by, reason, step, output=output)

    def pause(self, *, by: str = "operator", reason: str = "") -> None:
        """As an operator, hold the run: nothing new of it is sent or begun until it resumes."""
        self._command("pause", by, reason, None)

    def resume(self, *, by: str = "operator", reason: str = "") -> None:
        """As an operator, let a paused run go on."""
        self._command("resume", by, reason, None)

    def migrate(self, *, by: str = "operator", reason: str = "") -> None:
        """As an operator, move the run to the version that `mesh_kit.apply` has made active.

        Raises `Refused` if that version does not fit what the run has done.
        """
        self._command("migrate", by, reason, None, to=self._kit.digest_of(self._workflow().route))

    def fork(
        self,
        step: str,
        *,
        by: str = "operator",
        reason: str = "",
        input: Any = msgspec.UNSET,  # noqa: A002 - the field's name
    ) -> "Run":
        """As an operator, begin a new run that goes on from this step, and return it.

        It has the results of all steps but this one and those that need it; this run stays as it
        is. `input`: the step's, in place of what the route makes. Raises `Refused` if it can't be.
        """
        self._check_step(step)
        plan = self._kit.fork_of(self, step)
        self._command("fork", by, reason, step, to=plan.to, input=input, fork=plan)
        return Run(self._kit, found=(plan.into, ""))

    def extend(self, step: str, plus: Duration, *, by: str = "operator", reason: str = "") -> None:
        """As an operator, let the question be open for longer. Raises `Refused` if it can't be."""
        self._order("extend", step, by, reason, by_ms=int(seconds(plus) * 1000))

    def reassign(
        self,
        step: str,
        *,
        roles: tuple[str, ...] = (),
        people: tuple[str, ...] = (),
        replace: bool = False,
        by: str = "operator",
        reason: str = "",
    ) -> None:
        """As an operator, let others answer too, or nobody else (`replace`).

        Raises `Refused` if the route excludes them.
        """
        self._order("reassign", step, by, reason, roles=roles, people=people, replace=replace)

    def void(self, step: str, voter: str, *, by: str = "operator", reason: str = "") -> None:
        """As an operator, take back somebody's vote. Raises `Refused` if they have none."""
        self._order("void", step, by, reason, voter=voter)

    def _order(self, command: Command, step: str, by: str, reason: str, **about: Any) -> None:
        self._check_step(step)
        question = self._question(step)
        if question is None:
            raise KitError(f"{self.id} has not asked {step} yet: {self.standing()}")
        self._command(command, by, reason, None, order=ApprovalOrder(approval_id=question.approval_id, **about))

    def _of_incident(self, command: Literal["skip", "fail"], step: str | None, by: str, reason: str) -> None:
        if step is not None:
            self._check_step(step)
        self._command(command, by, reason, step)

    def _command(
        self,
        command: Command,
        by: str,
        reason: str,
        step: str | None,
        *,
        to: str = "",
        input: Any = msgspec.UNSET,  # noqa: A002 - the field's name
        output: Any = msgspec.UNSET,
        order: ApprovalOrder | None = None,
        fork: PlannedFork | None = None,
    ) -> None:
        more = {"step": step, "to": to, "input": input, "output": output, "order": order}
        about = self.id if fork is None else fork.into
        send_command(self._kit, command, about, by=by, reason=reason, fork=None if fork is None else fork.fork, **more)

    # Standing still -------------------------------------------------------------------------------

    def standing(self, run: str = "run") -> str:
        """Say in words where the run is. `run`: the name of the run in the test's code."""
        workflow = self._workflow()
        if workflow.status != "running":
            return f"it has ended: {workflow.status}" + (f" ({workflow.reason})" if workflow.reason else "")
        steps = self._kit.stage.open_steps(workflow).items()
        blocks = [self._block(run, name, step) for name, step in steps if step.status not in _MOVED_BY_OTHERS]
        return "; ".join(blocks) or "nothing has begun"

    def check_moving(self, wanted: str) -> None:
        """Raise `StandsStill` if time alone will not bring what is waited for."""
        workflow = self._workflow()
        if workflow.status != "running":
            raise StandsStill(f"{self.id} does not come to {wanted}: {self.standing()}")
        if self._kit.is_moving(workflow):
            return
        raise StandsStill(f"{self.id} stands still before {wanted}: {self.standing()}")

    def _block(self, run: str, name: str, step: StepState) -> str:
        match step.status:
            case "asking":
                until = f" until {self._kit.when(step.due_at_ms)}" if step.due_at_ms is not None else ""
                able = [person.name for person in self._kit.stage.people.values() if step.role in person.roles]
                who = f", by={able[0]!r}" if able else ""
                more = "" if able else f"; nobody has the role yet: mesh_kit.person('ana', roles=[{step.role!r}])"
                return f"it waits for {name} (role {step.role}){until}; script an answer with {run}.approve({name!r}{who}), or let the time pass with mesh_kit.advance{more}"
            case "incident":
                message = step.incident.message if step.incident else ""
                return f"{name} needs an operator: {message}; {run}.retry({name!r}), {run}.skip({name!r}), {run}.fail({name!r}), {run}.cancel(), or another script for the agent"
            case "waiting" if step.awaits:
                until = f" until {self._kit.when(step.due_at_ms)}" if step.due_at_ms is not None else ""
                return f"{name} waits for an event of type {step.awaits}{until}: mesh_kit.publish(type={step.awaits!r}, ...)"
            case "calling":
                called = self._kit.stage.workflow(step.called)
                if called is None:
                    return f"{name} has called {step.called}"
                its = Run(self._kit, found=(step.called, called.run_id))
                return f"{name} has called {step.called}: {its.standing(f'{run}.called({name!r})')}"
            case status:
                since = lasting(max(0, self._kit.now_ms() - step.since_ms))
                return f"{name} is {status}, for {since} now"


_NOT_BEGUN = StepState(status="blocked")


def is_moving(step: StepState, promised: Collection[str]) -> bool:
    """Whether time alone will move this step.

    Its agent has a task, it waits for a time, or somebody's script will answer.
    """
    if step.status == "waiting":
        return not step.awaits
    if step.status in _MOVED_BY_OTHERS:
        return step.due_at_ms is not None
    return step.status in _MOVES_BY_ITSELF or step.task_id in promised


def is_stuck(step: StepState) -> bool:
    """Whether no other workflow can move this step either.

    Only a person can move it then, or it moves when other steps do.
    """
    return step.status in {"asking", "incident"} or step.status in _MOVED_BY_OTHERS

"""What a handler may know of its task.

Owns `Context`. It must not know a broker or a record's bytes. The agent runtime makes one for each
task, a test makes its own (`mesh.testing.FakeContext`), and a handler that is called directly
without one gets `Context.local`.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import TYPE_CHECKING, Any, Self

import msgspec

from mesh.agent.approval import ApprovalNeeded, Verdict
from mesh.errors import NonRetryable

if TYPE_CHECKING:
    import structlog

    from mesh.core.tool_approvals import ToolVerdict, Wanted

_LOCAL = "local:call"
_LOCAL_DEADLINE = timedelta(minutes=5)  # as the default time-out of a step


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt at one task.

    `idempotency_key` is the same for all attempts at a task: pass it on to any system that must not
    do something twice. `deadline` is aware, UTC; a result that reaches the broker later does not
    count. `on_heartbeat` is what `heartbeat` calls. `traceparent` is the W3C trace context to hand
    on, empty if there is none.
    """

    agent: str
    workflow_id: str
    run_id: str
    route: str
    step: str
    task_id: str
    attempt: int  # from 1
    idempotency_key: str
    deadline: datetime
    traceparent: str = ""
    on_heartbeat: Callable[[], None] | None = None
    budget: dict[
        str, float
    ] = {}  # what this attempt may take of the run's budget: tokens, usd; empty: nothing is reserved
    # what it has taken so far, by `used`
    usage: dict[str, float] = msgspec.field(default_factory=dict)
    approvals: "tuple[ToolVerdict, ...]" = ()  # the verdicts so far, for `approve`
    can_ask: bool = True  # the router knows what to do with a question
    # what is to be asked, once `approve` has found no verdict on it
    wanted: "list[Wanted]" = msgspec.field(default_factory=list)

    async def approve(
        self, name: str, *, ask: str, payload: Any = None, payload_schema: dict[str, Any] | None = None
    ) -> Verdict:
        """Ask people whether the handler may do one thing.

            verdict = await ctx.approve("pay", ask="Pay?", payload=order)

        The first time it ends the attempt, and nothing of the handler stays. Once people have
        decided, the task goes out again, the handler begins at its start, and this call returns the
        verdict at once. So put before it only what may be done twice.

        Who decides is said by the step's `approve` in the route. A verdict is for this name and
        this payload: with another payload it is another question. `name`: a-z, 0-9, `_` and `-`.

        `payload_schema`: a JSON Schema that people's edits must fit, of at most 16 KiB. The payload
        itself must fit it. A schema in the step's `approve` goes before it.
        """
        return self.approve_blocking(name, ask=ask, payload=payload, payload_schema=payload_schema)

    def approve_blocking(
        self, name: str, *, ask: str, payload: Any = None, payload_schema: dict[str, Any] | None = None
    ) -> Verdict:
        """Do as `approve` does, in a handler that is a plain function."""
        # light to import for those who never ask
        from mesh.agent.asking import verdict_or_question  # noqa: PLC0415

        if not self.can_ask:
            message = f"the router that sent {self.task_id} can't ask for approvals: upgrade all routers, then retry"
            if self.workflow_id == _LOCAL:
                message = "nobody can be asked outside a mesh: give the handler a FakeContext(verdicts={...})"
            raise NonRetryable(message, kind="router_too_old")
        found = verdict_or_question(self.approvals, name, ask, payload, payload_schema)
        if isinstance(found, Verdict):
            return found
        # noted too: a handler that swallows the exception is not to go on as if it were approved
        self.wanted.append(found)
        raise ApprovalNeeded(found)

    def used(self, **amounts: float) -> None:
        """Report what the work used: `ctx.used(tokens=812, usd=0.004)`.

        Calls add up. The sum goes out with the result, also with a failure. The mesh settles the
        run's budget by `tokens` (or `input_tokens` and `output_tokens`) and `usd`; other names are
        only recorded.
        """
        for name, amount in amounts.items():
            if not isfinite(amount):
                raise ValueError(f"{name}={amount} is not an amount that can be counted")
            self.usage[name] = self.usage.get(name, 0.0) + amount

    def heartbeat(self) -> None:
        """Report that the work makes progress.

        Cheap, and safe from any thread: call it as often as you like.

        A route's `heartbeat` is the longest silence that it allows. Until the first call the
        runtime sends signs for the handler, which proves that the process is alive. From then on
        only the handler's own calls count, which proves that the work goes on.
        """
        if self.on_heartbeat is not None:
            self.on_heartbeat()

    @property
    def log(self) -> "structlog.stdlib.BoundLogger":
        """A structlog logger for this attempt.

        Every line names the workflow, the step, the attempt and the agent.
        """
        import structlog  # noqa: PLC0415 - `import mesh` is on the way of every command, and must be light

        logger: structlog.stdlib.BoundLogger = structlog.get_logger("mesh.agent").bind(
            agent=self.agent, workflow_id=self.workflow_id, step=self.step, attempt=self.attempt
        )
        return logger

    @property
    def remaining_s(self) -> float:
        """Seconds until the deadline by this machine's clock, never below 0."""
        return max(0.0, (self.deadline - datetime.now(UTC)).total_seconds())

    @classmethod
    def local(cls, agent: str) -> Self:
        """The context of a handler that was called directly.

        It has no workflow, is the first attempt, and has five minutes.
        """
        workflow_id, run_id, step = _LOCAL, "00000000", agent
        task_id = f"{workflow_id}/{run_id}/{step}"
        return cls(
            agent=agent,
            workflow_id=workflow_id,
            run_id=run_id,
            route="local",
            step=step,
            task_id=task_id,
            attempt=1,
            idempotency_key=task_id,
            deadline=datetime.now(UTC) + _LOCAL_DEADLINE,
            can_ask=False,
        )

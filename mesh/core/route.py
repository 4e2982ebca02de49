"""A route as the core uses it: validated, compiled, immutable.

Owns the shape of a routing rule. It must not read files: `mesh.codec.route_file` reads YAML and reports problems by line;
`mesh.core.route_compile` turns a plain document into a `Route`. `decide` is its reader.
"""

from typing import Any, Literal, Protocol

import msgspec

__all__ = [
    "AgentWork",
    "ApprovalWork",
    "Expression",
    "ExpressionError",
    "OnExhausted",
    "OnExpiry",
    "OnRepeat",
    "Retry",
    "Route",
    "Scope",
    "Step",
    "Template",
    "Trigger",
]

Scope = dict[str, Any]
"""What an expression sees: `event` (the CloudEvent as JSON: id, source, type, subject, data, ...), `steps` (name to output of every step that
has one), `workflow` (id, run_id, route, key)."""

OnExhausted = Literal["incident", "fail"]
OnExpiry = Literal["reject", "approve", "incident"]
OnRepeat = Literal["ignore", "new_run_after_end"]


class ExpressionError(Exception):
    """An expression could not be evaluated: a missing path, types that don't fit. The message names the path and the expression."""


class Expression(Protocol):
    """A compiled CEL expression."""

    source: str  # as written
    paths: frozenset[str]  # what it reads, e.g. "steps.classify.severity"; for checks and for `rejection is taken`

    def evaluate(self, scope: Scope) -> Any:
        """The value, as JSON types. Raises `ExpressionError`."""
        ...

    def is_true(self, scope: Scope) -> bool:
        """The value, which must be a bool. Raises `ExpressionError`."""
        ...


class Template(Protocol):
    """A JSON value whose strings may hold `${{ expression }}`. A string that is one expression whole gives its value, of any type."""

    source: Any
    paths: frozenset[str]

    def render(self, scope: Scope) -> Any:
        """The value, as JSON types. Raises `ExpressionError`."""
        ...


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """How often and when a failed attempt is made again.

    Attempt n+1 waits `min(max_backoff_s, backoff_s * factor ** (n - 1))`, less up to `jitter` of itself, by the hash of the attempt's id.
    """

    attempts: int = 3  # all of them, the first too; >= 1
    backoff_s: float = 1.0
    factor: float = 2.0
    max_backoff_s: float = 60.0
    jitter: float = 0.2  # [0, 1)
    non_retryable: frozenset[str] = frozenset()  # error kinds that end the attempts at once


class AgentWork(msgspec.Struct, frozen=True, kw_only=True):
    agent: str
    input: Template
    timeout_s: float = 300.0  # from dispatch to result
    retry: Retry = Retry()
    on_exhausted: OnExhausted = "incident"


class ApprovalWork(msgspec.Struct, frozen=True, kw_only=True):
    ask: Template  # renders to a string
    payload: Template
    role: str
    deadline_s: float | None  # None: never
    on_expiry: OnExpiry = "reject"
    payload_schema: dict[str, Any] | None = None  # JSON Schema for edits; else the schema of `payload_from`'s agent
    payload_from: str | None = None  # the agent whose output the payload is, where it is exactly one step's


class Step(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    needs: tuple[str, ...]
    condition: Expression | None
    work: AgentWork | ApprovalWork


class Trigger(msgspec.Struct, frozen=True, kw_only=True):
    """Which events start the route: by CloudEvents type, then by guard (`on: {type: ..., if: ...}`)."""

    type: str
    condition: Expression | None = None


class Route(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    digest: str  # "sha256:" + 64 hexadecimal digits of the definition's canonical JSON
    on: Trigger
    key: Template | None  # None: the CloudEvent's source and id
    on_repeat: OnRepeat = "ignore"
    closed_retention_s: float = 30 * 86_400.0
    steps: dict[str, Step]  # in an order in which each stands after those it needs
    dependents: dict[str, tuple[str, ...]]  # step -> the steps that need it, in that order
    output: Template | None = None  # the outcome's data; None: the outputs of the steps that nobody needs
    definition: dict[str, Any]  # the document it was compiled from

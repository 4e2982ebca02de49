"""Every metric that we export: name, unit, kind, attributes, meaning. Nothing else names one.

Alert rules, dashboards and `docs/metrics.md` are held against this module by tests. A name is a
promise to all who have built an alert on it: it is changed only with an entry in the changelog.

Names follow the OpenTelemetry semantic conventions for messaging and for generative AI where those
have one. All others begin with `mesh.`. An attribute is the name of a route, step, agent, topic or
another word of a short list. It is never an id, a key or a person: each value is a time series.
"""

from typing import Final, Literal

import msgspec

Kind = Literal["counter", "gauge", "histogram"]

ROUTE: Final = "mesh.route"
STEP: Final = "mesh.step"
AGENT: Final = "gen_ai.agent.name"
TOPIC: Final = "messaging.destination.name"
ERROR: Final = "error.type"
KIND: Final = "mesh.kind"
CODE: Final = "mesh.code"
STATUS: Final = "mesh.status"
COMPONENT: Final = "mesh.component"
LIMIT: Final = "mesh.limit"
CHANNEL: Final = "mesh.channel"
AMOUNT: Final = "mesh.amount"
SENDER: Final = "mesh.sender"
TARGET: Final = "mesh.target"

ATTRIBUTES: Final = {
    ROUTE: "the route",
    STEP: "the step, as the route names it: all items of a for-each and all rounds of a loop are one",
    AGENT: "the agent",
    TOPIC: "the topic",
    ERROR: "why it failed, empty if it succeeded; `_OTHER` is an agent's own error",
    KIND: "the kind, of a short list that the meaning names",
    CODE: "the code of the dead letter",
    STATUS: "what became of it",
    COMPONENT: "the part of the mesh: `ingress`, `router`, `agent`",
    LIMIT: "the limit, without its key",
    TARGET: "`agent/NAME` or `route/NAME`",
    CHANNEL: "the channel: `webhook`, `slack`, `email`",
    AMOUNT: "what is spent, as the agent names it: tokens, usd",
    SENDER: "the sender or webhook, as `gateway.yaml` names it; empty: it is not known, or anybody may send",
}

OTHER: Final = "_OTHER"
"""The value for what is not on the list, as the conventions have it for `error.type`."""

ERRORS: Final = frozenset(
    {
        "agent_died",
        "cancelled",
        "heartbeat_timeout",
        "input_invalid",
        "interrupted",
        "output_invalid",
        "run_timeout",
        "start_timeout",
        "timeout",
        "too_large",
        "undeliverable",
    }
)
"""The mesh's own kinds of failure. All others are words of agents, of which there may be many."""


DEAD_LETTER_CODES: Final = ("failed", "malformed", "no_key", "poison", "too_large", "unreadable", "wrong_partition")
"""Told as 0 from the start: Prometheus sees no increase in a series that begins at 1."""


def error_type(kind: str) -> str:
    """What `error.type` says of a failure of this kind."""
    return kind if kind in ERRORS else OTHER


# Identity is equality: there is one of each, and it is looked up for each count.
class Metric(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One metric. `unit` is UCUM's. `bounds`: of a histogram's buckets, upper ends, ascending."""

    name: str
    kind: Kind
    unit: str
    attributes: tuple[str, ...] = ()
    meaning: str
    bounds: tuple[float, ...] = ()

    @property
    def prometheus_name(self) -> str:
        """Its name in Prometheus, by OpenTelemetry's rules: `mesh_step_duration_seconds`."""
        name = self.name.replace(".", "_")
        unit = {"s": "seconds", "By": "bytes"}.get(self.unit, "")
        if unit and not name.endswith(f"_{unit}"):
            name = f"{name}_{unit}"
        return f"{name}_total" if self.kind == "counter" else name

    @property
    def series_names(self) -> tuple[str, ...]:
        """The names under which Prometheus has its series."""
        name = self.prometheus_name
        return (f"{name}_bucket", f"{name}_sum", f"{name}_count") if self.kind == "histogram" else (name,)


def prometheus_label(attribute: str) -> str:
    return attribute.replace(".", "_")


SHORT_S: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
LONG_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
"""The conventions' buckets for messaging durations, and longer ones: agents may take an hour."""


def _counter(name: str, unit: str, attributes: tuple[str, ...], meaning: str) -> Metric:
    return Metric(name=name, kind="counter", unit=unit, attributes=attributes, meaning=meaning)


def _gauge(name: str, unit: str, attributes: tuple[str, ...], meaning: str) -> Metric:
    return Metric(name=name, kind="gauge", unit=unit, attributes=attributes, meaning=meaning)


def _histogram(name: str, attributes: tuple[str, ...], meaning: str, bounds: tuple[float, ...] = LONG_S) -> Metric:
    return Metric(name=name, kind="histogram", unit="s", attributes=attributes, meaning=meaning, bounds=bounds)


# Of every process ---------------------------------------------------------------------------------

LOOP_DELAY: Final = _histogram(
    "mesh.event_loop.delay",
    (),
    "How late the event loop runs what is due: all work of the process waits so long.",
    SHORT_S,
)
SAMPLED_AT: Final = _gauge(
    "mesh.sampled_at",
    "s",
    (),
    "When the event loop last took its samples, in seconds since 1970. It stops if the loop hangs.",
)

# Of a router --------------------------------------------------------------------------------------

DECISIONS: Final = _counter(
    "mesh.decisions",
    "{decision}",
    (KIND,),
    "Decisions that the log has, by the kind of the input: event, result, answer, timer, ...",
)
WORKFLOWS_STARTED: Final = _counter("mesh.workflows.started", "{workflow}", (ROUTE,), "Workflows that began.")
WORKFLOWS_ENDED: Final = _counter(
    "mesh.workflows.ended",
    "{workflow}",
    (ROUTE, STATUS),
    "Workflows that ended: completed, failed, rejected, cancelled.",
)
WORKFLOWS_HELD: Final = _gauge(
    "mesh.workflows.in_memory",
    "{workflow}",
    (),
    "Workflows in the router's memory, closed ones too until they are forgotten.",
)
STEP_ATTEMPTS: Final = _counter(
    "mesh.step.attempts", "{attempt}", (ROUTE, STEP, AGENT), "Attempts that were sent to agents, retries too."
)
STEP_DURATION: Final = _histogram(
    "mesh.step.duration",
    (ROUTE, STEP, AGENT, ERROR),
    "From the dispatch of an attempt until its result was decided on.",
)
RETRIES: Final = _counter("mesh.step.retries", "{retry}", (ROUTE, STEP), "Attempts that failed and are tried again.")
INCIDENTS_RAISED: Final = _counter(
    "mesh.incidents.raised", "{incident}", (ROUTE, KIND), "Incidents raised: steps that need an operator."
)
INCIDENTS_OPEN: Final = _gauge("mesh.incidents.open", "{incident}", (ROUTE,), "Steps that wait for an operator.")
INCIDENTS_AGE: Final = _gauge(
    "mesh.incidents.age", "s", (), "How long the oldest of them has waited; 0: there is none."
)
APPROVALS_ASKED: Final = _counter(
    "mesh.approvals.asked", "{approval}", (ROUTE,), "Approvals that people were asked for."
)
APPROVALS_OPEN: Final = _gauge("mesh.approvals.open", "{approval}", (ROUTE,), "Approvals that wait for people.")
APPROVALS_AGE: Final = _gauge(
    "mesh.approvals.age", "s", (), "How long the oldest of them has waited; 0: there is none."
)
APPROVALS_DEADLINE: Final = _gauge(
    "mesh.approvals.deadline",
    "s",
    (),
    "When the next open approval expires, in seconds since 1970; absent: none has a deadline.",
)
LIMIT_HELD: Final = _gauge("mesh.limits.held", "{slot}", (LIMIT,), "Slots of limits that attempts have.")
LIMIT_WAITING: Final = _gauge("mesh.limits.waiting", "{attempt}", (LIMIT,), "Attempts that wait for a slot of a limit.")
BUDGET_SPENT: Final = _counter(
    "mesh.budget.spent",
    "1",
    (ROUTE, STEP, AGENT, AMOUNT),
    "What agents say that their attempts took. The agent is empty if the result came too late.",
)
BUDGET_HELD: Final = _counter(
    "mesh.budget.held", "{attempt}", (ROUTE,), "Attempts that waited since the budget had too little left."
)
DEAD_LETTERS: Final = _counter(
    "mesh.dead_letters",
    "{record}",
    (COMPONENT, CODE),
    "Records that could not be processed and went to the dead letters.",
)
COPIED: Final = _counter(
    "mesh.ingress.records", "{record}", (KIND,), "What ingress copied: matched, unwanted, answers, commands, schedules."
)
LAG: Final = _gauge(
    "mesh.input.lag", "{record}", (TOPIC,), "Records of the router's partitions that are not read yet, or not decided."
)
AGE: Final = _gauge(
    "mesh.input.age",
    "s",
    (TOPIC,),
    "How long the oldest record that this router has read, but not decided, has been on its topic; 0: none.",
)
PARTITIONS: Final = _gauge("mesh.partitions.owned", "{partition}", (), "Partitions that the router owns.")
PARTITION_COUNT: Final = _gauge(
    "mesh.partitions.configured", "{partition}", (), "All partitions of the mesh, by the router's settings."
)
TAKEOVERS: Final = _counter("mesh.takeovers", "{partition}", (), "Partitions that the router has taken over.")
CLOCK_HELD: Final = _gauge(
    "mesh.clock.held", "{partition}", (), "Partitions whose deadlines are held since the clock has jumped."
)
PAUSED: Final = _gauge("mesh.paused", "{partition}", (TARGET,), "Partitions in which an operator holds it.")
CHECKPOINTS: Final = _counter("mesh.checkpoints", "{checkpoint}", (STATUS,), "Checkpoints: saved, failed.")

# Of an agent's process ----------------------------------------------------------------------------

PROCESS_DURATION: Final = _histogram(
    "messaging.process.duration",
    (AGENT, ERROR),
    "How long a handler took. `error.type` is empty if it succeeded.",
)
AGENT_TASKS: Final = _counter(
    "mesh.agent.tasks",
    "{task}",
    (AGENT, STATUS),
    "Tasks by what became of them: succeeded, failed, timed_out (which failed too), expired, withdrawn, abandoned.",
)
AGENT_RUNNING: Final = _gauge("mesh.agent.running", "{task}", (AGENT,), "Handlers that run.")
AGENT_HELD: Final = _gauge(
    "mesh.agent.held", "{task}", (AGENT,), "Tasks in the process's hands: waiting, running or unsent."
)
AGENT_DEATHS: Final = _counter(
    "mesh.agent.deaths", "{task}", (AGENT,), "Tasks that were found in the hands of a process that had died."
)

# Of a notifier ------------------------------------------------------------------------------------

NOTICES: Final = _counter(
    "mesh.notices", "{notice}", (CHANNEL, STATUS), "Notices by what became of them: delivered, undelivered, dropped."
)

# Of a process with a read model ------------------------------------------------------------------

READ_MODEL_LAG: Final = _gauge(
    "mesh.read_model.lag",
    "{record}",
    (TOPIC,),
    "Records that the process's read model does not have yet: what people see there is as old as these.",
)
# Of a gateway -------------------------------------------------------------------------------------

GATEWAY_REQUESTS: Final = _counter(
    "mesh.gateway.requests",
    "{request}",
    (SENDER, STATUS),
    "Requests by how they ended: accepted, kept (a dead letter), unreadable, unknown_sender, forbidden, not_found, too_large, encoded, unmapped, "
    "rate (the sender's own), busy (the broker is slower than what comes in), broker_away, refused (by the broker), failed.",
)
GATEWAY_EVENTS: Final = _counter(
    "mesh.gateway.events",
    "{event}",
    (SENDER, STATUS),
    "Events that could be read, by what became of them: accepted (the broker has them), kept (webhooks that are dead letters), busy, refused, failed.",
)
GATEWAY_DURATION: Final = _histogram(
    "mesh.gateway.duration", (STATUS,), "From a request's head until its answer was ready.", SHORT_S
)
GATEWAY_WAITING: Final = _gauge("mesh.gateway.waiting", "{event}", (), "Events that wait for the broker.")
GATEWAY_UP: Final = _gauge("mesh.gateway.up", "1", (), "1 if the broker took what came last, else 0.")

PARTS: Final[dict[str, tuple[Metric, ...]]] = {
    "every process": (LOOP_DELAY, SAMPLED_AT),
    "a router": (
        DECISIONS,
        WORKFLOWS_STARTED,
        WORKFLOWS_ENDED,
        WORKFLOWS_HELD,
        STEP_ATTEMPTS,
        STEP_DURATION,
        RETRIES,
        INCIDENTS_RAISED,
        INCIDENTS_OPEN,
        INCIDENTS_AGE,
        APPROVALS_ASKED,
        APPROVALS_OPEN,
        APPROVALS_AGE,
        APPROVALS_DEADLINE,
        LIMIT_HELD,
        LIMIT_WAITING,
        BUDGET_SPENT,
        BUDGET_HELD,
        COPIED,
        LAG,
        AGE,
        PARTITIONS,
        PARTITION_COUNT,
        TAKEOVERS,
        CLOCK_HELD,
        PAUSED,
        CHECKPOINTS,
    ),
    "a router or an agent": (DEAD_LETTERS,),
    "an agent's process": (PROCESS_DURATION, AGENT_TASKS, AGENT_RUNNING, AGENT_HELD, AGENT_DEATHS),
    "a notifier": (NOTICES,),
    "a console or a notifier": (READ_MODEL_LAG,),
    "a gateway": (GATEWAY_REQUESTS, GATEWAY_EVENTS, GATEWAY_DURATION, GATEWAY_WAITING, GATEWAY_UP),
}
"""All metrics, by the process that has them."""

ALL: Final = tuple(metric for metrics in PARTS.values() for metric in metrics)

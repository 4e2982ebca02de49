"""A router's settings, as numbers with their units and reasons."""

import msgspec

from mesh import defaults
from mesh.core.signing import Level


class RouterConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`instance` names the process in logs, in `OwnerChanged` and to its group.

    What an operator may choose has its default in `mesh.defaults`; the rest is chosen here alone.
    """

    instance: str
    approvers: str = ""  # the file that the roles were read from, for messages
    answers: Level = "none"  # what every answer must bring
    answer_max_age_ms: int = defaults.ANSWER_MAX_AGE_S * 1_000
    partitions: int = defaults.PARTITIONS
    session_timeout_s: float = defaults.SESSION_TIMEOUT_S
    # one poll, and so about one batch of decisions over all partitions
    max_poll_records: int = defaults.BATCH_RECORDS
    max_timers: int = 1_000  # of one batch
    max_flights: int = 4  # appends under way for each partition; more only adds latency
    max_backlog: int = 4_000  # inputs read and not yet decided, for each partition
    idle_poll_s: float = 0.1  # how late a timer or a stop may be noticed while no record comes
    # between polls that only serve the membership; well below the session's time-out
    membership_poll_s: float = 0.25
    checkpoint_interval_s: float = defaults.CHECKPOINT_INTERVAL_S
    # workflows of a checkpoint written at once, about a millisecond's work
    checkpoint_portion: int = 64
    drain_timeout_s: float = defaults.DRAIN_TIMEOUT_S  # for what is under way at a stop or a revocation
    retry_pause_s: float = 0.5  # between attempts while the broker is away
    max_event_bytes: int = defaults.MAX_EVENT_BYTES
    # a clock that is off by more than at the take-over has jumped: no acknowledgement is that slow,
    # since an append is given up before
    clock_jump_s: float = 10.0
    # records; beyond it ingress waits: `mesh.events` is the durable backlog
    max_inbox_lag: int = 50_000
    format_level: int = 1

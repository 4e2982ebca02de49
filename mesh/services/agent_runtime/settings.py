"""What can be set for an agent's process, and what it counts."""

from collections.abc import Callable, Mapping

import msgspec

from mesh import defaults


class AgentSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How an agent's process behaves.

    What an operator may choose has its default in `mesh.defaults`; the rest is chosen here alone.
    """

    task_partitions: int = defaults.TASK_PARTITIONS  # of the agent's topic, if it has to be created
    task_replicas: int = defaults.REPLICAS
    task_topic_config: Callable[[], Mapping[str, str]] = lambda: {"message.timestamp.type": "LogAppendTime"}
    # tasks in hand: waiting, running or unsent; never less than twice the concurrency
    buffer_records: int = 1000
    buffer_bytes: int = 32 * 1024 * 1024  # of those that wait; one poll may overshoot it
    poll_records: int = defaults.BATCH_RECORDS
    poll_s: float = 0.5
    commit_every_s: float = 0.1
    card_every_s: float = defaults.CARD_INTERVAL_S
    watch_every_s: float = 0.05  # how late the end of a time limit may be noticed
    drain_s: float = defaults.DRAIN_TIMEOUT_S  # at a stop, for handlers that run
    revoke_drain_s: float = 3.0  # well below the session's time-out
    session_timeout_s: float = defaults.SESSION_TIMEOUT_S


class Counts(msgspec.Struct, kw_only=True):
    """What became of the tasks that this process took."""

    succeeded: int = 0
    failed: int = 0  # timed out ones too
    timed_out: int = 0
    expired: int = 0  # past their deadline before they were begun
    dead_lettered: int = 0
    withdrawn: int = 0  # not wanted any more before they were begun, or before they had ended
    interrupted: int = 0  # found in the hands of a process that had died
    abandoned: int = 0  # cut short by a stop, or because their partition went elsewhere

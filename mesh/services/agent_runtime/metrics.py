"""What an agent's process counts: how long its handlers took, and what became of its tasks.

Not there at all if metrics are off. The workers call `ended`; `mesh.metrics.metering` calls
`sample` once a second.
"""

import msgspec

from mesh.core.inputs import TaskError
from mesh.metrics import names
from mesh.metrics.meters import Meters
from mesh.services.agent_runtime.call import Answer
from mesh.services.agent_runtime.settings import Counts

Series = dict[tuple[str, ...], float]


class AgentMetrics:
    """Of all agents of one process."""

    def __init__(self, meters: Meters) -> None:
        self._meters = meters
        self._tasks: Series = {}
        self._deaths: Series = {}
        self._dead: Series = {}
        self._running: Series = {}
        self._held: Series = {}

    def ended(self, agent: str, took_s: float, answer: Answer) -> None:
        """A handler has come to its end."""
        error = names.error_type(answer.kind) if isinstance(answer, TaskError) else ""
        self._meters.observe(names.PROCESS_DURATION, (agent, error), took_s)

    def sample(self, agent: str, counts: Counts, *, running: int, held: int) -> None:
        """How things are now, of one agent."""
        for status, count in msgspec.structs.asdict(counts).items():
            match status:
                case "interrupted":
                    self._deaths[(agent,)] = count
                case "dead_lettered":
                    self._dead["agent", "malformed"] = count
                case _:
                    self._tasks[agent, status] = count
        self._running[(agent,)] = running
        self._held[(agent,)] = held
        for metric, series in (
            (names.AGENT_TASKS, self._tasks),
            (names.AGENT_DEATHS, self._deaths),
            (names.AGENT_RUNNING, self._running),
            (names.AGENT_HELD, self._held),
            (names.DEAD_LETTERS, self._dead),
        ):
            self._meters.put(metric, series)

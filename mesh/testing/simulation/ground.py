"""What everybody around the routers shares: broker, time, chance, and what the log says.

Owns these and the few verbs on them. `parties` makes one for a run.
"""

import asyncio
import contextvars
import random
from collections.abc import Callable
from typing import Any

from mesh.adapters.memory import MemoryCluster
from mesh.codec.cloudevents import to_record
from mesh.codec.commands import encode_command
from mesh.codec.jws_bodies import mesh_of
from mesh.core.inputs import ApprovalOrder
from mesh.core.topics import Topics
from mesh.ports import Clock, OutRecord
from mesh.testing.promises.judge import Promises
from mesh.testing.simulation.repertoire import Repertoire


class Ground:
    """The common ground of all parties in a run.

    What is sent here lands at once: only the routers' own connections meet the faults of the
    network. While `is_calm`, everybody behaves, and promptly.
    """

    def __init__(
        self,
        cluster: MemoryCluster,
        promises: Promises,
        *,
        topics: Topics,
        clock: Clock,
        seed: int,
        partitions: int,
        repertoire: Repertoire,
        note: Callable[[str, str], None],
    ) -> None:
        self.is_calm = False
        self.promises = promises
        self.topics = topics
        self.clock = clock
        self.seed = seed
        self.partitions = partitions
        self.repertoire = repertoire
        self.note = note
        self.mesh = mesh_of(topics.prefix, cluster.cluster_id)  # its name in signed answers
        self.rng = random.Random(f"parties {seed}")  # noqa: S311 - a simulation's chance
        self._cluster = cluster
        self._context = contextvars.copy_context()
        self._ids = 0

    def later(self, delay_s: float, action: Callable[[], None]) -> None:
        """Call `action` after a delay, in no process's context: the parties outlive routers."""
        asyncio.get_running_loop().call_later(max(0.0, delay_s), action, context=self._context)

    def send(self, *records: OutRecord) -> None:
        batches, failures = self._cluster.sort(records)
        assert not failures
        for at, batch in batches.items():
            self._cluster.land(at, batch)

    def fresh(self, what: str) -> str:
        self._ids += 1
        return f"{what}-{self._ids}"

    def publish(self, event: dict[str, Any]) -> None:
        self.send(to_record(event, topic=self.topics.events))

    def command(
        self,
        command: Any,
        workflow: str,
        *,
        step: str | None = None,
        to: str = "",
        order: ApprovalOrder | None = None,
        target: str = "",
    ) -> None:
        """Send an operator's command."""
        self.note("operator", " ".join(word for word in (command, workflow, step, to, target) if word))
        self.send(
            encode_command(
                topics=self.topics,
                command=command,
                workflow_id=workflow,
                by="ops",
                command_id=self.fresh("command"),
                at_ms=self.clock.now_ms(),
                step=step,
                to=to,
                order=order,
                target=target,
            )
        )

"""How far the read models of a process are behind their topics, as a metric.

Owns the asking. What a model has read it says itself: the read model of the log, and the inbox of
open approvals. Called by the console and the notifier, and not there at all if metrics are off.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import structlog

from mesh.errors import MeshError
from mesh.metrics import names
from mesh.metrics.meters import Meters
from mesh.ports import Broker, TopicPartition

_log = structlog.get_logger()
_LOOK_EVERY_S: Final = 10.0


class Followed(Protocol):
    """A read model."""

    async def reached(self) -> Mapping[TopicPartition, int]:
        """The offset up to which it has read each partition of its topics.

        Raises `NotFound` and `BrokerUnavailable`.
        """


async def follow_lag(broker: Broker, meters: Meters, models: Sequence[Followed]) -> None:
    """Ask the broker how much is unread, until cancelled.

    While it does not answer, what was known stays.
    """
    while True:
        try:
            await measure_lag(broker, meters, models)
        except MeshError as error:
            _log.debug("read_model_lag_unknown", error=str(error))
        await asyncio.sleep(_LOOK_EVERY_S)


async def measure_lag(broker: Broker, meters: Meters, models: Sequence[Followed]) -> None:
    # the positions first: what comes meanwhile is then unread, and no lag is negative
    reached: dict[TopicPartition, int] = {}
    for model in models:
        reached |= await model.reached()
    begins, ends = await broker.begin_offsets(list(reached)), await broker.end_offsets(list(reached))
    lag = Counter[str]()
    for at, offset in reached.items():
        # what retention has dropped can't be read any more
        lag[at.topic] += max(0, ends[at] - max(offset, begins[at]))
    meters.put(names.READ_MODEL_LAG, {(topic,): count for topic, count in lag.items()})

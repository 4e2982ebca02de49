"""The broker contract on the memory broker in virtual time, in many orders.

What holds must hold in each.
"""

import inspect
import random

import pytest

from mesh.adapters.memory import MemoryBroker, MemoryCluster, WeakBehaviour
from mesh.ports import Broker, TopicPartition
from mesh.testing.broker_contract import BrokerContract
from mesh.testing.virtual_time.loop import VirtualClock, VirtualTimeLoop, run

CASES = [name for name in dir(BrokerContract) if name.startswith("test_")]
VARIANTS = {
    "strict": None,
    "slow and strict": None,
    "weak": WeakBehaviour(),
    "slow": WeakBehaviour(latency_s=(0.0, 0.02), split_append=0.5),
}


class _Harness:
    session_timeout_s = 0.5

    def __init__(self, cluster: MemoryCluster) -> None:
        self._cluster = cluster

    async def connect(self) -> Broker:
        return self._cluster.connect("client")

    async def crash(self, broker: Broker) -> None:
        assert isinstance(broker, MemoryBroker)
        broker.kill()

    async def trim(self, partition: TopicPartition, before_offset: int) -> None:
        self._cluster.trim(partition, before_offset)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("case", CASES)
def test_the_contract_holds_in_any_order(case: str, variant: str) -> None:
    for seed in range(10):

        async def main(loop: VirtualTimeLoop, seed: int = seed) -> None:
            latency_s = (0.0, 0.02 if variant == "slow and strict" else 0.0)
            cluster = MemoryCluster(
                VirtualClock(loop), weak=VARIANTS[variant], latency_s=latency_s, rng=random.Random(seed)
            )
            harness = _Harness(cluster)
            method = getattr(BrokerContract(), case)
            wanted = inspect.signature(method).parameters
            given = {"harness": harness, "broker": await harness.connect()}
            await method(**{name: value for name, value in given.items() if name in wanted})

        run(main, seed=seed)

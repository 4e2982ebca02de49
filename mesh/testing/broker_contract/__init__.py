"""The contract of `mesh.ports.Broker`, as cases that every adapter passes.

Owns what the port's prose means in practice. It must not know any adapter: a test module of the
adapter brings a `BrokerHarness`:

    class TestMyBroker(BrokerContract):
        @pytest.fixture
        async def harness(self) -> AsyncIterator[BrokerHarness]:
            ...
            yield harness

Every case makes its own topics and groups, so one broker serves a whole run. For readable failures,
`conftest.py` should call `pytest.register_assert_rewrite("mesh.testing.broker_contract")` before
this is imported.
"""

from mesh.testing.broker_contract.foreign import ForeignCases, ForeignHarness
from mesh.testing.broker_contract.groups import GroupCases
from mesh.testing.broker_contract.harness import GENEROUS_S, BrokerHarness
from mesh.testing.broker_contract.log import LogCases
from mesh.testing.broker_contract.reading import ReadingCases
from mesh.testing.broker_contract.sending import SendingCases

__all__ = ["GENEROUS_S", "BrokerContract", "BrokerHarness", "ForeignCases", "ForeignHarness"]


class BrokerContract(SendingCases, LogCases, ReadingCases, GroupCases):
    """All cases. Subclass it as `Test...` and override the fixture `harness`."""

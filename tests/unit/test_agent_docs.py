"""What docs/agents.md shows must work as it is written."""

import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import mesh
from mesh.agent import registry
from mesh.testing.context import FakeContext

PAGE = (Path(__file__).parents[2] / "docs" / "agents.md").read_text()


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The page's Python blocks, run one after another; the first one is the module `classifier`."""
    file, buyer, test, trainer = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    # the page's agent has a name that one of ours has too
    monkeypatch.setattr(registry, "_agents", {})
    module = ModuleType("classifier")
    exec(compile(file, "classifier.py", "exec"), module.__dict__)
    monkeypatch.setitem(__import__("sys").modules, "classifier", module)
    names: dict[str, Any] = {}
    exec(compile(test, "test_classifier.py", "exec"), names)
    other = ModuleType("trainer")
    exec(compile(trainer, "trainer.py", "exec"), other.__dict__)
    asks = ModuleType("buyer")
    monkeypatch.setitem(__import__("sys").modules, "buyer", asks)
    exec(compile(buyer, "buyer.py", "exec"), asks.__dict__)
    return names | vars(module) | vars(other) | {"buy": asks.buy, "Order": asks.Order}


async def test_the_pages_own_test_passes(blocks: dict[str, Any]) -> None:
    await blocks["test_a_crash_is_severe"]()


def test_the_pages_agent_is_an_agent(blocks: dict[str, Any]) -> None:
    agent = blocks["classify"]
    assert isinstance(agent, mesh.Agent)
    assert (agent.name, agent.concurrency, agent.description) == ("classifier", 8, "Says how severe an issue is.")


def test_the_pages_trainer_says_that_it_gets_on(blocks: dict[str, Any]) -> None:
    ctx = FakeContext()
    assert blocks["train"](3, ctx) < 1
    assert ctx.heartbeats == 3


async def test_the_pages_buyer_asks_and_takes_the_edit(blocks: dict[str, Any]) -> None:
    order = blocks["Order"](item="a chair", eur=90)
    with pytest.raises(mesh.ApprovalNeeded, match="Pay 90"):
        await blocks["buy"](order, FakeContext())
    edited = mesh.Verdict(approved=True, payload={"item": "a chair", "eur": 80}, edited=True)
    assert await blocks["buy"](order, FakeContext(verdicts={"pay": edited})) == "bought for 80"

"""An output that is not what its agent's card promises fails its attempt, and names the agent."""

from typing import Any

import pytest
from agent_mesh import wait_until
from msgspec.structs import replace
from one_partition import Partition, agent, route
from test_directory import TOPICS, Registry, card

from mesh.codec.cards import encode_card, withdraw_card
from mesh.core.inputs import ResultReceived
from mesh.core.state import AgentCard, Directory
from mesh.services.router.foreign_outputs import held_to_card

TEXT = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
NUMBER = {"type": "number"}


def held(output: Any, *promised: dict[str, Any], status: Any = "succeeded", name: str = "x") -> ResultReceived:
    p = Partition(route({"a": agent("x")}))
    p.start()
    given = ResultReceived(task_id=p.task_id("a"), attempt=1, workflow_id="r:k", status=status, output=output)
    return held_to_card(given, p.state, Directory(promised={name: promised}))


def test_an_output_that_does_not_fit_fails_its_attempt_and_names_its_agent() -> None:
    result = held({"text": 5}, TEXT)
    assert (result.status, result.output) == ("failed", None)
    assert result.error is not None
    assert (result.error.kind, result.error.retryable) == ("output_invalid", False)
    assert result.error.message.startswith("agent x gave an output that is not what its card promises")
    assert "output.text" in result.error.message


@pytest.mark.parametrize(
    "result",
    [
        held({"text": "a"}, TEXT),
        held(1.5, TEXT, NUMBER),  # its replicas promise one or the other
        held({"text": 5}),
        held({"text": 5}, TEXT, name="another"),
    ],
)
def test_what_fits_a_promise_or_has_none_counts(result: ResultReceived) -> None:
    assert result.status == "succeeded"


def test_a_failure_is_held_against_nothing() -> None:
    assert held(None, TEXT, status="failed").error is None


def test_a_result_of_no_workflow_is_held_to_the_card_of_whom_it_names() -> None:
    given = ResultReceived(task_id="r:z/0a/a", attempt=1, workflow_id="r:z", status="succeeded", output=1, agent="x")
    result = held_to_card(given, Partition(route({"a": agent("x")})).state, Directory(promised={"x": (TEXT,)}))
    assert result.status == "failed"


def promising(name: str, schema: dict[str, Any] | None, instance: str = "one", **more: Any) -> AgentCard:
    return replace(card(name, instance=instance), output_schema=schema, **more)


async def promised_by(*cards: AgentCard, withdrawn: tuple[AgentCard, ...] = ()) -> dict[str, Any]:
    registry = Registry()
    await registry.put(*(encode_card(one, topics=TOPICS) for one in cards))
    await registry.put(*(withdraw_card(one, topics=TOPICS) for one in withdrawn))
    async with registry.router() as follower:
        await wait_until(lambda: len(follower.current.agents) == len({one.name for one in cards}))
        return dict(follower.current.promised)


async def test_cards_of_agents_that_do_not_check_themselves_are_promises() -> None:
    own = promising("ours", TEXT, checks_output=True)
    assert await promised_by(promising("foreign", TEXT), own, promising("open", None)) == {"foreign": (TEXT,)}


async def test_replicas_promise_each_their_own_or_nothing() -> None:
    two = (promising("a", TEXT), promising("a", NUMBER, "two"), promising("a", TEXT, "three"))
    assert set(map(str, (await promised_by(*two))["a"])) == {str(TEXT), str(NUMBER)}
    assert await promised_by(*two, promising("a", None, "four")) == {}
    assert await promised_by(*two, promising("a", TEXT, "four", checks_output=True)) == {}


async def test_the_last_card_stays_a_promise_when_its_process_has_stopped() -> None:
    gone = promising("a", TEXT)
    assert await promised_by(gone, withdrawn=(gone,)) == {"a": (TEXT,)}

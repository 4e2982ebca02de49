"""`@agent`: what it turns a function into.

Also what it finds wrong with one while the file is read.
"""

import subprocess
import sys
import types
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field

import mesh
from mesh import Agent, Context, agent
from mesh.agent.registry import agents_in
from mesh.errors import AgentError
from mesh.testing.context import FakeContext


class Issue(BaseModel):
    title: str


@dataclass
class Point:
    x: int


async def test_an_async_agent_can_be_called_directly_with_or_without_a_context() -> None:
    @agent("echo-title")
    async def echo(issue: Issue, ctx: Context) -> str:
        return f"{issue.title} {ctx.attempt}"

    assert await echo(Issue(title="a")) == "a 1"
    assert await echo(Issue(title="a"), FakeContext(attempt=3)) == "a 3"
    assert await echo(Issue(title="a"), ctx=FakeContext(attempt=4)) == "a 4"


def test_a_plain_agent_without_a_context_can_be_called_with_one() -> None:
    @agent("plain")
    def plain(point: Point) -> int:
        return point.x

    assert plain(Point(1)) == 1
    assert plain(Point(2), FakeContext()) == 2
    assert (plain.is_async, plain.takes_context) == (False, False)


def test_the_agent_keeps_the_functions_name_and_takes_its_description_from_the_docstring() -> None:
    @agent("documented", concurrency=3, version="1.2.0")
    async def work(value: int) -> int:
        """Does its work.

        At length.
        """
        return value

    assert (work.__name__, work.description, work.version, work.concurrency) == ("work", "Does its work.", "1.2.0", 3)


@pytest.mark.parametrize("hint", [Annotated[int, Field(ge=1)], dict[str, Any], list[Issue], int | None, Any, Point])
def test_input_and_output_may_be_any_type_that_pydantic_knows(hint: Any) -> None:
    def work(value: Any) -> Any:
        return value

    work.__annotations__ = {"value": hint, "return": hint}
    made: Agent[Any, Any] = agent("any")(work)
    assert isinstance(made.input_schema, dict)
    assert isinstance(made.output_schema, dict)


def test_a_context_that_may_be_none_is_a_context() -> None:
    @agent("optional")
    async def work(value: int, ctx: Context | None = None) -> int:
        return value if ctx is None else ctx.attempt

    assert work.takes_context


def test_without_a_version_the_source_files_digest_is_the_version() -> None:
    @agent("digest")
    async def work(value: int) -> int:
        return value

    assert work.version.startswith("src-")


def test_the_modules_own_version_is_the_version() -> None:
    module = types.ModuleType("versioned")
    source = "from mesh import agent\n__version__ = '3.1'\n@agent('versioned')\ndef f(x: int) -> int:\n    return x\n"
    exec(compile(source, "versioned.py", "exec"), module.__dict__)
    assert [(found.name, found.version) for found in agents_in(module)] == [("versioned", "3.1")]


def no_input() -> int:
    return 1


def untyped_input(value) -> int:  # type: ignore[no-untyped-def] # noqa: ANN001 - what is tested
    return int(value)


def untyped_output(value: int):  # type: ignore[no-untyped-def] # noqa: ANN201 - what is tested
    return value


def fine(value: int) -> int:
    return value


def three(a: int, b: int, c: int) -> int:
    return a + b + c


def two_inputs(a: int, b: int) -> int:
    return a + b


def context_first(ctx: Context, value: int) -> int:
    return value


def star(*values: int) -> int:
    return sum(values)


def generator(value: int) -> Any:
    yield value


def unresolved(value: "NotThere") -> int:  # type: ignore[name-defined] # noqa: F821 - what is tested
    return int(value)


def not_validatable(value: types.FrameType) -> int:
    return 1


@pytest.mark.parametrize(
    ("handler", "fix"),
    [
        (no_input, "not 0 parameters"),
        (untyped_input, "value: YourInput"),
        (untyped_output, "-> YourOutput"),
        (three, "one pydantic model"),
        (two_inputs, "b: Context"),
        (context_first, "the first parameter is the input"),
        (star, "ordinary"),
        (generator, "`return` instead of `yield`"),
        (unresolved, "NotThere"),
        (not_validatable, "pydantic model"),
    ],
)
def test_a_function_that_cannot_be_an_agent_is_refused_with_file_function_and_mend(handler: Any, fix: str) -> None:
    with pytest.raises(AgentError) as caught:
        agent("wrong")(handler)
    message = str(caught.value)
    assert fix in message
    assert "test_agent_decorator.py:" in message
    assert handler.__name__ in message


@pytest.mark.parametrize("name", ["", "Classifier", "1st", "two words", "under_score", "a/b", "-a", "é", "a" * 101])
def test_a_name_outside_the_grammar_is_refused(name: str) -> None:
    with pytest.raises(AgentError, match="name"):
        agent(name)(fine)


def test_the_message_about_a_name_proposes_one_that_holds() -> None:
    with pytest.raises(AgentError, match="'issue-classifier'"):
        agent("Issue Classifier")(fine)


def test_an_agent_may_say_how_many_tasks_it_wants_outstanding() -> None:
    assert agent("busy", max_outstanding=3)(fine).max_outstanding == 3
    assert agent("free")(fine).max_outstanding is None
    with pytest.raises(AgentError, match="max_outstanding is 0"):
        agent("idle", max_outstanding=0)(fine)


@pytest.mark.parametrize("concurrency", [0, -1])
def test_a_concurrency_below_one_is_refused(concurrency: int) -> None:
    with pytest.raises(AgentError, match="concurrency"):
        agent("lazy", concurrency=concurrency)(fine)


def test_capabilities_are_a_list_of_names() -> None:
    assert agent("able", capabilities=["translate", "summarize-2"])(fine).capabilities == ("translate", "summarize-2")
    assert agent("unable")(fine).capabilities == ()


@pytest.mark.parametrize(
    ("capabilities", "fix"),
    [
        ("translate", r"capabilities=\['translate'\]"),
        (["Translate"], "lower-case"),
        ([1], "lower-case"),
        (["a" * 64], "at most 63"),
        (["a", "b", "a"], "is given twice"),
    ],
)
def test_capabilities_that_do_not_hold_are_refused(capabilities: Any, fix: str) -> None:
    with pytest.raises(AgentError, match=fix):
        agent("able", capabilities=capabilities)(fine)


def test_something_that_is_not_a_function_is_refused() -> None:
    with pytest.raises(AgentError, match="needs a function"):
        agent("klass")(Issue)  # type: ignore[arg-type] # what is tested


def test_two_agents_of_one_name_are_refused_with_both_places() -> None:
    source = "from mesh import agent\n@agent('same-name')\ndef f(x: int) -> int:\n    return x\n"
    exec(compile(source, "first.py", "exec"), {"__name__": "first"})
    exec(compile(source, "first.py", "exec"), {"__name__": "first"})
    with pytest.raises(AgentError, match=r"second\.py:2: f: .*first\.py:2: f"):
        exec(compile(source, "second.py", "exec"), {"__name__": "second"})


def test_a_fake_contexts_keys_follow_what_is_given() -> None:
    ctx = FakeContext(workflow_id="r:k", run_id="00000001", step="s")
    assert ctx.task_id == ctx.idempotency_key == "r:k/00000001/s"
    assert 290 < ctx.remaining_s <= 300


def test_importing_mesh_loads_no_broker_client() -> None:
    code = "import sys, mesh; print([m for m in ('aiokafka', 'apsw', 'mesh.adapters', 'mesh.services') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True, cwd=mesh.__path__[0] + "/.."
    )
    assert done.stdout.strip() == "[]"


def test_an_unknown_name_in_mesh_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        _ = mesh.nonsense


def test_client_and_connect_are_there_when_asked_for() -> None:
    assert mesh.Client.__name__ == "Client"
    assert callable(mesh.connect)

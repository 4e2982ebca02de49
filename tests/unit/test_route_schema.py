"""The published JSON Schema of the route file.

It is made of the compiler's own tables, and is never stricter than the compiler.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft7Validator
from test_route_compile import BAD, ISSUE_TRIAGE, route_with
from test_route_limits import BAD as BAD_LIMITS
from test_route_rules import BAD as BAD_RULES

from mesh.cli.app import mesh
from mesh.codec.yaml_lines import read_yaml
from mesh.routes import keys, step_keys
from mesh.routes.compiler import compile_route
from mesh.routes.problems import RouteRefused
from mesh.routes.schema import route
from mesh.routes.schema.tables import tables_by_name, with_tables

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "docs" / "route.schema.json"
REFERENCE = ROOT / "docs" / "route-reference.md"
SCHEMA = route.route_schema()
VALID = Draft7Validator(SCHEMA)

# What only the compiler can know: what a name refers to, what an expression says, what two keys say
# together, what JSON has not.
BEYOND = re.compile(
    r"at column|there is no step|steps need each other|can't need itself|max_backoff is less|payload_schema is not a JSON Schema|"
    r"a \$ref must|would never count|timeout is shorter|9999d|64 bits|not a JSON number|which JSON does not have|is not a string \(put|"
    r"count can't be 3|so no loop leads|is in the loops of|is inside the loop|nothing says which workflow|"
    r"the route's budget has no|than the whole budget|the route has no limit|99999d|is a text|"
    r"^on\.schedule: the schedule|there is no time zone|gives no alias|\(RE2 has no"
)


def documents(file: Path) -> list[Any]:
    found, faults = read_yaml(file)
    assert not faults, file
    return [document.value for document in found]


def published_routes() -> list[tuple[str, Any]]:
    """Every route in the documentation's YAML blocks and in YAML files.

    The files are those of agents, tests, benchmarks and docs.
    """
    found: list[tuple[str, Any]] = [("ISSUE_TRIAGE", ISSUE_TRIAGE)]
    for folder in ("agents", "tests", "bench", "docs"):
        for file in sorted((ROOT / folder).rglob("*.y*ml")):
            found += [(file.name, value) for value in documents(file) if isinstance(value, dict) and "route" in value]
    return found


def blocks(page: Path, folder: Path) -> list[Any]:
    found: list[Any] = []
    for number, block in enumerate(re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)):
        file = folder / f"{number}.yaml"
        file.write_text(block)
        found += [value for value in documents(file) if isinstance(value, dict) and "route" in value]
    return found


def test_the_published_schema_is_the_codes_and_the_commands() -> None:
    assert json.loads(PUBLISHED.read_text()) == SCHEMA, "run `mesh routes schema > docs/route.schema.json`"
    result = CliRunner().invoke(mesh, ["routes", "schema"])
    assert (result.exit_code, result.stdout) == (0, PUBLISHED.read_text())


def test_the_schema_is_a_schema() -> None:
    assert SCHEMA["$schema"] == route.DIALECT
    Draft7Validator.check_schema(SCHEMA)


@pytest.mark.parametrize(("name", "document"), published_routes())
def test_routes_that_ship_are_valid(name: str, document: Any) -> None:
    compile_route(document)
    assert [error.message for error in VALID.iter_errors(document)] == [], name


@pytest.mark.parametrize(
    "page", [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md"], ids=lambda page: page.name
)
def test_routes_in_the_documentation_are_valid(page: Path, tmp_path: Path) -> None:
    for document in blocks(page, tmp_path):
        compile_route(document)
        assert [error.message for error in VALID.iter_errors(document)] == []


@pytest.mark.parametrize(("document", "messages"), [*BAD, *BAD_RULES, *BAD_LIMITS])
def test_what_is_structurally_wrong_is_no_valid_document(document: Any, messages: list[str]) -> None:
    assert VALID.is_valid(document) == all(BEYOND.search(message) for message in messages)


def test_the_tables_of_the_reference_are_as_the_code_makes_them() -> None:
    page = REFERENCE.read_text()
    assert with_tables(page) == page, "run `python docs/generate.py`"
    assert set(re.findall("<!-- keys: (.+) -->", page)) == set(tables_by_name())


def test_every_key_is_described() -> None:
    step = SCHEMA["properties"]["steps"]["additionalProperties"]["properties"]
    tables = [SCHEMA, SCHEMA["properties"]["on"], {"properties": step}, step["retry"], step["approval"]]
    tables += [SCHEMA["properties"]["limits"]["additionalProperties"], step["limit"]["anyOf"][-1]]
    tables += [step["handover"], step["undo"], step["emit"], step["repeat"]]
    tables += [step[key]["anyOf"][-1] for key in ("for_each", "wait", "end")]
    for table in tables:
        assert [key for key, shape in table["properties"].items() if not shape.get("description")] == []


VALUES: dict[str, list[Any]] = {
    "duration": ["1s", "0s", "1.5m", "500ms", "3650d", "never", "soon", 30, "", "01h", "1H", None],
    "template": ["${{ event.data.x }}", 1, None, [], {"a": "${{ workflow.id }}"}, "text"],
    "choice": [
        *("ignore", "new_run_after_end", "incident", "fail", "continue", "skip", "reject", "approve", "x", None, True),
        *("completed", "failed", "rejected"),
    ],
    "number": [0, 0.5, 1, 3, 3.0, 0.99, 100, 1000, 1001, -1, "3", True, "10%", "all", "101%"],
    "text": ["a", "boss", " ", "", 1, ["a"], "event.data.x == 1", "${{ event.data.x }}", "true"],
    "names": ["a", [], ["a"], ["a", "a"], "nobody", [1], None, "", "Tech", ["y", "Tech"]],
}
SOME = st.one_of(*(st.sampled_from(values) for values in VALUES.values()))


def table(keys: tuple[str, ...]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(keys), SOME, max_size=3)


def a_few(keys: tuple[str, ...], **usual: Any) -> st.SearchStrategy[dict[str, Any]]:
    """What a key's mapping must have, some of it changed, and more."""
    return st.builds(lambda more: {**usual, **more}, table(keys))


AGENT: dict[str, Any] = {"agent": "x", "input": 1}
RULES: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.builds(lambda needs: {**AGENT, "needs": needs}, a_few(tuple(step_keys.JOIN.keys)) | a_few(("any",), any=["a"])),
    st.builds(lambda needs: {**AGENT, "needs": needs}, a_few(tuple(step_keys.JOIN.keys), of=["a"], count=1)),
    st.builds(lambda each: {**AGENT, "for_each": each}, SOME | a_few(tuple(step_keys.FOR_EACH.keys), items=[1])),
    st.builds(lambda loop: {**AGENT, "repeat": loop}, a_few(tuple(step_keys.REPEAT.keys), until="true", limit=2)),
    st.builds(lambda wait: {"wait": wait}, SOME | a_few(tuple(step_keys.WAIT.keys), event="t")),
    st.builds(
        lambda wait: {"wait": wait}, a_few(tuple(step_keys.WAIT.keys)) | a_few(("if", "key", "timeout"), until="x")
    ),
    st.builds(lambda value: {"value": value}, SOME),
    st.builds(lambda event: {"emit": event}, SOME | a_few(tuple(step_keys.EMIT.keys), type="t")),
    st.builds(lambda end: {"end": end}, SOME | a_few(tuple(step_keys.END.keys), status="failed")),
    st.builds(lambda undo: {**AGENT, "undo": undo}, a_few(tuple(keys.UNDO.keys), agent="u", input=1)),
    st.builds(lambda to: {**AGENT, "handover": to}, SOME | a_few(tuple(step_keys.HANDOVER.keys), to="y")),
)


@given(rule=RULES, more=st.just({}) | table(tuple(keys.STEP.keys)))
def test_what_the_compiler_takes_of_a_rule_the_schema_takes(rule: dict[str, Any], more: dict[str, Any]) -> None:
    document = route_with(key="${{ event.subject }}", steps={"a": AGENT, "b": {**more, **rule}})
    try:
        compile_route(document)
    except RouteRefused:
        return
    assert [error.message for error in VALID.iter_errors(document)] == []


@given(
    root=table(tuple(key for key in tuple(keys.ROUTE.keys) if key not in {"route", "on", "steps"})),
    trigger=table(("if",)),
    step=table(tuple(key for key in tuple(keys.STEP.keys) if key not in {"agent", "approval", "retry"})),
    retry=st.none() | table(tuple(step_keys.RETRY.keys)),
    approval=st.none() | table(tuple(step_keys.APPROVAL.keys)),
)
def test_what_the_compiler_takes_the_schema_takes(
    root: dict[str, Any],
    trigger: dict[str, Any],
    step: dict[str, Any],
    retry: dict[str, Any] | None,
    approval: dict[str, Any] | None,
) -> None:
    work: dict[str, Any] = {"agent": "x", "input": 1, **step}
    if approval is not None:
        work = {key: step[key] for key in ("needs", "if") if key in step}
        work["approval"] = {"ask": "?", "payload": 1, "role": "r", **approval}
    elif retry is not None:
        work["retry"] = retry
    document = route_with(**root) | {
        "on": {"type": "t", **trigger},
        "steps": {"a": {"agent": "x", "input": 1}, "b": work},
    }
    try:
        compile_route(document)
    except RouteRefused:
        return
    assert [error.message for error in VALID.iter_errors(document)] == []

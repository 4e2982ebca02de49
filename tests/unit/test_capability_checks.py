"""Contracts: their files, and what `mesh routes check` holds routes and agents to."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mesh.cli.app import mesh
from mesh.codec.capability_files import load_contracts
from mesh.core.state import AgentCard
from mesh.errors import SettingsInvalid
from mesh.inspection.checks.report import check
from mesh.services.topic_plan import CONTRACTS

SHIPPED = CONTRACTS / "capabilities"
TEXT = {"type": "string"}
ROUTE = """\
route: r
on: {type: t}
steps:
  a:
    capability: translate
    input: {text: "${{ event.data.text }}", to: de}
  b: {needs: a, agent: printer, input: "${{ steps.a.text }}"}
"""


def fields(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required, "properties": properties}


def card(name: str, *capabilities: str, takes: Any = None, gives: Any = None) -> AgentCard:
    return AgentCard(
        name=name, version="1", topic="t", capabilities=capabilities, input_schema=takes, output_schema=gives
    )


GOOD = card("deepl", "translate", takes=fields(["text", "to"], text=TEXT, to=TEXT), gives=fields(["text"], text=TEXT))
PRINTER = card("printer")


def lines(tmp_path: Path, text: str = ROUTE, *agents: AgentCard, known: bool = True) -> list[str]:
    file = tmp_path / "r.yaml"
    file.write_text(text)
    cards = {one.name: one for one in (PRINTER, *agents)} if agents or not known else None
    found = check([file], agents=cards, contracts=load_contracts([SHIPPED]) if known else None).findings
    return [f"{one.line} {one.severity} {one.code}: {one.message}" for one in found]


# Routes -------------------------------------------------------------------------------------------


def test_a_route_that_keeps_the_contract_has_no_finding(tmp_path: Path) -> None:
    assert lines(tmp_path) == []
    assert lines(tmp_path, ROUTE, GOOD) == []
    assert lines(tmp_path, ROUTE, card("any", "translate")) == []


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (
            ("capability: translate", "capability: transalte"),
            "5 error unknown_capability: step a: no contract is called transalte (did you mean translate?)",
        ),
        (
            (", to: de", ""),
            "6 error input_misfit: step a: input of translate lacks to, which is required",
        ),
        (
            ("to: de", "to: 7"),
            "6 error input_misfit: step a: input of translate: to is a number, not a string",
        ),
        (
            ("steps.a.text", "steps.a.txt"),
            "7 error unknown_field: step b: steps.a has no txt, at column 5 of: ${{ steps.a.txt }} (did you mean text?)",
        ),
        (
            ("  b:", "    undo: {capability: untranslate, input: 1}\n  b:"),
            "7 error unknown_capability: step a: no contract is called untranslate (did you mean translate?)",
        ),
    ],
)
def test_a_route_that_breaks_the_contract_is_told_so(tmp_path: Path, change: tuple[str, str], finding: str) -> None:
    found = lines(tmp_path, ROUTE.replace(*change))
    assert [one for one in found if "error" in one] == [finding]


def test_what_is_not_known_is_not_checked(tmp_path: Path) -> None:
    assert lines(tmp_path, ROUTE.replace("translate", "transalte"), known=False) == [
        '5 error no_agent: step a: no agent is registered for transalte (@agent(NAME, capabilities=["transalte"]))'
    ]
    file = tmp_path / "r.yaml"
    file.write_text(ROUTE)
    report = check([file])
    assert (report.findings, report.contracts_known, report.asks_capabilities) == ((), False, True)


# Agents -------------------------------------------------------------------------------------------


def test_a_capability_for_which_nobody_is_registered_is_an_error(tmp_path: Path) -> None:
    assert lines(tmp_path, ROUTE, card("deepl", "translates")) == [
        "5 error no_agent: step a: no agent is registered for translate (did you mean translates?)"
    ]


@pytest.mark.parametrize(
    ("takes", "gives", "finding"),
    [
        (fields(["txt"], txt=TEXT), None, "agent deepl, input by the contract: lacks txt, which is required"),
        (
            fields([], text={"type": "integer"}),
            None,
            "agent deepl, input by the contract: text is a string, not an integer",
        ),
        (
            fields(["from"], **{"from": TEXT}),
            None,
            "agent deepl, input by the contract: may come without from, which it requires",
        ),
        (None, fields([], text=TEXT), "agent deepl, output: may come without text, which the contract requires"),
        (None, fields(["txt"], txt=TEXT), "agent deepl, output: lacks text, which is required"),
        (None, TEXT, "agent deepl, output: is a string, not an object"),
    ],
)
def test_each_registered_agent_must_keep_the_contract(tmp_path: Path, takes: Any, gives: Any, finding: str) -> None:
    found = lines(
        tmp_path,
        ROUTE,
        GOOD.__class__(
            name="deepl", version="1", topic="t", capabilities=("translate",), input_schema=takes, output_schema=gives
        ),
        card("google", "translate"),
    )
    assert len(found) == 1
    assert found[0].startswith(f"5 error contract_misfit: step a: {finding}")


# Files --------------------------------------------------------------------------------------------


def test_the_contracts_that_ship_hold() -> None:
    assert load_contracts([SHIPPED]).keys() == {"summarize", "translate"}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[]", "1: a contract must be a mapping, not a list (begin with capability: NAME)"),
        ("capability: A b\ninput: {}\noutput: {}", "1: a contract needs capability: NAME"),
        ("capability: a\ninput: {}", "1: a contract needs output: a JSON Schema"),
        ("capability: a\ninput: {}\noutput: {}\noutptu: 1", "4: unknown key outptu (did you mean output?)"),
        ("capability: a\ninput: {type: oject}\noutput: {}", "2: input is not a JSON Schema: 'oject'"),
        ("capability: a\ndescription: 1\ninput: {}\noutput: {}", "2: description must be text"),
        (
            "capability: a\ninput: {}\noutput: {}\n---\ncapability: a\ninput: {}\noutput: {}",
            "5: the capability a is there",
        ),
        ("capability: a\ncapability: b\ninput: {}\noutput: {}", "2: the key capability is given twice"),
        ("capability: [", "1: the file is not YAML"),
    ],
)
def test_a_contract_that_does_not_hold_is_refused_with_its_line(tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(text)
    with pytest.raises(SettingsInvalid) as caught:
        load_contracts([tmp_path])
    assert str(caught.value).startswith(f"{file}:{problem}")


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match="can't be read"):
        load_contracts([tmp_path / "none.yaml"])


def test_the_command_takes_a_folder_and_says_what_it_has_not_checked(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_text(ROUTE.replace("translate", "transalte"))
    bare = CliRunner().invoke(mesh, ["routes", "check", str(file)])
    assert (bare.exit_code, "capabilities (--capabilities DIR)" in bare.stderr) == (0, True)
    found = CliRunner().invoke(mesh, ["routes", "check", str(file), "--capabilities", str(SHIPPED), "--json"])
    document = json.loads(found.stdout)
    assert (found.exit_code, document["capabilities_checked"]) == (1, True)
    assert [one["code"] for one in document["findings"]] == ["unknown_capability"]

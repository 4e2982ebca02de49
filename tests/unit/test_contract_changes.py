"""A change of a contract that breaks those who hold to the old one is refused, and why is said."""

import copy
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from mesh.cli.app import mesh
from mesh.errors import OperatorError
from mesh.services import contract_changes
from mesh.services.contract_changes import Contracts, breaks, contracts_of, read_contracts
from mesh.services.topic_plan import CONTRACTS, Contract

RELEASED: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "contracts-released.json").read_text())
# What differs from the released contracts and breaks nobody, with the reason.
ACCEPTED = {
    "dlq: its key",  # letters have the key of before; what is new is a new kind of record
    "event: `not` was",  # refuses less: data and data_base64 may both be there if one is null
    "event.<name>: `pattern` was",  # takes more: upper case too
}


def released(folder: Path) -> Contracts:
    (folder / "schemas").mkdir(parents=True)
    (folder / "topics.yaml").write_text(RELEASED["topics"])
    for name, schema in RELEASED["schemas"].items():
        (folder / "schemas" / f"{name}.json").write_text(json.dumps(schema))
    return contracts_of(str(folder))


def test_the_contracts_may_follow_those_that_were_released(tmp_path: Path) -> None:
    found = [str(one) for one in breaks(released(tmp_path / "topics"), read_contracts(CONTRACTS))]
    assert [one for one in found if not one.startswith(tuple(ACCEPTED))] == []
    assert len(found) == len(ACCEPTED)


def test_contracts_may_follow_themselves() -> None:
    assert breaks(read_contracts(CONTRACTS), read_contracts(CONTRACTS)) == []


# Messages -----------------------------------------------------------------------------------------

BEFORE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "size": {"type": ["integer", "null"]},
        "share": {"type": "number"},
        "kind": {"enum": ["a", "b"]},
        "parts": {"type": "array", "items": {"$ref": "#/$defs/part"}},
        "either": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
    },
    "required": ["id"],
    "$defs": {
        "part": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "parts": {"type": "array", "items": {"$ref": "#/$defs/part"}}},
        }
    },
}
Change = Callable[[dict[str, Any]], object]


def part(schema: dict[str, Any]) -> Any:
    return schema["$defs"]["part"]["properties"]


def field(schema: dict[str, Any], name: str) -> Any:
    return schema["properties"][name]


REFUSED: list[tuple[str, Change]] = [
    ("m.id: the field is gone", lambda s: s["properties"].pop("id")),
    ("m.kind: the field is newly required", lambda s: s["required"].append("kind")),
    ("m.new: the field is newly required", lambda s: s["required"].append("new")),
    ("m.size: its type was integer or null and is integer: null", lambda s: field(s, "size").update(type="integer")),
    ("m.id: its type was string and is integer", lambda s: field(s, "id").update(type="integer")),
    ("m.share: its type was number and is integer", lambda s: field(s, "share").update(type="integer")),
    ('m.kind: the values "b" are not allowed', lambda s: field(s, "kind").update(enum=["a", "c"])),
    ("m.id: only listed values are allowed", lambda s: field(s, "id").update(enum=["a"])),
    ("m.id: only listed values are allowed", lambda s: field(s, "id").update(const="a")),
    ("m.id: `maxLength` was absent and is 9", lambda s: field(s, "id").update(maxLength=9)),
    ("m.share: `minimum` was absent and is 0", lambda s: field(s, "share").update(minimum=0)),
    ("m.id: `pattern` was null", lambda s: field(s, "id").update(pattern="^a")),
    ("m.parts[].name: the field is gone", lambda s: part(s).pop("name")),
    ("m.parts[].name: its type was string", lambda s: part(s)["name"].update(type="null")),
    ("m.either: choice 1 of its `anyOf`", lambda s: field(s, "either")["anyOf"].pop()),
    ("m.labels.*: its type was string", lambda s: field(s, "labels").update(additionalProperties={"type": "null"})),
    ("m.*: ", lambda s: s.update(additionalProperties=False)),
    ("m: its type was object and is array", lambda s: s.update(type="array")),
    ("m.<name>: `pattern` was null", lambda s: s.update(propertyNames={"pattern": "^[a-z]+$"})),
]
TAKEN: list[Change] = [
    lambda s: s["properties"].update(new={"type": "string"}),
    lambda s: s["required"].clear(),
    lambda s: field(s, "id").update(type=["string", "null"]),
    lambda s: field(s, "size").update(type=["number", "null"]),
    lambda s: field(s, "kind")["enum"].append("c"),
    lambda s: field(s, "kind").clear(),
    lambda s: field(s, "either")["anyOf"].append({"type": "null"}),
    lambda s: part(s).update(more={"type": "string"}),
    lambda s: s.update(description="other words"),
    lambda s: field(s, "parts").update(items=copy.deepcopy(s["$defs"]["part"])),
]


def compared(change: Change) -> list[str]:
    after = copy.deepcopy(BEFORE)
    change(after)
    old, new = (Contracts(topics=(), schemas={"m": schema}) for schema in (BEFORE, after))
    return [str(one) for one in breaks(old, new)]


@pytest.mark.parametrize(("said", "change"), REFUSED, ids=[said[:40] for said, _ in REFUSED])
def test_what_breaks_a_message_is_named(said: str, change: Change) -> None:
    found = compared(change)
    assert any(one.startswith(said) for one in found), found


@pytest.mark.parametrize("change", TAKEN)
def test_what_breaks_no_message_is_taken(change: Change) -> None:
    assert compared(change) == []


def test_fields_that_move_into_choices_are_not_gone() -> None:
    old = {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]}
    new = {"oneOf": [old, {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}]}
    assert not breaks(Contracts(topics=(), schemas={"m": old}), Contracts(topics=(), schemas={"m": new}))


def test_references_to_other_documents_are_followed() -> None:
    whole = {"type": "object", "properties": {"part": {"$ref": "part.json#/$defs/one"}}}

    def with_part(kind: str) -> Contracts:
        return Contracts(topics=(), schemas={"m": whole, "part": {"$defs": {"one": {"type": kind}}}})

    [found] = breaks(with_part("string"), with_part("integer"))
    assert str(found).startswith("m.part: its type was string and is integer")


def test_a_message_that_is_gone_is_named() -> None:
    [found] = breaks(Contracts(topics=(), schemas={"m": {}}), Contracts(topics=(), schemas={}))
    assert str(found) == "m: the message's schema is gone"


@pytest.mark.parametrize("schema", read_contracts(CONTRACTS).schemas.items(), ids=lambda one: one[0])
def test_every_field_of_every_message_is_looked_at(schema: tuple[str, Any]) -> None:
    """Each field that is taken away, at the message's own level, is named."""
    name, before = schema
    for gone in before.get("properties", {}):
        after = copy.deepcopy(before)
        del after["properties"][gone]
        found = breaks(Contracts(topics=(), schemas={name: before}), Contracts(topics=(), schemas={name: after}))
        assert f"{name}.{gone}" in {one.where for one in found}


# Topics -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "change"),
    [
        ("log: its key was 'workflow id' and is 'any'", {"key": "any"}),
        ("log: `partitions` was 'mesh' and is 4", {"partitions": 4}),
        ("log: `fixed` was True and is False", {"fixed": False}),
        ("log: 'operator' is not among its readers any more", {"readers": ("router", "console")}),
        ("log: 'log-record' is not among its messages any more", {"messages": ()}),
    ],
)
def test_what_breaks_a_topic_is_named(said: str, change: dict[str, Any]) -> None:
    found = _with_log(lambda log: msgspec.structs.replace(log, **change))
    assert [one for one in found if one.startswith(said)] == found


@pytest.mark.parametrize(
    ("said", "name", "value"),
    [
        ("log: cleanup.policy was delete and is compact", "cleanup.policy", "compact"),
        ("log: max.message.bytes was 4194304 and is 1", "max.message.bytes", "1"),
    ],
)
def test_a_setting_that_loses_records_is_named(said: str, name: str, value: str) -> None:
    [found] = _with_log(lambda log: msgspec.structs.replace(log, config={**log.config, name: value}))
    assert found.startswith(said)


def test_a_topic_that_is_gone_is_named() -> None:
    assert _with_log(lambda _: None) == ["log: the topic is gone"]


def _with_log(change: Callable[[Contract], Contract | None]) -> list[str]:
    now = read_contracts(CONTRACTS)
    changed = [change(one) if one.name == "log" else one for one in now.topics]
    after = msgspec.structs.replace(now, topics=tuple(one for one in changed if one is not None))
    return [str(one) for one in breaks(now, after)]


# The command --------------------------------------------------------------------------------------


def test_a_revision_is_read_from_the_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    released(tmp_path / "topics")
    for words in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-q", "-m", "x"],
    ):
        subprocess.run(["git", *words], cwd=tmp_path, check=True, timeout=60)
    monkeypatch.setattr(contract_changes, "CHECKOUT", tmp_path)
    (tmp_path / "topics" / "topics.yaml").unlink()
    assert {one.name for one in contracts_of("HEAD").topics} >= {"log", "events"}
    with pytest.raises(OperatorError, match="v9: neither a folder nor a git revision with topics/"):
        contracts_of("v9")
    with pytest.raises(OperatorError, match="no git revision begins with a dash"):
        contracts_of("--output=x")


def test_the_command_says_what_breaks_and_exits_with_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    released(tmp_path / "topics")
    ran = CliRunner().invoke(mesh, ["topics", "check", "--against", "topics"])
    assert ran.exit_code == 1
    assert "! dlq: its key was" in ran.output
    shown = json.loads(CliRunner().invoke(mesh, ["topics", "check", "--against", "topics", "--json"]).stdout)
    assert len(shown["breaks"]) == len(ACCEPTED)
    same = CliRunner().invoke(mesh, ["topics", "check", "--against", str(CONTRACTS)])
    assert (same.exit_code, same.output.strip()) == (0, f"The contracts may follow those of {CONTRACTS}.")


def test_what_is_no_contract_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OperatorError, match=r"no topics\.yaml is in this folder"):
        contracts_of(str(tmp_path))
    monkeypatch.setattr(contract_changes, "CHECKOUT", None)
    with pytest.raises(OperatorError, match="no such folder, and this is no checkout"):
        contracts_of("HEAD")

"""A default is written once.

Settings, router, agents, adapters and the kit for tests take the same one, and the pages name it.
"""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mesh import defaults
from mesh.adapters.kafka import KafkaBroker
from mesh.adapters.memory import MemoryBroker, MemoryCluster
from mesh.adapters.sqlite import SqliteBroker
from mesh.core.decide.begin.portion import PORTION_BYTES
from mesh.core.decide.kept_events import KEPT_BYTES
from mesh.core.state import Directory
from mesh.core.topics import Topics
from mesh.ports import Broker, TopicSpec
from mesh.services.agent_runtime.cards import card_of
from mesh.services.agent_runtime.settings import AgentSettings
from mesh.services.client import Client
from mesh.services.router.config import RouterConfig
from mesh.services.topic_plan import topic_specs
from mesh.settings import Settings
from mesh.testing import MeshKit
from mesh.testing.kit import engines, stage

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "topics" / "topics.yaml"]

# what the same thing is called where it is taken
NAMES = {
    "topic_prefix": ("TOPIC_PREFIX",),
    "partitions": ("PARTITIONS",),
    "task_partitions": ("TASK_PARTITIONS",),
    "replicas": ("REPLICAS", "task_replicas"),
    "max_event_bytes": ("MAX_EVENT_BYTES",),
    "max_record_bytes": ("MAX_RECORD_BYTES",),
    "batch_records": ("BATCH_RECORDS", "max_poll_records", "poll_records"),
    "session_timeout_s": ("SESSION_TIMEOUT_S",),
    "request_timeout_s": ("REQUEST_TIMEOUT_S",),
    "drain_timeout_s": ("DRAIN_TIMEOUT_S", "drain_s"),
    "checkpoint_interval_s": ("CHECKPOINT_INTERVAL_S",),
    "card_interval_s": ("CARD_INTERVAL_S", "card_every_s"),
    "answer_max_age_s": ("ANSWER_MAX_AGE_S",),  # the router takes it in milliseconds
}
SETTING_OF = {name: setting for setting, (_, *others) in NAMES.items() for name in (setting, *others)}


def wanted(setting: str) -> Any:
    return getattr(defaults, NAMES[setting][0])


def test_every_default_is_a_settings_own_or_named_here() -> None:
    said = {name for name, value in vars(defaults).items() if name.isupper() and not callable(value)}
    assert said - {constant for constant, *_ in NAMES.values()} == {"CARD_INTERVALS", "CLIENT_TIMEOUT_S"}
    for setting in NAMES:
        assert Settings.model_fields[setting].default is wanted(setting), setting


@pytest.mark.parametrize("struct", [RouterConfig, AgentSettings])
def test_router_and_agents_take_the_settings_defaults(struct: type[msgspec.Struct]) -> None:
    taken = {field.name: field.default for field in msgspec.structs.fields(struct) if field.name in SETTING_OF}
    assert len(taken) >= 6
    for name, default in taken.items():
        assert default is wanted(SETTING_OF[name]), name


def arguments(function: Any) -> dict[str, Any]:
    return {name: one.default for name, one in inspect.signature(function).parameters.items()}


@pytest.mark.parametrize(
    ("function", "setting"),
    [
        (Broker.subscribe, "session_timeout_s"),
        (KafkaBroker.subscribe, "session_timeout_s"),
        (MemoryBroker.subscribe, "session_timeout_s"),
        (SqliteBroker.subscribe, "session_timeout_s"),
        (KafkaBroker.open, "request_timeout_s"),
        (KafkaBroker.open, "max_record_bytes"),
        (SqliteBroker.open, "max_record_bytes"),
        (MemoryCluster, "max_record_bytes"),
        (topic_specs, "task_partitions"),
        (topic_specs, "replicas"),
        (TopicSpec, "replicas"),
        (Directory, "topic_prefix"),
        (MeshKit, "topic_prefix"),
    ],
)
def test_ports_adapters_and_the_kit_take_them_too(function: Any, setting: str) -> None:
    assert arguments(function)[setting] is wanted(setting)


def test_what_has_no_setting_is_said_once_as_well() -> None:
    assert arguments(Topics)["prefix"] is defaults.TOPIC_PREFIX
    assert arguments(card_of)["expires_after_s"] == defaults.CARD_INTERVALS * defaults.CARD_INTERVAL_S
    for wait in (Client.wait_outcome, Client.answer):
        assert arguments(wait)["timeout_s"] is defaults.CLIENT_TIMEOUT_S


def test_a_tested_mesh_has_the_shape_of_a_users() -> None:
    assert engines._PARTITIONS is defaults.PARTITIONS
    assert stage._TASK_PARTITIONS is defaults.TASK_PARTITIONS


# Nowhere else -------------------------------------------------------------------------------------


def literals(source: str) -> Iterator[str]:
    """Arguments and fields that are a setting by their name, and have a number of their own."""
    for node in ast.walk(ast.parse(source)):
        pairs: list[tuple[str, ast.expr | None]] = []
        if isinstance(node, ast.arguments):
            plain = [*node.posonlyargs, *node.args]
            pairs = [(one.arg, value) for one, value in zip(reversed(plain), reversed(node.defaults), strict=False)]
            pairs += [(one.arg, value) for one, value in zip(node.kwonlyargs, node.kw_defaults, strict=True)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            pairs = [(node.target.id, node.value)]
        for name, value in pairs:
            if name in SETTING_OF and isinstance(value, ast.Constant) and value.value is not None:
                yield f"{name} = {value.value!r}"


@pytest.mark.deep
def test_no_part_has_a_number_of_its_own_for_a_setting() -> None:
    # the broker's contract makes topics of any shape: they belong to no mesh
    paths = [path for path in sorted((ROOT / "mesh").rglob("*.py")) if path.parent.name != "broker_contract"]
    assert [(path.name, found) for path in paths for found in literals(path.read_text())] == []


def test_a_number_of_its_own_would_be_found() -> None:
    source = "class A:\n    drain_s: float = 3.0\n\ndef f(a, partitions=16, *, session_timeout_s=10.0): ...\n"
    assert sorted(literals(source)) == ["drain_s = 3.0", "partitions = 16", "session_timeout_s = 10.0"]


# On the pages -------------------------------------------------------------------------------------

UNITS = {"KiB": 1024, "MiB": 1024 * 1024, "s": 1, "": 1}
NUMBER = r"(?P<number>[0-9][0-9,.]*?)(?: (?P<unit>KiB|MiB|s)\b)?(?=[^0-9]|$)"
NAMED = re.compile(rf"`MESH_(?P<name>[A-Z_]+)`(?:, | \(){NUMBER}")
PHRASES: list[tuple[str, Any]] = [
    (rf"session has run out \({NUMBER}", defaults.SESSION_TIMEOUT_S),
    (rf"renewed every {NUMBER}", defaults.CARD_INTERVAL_S),
    (rf"100 tasks, {NUMBER} of inputs", PORTION_BYTES),
    (rf"with at most {NUMBER} of inputs", PORTION_BYTES),
    (rf"100 events and {NUMBER} together", KEPT_BYTES),
    (rf"in base64\), up to {NUMBER}: that is MESH_MAX_RECORD_BYTES", defaults.MAX_RECORD_BYTES),
]


def flat(page: Path) -> str:
    """The page on one line: sentences wrap."""
    return " ".join(page.read_text().split())


def amount(match: re.Match[str]) -> float:
    return float(match["number"].replace(",", "")) * UNITS[match["unit"] or ""]


def test_the_pages_name_the_defaults_that_hold() -> None:
    found = [(path.name, match) for path in PAGES for match in NAMED.finditer(flat(path))]
    assert {match["name"] for _, match in found} >= {"PARTITIONS", "MAX_EVENT_BYTES"}
    for page, match in found:
        assert amount(match) == Settings.model_fields[match["name"].lower()].default, (page, match[0])


@pytest.mark.parametrize(("words", "number"), PHRASES)
def test_the_pages_say_the_right_number_in_their_sentences(words: str, number: float) -> None:
    found = [(path.name, match) for path in PAGES for match in re.finditer(words, flat(path))]
    assert found, "the sentence is on no page any more: take it from the list"
    for page, match in found:
        assert amount(match) == number, (page, match[0])

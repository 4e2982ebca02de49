"""Alert rules, dashboards and the runbook fit together, and fit the metrics that we export."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from ruamel.yaml import YAML

from mesh.cli.app import COMMANDS, mesh
from mesh.metrics import names

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "infra" / "observability"
YAML_READER = YAML(typ="safe", pure=True)
RULES: dict[str, Any] = {
    rule["alert"]: rule for group in YAML_READER.load(FOLDER / "alerts.yml")["groups"] for rule in group["rules"]
}
TESTS: list[dict[str, Any]] = YAML_READER.load(FOLDER / "alerts_test.yml")["tests"]
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
DASHBOARDS = sorted((FOLDER / "dashboards").glob("*.json"))

OURS = re.compile(r"\b(?:mesh|messaging|gen_ai|error)_[a-z0-9_]+\b")
SELECTED = re.compile(r"\b([a-z][a-z0-9_]*)\{([^}]*)\}")
LABELS = {names.prometheus_label(name) for name in names.ATTRIBUTES}
SERIES = {name: metric for metric in names.ALL for name in metric.series_names}
OF_PROMETHEUS = {"instance", "job", "le", "alertstate", "alertname"}


def queries_of(dashboard: dict[str, Any]) -> Iterator[str]:
    for panel in dashboard["panels"]:
        yield from (target["expr"] for target in panel["targets"])
    for variable in dashboard["templating"]["list"]:
        yield variable["query"]


def queries() -> list[tuple[str, str]]:
    """All queries that there are, and where each is."""
    found = [(name, str(rule["expr"])) for name, rule in RULES.items()]
    for path in DASHBOARDS:
        found += [(path.stem, query) for query in queries_of(json.loads(path.read_text()))]
    return found


def unknown(query: str) -> list[str]:
    """What of ours a query names that we do not export."""
    wrong = [name for name in OURS.findall(query) if name not in SERIES and name not in LABELS]
    for name, selectors in SELECTED.findall(query):
        has = {names.prometheus_label(label) for label in SERIES[name].attributes} if name in SERIES else set()
        wrong += [
            f"{name}{{{label}}}"
            for label in re.findall(r"(\w+)\s*[=!]", re.sub(r'"[^"]*"', '""', selectors))
            if label not in has | OF_PROMETHEUS
        ]
    return wrong


@pytest.mark.parametrize(("where", "query"), queries())
def test_every_query_is_of_metrics_that_we_export(where: str, query: str) -> None:
    assert unknown(query) == [], where


def test_a_query_of_what_we_do_not_export_is_found() -> None:
    assert unknown("sum(mesh_step_latency_seconds)") == ["mesh_step_latency_seconds"]
    assert unknown('mesh_decisions_total{mesh_step="x"}') == ["mesh_decisions_total{mesh_step}"]
    assert unknown("sum by (mesh_agent_name) (mesh_incidents_open)") == ["mesh_agent_name"]


def test_every_metric_is_on_a_dashboard_or_in_an_alert() -> None:
    said = " ".join(query for _, query in queries())
    assert [m.name for m in names.ALL if not any(name in said for name in m.series_names)] == []


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_has_an_id_of_its_own_and_panels_side_by_side(path: Path) -> None:
    board = json.loads(path.read_text())
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
        assert panel["datasource"]["uid"] == "prometheus"
    assert {json.loads(other.read_text())["uid"] for other in DASHBOARDS if other != path}.isdisjoint({board["uid"]})


# Alerts and their runbook -------------------------------------------------------------------------


@pytest.mark.parametrize("name", RULES)
def test_each_alert_says_how_urgent_it_is_and_what_to_do(name: str) -> None:
    rule = RULES[name]
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["runbook"] == f"docs/runbook.md#{name.lower()}"


def test_the_runbook_has_a_section_for_each_alert_and_no_other() -> None:
    assert re.findall(r"^## (.+)$", RUNBOOK, flags=re.MULTILINE) == list(RULES)
    for section in RUNBOOK.split("\n## ")[1:]:
        assert re.findall(r"^\*\*(\w+)\*\*:", section, flags=re.MULTILINE) == ["Means", "See", "Do"], section


def test_the_runbook_s_commands_are_those_of_the_mesh() -> None:
    commands = {" ".join(found.split()) for found in re.findall(r"`(mesh [^`]+)`", RUNBOOK)}
    assert len(commands) > 10
    for command in commands:
        assert_known(command)


def test_the_log_lines_that_the_runbook_names_are_written() -> None:
    lines = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", RUNBOOK)) - {"agent_died", "on_expiry"}
    code = "".join(path.read_text() for path in (ROOT / "mesh").rglob("*.py"))
    assert len(lines) > 8
    assert {line for line in lines if f'"{line}"' not in code} == set()


def assert_known(command: str) -> None:
    """The verb exists, and so do its options."""
    _, *words = command.split()
    if "." in words[0]:  # a topic, as mesh.events
        return
    at: click.Command | None = None
    context = click.Context(mesh)
    group: click.Command = mesh
    while words and isinstance(group, click.Group) and (at := group.get_command(context, words[0])) is not None:
        group, words = at, words[1:]
    assert at is not None, command
    known = {option for parameter in at.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known, command


def test_a_command_that_is_not_there_is_found() -> None:
    assert "status" in COMMANDS
    with pytest.raises(AssertionError):
        assert_known("mesh workflows list --colour")
    with pytest.raises(AssertionError):
        assert_known("mesh statusses")


# promtool -----------------------------------------------------------------------------------------


def test_each_alert_is_tested_to_fire_and_not_to_fire() -> None:
    expected = {name: {True, False} for name in RULES}
    found: dict[str, set[bool]] = {}
    for test in TESTS:
        for one in test["alert_rule_test"]:
            found.setdefault(one["alertname"], set()).add(bool(one["exp_alerts"]))
    assert found == expected


@pytest.mark.parametrize(("where", "series"), [(t["name"], s["series"]) for t in TESTS for s in t["input_series"]])
def test_the_alerts_are_tested_with_series_that_we_export(where: str, series: str) -> None:
    assert unknown(series) == [], where


@pytest.mark.parametrize("arguments", [["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]])
def test_promtool_agrees(arguments: list[str]) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        if os.environ.get("MESH_REQUIRE_PROMTOOL"):
            pytest.fail("promtool is required, and not there: apt-get install prometheus")
        pytest.skip("promtool is not there: apt-get install prometheus")
    done = subprocess.run([promtool, *arguments], cwd=FOLDER, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr

"""The image and the compose file fit together.

That is checked as far as it can be without a container engine.
"""

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from mesh.agent.registry import agents_in
from mesh.cli.app import COMMANDS
from mesh.settings import Settings, load_settings, parse_broker_url

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = YAML(typ="safe", pure=True).load(ROOT / "docker-compose.yml")
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
WATCHING = {"collector", "prometheus", "grafana"}
OURS = {name: service for name, service in SERVICES.items() if name not in {"kafka", *WATCHING}}
ROUTERS = {"router", "router-2"}
AGENTS = {"classifier", "duplicate-finder", "drafter", "publisher"}
OTHERS_VARIABLES = {"MESH_DUPLICATES_INDEX", "MESH_OUTBOX", "MESH_PUBLISH_LOCKS"}  # the agents' own
PINNED = re.compile(r"[a-z0-9./-]+:v?\d+\.\d+\.\d+(-[a-z0-9-]+)?@sha256:[0-9a-f]{64}")


def instructions(name: str) -> list[str]:
    lines = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE)).splitlines()
    return [line.removeprefix(name).strip() for line in lines if line.startswith(name + " ")]


# --- the image ------------------------------------------------------------------------------------


def test_base_images_are_pinned_and_one() -> None:
    assert {line.split()[0] for line in instructions("FROM")} == {"${BASE}"}
    (base,) = instructions("ARG")
    image = base.removeprefix("BASE=")
    assert PINNED.fullmatch(image)
    assert "python:3.11." in image


def test_the_service_does_not_run_as_root() -> None:
    assert instructions("USER") == ["10001:10001"]
    after = DOCKERFILE.split("USER 10001")[1]
    assert not re.search(r"^(RUN|COPY|ADD) ", after, flags=re.MULTILINE)


def test_dependencies_come_from_the_locks_by_hash() -> None:
    installs = [part for line in instructions("RUN") for part in line.split("&&") if "pip install" in part]
    assert all("--require-hashes --no-deps" in part or "--no-deps --no-index" in part for part in installs)
    for name in ("requirements.lock", "requirements-build.lock"):
        pins = re.findall(r"^[a-z0-9-]+==\S+.*(?:\n    .*)*", (ROOT / name).read_text(), flags=re.MULTILINE)
        assert pins
        assert all("--hash=sha256:" in pin for pin in pins)


def test_what_is_copied_is_there_and_let_through() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for line in instructions("COPY"):
        if line.startswith("--from"):
            continue
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert f"!{source.split('/')[0]}" in ignored, source


def test_the_agents_of_the_compose_file_are_on_the_image_s_path() -> None:
    (folder,) = re.findall(r"PYTHONPATH=(\S+)", DOCKERFILE)
    assert f"agents {folder}/agents" in instructions("COPY")


def test_health_is_a_command_of_the_mesh() -> None:
    (check,) = instructions("HEALTHCHECK")
    assert re.search(r'CMD \["mesh", "health"\]$', check)
    assert "health" in COMMANDS
    assert instructions("ENTRYPOINT") == ['["mesh"]']


def test_variables_of_the_image_are_settings() -> None:
    for name in re.findall(r"(MESH_[A-Z_]+)=", DOCKERFILE):
        assert name.removeprefix("MESH_").lower() in Settings.model_fields, name


# --- the services ---------------------------------------------------------------------------------


def test_there_is_a_service_for_everything_that_runs() -> None:
    assert set(SERVICES) == {"kafka", "topics", *ROUTERS, "notifier", *AGENTS, *WATCHING}


@pytest.mark.parametrize("name", OURS)
def test_every_command_is_one_of_the_mesh(name: str) -> None:
    command, *rest = OURS[name]["command"]
    assert command in COMMANDS
    match command:
        case "agent":
            (module,) = rest
            assert [each.name for each in agents_in(import_module(module))] == [name]
        case "topics":
            assert rest == ["apply"]
        case _:
            assert rest == []
            assert name in (ROUTERS if command == "router" else {"notifier"})


def test_images_are_pinned() -> None:
    for name in ("kafka", *WATCHING):
        assert PINNED.fullmatch(SERVICES[name]["image"]), name
    assert {service["image"] for service in OURS.values()} == {"agent-mesh:local"}
    assert {service["build"] for service in OURS.values()} == {"."}


def test_kafka_is_the_version_that_the_tests_run_against() -> None:
    tested = re.search(r"<kafka.version>(.+)</kafka.version>", (ROOT / "infra" / "kafka" / "pom.xml").read_text())
    assert tested is not None
    assert SERVICES["kafka"]["image"].startswith(f"apache/kafka:{tested[1]}@")


def test_kafka_is_reached_from_inside_and_from_this_machine_alone() -> None:
    environment = SERVICES["kafka"]["environment"]
    advertised = dict(each.split("://") for each in environment["KAFKA_ADVERTISED_LISTENERS"].split(","))
    for service in OURS.values():
        assert service["environment"]["MESH_BROKER"] == f"kafka://{advertised['INSIDE']}"
        parse_broker_url(service["environment"]["MESH_BROKER"])
    assert SERVICES["kafka"]["ports"] == [f"127.0.0.1:{advertised['OUTSIDE'].split(':')[1]}:9092"]
    assert environment["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"


def test_topics_come_after_kafka_and_everything_else_after_them() -> None:
    assert SERVICES["topics"]["depends_on"] == {"kafka": {"condition": "service_healthy"}}
    assert SERVICES["topics"]["restart"] == "no"
    for name in OURS.keys() - {"topics"}:
        assert SERVICES[name]["depends_on"] == {"topics": {"condition": "service_completed_successfully"}}


def test_health_is_checked_wherever_something_keeps_running() -> None:
    assert SERVICES["kafka"]["healthcheck"]["test"][0] == "CMD"
    checks = {name: service["healthcheck"] for name, service in OURS.items()}
    assert checks.pop("topics") == {"disable": True}
    assert {tuple(check["test"]) for check in checks.values()} == {("CMD", "mesh", "health", "--ready")}


@pytest.mark.parametrize("name", OURS)
def test_services_have_no_more_rights_than_they_need(name: str) -> None:
    service = OURS[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "user" not in service
    assert "privileged" not in service


@pytest.mark.parametrize("name", OURS)
def test_what_a_service_writes_has_a_place(name: str) -> None:
    service = OURS[name]
    writable = [each.split(":")[1] for each in service.get("volumes", []) if not each.endswith(":ro")]
    writable += [each.split(":")[0] for each in service["tmpfs"]]
    assert ("/var/lib/mesh" in writable) == (name != "topics")


def test_no_two_services_share_a_data_folder() -> None:
    """Each has a heartbeat file in it, and a router its checkpoints."""
    volumes = [each for service in OURS.values() for each in service.get("volumes", []) if "/var/lib/mesh" in each]
    assert len(set(volumes)) == len(volumes)
    first, second = (SERVICES[name] for name in sorted(ROUTERS))
    assert first["volumes"][1:] == second["volumes"][1:], "both bring the same rules"
    assert {key: value for key, value in first.items() if key != "volumes"} == {
        key: value for key, value in second.items() if key != "volumes"
    }


def test_volumes_are_declared_and_mounts_are_there() -> None:
    mounted = [each for service in SERVICES.values() for each in service.get("volumes", [])]
    named = {each.split(":")[0] for each in mounted if not each.startswith(".")}
    assert named == set(COMPOSE["volumes"])
    for mount in mounted:
        if mount.startswith("."):
            assert (ROOT / mount.split(":")[0]).exists()


def test_prometheus_scrapes_every_service_that_keeps_running() -> None:
    config = YAML(typ="safe", pure=True).load(ROOT / "infra" / "observability" / "prometheus.yml")
    [job] = config["scrape_configs"]
    [found] = job["dns_sd_configs"]
    # the name that the alert rules know
    assert job["job_name"] == "mesh"
    assert set(found["names"]) == OURS.keys() - {"topics"}
    for name in found["names"]:
        settings = load_settings(**_settings(OURS[name]["environment"]))
        assert (settings.metrics, settings.metrics_address) == ("prometheus", f"0.0.0.0:{found['port']}")


def _settings(environment: dict[str, str]) -> dict[str, str]:
    names = ("MESH_METRICS", "MESH_METRICS_ADDRESS", "MESH_TRACE_EXPORTER", "MESH_OTLP_ENDPOINT")
    return {name.removeprefix("MESH_").lower(): environment[name] for name in names}


def test_traces_go_to_the_collector() -> None:
    config = YAML(typ="safe", pure=True).load(ROOT / "infra" / "observability" / "collector.yml")
    port = config["receivers"]["otlp"]["protocols"]["http"]["endpoint"].split(":")[1]
    for service in OURS.values():
        assert service["environment"]["MESH_OTLP_ENDPOINT"] == f"http://collector:{port}"


@pytest.mark.parametrize("name", sorted(WATCHING))
def test_what_watches_is_reached_from_this_machine_alone(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_variables_are_settings_or_the_agents_own() -> None:
    for service in OURS.values():
        for name in service["environment"]:
            if name.startswith("MESH_") and name not in OTHERS_VARIABLES:
                assert name.removeprefix("MESH_").lower() in Settings.model_fields, name


@pytest.mark.parametrize("name", [*sorted(OTHERS_VARIABLES), "MESH_DEMO_FAULT"])
def test_the_agents_own_variables_are_not_taken_for_misspelt_settings(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "x")
    load_settings()


def test_a_stop_waits_longer_than_the_drain() -> None:
    grace = int(COMPOSE["x-mesh"]["stop_grace_period"].removesuffix("s"))
    assert grace > Settings.model_fields["drain_timeout_s"].default

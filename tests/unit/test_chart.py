"""The Helm chart renders what Kubernetes, Strimzi and KEDA take, and what fits the mesh."""

import json
import re
import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

import helm_python
import pytest
from chart import CHART, ROOT, faults, load, load_all, named, notes, render
from click.testing import CliRunner

from mesh.cli.app import COMMANDS, mesh
from mesh.metrics import names
from mesh.settings import Settings, load_settings

PROJECT = ROOT / "infra" / "agent-project"
DEFAULTS: dict[str, Any] = load(CHART / "values.yaml")
ADDED: dict[str, Any] = load(PROJECT / "values.yaml")
FULL: dict[str, Any] = {
    **ADDED,
    "env": {"MESH_LOG_FORMAT": "json"},
    "envFrom": [{"secretRef": {"name": "more"}}],
    "imagePullSecrets": [{"name": "registry"}],
    "notifier": {"enabled": True, "envFrom": [{"secretRef": {"name": "smtp"}}]},
    "agents": {
        **ADDED["agents"],
        "drafter": {
            "args": ["agent", "agents.issue_triage.drafter"],
            "replicas": 3,
            "env": {"OTHER": "x"},
            "resources": {"limits": {"memory": "1Gi"}},
        },
    },
    "router": {"cache": {"size": "1Gi", "storageClassName": "fast"}},
}
PLAIN: dict[str, Any] = {**FULL, "strimzi": {"enabled": False, "cluster": "kafka"}}
SETS = {"defaults": {}, "full": FULL, "without-strimzi": PLAIN}


def of_pods(resources: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Pod specs by the name of what makes the pods."""
    kinds = {"Deployment", "StatefulSet", "Job"}
    return {one["metadata"]["name"]: one["spec"]["template"]["spec"] for one in resources if one["kind"] in kinds}


def variables(pod: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["value"] for each in pod["containers"][0]["env"]}


@pytest.mark.parametrize("values", SETS.values(), ids=SETS)
def test_what_is_rendered_is_taken_and_no_key_of_it_is_ignored(values: dict[str, Any]) -> None:
    resources = render(values)
    assert {f"{one['kind']} {one['metadata']['name']}": found for one in resources if (found := faults(one))} == {}
    places = [(one["kind"], one["metadata"]["name"]) for one in resources]
    assert len(set(places)) == len(places)


@pytest.mark.parametrize("values", SETS.values(), ids=SETS)
def test_helm_s_linter_finds_nothing(values: dict[str, Any]) -> None:
    found = helm_python.lint(CHART, values, strict=True)
    assert [one for one in found["messages"] if "icon is recommended" not in str(one)] == []


# each a slip of the pen in one template: file, what is there, what somebody typed
SLIPS = [
    ("_helpers.tpl", "terminationGracePeriodSeconds", "terminationGracePeriodSecond"),
    ("_helpers.tpl", "readOnlyRootFilesystem", "readOnlyRootFileSystem"),
    ("_helpers.tpl", "livenessProbe", "livelinessProbe"),
    ("_helpers.tpl", "failureThreshold: 60", "failureTreshold: 60"),
    ("_helpers.tpl", "mountPath: /tmp", "path: /tmp"),
    ("_helpers.tpl", "runAsUser: 10001", 'runAsUser: "mesh"'),
    ("router.yaml", "minAvailable", "minAvailabel"),
    ("router.yaml", "serviceName", "servicename"),
    ("router.yaml", "accessModes", "accessMode"),
    ("agents.yaml", "minReplicaCount", "minReplicas"),
    ("agents.yaml", "stabilizationWindowSeconds: 300", "stabilisationWindowSeconds: 300"),
    ("agents.yaml", "maxReplicaCount: {{ .max }}", "maxReplicaCount: {{ .max | quote }}"),
    ("jobs.yaml", "backoffLimit: 6", "backOffLimit: 6"),
    ("strimzi.yaml", "partitions: {{ get", "partition: {{ get"),
    ("strimzi.yaml", "topicName: {{ $name }}", "topic: {{ $name }}"),
    ("strimzi.yaml", "acls:", "acl:"),
    ("strimzi.yaml", "type: scram-sha-512", "type: scram-sha-1"),
]


@pytest.mark.parametrize(("file", "there", "typed"), SLIPS, ids=[slip[2][:28] for slip in SLIPS])
def test_a_slip_in_a_template_is_noticed(tmp_path: Path, file: str, there: str, typed: str) -> None:
    chart = tmp_path / "mesh"
    shutil.copytree(CHART, chart)
    template = chart / "templates" / file
    text = template.read_text()
    assert there in text
    template.write_text(text.replace(there, typed))
    assert any(faults(one) for one in render(FULL, chart))


@pytest.mark.parametrize(
    "values",
    [
        {"agent": {}},
        {"router": {"replica": 3}},
        {"partitions": "16"},
        {"broker": "sqlite:///mesh.db"},
        {"agents": {"Drafter": {"args": ["agent", "x"]}}},
        {"agents": {"drafter": {}}},
        {"agents": {"drafter": {"args": ["agent", "x"], "scale": {"min": 0, "max": 1, "tasksPerReplica": 1}}}},
        {"agents": {"x": {"args": ["agent", "x"], "replicas": 1, "scale": {"min": 1, "max": 1, "tasksPerReplica": 1}}}},
        {"agents": {"x": {"args": ["agent", "x"], "scale": {"min": 1, "max": 17, "tasksPerReplica": 1}}}},
    ],
)
def test_values_that_mean_nothing_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(helm_python.HelmError):
        render(values)


def test_the_schema_of_the_values_has_each_default() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert set(schema["properties"]) - {"global"} == set(DEFAULTS)
    for name in ("router", "notifier", "metrics", "strimzi"):
        assert set(DEFAULTS[name]) == set(schema["properties"][name]["properties"])


# What runs in it ----------------------------------------------------------------------------------


@pytest.mark.parametrize("values", SETS.values(), ids=SETS)
def test_what_a_container_runs_is_a_command_of_the_mesh(values: dict[str, Any]) -> None:
    for name, pod in of_pods(render(values)).items():
        [container] = pod["containers"]
        assert "command" not in container, name
        assert container["args"][0] in COMMANDS, name
        shown = CliRunner().invoke(mesh, [*container["args"], "--help"])
        assert shown.exit_code == 0, shown.output


@pytest.mark.parametrize("values", SETS.values(), ids=SETS)
def test_variables_are_settings(monkeypatch: pytest.MonkeyPatch, values: dict[str, Any]) -> None:
    for pod in of_pods(render(values)).values():
        given = {name: value for name, value in variables(pod).items() if name.startswith("MESH_")}
        with monkeypatch.context() as patch:
            for name, value in given.items():
                patch.setenv(name, value)
            settings = load_settings()
        assert settings.partitions == DEFAULTS["partitions"]
        unknown = {name for name in given if name.removeprefix("MESH_").lower() not in Settings.model_fields}
        assert unknown <= {
            "MESH_KAFKA_SECURITY_PROTOCOL",
            "MESH_KAFKA_SASL_MECHANISM",
            "MESH_KAFKA_CA_FILE",
            "MESH_KAFKA_USERNAME",
            "MESH_KAFKA_PASSWORD_FILE",
        }


def test_routers_bring_no_files_of_the_image() -> None:
    """The image names the demo's routes and people; an empty variable counts as unset."""
    given = variables(of_pods(render(FULL))["shop-router"])
    for name in ("MESH_ROUTES", "MESH_APPROVERS"):
        assert f"{name}=" in (ROOT / "Dockerfile").read_text()
        assert given[name] == ""


@pytest.mark.parametrize("values", SETS.values(), ids=SETS)
def test_pods_have_no_more_rights_than_they_need(values: dict[str, Any]) -> None:
    for pod in of_pods(render(values)).values():
        [container] = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert f"USER {pod['securityContext']['runAsUser']}:" in (ROOT / "Dockerfile").read_text()
        assert pod["automountServiceAccountToken"] is False
        assert container["resources"]["limits"]["memory"]
        mounted = {each["mountPath"] for each in container["volumeMounts"]}
        assert mounted >= {"/tmp", "/var/lib/mesh"}


def test_a_stop_waits_longer_than_the_drain() -> None:
    for pod in of_pods(render({"drainTimeoutS": 70})).values():
        assert pod["terminationGracePeriodSeconds"] > float(variables(pod)["MESH_DRAIN_TIMEOUT_S"]) == 70


def test_what_keeps_running_is_probed_and_scraped() -> None:
    for one in render(FULL):
        if one["kind"] not in {"Deployment", "StatefulSet"}:
            continue
        pod = one["spec"]["template"]
        [container] = pod["spec"]["containers"]
        # one that waits for its broker is alive, and a restart would not help it
        for probe in ("startupProbe", "livenessProbe"):
            assert container[probe]["exec"]["command"] == ["mesh", "health"]
        assert container["readinessProbe"]["exec"]["command"] == ["mesh", "health", "--ready"]
        port = container["ports"][0]["containerPort"]
        assert variables(pod["spec"])["MESH_METRICS_ADDRESS"] == f"0.0.0.0:{port}"
        assert pod["metadata"]["annotations"]["prometheus.io/port"] == str(port)


def test_volumes_that_are_mounted_are_there_and_selectors_select() -> None:
    for values in SETS.values():
        for one in render(values):
            if one["kind"] not in {"Deployment", "StatefulSet", "Job"}:
                continue
            pod = one["spec"]["template"]
            claims = [each["metadata"]["name"] for each in one["spec"].get("volumeClaimTemplates", [])]
            there = {*claims, *(each["name"] for each in pod["spec"]["volumes"])}
            assert {each["name"] for each in pod["spec"]["containers"][0]["volumeMounts"]} == there
            if one["kind"] != "Job":
                selected = one["spec"]["selector"]["matchLabels"]
                assert selected.items() <= pod["metadata"]["labels"].items()


def test_routers_are_two_and_one_stays_when_a_node_goes() -> None:
    resources = render({})
    router = named(resources, "StatefulSet", "shop-router")
    budget = named(resources, "PodDisruptionBudget", "shop-router")
    assert (router["spec"]["replicas"], budget["spec"]["minAvailable"]) == (2, 1)
    assert budget["spec"]["selector"] == router["spec"]["selector"]
    [claim] = router["spec"]["volumeClaimTemplates"]
    [mount] = [m for m in router["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] if m["name"] == "data"]
    assert (claim["metadata"]["name"], mount["mountPath"]) == ("data", "/var/lib/mesh")


# Scaling ------------------------------------------------------------------------------------------


def test_an_agent_is_scaled_by_the_tasks_that_its_processes_hold() -> None:
    resources = render(FULL)
    scaled = named(resources, "ScaledObject", "shop-agent-word-counter")["spec"]
    [trigger] = scaled["triggers"]
    label = names.prometheus_label(names.AGENT)
    assert trigger["metadata"]["query"] == f'sum({names.AGENT_HELD.prometheus_name}{{{label}="word-counter"}})'
    assert scaled["scaleTargetRef"] == {"name": "shop-agent-word-counter"}
    # KEDA counts the replicas; a count in the Deployment would set them back at each upgrade
    assert "replicas" not in named(resources, "Deployment", "shop-agent-word-counter")["spec"]
    assert named(resources, "Deployment", "shop-agent-drafter")["spec"]["replicas"] == 3
    assert [one["metadata"]["name"] for one in resources if one["kind"] == "ScaledObject"] == [
        "shop-agent-word-counter"
    ]


# Topics and users ---------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["mesh.", "shop.eu."])
def test_the_chart_s_topics_and_users_are_those_of_mesh_topics_export(
    prefix: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in {"TOPIC_PREFIX": prefix, "PARTITIONS": "8", "TASK_PARTITIONS": "4", "REPLICAS": "3"}.items():
        monkeypatch.setenv(f"MESH_{name}", value)
    monkeypatch.chdir(tmp_path)
    printed = CliRunner().invoke(mesh, ["topics", "export", "--agent", "drafter", "--agent", "word-counter"])
    assert printed.exit_code == 0, printed.output
    exported = load_all(printed.output)
    assert [found for one in exported if (found := faults(one))] == []
    rendered = render({**FULL, "topicPrefix": prefix, "partitions": 8, "taskPartitions": 4})
    ours = [one for one in rendered if one["kind"] in {"KafkaTopic", "KafkaUser"}]
    for one in ours:
        one["metadata"].pop("annotations", None)

    def by_name(found: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
        return {(one["kind"], one["metadata"]["name"]): one for one in found}

    assert by_name(ours) == by_name(exported)


def test_every_process_has_a_user_of_its_own() -> None:
    resources = render(FULL)
    users = {one["metadata"]["name"] for one in resources if one["kind"] == "KafkaUser"}
    of = {name: variables(pod)["MESH_KAFKA_USERNAME"] for name, pod in of_pods(resources).items()}
    assert of == {
        "shop-router": "mesh-router",
        "shop-notifier": "mesh-notifier",
        "shop-agent-word-counter": "mesh-agent-word-counter",
        "shop-agent-drafter": "mesh-agent-drafter",
        "shop-routes": "mesh-operator",
    }
    assert set(of.values()) <= users
    for name, pod in of_pods(resources).items():
        [user] = [volume["secret"]["secretName"] for volume in pod["volumes"] if volume["name"] == "kafka-user"]
        assert user == of[name]


def test_uninstalling_the_chart_deletes_no_topic() -> None:
    for one in render({}):
        if one["kind"] == "KafkaTopic":
            assert one["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_without_strimzi_a_job_creates_the_topics_before_anything_runs() -> None:
    resources = render(PLAIN)
    assert not [one for one in resources if one["kind"].startswith("Kafka")]
    job = named(resources, "Job", "shop-topics")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert of_pods(resources)["shop-topics"]["containers"][0]["args"] == [
        "topics", "apply", "--agent", "drafter", "--agent", "word-counter",
    ]  # fmt: skip


# An agent that is added ---------------------------------------------------------------------------


def test_an_agent_is_added_by_its_values_alone() -> None:
    def texts(values: dict[str, Any]) -> dict[tuple[str, str], str]:
        return {(one["kind"], one["metadata"]["name"]): json.dumps(one, sort_keys=True) for one in render(values)}

    before, after = texts({}), texts(ADDED)
    assert {place: after[place] for place in before} == before, "what runs already is not restarted"
    assert {place for place in after if place not in before} == {
        ("Deployment", "shop-agent-word-counter"),
        ("ScaledObject", "shop-agent-word-counter"),
        ("KafkaTopic", "mesh.tasks.word-counter"),
        ("KafkaUser", "mesh-agent-word-counter"),
        ("ConfigMap", "shop-routes"),
        ("Job", "shop-routes"),
    }


def test_the_example_project_is_three_lines_on_the_mesh_s_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = (PROJECT / "Dockerfile").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["FROM", "COPY", "CMD"]
    [args] = [agent["args"] for agent in ADDED["agents"].values()]
    assert json.loads(lines[2].removeprefix("CMD ")) == args
    monkeypatch.syspath_prepend(str(PROJECT))
    assert import_module(args[1])
    for name, text in ADDED["routes"].items():
        (tmp_path / name).write_text(text)
    checked = CliRunner().invoke(mesh, ["routes", "check", str(tmp_path)])
    assert checked.exit_code == 0, checked.output


def test_the_notes_name_commands_that_exist() -> None:
    said = notes({})
    assert "shop-router-0" in said
    found = re.findall(r"(?:-- |: |, )mesh ([a-z]+)", said)
    assert len(found) > 3
    assert set(found) <= set(COMMANDS)

"""The Helm chart, rendered and checked without a cluster."""

import json
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any, Final

import helm_python
import jsonschema
import kubernetes_validate
import yaml

ROOT: Final = Path(__file__).parents[2]
CHART: Final = ROOT / "infra" / "helm" / "mesh"
KUBERNETES: Final = "1.34"
"""The version whose schemas the resources are held to."""
OTHERS: Final = {
    ("kafka.strimzi.io/v1", "KafkaTopic"): "kafkatopic",
    ("kafka.strimzi.io/v1", "KafkaUser"): "kafkauser",
    ("keda.sh/v1alpha1", "ScaledObject"): "scaledobject",
}


def render(values: dict[str, Any], chart: Path = CHART) -> list[dict[str, Any]]:
    """Every resource that the chart makes of these values.

    Raises `HelmError` where Helm would stop.
    """
    return deepcopy(_rendered(json.dumps(values), chart))


def load_all(text: str) -> list[Any]:
    """The documents of a YAML text. A rendered chart is long, so they are read in C."""
    return list(yaml.load_all(text, yaml.CSafeLoader))


def load(path: Path) -> Any:
    return yaml.load(path.read_text(), yaml.CSafeLoader)


@cache
def _rendered(values: str, chart: Path) -> list[dict[str, Any]]:
    with helm_python.Chart.load(chart) as loaded:
        files = loaded.render(json.loads(values), name="shop", namespace="shop")
    texts = [text for name, text in files.items() if name.endswith(".yaml")]
    return [document for text in texts for document in load_all(text) if document is not None]


def notes(values: dict[str, Any]) -> str:
    with helm_python.Chart.load(CHART) as loaded:
        files = loaded.render(values, name="shop", namespace="shop")
    return next(text for name, text in files.items() if name.endswith("NOTES.txt"))


def faults(resource: dict[str, Any]) -> list[str]:
    """What Kubernetes, Strimzi or KEDA would refuse, and every key that they would ignore."""
    name = OTHERS.get((resource["apiVersion"], resource["kind"]))
    if name is not None:
        return [f"{error.json_path}: {error.message}" for error in _validator(name).iter_errors(resource)]
    try:
        kubernetes_validate.validate(resource, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{'.'.join(str(part) for part in error.path)}: {error.message}"]
    return []


@cache
def _validator(name: str) -> Any:
    schema = json.loads((ROOT / "infra" / "helm" / "schemas" / f"{name}.json").read_text())
    return jsonschema.validators.validator_for(schema)(schema)


def named(resources: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    """The only resource of this kind and name."""
    [found] = [one for one in resources if one["kind"] == kind and one["metadata"]["name"] == name]
    return found

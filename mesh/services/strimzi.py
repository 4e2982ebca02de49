"""Topics and users as Strimzi's operators take them: `KafkaTopic` and `KafkaUser`.

Owns their form (`kafka.strimzi.io/v1`), and no content: topics come from `topic_plan`, rights from
`topic_acls`. Nothing is sent anywhere. `mesh topics export` and `mesh topics acls` print them, and
`topics/generate.py` writes them for the Helm chart, with placeholders.
"""

import re
from collections.abc import Iterable, Sequence
from io import StringIO
from typing import Any, Final

from ruamel.yaml import YAML

from mesh.ports import TopicSpec
from mesh.services.topic_acls import Acl, Grant

API_VERSION: Final = "kafka.strimzi.io/v1"


def as_yaml(resources: Iterable[dict[str, Any]]) -> str:
    """YAML documents, one for each resource, without an end of line."""
    out, yaml = StringIO(), YAML()
    yaml.explicit_start = True
    yaml.width = 10_000
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.dump_all(resources, out)
    return out.getvalue().rstrip("\n")


def kafka_topics(specs: Sequence[TopicSpec], *, cluster: str) -> list[dict[str, Any]]:
    """A `KafkaTopic` for each topic. `cluster`: the name of the `Kafka` resource."""
    return [
        {
            "apiVersion": API_VERSION,
            "kind": "KafkaTopic",
            "metadata": _metadata(spec.name, cluster),
            "spec": {
                "topicName": spec.name,
                "partitions": spec.partitions,
                "replicas": spec.replicas,
                "config": dict(spec.config),
            },
        }
        for spec in specs
    ]


def kafka_users(found: Sequence[Grant], *, cluster: str) -> list[dict[str, Any]]:
    """A `KafkaUser` for each principal, with its rights and a password that Strimzi makes."""
    return [
        {
            "apiVersion": API_VERSION,
            "kind": "KafkaUser",
            "metadata": _metadata(grant.principal.partition(":")[2], cluster),
            "spec": {
                "authentication": {"type": "scram-sha-512"},
                "authorization": {"type": "simple", "acls": acls(grant.acls)},
            },
        }
        for grant in found
    ]


def acls(rights: Sequence[Acl]) -> list[dict[str, Any]]:
    """Rights as the `acls` of a `KafkaUser`."""
    return [
        {
            "resource": _resource(acl),
            "operations": list(acl.operations),
            "host": "*",
        }
        for acl in rights
    ]


def _resource(acl: Acl) -> dict[str, str]:
    """The resource of a right. The cluster has no name there."""
    if acl.resource == "cluster":
        return {"type": "cluster"}
    pattern = "prefix" if acl.pattern == "prefixed" else "literal"
    return {"type": acl.resource, "name": acl.name, "patternType": pattern}


def _metadata(name: str, cluster: str) -> dict[str, Any]:
    return {"name": resource_name(name), "labels": {"strimzi.io/cluster": cluster}}


def resource_name(name: str) -> str:
    """The name as Kubernetes allows it: lower case, digits, dots and dashes."""
    return re.sub(r"[^a-z0-9.-]+", "-", name.lower()).strip("-.")

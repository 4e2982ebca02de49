"""Writes schemas, `asyncapi.yaml` and the Helm chart's contracts from `topics.yaml` and the code.

    python -m topics.generate

Owns what can be derived. People write `topics.yaml`, and the schemas of tasks, results and agent
cards. (These are a contract with other languages, older than any of our releases, and must not
change because a class did.) A test compares what is committed with what this would write.
"""

import json
import sys
from io import StringIO
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML

from mesh.core.topics import Topics
from mesh.services import strimzi
from mesh.services.topic_acls import grants
from mesh.services.topic_plan import contracts
from topics.asyncapi import asyncapi
from topics.message_schemas import schemas

FOLDER: Final = Path(__file__).parent
CHART: Final = FOLDER.parent / "infra" / "helm" / "mesh"


def as_json(document: Any) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def as_yaml(document: Any) -> str:
    yaml = YAML()
    yaml.width = 140
    yaml.representer.ignore_aliases = lambda *_: True
    out = StringIO()
    out.write("# Written by `python -m topics.generate` from topics.yaml. Do not edit.\n")
    yaml.dump(document, out)
    return out.getvalue()


def chart_contracts() -> Any:
    """Topics and rights for the chart's templates, which fill in `{prefix}` and `{agent}`."""
    topics = [
        {
            "name": "{prefix}" + contract.name + (".{agent}" if contract.per_agent else ""),
            "partitions": contract.partitions,
            "perAgent": contract.per_agent,
            "config": contract.config,
        }
        for contract in contracts()
    ]
    users = [
        {"role": grant.role, "acls": strimzi.acls(grant.acls)} for grant in grants(Topics("{prefix}"), ["{agent}"])
    ]
    return {"topics": topics, "users": users}


def files() -> dict[Path, str]:
    """Every derived file and what it should hold."""
    texts = {FOLDER / "schemas" / f"{name}.json": as_json(schema) for name, schema in schemas().items()}
    return {
        **texts,
        FOLDER / "asyncapi.yaml": as_yaml(asyncapi()),
        CHART / "files" / "contracts.json": as_json(chart_contracts()),
    }


def main() -> None:
    for path, text in files().items():
        path.write_text(text, encoding="utf-8")
        sys.stdout.write(f"{path.relative_to(FOLDER.parent)}\n")


if __name__ == "__main__":
    main()

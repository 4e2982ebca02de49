"""The rights that each part of a mesh needs on a Kafka cluster with ACLs, and no others.

Owns the way from `topics/topics.yaml` to ACLs, and the commands of Kafka's own tool for them. It
asks no broker and grants nothing: the people who run the cluster do. `mesh topics acls` prints
them.

A part that writes a topic gets Write, a part that reads it gets Read; Kafka takes either for
Describe. A group is read by its members. The file does not have an operator's looks at everything
(`mesh status` and the console compare groups with ends, `mesh topics` creates topics and reads
their settings, `mesh doctor` reads those of the brokers).
"""

import re
from collections.abc import Mapping, Sequence
from shlex import quote
from typing import Final, Literal

import msgspec

from mesh.core.topics import Topics
from mesh.errors import OperatorError
from mesh.services.topic_plan import Application, Contract, contracts

Kind = Literal["topic", "group", "cluster"]
Resource = tuple[Kind, str, Literal["literal", "prefixed"]]
Operation = Literal["Read", "Write", "Describe", "Create", "DescribeConfigs"]

ROLES: Final[tuple[Application, ...]] = (
    "router",
    "agent",
    "upstream",
    "approver",
    "notifier",
    "console",
    "people",
    "operator",
)
_ORDER: Final[tuple[Operation, ...]] = ("Read", "Write", "Describe", "Create", "DescribeConfigs")
_LOOKS: Final[tuple[Operation, ...]] = ("Describe", "Create", "DescribeConfigs")
# Kafka has one cluster resource, of this name; by it go the brokers' own settings
_CLUSTER: Final[Resource] = ("cluster", "kafka-cluster", "literal")


class Acl(msgspec.Struct, frozen=True, kw_only=True):
    """What may be done with one topic or group, all whose names begin so, or the cluster."""

    resource: Kind
    name: str
    pattern: Literal["literal", "prefixed"]
    operations: tuple[Operation, ...]


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """All rights of one principal. `agent`: whose process it is, of the role `agent`."""

    role: Application
    agent: str | None
    principal: str
    acls: tuple[Acl, ...]


def grants(topics: Topics, agents: Sequence[str], principals: Mapping[str, str] | None = None) -> list[Grant]:
    """The rights of the router, of each agent, of upstream, and of people and their tools.

    `people`: who say who may approve, and are not those who deploy routes.

    `principals`: by role, and `agent.NAME` of one agent. Those that are not in it are
    `User:mesh-ROLE` and `User:mesh-agent-NAME`.
    """
    given = dict(principals or {})
    known = {*(role for role in ROLES if role != "agent"), *(f"agent.{name}" for name in agents)}
    for holder in given:
        if holder not in known:
            raise OperatorError(f"{holder!r} has no rights of its own; there are {', '.join(sorted(known))}")
    found = []
    for role in ROLES:
        for agent in sorted(agents) if role == "agent" else [None]:
            holder = role if agent is None else f"agent.{agent}"
            principal = given.get(holder, f"User:mesh-{holder.replace('.', '-', 1)}")
            if not re.fullmatch(r"[A-Za-z]+:\S.*", principal):
                raise OperatorError(f"{principal!r} is not a Kafka principal: write TYPE:NAME, e.g. User:mesh-router")
            found.append(Grant(role=role, agent=agent, principal=principal, acls=_acls(topics, role, agent)))
    return found


def _acls(topics: Topics, role: Application, agent: str | None) -> tuple[Acl, ...]:
    """Each right once, sorted by resource and name."""
    found: dict[Resource, set[Operation]] = {}
    for contract in contracts():
        at = _topic(topics, contract, agent)
        if role in contract.writers:
            found.setdefault(at, set()).add("Write")
        if role in contract.readers:
            found.setdefault(at, set()).add("Read")
            if (group := _group(topics, contract.group, role, agent)) is not None:
                found.setdefault(("group", group, "literal"), set()).add("Read")
    if role in {"operator", "console"}:
        # both say what is unread; operators create topics too
        for at in _everything(topics):
            looks = _LOOKS if role == "operator" and at[0] == "topic" else ("Describe",)
            found.setdefault(at, set()).update(looks)
    if role == "operator":
        found[_CLUSTER] = {"DescribeConfigs"}
    return tuple(
        Acl(resource=resource, name=name, pattern=pattern, operations=tuple(o for o in _ORDER if o in operations))
        for (resource, name, pattern), operations in found.items()
    )


def _topic(topics: Topics, contract: Contract, agent: str | None) -> Resource:
    """The topic as a resource.

    Of the task topics an agent has its own. A part that deals with all agents also has those of
    agents that do not exist yet.
    """
    if not contract.per_agent:
        return "topic", topics.prefix + contract.name, "literal"
    return ("topic", topics.tasks(""), "prefixed") if agent is None else ("topic", topics.tasks(agent), "literal")


def _group(topics: Topics, group: str | None, role: Application, agent: str | None) -> str | None:
    """The consumer group in which this role reads, if it is the one that the group is of."""
    if agent is not None and group == "agent":
        return topics.agent_group(agent)
    names = {
        ("router", "ingress"): topics.ingress_group,
        ("router", "router"): topics.router_group,
        ("notifier", "notifier"): topics.notifier_group,
    }
    return names.get((role, group or ""))


def _everything(topics: Topics) -> list[Resource]:
    """All topics and groups of the mesh. A mesh without a prefix has its names one by one."""
    if topics.prefix:
        return [("topic", topics.prefix, "prefixed"), ("group", topics.prefix, "prefixed")]
    found = [_topic(topics, contract, None) for contract in contracts()]
    found += [("group", name, "literal") for name in (topics.ingress_group, topics.router_group, topics.notifier_group)]
    return [*found, ("group", topics.agent_group(""), "prefixed")]


# The forms ----------------------------------------------------------------------------------------


def as_commands(found: Sequence[Grant]) -> str:
    """A shell script for Kafka's own tool."""
    lines = [
        "# Rights of a mesh, least privilege. Set BOOTSTRAP to host:port, and ADMIN to a client configuration that may alter ACLs.",
    ]
    for grant in found:
        lines += ["", f"# {grant.role}{f' {grant.agent}' if grant.agent else ''}"]
        for acl in grant.acls:
            operations = " ".join(f"--operation {operation}" for operation in acl.operations)
            pattern = " --resource-pattern-type prefixed" if acl.pattern == "prefixed" else ""
            resource = "--cluster" if acl.resource == "cluster" else f"--{acl.resource} {quote(acl.name)}"
            lines.append(
                'kafka-acls.sh --bootstrap-server "$BOOTSTRAP" --command-config "$ADMIN" --add --allow-principal '
                f"{quote(grant.principal)} {operations} {resource}{pattern}"
            )
    return "\n".join(lines)

"""The rights of each part are those of the topics' contracts, and no others."""

import pytest
from ruamel.yaml import YAML

from mesh.core.topics import Topics
from mesh.errors import OperatorError
from mesh.services.strimzi import as_yaml, kafka_users
from mesh.services.topic_acls import Grant, as_commands, grants
from mesh.services.topic_plan import contracts

TOPICS = Topics("shop.")
AGENTS = ["classifier", "drafter"]


def by_holder(found: list[Grant]) -> dict[str, Grant]:
    return {one.role if one.agent is None else f"{one.role}.{one.agent}": one for one in found}


def may(grant: Grant, operation: str) -> set[str]:
    """What a principal may do this to; the names that others begin with end in an asterisk."""
    return {
        f"{acl.resource} {acl.name}{'*' if acl.pattern == 'prefixed' else ''}"
        for acl in grant.acls
        if operation in acl.operations
    }


def test_writers_write_and_readers_read_and_members_read_their_group() -> None:
    found = by_holder(grants(TOPICS, AGENTS))
    assert list(found) == [
        "router",
        "agent.classifier",
        "agent.drafter",
        "upstream",
        "approver",
        "notifier",
        "console",
        "people",
        "operator",
    ]
    for contract in contracts():
        if contract.per_agent:
            continue
        topic = f"topic {TOPICS.prefix}{contract.name}"
        for holder, grant in found.items():
            role = holder.partition(".")[0]
            assert (topic in may(grant, "Write")) == (role in contract.writers), (holder, topic)
            assert (topic in may(grant, "Read")) == (role in contract.readers), (holder, topic)
    assert may(found["router"], "Read") >= {"group shop.router", "group shop.ingress"}
    assert "topic shop.tasks.*" in may(found["router"], "Write")


def test_an_agent_reaches_its_own_tasks_and_group_alone() -> None:
    one = by_holder(grants(TOPICS, AGENTS))["agent.drafter"]
    for_all = {f"topic {TOPICS.prefix}{c.name}" for c in contracts() if "agent" in c.readers and not c.per_agent}
    assert may(one, "Read") - for_all == {"topic shop.tasks.drafter", "group shop.agent.drafter"}
    assert may(one, "Write") == {"topic shop.results", "topic shop.agents", "topic shop.dlq"}
    assert may(one, "Describe") == may(one, "Create") == set()


def test_the_notifier_needs_the_approvals_topics_alone() -> None:
    notifier = by_holder(grants(TOPICS, AGENTS))["notifier"]
    topics = {f"topic shop.approvals.{name}" for name in ("open", "people", "delegations", "receipts", "notices")}
    assert may(notifier, "Read") == topics | {"group shop.notifier"}
    assert may(notifier, "Write") == {"topic shop.approvals.notices"}


def test_the_console_writes_what_people_answer_and_operators_order_and_grants_nothing() -> None:
    names = ("approvals.responses", "commands", "operations", "dlq", "events")
    may_write = may(by_holder(grants(TOPICS, AGENTS))["console"], "Write")
    assert may_write == {f"topic shop.{name}" for name in names}


def test_only_the_operator_and_the_console_look_at_everything_and_one_creates_topics() -> None:
    found = by_holder(grants(TOPICS, AGENTS))
    assert may(found["operator"], "Create") == {"topic shop.*"}
    assert may(found["operator"], "DescribeConfigs") == {"topic shop.*", "cluster kafka-cluster"}
    assert may(found["operator"], "Describe") == {"topic shop.*", "group shop.*"}
    assert may(found["console"], "Describe") == may(found["operator"], "Describe")
    assert not may(found["console"], "Create") | may(found["console"], "DescribeConfigs")
    for holder in found.keys() - {"operator", "console"}:
        assert not may(found[holder], "Create") | may(found[holder], "Describe"), holder
    assert [holder for holder, one in found.items() if any(acl.resource == "cluster" for acl in one.acls)] == [
        "operator"
    ]


def test_a_mesh_without_a_prefix_gives_no_right_to_what_is_not_its_own() -> None:
    for grant in grants(Topics(""), AGENTS):
        assert all(acl.name for acl in grant.acls)
        for acl in grant.acls:
            assert acl.pattern == "literal" or acl.name in {"tasks.", "agent."}


def test_principals_are_those_of_the_cluster() -> None:
    said = {"router": "User:CN=router,O=shop", "agent.drafter": "User:drafts"}
    found = by_holder(grants(TOPICS, AGENTS, said))
    assert found["router"].principal == "User:CN=router,O=shop"
    assert found["agent.drafter"].principal == "User:drafts"
    assert found["agent.classifier"].principal == "User:mesh-agent-classifier"
    with pytest.raises(OperatorError, match=r"'agent.nobody' has no rights of its own; there are agent.classifier, "):
        grants(TOPICS, AGENTS, {"agent.nobody": "User:x"})
    with pytest.raises(OperatorError, match="write TYPE:NAME"):
        grants(TOPICS, AGENTS, {"router": "router"})


def test_commands_are_a_shell_script_for_kafkas_own_tool() -> None:
    lines = as_commands(grants(TOPICS, ["drafter"], {"agent.drafter": "User:O'Neill"})).splitlines()
    commands = [line for line in lines if line.startswith("kafka-acls.sh ")]
    rights = sum(len(grant.acls) for grant in grants(TOPICS, ["drafter"]))
    assert len(commands) == rights
    assert all(line.startswith(("#", "kafka-acls.sh ")) or not line for line in lines)
    assert (
        'kafka-acls.sh --bootstrap-server "$BOOTSTRAP" --command-config "$ADMIN" --add --allow-principal User:mesh-router '
        "--operation Write --topic shop.tasks. --resource-pattern-type prefixed"
    ) in commands
    assert any(
        """--allow-principal 'User:O'"'"'Neill' --operation Read --group shop.agent.drafter""" in c for c in commands
    )


def test_the_right_to_read_the_brokers_settings_is_one_on_the_cluster_that_has_no_name() -> None:
    found = grants(TOPICS, [])
    said = "--allow-principal User:mesh-operator --operation DescribeConfigs --cluster"
    assert [line.endswith(said) for line in as_commands(found).splitlines() if "--cluster" in line] == [True]
    acls = list(kafka_users(found, cluster="big"))[-1]["spec"]["authorization"]["acls"]
    assert acls[-1] == {"resource": {"type": "cluster"}, "operations": ["DescribeConfigs"], "host": "*"}


def test_strimzi_gets_a_user_for_each_principal() -> None:
    users = list(YAML(typ="safe").load_all(as_yaml(kafka_users(grants(TOPICS, AGENTS), cluster="big"))))
    assert [user["metadata"]["name"] for user in users] == [
        "mesh-router",
        "mesh-agent-classifier",
        "mesh-agent-drafter",
        "mesh-upstream",
        "mesh-approver",
        "mesh-notifier",
        "mesh-console",
        "mesh-people",
        "mesh-operator",
    ]
    assert {user["metadata"]["labels"]["strimzi.io/cluster"] for user in users} == {"big"}
    upstream = users[3]["spec"]["authorization"]
    assert upstream == {
        "type": "simple",
        "acls": [
            {
                "resource": {"type": "topic", "name": "shop.events", "patternType": "literal"},
                "operations": ["Write"],
                "host": "*",
            },
            {
                "resource": {"type": "topic", "name": "shop.outcomes", "patternType": "literal"},
                "operations": ["Read"],
                "host": "*",
            },
        ],
    }

"""A cluster with TLS, SASL and an authoriser.

Each part of a mesh works with its own rights and no others. What the cluster refuses is one line.
"""

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import TopicAuthorizationFailedError
from fixtures_kafka import start_kafka
from kafka_acls import grant
from mesh_processes import MeshProcesses, mesh_processes

from infra.kafka.kafka import Access, KafkaProcess
from mesh.adapters.kafka import KafkaBroker
from mesh.adapters.kafka.security import Secret, Security, TokenFile
from mesh.errors import BrokerError, BrokerRefused
from mesh.ports import Delivery, OutRecord, TopicPartition, TopicSpec
from mesh.services.topic_acls import ROLES
from mesh.services.topic_plan import contracts

pytestmark = pytest.mark.kafka

AGENTS = ("one", "two")
HOLDERS = (*(role for role in ROLES if role != "agent"), *(f"agent.{name}" for name in AGENTS))
NOBODY = "nobody"  # known to the cluster, and without any right
ANA = "ana@example.org"
ROUTE = """\
route: letter
on: {type: com.example.letter}
key: ${{ event.subject }}
steps:
  first: {agent: one, input: "${{ event.data }}"}
  second: {needs: first, agent: two, input: {text: "${{ steps.first.text }}", to: it}}
  look:
    needs: second
    approval: {ask: Send it?, payload: "${{ steps.second }}", role: editor, deadline: 1h, on_expiry: reject}
output: {text: "${{ steps.look.payload.text }}"}
"""


def user_of(holder: str) -> str:
    return f"mesh-{holder.replace('.', '-')}"


def password_of(user: str) -> str:
    return f"{user}-s3cret"


class SecureCluster:
    """A broker with an authoriser, and how each user comes to it."""

    def __init__(self, process: KafkaProcess, access: Access) -> None:
        self.process, self.access = process, access

    def env(self, user: str, *, protocol: str = "SASL_SSL") -> dict[str, Any]:
        """What a process of this user is started with; the password is in a file."""
        secret = self.access.folder / f"{user}.password"
        secret.write_text(password_of(user) + "\n")
        return {
            "MESH_BROKER": f"kafka://{self.access.bootstrap(protocol)}",
            "MESH_KAFKA_SECURITY_PROTOCOL": protocol,
            "MESH_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
            "MESH_KAFKA_USERNAME": user,
            "MESH_KAFKA_PASSWORD_FILE": str(secret),
            "MESH_KAFKA_CA_FILE": str(self.access.folder / "ca.pem"),
        }

    def security(self, user: str, **other: Any) -> Security:
        said = {
            "protocol": "SASL_SSL",
            "mechanism": "SCRAM-SHA-512",
            "username": user,
            "password": Secret(password_of(user)),
            "ca_file": self.access.folder / "ca.pem",
        }
        return Security(**{**said, **other})

    async def open(self, security: Security) -> KafkaBroker:
        return await KafkaBroker.open(
            self.access.bootstrap(security.protocol), client_id="test", open_timeout_s=60.0, security=security
        )


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureCluster]:
    folder = tmp_path_factory.mktemp("secure-kafka")
    users = [NOBODY, *(user_of(holder) for holder in HOLDERS)]
    access = Access(folder / "tls", {user: password_of(user) for user in users})
    process = start_kafka(KafkaProcess(folder / "kafka", access=access, is_brief=True))
    yield SecureCluster(process, access)
    process.stop()


@pytest.fixture
def secure_mesh(cluster: SecureCluster, kafka_prefix: str, tmp_path: Path) -> Iterator[MeshProcesses]:
    """Its own address is that of super users; each process is given its user's."""
    with mesh_processes(f"kafka://{cluster.process.bootstrap}", tmp_path, prefix=kafka_prefix) as processes:
        processes.routes.joinpath("letter.yaml").write_text(ROUTE)
        processes.approvers.write_text(f"editor: [{ANA}]\n")
        yield processes


async def granted(cluster: SecureCluster, mesh: MeshProcesses) -> list[dict[str, Any]]:
    """Give the rights that `mesh topics acls` prints, and have the operator make the topics."""
    principals = [f"--principal={holder}=User:{user_of(holder)}" for holder in HOLDERS]
    printed = (await mesh.cli("topics", "acls", "--format", "json", *principals)).json["grants"]
    assert {one["principal"] for one in printed} == {f"User:{user_of(holder)}" for holder in HOLDERS}
    assert grant(cluster.process.bootstrap, printed)

    async def is_applied() -> bool:
        return (await mesh.cli("topics", "apply", code=None, **cluster.env(user_of("operator")))).code == 0

    # the broker goes by new rights a moment after it has taken them
    await mesh.wait_until("that the operator's rights hold", is_applied)
    return list(printed)


async def test_a_job_passes_with_the_rights_that_are_printed_and_no_others(
    cluster: SecureCluster, secure_mesh: MeshProcesses
) -> None:
    mesh = secure_mesh
    await granted(cluster, mesh)
    upstream, approver, operator = (cluster.env(user_of(one)) for one in ("upstream", "approver", "operator"))
    mesh.router(**cluster.env(user_of("router")))
    people = cluster.env(user_of("people"))
    applied = await mesh.cli("people", "apply", str(mesh.approvers), "--yes", "--by", "eva", "--json", **people)
    assert not applied.json["unchanged"]
    for name in AGENTS:
        mesh.agent("translating_agent", name=name, TRANSLATOR=name, **cluster.env(user_of(f"agent.{name}")))
    event = (
        "--type",
        "com.example.letter",
        "--source",
        "/t",
        "--subject",
        "a",
        "--data",
        '{"text": "ciao", "to": "en"}',
    )

    async def asked() -> str | None:
        ran = await mesh.cli("approvals", "--json", code=None, **approver)
        found = ran.json["approvals"] if ran.code == 0 else []
        return found[0]["approval_id"] if found else None

    await mesh.cli("publish", *event, **upstream)
    approval_id = await mesh.wait_until("the question", asked)
    # the approvals topics alone are the approver's to read
    assert (await mesh.cli("workflows", code=None, **approver)).code != 0
    one = (await mesh.cli("approvals", "show", approval_id, "--json", **approver)).json
    assert (one["role"], one["closed_at"]) == ("editor", None)
    receipt = (await mesh.cli("approve", approval_id, "--by", ANA, "--json", **approver)).json
    assert (receipt["status"], receipt["verdict"]) == ("accepted", "approved")
    ended = (await mesh.cli("approvals", "show", approval_id, "--json", **approver)).json
    assert (ended["verdict"], ended["closed_by"]) == ("approved", ANA)
    again = await mesh.cli("reject", approval_id, "--by", ANA, "--reason", "no", code=1, **approver)
    assert "is closed: approved" in again.err
    assert (await mesh.cli("approvals", "--json", **approver)).json["total"] == 0
    outcomes = await mesh.wait_outcomes(1)
    assert outcomes["letter:a"].output == {"text": "ciao (en) (it)"}
    status = (await mesh.cli("status", "--json", **operator)).json
    assert {one["name"]: one["alive"] for one in status["agents"]} == dict.fromkeys(AGENTS, 1)
    await mesh.cli("topics", "plan", **operator)
    assert (await mesh.cli("log", "verify", "--json", **operator)).json["workflows"]
    for process in mesh.processes:
        assert process.stop() == 0, process.text()
        assert "Traceback" not in process.text()


FORGERIES = [
    ("agent.one", "approvals.responses", "an answer"),
    ("agent.one", "commands", "a command"),
    ("agent.one", "definitions", "a route"),
    ("agent.one", "log", "a record of the log"),
    ("agent.one", "tasks.two", "another agent's task"),
    ("upstream", "results", "a result"),
    ("approver", "commands", "a command"),
    ("approver", "approvals.open", "an approval"),
    ("operator", "approvals.people", "a role"),
    ("people", "definitions", "a route"),
]


async def test_what_somebody_has_no_right_to_is_refused_by_the_broker_and_told(
    cluster: SecureCluster, secure_mesh: MeshProcesses
) -> None:
    await granted(cluster, secure_mesh)
    for holder, topic, what in FORGERIES:
        name, security = secure_mesh.prefix + topic, cluster.security(user_of(holder))
        producer = AIOKafkaProducer(
            bootstrap_servers=cluster.access.bootstrap("SASL_SSL"), enable_idempotence=True, **security.client_options()
        )
        await producer.start()
        try:
            with pytest.raises(TopicAuthorizationFailedError):
                await producer.send_and_wait(name, b"{}", key=b"x")
        finally:
            await producer.stop()
        broker = await cluster.open(security)
        try:
            [failure] = await broker.send([OutRecord(name, b"x", b"{}")])
        finally:
            await broker.close()
        assert failure.code in {Delivery.REFUSED, Delivery.TOPIC_MISSING}, what
        assert name in failure.message
        assert f"User:{user_of(holder)}" in failure.message
        assert "mesh topics acls" in failure.message
        assert password_of(user_of(holder)) not in failure.message


async def test_a_right_that_is_read_alone_does_not_write(cluster: SecureCluster, secure_mesh: MeshProcesses) -> None:
    """The topic can be seen here, and the word comes from the produce request."""
    await granted(cluster, secure_mesh)
    readable = secure_mesh.topics.receipts
    broker = await cluster.open(cluster.security(user_of("approver")))
    try:
        [failure] = await broker.send([OutRecord(readable, b"x", b"{}")])
        with pytest.raises(BrokerRefused, match=r"User:mesh-approver to write to the topic .*receipts"):
            await broker.append(TopicPartition(readable, 0), None, [OutRecord("", None, b"{}")], ())
    finally:
        await broker.close()
    assert failure.code is Delivery.REFUSED
    assert f"does not allow User:mesh-approver to write to the topic {readable}" in failure.message


async def test_doctor_names_each_topic_that_it_may_not_read_and_no_other(
    cluster: SecureCluster, secure_mesh: MeshProcesses
) -> None:
    await granted(cluster, secure_mesh)

    async def findings(holder: str) -> dict[str, Any]:
        doctor = await secure_mesh.cli("doctor", "--json", "--timeout", "60", code=None, **cluster.env(user_of(holder)))
        return {one["check"]: one["findings"] for one in doctor.json["checks"]}

    # it sees them, since it writes to them
    written = [
        secure_mesh.prefix + one.name
        for one in contracts()
        if "operator" in one.readers and "router" in one.writers and "router" not in one.readers
    ]

    # the broker goes by new rights a moment after it has taken them
    async def are_named() -> bool:
        rights = (await findings("router"))["rights"]
        return [one["what"] for one in rights] == [f"we may not read {', '.join(sorted(written))}"]

    async def of_operator() -> dict[str, Any] | None:
        found = await findings("operator")
        return found if found["rights"] == [] else None

    await secure_mesh.wait_until("that the router's doctor names the topics that it may not read", are_named)
    found = await secure_mesh.wait_until("that the operator's doctor misses no right", of_operator)
    assert not [one for one in found["broker settings"] if "does not show us" in one["what"]]


async def test_a_part_that_lacks_a_right_ends_with_one_line_that_says_so(
    cluster: SecureCluster, secure_mesh: MeshProcesses
) -> None:
    mesh, topics = secure_mesh, secure_mesh.topics
    await granted(cluster, mesh)
    nobody = cluster.env(NOBODY)
    for command in (["router"], ["agent", "translating_agent"]):
        ran = await mesh.cli(*command, code=4, TRANSLATOR="one", **nobody)
        assert f"User:{NOBODY}" in ran.err
        assert "mesh topics acls" in ran.err
        assert "Traceback" not in ran.err + ran.out.decode()
    # Its topics alone, and not its group: the subscription is what fails.
    everything = [{"resource": "topic", "name": mesh.prefix, "pattern": "prefixed", "operations": ["Read", "Write"]}]
    grant(cluster.process.bootstrap, [{"principal": f"User:{NOBODY}", "acls": everything}])

    async def are_seen() -> bool:
        """The broker goes by new rights a moment after it has taken them."""
        return bool((await mesh.cli("topics", "list", "--json", **nobody)).json["total"])

    await mesh.wait_until("that the topics are seen", are_seen)
    for command, group in ((["router"], topics.prefix), (["agent", "translating_agent"], topics.agent_group("one"))):
        ran = await mesh.cli(*command, code=4, TRANSLATOR="one", **nobody)
        assert "the group" in ran.err + ran.out.decode()
        assert group in ran.err
        assert f"does not allow User:{NOBODY}" in ran.err
        assert "Traceback" not in ran.err + ran.out.decode()


async def test_who_is_not_let_in_is_told_why_at_once(
    cluster: SecureCluster, secure_mesh: MeshProcesses, tmp_path: Path
) -> None:
    user = user_of("operator")
    good = cluster.env(user)
    wrong, empty = tmp_path / "wrong", tmp_path / "empty"
    wrong.write_text("an0ther\n")
    empty.write_text("")
    cases: list[tuple[dict[str, Any], str]] = [
        ({**good, "MESH_KAFKA_PASSWORD_FILE": str(wrong)}, f"does not let User:{user} in with SCRAM-SHA-512"),
        ({**good, "MESH_KAFKA_CA_FILE": ""}, "its certificate is not accepted here"),
        (
            {
                "MESH_BROKER": f"kafka://{cluster.access.bootstrap('SSL')}",
                "MESH_KAFKA_SECURITY_PROTOCOL": "SSL",
                "MESH_KAFKA_CA_FILE": str(cluster.access.folder / "ca.pem"),
            },
            "MESH_KAFKA_CERT_FILE",
        ),
    ]
    for env, said in cases:
        ran = await secure_mesh.cli("status", code=4, **env)
        assert said in ran.err, ran.err
        assert "an0ther" not in ran.err
        assert ran.err.count("\n") == 1
    ran = await secure_mesh.cli("status", code=2, **{**good, "MESH_KAFKA_PASSWORD_FILE": str(empty)})
    assert f"MESH_KAFKA_PASSWORD_FILE: {empty} is empty" in ran.err


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
@pytest.mark.parametrize("protocol", ["SASL_PLAINTEXT", "SASL_SSL"])
async def test_each_mechanism_lets_its_user_in(cluster: SecureCluster, protocol: Any, mechanism: Any) -> None:
    broker = await cluster.open(cluster.security(user_of("operator"), protocol=protocol, mechanism=mechanism))
    await broker.close()


async def test_a_certificate_of_ours_is_a_principal_of_its_own(cluster: SecureCluster, kafka_prefix: str) -> None:
    topic = {"resource": "topic", "name": kafka_prefix, "pattern": "prefixed", "operations": ["Create", "Write"]}
    grant(cluster.process.bootstrap, [{"principal": "User:CN=carla", "acls": [topic]}])
    mutual = Security(
        protocol="SSL",
        ca_file=cluster.access.folder / "ca.pem",
        cert_file=cluster.access.client_certificate("carla"),
    )
    broker = await cluster.open(mutual)
    try:
        with pytest.raises(BrokerError, match="create the topic other"):
            await broker.create_topics([TopicSpec("other", 1)])
        await broker.create_topics([TopicSpec(f"{kafka_prefix}t", 1)])
        assert not await broker.send([OutRecord(f"{kafka_prefix}t", None, b"x")])
    finally:
        await broker.close()


def unsigned(subject: str) -> str:
    """A token as Kafka takes it where no authorisation server is set up."""

    def part(document: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()

    now = int(time.time())
    return f"{part({'alg': 'none'})}.{part({'sub': subject, 'iat': now - 5, 'exp': now + 3600})}."


async def test_a_token_is_read_again_at_each_login(cluster: SecureCluster, tmp_path: Path) -> None:
    file = tmp_path / "token"
    security = Security(protocol="SASL_PLAINTEXT", mechanism="OAUTHBEARER", tokens=TokenFile(file))
    with pytest.raises(BrokerRefused, match=r"the token file .* can't be read"):
        await cluster.open(security)
    file.write_text("rubbish")
    with pytest.raises(BrokerRefused, match="does not let the token's principal in"):
        await cluster.open(security)
    file.write_text(unsigned("dora") + "\n")
    broker = await cluster.open(security)
    await broker.close()

"""Settings come from MESH_ variables and options.

The message about a wrong one names its variable and says how to correct it.
"""

import os
import re
from pathlib import Path
from typing import Any

import pytest

from mesh.adapters.kafka.security import Secret
from mesh.errors import SettingsInvalid
from mesh.settings import (
    BrokerAddress,
    KafkaAddress,
    MemoryAddress,
    Settings,
    SqliteAddress,
    load_settings,
    parse_broker_url,
    read_secret,
)


@pytest.fixture(autouse=True)
def no_mesh_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"MESH_{name.upper()}", raising=False)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("sqlite://.mesh/mesh.db", SqliteAddress(Path(".mesh/mesh.db"))),
        ("sqlite:///var/lib/mesh.db", SqliteAddress(Path("/var/lib/mesh.db"))),
        ("kafka://localhost:9092", KafkaAddress(("localhost:9092",))),
        ("kafka://a,b:9093/", KafkaAddress(("a:9092", "b:9093"))),
        ("KAFKA://[::1]:9094", KafkaAddress(("[::1]:9094",))),
        ("memory://", MemoryAddress()),
    ],
)
def test_a_broker_url_names_its_kind_and_place(url: str, address: BrokerAddress) -> None:
    assert parse_broker_url(url) == address


@pytest.mark.parametrize("url", ["", "mesh.db", "sqlite://", "kafka://", "redis://x", "memory://x", "localhost:9092"])
def test_a_broker_url_of_no_known_form_says_which_forms_there_are(url: str) -> None:
    with pytest.raises(
        SettingsInvalid, match=re.escape("write sqlite://PATH, kafka://HOST:PORT[,HOST:PORT] or memory://")
    ):
        parse_broker_url(url)


@pytest.mark.parametrize(
    "url", ["kafka://a:0", "kafka://a:65536", "kafka://a:b", "kafka://a,,b", "kafka://u@h:1", "kafka://a/b"]
)
def test_a_kafka_address_that_does_not_hold_is_named(url: str) -> None:
    with pytest.raises(SettingsInvalid, match="where HOST or HOST:PORT must be"):
        parse_broker_url(url)


def test_defaults_run_a_mesh_on_one_machine() -> None:
    settings = load_settings()
    assert settings.broker == "sqlite://.mesh/mesh.db"
    assert settings.partitions == 16
    assert settings.topic_prefix == "mesh."
    assert settings.heartbeat_path == Path(".mesh/heartbeat")
    assert re.fullmatch(r"[A-Za-z0-9._-]+-\d+", settings.instance)


def test_variables_are_read_and_options_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESH_BROKER", "kafka://a")
    monkeypatch.setenv("MESH_ROUTES", "one, two/more.yaml")
    monkeypatch.setenv("MESH_LOG_LEVEL", "DEBUG")
    monkeypatch.setenv("MESH_PARTITIONS", "")
    settings = load_settings(broker="kafka://b", instance=None)
    assert settings.broker == "kafka://b"
    assert settings.routes == (Path("one"), Path("two/more.yaml"))
    assert settings.log_level == "debug"
    assert settings.partitions == 16


def test_no_env_file_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("MESH_PARTITIONS=3\n")
    monkeypatch.chdir(tmp_path)
    assert load_settings().partitions == 16


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "MESH_PARTITIONS",
            "many",
            "MESH_PARTITIONS is 'many': it must be a whole number from 1 to 4096; correct it, or unset it",
        ),
        ("MESH_SESSION_TIMEOUT_S", "0", "MESH_SESSION_TIMEOUT_S is '0': it must be a number from 1 to 300"),
        ("MESH_SESSION_TIMEOUT_S", "nan", "MESH_SESSION_TIMEOUT_S is 'nan': it must be a number from 1 to 300"),
        ("MESH_CARD_INTERVAL_S", "0", "MESH_CARD_INTERVAL_S is '0': it must be a number above 0 and up to 3600"),
        ("MESH_DURABILITY", "some", "MESH_DURABILITY is 'some': it must be full or normal"),
        ("MESH_NOTIFIER_INCLUDE_PAYLOAD", "2", "MESH_NOTIFIER_INCLUDE_PAYLOAD is '2': it must be true or false"),
        ("MESH_TOPIC_PREFIX", "mesh.\n", "MESH_TOPIC_PREFIX is 'mesh.\\n': it must be a text of up to 100 characters"),
        (
            "MESH_MAX_RECORD_BYTES",
            "65536",
            "MESH_MAX_RECORD_BYTES is '65536': it must be a whole number from 1000000 to 67108864",
        ),
        (
            "MESH_TOPIC_PREFIX",
            "mesh",
            "MESH_TOPIC_PREFIX is 'mesh': it must be a text of up to 100 characters that matches",
        ),
        ("MESH_BROKER", "nonsense", "the broker 'nonsense' has no known form"),
        ("MESH_PARTITONS", "4", "MESH_PARTITONS is not a setting; did you mean MESH_PARTITIONS?"),
    ],
)
def test_a_variable_that_does_not_hold_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsInvalid) as caught:
        load_settings()
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(("text", "means"), [("yes", True), ("ON", True), ("1", True), ("False", False), ("n", False)])
def test_true_and_false_have_several_words(monkeypatch: pytest.MonkeyPatch, text: str, means: bool) -> None:
    monkeypatch.setenv("MESH_NOTIFIER_INCLUDE_PAYLOAD", text)
    assert load_settings().notifier_include_payload is means


def test_the_message_ends_with_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESH_PARTITIONS", "many")
    with pytest.raises(SettingsInvalid, match=r"correct it, or unset it for the default \(16\)$"):
        load_settings()


def test_every_problem_has_its_own_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESH_PARTITIONS", "0")
    monkeypatch.setenv("MESH_REPLICAS", "x")
    with pytest.raises(SettingsInvalid) as caught:
        load_settings()
    assert [line.split()[0] for line in str(caught.value).splitlines()] == ["MESH_PARTITIONS", "MESH_REPLICAS"]


def test_an_option_that_does_not_hold_is_named_as_one() -> None:
    with pytest.raises(SettingsInvalid, match=r"^option partitions \(or MESH_PARTITIONS\) is 0: "):
        load_settings(partitions=0)
    with pytest.raises(SettingsInvalid, match=r"^colour is not a setting of the mesh"):
        load_settings(colour="red")


def test_variables_of_others_with_our_prefix_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESH_REQUIRE_KAFKA", "1")
    load_settings()


# Kafka's security ---------------------------------------------------------------------------------

SECRET = "s3cret"


def kafka(monkeypatch: pytest.MonkeyPatch, **given: str) -> Settings:
    for name, value in given.items():
        monkeypatch.setenv(f"MESH_KAFKA_{name.upper()}", value)
    return load_settings()


def test_a_password_comes_from_the_environment_or_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(f"{SECRET}\n")
    login = {"security_protocol": "sasl_ssl", "sasl_mechanism": "scram-sha-512", "username": "u"}
    with_file = kafka(monkeypatch, **login, password_file=str(file))
    assert read_secret(with_file, "kafka_password") == SECRET
    monkeypatch.delenv("MESH_KAFKA_PASSWORD_FILE")
    plain = kafka(monkeypatch, **login, password=SECRET)
    assert read_secret(plain, "kafka_password") == SECRET
    assert SECRET not in repr(plain) + str(plain) + repr(Secret(SECRET))
    assert (plain.kafka_security_protocol, plain.kafka_sasl_mechanism) == ("SASL_SSL", "SCRAM-SHA-512")


@pytest.mark.parametrize("content", [None, "", "\n", b"\xff"])
def test_a_password_file_that_does_not_hold_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | bytes | None
) -> None:
    file = tmp_path / "password"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    login = {"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN", "username": "u"}
    with pytest.raises(SettingsInvalid, match=r"MESH_KAFKA_PASSWORD_FILE: .*password (is empty|can't be read)"):
        read_secret(kafka(monkeypatch, **login, password_file=str(file)), "kafka_password")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"security_protocol": "SASL_SSL"}, "needs MESH_KAFKA_SASL_MECHANISM"),
        ({"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN"}, "needs MESH_KAFKA_USERNAME"),
        ({"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN", "username": "u"}, "MESH_KAFKA_PASSWORD_FILE"),
        ({"security_protocol": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER"}, "needs MESH_KAFKA_TOKEN_FILE, or else"),
        ({"security_protocol": "SASL_SSL", "sasl_mechanism": "GSSAPI"}, "MESH_KAFKA_SASL_MECHANISM is 'GSSAPI'"),
        ({"security_protocol": "TLS"}, "MESH_KAFKA_SECURITY_PROTOCOL is 'TLS'"),
        ({"password": SECRET}, "MESH_KAFKA_PASSWORD is set, and has no part in MESH_KAFKA_SECURITY_PROTOCOL=PLAINTEXT"),
        ({"ca_file": "/ca.pem"}, "MESH_KAFKA_CA_FILE is set, and has no part"),
        ({"security_protocol": "SSL", "username": "u"}, "MESH_KAFKA_USERNAME is set, and has no part"),
        ({"security_protocol": "SSL", "key_file": "/k.pem"}, "MESH_KAFKA_KEY_FILE is set without MESH_KAFKA_CERT_FILE"),
        ({"passwort": SECRET}, "MESH_KAFKA_PASSWORT is not a setting; did you mean MESH_KAFKA_PASSWORD?"),
        ({"xyz": SECRET}, "MESH_KAFKA_XYZ is not a setting; did you mean MESH_KAFKA_"),
    ],
)
def test_settings_of_kafka_that_do_not_fit_together_are_told(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], said: str
) -> None:
    with pytest.raises(SettingsInvalid) as caught:
        kafka(monkeypatch, **given)
    assert said in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_password_that_is_there_twice_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsInvalid, match="MESH_KAFKA_PASSWORD and MESH_KAFKA_PASSWORD_FILE are both set"):
        kafka(monkeypatch, password=SECRET, password_file="/p")


@pytest.mark.parametrize("url", [f"kafka://u:{SECRET}@h:1", f"kafka://h:1,u:{SECRET}@h2", f"redis://u:{SECRET}@h"])
def test_a_password_in_an_address_is_not_echoed(url: str) -> None:
    with pytest.raises(SettingsInvalid) as caught:
        parse_broker_url(url)
    assert SECRET not in str(caught.value)


def test_the_brokers_file_survives_a_power_loss_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().durability == "full"
    monkeypatch.setenv("MESH_DURABILITY", "Normal")
    assert load_settings().durability == "normal"
    monkeypatch.setenv("MESH_DURABILITY", "some")
    with pytest.raises(SettingsInvalid, match="MESH_DURABILITY is 'some'"):
        load_settings()


def test_another_thread_may_take_a_variable_away(monkeypatch: pytest.MonkeyPatch) -> None:
    class Environment(dict[str, str]):
        def items(self) -> Any:
            # what `os.environ` raises where a variable is gone between its name and its value
            if self.pop("ELSEWHERE", None):
                raise KeyError("ELSEWHERE")
            return super().items()

    monkeypatch.setattr("os.environ", Environment({"ELSEWHERE": "1", "MESH_PARTITIONS": "7"}))
    assert load_settings().partitions == 7
    assert "ELSEWHERE" not in os.environ

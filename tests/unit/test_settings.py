"""Settings come from MESH_ variables and options; what does not hold names its variable and how to
mend it.
"""

import re
from pathlib import Path

import pytest

from mesh.errors import SettingsInvalid
from mesh.settings import (
    BrokerAddress,
    KafkaAddress,
    MemoryAddress,
    Settings,
    SqliteAddress,
    load_settings,
    parse_broker_url,
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
    with pytest.raises(SettingsInvalid, match="where HOST or HOST:PORT must stand"):
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
            "MESH_PARTITIONS is 'many': input should be a valid integer, unable to parse string as an integer; mend it",
        ),
        ("MESH_SESSION_TIMEOUT_S", "0", "MESH_SESSION_TIMEOUT_S is '0': input should be greater than or equal to 1"),
        (
            "MESH_MAX_RECORD_BYTES",
            "65536",
            "MESH_MAX_RECORD_BYTES is '65536': input should be greater than or equal to 1000000",
        ),
        ("MESH_TOPIC_PREFIX", "mesh", "MESH_TOPIC_PREFIX is 'mesh': string should match pattern"),
        ("MESH_BROKER", "nonsense", "the broker 'nonsense' has no known form"),
        ("MESH_PARTITONS", "4", "MESH_PARTITONS is no setting; did you mean MESH_PARTITIONS?"),
    ],
)
def test_a_variable_that_does_not_hold_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsInvalid) as caught:
        load_settings()
    assert str(caught.value).startswith(message)


def test_the_message_ends_with_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESH_PARTITIONS", "many")
    with pytest.raises(SettingsInvalid, match=r"mend it, or unset it for the default \(16\)$"):
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
    with pytest.raises(SettingsInvalid, match=r"^colour is no setting of the mesh"):
        load_settings(colour="red")


def test_variables_of_others_with_our_prefix_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESH_REQUIRE_KAFKA", "1")
    load_settings()

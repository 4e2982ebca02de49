"""Settings: what an operator may choose.

They come from the environment (`MESH_...`) and from command-line options, which win.

Owns names, units and ranges, and the defaults that nothing else needs; the others are
`mesh.defaults`'. It must not open anything: `mesh.wiring` does, from a `Settings`. It reads no
`.env` file: what a process runs with is what its environment says. `load_settings` is the way in,
since its errors name the variable and how to correct it.
"""

import os
import re
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal
from urllib.parse import urlsplit

import msgspec

from mesh import defaults
from mesh.errors import SettingsInvalid
from mesh.setting_values import Field, Problem, Read, SecretStr, SettingField, ValuesInvalid, fields_of, values_of

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
"""The names of this machine that no other machine can reach."""

PREFIX: Final = "MESH_"
_KAFKA: Final = "kafka_"
_KAFKA_PORT: Final = 9092
_HOST: Final = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[^\s:/\[\]@?#]+)(:(?P<port>\d{1,5}))?")
_MAX_PORT: Final = 65_535
_ADDRESS: Final = r"^(\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]+):\d{1,5}$"
_USER: Final = re.compile(r"(?<=://)[^/]*@")
_READ_AGAIN: Final = 5
_CLOSE: Final = 0.85  # difflib's ratio: a typing error, not merely another name with our prefix


# Brokers ------------------------------------------------------------------------------------------


class SqliteAddress(msgspec.Struct, frozen=True):
    """One file; `path` may be relative to the working directory."""

    path: Path


class KafkaAddress(msgspec.Struct, frozen=True):
    """`bootstrap`: `host:port` of some of the cluster's brokers."""

    bootstrap: tuple[str, ...]


class MemoryAddress(msgspec.Struct, frozen=True):
    """A broker inside this process, for tests and simulation."""


BrokerAddress = SqliteAddress | KafkaAddress | MemoryAddress


def parse_broker_url(url: str) -> BrokerAddress:
    """Parse the URL of a broker.

    It is `sqlite://PATH` (`sqlite:///abs/olute`, `sqlite://rela/tive`),
    `kafka://host:port[,host:port]`, or `memory://`. A Kafka host without port has 9092. Raises
    `SettingsInvalid`.
    """
    scheme, separator, rest = url.strip().partition("://")
    if scheme.lower() == "kafka" and "@" in rest:
        raise SettingsInvalid(
            f"the broker {_USER.sub('***@', url)} has a user where HOST or HOST:PORT must be: set MESH_KAFKA_USERNAME and MESH_KAFKA_PASSWORD_FILE instead"
        )
    if separator and scheme.lower() not in {"sqlite", "kafka", "memory"}:
        url = _USER.sub("***@", url)
    match scheme.lower() if separator else "":
        case "sqlite" if rest:
            return SqliteAddress(Path(rest).expanduser())
        case "kafka" if rest:
            return KafkaAddress(tuple(_host_and_port(part.strip(), url) for part in rest.rstrip("/").split(",")))
        case "memory" if not rest:
            return MemoryAddress()
        case _:
            raise SettingsInvalid(
                f"the broker {url!r} has no known form: write sqlite://PATH, kafka://HOST:PORT[,HOST:PORT] or memory:// "
                "(in MESH_BROKER or with --broker)"
            )


def _host_and_port(text: str, url: str) -> str:
    match = _HOST.fullmatch(text)
    port = int(match["port"] or _KAFKA_PORT) if match else 0
    if match is None or not 0 < port <= _MAX_PORT:
        raise SettingsInvalid(
            f"the broker {url!r} has {text!r} where HOST or HOST:PORT must be, e.g. kafka://localhost:9092"
        )
    return f"{match['host']}:{port}"


# Settings -----------------------------------------------------------------------------------------


def _split(value: object) -> object:
    """`routes,more/routes` as one variable."""
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


def _instance() -> str:
    return f"{socket.gethostname()}-{os.getpid()}"


Paths = Annotated[tuple[Path, ...], Read(_split)]
LogLevel = Annotated[Literal["debug", "info", "warning", "error"], Read(_lower)]
LogFormat = Annotated[Literal["auto", "console", "json"], Read(_lower)]
MetricsExporter = Annotated[Literal["off", "otlp", "prometheus"], Read(_lower)]
OidcClaim = Annotated[Literal["email", "sub"], Read(_lower)]
TraceExporter = Annotated[Literal["off", "console", "otlp"], Read(_lower)]
SecurityProtocol = Annotated[Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"], Read(_upper)]
SaslMechanism = Annotated[Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"], Read(_upper)]
Answers = Annotated[Literal["unsigned", "signed"], Read(_lower)]
SmtpSecurity = Annotated[Literal["starttls", "tls", "none"], Read(_lower)]
Durability = Annotated[Literal["full", "normal"], Read(_lower)]
TopicPrefix = Annotated[str, SettingField(pattern=r"^([A-Za-z0-9_-]+\.)*$", max_length=100)]


class Settings:
    """All settings of one process.

    Each field's variable is `MESH_` and its name in capitals; an empty one counts as not set. Units
    are in the names. Named arguments win over variables. `model_fields` has what each may be,
    `model_fields_set` which were given.
    """

    model_fields: ClassVar[dict[str, SettingField]]
    model_fields_set: frozenset[str]

    def __init__(self, **given: Any) -> None:
        known = {**_from_environment(os.environ), **given}
        vars(self).update(values_of(self.model_fields, known), model_fields_set=frozenset(known))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name}: settings do not change")

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{name}={getattr(self, name)!r}' for name in self.model_fields)})"

    broker: str = "sqlite://.mesh/mesh.db"
    """Where everything is kept: `sqlite://PATH`, or `kafka://HOST:PORT[,HOST:PORT]`."""
    topic_prefix: TopicPrefix = defaults.TOPIC_PREFIX
    """Comes before the name of every topic and group.

    Words that end in dots, so that several meshes can share a cluster.
    """
    partitions: int = Field(defaults.PARTITIONS, ge=1, le=4096)
    """Partitions of inbox, results and log.

    Recorded in the log at the first start and fixed from then on.
    """
    task_partitions: int = Field(defaults.TASK_PARTITIONS, ge=1, le=4096)
    """Partitions of each agent's task topic: how many replicas of an agent can share its work."""
    replicas: int = Field(defaults.REPLICAS, ge=1, le=32)
    """Copies of each topic on Kafka; 3 in production."""

    durability: Durability = "full"
    """What the SQLite broker survives.

    `full` survives a power cut. `normal` survives only the death of a process, and saves 2 ms a
    step.
    """

    data_dir: Path = Path(".mesh")
    """The folder of checkpoints and read models. All of them are caches, and may be deleted."""
    archive_dir: str | None = None
    """The archive, which `mesh archive run` writes. It is not a cache: keep copies.

    A folder, or a URL in an object store: `s3://bucket/prefix`, `gs://...` or `az://...`, with `pip
    install 'agent-mesh[objects]'`.
    """
    routes: Paths = (Path("routes"),)
    """Route files, and folders of route files."""
    approvers: Path = Path("approvers.yaml")
    """The file that says who has which role."""
    answers: Answers = "unsigned"
    """Whether an answer of a person must be signed: `unsigned` or `signed`.

    The same for all routers. With `unsigned` anybody who may write to the topic can answer in any
    name. A route may ask for more.
    """
    answer_max_age_s: int = Field(defaults.ANSWER_MAX_AGE_S, ge=1, le=31_536_000)
    """How long a signed answer may be under way, by its signer's clock. A later one is refused."""
    approver_key: Path | None = None
    """The file of the private key that signs the answers of this machine's user."""
    instance: str = Field(make=_instance, pattern=r"^[A-Za-z0-9._-]{1,200}$")
    """This process's name in the log and for operators."""

    max_event_bytes: int = Field(defaults.MAX_EVENT_BYTES, ge=1024, le=4_194_304)
    """An upstream event larger than this goes to the dead letters.

    A decision holds the event, and the tasks made of it, in one record.
    """
    max_record_bytes: int = Field(defaults.MAX_RECORD_BYTES, ge=1_000_000, le=67_108_864)
    """The largest record that is sent.

    The log's and the dead letters' `max.message.bytes` in `topics/topics.yaml` must allow it. The
    smallest value that is taken holds a whole portion of a for-each in one decision.
    """
    batch_records: int = Field(defaults.BATCH_RECORDS, ge=1, le=100_000)
    """How many records one poll takes at the most."""

    session_timeout_s: float = Field(defaults.SESSION_TIMEOUT_S, ge=1, le=300)
    """A process that is not heard of for this long loses its share of the partitions.

    6 s is the least that a Kafka broker takes by default.
    """
    request_timeout_s: float = Field(defaults.REQUEST_TIMEOUT_S, gt=0, le=600)
    """Bounds every wait for the broker."""
    drain_timeout_s: float = Field(defaults.DRAIN_TIMEOUT_S, ge=0, le=3600)
    """How long a stop, or a hand-over, waits for what is in flight."""
    checkpoint_interval_s: float = Field(defaults.CHECKPOINT_INTERVAL_S, gt=0, le=3600)
    """How often confirmed state goes to the checkpoint file.

    The tail of the log makes up for the rest.
    """
    card_interval_s: float = Field(defaults.CARD_INTERVAL_S, gt=0, le=3600)
    """How often an agent or a router renews its card; it counts as gone after three times that."""

    heartbeat_file: Path | None = None
    """The file that a running service touches and `mesh health` reads."""
    heartbeat_interval_s: float = Field(5.0, gt=0, le=300)
    """How often the heartbeat file is touched.

    The event loop itself does it, so that a blocked loop shows.
    """
    heartbeat_max_age_s: float = Field(30.0, gt=0, le=3600)
    """`mesh health` fails when the file is older than this."""

    kafka_security_protocol: SecurityProtocol = "PLAINTEXT"
    """How to connect to Kafka.

    With SSL, a certificate of our own (`MESH_KAFKA_CERT_FILE`) makes it mutual TLS.
    """
    kafka_sasl_mechanism: SaslMechanism | None = None
    """How to log in to Kafka: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER.

    Required with SASL_PLAINTEXT and SASL_SSL.
    """
    kafka_username: str | None = None
    """The user of PLAIN and SCRAM."""
    kafka_password: SecretStr | None = None
    """The password of PLAIN and SCRAM. A file is safer: other processes may see an environment."""
    kafka_password_file: Path | None = None
    """A file that holds the password and nothing else."""
    kafka_ca_file: Path | None = None
    """The certificates (PEM) of the authorities that sign the brokers' certificates.

    Without it, the system's.
    """
    kafka_cert_file: Path | None = None
    """Our own certificate (PEM), for mutual TLS."""
    kafka_key_file: Path | None = None
    """The key (PEM) of our certificate, if it is not in the same file."""
    kafka_key_password: SecretStr | None = None
    """The password of that key."""
    kafka_key_password_file: Path | None = None
    """A file that holds the password of that key and nothing else."""
    kafka_check_hostname: bool = True
    """Whether a broker's certificate must name the host that we connect to."""
    kafka_token_file: Path | None = None
    """For OAUTHBEARER: a file in which another program keeps a fresh token.

    It is read at each login.
    """
    kafka_token_url: str | None = None
    """OAUTHBEARER: the token endpoint of an authorisation server, for client credentials."""
    kafka_token_ca_file: Path | None = None
    """The certificates (PEM) of the authorities that sign that server's certificate.

    Without it, the system's.
    """
    kafka_client_id: str | None = None
    """OAUTHBEARER: our client id at the token endpoint."""
    kafka_client_secret: SecretStr | None = None
    """OAUTHBEARER: our client secret at the token endpoint."""
    kafka_client_secret_file: Path | None = None
    """A file that holds the client secret and nothing else."""
    kafka_token_scope: str | None = None
    """OAUTHBEARER: the scope to ask for, if the server wants one."""

    console_url: str = Field("", pattern=r"^(https?://[^\s?#]+)?$")
    """Where people answer in a browser: the notifier's messages have a link besides the command."""
    console_token_file: Path | None = None
    """A file with a token of `mesh console token`, for people who have no broker.

    With it, `mesh approvals`, `workflows list | show`, `incidents` and `status` ask the console at
    `MESH_CONSOLE_URL`, and nothing else. A command's `--broker` wins.
    """
    console_address: str = Field("127.0.0.1:8300", pattern=r"^(\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]+):\d{1,5}$")
    """Host and port at which `mesh console` listens. Port 0 takes a free one, which it prints.

    The host must be one of this machine alone, unless people sign in with a provider (OIDC).
    """
    console_hosts: str = ""
    """Further names of the console in a URL, with commas. `MESH_CONSOLE_URL` has the first one."""
    console_oidc_issuer: str = Field("", pattern=r"^(https?://[^\s?#]+)?$")
    """The OpenID provider with which people sign in at the console; empty: who starts it can."""
    console_oidc_client_id: str = ""
    """As what the provider knows the console."""
    console_oidc_client_secret_file: Path | None = None
    """A file that holds the client secret and nothing else; none for a public client."""
    console_oidc_claim: OidcClaim = "email"
    """What of an id_token is a person's name in the mesh: their verified `email`, or `sub`."""
    console_link_secrets: SecretStr | None = None
    """What signs links that open one approval without a sign-in; several, with commas, to rotate.

    Without it there are none. The notifier makes such links, and the console takes them: both need
    the same secrets, and the same `MESH_CONSOLE_URL`.
    """
    console_link_secrets_file: Path | None = None
    """A file that holds these secrets, one a line."""
    console_link_s: int = Field(14_400, ge=60, le=604_800)
    """How long such a link counts after it was sent."""
    notifier_include_payload: bool = False
    """Whether the notifier's messages hold what is to be approved."""
    webhook_secrets: SecretStr | None = None
    """What signs the notifier's webhooks: `whsec_` and base64; several, with commas, to rotate."""
    webhook_secrets_file: Path | None = None
    """A file that holds these secrets, one a line."""
    smtp_host: str = ""
    """The mail server of the notifier. Without it, there is no e-mail."""
    smtp_port: int = Field(587, ge=1, le=_MAX_PORT)
    """The mail server's port."""
    smtp_security: SmtpSecurity = "starttls"
    """How the connection to the mail server is protected: `starttls`, `tls` or `none`."""
    smtp_username: str = ""
    """The user at the mail server; empty: no login."""
    smtp_password: SecretStr | None = None
    """The password at the mail server. A file is safer: other processes may see an environment."""
    smtp_password_file: Path | None = None
    """A file that holds that password and nothing else."""
    smtp_from: str = Field("", pattern=r"^([^\s@<>]+@[^\s@<>]+)?$")
    """The sender of the notifier's e-mail. Needed with `MESH_SMTP_HOST`."""

    gateway_address: str = Field("127.0.0.1:8085", pattern=_ADDRESS)
    """Host and port at which the gateway takes events. Only this machine can reach the default."""
    gateway_config: Path | None = None
    """The file that says who may send events to the gateway, and which webhooks it takes.

    Without it anybody may, so then the address must be one that only this machine can reach.
    """

    log_level: LogLevel = "info"
    """The least severe log lines that are written."""
    log_format: LogFormat = "auto"
    """`auto`: lines for people on a terminal, JSON elsewhere."""
    trace_exporter: TraceExporter = "off"
    """Where traces go: nowhere, to standard error as JSON lines, or to an OTLP collector."""
    otlp_endpoint: str | None = None
    """Base address of an OTLP/HTTP collector; else OpenTelemetry's own variables hold."""
    metrics: MetricsExporter = "off"
    """Where metrics go: nowhere, to an OTLP collector, or to a Prometheus that reads them here."""
    metrics_address: str = Field("127.0.0.1:9464", pattern=_ADDRESS)
    """Host and port of the Prometheus endpoint. Port 0 takes a free one, which the log names.

    Each process on a machine needs its own; `mesh dev` gives its processes this port and the next
    ones. Only this machine can reach the default.
    """

    @property
    def heartbeat_path(self) -> Path:
        return self.heartbeat_file or self.data_dir / "heartbeat"

    @property
    def least_answer(self) -> Literal["none", "gateway"]:
        """What every answer must bring: nothing, or any signature."""
        return "none" if self.answers == "unsigned" else "gateway"


Settings.model_fields = fields_of(Settings)


def _from_environment(environ: Mapping[str, str]) -> dict[str, str]:
    # by hand, because the library for it took a tenth of a command's time
    lower = {name.lower(): value for name, value in environ.items() if value}
    variables = {name: PREFIX.lower() + name for name in Settings.model_fields}
    return {name: lower[variable] for name, variable in variables.items() if variable in lower}


def load_settings(**options: Any) -> Settings:
    """Settings from the environment, replaced by those of `options` that are not None.

    Raises `SettingsInvalid`, one line a problem.
    """
    _refuse_misspelt(os.environ)
    given = {name: value for name, value in options.items() if value is not None}
    try:
        settings = _read(given)
    except ValuesInvalid as error:
        raise SettingsInvalid("\n".join(_problem(problem, given) for problem in error.problems)) from error
    parse_broker_url(settings.broker)
    check_kafka(settings)
    _check_notifier(settings)
    _check_console(settings)
    _check_links(settings)
    return settings


def _read(given: Mapping[str, Any]) -> Settings:
    for _ in range(_READ_AGAIN):
        # Another thread may take a variable away between its name and its value, as pytest does
        # after each test.
        with suppress(KeyError):
            return Settings(**given)
    return Settings(**given)


def _check_console(settings: Settings) -> None:
    if settings.console_token_file is not None and not settings.console_url:
        raise SettingsInvalid(
            "MESH_CONSOLE_TOKEN_FILE is set without MESH_CONSOLE_URL, where the console is that takes the token"
        )
    if not settings.console_oidc_issuer:
        return
    if not settings.console_oidc_client_id:
        raise SettingsInvalid("MESH_CONSOLE_OIDC_ISSUER is set without MESH_CONSOLE_OIDC_CLIENT_ID")
    for name, url in (
        ("MESH_CONSOLE_URL", settings.console_url),
        ("MESH_CONSOLE_OIDC_ISSUER", settings.console_oidc_issuer),
    ):
        parts = urlsplit(url)
        if parts.scheme != "https" and parts.hostname not in LOOPBACK:
            raise SettingsInvalid(f"{name} is {url!r}: to sign in with a provider it must begin with https://")


def _check_links(settings: Settings) -> None:
    """Raises `SettingsInvalid` where a link would give its right to who reads along."""
    if settings.console_link_secrets is None and settings.console_link_secrets_file is None:
        return
    parts = urlsplit(settings.console_url)
    if not settings.console_url:
        raise SettingsInvalid("MESH_CONSOLE_LINK_SECRETS is set without MESH_CONSOLE_URL, where the links lead")
    if parts.scheme != "https" and parts.hostname not in LOOPBACK:
        raise SettingsInvalid(
            f"MESH_CONSOLE_URL is {settings.console_url!r}: with MESH_CONSOLE_LINK_SECRETS it must begin with https://"
        )


def _check_notifier(settings: Settings) -> None:
    """Raises `SettingsInvalid` for a secret that is said twice, and for mail without a sender."""
    for secret in ("webhook_secrets", "smtp_password", "console_link_secrets"):
        if getattr(settings, secret) is not None and getattr(settings, f"{secret}_file") is not None:
            raise SettingsInvalid(f"{_variable(secret)} and {_variable(secret)}_FILE are both set; keep one of them")
    if settings.smtp_host and not settings.smtp_from:
        raise SettingsInvalid("MESH_SMTP_HOST is set without MESH_SMTP_FROM, the sender of the notifier's e-mail")


# Kafka's security ---------------------------------------------------------------------------------


def check_kafka(settings: Settings) -> None:
    """Hold the settings of one security protocol together.

    Raises `SettingsInvalid` for what is lacking, and for what would be passed over in silence: who
    gives a password means it to be used.
    """
    given = {
        name
        for name in Settings.model_fields
        if name.startswith(_KAFKA) and getattr(settings, name) not in {None, Settings.model_fields[name].default}
    }
    protocol, mechanism = settings.kafka_security_protocol, settings.kafka_sasl_mechanism
    for secret in ("kafka_password", "kafka_key_password", "kafka_client_secret"):
        if {secret, f"{secret}_file"} <= given:
            raise SettingsInvalid(f"{_variable(secret)} and {_variable(secret)}_FILE are both set; keep one of them")
    used = {"kafka_security_protocol"}
    if protocol in {"SSL", "SASL_SSL"}:
        used |= _of(_TLS)
    if protocol.startswith("SASL"):
        if mechanism is None:
            raise SettingsInvalid(
                f"MESH_KAFKA_SECURITY_PROTOCOL={protocol} needs MESH_KAFKA_SASL_MECHANISM: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 "
                "or OAUTHBEARER"
            )
        used |= {"kafka_sasl_mechanism"} | _login_of(mechanism, given)
    for name in sorted(given - used):
        with_what = f"{protocol}{f' and {mechanism}' if mechanism and protocol.startswith('SASL') else ''}"
        raise SettingsInvalid(
            f"{_variable(name)} is set, and has no part in MESH_KAFKA_SECURITY_PROTOCOL={with_what}: set the protocol (or the "
            "mechanism) that it belongs to, or unset it"
        )
    if "kafka_key_file" in given and "kafka_cert_file" not in given:
        raise SettingsInvalid(
            "MESH_KAFKA_KEY_FILE is set without MESH_KAFKA_CERT_FILE, the certificate that the key is of"
        )


def _login_of(mechanism: str, given: set[str]) -> set[str]:
    """The settings that a mechanism logs in with.

    Raises `SettingsInvalid` if some are lacking.
    """
    if mechanism != "OAUTHBEARER":
        if "kafka_username" not in given or not given & _of(_PASSWORD):
            raise SettingsInvalid(
                f"MESH_KAFKA_SASL_MECHANISM={mechanism} needs MESH_KAFKA_USERNAME, and MESH_KAFKA_PASSWORD_FILE (or MESH_KAFKA_PASSWORD)"
            )
        return {"kafka_username", *_of(_PASSWORD)}
    if "kafka_token_file" in given:
        return {"kafka_token_file"}
    if not {"kafka_token_url", "kafka_client_id"} <= given or not given & _of(_CLIENT_SECRET):
        raise SettingsInvalid(
            "MESH_KAFKA_SASL_MECHANISM=OAUTHBEARER needs MESH_KAFKA_TOKEN_FILE, or else MESH_KAFKA_TOKEN_URL with "
            "MESH_KAFKA_CLIENT_ID and MESH_KAFKA_CLIENT_SECRET_FILE (or MESH_KAFKA_CLIENT_SECRET)"
        )
    return {"kafka_token_url", "kafka_token_ca_file", "kafka_client_id", "kafka_token_scope", *_of(_CLIENT_SECRET)}


_PASSWORD: Final = ("password", "password_file")
_CLIENT_SECRET: Final = ("client_secret", "client_secret_file")
_TLS: Final = ("ca_file", "cert_file", "key_file", "key_password", "key_password_file", "check_hostname")


def _of(names: tuple[str, ...]) -> set[str]:
    return {_KAFKA + name for name in names}


def read_secret(settings: Settings, name: str) -> str | None:
    """A secret from the environment, or from its file.

    Raises `SettingsInvalid`, without the secret.
    """
    secret: SecretStr | None = getattr(settings, name)
    path: Path | None = getattr(settings, f"{name}_file")
    if secret is not None or path is None:
        return None if secret is None else secret.get_secret_value()
    try:
        text = path.read_text().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsInvalid(f"{_variable(name)}_FILE: {path} can't be read ({type(error).__name__})") from error
    if not text:
        raise SettingsInvalid(f"{_variable(name)}_FILE: {path} is empty")
    return text


def _variable(name: str) -> str:
    return PREFIX + name.upper()


def _refuse_misspelt(environ: Mapping[str, str]) -> None:
    known = [_variable(name) for name in Settings.model_fields]
    for name in environ:
        if name.startswith(PREFIX) and name not in known:
            from difflib import get_close_matches  # noqa: PLC0415 - most environments have no such name

            is_ours = name.startswith(_variable(_KAFKA))
            close = get_close_matches(name, known, n=1, cutoff=0 if is_ours else _CLOSE)
            if close:
                raise SettingsInvalid(
                    f"{name} is not a setting; did you mean {close[0]}? (unset it if it is not meant for the mesh)"
                )


def _problem(problem: Problem, options: Mapping[str, Any]) -> str:
    name = problem.name
    if not problem.is_known:
        return f"{name} is not a setting of the mesh; leave it out"
    where = f"option {name} (or {_variable(name)})" if name in options else _variable(name)
    field = Settings.model_fields[name]
    if field.is_secret:
        return f"{where} does not hold: {problem.message}"
    default = "this host's name and the process's number" if field.make is not None else field.default
    return f"{where} is {problem.value!r}: {problem.message}; correct it, or unset it for the default ({default})"

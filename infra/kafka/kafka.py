"""A single-node Apache Kafka (KRaft) from Maven Central, for tests and for `make kafka`.

Owns the broker's jars (`libs/`, fetched once for each state of `pom.xml`), its configuration and
its process. It uses the standard library alone, so that it runs before anything is installed, and
must not know the mesh. Called by `make kafka` (`python infra/kafka/kafka.py run`) and by the test
fixtures (`KafkaProcess`).

    python infra/kafka/kafka.py run   [--port 9092] [--data DIR]   in the foreground, until Ctrl-C
    python infra/kafka/kafka.py start [--port 9092] [--data DIR]   in the background
    python infra/kafka/kafka.py stop  [--data DIR]                 stops what the others began

This is a broker for one machine. It has one replica, listens on loopback only, and has no
authentication unless a test asks for it (`KafkaProcess(..., access=Access(...))`).
"""

import argparse
import contextlib
import fcntl
import hashlib
import os
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
DEFAULT_DATA = HERE.parent.parent / ".mesh" / "kafka"
_LIBS = HERE / "libs"
JAVA_VERSION = 17  # what a Kafka 4 broker needs
START_TIMEOUT_S = 300.0  # a fresh start takes 2 s alone, and has taken 130 s when all cores were busy
STOP_TIMEOUT_S = 20.0
FETCH_TIMEOUT_S = 600.0
_POLL_S = 0.05
_PORTS = (20_000, 32_000)

_CONFIG = """\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={logs}
auto.create.topics.enable=false
# Timestamps are the broker's, as the mesh expects them.
log.message.timestamp.type=LogAppendTime
# One node: one replica of everything.
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=2
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
# Groups that form at once, and short sessions for tests that kill members.
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=500
# Small.
log.cleaner.dedupe.buffer.size=16777216
num.network.threads=2
num.io.threads=4
"""


_COMPILE_LESS = "-XX:TieredStopAtLevel=1"

_SECURE = """\
listeners=INSIDE://127.0.0.1:{port},SASL_SSL://127.0.0.1:{sasl_ssl},SASL_PLAINTEXT://127.0.0.1:{sasl_plaintext},\\
SSL://127.0.0.1:{ssl},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=INSIDE://127.0.0.1:{port},SASL_SSL://127.0.0.1:{sasl_ssl},\\
SASL_PLAINTEXT://127.0.0.1:{sasl_plaintext},SSL://127.0.0.1:{ssl}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,INSIDE:PLAINTEXT,SASL_SSL:SASL_SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SSL:SSL
inter.broker.listener.name=INSIDE
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=false
# Who comes from inside (the broker itself, and tests that grant rights) may do everything.
super.users=User:ANONYMOUS
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER
ssl.keystore.type=PEM
ssl.keystore.location={folder}/broker.pem
ssl.truststore.type=PEM
ssl.truststore.location={folder}/ca.pem
listener.name.ssl.ssl.client.auth=required
"""
_SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
_PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule required {users};"
_OAUTH = 'org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";'


class Access:
    """Listeners with TLS and SASL, and an authoriser that allows only what an ACL allows.

    `users`: passwords by name, for PLAIN and both SCRAMs. `openssl` makes the certificates in
    `folder`: `ca.pem`, the broker's, and those of clients by `client_certificate`.
    """

    def __init__(self, folder: Path, users: dict[str, str]) -> None:
        self.folder = folder
        self.users = users
        self.ports = {name: free_port() for name in ("sasl_ssl", "sasl_plaintext", "ssl")}
        folder.mkdir(parents=True, exist_ok=True)
        self._openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test-ca",
                      "-keyout", "ca.key", "-out", "ca.pem")  # fmt: skip
        self._certificate("broker", "/CN=localhost", "subjectAltName=DNS:localhost,IP:127.0.0.1")

    def bootstrap(self, protocol: str) -> str:
        """The address of a security protocol: `SASL_SSL`, `SASL_PLAINTEXT` or `SSL`."""
        return f"127.0.0.1:{self.ports[protocol.lower()]}"

    def client_certificate(self, name: str) -> Path:
        """A file with a key and a certificate; its principal is `User:CN=<name>`."""
        return self._certificate(name, f"/CN={name}", "extendedKeyUsage=clientAuth")

    def config(self, port: int, controller_port: int) -> str:
        """The settings that replace those of the plain listeners."""
        users = " ".join(f'user_{name}="{password}"' for name, password in self.users.items())
        logins = {
            "plain": _PLAIN.format(users=users),
            "scram-sha-256": _SCRAM,
            "scram-sha-512": _SCRAM,
            "oauthbearer": _OAUTH,
        }
        return _SECURE.format(port=port, controller_port=controller_port, folder=self.folder, **self.ports) + "".join(
            f"listener.name.{listener}.{mechanism}.sasl.jaas.config={login}\n"
            for listener in ("sasl_ssl", "sasl_plaintext")
            for mechanism, login in logins.items()
        )

    def format_options(self) -> list[str]:
        """The options for formatting the storage, which create the SCRAM users."""
        return [
            option
            for name, password in self.users.items()
            for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")
            for option in ("--add-scram", f"{mechanism}=[name={name},password={password}]")
        ]

    def _certificate(self, name: str, subject: str, extension: str) -> Path:
        self._openssl(
            "req", "-newkey", "rsa:2048", "-nodes", "-subj", subject, "-keyout", f"{name}.key", "-out", f"{name}.csr"
        )
        (self.folder / f"{name}.ext").write_text(extension + "\n")
        self._openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
                      "-extfile", f"{name}.ext", "-out", f"{name}.crt")  # fmt: skip
        whole = self.folder / f"{name}.pem"
        whole.write_text((self.folder / f"{name}.key").read_text() + (self.folder / f"{name}.crt").read_text())
        return whole

    def _openssl(self, *arguments: str) -> None:
        found = shutil.which("openssl")
        if found is None:
            raise KafkaMissing("TLS for tests needs openssl: install it (Debian, Ubuntu: apt-get install openssl)")
        done = subprocess.run(
            [found, *arguments], cwd=self.folder, capture_output=True, text=True, timeout=60, check=False
        )
        if done.returncode:
            raise KafkaFailed(f"openssl {arguments[0]} failed:\n{done.stderr}")


class KafkaMissing(Exception):
    """Something has to be installed first. The message is one line that says what."""


class KafkaFailed(Exception):
    """The broker or Maven did not do what it should. The message says where its output is."""


def java() -> str:
    """The path of a `java` that can run the broker. Raises `KafkaMissing` if there is none."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=str(Path(home) / "bin")) if home else None
    found = found or shutil.which("java")
    if found is None:
        raise KafkaMissing(f"Kafka needs Java {JAVA_VERSION} or later: {_INSTALL}")
    said = subprocess.run([found, "-version"], capture_output=True, text=True, timeout=60, check=False).stderr
    version = re.search(r'version "(?:1\.)?(\d+)', said)
    if version is None or int(version[1]) < JAVA_VERSION:
        raise KafkaMissing(f"Kafka needs Java {JAVA_VERSION} or later, {found} is older: {_INSTALL}")
    return found


_INSTALL = "install a JRE and Maven (Debian, Ubuntu: apt-get install openjdk-17-jre-headless maven; macOS: brew install openjdk maven)"


def check_installed() -> None:
    """Raise `KafkaMissing` if something has to be installed before a broker can be started here."""
    java()
    if not _is_complete(_target(_LIBS)):
        _maven()


def _maven() -> str:
    found = shutil.which("mvn")
    if found is None:
        raise KafkaMissing(f"Maven is needed once, to fetch Kafka's jars: {_INSTALL}")
    return found


def _target(libs: Path) -> Path:
    return libs / hashlib.sha256((HERE / "pom.xml").read_bytes()).hexdigest()[:12]


def fetch_jars(libs: Path = _LIBS) -> Path:
    """The folder with the broker's jars.

    Maven fetches them unless there is a complete copy for this `pom.xml`. Several processes may
    call this at once: one fetches, and the others wait for it.
    """
    target = _target(libs)
    if _is_complete(target):
        return target
    libs.mkdir(parents=True, exist_ok=True)
    with _locked(libs / ".lock"):
        if not _is_complete(target):
            _fetch(target)
    return target


def _fetch(target: Path) -> None:
    maven = _maven()
    shutil.rmtree(target, ignore_errors=True)
    fresh = target.with_suffix(".part")
    shutil.rmtree(fresh, ignore_errors=True)
    print("fetching Apache Kafka from Maven Central (45 MB, once) ...", file=sys.stderr, flush=True)
    command = [maven, "-q", "-B", "-f", str(HERE / "pom.xml"), "dependency:copy-dependencies"]
    command += ["-DincludeScope=runtime", f"-DoutputDirectory={fresh}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_TIMEOUT_S, check=False)
    jars = sorted(fresh.glob("*.jar"))
    if done.returncode or not jars:
        raise KafkaFailed(f"Maven could not fetch Kafka's jars:\n{done.stdout}{done.stderr}".rstrip())
    (fresh / _MANIFEST).write_text("".join(f"{jar.stat().st_size} {jar.name}\n" for jar in jars))
    fresh.rename(target)


_MANIFEST = "manifest.txt"


def _is_complete(target: Path) -> bool:
    try:
        lines = (target / _MANIFEST).read_text().splitlines()
        return bool(lines) and all((target / name).stat().st_size == int(size) for size, name in map(str.split, lines))
    except (OSError, ValueError):
        return False


@contextlib.contextmanager
def _locked(path: Path, *, refused: str | None = None) -> Iterator[int]:
    """The lock's descriptor: a child that inherits it holds the lock until it ends.

    Waits for it, or with `refused` raises `KafkaFailed` of that text.
    """
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (fcntl.LOCK_NB if refused else 0))
        except BlockingIOError as error:
            raise KafkaFailed(refused) from error
        yield lock.fileno()


class KafkaProcess:
    """One broker process on loopback, with its data in `data`.

    Ports are chosen at the first start (unless `port` is given) and kept, so `kill()` and
    `restart()` come back at the same address with the same data. Not thread-safe. Raises
    `KafkaMissing` without Java or Maven, and `KafkaFailed` if the broker does not start. Its output
    is in `data/kafka.log`. `is_brief`: it lives for minutes, so it starts with half of the CPU time
    and stays slower.
    """

    def __init__(
        self,
        data: Path,
        *,
        port: int | None = None,
        heap_mb: int = 512,
        settings: dict[str, str] | None = None,
        access: Access | None = None,
        is_brief: bool = False,
    ) -> None:
        self.data = Path(data)
        self.port = port or free_port()
        self._controller_port = free_port()
        self._heap_mb = heap_mb
        self._settings = settings or {}
        self._is_brief = is_brief
        self.access = access
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """The broker's process id while it runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def output(self) -> Path:
        return self.data / "kafka.log"

    def start(self, *, detached: bool = False) -> "KafkaProcess":
        """Start the broker and wait until it answers. A running one is left as it is."""
        if self.pid is not None:
            return self
        self.data.mkdir(parents=True, exist_ok=True)
        refused = (
            f"another Kafka runs on {self.data}: stop it (`kafka.py stop --data {self.data}`), or name another --data"
        )
        with _locked(self.data / "lock", refused=refused) as lock:
            command = self._prepare()
            with self.output.open("ab") as output:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=detached,
                    pass_fds=[lock],
                )
        try:
            self._wait_ready()
        except BaseException:
            self.kill()
            raise
        (self.data / "kafka.pid").write_text(f"{self._process.pid}\n")
        return self

    def stop(self) -> None:
        """Stop the broker gracefully, and by force after `STOP_TIMEOUT_S`."""
        if self._process is not None and self.pid is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._reap()

    def kill(self) -> None:
        """End the broker as a crash would (SIGKILL)."""
        if self._process is not None and self.pid is not None:
            self._process.kill()
        self._reap()

    def restart(self) -> None:
        """Start again on the same ports and data, after `kill()` or a stop."""
        self.stop()
        self.start()

    def wait(self) -> int:
        """Wait until the broker ends. Returns its exit status."""
        return self._process.wait() if self._process is not None else 0

    def _reap(self) -> None:
        if self._process is not None:
            self._process.wait(STOP_TIMEOUT_S)
            self._process = None
        (self.data / "kafka.pid").unlink(missing_ok=True)

    def _prepare(self) -> list[str]:
        """Write the configuration, format new storage, and return the broker's command line."""
        config, logs = self.data / "server.properties", self.data / "data"
        text = _CONFIG.format(port=self.port, controller_port=self._controller_port, logs=logs)
        if self.access is not None:
            plain = re.compile(
                r"^(listeners|advertised\.listeners|listener\.security\.protocol\.map)=.*\n", re.MULTILINE
            )
            text = plain.sub("", text) + self.access.config(self.port, self._controller_port)
        config.write_text(text + "".join(f"{name}={value}\n" for name, value in self._settings.items()))
        options = [f"-Xmx{self._heap_mb}M", "-Xms128M", "-XX:+UseSerialGC", f"-Dkafka.logs.dir={self.data}"]
        options += ["-cp", f"{fetch_jars()}/*"]
        if not (logs / "meta.properties").exists():
            self._format([java(), _COMPILE_LESS, *options], config)
        return [java(), *([_COMPILE_LESS] if self._is_brief else []), *options, "kafka.Kafka", str(config)]

    def _format(self, run: list[str], config: Path) -> None:
        cluster = hashlib.sha256(os.urandom(16)).hexdigest()[:22]
        command = [*run, "kafka.tools.StorageTool", "format", "--standalone", "-t", cluster, "-c", str(config)]
        command += self.access.format_options() if self.access is not None else []
        done = subprocess.run(command, capture_output=True, text=True, timeout=START_TIMEOUT_S, check=False)
        if done.returncode:
            raise KafkaFailed(
                f"Kafka could not format its storage in {self.data}:\n{done.stdout}{done.stderr}".rstrip()
            )

    def _wait_ready(self) -> None:
        until = time.monotonic() + START_TIMEOUT_S
        while not answers(self.port):
            if self.pid is None:
                raise KafkaFailed(
                    f"Kafka ended at its start (port {self.port}); its last words, from {self.output}:\n{self._tail()}"
                )
            if time.monotonic() > until:
                raise KafkaFailed(
                    f"Kafka did not answer on port {self.port} within {START_TIMEOUT_S:.0f} s; see {self.output}"
                )
            time.sleep(_POLL_S)

    def _tail(self) -> str:
        return "\n".join(self.output.read_text(errors="replace").splitlines()[-15:])


def answers(port: int) -> bool:
    """Whether a broker on this port answers a metadata request and knows of a live broker.

    It knows of itself once it takes part in the cluster.
    """
    # Metadata v5: key 3, version 5, correlation 1, no client id; no topics, no creation of topics.
    body = struct.pack(">hhihib", 3, 5, 1, -1, 0, 0)
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(struct.pack(">i", len(body)) + body)
            answer = connection.recv(1024)
    except OSError:
        return False
    # length, correlation, throttle time, then the count of brokers: four bytes each
    return int.from_bytes(answer[12:16], "big") > 0


def free_port() -> int:
    """A port that nobody has, below those that systems give to outgoing connections.

    A broker that was killed comes back at its port, which nothing else may have taken meanwhile.
    """
    while True:
        port = random.randrange(*_PORTS)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port


def _run(kafka: KafkaProcess) -> int:
    # both signals raise, so that nothing waits for the broker within a handler
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        kafka.start()
        print(f"Kafka answers on {kafka.bootstrap}; data in {kafka.data}; Ctrl-C stops it", flush=True)
        kafka.wait()
    except KeyboardInterrupt:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        print("stopping Kafka ...", flush=True)
    kafka.stop()
    return 0


def _stop(data: Path) -> int:
    try:
        pid = int((data / "kafka.pid").read_text())
        os.kill(pid, signal.SIGTERM)
    except (OSError, ValueError):
        print(f"no Kafka runs on {data}")
        return 0
    until = time.monotonic() + STOP_TIMEOUT_S
    with contextlib.suppress(ProcessLookupError):
        while time.monotonic() < until:
            os.kill(pid, 0)
            time.sleep(_POLL_S)
        os.kill(pid, signal.SIGKILL)
    (data / "kafka.pid").unlink(missing_ok=True)
    return 0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="kafka.py", description="A single-node Apache Kafka for this machine.")
    parser.add_argument("verb", choices=["run", "start", "stop"])
    parser.add_argument("--port", type=int, default=9092)
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA, help="the broker's folder (default: %(default)s)")
    given = parser.parse_args(arguments)
    if given.verb == "stop":
        return _stop(given.data)
    if answers(given.port):
        print(f"a Kafka answers on 127.0.0.1:{given.port} already", file=sys.stderr)
        return 1
    kafka = KafkaProcess(given.data, port=given.port)
    try:
        if given.verb == "run":
            return _run(kafka)
        kafka.start(detached=True)
    except (KafkaMissing, KafkaFailed) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"Kafka answers on {kafka.bootstrap}; data in {kafka.data}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

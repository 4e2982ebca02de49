"""Tokens and the words for what a cluster refuses: a secret is in none of them."""

import asyncio
import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiokafka import errors as kafka_errors

from mesh.adapters.kafka.security import (
    ClientCredentials,
    Secret,
    Security,
    TokenFile,
    TokenUnavailable,
    is_login_refused,
    login_refused,
)
from mesh.errors import SettingsInvalid

SECRET = "s3cret"


class Server:
    """An authorisation server that gives the answers that a test sets."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, Any]] = []
        self.asked: list[tuple[str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"])).decode()
                outer.asked.append((self.headers["authorization"], body))
                status, document = outer.answers.pop(0)
                self.send_response(status)
                self.end_headers()
                self.wfile.write(json.dumps(document).encode())

            def log_message(self, *_: object) -> None: ...

        self._http = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}/token"
        self._thread = threading.Thread(target=self._http.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    started = Server()
    yield started
    started.close()


async def test_one_token_serves_until_shortly_before_its_end(server: Server) -> None:
    server.answers = [(200, {"access_token": "one", "expires_in": 3600}), (200, {"access_token": "two"})]
    tokens = ClientCredentials(server.url, "me", Secret(SECRET), scope="kafka")
    assert await asyncio.gather(*(tokens.token() for _ in range(5))) == ["one"] * 5
    [(login, form)] = server.asked
    assert login.startswith("Basic ")
    assert form == "grant_type=client_credentials&scope=kafka"
    tokens._renew_at = 0
    assert await tokens.token() == "two"


@pytest.mark.parametrize("answer", [(401, {"error": "bad"}), (200, {"no": "token"}), (200, ["x"])])
async def test_a_server_that_gives_no_token_is_named_without_the_secret(server: Server, answer: Any) -> None:
    server.answers = [answer]
    with pytest.raises(TokenUnavailable) as caught:
        await ClientCredentials(server.url, "me", Secret(SECRET)).token()
    assert server.url in str(caught.value)
    assert SECRET not in str(caught.value)


async def test_a_token_file_is_read_each_time(tmp_path: Path) -> None:
    file = tmp_path / "token"
    for content in ("one\n", "two\n"):
        file.write_text(content)
        assert await TokenFile(file).token() == content.strip()
    file.write_text("\n")
    with pytest.raises(TokenUnavailable, match="is empty"):
        await TokenFile(file).token()


def test_files_that_hold_no_certificates_are_named(tmp_path: Path) -> None:
    rubbish = tmp_path / "rubbish.pem"
    rubbish.write_text("rubbish")
    with pytest.raises(SettingsInvalid, match=r"MESH_KAFKA_CA_FILE: .*rubbish.pem holds no certificates"):
        Security(protocol="SSL", ca_file=rubbish).client_options()
    with pytest.raises(SettingsInvalid, match=r"MESH_KAFKA_CERT_FILE, MESH_KAFKA_KEY_FILE: .*rubbish.pem"):
        Security(protocol="SSL", cert_file=rubbish).client_options()


def test_no_secret_is_in_what_a_security_shows() -> None:
    security = Security(
        protocol="SASL_SSL", mechanism="PLAIN", username="u", password=Secret(SECRET), key_password=Secret(SECRET)
    )
    assert SECRET not in repr(security) + str(security)
    refused = login_refused("Kafka at h", security, kafka_errors.SaslAuthenticationFailed("Authentication failed"))
    assert "does not let User:u in with PLAIN" in str(refused)
    assert SECRET not in str(refused)


def test_only_what_trying_again_does_not_change_ends_the_trying() -> None:
    wrapped = kafka_errors.KafkaConnectionError("closed")
    wrapped.__cause__ = ssl.SSLError(1, "alert")
    assert is_login_refused(wrapped)
    assert is_login_refused(kafka_errors.SaslAuthenticationFailed())
    assert is_login_refused(ssl.SSLCertVerificationError(1, "x"))
    for passing in (
        ConnectionResetError(),
        TimeoutError(),
        ssl.SSLEOFError(8, "eof"),
        kafka_errors.NodeNotReadyError(),
    ):
        assert not is_login_refused(passing)

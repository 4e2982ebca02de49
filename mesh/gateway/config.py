"""`gateway.yaml`: who may send events over HTTP, and which webhooks are taken.

    senders:
      shop: {tokens_file: shop.tokens, sources: [/shop], types: [com.example.*], rate: 200}
    webhooks:
      github: {vendor: github, secrets_file: github.secrets}
      partner: {vendor: standard, secrets_env: PARTNER_SECRETS, source: /partner}

Owns the file's shape, and where secrets are kept: in files or variables of their own, several at a
time, so that one can be replaced without a moment in which neither counts. It must not know HTTP.
"""

import hmac
import os
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mesh.codec.webhooks import Terms, Vendor
from mesh.codec.yaml_lines import YamlDocument, read_yaml
from mesh.errors import SettingsInvalid
from mesh.gateway.signatures import check_secret
from mesh.settings import LOOPBACK

LEAST_TOKEN: Final = 16  # characters
_NAME: Final = r"^[a-z0-9][a-z0-9-]{0,63}$"
_EXAMPLE: Final = "senders: {shop: {tokens_file: shop.tokens}}"

Name = Annotated[str, Field(pattern=_NAME)]
Text = Annotated[str, Field(min_length=1)]
Patterns = Annotated[tuple[str, ...], Field(strict=False)]
Rate = Annotated[float, Field(gt=0, le=1_000_000)]


class Secrets:
    """The lines of a file or of a variable.

    A file is read again when it has changed, so that a secret is replaced without a restart.
    """

    def __init__(self, *, path: Path | None = None, variable: str | None = None) -> None:
        self._path = path
        self._variable = variable
        self._seen: tuple[int, int] | None = None
        self._lines: tuple[str, ...] = ()

    def lines(self) -> Sequence[str]:
        """Those that are valid now. Raises `SettingsInvalid` if there are none, without any."""
        if self._path is None:
            self._lines = _lines_of(os.environ.get(self._variable or "", ""))
        else:
            self._read(self._path)
        if not self._lines:
            raise SettingsInvalid(f"{self._path or self._variable} has no secret in it: write one a line")
        return self._lines

    def _read(self, path: Path) -> None:
        try:
            stat = path.stat()
            if (stat.st_mtime_ns, stat.st_size) != self._seen:
                self._lines = _lines_of(path.read_text())
                self._seen = (stat.st_mtime_ns, stat.st_size)
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise SettingsInvalid(f"{path} can't be read: {reason}; put the secrets there, one a line") from error


def _lines_of(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.splitlines() if line.strip())


class _Source(BaseModel):
    """What senders and webhooks have in common."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    rate: Rate | None = None
    """Events a second that are taken, twice as many at once. None: as many as come."""


class Sender(_Source):
    """Who may post events, by a bearer token."""

    tokens_file: str | None = None
    tokens_env: str | None = None
    sources: Patterns = ()
    """Patterns of the CloudEvents `source` that it may use; empty: any."""
    types: Patterns = ()
    """The same for `type`."""

    @model_validator(mode="after")
    def _has_one(self) -> Self:
        if (self.tokens_file is None) == (self.tokens_env is None):
            raise ValueError("give one of tokens_file and tokens_env")
        return self

    def refuses(self, event: Mapping[str, Any]) -> str:
        """Why it may not send this event; empty if it may."""
        for name, patterns in (("source", self.sources), ("type", self.types)):
            if patterns and not any(fnmatchcase(event[name], pattern) for pattern in patterns):
                return f"event {event['id']!r}: `{name}` {event[name]!r} is not among {', '.join(patterns)}"
        return ""


class Webhook(_Source):
    """Whose webhooks are taken, at `/webhooks/NAME`."""

    vendor: Vendor
    secrets_file: str | None = None
    secrets_env: str | None = None
    source: Text | None = None
    """The CloudEvents `source`. Without it `/webhooks/NAME`, or what the vendor's mapping has."""
    type: Text | None = None
    """The CloudEvents `type` of a standard webhook whose body has no `type`."""

    @model_validator(mode="after")
    def _has_one(self) -> Self:
        if (self.secrets_file is None) == (self.secrets_env is None):
            raise ValueError("give one of secrets_file and secrets_env")
        return self

    @property
    def terms(self) -> Terms:
        """How its requests are read."""
        return Terms(vendor=self.vendor, source=self.source, type=self.type)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    senders: dict[Name, Sender] = {}
    webhooks: dict[Name, Webhook] = {}


class GatewayConfig:
    """Who may send, with their secrets."""

    def __init__(self, file: _File, folder: Path) -> None:
        self._file = file
        self._tokens = {name: _secrets(folder, one.tokens_file, one.tokens_env) for name, one in file.senders.items()}
        self._secrets = {
            name: _secrets(folder, one.secrets_file, one.secrets_env) for name, one in file.webhooks.items()
        }

    @property
    def senders(self) -> Mapping[str, Sender]:
        return self._file.senders

    @property
    def webhooks(self) -> Mapping[str, Webhook]:
        return self._file.webhooks

    def secrets_of(self, webhook: str) -> Sequence[str]:
        """Raises `SettingsInvalid`."""
        return self._secrets[webhook].lines()

    def sender_of(self, token: str) -> str | None:
        """The sender whose token this is. Raises `SettingsInvalid`."""
        given, found = sha256(token.encode()).digest(), None
        for name, tokens in self._tokens.items():
            for line in tokens.lines():
                if hmac.compare_digest(given, sha256(line.encode()).digest()):
                    found = name
        return found

    def check(self) -> None:
        """Raises `SettingsInvalid`, one line a problem, for secrets that are missing or weak."""
        problems = [*self._problems_of_tokens(), *self._problems_of_secrets()]
        if problems:
            raise SettingsInvalid("\n".join(problems))

    def _problems_of_tokens(self) -> list[str]:
        found, holders = [], dict[str, str]()
        for name, tokens in self._tokens.items():
            try:
                lines = tokens.lines()
            except SettingsInvalid as error:
                found.append(f"sender {name}: {error}")
                continue
            if any(len(line) < LEAST_TOKEN for line in lines):
                found.append(
                    f"sender {name}: a token has under {LEAST_TOKEN} characters; make one: head -c 32 /dev/urandom | base64"
                )
            found += [
                f"senders {holders[line]} and {name} have the same token; give each its own"
                for line in lines
                if holders.setdefault(line, name) != name
            ]
        return found

    def _problems_of_secrets(self) -> list[str]:
        found = []
        for name, secrets in self._secrets.items():
            try:
                for line in secrets.lines():
                    check_secret(self.webhooks[name].vendor, line)
            except SettingsInvalid as error:
                found.append(f"webhook {name}: {error}")
        return found


def _secrets(folder: Path, file: str | None, variable: str | None) -> Secrets:
    return Secrets(path=None if file is None else folder / file, variable=variable)


def config_of(path: Path | None, *, host: str) -> GatewayConfig | None:
    """The configuration of a gateway that listens at `host`; None: anybody may send events.

    Raises `SettingsInvalid`, also where other machines could reach a gateway that asks nobody who
    they are.
    """
    if path is not None:
        return load_config(path)
    if host not in LOOPBACK:
        raise SettingsInvalid(
            f"other machines can reach {host}, and without MESH_GATEWAY_CONFIG anybody may send events: write a file that "
            f"says who may ({_EXAMPLE}), or listen at 127.0.0.1"
        )
    return None


def load_config(path: Path) -> GatewayConfig:
    """The file at `path`; paths in it are relative to its folder.

    Raises `SettingsInvalid`, with one line `file:line: what is wrong (how to fix it)` for every
    problem.
    """
    config = GatewayConfig(_read(path), path.parent)
    config.check()
    return config


def webhooks_of(path: Path) -> dict[str, Terms]:
    """How the webhooks of the file at `path` are read. Their secrets are not looked at."""
    return {name: one.terms for name, one in _read(path).webhooks.items()}


def _read(path: Path) -> _File:
    try:
        documents, faults = read_yaml(path)
    except OSError as error:
        raise SettingsInvalid(f"{path} can't be read: {error.strerror} (is the path right?)") from error
    troubles = [(fault.line, fault.message) for fault in faults]
    if len(documents) > 1:
        troubles.append((documents[1].line, "the file has more than one document (take out ---)"))
    for document in documents[:1]:
        troubles += [(fault.line, fault.message) for fault in document.faults]
    if troubles or not documents:
        raise _invalid(path, troubles or [(1, f"the file is empty ({_EXAMPLE})")])
    return _validated(documents[0], path)


def _validated(document: YamlDocument, path: Path) -> _File:
    try:
        return _File.model_validate(document.value)
    except ValidationError as error:
        raise _invalid(
            path, [(document.line_of(problem["loc"]), _said(problem)) for problem in error.errors()]
        ) from error


def _said(problem: Any) -> str:
    where = ".".join(str(part) for part in problem["loc"] if part != "[key]")
    match problem["type"]:
        case "extra_forbidden":
            return f"{where} is not a key of this file (docs/gateway.md has them)"
        case "string_pattern_mismatch" if problem["loc"][-1] == "[key]":
            return f"{where}: a name has small letters, digits and hyphens, as it is a part of an address"
        case "model_type" | "dict_type":
            return f"{where or 'the file'} must be a mapping ({_EXAMPLE})"
        case _:
            return f"{where}: {problem['msg'].removeprefix('Value error, ')}"


def _invalid(path: Path, troubles: Sequence[tuple[int, str]]) -> SettingsInvalid:
    return SettingsInvalid("\n".join(f"{path}:{line}: {what}" for line, what in sorted(troubles)))

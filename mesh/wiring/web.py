"""What serves HTTP: the gateway and the console, each a process of its own."""

import asyncio
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mesh.adapters.system import SystemClock, SystemEntropy
from mesh.core.topics import Topics
from mesh.data_folders import claim_slot, data_folder_named, slots_of
from mesh.errors import SettingsInvalid
from mesh.observed import observe
from mesh.services.client import Client
from mesh.settings import (
    Settings,
    SqliteAddress,
    parse_broker_url,
)
from mesh.wiring.brokers import check_rights, make_topics, open_broker
from mesh.wiring.links import links_of
from mesh.wiring.process import beat_until_cancelled, one_error, stop_on_signals

if TYPE_CHECKING:
    from mesh.codec.webhooks import Terms
    from mesh.console.tokens import Token, Tokens

__all__ = ["Token", "console_tokens", "run_console", "run_gateway", "webhooks_of"]


async def run_gateway(settings: Settings) -> None:
    """Run a gateway until SIGTERM or SIGINT."""
    from mesh.gateway.app import Gateway  # noqa: PLC0415 - others do not need the gateway's parts
    from mesh.gateway.config import config_of  # noqa: PLC0415 - as above
    from mesh.gateway.intake import Intake  # noqa: PLC0415 - as above
    from mesh.gateway.metrics import GatewayMetrics  # noqa: PLC0415 - as above
    from mesh.gateway.server import GatewayServer  # noqa: PLC0415 - as above

    host, _, port = settings.gateway_address.rpartition(":")
    config = config_of(settings.gateway_config, host=host.strip("[]"))
    observed, topics = observe(settings, "gateway"), Topics(settings.topic_prefix)
    broker = await open_broker(settings.broker, client_id=f"gateway-{settings.instance}", settings=settings)
    servers: list[GatewayServer] = []
    beating = asyncio.create_task(
        beat_until_cancelled(settings, lambda: "" if servers else "it has not looked at the broker's topics yet")
    )
    try:
        if isinstance(parse_broker_url(settings.broker), SqliteAddress):
            await make_topics(broker, settings, [])
        await check_rights(broker, settings, [topics.events])
        intake = Intake(broker, timeout_s=settings.request_timeout_s)
        metrics = None
        if observed.metering is not None:
            named = () if config is None else (*config.senders, *config.webhooks)
            metrics = GatewayMetrics(observed.metering.meters, intake, named)
            observed.metering.sample(metrics.sample)
        gateway = Gateway(
            intake,
            config,
            topics=topics,
            max_event_bytes=settings.max_event_bytes,
            max_record_bytes=broker.max_record_bytes,
            metrics=metrics,
        )
        server = GatewayServer(gateway, intake, host=host.strip("[]"), port=int(port), drain_s=settings.drain_timeout_s)
        stop_on_signals(server.stop)
        servers.append(server)
        await server.run()
    finally:
        beating.cancel()
        await broker.close()
        await observed.close()


def webhooks_of(settings: Settings) -> dict[str, "Terms"]:
    """How webhooks are read, where `MESH_GATEWAY_CONFIG` names a file; else none is known."""
    if settings.gateway_config is None:
        return {}
    from mesh.gateway.config import webhooks_of as read  # noqa: PLC0415 - few commands need it

    return read(settings.gateway_config)


@contextmanager
def console_tokens(settings: Settings) -> Iterator["Tokens"]:
    """The tokens of programs at the consoles of this machine."""
    from mesh.console.tokens import Tokens  # noqa: PLC0415 - no other command needs it

    path = _tokens_file(settings)
    with data_folder_named(settings):
        path.parent.mkdir(parents=True, exist_ok=True)
        tokens = Tokens(path, SystemClock())
    try:
        yield tokens
    finally:
        tokens.close()


def _tokens_file(settings: Settings) -> Path:
    return slots_of(settings, "console") / "tokens.sqlite"


def _hosts(settings: Settings) -> frozenset[str]:
    """What a browser may call the console."""
    named = {one.strip() for one in settings.console_hosts.split(",")} | {urlsplit(settings.console_url).hostname or ""}
    return frozenset(named - {""})


def _secret_in(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        secret = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise SettingsInvalid(f"{path} (MESH_CONSOLE_OIDC_CLIENT_SECRET_FILE) can't be read: {reason}") from error
    if not secret:
        raise SettingsInvalid(f"{path} (MESH_CONSOLE_OIDC_CLIENT_SECRET_FILE) holds no secret")
    return secret


async def run_console(
    settings: Settings, name: str, tell: Callable[[str, str, Path], None], *, own_roles: bool = False
) -> None:
    """Run a console until SIGTERM or SIGINT, on which `name` can sign in.

    `tell` gets its URL, the code for signing in (empty: with the provider), and the file of its
    key, once it listens.
    `own_roles`: `name` has no roles but those that the mesh gives. Raises `OperatorError` if the
    address is not one of this machine, or is taken.
    """
    from mesh.console.config import ConsoleConfig, DevLogin  # noqa: PLC0415 - no other command loads a web server
    from mesh.console.listening import listen_on  # noqa: PLC0415 - as above
    from mesh.console.oidc.provider import OidcConfig  # noqa: PLC0415 - as above
    from mesh.console.serving import Console  # noqa: PLC0415 - as above
    from mesh.console.staff import OPERATOR, VIEWER  # noqa: PLC0415 - as above
    from mesh.inspection.inbox import inbox_path  # noqa: PLC0415 - as above
    from mesh.inspection.read_model import model_path  # noqa: PLC0415 - as above
    from mesh.web_server import LOOPBACK, url_of  # noqa: PLC0415 - as above

    oidc = None
    if settings.console_oidc_issuer:
        oidc = OidcConfig(
            issuer=settings.console_oidc_issuer,
            client_id=settings.console_oidc_client_id,
            secret=_secret_in(settings.console_oidc_client_secret_file),
            claim=settings.console_oidc_claim,
            url=settings.console_url,
        )
    # with a provider nobody is more than the mesh says
    roles = frozenset[str]() if own_roles or oidc is not None else frozenset({VIEWER, OPERATOR})
    login = DevLogin(name=name, code=secrets.token_urlsafe(16), roles=roles)
    is_chosen = "console_address" in settings.model_fields_set
    listening = listen_on(settings.console_address, is_chosen=is_chosen, is_open=oidc is not None)
    folder = claim_slot(settings, "console")
    observed = observe(settings, "console")
    broker = await open_broker(settings.broker, client_id=f"console-{settings.instance}", settings=settings)
    ready = asyncio.Event()
    beating = asyncio.create_task(beat_until_cancelled(settings, str, ready))
    clock, topics = SystemClock(), Topics(settings.topic_prefix)
    try:
        is_file = isinstance(parse_broker_url(settings.broker), SqliteAddress)
        if is_file and topics.log not in await broker.topics():
            await make_topics(broker, settings, [])
        config = ConsoleConfig(
            broker_url=settings.broker,
            instance=settings.instance,
            model=model_path(settings.data_dir, settings.broker, settings.topic_prefix),
            inbox=inbox_path(settings.data_dir, settings.broker, settings.topic_prefix),
            folder=folder,
            approvers=settings.approvers.absolute(),
            hosts=LOOPBACK if oidc is None else LOOPBACK | _hosts(settings),
            login=login,
            oidc=oidc,
            url=settings.console_url,
            tokens=_tokens_file(settings),
            links=links_of(settings),
            webhooks=webhooks_of(settings),
        )
        client = Client(broker, topics, clock=clock, entropy=SystemEntropy(), max_event_bytes=settings.max_event_bytes)
        console = Console(broker, topics, config, clock=clock, client=client, meters=observed.meters)
        stop_on_signals(console.stop)

        def on_ready() -> None:
            ready.set()
            tell(url_of(listening), login.code if oidc is None else "", folder / "console.pem")

        await console.serve(listening, on_ready)
    except BaseExceptionGroup as group:
        raise one_error(group) from group
    finally:
        listening.close()
        beating.cancel()
        await broker.close()
        await observed.close()

"""`mesh router`, `agent`, `notifier`, `gateway`, `health`: the services, each a process of its own.

Owns which settings these commands take as options; everything else is a MESH_ variable.
`mesh.wiring` builds and runs the services.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import click
import structlog

from mesh.cli.exit_codes import FAILED
from mesh.cli.text.format import duration
from mesh.heartbeat_file import read_heartbeat
from mesh.observability import configure_logging
from mesh.settings import Settings, load_settings
from mesh.wiring import load_agents, own_routes, run_agents, run_gateway, run_notifier, run_router
from mesh.wiring import run as run_service

_log = structlog.get_logger()


def service_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options that a service takes; every other setting is a MESH_ variable."""
    options: list[Callable[[Callable[..., Any]], Callable[..., Any]]] = [
        click.option("--broker", metavar="URL", help="sqlite://PATH or kafka://HOST:PORT (else MESH_BROKER)."),
        click.option("--json", "as_json", is_flag=True, help="Log JSON lines, also on a terminal."),
        click.option("--log-level", metavar="LEVEL", help="debug, info, warning or error (else MESH_LOG_LEVEL)."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


force_option = click.option("--force", is_flag=True, help="Also where the check of the routes finds errors.")


def _settings(*, broker: str | None, as_json: bool, log_level: str | None, **others: Any) -> Settings:
    return load_settings(broker=broker, log_format="json" if as_json else None, log_level=log_level, **others)


@click.command(short_help="Run a router.")
@click.option(
    "--routes", multiple=True, type=click.Path(path_type=Path), help="Route files and folders (else MESH_ROUTES)."
)
@click.option("--approvers", type=click.Path(path_type=Path), help="Who has which role (else MESH_APPROVERS).")
@force_option
@click.option("--checked", is_flag=True, hidden=True)
@service_options
def router(
    *,
    routes: tuple[Path, ...],
    approvers: Path | None,
    force: bool,
    checked: bool,
    broker: str | None,
    as_json: bool,
    log_level: str | None,
) -> None:
    """Run a router until SIGTERM or Ctrl-C; a second one stops it at once.

    Routers of one broker share its partitions. Its route files are checked first, as by `mesh
    routes check`: on errors it does not start.
    """
    settings = _settings(
        broker=broker, as_json=as_json, log_level=log_level, routes=routes or None, approvers=approvers
    )
    configure_logging(level=settings.log_level, log_format=settings.log_format)
    if not checked:
        _check_routes(settings, force=force)
    run_service(run_router(settings))


def _check_routes(settings: Settings, *, force: bool) -> None:
    from mesh.cli.processes.routes_at_start import warnings_at_start  # noqa: PLC0415 - an agent needs no routes

    for one in warnings_at_start(own_routes(settings), force=force):
        _log.warning("route_check", where=one.where, severity=one.severity, code=one.code, message=one.message)


@click.command(short_help="Run agents.")
@click.argument("modules", metavar="MODULE...", nargs=-1, required=True)
@service_options
def agent(*, modules: tuple[str, ...], broker: str | None, as_json: bool, log_level: str | None) -> None:
    """Run the agents that these modules define, in this process, until SIGTERM or Ctrl-C.

    \b
    mesh agent agents.issue_triage.classifier
    """  # noqa: D301 - \b is click\'s mark of a paragraph to leave as it is
    settings = _settings(broker=broker, as_json=as_json, log_level=log_level)
    load_agents(modules)  # before there is a loop, which would keep a Ctrl-C from a slow import
    run_service(run_agents(settings, modules))


@click.command(short_help="Tell people what waits for their approval.")
@service_options
def notifier(*, broker: str | None, as_json: bool, log_level: str | None) -> None:
    """Run a notifier until SIGTERM or Ctrl-C.

    It tells people what waits for them, and reminds them, at the addresses that `mesh people
    channels set` gives them. Several notifiers share the work. It needs the approvals topics alone.
    Its secrets are settings: MESH_WEBHOOK_SECRETS_FILE, MESH_SMTP_PASSWORD_FILE.
    """
    settings = _settings(broker=broker, as_json=as_json, log_level=log_level)
    configure_logging(level=settings.log_level, log_format=settings.log_format)
    run_service(run_notifier(settings))


@click.command(short_help="Take events and webhooks over HTTP.")
@click.option("--address", metavar="HOST:PORT", help="Where to listen (else MESH_GATEWAY_ADDRESS).")
@click.option(
    "--config", type=click.Path(path_type=Path), help="Who may send, and which webhooks (else MESH_GATEWAY_CONFIG)."
)
@service_options
def gateway(
    *, address: str | None, config: Path | None, broker: str | None, as_json: bool, log_level: str | None
) -> None:
    """Run a gateway until SIGTERM or Ctrl-C.

    It takes CloudEvents at POST /events and webhooks at POST /webhooks/NAME, and answers 202 once
    the broker has them. Without a configuration anybody on this machine may send events.
    """
    settings = _settings(
        broker=broker, as_json=as_json, log_level=log_level, gateway_address=address, gateway_config=config
    )
    configure_logging(level=settings.log_level, log_format=settings.log_format)
    run_service(run_gateway(settings))


@click.command(short_help="Tell whether the service of this folder is alive.")
@click.option("--ready", "asks_ready", is_flag=True, help="... and ready for work.")
@click.option("--broker", hidden=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def health(*, asks_ready: bool, broker: str | None, as_json: bool) -> None:
    """Exit with 0 if the service with the same settings touches its heartbeat file, else with 1.

    0 means that the process and its event loop are alive, and nothing about the broker. With
    --ready the service must also say that it is ready: a router has joined the others, has taken
    over what is its own and knows definitions and people; agents take tasks; a notifier has read
    what is open.
    """
    settings = load_settings(broker=broker)
    path = settings.heartbeat_path
    try:
        age_s = max(0.0, time.time() - path.stat().st_mtime)
        heartbeat = read_heartbeat(path)
    except OSError:
        found = _Health(f"no heartbeat: {path} is not there; no service runs with these settings")
    else:
        is_there = heartbeat.is_of_a_live_process
        is_alive = is_there and age_s <= settings.heartbeat_max_age_s
        said = "alive"
        if not is_there:
            said = f"no heartbeat of a process that runs here: process {heartbeat.process.split()[0]} left the file"
        elif not is_alive:
            said = f"no heartbeat for more than {settings.heartbeat_max_age_s:g} s"
        elif asks_ready:
            said = "ready" if heartbeat.is_ready else f"alive, and not ready: {heartbeat.waits_for}"
        message = f"{said}: the last one was {duration(age_s * 1_000)} ago ({path})"
        found = _Health(message, is_alive=is_alive, is_ready=is_alive and heartbeat.is_ready, age_s=age_s)
    is_good = found.is_ready if asks_ready else found.is_alive
    _tell(found, is_good=is_good, as_json=as_json)
    if not is_good:
        sys.exit(FAILED)


class _Health(NamedTuple):
    message: str
    is_alive: bool = False
    is_ready: bool = False
    age_s: float | None = None


def _tell(found: _Health, *, is_good: bool, as_json: bool) -> None:
    if as_json:
        import json  # noqa: PLC0415 - a health check runs every few seconds

        document = {"alive": found.is_alive, "ready": found.is_ready, "age_s": found.age_s, "message": found.message}
        click.echo(json.dumps(document))
    else:
        click.echo(found.message, err=not is_good)

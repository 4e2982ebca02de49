"""`mesh console`: the pages in which people answer, and operators look.

Owns the command's options and what it says at its start. `mesh.wiring` runs the console; this
module is apart from the other services, which load no part of it.
"""

from functools import partial
from pathlib import Path
from urllib.parse import urlencode

import click

from mesh.cli.options import login_name
from mesh.cli.processes.services import service_options
from mesh.observability import configure_logging
from mesh.settings import load_settings
from mesh.wiring import run as run_service
from mesh.wiring import run_console


@click.command(short_help="Run the pages in which people answer and look.")
@click.option(
    "--dev-login",
    "name",
    metavar="NAME",
    envvar="MESH_BY",
    show_envvar=True,
    callback=lambda _context, _option, given: given or login_name(),
    help="Who signs in with the code that is printed; your login name without it.",
)
@click.option("--listen", metavar="HOST:PORT", help="Where to listen, on this machine (else MESH_CONSOLE_ADDRESS).")
@click.option("--own-roles", is_flag=True, help="Give NAME no roles but those that the mesh gives them.")
@service_options
def console(
    *, name: str, listen: str | None, own_roles: bool, broker: str | None, as_json: bool, log_level: str | None
) -> None:
    """Run the console until SIGTERM or Ctrl-C: pages for people who answer, and for operators.

    It listens on this machine alone, and prints a link that signs in NAME. Whoever starts it may
    read the broker anyway, so NAME sees all workflows; what NAME may answer, their roles say.
    """
    settings = load_settings(
        broker=broker, log_format="json" if as_json else None, log_level=log_level, console_address=listen
    )
    configure_logging(level=settings.log_level, log_format=settings.log_format)
    run_service(run_console(settings, name, partial(_tell, name), own_roles=own_roles))


def _tell(name: str, url: str, code: str, key: Path) -> None:
    click.echo(f"console at {url}; to sign in as {name}: {url}/login?{urlencode({'code': code})}", err=True)
    click.echo(
        f"its answers are signed once `mesh approver add` has taken its key: {key.with_suffix('.jwk')}", err=True
    )

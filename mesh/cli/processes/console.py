"""`mesh console`: the pages in which people answer, and operators look; and tokens of programs.

Owns the commands' options and what they say. `mesh.wiring` runs the console; this module is apart
from the other services, which load no part of it.
"""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

import click

from mesh.cli.options import login_name
from mesh.cli.processes.services import service_options
from mesh.cli.session import Session, mesh_command
from mesh.cli.text.format import clock_time, printable, until
from mesh.cli.text.tables import plain_table
from mesh.codec.times import rfc3339
from mesh.errors import NotFound
from mesh.observability import configure_logging
from mesh.settings import load_settings
from mesh.wiring import console_tokens, run_console
from mesh.wiring import run as run_service

if TYPE_CHECKING:
    from mesh.wiring.web import Token

MOST_DAYS: Final = 366


class ConsoleGroup(click.Group):
    """Without a verb the console is run."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        is_bare = not args or (args[0].startswith("-") and args[0] not in {"-h", "--help"})
        return super().parse_args(ctx, ["run", *args] if is_bare and not ctx.resilient_parsing else args)


@click.group(cls=ConsoleGroup, short_help="Run the pages in which people answer and look.")
def console() -> None:
    """The console: its pages, and the tokens of programs that use its API. Without a verb: run."""


@console.command("run", short_help="Run the pages until SIGTERM or Ctrl-C.")
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
def run_it(
    *, name: str, listen: str | None, own_roles: bool, broker: str | None, as_json: bool, log_level: str | None
) -> None:
    """Run the console until SIGTERM or Ctrl-C: pages for people who answer, and for operators.

    Without a provider to sign in with (MESH_CONSOLE_OIDC_ISSUER) it listens on this machine alone,
    and prints a link that signs in NAME. The person who starts it may read the broker anyway, so
    NAME sees all workflows; what NAME may answer, their roles say.
    """
    settings = load_settings(
        broker=broker, log_format="json" if as_json else None, log_level=log_level, console_address=listen
    )
    configure_logging(level=settings.log_level, log_format=settings.log_format)
    run_service(run_console(settings, name, partial(_tell, name), own_roles=own_roles))


def _tell(name: str, url: str, code: str, key: Path) -> None:
    way = (
        f"to sign in as {name}: {url}/login?{urlencode({'code': code})}" if code else "people sign in with the provider"
    )
    click.echo(f"console at {url}; {way}", err=True)
    click.echo(
        f"its answers are signed once `mesh approver add` has taken its key: {key.with_suffix('.jwk')}", err=True
    )


# Tokens -------------------------------------------------------------------------------------------


@console.command("token", short_help="Make a token with which a program may use the API.")
@click.argument("name", metavar="NAME")
@click.option("--days", type=click.IntRange(1, MOST_DAYS), required=True, help="How long it counts.")
@click.option("--note", default="", metavar="TEXT", help="What it is for.")
@mesh_command
def token(session: Session, *, name: str, days: int, note: str) -> None:
    """Make a token that may do what NAME may, and print it. It is shown this once.

    It counts at the consoles that keep their files in MESH_DATA_DIR on this machine, from now on.
    """
    with console_tokens(session.settings) as tokens:
        secret, made = tokens.make(name, days=days, note=note)
    if session.as_json:
        session.emit({"token": secret, **_document(made)})
        return
    click.echo(secret)
    session.note(
        f"a token of {name}, until {clock_time(made.ends_at_ms, session.now_ms())}: keep it in a file that only its "
        f"program may read. To take it back: mesh console revoke {made.id}"
    )


@console.command("tokens", short_help="List the tokens that count.")
@mesh_command
def list_tokens(session: Session) -> None:
    """List the tokens that count: ids, whose they are, until when. Their secrets are not kept."""
    with console_tokens(session.settings) as tokens:
        valid = tokens.valid()
    if session.as_json:
        session.emit({"tokens": [_document(one) for one in valid]})
    elif not valid:
        session.show("No token counts.")
    else:
        rows = plain_table("ID", "PERSON", "ENDS", "NOTE", whole=["ID", "ENDS"])
        for one in valid:
            rows.add_row(one.id, printable(one.person), until(one.ends_at_ms, session.now_ms()), printable(one.note))
        session.show(rows)


@console.command("revoke", short_help="Let a token count no more.")
@click.argument("token_id", metavar="ID")
@mesh_command
def revoke(session: Session, *, token_id: str) -> None:
    """Let the token ID count no more, at once."""
    with console_tokens(session.settings) as tokens:
        if not tokens.revoke(token_id):
            raise NotFound(f"there is no token {token_id}: `mesh console tokens` lists them")
    if session.as_json:
        session.emit({"revoked": token_id})
    else:
        session.show(f"The token {token_id} counts no more.")


def _document(one: "Token") -> dict[str, object]:
    return {
        "id": one.id,
        "person": one.person,
        "note": one.note,
        "made_at": rfc3339(one.made_at_ms),
        "ends_at": rfc3339(one.ends_at_ms),
    }

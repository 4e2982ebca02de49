"""What a console needs: addresses, folders and limits. `mesh.wiring` makes it from settings."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from mesh.codec.links import Links
from mesh.codec.webhooks import Terms
from mesh.console.oidc.provider import OidcConfig

ANSWERS_A_MINUTE: Final = 20  # of one person
STREAMS: Final = 5  # of live updates, of one person
FORM_BYTES: Final = 1_048_576
SESSION_S: Final = 12 * 3_600
PAGE_ROWS: Final = 50


class DevLogin(msgspec.Struct, frozen=True, kw_only=True):
    """Sign-in on this machine alone: who has `code` is `name`.

    `roles`: roles of the console that the person has besides their own.
    """

    name: str
    code: str
    roles: frozenset[str] = frozenset()


class ConsoleConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`hosts`: what a browser may call this console, in the header `Host`.

    `url`: where people reach it, for links; empty: not known. `tokens`: the file of programs'
    tokens; None: in `folder`. `oidc`: how people sign in; None: by the code of `login`, which else
    counts for nothing. `links`: checks links that open one approval without a sign-in; None: there
    are none. `webhooks`: of the gateway, for those that it kept as dead letters.
    """

    broker_url: str
    instance: str
    model: Path
    inbox: Path
    folder: Path
    approvers: Path
    hosts: frozenset[str]
    login: DevLogin
    receipt_s: float = 10.0
    url: str = ""
    tokens: Path | None = None
    oidc: OidcConfig | None = None
    links: Links | None = None
    webhooks: Mapping[str, Terms] = {}

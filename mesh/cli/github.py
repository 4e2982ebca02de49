"""The options that say what a file with the body of a GitHub webhook came with."""

from collections.abc import Callable
from typing import Any

import click

from mesh.codec.github import ISSUES, read_payload, webhook_event


def delivery_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--delivery` and `--kind`, which go with `--github`."""
    kind = click.option("--kind", metavar="KIND", help=f"With --github: the X-GitHub-Event header, else {ISSUES}.")
    delivery = click.option(
        "--delivery", metavar="ID", help="With --github: the X-GitHub-Delivery header, which becomes the event's id."
    )
    return delivery(kind(function))


def check_delivery(*, is_github: bool, delivery: str | None, kind: str | None) -> None:
    """Raise `UsageError` if one of these options is there without `--github`."""
    for name, given in (("delivery", delivery), ("kind", kind)):
        if given is not None and not is_github:
            raise click.UsageError(f"--{name} is said of a GitHub webhook's body; it needs --github")


def github_event(raw: bytes, *, delivery: str | None, kind: str | None) -> dict[str, Any]:
    """The event of a webhook's body. Raises `MalformedRecord`."""
    return webhook_event(read_payload(raw), kind=kind or ISSUES, delivery=delivery, raw=raw)

"""The links that open one approval, of a notifier and of a console: both need the same."""

import re

from mesh.codec.links import Links
from mesh.settings import Settings, read_secret


def links_of(settings: Settings) -> Links | None:
    """None: there are no secrets, so there are no such links. Raises `SettingsInvalid`."""
    secrets = [one for one in re.split(r"[\s,]+", read_secret(settings, "console_link_secrets") or "") if one]
    return Links(settings.console_url, secrets, life_ms=settings.console_link_s * 1_000) if secrets else None

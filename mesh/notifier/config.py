"""What a notifier may be set to."""

import msgspec

from mesh import defaults
from mesh.codec.links import Links


class NotifierConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`console_url` empty: messages have a command instead of a link.

    `links`: makes links that need no sign-in; None: the links of messages lead to the sign-in.
    `look_s`: how often it looks for what is new. `people_s`: ... of people and addresses.
    """

    instance: str
    console_url: str = ""
    links: Links | None = None
    include_payload: bool = False
    session_timeout_s: float = defaults.SESSION_TIMEOUT_S
    drain_s: float = defaults.DRAIN_TIMEOUT_S
    look_s: float = 0.5
    people_s: float = 2.0

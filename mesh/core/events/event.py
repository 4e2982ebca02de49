"""The base class of all events."""

import msgspec


class LogEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="event"):
    pass

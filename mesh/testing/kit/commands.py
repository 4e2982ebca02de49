"""Sends what an operator orders, for the kit and its runs, and says if it is refused."""

from typing import TYPE_CHECKING, Any

from mesh.codec.commands import encode_command
from mesh.core.events import CommandRefused
from mesh.core.inputs import Command
from mesh.testing.kit.errors import Refused, is_for_the_test

if TYPE_CHECKING:
    from mesh.testing.kit.kit import MeshKit

__tracebackhide__ = is_for_the_test


def send_command(kit: "MeshKit", command: Command, workflow_id: str, **more: Any) -> None:
    """Send it, and let everything happen that follows at once. Raises `Refused`.

    `more`: as `encode_command` takes it.
    """
    command_id = kit.stage.fresh("command")
    record = encode_command(
        topics=kit.stage.topics,
        command=command,
        workflow_id=workflow_id,
        command_id=command_id,
        at_ms=kit.now_ms(),
        **more,
    )
    kit.act(kit.stage.send([record]))
    for heard in reversed(kit.stage.heard):
        for event in heard.decision.events:
            if isinstance(event, CommandRefused) and event.command_id == command_id:
                raise Refused(f"{workflow_id} takes no {command}: {event.message} ({event.code})", code=event.code)

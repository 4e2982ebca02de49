"""Aliases: other ids under which events find a workflow."""

from mesh.core.calls import Caller
from mesh.core.events.event import LogEvent
from mesh.core.state import KeptEvent


class AliasSought(LogEvent, tag="AliasSought.1", frozen=True, kw_only=True):
    """A step has succeeded and asks for its alias. It is settled when the alias is granted."""

    step: str
    task_id: str  # names the step and its round
    claim: int  # how often it has asked
    alias: str  # its id


class AliasGranted(LogEvent, tag="AliasGranted.1", frozen=True, kw_only=True):
    """Events now find the workflow by the step's alias."""

    step: str
    alias: str


class AliasWaived(LogEvent, tag="AliasWaived.1", frozen=True, kw_only=True):
    """The step is settled without its alias."""

    step: str
    reason: str


class AliasReturned(LogEvent, tag="AliasReturned.1", frozen=True, kw_only=True):
    """The workflow ends and gives the alias back."""

    alias: str
    run_id: str


class AliasBound(LogEvent, tag="AliasBound.1", frozen=True, kw_only=True):
    """An alias now belongs to the claimant's workflow, which is sent the answer."""

    claimant: Caller


class AliasRefused(LogEvent, tag="AliasRefused.1", frozen=True, kw_only=True):
    """An alias was refused: another workflow has it, or the claim was parked."""

    claimant: Caller
    message: str


class EventRedirected(LogEvent, tag="EventRedirected.1", frozen=True, kw_only=True):
    """An alias sends an event on to its workflow."""

    kept: KeptEvent
    to: str

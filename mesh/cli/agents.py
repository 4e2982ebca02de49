"""`mesh agents list | show | forget | pause | resume`: who is alive, and what they can do.

Owns how agents are shown, and the withdrawal of a registration. `mesh status` shows its table too.
"""

import click
from rich.table import Table
from rich.text import Text

from mesh.cli.choice import among_ids, pick
from mesh.cli.grammar import NounGroup
from mesh.cli.pausing import pause_command, pause_document, resume_command
from mesh.cli.session import Session, mesh_command
from mesh.cli.text.format import ago, printable, readable
from mesh.cli.text.tables import plain_table
from mesh.cli.text.workflow import paused_line
from mesh.codec.cards import withdraw_registration
from mesh.codec.times import rfc3339
from mesh.errors import BrokerUnavailable, NotFound, OperatorError
from mesh.inspection.mesh_status import AgentStatus, assess
from mesh.inspection.read_model import queries
from mesh.inspection.read_model.queries import CardRow


@click.group(cls=NounGroup, short_help="List agents and who is alive.")
def agents() -> None:
    """Agents: who is alive, and who is registered for which capability. Without a verb: list."""


@agents.command("list", short_help="List agents and who is alive.")
@click.option("--schemas", is_flag=True, help="With --json: the input and output schemas too.")
@mesh_command
def list_agents(session: Session, *, schemas: bool) -> None:
    """List agents: replicas, versions, capabilities, tasks that wait.

    A replica is alive while it renews its card; an agent that is registered for a capability gets
    tasks whether or not one is.
    """
    found, cards = session.run(_read(session))
    now_ms = session.now_ms()
    if session.as_json:
        session.emit({"agents": [_document(one, cards, now_ms, schemas=schemas) for one in found]})
    elif not found:
        session.show("No agent has been here yet. Start one: mesh agent MODULE")
    else:
        session.show(table(found, cards, now_ms))
        for one in found:
            if one.pause is not None:
                session.show(Text(f"{printable(one.name)} is ").append_text(paused_line(one.pause, now_ms)))
            if one.conflict is not None:
                session.show(Text(printable(f"{one.conflict}: tasks go to either"), style="yellow"))


@agents.command("show", short_help="Show one agent: its replicas and their schemas.")
@click.argument("name", metavar="NAME")
@mesh_command
def show_agent(session: Session, *, name: str) -> None:
    """Show the agent NAME (or any part that fits only one).

    Shown are its replicas, what it can do, and what it takes and gives.
    """
    found, cards = session.run(_read(session))
    names = among_ids([one.name for one in found], what="agent", whats="agents", where="mesh agents list")
    chosen = pick(session, name, names, changes=False)
    [agent] = [one for one in found if one.name == chosen]
    document = _document(agent, cards, session.now_ms(), schemas=True)
    if session.as_json:
        session.emit(document)
    else:
        session.show(table((agent,), cards, session.now_ms()), "", Text(readable(document["replicas"])))
        if agent.pause is not None:
            session.show(paused_line(agent.pause, session.now_ms()))
        if agent.conflict is not None:
            session.show(Text(printable(f"{agent.conflict}: tasks go to either"), style="yellow"))


@agents.command("forget", short_help="Withdraw the registration of an agent that is gone for good.")
@click.argument("name", metavar="NAME")
@mesh_command
def forget(session: Session, *, name: str) -> None:
    """Withdraw the registration of the agent NAME.

    It is chosen for no capability any more, until a process of it starts again. NAME is its whole
    name.
    """
    session.run(_forget(session, name))
    if session.as_json:
        session.emit({"forgotten": name})
    else:
        session.show(f"{name} is registered for nothing any more.")


agents.add_command(pause_command("agent"))
agents.add_command(resume_command("agent"))


async def _forget(session: Session, name: str) -> None:
    async with session.model(read_only=False) as (broker, model):
        own = [row for row in queries.cards(model.db) if row.card.name == name]
        if not any(row.card.registration for row in own):
            raise NotFound(f"the agent {name} is not registered for any capability: `mesh agents` shows who is")
        if any(row.is_alive(session.now_ms()) for row in own):
            raise OperatorError(f"the agent {name} is alive, and would register again: stop it first")
        failures = await broker.send([withdraw_registration(name, topics=session.topics)])
    if failures:
        raise BrokerUnavailable(f"the registration of {name} could not be withdrawn: {failures[0].message}")


async def _read(session: Session) -> tuple[tuple[AgentStatus, ...], list[CardRow]]:
    async with session.model() as (broker, model):
        url = session.settings.broker
        status = await assess(broker, session.topics, model, broker_url=url, now_ms=session.now_ms())
        return status.agents, queries.cards(model.db)


def table(found: tuple[AgentStatus, ...], cards: list[CardRow], now_ms: int) -> Table:
    names = ("AGENT", "STATE", "VERSION", "CAPABILITIES", "REPLICAS", "RUNNING", "UNREAD", "LAST HEARD")
    rows = plain_table(*names, numbers=["REPLICAS", "RUNNING", "UNREAD"])
    for agent in found:
        own = [row for row in cards if row.card.name == agent.name and not row.card.registration]
        heard = max((row.renewed_at_ms for row in own), default=None)
        rows.add_row(
            Text(printable(agent.name), style="bold"),
            _state(agent, own),
            Text(", ".join(agent.versions)) + Text("  schemas differ" if agent.conflict else "", style="yellow"),
            ", ".join(map(printable, agent.capabilities)),
            str(agent.alive),
            str(agent.running),
            "no topic" if agent.lag is None else f"{agent.lag:,}",
            "never" if heard is None else ago(heard, now_ms),
        )
    return rows


def _state(agent: AgentStatus, own: list[CardRow]) -> Text:
    if agent.pause is not None:
        return Text("paused", style="yellow")
    if agent.alive:
        return Text("alive", style="green")
    if agent.capabilities:
        return Text("registered", style="red" if agent.running or agent.lag else "yellow")
    said = "never seen" if not own else "stopped" if all(row.card.stopped for row in own) else "gone"
    return Text(said, style="red" if agent.running or agent.lag else "yellow")


def _document(agent: AgentStatus, cards: list[CardRow], now_ms: int, *, schemas: bool) -> dict[str, object]:
    return {
        "name": agent.name,
        "alive": agent.alive,
        "versions": agent.versions,
        "capabilities": agent.capabilities,
        "running": agent.running,
        "unread": agent.lag,
        "paused": pause_document(agent.pause),
        "schemas_differ": None if agent.conflict is None else str(agent.conflict),
        "replicas": [
            _replica(row, now_ms, schemas=schemas)
            for row in cards
            if row.card.name == agent.name and not row.card.registration
        ],
    }


def _replica(row: CardRow, now_ms: int, *, schemas: bool) -> dict[str, object]:
    card = row.card
    document: dict[str, object] = {
        "instance": card.instance,
        "version": card.version,
        "alive": row.is_alive(now_ms),
        "stopped": card.stopped,
        "concurrency": card.concurrency,
        "renewed_at": rfc3339(row.renewed_at_ms),
    }
    if schemas:
        document |= {"input_schema": card.input_schema, "output_schema": card.output_schema}
    return document

"""`mesh agents`: which agents there are, and who is alive."""

import click
from rich.table import Table
from rich.text import Text

from mesh.cli.human import ago, printable
from mesh.cli.session import Session, mesh_command
from mesh.codec.times import rfc3339
from mesh.services.mesh_status import AgentStatus, assess
from mesh.services.read_model import queries
from mesh.services.read_model.queries import CardRow

__all__ = ["agents"]


@click.command(short_help="List agents and who is alive.")
@click.option("--schemas", is_flag=True, help="With --json: the input and output schemas too.")
@mesh_command
def agents(session: Session, *, schemas: bool) -> None:
    """List agents: replicas, versions, tasks that wait. A replica is alive while it renews its card."""
    found, cards = session.run(_read(session))
    now_ms = session.now_ms()
    if session.as_json:
        session.emit({"agents": [_document(one, cards, now_ms, schemas=schemas) for one in found]})
    elif not found:
        session.show("No agent has been here yet. Start one: mesh agent MODULE")
    else:
        session.show(table(found, cards, now_ms))


async def _read(session: Session) -> tuple[tuple[AgentStatus, ...], list[CardRow]]:
    async with session.model() as (broker, model):
        url = session.settings.broker
        status = await assess(broker, session.topics, model, broker_url=url, now_ms=session.now_ms())
        return status.agents, queries.cards(model.db)


def table(found: tuple[AgentStatus, ...], cards: list[CardRow], now_ms: int) -> Table:
    rows = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 3, 0, 0))
    for name in ("AGENT", "STATE", "VERSION", "REPLICAS", "RUNNING", "UNREAD", "LAST HEARD"):
        rows.add_column(name, overflow="fold", justify="right" if name in {"REPLICAS", "RUNNING", "UNREAD"} else "left")
    for agent in found:
        own = [row for row in cards if row.card.name == agent.name]
        heard = max((row.renewed_at_ms for row in own), default=None)
        rows.add_row(
            Text(printable(agent.name), style="bold"),
            _state(agent, own),
            ", ".join(agent.versions),
            str(agent.alive),
            str(agent.running),
            "no topic" if agent.lag is None else f"{agent.lag:,}",
            "never" if heard is None else ago(heard, now_ms),
        )
    return rows


def _state(agent: AgentStatus, own: list[CardRow]) -> Text:
    if agent.alive:
        return Text("alive", style="green")
    said = "never seen" if not own else "stopped" if all(row.card.stopped for row in own) else "gone"
    return Text(said, style="red" if agent.running or agent.lag else "yellow")


def _document(agent: AgentStatus, cards: list[CardRow], now_ms: int, *, schemas: bool) -> dict[str, object]:
    return {
        "name": agent.name,
        "alive": agent.alive,
        "versions": agent.versions,
        "running": agent.running,
        "unread": agent.lag,
        "replicas": [_replica(row, now_ms, schemas=schemas) for row in cards if row.card.name == agent.name],
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

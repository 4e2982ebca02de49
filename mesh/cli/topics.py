"""`mesh topics list | plan | apply | check | acls | export`: topics, contracts and rights.

Owns how topics, differences and grants are shown. `mesh.services.topic_plan` compares the topics
with their contracts, and `mesh.services.topic_acls` makes the grants.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import click
from rich.table import Table
from rich.text import Text

from mesh.cli.exit_codes import FAILED
from mesh.cli.grammar import NounGroup
from mesh.cli.session import Session, mesh_command
from mesh.cli.text.format import counted, printable
from mesh.cli.text.tables import plain_table
from mesh.codec.route_file import load_routes
from mesh.core.route import agents_of
from mesh.ports import TopicInfo, TopicSpec
from mesh.services import contract_changes, strimzi, topic_acls, topic_plan
from mesh.services.topic_plan import Difference

STYLES = {
    "missing": "green",
    "partitions_fixed": "bold red",
    "partitions": "yellow",
    "config": "yellow",
    "codec": "bold red",
}

routes_option = click.option(
    "--routes",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Route files and folders: each agent that they name gets a topic (else MESH_ROUTES).",
)
agents_option = click.option(
    "--agent", "agents", multiple=True, metavar="NAME", help="Another agent that gets a topic."
)
principals_option = click.option(
    "--principal",
    "principals",
    multiple=True,
    metavar="WHO=PRINCIPAL",
    help="Who is who on the cluster: router, upstream, approver, notifier, people, operator or agent.NAME, e.g. router=User:CN=router.",
)
cluster_option = click.option(
    "--cluster", default="kafka", show_default=True, metavar="NAME", help="The Kafka that Strimzi runs."
)


@click.group(cls=NounGroup, short_help="List, plan and apply the topics.")
def topics() -> None:
    """The broker's topics, and their contracts (topics/topics.yaml). Without a verb: list."""


@topics.command("list", short_help="List the topics of this mesh.")
@mesh_command
def list_topics(session: Session) -> None:
    """List the topics of this mesh that are on the broker: those that begin with its prefix."""
    found = session.run(_list(session))
    if session.as_json:
        session.emit({"topics": found, "total": len(found)})
    elif not found:
        session.show(
            f"No topic begins with {printable(session.settings.topic_prefix)}: `mesh topics apply` makes them."
        )
    else:
        session.show(_table(found))


async def _list(session: Session) -> list[TopicInfo]:
    async with session.broker(read_only=True) as broker:
        known = await broker.topics()
    return [known[name] for name in sorted(known) if name.startswith(session.settings.topic_prefix)]


def _table(found: list[TopicInfo]) -> Table:
    table = plain_table("TOPIC", "PARTITIONS", "SETTINGS", numbers=["PARTITIONS"])
    for one in found:
        settings = ", ".join(f"{name}={value}" for name, value in sorted(one.config.items()))
        table.add_row(Text(printable(one.name), style="bold"), str(one.partitions), Text(settings, style="dim"))
    return table


@topics.command(short_help="Show what differs from the contracts.")
@routes_option
@agents_option
@mesh_command
def plan(session: Session, *, routes: tuple[Path, ...], agents: tuple[str, ...]) -> None:
    """Show what differs. Exits with 1 if anything is missing or wrong."""
    found = session.run(_plan(session, _specs(session, routes, agents)))
    _tell(session, found, applied=False)
    if found:
        sys.exit(FAILED)


@topics.command(short_help="Create the topics that are missing.")
@routes_option
@agents_option
@mesh_command
def apply(session: Session, *, routes: tuple[Path, ...], agents: tuple[str, ...]) -> None:
    """Create what is missing. What is there is never changed: differences are shown."""
    _tell(session, session.run(_apply(session, _specs(session, routes, agents))), applied=True)


@topics.command(short_help="Refuse contracts that break those of before.")
@click.option(
    "--against",
    required=True,
    metavar="REV|DIR",
    help="What others hold to: a revision of this checkout's git history, or a folder with topics.yaml and schemas/.",
)
@mesh_command
def check(session: Session, *, against: str) -> None:
    """Compare the topics' contracts with those of before. Exits with 1 if they break somebody.

    It refuses a topic or a field that is gone, a field that is newly required, a narrower type or
    list of values, and another key or partition count. It asks no broker.
    """
    now = contract_changes.read_contracts(topic_plan.CONTRACTS)
    found = contract_changes.breaks(contract_changes.contracts_of(against), now)
    if session.as_json:
        session.emit({"breaks": found, "against": against})
    elif found:
        for one in found:
            session.show(Text("! ", style="bold red") + Text(printable(str(one)), style="default"))
        session.note(
            f"{counted(len(found), 'break')} against {printable(against)}; keep the old contract, and add a new "
            "message, an optional field or a new topic beside it"
        )
    else:
        session.show(Text(f"The contracts may follow those of {printable(against)}.", style="green"))
    if found:
        sys.exit(FAILED)


@topics.command(short_help="Print the rights that each part of the mesh needs.")
@routes_option
@agents_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["kafka-acls", "strimzi", "json"]),
    default="kafka-acls",
    show_default=True,
    help="Commands of Kafka's own tool, Strimzi's KafkaUsers, or JSON.",
)
@principals_option
@cluster_option
@mesh_command
def acls(
    session: Session,
    *,
    routes: tuple[Path, ...],
    agents: tuple[str, ...],
    form: str,
    principals: tuple[str, ...],
    cluster: str,
) -> None:
    """Print the rights that each part of the mesh needs, and no others. Nothing is granted here."""
    found = _grants(session, _agents(session, routes, agents), principals)
    if session.as_json or form == "json":
        session.emit({"grants": found})
    elif form == "strimzi":
        click.echo(strimzi.as_yaml(strimzi.kafka_users(found, cluster=cluster)))
    else:
        click.echo(topic_acls.as_commands(found))


@topics.command(short_help="Print topics and rights as resources of Strimzi.")
@routes_option
@agents_option
@principals_option
@cluster_option
@mesh_command
def export(
    session: Session,
    *,
    routes: tuple[Path, ...],
    agents: tuple[str, ...],
    principals: tuple[str, ...],
    cluster: str,
) -> None:
    """Print a KafkaTopic for each topic, and a KafkaUser with its rights for each part of the mesh.

    They are for Strimzi's operators, in version kafka.strimzi.io/v1. Nothing is created here.
    """
    users = strimzi.kafka_users(_grants(session, _agents(session, routes, agents), principals), cluster=cluster)
    resources = strimzi.kafka_topics(_specs(session, routes, agents), cluster=cluster) + users
    if session.as_json:
        session.emit({"resources": resources})
    else:
        click.echo(strimzi.as_yaml(resources))


def _grants(session: Session, agents: list[str], principals: tuple[str, ...]) -> list[topic_acls.Grant]:
    """The rights of every part. `principals`: `WHO=PRINCIPAL`, as they were typed."""
    for one in principals:
        if "=" not in one:
            raise click.BadParameter(f"{one!r} must be WHO=PRINCIPAL", param_hint="--principal")
    return topic_acls.grants(session.topics, agents, dict(one.split("=", 1) for one in principals))


def agents_of_routes(paths: Sequence[Path]) -> list[str]:
    """The agents that the route files name.

    Folders that do not exist count as empty, because the default folder may not exist.
    """
    there = [path for path in paths if path.exists()]
    return sorted({agent for loaded in load_routes(there) for agent in agents_of(loaded.route)}) if there else []


def _specs(session: Session, routes: tuple[Path, ...], agents: tuple[str, ...]) -> list[TopicSpec]:
    settings = session.settings
    names = _agents(session, routes, agents)
    return topic_plan.topic_specs(
        session.topics, settings.partitions, names, task_partitions=settings.task_partitions, replicas=settings.replicas
    )


def _agents(session: Session, routes: tuple[Path, ...], agents: tuple[str, ...]) -> list[str]:
    """Every agent that the routes or the command line name."""
    for path in routes:
        if not path.exists():
            raise click.BadParameter(f"{path} is not there", param_hint="--routes")
    return sorted({*agents_of_routes(routes or session.settings.routes), *agents})


async def _plan(session: Session, specs: list[TopicSpec]) -> list[Difference]:
    async with session.broker() as broker:
        return await topic_plan.plan(broker, specs, topics=session.topics)


async def _apply(session: Session, specs: list[TopicSpec]) -> list[Difference]:
    async with session.broker() as broker:
        return await topic_plan.apply(broker, specs, topics=session.topics)


def _tell(session: Session, found: list[Difference], *, applied: bool) -> None:
    if session.as_json:
        session.emit({"differences": found, "applied": applied})
        return
    if not found:
        session.show(Text("The topics are as their contracts say.", style="green"))
        return
    for one in found:
        created = applied and one.kind == "missing"
        sign = "+" if one.kind == "missing" else "!"
        rest = (
            f"created with {one.wanted}" if created else f"{one.found or 'not there'}, wanted {one.wanted}; {one.fix}"
        )
        session.show(Text(f"{sign} {one.topic}  ", style=STYLES[one.kind]) + Text(rest, style="default"))
    if not applied:
        session.note(f"{counted(len(found), 'difference')}; `mesh topics apply` creates what is missing")

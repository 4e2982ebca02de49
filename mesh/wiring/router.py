"""A router as a process, with its card and the approvers' file beside it."""

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from mesh.adapters.system import SystemClock, SystemEntropy, sight
from mesh.core.route import Route
from mesh.core.topics import Topics
from mesh.data_folders import claim_slot
from mesh.observed import Observed, observe
from mesh.ports import Broker, CheckpointStore
from mesh.services.router.config import RouterConfig
from mesh.settings import (
    Settings,
    SqliteAddress,
    parse_broker_url,
)
from mesh.wiring.brokers import check_rights, make_topics, open_broker
from mesh.wiring.process import beat_until_cancelled, one_error, stop_on_signals

if TYPE_CHECKING:
    from mesh.services.router.approvers import Rule
    from mesh.services.router.router import Router


_log = structlog.get_logger()


async def run_router(settings: Settings) -> None:
    """Run a router until SIGTERM or SIGINT."""
    from mesh.codec.route_file import load_routes  # noqa: PLC0415 - an agent does not need the router's parts
    from mesh.services import topic_plan  # noqa: PLC0415 - as above
    from mesh.services.people import people_now  # noqa: PLC0415 - as above
    from mesh.services.router.approvers import rule_at_start  # noqa: PLC0415 - as above

    routes = [loaded.route for loaded in load_routes(own_routes(settings))]
    folder = claim_slot(settings, "checkpoints")
    observed = observe(settings, "router")
    broker = await open_broker(settings.broker, client_id=f"router-{settings.instance}", settings=settings)
    ready = asyncio.Event()
    routers: list[Router] = []
    beating = asyncio.create_task(beat_until_cancelled(settings, partial(_router_waits_for, routers), ready))
    try:
        if isinstance(parse_broker_url(settings.broker), SqliteAddress):
            await make_topics(broker, settings, [])
        topics = Topics(settings.topic_prefix)
        await check_rights(broker, settings, topic_plan.topics_of_router(topics))
        # once the topic rules, not even an invalid file keeps a router from starting
        people = await people_now(broker, topics, SystemClock().now_ms())
        rule = rule_at_start(settings.approvers.absolute(), topics.people, people)
        router = _router(settings, broker, routes, rule.roles, folder=folder, observed=observed, ready=ready)
        routers.append(router)
        stop_on_signals(router.stop)
        await _run_with_card(settings, router, broker, routes, rule)
    except BaseExceptionGroup as group:
        raise one_error(group) from group
    finally:
        beating.cancel()
        await broker.close()
        await observed.close()


def _router_waits_for(routers: "Sequence[Router]") -> str:
    return routers[0].waits_for() if routers else "it has not started yet"


def _router(
    settings: Settings,
    broker: Broker,
    routes: Sequence[Route],
    roles: Mapping[str, frozenset[str]],
    *,
    folder: Path,
    observed: Observed,
    ready: asyncio.Event,
) -> "Router":
    """The router with its settings and this machine's clocks. `folder`: of its checkpoints."""
    from mesh.adapters.checkpoint import CheckpointFile  # noqa: PLC0415 - an agent does not need the router's parts
    from mesh.services.router.metrics import RouterMetrics  # noqa: PLC0415 - as above
    from mesh.services.router.router import Router  # noqa: PLC0415 - as above

    def open_checkpoint(partition: int) -> CheckpointStore:
        return CheckpointFile.open(folder / f"{partition}.db")

    clock, topics = SystemClock(), Topics(settings.topic_prefix)
    meters = observed.meters
    metrics = None if meters is None else RouterMetrics(meters, topics, broker, clock, partitions=settings.partitions)
    router = Router(
        broker,
        topics=topics,
        routes=routes,
        roles=roles,
        config=RouterConfig(
            instance=settings.instance,
            approvers=str(settings.approvers.absolute()),
            answers=settings.least_answer,
            answer_max_age_ms=settings.answer_max_age_s * 1_000,
            partitions=settings.partitions,
            session_timeout_s=settings.session_timeout_s,
            max_poll_records=settings.batch_records,
            checkpoint_interval_s=settings.checkpoint_interval_s,
            drain_timeout_s=settings.drain_timeout_s,
            max_event_bytes=settings.max_event_bytes,
        ),
        clock=clock,
        entropy=SystemEntropy(),
        open_checkpoint=open_checkpoint,
        tracer=observed.tracer,
        metrics=metrics,
        ready=ready,
        sight=sight,
    )
    if observed.metering is not None and metrics is not None:
        observed.metering.sample(lambda: metrics.sample(router.owners.values(), router.ingress, router.checkpoints))
    return router


async def _run_with_card(
    settings: Settings, router: "Router", broker: Broker, routes: Sequence[Route], rule: "Rule"
) -> None:
    """Run the router, with its card and the approvers' file followed beside it."""
    from mesh.services.router.approvers import (  # noqa: PLC0415 - an agent does not need the router's parts
        ApproversWatch,
        Rule,
        held_roles,
    )
    from mesh.services.router.card import RouterCardKeeper  # noqa: PLC0415 - as above

    approvers, topics = settings.approvers.absolute(), Topics(settings.topic_prefix)
    card = RouterCardKeeper(
        broker,
        topics=topics,
        clock=SystemClock(),
        instance=settings.instance,
        every_s=settings.card_interval_s,
        answers=settings.answers,
    )
    if settings.answers == "unsigned":
        _log.warning(
            "answers_need_no_signature",
            effect=f"anybody who may write to {topics.responses} can answer in any name",
            next="give each person a key (mesh approver), and set MESH_ANSWERS=signed for all routers",
        )

    def tell(rule: Rule) -> None:
        router.set_roles(rule.roles, rule.people)
        card.set_roles(held_roles(rule.roles), rule.source, people=rule.version)

    tell(rule)
    watch = ApproversWatch(
        approvers, rule, topic=topics.people, routes=router.active_routes, people=router.people, tell=tell
    )
    watch.warn_of_roles(routes)
    beside = [asyncio.create_task(watch.follow()), asyncio.create_task(card.run())]
    try:
        await router.run()
    finally:
        for task in beside:
            task.cancel()
        await asyncio.wait(beside)
        await card.withdraw()


def own_routes(settings: Settings) -> Sequence[Path]:
    """The router's own route files.

    If nobody named any, the usual folder may be missing: then the router runs what was applied.
    """
    is_named = "routes" in settings.model_fields_set
    return settings.routes if is_named else [path for path in settings.routes if path.exists()]

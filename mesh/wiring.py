"""Wiring: the only place that chooses adapters, and the way from settings to running services.

Owns event loops, signals, and which adapter is behind a port. It must not decide anything about
workflows. The command line calls it, and so does `mesh.connect`.
"""

import asyncio
import gc
import re
import secrets
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_never

import structlog

from mesh.adapters.system import SystemClock, SystemEntropy, sight
from mesh.agent.definition import Agent
from mesh.agent.modules import import_agents_module
from mesh.agent.registry import agents_in
from mesh.core.route import Route
from mesh.core.topics import Topics
from mesh.data_folders import claim_slot
from mesh.errors import BrokerRefused, MeshError, OperatorError, SettingsInvalid
from mesh.heartbeat_file import write_heartbeat
from mesh.observed import Observed, observe
from mesh.ports import Broker, CheckpointStore
from mesh.services.agent_runtime.settings import AgentSettings
from mesh.services.client import Client
from mesh.services.router.config import RouterConfig
from mesh.settings import (
    KafkaAddress,
    MemoryAddress,
    Settings,
    SqliteAddress,
    load_settings,
    parse_broker_url,
    read_secret,
)

if TYPE_CHECKING:
    from mesh.services.agent_runtime.runtime import AgentRuntime
    from mesh.services.router.approvers import Rule
    from mesh.services.router.router import Router


_log = structlog.get_logger()


async def open_broker(url: str, *, client_id: str, settings: Settings, read_only: bool = False) -> Broker:
    """A connection to the broker at `url`.

    Raises `SettingsInvalid`, `OperatorError` or `BrokerUnavailable`, by whose fault it is.
    """
    match parse_broker_url(url):
        case SqliteAddress(path):
            from mesh.adapters.sqlite import SqliteBroker  # noqa: PLC0415 - only the chosen adapter's library is loaded

            return await SqliteBroker.open(
                path,
                client_id=client_id,
                durability=settings.durability,
                read_only=read_only,
                max_record_bytes=settings.max_record_bytes,
            )
        case KafkaAddress(bootstrap):
            from mesh.adapters.kafka import KafkaBroker  # noqa: PLC0415 - as above

            return await KafkaBroker.open(
                ",".join(bootstrap),
                client_id=client_id,
                request_timeout_s=settings.request_timeout_s,
                max_record_bytes=settings.max_record_bytes,
                security=_security(settings),
            )
        case MemoryAddress():
            raise SettingsInvalid(
                "memory:// lives inside one process and can't join several: use sqlite://PATH (or mesh.testing in tests)"
            )
        case unknown:
            assert_never(unknown)


def _security(settings: Settings) -> Any:
    """How to prove to a Kafka cluster who we are. Raises `SettingsInvalid`."""
    from mesh.adapters.kafka import security  # noqa: PLC0415 - only the chosen adapter's library is loaded

    def secret(name: str) -> security.Secret | None:
        text = read_secret(settings, name)
        return None if text is None else security.Secret(text)

    tokens: security.Tokens | None = None
    if settings.kafka_sasl_mechanism == "OAUTHBEARER":
        if settings.kafka_token_file is not None:
            tokens = security.TokenFile(settings.kafka_token_file)
        else:
            tokens = security.ClientCredentials(
                settings.kafka_token_url or "",
                settings.kafka_client_id or "",
                secret("kafka_client_secret") or security.Secret(""),
                scope=settings.kafka_token_scope or "",
                ca_file=settings.kafka_token_ca_file,
            )
    return security.Security(
        protocol=settings.kafka_security_protocol,
        mechanism=settings.kafka_sasl_mechanism,
        username=settings.kafka_username or "",
        password=secret("kafka_password"),
        tokens=tokens,
        ca_file=settings.kafka_ca_file,
        cert_file=settings.kafka_cert_file,
        key_file=settings.kafka_key_file,
        key_password=secret("kafka_key_password"),
        check_hostname=settings.kafka_check_hostname,
    )


async def _check_rights(broker: Broker, settings: Settings, names: Sequence[str]) -> None:
    """Raise `BrokerRefused` if the cluster does not show us a topic that we need.

    Only for a cluster with rights. It is said at the start: later it would be a result that can't
    be sent, or an answer that nobody reads.
    """
    if settings.kafka_security_protocol == "PLAINTEXT" or not isinstance(
        parse_broker_url(settings.broker), KafkaAddress
    ):
        return
    there = await broker.topics()
    hidden = [name for name in names if name not in there]
    if hidden:
        who = f"User:{settings.kafka_username}" if settings.kafka_username else "our principal"
        raise BrokerRefused(
            f"the cluster shows {who} no topic {', '.join(hidden)}: create what is missing (`mesh topics apply`), and give the "
            "rights that `mesh topics acls` prints"
        )


async def connect(broker: str | None = None, **options: Any) -> Client:
    """A client of the mesh at `broker` (else `MESH_BROKER`).

    `options`: settings by name, e.g. `topic_prefix`.
    """
    settings = load_settings(broker=broker, **options)
    opened = await open_broker(settings.broker, client_id=settings.instance, settings=settings)
    return Client(
        opened,
        Topics(settings.topic_prefix),
        clock=SystemClock(),
        entropy=SystemEntropy(),
        max_event_bytes=settings.max_event_bytes,
    )


async def make_topics(broker: Broker, settings: Settings, agents: Sequence[str]) -> None:
    """Create what is missing of the mesh's topics. Raises `PartitionsDiffer`."""
    from mesh.services import topic_plan  # noqa: PLC0415 - the contracts' YAML is read only where it is needed

    topics = Topics(settings.topic_prefix)
    specs = topic_plan.topic_specs(
        topics, settings.partitions, agents, task_partitions=settings.task_partitions, replicas=settings.replicas
    )
    await topic_plan.apply(broker, specs, topics=topics)


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a service's coroutine on the fastest event loop there is."""
    _tune_collector()
    if sys.platform == "win32":
        asyncio.run(main)
        return
    import uvloop  # noqa: PLC0415 - not there on Windows

    uvloop.run(main)


def _tune_collector() -> None:
    """Tune the garbage collector for services.

    They hold many values that live long and form no cycles. By default the collector would walk all
    of them again and again while the loop waits.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def load_agents(modules: Sequence[str]) -> list[Agent[Any, Any]]:
    """The agents of some modules, by dotted name.

    Raises `OperatorError` for a module that isn't there or has none.
    """
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    agents: list[Agent[Any, Any]] = []
    for name in modules:
        module = import_agents_module(name)
        found = agents_in(module)
        if not found:
            raise OperatorError(f"module {name} defines no agent: decorate a function with `@agent(...)`")
        agents.extend(agent for agent in found if agent not in agents)
    return agents


async def run_agents(settings: Settings, modules: Sequence[str]) -> None:
    """Run the modules' agents in this process until SIGTERM or SIGINT."""
    from mesh.services.agent_runtime.runtime import run_agents as serve  # noqa: PLC0415 - a router does not need it

    agents = load_agents(modules)
    names = "+".join(agent.name for agent in agents)
    observed = observe(settings, names)
    broker = await open_broker(settings.broker, client_id=f"{names}-{settings.instance}", settings=settings)
    runtimes: list[AgentRuntime] = []
    beating = asyncio.create_task(_beat_until_cancelled(settings, partial(_agents_wait_for, runtimes)))
    topics = Topics(settings.topic_prefix)
    try:
        own = [topics.tasks(agent.name) for agent in agents]
        await _check_rights(broker, settings, [*own, topics.results, topics.agents, topics.dlq])
        await serve(
            broker,
            agents,
            topics=topics,
            clock=SystemClock(),
            instance=settings.instance,
            settings=AgentSettings(
                task_partitions=settings.task_partitions,
                task_replicas=settings.replicas,
                poll_records=settings.batch_records,
                card_every_s=settings.card_interval_s,
                drain_s=settings.drain_timeout_s,
                session_timeout_s=settings.session_timeout_s,
            ),
            tracer=observed.tracer,
            metering=observed.metering,
            on_runtimes=runtimes.extend,
        )
    except BaseExceptionGroup as group:
        raise _one_error(group) from group
    finally:
        beating.cancel()
        await broker.close()
        await observed.close()


def _agents_wait_for(runtimes: "Sequence[AgentRuntime]") -> str:
    if not runtimes:
        return "its agents have not started yet"
    return "; ".join(f"{one.agent.name}: {one.waits_for}" for one in runtimes if one.waits_for)


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
    beating = asyncio.create_task(_beat_until_cancelled(settings, partial(_router_waits_for, routers), ready))
    try:
        if isinstance(parse_broker_url(settings.broker), SqliteAddress):
            await make_topics(broker, settings, [])
        topics = Topics(settings.topic_prefix)
        await _check_rights(broker, settings, topic_plan.topics_of_router(topics))
        # once the topic rules, not even an invalid file keeps a router from starting
        people = await people_now(broker, topics, SystemClock().now_ms())
        rule = rule_at_start(settings.approvers.absolute(), topics.people, people)
        router = _router(settings, broker, routes, rule.roles, folder=folder, observed=observed, ready=ready)
        routers.append(router)
        _stop_on_signals(router.stop)
        await _run_with_card(settings, router, broker, routes, rule)
    except BaseExceptionGroup as group:
        raise _one_error(group) from group
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


async def run_notifier(settings: Settings) -> None:
    """Run a notifier until SIGTERM or SIGINT."""
    from mesh.notifier.config import NotifierConfig  # noqa: PLC0415 - others do not need the notifier's parts
    from mesh.notifier.couriers import Couriers, MailServer, secret_key  # noqa: PLC0415 - as above
    from mesh.notifier.metrics import counted_by  # noqa: PLC0415 - as above
    from mesh.notifier.notifier import Notifier  # noqa: PLC0415 - as above

    keys = re.split(r"[\s,]+", read_secret(settings, "webhook_secrets") or "")
    clock, topics = SystemClock(), Topics(settings.topic_prefix)
    couriers = Couriers(
        clock,
        keys=[secret_key(secret) for secret in keys if secret],
        mail=MailServer(
            host=settings.smtp_host,
            port=settings.smtp_port,
            security=settings.smtp_security,
            username=settings.smtp_username,
            password=read_secret(settings, "smtp_password") or "",
            sender=settings.smtp_from,
        ),
    )
    folder = claim_slot(settings, "notifier")
    observed = observe(settings, "notifier")
    broker = await open_broker(settings.broker, client_id=f"notifier-{settings.instance}", settings=settings)
    ready = asyncio.Event()
    # it beats only once it has read what is open
    beating = asyncio.create_task(_beat_until_cancelled(settings, str, ready))
    try:
        if isinstance(parse_broker_url(settings.broker), SqliteAddress):
            await make_topics(broker, settings, [])
        await _check_rights(broker, settings, [topics.open_approvals, topics.people, topics.receipts, topics.notices])
        config = NotifierConfig(
            instance=settings.instance,
            console_url=settings.console_url,
            include_payload=settings.notifier_include_payload,
            session_timeout_s=settings.session_timeout_s,
            drain_s=settings.drain_timeout_s,
        )
        notifier = Notifier(
            broker,
            topics=topics,
            config=config,
            clock=clock,
            folder=folder,
            courier=couriers,
            on_ready=ready.set,
            on_told=counted_by(observed.meters),
        )
        _stop_on_signals(notifier.stop)
        await notifier.run()
    except BaseExceptionGroup as group:
        raise _one_error(group) from group
    finally:
        beating.cancel()
        await couriers.close()
        await broker.close()
        await observed.close()


async def run_gateway(settings: Settings) -> None:
    """Run a gateway until SIGTERM or SIGINT."""
    from mesh.gateway.app import Gateway  # noqa: PLC0415 - others do not need the gateway's parts
    from mesh.gateway.config import config_of  # noqa: PLC0415 - as above
    from mesh.gateway.intake import Intake  # noqa: PLC0415 - as above
    from mesh.gateway.server import GatewayServer  # noqa: PLC0415 - as above

    host, _, port = settings.gateway_address.rpartition(":")
    config = config_of(settings.gateway_config, host=host.strip("[]"))
    observed, topics = observe(settings, "gateway"), Topics(settings.topic_prefix)
    broker = await open_broker(settings.broker, client_id=f"gateway-{settings.instance}", settings=settings)
    beating = asyncio.create_task(_beat_until_cancelled(settings, str))
    try:
        if isinstance(parse_broker_url(settings.broker), SqliteAddress):
            await make_topics(broker, settings, [])
        await _check_rights(broker, settings, [topics.events])
        intake = Intake(broker, timeout_s=settings.request_timeout_s)
        gateway = Gateway(
            intake,
            config,
            topic=topics.events,
            max_event_bytes=settings.max_event_bytes,
            max_record_bytes=broker.max_record_bytes,
        )
        server = GatewayServer(gateway, intake, host=host.strip("[]"), port=int(port), drain_s=settings.drain_timeout_s)
        _stop_on_signals(server.stop)
        await server.run()
    finally:
        beating.cancel()
        await broker.close()
        await observed.close()


async def run_console(
    settings: Settings, name: str, tell: Callable[[str, str, Path], None], *, own_roles: bool = False
) -> None:
    """Run a console until SIGTERM or SIGINT, on which `name` can sign in.

    `tell` gets its URL, the code for signing in, and the file of its key, once it listens.
    `own_roles`: `name` has no roles but those that the mesh gives. Raises `OperatorError` if the
    address is not one of this machine, or is taken.
    """
    from mesh.console.config import ConsoleConfig, DevLogin  # noqa: PLC0415 - no other command loads a web server
    from mesh.console.listening import LOOPBACK, listen_on, url_of  # noqa: PLC0415 - as above
    from mesh.console.serving import Console  # noqa: PLC0415 - as above
    from mesh.console.staff import OPERATOR, VIEWER  # noqa: PLC0415 - as above
    from mesh.inspection.inbox import inbox_path  # noqa: PLC0415 - as above
    from mesh.inspection.read_model import model_path  # noqa: PLC0415 - as above

    roles = frozenset[str]() if own_roles else frozenset({VIEWER, OPERATOR})
    login = DevLogin(name=name, code=secrets.token_urlsafe(16), roles=roles)
    listening = listen_on(settings.console_address, is_chosen="console_address" in settings.model_fields_set)
    folder = claim_slot(settings, "console")
    broker = await open_broker(settings.broker, client_id=f"console-{settings.instance}", settings=settings)
    ready = asyncio.Event()
    beating = asyncio.create_task(_beat_until_cancelled(settings, str, ready))
    clock, topics = SystemClock(), Topics(settings.topic_prefix)
    try:
        is_file = isinstance(parse_broker_url(settings.broker), SqliteAddress)
        if is_file and topics.log not in await broker.topics():
            await make_topics(broker, settings, [])
        config = ConsoleConfig(
            broker_url=settings.broker,
            instance=settings.instance,
            model=model_path(settings.data_dir, settings.broker, settings.topic_prefix),
            inbox=inbox_path(settings.data_dir, settings.broker, settings.topic_prefix),
            folder=folder,
            approvers=settings.approvers.absolute(),
            hosts=LOOPBACK,
            login=login,
        )
        client = Client(broker, topics, clock=clock, entropy=SystemEntropy(), max_event_bytes=settings.max_event_bytes)
        console = Console(broker, topics, config, clock=clock, client=client)
        _stop_on_signals(console.stop)

        def on_ready() -> None:
            ready.set()
            tell(url_of(listening), login.code, folder / "console.pem")

        await console.serve(listening, on_ready)
    except BaseExceptionGroup as group:
        raise _one_error(group) from group
    finally:
        listening.close()
        beating.cancel()
        await broker.close()


def own_routes(settings: Settings) -> Sequence[Path]:
    """The router's own route files.

    If nobody named any, the usual folder may be missing: then the router runs what was applied.
    """
    is_named = "routes" in settings.model_fields_set
    return settings.routes if is_named else [path for path in settings.routes if path.exists()]


def _one_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one error that people are to see, where what ended several tasks is said by one."""
    errors = [error for error in _flat(group) if not isinstance(error, asyncio.CancelledError)]
    is_said = len(errors) == 1 or (bool(errors) and all(isinstance(error, MeshError) for error in errors))
    return errors[0] if is_said else group


def _flat(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    return [
        e for error in group.exceptions for e in (_flat(error) if isinstance(error, BaseExceptionGroup) else [error])
    ]


def _stop_on_signals(stop: Callable[[], None]) -> None:
    """Stop gracefully at the first signal, and at once at the second."""
    loop = asyncio.get_running_loop()

    def first(number: int) -> None:
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_DFL)
        stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, first, number)


async def _beat_until_cancelled(
    settings: Settings, waits_for: Callable[[], str], ready: asyncio.Event | None = None
) -> None:
    """Touch the heartbeat file from the event loop itself, from `ready` on.

    So a blocked loop shows. `waits_for`: why the service is not ready for work, empty if it is. The
    file says so, for `mesh health --ready`.
    """
    if ready is not None:
        await ready.wait()
    path = settings.heartbeat_path
    is_told, said = False, None
    try:
        while True:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                waits = waits_for()
                if waits != said or not path.exists():
                    write_heartbeat(path, waits)
                    said = waits
                path.touch()
                is_told = False
            except OSError as error:
                if not is_told:
                    is_told = True
                    _log.warning(
                        "heartbeat_not_written", file=str(path), error=str(error), effect="`mesh health` fails"
                    )
            await asyncio.sleep(settings.heartbeat_interval_s)
    finally:
        with suppress(OSError):
            path.unlink()

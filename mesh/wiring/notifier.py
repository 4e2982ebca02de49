"""A notifier as a process."""

import asyncio
import re

from mesh.adapters.system import SystemClock
from mesh.core.topics import Topics
from mesh.data_folders import claim_slot
from mesh.observed import observe
from mesh.settings import (
    Settings,
    SqliteAddress,
    parse_broker_url,
    read_secret,
)
from mesh.wiring.brokers import check_rights, make_topics, open_broker
from mesh.wiring.links import links_of
from mesh.wiring.process import beat_until_cancelled, one_error, stop_on_signals


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
    measuring: asyncio.Task[None] | None = None
    # it beats only once it has read what is open
    beating = asyncio.create_task(beat_until_cancelled(settings, str, ready))
    try:
        if isinstance(parse_broker_url(settings.broker), SqliteAddress):
            await make_topics(broker, settings, [])
        await check_rights(broker, settings, [topics.open_approvals, topics.people, topics.receipts, topics.notices])
        config = NotifierConfig(
            instance=settings.instance,
            console_url=settings.console_url,
            links=links_of(settings),
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
        stop_on_signals(notifier.stop)
        if observed.meters is not None:
            from mesh.inspection.read_model_lag import follow_lag  # noqa: PLC0415 - metrics that are off must cost nothing

            measuring = asyncio.create_task(follow_lag(broker, observed.meters, [notifier.inbox]))
        await notifier.run()
    except BaseExceptionGroup as group:
        raise one_error(group) from group
    finally:
        beating.cancel()
        # at once, since the notifier has closed what it asks
        if measuring is not None:
            measuring.cancel()
        await couriers.close()
        await broker.close()
        await observed.close()

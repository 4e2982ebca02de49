"""The publisher: posts a reply, once, however often its task is delivered.

`mesh agent agents.issue_triage.publisher`.

Settings, from the environment:

    GITHUB_TOKEN        with it, labels and comment go to GitHub; without it, to the outbox
    GITHUB_API_URL      https://api.github.com, unless GitHub is an Enterprise Server
    MESH_OUTBOX         the outbox's file, .mesh/outbox.jsonl; if it is set, it is used even with a
                        token
    MESH_PUBLISH_LOCKS  the folder of the locks that keep two processes of a machine from posting at
                        once, .mesh/locks
"""

import os
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from mesh import Context, NonRetryable, agent

from .faults import demo_fault
from .github_api import GitHub
from .locks import file_lock
from .models import Published, PublishRequest
from .outbox import Outbox

_LOCK_WAIT_S = 60.0  # a post is at most some requests of ten seconds


@agent("publisher", concurrency=4)
def publish(request: PublishRequest, ctx: Context) -> Published:
    """Post a reply and its labels to GitHub, or to the local outbox where there is no token."""
    demo_fault("publisher", request.number, ctx.attempt)
    key = sha256(f"{ctx.idempotency_key}\n{request.repository}#{request.number}".encode()).hexdigest()[:40]
    token, outbox = os.environ.get("GITHUB_TOKEN"), os.environ.get("MESH_OUTBOX")
    if token and not outbox:
        published = _to_github(request, token, key)
    else:
        path = Path(outbox or ".mesh/outbox.jsonl")
        published = Outbox(path, now=lambda: datetime.now(UTC)).publish(request, key=key)
    ctx.log.info("published", where=published.where, url=published.url, already=published.already)
    return published


def _to_github(request: PublishRequest, token: str, key: str) -> Published:
    base_url = os.environ.get("GITHUB_API_URL") or "https://api.github.com"
    server, is_api, _ = request.source.partition("/repos/")
    if is_api and server.lower() != base_url.rstrip("/").lower():
        message = f"issue {request.number} is of {request.source}, and this publisher posts to {base_url}"
        raise NonRetryable(f"{message}: set GITHUB_API_URL to {server} and retry", kind="github_server")
    locks = Path(os.environ.get("MESH_PUBLISH_LOCKS") or ".mesh/locks")
    with file_lock(locks / f"{key[:2]}.lock", timeout_s=_LOCK_WAIT_S), GitHub(token, base_url=base_url) as github:
        return github.publish(request, key=key)

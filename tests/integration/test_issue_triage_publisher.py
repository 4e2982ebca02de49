"""The publisher posts once for each task, to GitHub's API and to the outbox.

The API is a fake one on loopback. The publisher says what a refusal means.
"""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from agents.issue_triage.github_api import GitHubUnavailable
from agents.issue_triage.locks import LockBusy, file_lock
from agents.issue_triage.models import Published, PublishRequest, Reply
from agents.issue_triage.publisher import publish
from mesh import NonRetryable
from mesh.testing.context import FakeContext

REQUEST = PublishRequest(repository="octo/repo", number=7, reply=Reply(body="Thanks.", labels=["bug"]))
CONTEXT = FakeContext(agent="publisher", workflow_id="issue-triage:octo/repo#7", step="publish")
PATIENCE_S = 60.0


class FakeGitHub:
    """Comments and labels of issues, with GitHub's paging.

    `before` may answer in its place, with (status, headers, body).
    """

    def __init__(self) -> None:
        self.comments: dict[str, list[dict[str, Any]]] = {}
        self.labels: dict[str, set[str]] = {}
        self.requests: list[tuple[str, str]] = []
        self.authorizations: set[str] = set()
        self.page = 100
        self.before: Callable[[str, str], tuple[int, dict[str, str], Any] | None] = lambda _method, _path: None
        self._lock = threading.Lock()
        self._last_id = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join(PATIENCE_S)
        self._server.server_close()

    def answer(self, method: str, path: str, body: Any) -> tuple[int, dict[str, str], Any]:
        with self._lock:
            self.requests.append((method, path))
        early = self.before(method, path)
        if early is not None:
            return early
        with self._lock:
            return self._route(method, path, body)

    def add(self, issue: str, body: str | None) -> dict[str, Any]:
        self._last_id += 1
        comment = {"id": self._last_id, "body": body, "html_url": f"https://github.com/x#issuecomment-{self._last_id}"}
        self.comments.setdefault(issue, []).append(comment)
        return comment

    def _route(self, method: str, path: str, body: Any) -> tuple[int, dict[str, str], Any]:
        one = re.fullmatch(r"/repos/octo/repo/issues/comments/(\d+)", path)
        if one is not None and method == "DELETE":
            for comments in self.comments.values():
                for comment in comments:
                    if comment["id"] == int(one[1]):
                        comments.remove(comment)
                        return 204, {}, None
            return 404, {}, {"message": "Not Found"}
        many = re.fullmatch(r"/repos/octo/repo/issues/(\d+)/(comments|labels)(?:\?(.*))?", path)
        if many is None:
            return 404, {}, {"message": "Not Found"}
        issue, what, query = many.groups()
        if method == "POST" and what == "labels":
            self.labels.setdefault(issue, set()).update(body["labels"])
            return 200, {}, [{"name": name} for name in sorted(self.labels[issue])]
        if method == "POST":
            return 201, {}, self.add(issue, body["body"])
        return self._list(issue, query or "")

    def _list(self, issue: str, query: str) -> tuple[int, dict[str, str], Any]:
        number = int((re.search(r"(?<!per_)page=(\d+)", query) or ["", "1"])[1])
        all_of_them = self.comments.get(issue, [])
        start = (number - 1) * self.page
        headers = {}
        if start + self.page < len(all_of_them):
            headers["Link"] = f'<{self.url}/repos/octo/repo/issues/{issue}/comments?page={number + 1}>; rel="next"'
        return 200, headers, all_of_them[start : start + self.page]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def _serve(self) -> None:
                size = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(size)) if size else None
                fake.authorizations.add(self.headers.get("Authorization") or "")
                status, headers, answer = fake.answer(self.command, self.path, body)
                content = (
                    b"" if answer is None else answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                )
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_DELETE = _serve  # noqa: N815 - the names that http.server calls

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name it has there
                """Say nothing."""

        return Handler


@pytest.fixture
def github(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeGitHub]:
    fake = FakeGitHub()
    monkeypatch.setenv("GITHUB_TOKEN", "t0ken")
    monkeypatch.setenv("GITHUB_API_URL", fake.url)
    monkeypatch.setenv("MESH_PUBLISH_LOCKS", str(tmp_path / "locks"))
    monkeypatch.delenv("MESH_OUTBOX", raising=False)
    try:
        yield fake
    finally:
        fake.close()


@pytest.fixture
def outbox(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    path = tmp_path / "deep" / "outbox.jsonl"
    monkeypatch.delenv("GITHUB_TOKEN", raising=False)
    monkeypatch.setenv("MESH_OUTBOX", str(path))
    return path


def posts(github: FakeGitHub) -> list[str]:
    return [path for method, path in github.requests if method == "POST"]


def test_labels_and_comment_are_posted_with_the_token(github: FakeGitHub) -> None:
    published = publish(REQUEST, CONTEXT)
    assert published == Published(where="github", url="https://github.com/x#issuecomment-1")
    assert github.labels == {"7": {"bug"}}
    (comment,) = github.comments["7"]
    assert comment["body"].startswith("Thanks.\n\n<!-- ")
    assert github.authorizations == {"Bearer t0ken"}


def test_a_reply_without_labels_sends_none(github: FakeGitHub) -> None:
    publish(REQUEST.model_copy(update={"reply": Reply(body="Thanks.")}), CONTEXT)
    assert github.labels == {}


def test_a_second_delivery_finds_the_first_ones_comment(github: FakeGitHub) -> None:
    first = publish(REQUEST, CONTEXT)
    again = publish(REQUEST, FakeContext(workflow_id="issue-triage:octo/repo#7", step="publish", attempt=2))
    assert again == first.model_copy(update={"already": True})
    assert len(github.comments["7"]) == 1


def test_the_comment_is_found_on_a_later_page_and_beside_an_empty_one(github: FakeGitHub) -> None:
    publish(REQUEST, CONTEXT)
    github.page = 2
    mine = github.comments["7"].pop()
    github.add("7", None)
    for n in range(6):
        github.add("7", f"another comment {n}")
    github.comments["7"].append(mine)
    assert publish(REQUEST, CONTEXT).already


def test_another_task_posts_its_own_comment(github: FakeGitHub) -> None:
    publish(REQUEST, CONTEXT)
    publish(REQUEST, FakeContext(workflow_id="issue-triage:octo/repo#7", step="publish", run_id="11111111"))
    assert len(github.comments["7"]) == 2


def test_somebody_who_quotes_the_comment_is_not_taken_for_it(github: FakeGitHub) -> None:
    publish(REQUEST, CONTEXT)
    marked = github.comments["7"].pop()["body"]
    github.add("7", f"> {marked}\n\nI disagree.")
    assert not publish(REQUEST, CONTEXT).already


def test_a_crash_after_the_post_does_not_post_again(github: FakeGitHub) -> None:
    def lose_the_answer(method: str, path: str) -> tuple[int, dict[str, str], Any] | None:
        if method == "POST" and path.endswith("/comments"):
            github.before = lambda _method, _path: None
            github.answer(method, path, {"body": body})
            return 502, {}, b"<html>bad gateway</html>"
        return None

    publish(REQUEST, CONTEXT)
    body = github.comments.pop("7")[0]["body"]
    github.before = lose_the_answer
    with pytest.raises(GitHubUnavailable):
        publish(REQUEST, CONTEXT)
    assert publish(REQUEST, CONTEXT).already
    assert len(github.comments["7"]) == 1


@pytest.mark.parametrize(
    ("status", "headers"),
    [(401, {}), (403, {}), (404, {}), (410, {}), (422, {}), (418, {}), (403, {"x-ratelimit-remaining": "4999"})],
)
def test_a_refusal_for_good_is_not_tried_again(github: FakeGitHub, status: int, headers: dict[str, str]) -> None:
    github.before = lambda _method, _path: (status, headers, {"message": "No such luck"})
    with pytest.raises(NonRetryable, match="No such luck") as refused:
        publish(REQUEST, CONTEXT)
    assert refused.value.kind == f"github_{status}"
    assert "t0ken" not in str(refused.value)


@pytest.mark.parametrize(
    ("status", "headers", "message"),
    [
        (500, {}, "x"),
        (502, {}, "x"),
        (503, {"retry-after": "30"}, "x"),
        (408, {}, "x"),
        (429, {}, "x"),
        (403, {"x-ratelimit-remaining": "0"}, "x"),
        (403, {"retry-after": "60"}, "x"),
        (403, {}, "You have exceeded a secondary rate limit"),
    ],
)
def test_what_waiting_may_cure_is_tried_again(
    github: FakeGitHub, status: int, headers: dict[str, str], message: str
) -> None:
    github.before = lambda _method, _path: (status, headers, {"message": message})
    with pytest.raises(GitHubUnavailable):
        publish(REQUEST, CONTEXT)
    github.before = lambda _method, _path: None
    assert not publish(REQUEST, CONTEXT).already


def test_an_issue_of_another_server_is_not_posted_to_this_one(github: FakeGitHub) -> None:
    with pytest.raises(NonRetryable, match=r"set GITHUB_API_URL to https://git\.corp\.test/api/v3") as refused:
        publish(REQUEST.model_copy(update={"source": "https://git.corp.test/api/v3/repos/octo/repo"}), CONTEXT)
    assert (refused.value.kind, github.requests) == ("github_server", [])
    assert not publish(REQUEST.model_copy(update={"source": f"{github.url}/repos/octo/repo"}), CONTEXT).already


def test_an_answer_that_is_no_json_is_tried_again(github: FakeGitHub) -> None:
    github.before = lambda _method, _path: (200, {}, b"<html>a proxy's page</html>")
    with pytest.raises(GitHubUnavailable):
        publish(REQUEST, CONTEXT)


def test_a_github_that_is_not_there_is_tried_again(github: FakeGitHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_API_URL", "http://127.0.0.1:1")  # nobody listens there
    with pytest.raises(GitHubUnavailable):
        publish(REQUEST, CONTEXT)
    assert github.requests == []


PROGRAM = """
import sys
from agents.issue_triage.models import PublishRequest, Reply
from agents.issue_triage.publisher import publish
from mesh.testing.context import FakeContext
print("ready", flush=True)
sys.stdin.readline()
request = PublishRequest(repository="octo/repo", number=7, reply=Reply(body="Thanks.", labels=["bug"]))
print(publish(request, FakeContext(workflow_id="w:1", step="publish")).model_dump_json(), flush=True)
"""


def publish_in_processes(environments: list[dict[str, str]]) -> list[Published]:
    """Each in a process of its own, let go at the same moment."""
    root = Path(__file__).parents[2]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            cwd=root,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for environment in environments
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        said = [process.communicate(timeout=PATIENCE_S)[0].splitlines()[-1] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    return [Published.model_validate_json(line) for line in said]


def test_processes_of_one_machine_post_one_comment(github: FakeGitHub) -> None:
    published = publish_in_processes([{}, {}, {}, {}])
    assert sorted(one.already for one in published) == [False, True, True, True]
    assert len({one.url for one in published}) == 1
    assert len([path for path in posts(github) if path.endswith("/comments")]) == 1


def test_processes_of_two_machines_leave_one_comment(github: FakeGitHub, tmp_path: Path) -> None:
    both_looked = threading.Barrier(2)
    looks: list[str] = []

    def look_together(method: str, path: str) -> None:
        if method == "GET" and len(looks) < 2:
            looks.append(path)
            both_looked.wait(PATIENCE_S)

    github.before = look_together
    machines = [{"MESH_PUBLISH_LOCKS": str(tmp_path / name)} for name in ("one", "other")]
    published = publish_in_processes(machines)
    # the race took place
    assert len([path for path in posts(github) if path.endswith("/comments")]) == 2
    assert len(github.comments["7"]) == 1
    assert {one.url for one in published} == {github.comments["7"][0]["html_url"]}


def test_without_a_token_the_reply_goes_to_the_outbox(outbox: Path) -> None:
    published = publish(REQUEST, CONTEXT)
    entry = json.loads(outbox.read_text("utf-8"))
    assert (published.where, published.already) == ("outbox", False)
    assert entry["repository"] == "octo/repo"
    assert entry["number"] == 7
    assert (entry["body"], entry["labels"]) == ("Thanks.", ["bug"])
    assert published.url.endswith(entry["key"])


def test_an_outbox_that_is_named_is_used_even_if_there_is_a_token(
    outbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", "t0ken")
    assert publish(REQUEST, CONTEXT).where == "outbox"
    assert outbox.exists()


def test_a_second_delivery_finds_its_line_in_the_outbox(outbox: Path) -> None:
    first = publish(REQUEST, CONTEXT)
    assert publish(REQUEST, CONTEXT) == first.model_copy(update={"already": True})
    assert len(outbox.read_bytes().splitlines()) == 1


def test_processes_write_one_line_for_one_task(outbox: Path) -> None:
    published = publish_in_processes([{}, {}, {}, {}])
    assert sorted(one.already for one in published) == [False, True, True, True]
    assert len(outbox.read_bytes().splitlines()) == 1


@pytest.mark.parametrize("torn", [b'{"key": "abc", "repos', b"x" * 200_000])
def test_a_torn_line_is_dropped_and_whole_ones_are_kept(outbox: Path, torn: bytes) -> None:
    publish(REQUEST, CONTEXT)
    whole = outbox.read_bytes()
    outbox.write_bytes(whole + torn)
    publish(REQUEST, FakeContext(step="another"))
    lines = outbox.read_bytes().splitlines(keepends=True)
    assert lines[0] == whole
    assert len([json.loads(line) for line in lines]) == 2


def test_a_reply_of_any_text_is_one_line(outbox: Path) -> None:
    body = 'line\nline\r\n\u2028 "quoted" 返信 \x00'
    publish(REQUEST.model_copy(update={"reply": Reply(body=body)}), CONTEXT)
    (line,) = outbox.read_bytes().split(b"\n")[:-1]
    assert json.loads(line)["body"] == body


def test_a_lock_that_is_not_let_go_is_an_error_that_may_be_tried_again(tmp_path: Path) -> None:
    lock = tmp_path / "a.lock"
    with file_lock(lock, timeout_s=PATIENCE_S), pytest.raises(LockBusy), file_lock(lock, timeout_s=0.05):
        raise AssertionError("two hold one lock")
    with file_lock(lock, timeout_s=PATIENCE_S):
        pass

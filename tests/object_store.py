"""A small S3 on this machine, for tests: one bucket in memory, with the few requests that we make.

    with object_store() as objects:      # the environment names it, and who we are
        ...  # s3://backups/... is there; objects.content has it

It knows no signatures. `objects.refuses` makes it say that we may not.
"""

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from unittest.mock import patch
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

BUCKET = "backups"


class Objects:
    """What the bucket holds."""

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}
        self.refuses = False
        self._uploads: dict[str, dict[int, bytes]] = {}

    def answer(self, method: str, url: str, headers: Any, body: bytes) -> tuple[int, dict[str, str], bytes]:
        parts = urlsplit(url)
        bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
        query = parse_qs(parts.query, keep_blank_values=True)
        if self.refuses:
            return 403, {}, _error("AccessDenied", "You may not do this here.")
        if bucket != BUCKET:
            return 404, {}, _error("NoSuchBucket", f"There is no bucket {bucket}.")
        if method == "GET" and "list-type" in query:
            return 200, {}, self._listed(query.get("prefix", [""])[0])
        if "uploads" in query or "uploadId" in query:
            return self._in_parts(method, key, query, body)
        if method == "PUT":
            if headers.get("If-None-Match") == "*" and key in self.content:
                return 412, {}, _error("PreconditionFailed", "It is there.")
            self.content[key] = body
            return 200, {"ETag": '"1"'}, b""
        return self._read(key, headers.get("Range"))

    def _read(self, key: str, of: str | None) -> tuple[int, dict[str, str], bytes]:
        if key not in self.content:
            return 404, {}, _error("NoSuchKey", f"There is no {key}.")
        content = self.content[key]
        about = {"ETag": '"1"', "Last-Modified": "Mon, 30 Nov 2026 12:00:00 GMT"}
        if of is None:
            return 200, about, content
        first, last = (int(one) for one in re.findall(r"\d+", of))
        last = min(last, len(content) - 1)
        return 206, {**about, "Content-Range": f"bytes {first}-{last}/{len(content)}"}, content[first : last + 1]

    def _in_parts(
        self, method: str, key: str, query: dict[str, list[str]], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        if "uploads" in query:
            self._uploads[key] = {}
            return (
                200,
                {},
                _xml(
                    f"<InitiateMultipartUploadResult><UploadId>{len(self._uploads)}</UploadId></InitiateMultipartUploadResult>"
                ),
            )
        parts = self._uploads[key]
        if method == "PUT":
            parts[int(query["partNumber"][0])] = body
            return 200, {"ETag": '"1"'}, b""
        self.content[key] = b"".join(part for _, part in sorted(parts.items()))
        return 200, {}, _xml("<CompleteMultipartUploadResult><ETag>1</ETag></CompleteMultipartUploadResult>")

    def _listed(self, prefix: str) -> bytes:
        rows = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>2026-11-30T12:00:00.000Z</LastModified><ETag>1</ETag>"
            f"<Size>{len(content)}</Size></Contents>"
            for key, content in sorted(self.content.items())
            if key.startswith(prefix)
        )
        return _xml(f"<ListBucketResult><IsTruncated>false</IsTruncated>{rows}</ListBucketResult>")


def _xml(text: str) -> bytes:
    return f'<?xml version="1.0" encoding="UTF-8"?>{text}'.encode()


def _error(code: str, message: str) -> bytes:
    return _xml(f"<Error><Code>{code}</Code><Message>{message}</Message></Error>")


@contextmanager
def object_store() -> Iterator[Objects]:
    objects = Objects()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, headers, content = objects.answer(self.command, self.path, self.headers, body)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_POST = _answer  # noqa: N815 - the names that http.server calls

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    ours = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "eu-central-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
        "AWS_ALLOW_HTTP": "true",
    }
    try:
        with patch.dict(os.environ, ours):
            yield objects
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

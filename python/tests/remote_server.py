"""A server of files for the tests of stores behind URLs, in a process of its own.

It answers GET and HEAD with ranges, as an HTTP server and as a bucket of Amazon's protocol (path
style, with the listing of one folder), counts what it sends, and does wrong on request.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from xml.sax.saxutils import escape

FAULTS = {
    "latency_s": 0.0,  # before every answer
    "error_rate": 0.0,  # 503
    "short_rate": 0.0,  # bodies that end early
    "wrong_length_rate": 0.0,  # fewer bytes than the range, announced and sent
    "damage_rate": 0.0,  # a flipped bit in a part of a shard
    "stalls": 0,  # answers that never come
    "ignores_ranges": False,
    "status": 0,  # of every answer
    "code": "",  # the code in its body
    "no_versions": False,  # neither ETag nor Last-Modified
    "fresh_tags": False,  # another ETag in each answer
}


class _State:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.faults = dict(FAULTS)
        self.random = random.Random(1)
        self.requests: list[tuple[str, str, int]] = []
        # Requests for the end of a file, which is where a shard has its index.
        self.under_way = self.most_under_way = 0

    def draws(self, rate: str) -> bool:
        with self.lock:
            return self.random.random() < self.faults[rate]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    root: Path
    state: _State

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        path = urllib.parse.unquote(path)
        if path.startswith("/__"):
            self._control(path, query)
            return
        is_index = (self.headers.get("Range") or "").startswith("bytes=-")
        with self.state.lock:
            self.state.under_way += is_index
            self.state.most_under_way = max(self.state.most_under_way, self.state.under_way)
        try:
            self._answer(path, query)
        finally:
            with self.state.lock:
                self.state.under_way -= is_index

    def _answer(self, path: str, query: str) -> None:
        faults = self.state.faults
        time.sleep(faults["latency_s"])
        with self.state.lock:
            stalls = faults["stalls"] > 0
            faults["stalls"] -= stalls
        if stalls:
            time.sleep(60)
            return
        if faults["status"]:
            self._refuse(faults["status"], faults["code"])
        elif self.state.draws("error_rate"):
            self._refuse(503, "SlowDown")
        elif "list-type=2" in query:
            self._list(path, urllib.parse.parse_qs(query))
        elif not (self.root / path.lstrip("/")).is_file():
            self._refuse(404, "NoSuchKey")
        else:
            self._send(path, self.root / path.lstrip("/"))

    def _control(self, path: str, query: str) -> None:
        with self.state.lock:
            if path == "/__set":
                self.state.faults = {**FAULTS, **json.loads(urllib.parse.unquote(query))}
            elif path == "/__reset":
                self.state.requests.clear()
                self.state.most_under_way = 0
            found: object = self.state.requests
            if path == "/__most_under_way":
                found = self.state.most_under_way
            body = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _refuse(self, status: int, code: str) -> None:
        body = f"<Error><Code>{code}</Code><Region>eu-west-1</Region><Key>K</Key></Error>".encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self._count(0)

    def _list(self, path: str, query: dict[str, list[str]]) -> None:
        prefix = query.get("prefix", [""])[0]
        folder = self.root / path.lstrip("/") / prefix
        names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
        prefixes = "".join(
            f"<CommonPrefixes><Prefix>{escape(prefix + name)}/</Prefix></CommonPrefixes>"
            for name in names
        )
        body = (
            f"<ListBucketResult><IsTruncated>false</IsTruncated>{prefixes}</ListBucketResult>"
        ).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self._count(len(body))

    def _send(self, path: str, file: Path) -> None:
        stat = file.stat()
        faults, total, changed = self.state.faults, stat.st_size, stat.st_mtime_ns
        first, last = 0, total - 1
        asked = self.headers.get("Range")
        is_part = asked is not None and not faults["ignores_ranges"]
        if asked is not None and is_part:
            begin, end = asked.removeprefix("bytes=").split("-")
            first, last = (
                (max(0, total - int(end)), total - 1) if not begin else (int(begin), int(end))
            )
            last = min(last, total - 1)
        with file.open("rb") as content:
            content.seek(first)
            body = bytearray(content.read(last + 1 - first))
        is_shard = "/0/c/" in path
        if is_part and is_shard and body and self.state.draws("damage_rate"):
            body[len(body) // 2] ^= 1
        short = bool(body) and self.state.draws("short_rate")
        wrong = is_part and self.state.draws("wrong_length_rate")
        sent = body[: len(body) // 2] if short or wrong else body
        self.send_response(206 if is_part else 200)
        self.send_header("Content-Length", str(len(sent) if wrong else len(body)))
        if is_part:
            self.send_header("Content-Range", f"bytes {first}-{last}/{total}")
        tag = random.random() if faults["fresh_tags"] else f"{changed:x}-{total:x}"
        if not faults["no_versions"]:
            self.send_header("ETag", f'"{tag}"')
            self.send_header("Last-Modified", formatdate(changed // 10**9, usegmt=True))
        self.end_headers()
        if self.command == "HEAD":
            sent = b""
        self._count(len(sent))
        try:
            self.wfile.write(sent)
        except OSError:  # the client is gone
            self.close_connection = True
        if short:
            self.close_connection = True

    def _count(self, sent: int) -> None:
        with self.state.lock:
            asked = self.headers.get("Range") or ""
            self.state.requests.append((urllib.parse.unquote(self.path), asked, sent))


class RemoteServer:
    """A server of a folder, until its end."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, __file__, str(folder)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> RemoteServer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _ask(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.url}{path}", timeout=30) as answer:
            return json.load(answer)

    def faults(self, **faults: object) -> None:
        """From now on does these things wrong, and nothing else."""
        self._ask(f"/__set?{urllib.parse.quote(json.dumps(faults))}")

    def reset(self) -> None:
        """Forgets what was asked."""
        self._ask("/__reset")

    def requests(self) -> list[tuple[str, str, int]]:
        """The path, the range and the bytes sent of each request."""
        return [tuple(request) for request in self._ask("/__requests")]

    def most_indices_under_way(self) -> int:
        """The most requests for indices that were under way at one time."""
        return int(self._ask("/__most_under_way"))


def _serve(folder: str) -> None:
    handler = type("Handler", (_Handler,), {"root": Path(folder), "state": _State()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    _serve(sys.argv[1])

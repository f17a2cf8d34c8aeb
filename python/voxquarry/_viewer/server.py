"""Answers a browser on this machine: the client, its state, voxels, names, and a store's files.

Every address begins with a token that only the user knows; anything else is 403. At most
``_MOST_CONNECTIONS`` are served at a time, and ``_MOST_READS`` of them read voxels, so memory does
not depend on the volumes. Nothing is written, and browsers are told to keep nothing.

    /TOKEN/                      the list of subjects
    /TOKEN/subjects?search=…     what it lists, JSON
    /TOKEN/v/N/…                 the client, for subject N
    /TOKEN/events/N, state/N     its state, which it asks for and reports
    /TOKEN/arrays/N/KEY/…        voxels as Zarr v3
    /TOKEN/names/N/KEY/info      names of labels
    /TOKEN/store/…               the store's files, with ranges
"""

from __future__ import annotations

import hmac
import json
import os
import re
import secrets
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote_to_bytes, urlsplit

from .._errors import Error
from . import arrays, client, files, page
from .problems import Problems
from .scene import Scene
from .state import Convention, names_document, state

_MOST_CONNECTIONS = 64
_MOST_READS = 4
# Seconds after which an idle connection is closed, and between two signs of life of events.
_IDLE_S, _ALIVE_S = 120, 5
_PIECE_BYTES = 1 << 18
_MOST_POSTED_BYTES = 4 << 20
_BYTES, _JSON, _TEXT = "application/octet-stream", "application/json", "text/plain; charset=utf-8"
# The page can reach nothing but this server, whatever it is asked to show.
_POLICY = (
    "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval' 'wasm-unsafe-eval';"
    " base-uri 'none'; form-action 'none'"
)


class Server(ThreadingHTTPServer):
    """Serves one scene until it is closed."""

    daemon_threads = True
    # Threads of open event streams are not waited for.
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, scene: Scene, convention: Convention, port: int) -> None:
        self.scene, self.convention = scene, convention
        self.client = client.folder()
        self.token = secrets.token_urlsafe(16)
        self.problems = Problems()
        self.closing = threading.Event()
        self.reads = threading.BoundedSemaphore(_MOST_READS)
        self._connections = threading.BoundedSemaphore(_MOST_CONNECTIONS)
        super().__init__(("127.0.0.1", port), Handler)

    @property
    def url(self) -> str:
        """Where a browser finds the page."""
        last = "" if len(self.scene.names) > 1 else "v/0/"
        return f"http://127.0.0.1:{self.server_address[1]}/{self.token}/{last}"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serves a connection on a thread of its own, or closes it if there are too many."""
        if not self._connections.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serves a connection on this thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._connections.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keeps silent: a browser that goes away is no error."""


class Handler(BaseHTTPRequestHandler):
    """Answers the requests of one connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "voxquarry", ""
    timeout = _IDLE_S

    def log_message(self, format: str, *args: object) -> None:
        """Keeps silent."""

    def do_GET(self) -> None:
        """Answers a GET or HEAD request."""
        parts = self._authorised()
        if parts is None:
            return
        try:
            self._route(parts)
        except Error as error:
            # A chunk that cannot be read must not look like zeros.
            self.server.problems.add(str(error))
            self._send(HTTPStatus.INTERNAL_SERVER_ERROR, str(error).encode(), _TEXT)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        """Takes what the client reports and answers that it was taken."""
        parts = self._authorised()
        if parts is None:
            return
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdecimal() or int(length) > _MOST_POSTED_BYTES:
            self.close_connection = True
            self._send(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return
        body = self.rfile.read(int(length))
        if len(parts) != 2 or parts[0] not in ("state", "action") or self._number(parts[1]) is None:
            self._send(HTTPStatus.NOT_FOUND)
            return
        try:
            posted = json.loads(body)
            generation = f"{posted['c']}/{posted['g']}" if parts[0] == "state" else ""
        except (ValueError, TypeError, KeyError):
            self._send(HTTPStatus.BAD_REQUEST)
            return
        self._send(HTTPStatus.OK, json.dumps({"g": generation}).encode(), _JSON)

    def _authorised(self) -> list[str] | None:
        """The parts of the path after the token; answers 403 where the token is wrong."""
        path = urlsplit(self.path).path
        if self.server.closing.is_set():
            self.close_connection = True
            self._send(HTTPStatus.SERVICE_UNAVAILABLE)
            return None
        if path == "/favicon.ico":
            self._send(HTTPStatus.NO_CONTENT)
            return None
        try:
            token, *parts = [unquote_to_bytes(p).decode() for p in path.split("/")[1:]]
        except ValueError:
            token, parts = "", []
        if not hmac.compare_digest(token.encode(), self.server.token.encode()):
            self.close_connection = self.command == "POST"
            self._send(HTTPStatus.FORBIDDEN, b"This address lacks the token of the page.\n", _TEXT)
            return None
        return parts

    def _route(self, parts: list[str]) -> None:
        match parts:
            case [""]:
                self._send(HTTPStatus.OK, page.html(), "text/html; charset=utf-8")
            case ["subjects"]:
                asked = parse_qs(urlsplit(self.path).query)
                listed = page.listed(self.server.scene, asked.get("search", [""])[0])
                self._send(HTTPStatus.OK, json.dumps(listed).encode(), _JSON)
            case ["v", _, name]:
                self._found(client.file(self.server.client, name or "index.html"))
            case ["events", number] if (n := self._number(number)) is not None:
                self._events(n)
            case ["arrays", number, key, *rest] if (n := self._number(number)) is not None:
                self._array(n, key, rest)
            case ["names", number, key, "info"] if (n := self._number(number)) is not None:
                source = self.server.scene.layers(n).source(key)
                document = None if source is None else names_document(source)
                self._found(None if document is None else (json.dumps(document).encode(), _JSON))
            case ["store", first, *rest]:
                self._file([first, *rest])
            case _:
                self._send(HTTPStatus.NOT_FOUND)

    def _number(self, text: str) -> int | None:
        """The number of a subject, if there is one of that number."""
        number = int(text) if re.fullmatch(r"[0-9]{1,9}", text) else -1
        return number if 0 <= number < len(self.server.scene.names) else None

    def _array(self, number: int, key: str, rest: list[str]) -> None:
        source = self.server.scene.layers(number).source(key)
        if source is None:
            self._send(HTTPStatus.NOT_FOUND)
            return
        with self.server.reads:
            found = arrays.answer(source, rest)
        self._found(None if found is None else (found[0], _JSON if found[1] else _BYTES))

    def _found(self, found: tuple[bytes, str] | None) -> None:
        if found is None:
            self._send(HTTPStatus.NOT_FOUND)
            return
        body, kind = found
        try:
            bounds = files.byte_range(self.headers.get("Range"), len(body))
        except ValueError:
            self._unsatisfiable(len(body))
            return
        if bounds is None:
            self._send(HTTPStatus.OK, body, kind)
        else:
            part = f"bytes {bounds[0]}-{bounds[1] - 1}/{len(body)}"
            extra = [("Content-Range", part)]
            self._send(HTTPStatus.PARTIAL_CONTENT, body[slice(*bounds)], kind, extra)

    def _unsatisfiable(self, length: int) -> None:
        extra = [("Content-Range", f"bytes */{length}")]
        self._send(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, extra=extra)

    def _file(self, parts: list[str]) -> None:
        """Hands out a file of the store, if it belongs to what is shown."""
        scene = self.server.scene
        volumes = scene.volume_names()
        shown = len(parts) == 1 or parts[0] in scene.names
        shown &= volumes is None or len(parts) < 3 or parts[1] in volumes
        found = files.open_below(scene.store, parts) if scene.store and shown else None
        if found is None:
            self._send(HTTPStatus.NOT_FOUND)
            return
        try:
            length = os.fstat(found).st_size
            try:
                bounds = files.byte_range(self.headers.get("Range"), length)
            except ValueError:
                self._unsatisfiable(length)
                return
            begin, end = bounds or (0, length)
            kind = _JSON if parts[-1] == "zarr.json" else _BYTES
            if bounds is None:
                self._head(HTTPStatus.OK, end - begin, kind)
            else:
                extra = [("Content-Range", f"bytes {begin}-{end - 1}/{length}")]
                self._head(HTTPStatus.PARTIAL_CONTENT, end - begin, kind, extra)
            while self.command != "HEAD" and begin < end:
                piece = os.pread(found, min(_PIECE_BYTES, end - begin), begin)
                if not piece:
                    # The file has become shorter: the browser must not take it for whole.
                    self.close_connection = True
                    return
                self.wfile.write(piece)
                begin += len(piece)
        finally:
            os.close(found)

    def _events(self, number: int) -> None:
        """Sends the state to a client that has none, and problems as they come."""
        asked = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
        opened = None
        if not asked.get("gs", [""])[0]:
            layers = self.server.scene.layers(number)
            # As the browser names this server, also through a tunnel with another port.
            host = self.headers.get("Host", "")
            if not re.fullmatch(r"[A-Za-z0-9.:_\[\]-]{1,255}", host):
                host = "{}:{}".format(*self.server.server_address)
            base = f"http://{host}/{self.server.token}"
            opened = state(layers.shown, layers.boxes, base, str(number), self.server.convention)
        self.close_connection = True
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command == "HEAD":
            return
        if opened is not None:
            self._event("s", opened, "server/1")
        told = 0
        while not self.server.closing.is_set():
            problems = self.server.problems.after(told, _ALIVE_S)
            if problems.count > told:
                told = problems.count
                self._event("c", {"statusMessages": {"problem": problems.text}}, f"server/{told}")
            else:
                self.wfile.write(b": alive\n\n")

    def _event(self, key: str, content: object, generation: str) -> None:
        message = json.dumps({"k": key, "s": content, "g": generation})
        self.wfile.write(f"data: {message}\n\n".encode())

    def _send(
        self,
        status: HTTPStatus,
        body: bytes = b"",
        kind: str = _TEXT,
        extra: list[tuple[str, str]] | None = None,
    ) -> None:
        self._head(status, len(body), kind, extra)
        if self.command != "HEAD":
            self.wfile.write(body)

    def _head(
        self,
        status: HTTPStatus,
        length: int,
        kind: str,
        extra: list[tuple[str, str]] | None = None,
    ) -> None:
        self.send_response(status)
        headers = [
            ("Content-Type", kind),
            ("Content-Length", str(length)),
            ("Accept-Ranges", "bytes"),
            ("Cache-Control", "no-store"),
            ("Content-Security-Policy", _POLICY),
            ("Referrer-Policy", "no-referrer"),
            ("X-Content-Type-Options", "nosniff"),
        ]
        for name, value in [*headers, *(extra or [])]:
            self.send_header(name, value)
        self.end_headers()

"""A server of files on one slow link: ``python -m benches.remote.server FOLDER LATENCY RATE``.

It answers GET and HEAD with ranges over connections that stay open. Every answer begins after the
latency, and all answers share the rate, in bytes a second. ``/__counts`` gives the number of
requests and the bytes that were sent so far.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
import urllib.parse
from pathlib import Path

PIECE = 32 << 10


class Link:
    """What all answers share: pieces leave one after the other."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.lock = threading.Lock()
        self.free = 0.0
        self.requests = self.sent = 0

    def wait(self, size: int) -> None:
        """Waits until a piece has passed."""
        with self.lock:
            self.free = max(self.free, time.monotonic()) + size / self.rate
            self.sent += size
            end = self.free
        # Shorter waits end late; the next piece's are longer then.
        if (left := end - time.monotonic()) > 0.0005:
            time.sleep(left)


def answer(root: Path, link: Link, latency: float, connection: socket.socket) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with connection, connection.makefile("rb") as requests:
        while line := requests.readline():
            method, target, _ = line.decode().split()
            asked = ""
            while (header := requests.readline().decode().strip()) != "":
                name, _, value = header.partition(":")
                if name.lower() == "range":
                    asked = value.strip().removeprefix("bytes=")
            path = urllib.parse.unquote(target.partition("?")[0])
            if path == "/__counts":
                body = json.dumps([link.requests, link.sent]).encode()
                head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n"
                connection.sendall(head.encode() + body)
                continue
            with link.lock:
                link.requests += 1
            time.sleep(latency)
            send(root / path.lstrip("/"), asked, method, link, connection)


def send(path: Path, asked: str, method: str, link: Link, connection: socket.socket) -> None:
    if not path.is_file():
        connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        return
    total = path.stat().st_size
    begin, end = 0, total
    if asked:
        first, _, last = asked.partition("-")
        begin = int(first) if first else max(0, total - int(last))
        end = min(total, int(last) + 1) if first and last else total
    status = "206 Partial Content" if asked else "200 OK"
    head = [f"HTTP/1.1 {status}", f"Content-Length: {end - begin}", f'ETag: "{total:x}"']
    head += [f"Content-Range: bytes {begin}-{end - 1}/{total}"] if asked else []
    connection.sendall(("\r\n".join(head) + "\r\n\r\n").encode())
    if method == "HEAD":
        return
    with path.open("rb") as file:
        while begin < end:
            size = min(PIECE, end - begin)
            link.wait(size)
            while size:
                moved = os.sendfile(connection.fileno(), file.fileno(), begin, size)
                begin, size = begin + moved, size - moved


def main() -> None:
    root, latency, rate = Path(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
    link, listener = Link(rate), socket.create_server(("127.0.0.1", 0), backlog=256)
    print(listener.getsockname()[1], flush=True)
    while True:
        connection, _ = listener.accept()
        arguments = (root, link, latency, connection)
        threading.Thread(target=answer, args=arguments, daemon=True).start()


if __name__ == "__main__":
    main()

"""Requests to a page of ``vq.view``, as a browser or a foreign reader of Zarr makes them."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import tensorstore


def ask(
    url: str, path: str, method: str = "GET", body: bytes | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of a path below a page's address; the path is sent as it is."""
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.netloc, timeout=60)
    token = place.path.split("/")[1]
    sent = path if path.startswith("/") else f"/{token}/{path}"
    connection.putrequest(method, sent, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name, value)
    if body is not None:
        connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body)
    answer = connection.getresponse()
    found = answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
    connection.close()
    return found


def events(url: str, number: int = 0, query: str = "gc=&gs=") -> Any:
    """The messages of the event stream, one at a time."""
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.netloc, timeout=60)
    token = place.path.split("/")[1]
    connection.request("GET", f"/{token}/events/{number}?c=me&{query}")
    answer = connection.getresponse()
    assert answer.getheader("Content-Type") == "text/event-stream"
    try:
        while True:
            line = answer.readline()
            if not line:
                return
            if line.startswith(b"data: "):
                yield json.loads(line[6:])
    finally:
        connection.close()


def state(url: str, number: int = 0) -> Any:
    message = next(events(url, number))
    assert message["k"] == "s"
    return message["s"]


def read_by_tensorstore(url: str, path: str) -> np.ndarray:
    place = urlsplit(url)
    token = place.path.split("/")[1]
    base = f"http://{place.netloc}/{token}/{path}"
    opened = tensorstore.open({"driver": "zarr3", "kvstore": base}).result()
    return np.asarray(opened.read().result())


def segmentation(file: Path, labels: np.ndarray, step: int = 1, origin: int = 0) -> Path:
    """A file of 3D Slicer that names label 1 (red), "liver", and label 2, "tumour"."""
    fields = {
        "type": "uint8",
        "dimension": "3",
        "space": "right-anterior-superior",
        "sizes": " ".join(map(str, labels.shape[::-1])),
        "space directions": f"({step},0,0) (0,{step},0) (0,0,{step})",
        "space origin": f"({origin},{origin},{origin})",
        "encoding": "raw",
    }
    segments = {
        "Segment0_ID": "Segment_1",
        "Segment0_Name": "liver",
        "Segment0_Color": "1 0 0",
        "Segment0_LabelValue": "1",
        "Segment1_ID": "Segment_2",
        "Segment1_Name": "tumour",
        "Segment1_LabelValue": "2",
    }
    lines = [f"{name}: {value}" for name, value in fields.items()]
    lines += [f"{name}:={value}" for name, value in segments.items()]
    header = "\n".join(["NRRD0004", *lines, "", ""])
    file.write_bytes(header.encode() + labels.tobytes())
    return file

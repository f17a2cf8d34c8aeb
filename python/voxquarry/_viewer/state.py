"""The state of neuroglancer's client: layers, transforms, windows, colours and the first view.

World axes are RAS+ x, y, z in the unit of the first layer. The documents of ``arrays`` say that a
voxel's centre lies at its index, as affines do; annotations count from a voxel's corner.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .arrays import TOGETHER
from .sources import METRES, Source

Convention: TypeAlias = Literal["radiological", "neurological"]
State: TypeAlias = dict[str, Any]

_HALF = 2**-0.5
#: The orientation in which the patient's right is on the left, and superior and anterior are up.
_RADIOLOGICAL = [0, _HALF, -_HALF, 0]
#: Of panels across z, y and x that show the patient's right on the right.
_NEUROLOGICAL = {"xy": [1, 0, 0, 0], "xz": [-_HALF, 0, 0, _HALF], "yz": [-0.5, -0.5, 0.5, 0.5]}
# As wide is the volume at first, so that panels of a small page hold it.
_PANEL_PIXELS = 320
# More are not listed; the client shows them all, in colours of its own.
_MOST_LABELS = 1000
_CHANNEL_COLOURS = [(1, 1, 1), (1, 0, 1), (0, 1, 0), (0.2, 0.6, 1)]
_CHANNEL = {1: [0], 2: [1, 2], 3: [1, 2, 3], 4: [0, 1, 2, 3]}


@dataclass(frozen=True)
class Shown:
    """A layer of the page."""

    source: Source
    role: Literal["volume", "overlay", "coverage"]
    #: The values that are black and white, one pair for each channel that is shown together.
    windows: Sequence[tuple[float, float]]
    visible: bool


@dataclass(frozen=True)
class Boxes:
    """Patches, from their first voxel to one past the last, ``(n, 2, 3)`` of ``(z, y, x)``."""

    corners: NDArray[np.int64]
    caption: str


def state(
    layers: Sequence[Shown], boxes: Boxes | None, base: str, subject: str, convention: Convention
) -> State:
    """The state in which the client opens.

    Args:
        layers: What is shown, the lowest first; at least one.
        boxes: Patches of the first layer.
        base: The address under which ``arrays/SUBJECT/KEY/`` and ``names/SUBJECT/KEY/`` are
            answered.
        subject: What stands for the subject in them.
        convention: On which side the patient's right is.
    """
    first = layers[0].source
    world = _World(first)
    made = [_layer(shown, world, _Place(base, subject)) for shown in layers]
    if boxes is not None:
        made.append(_annotations(boxes, first, world))
    centre, extent = world.place(first)
    common = {
        "dimensions": world.dimensions,
        "position": centre.tolist(),
        "crossSectionOrientation": _RADIOLOGICAL,
        "projectionOrientation": _RADIOLOGICAL,
        "crossSectionScale": extent / _PANEL_PIXELS,
        "projectionScale": extent * 1.6,
        "layers": made,
        "showAxisLines": True,
        "showScaleBar": True,
        "showSlices": True,
        "crossSectionBackgroundColor": "#000000",
    }
    named = next((s for s in layers if s.source.names and s.visible), None)
    if named is not None:
        common["selectedLayer"] = {"visible": True, "layer": _name(named), "size": 260}
    if convention == "radiological":
        return {**common, "layout": "4panel-alt"}
    return {**common, "layout": _own_panels([layer["name"] for layer in made])}


class _World:
    """RAS+ positions in the unit of the first layer."""

    def __init__(self, first: Source) -> None:
        self._metres = METRES[first.unit]
        self.dimensions = {axis: [self._metres, "m"] for axis in "xyz"}

    def affine(self, of: Source) -> NDArray[np.float64]:
        """Index ``(x, y, z, 1)`` to the world."""
        scale = METRES[of.unit] / self._metres
        return np.diag([scale, scale, scale, 1.0]) @ of.affine

    def rows(self, of: Source) -> list[list[float]]:
        """Rows x, y, z of the map from an index ``(z, y, x, 1)``."""
        rows: list[list[float]] = self.affine(of)[:3, [2, 1, 0, 3]].tolist()
        return rows

    def place(self, of: Source) -> tuple[NDArray[np.float64], float]:
        """The centre of a layer, and its greatest extent."""
        affine, size = self.affine(of), np.array(of.size[::-1])
        centre = affine @ np.array([*((size - 1) / 2), 1.0])
        return centre[:3], float((np.abs(affine[:3, :3]) @ size).max())


@dataclass(frozen=True)
class _Place:
    """Where the client finds what belongs to a subject."""

    base: str
    subject: str

    def url(self, what: str, key: str, reader: str) -> str:
        """The address of a source, and which of the client's readers reads it."""
        return f"{self.base}/{what}/{self.subject}/{key}/|{reader}:"


def _name(shown: Shown) -> str:
    return shown.source.title


def _layer(shown: Shown, world: _World, place: _Place) -> State:
    source = shown.source
    unit = [METRES[source.unit], "m"]
    inner: dict[str, Any] = dict.fromkeys("zyx", unit)
    outer, rows = dict(world.dimensions), world.rows(source)
    layer: State = {"name": _name(shown), "visible": shown.visible}
    if source.channels is not None:
        together = source.kind == "image" and source.channels <= TOGETHER
        name = "c^" if together else "c'"
        inner = {"c": [1, ""], **inner}
        outer = {name: [1, ""], **outer}
        rows = [[1, 0, 0, 0, 0], *([0, *row] for row in rows)]
        if not together:
            layer |= {"localDimensions": {name: [1, ""]}, "localPosition": [0]}
    layer["source"] = [
        {
            "url": place.url("arrays", source.key, "zarr3"),
            "transform": {"outputDimensions": outer, "matrix": rows, "inputDimensions": inner},
        }
    ]
    if source.kind == "labels":
        return layer | _labels(shown, place, layer["source"])
    return layer | _image(shown)


def _image(shown: Shown) -> State:
    source = shown.source
    shader, controls = _shader(shown)
    low, high = source.extent or shown.windows[0]
    return {
        "type": "image",
        "shader": shader,
        "shaderControls": {
            name: {
                "range": list(window),
                "window": [min(low, window[0]), max(high, window[1])],
                **({"channel": [channel]} if channel is not None else {}),
            }
            for name, window, channel in controls
        },
        "opacity": 1 if shown.role == "volume" else 0.6,
        "blend": "default",
    }


def _shader(shown: Shown) -> tuple[str, list[tuple[str, tuple[float, float], int | None]]]:
    """Program and the windows of its controls, each with its channel."""
    source, windows = shown.source, shown.windows
    together = source.channels is not None and 1 < source.channels <= TOGETHER
    if shown.role != "volume" and not together:
        ramp = (
            "vec3(min(1.0, 2.0 * v), v * v, max(0.0, 4.0 * v - 3.0))"
            if shown.role == "coverage"
            else "colormapJet(v)"
        )
        program = (
            "#uicontrol invlerp normalized\n"
            "void main() {\n"
            "  float v = normalized();\n"
            f"  emitRGBA(vec4({ramp}, min(1.0, 4.0 * v)));\n"
            "}\n"
        )
        return program, [("normalized", windows[0], None)]
    if source.is_colour:
        names = [f"toNormalized(getDataValue({channel}))" for channel in range(3)]
        return f"void main() {{\n  emitRGB(vec3({', '.join(names)}));\n}}\n", []
    if not together:
        program = (
            "#uicontrol invlerp normalized\nvoid main() {\n  emitGrayscale(normalized());\n}\n"
        )
        return program, [("normalized", windows[0], None)]
    assert source.channels is not None
    lines, adding = [], []
    for channel, colour in enumerate(_CHANNEL[source.channels]):
        red, green, blue = _CHANNEL_COLOURS[colour]
        lines.append(f"#uicontrol invlerp channel{channel}(channel={channel})\n")
        adding.append(f"  sum += channel{channel}() * vec3({red:.2f}, {green:.2f}, {blue:.2f});\n")
    program = f"{''.join(lines)}void main() {{\n  vec3 sum = vec3(0.0);\n{''.join(adding)}"
    controls = [(f"channel{channel}", window, channel) for channel, window in enumerate(windows)]
    return f"{program}  emitRGB(sum);\n}}\n", list(controls)


def _labels(shown: Shown, place: _Place, sources: list[State]) -> State:
    source = shown.source
    ids = listed_labels(source)
    if source.names or ids:
        sources.append({"url": place.url("names", source.key, "neuroglancer-precomputed")})
    return {
        "type": "segmentation",
        "tab": "segments",
        "segments": [str(wrapped(label)) for label in ids],
        "segmentColors": {str(wrapped(i)): colour_of(source, i) for i in ids},
        "selectedAlpha": 0.4 if shown.role == "volume" else 0.6,
        "notSelectedAlpha": 0,
        "hideSegmentZero": True,
    }


def listed_labels(source: Source) -> list[int]:
    """The labels that are listed, named or counted; none if there are too many."""
    ids = sorted((set(source.names) | set(source.colours) | set(source.counts)) - {0})
    return ids if len(ids) <= _MOST_LABELS else []


def names_document(source: Source) -> State:
    """Names and sizes of labels, as the client reads them."""
    ids = listed_labels(source)
    named = {label: source.names.get(label, f"label {label}") for label in ids}
    properties: list[State] = [{"id": "label", "type": "label", "values": list(named.values())}]
    voxels = [source.counts.get(label, 0) for label in ids]
    # The client fails at a histogram of equal numbers.
    if voxels and min(voxels) < max(voxels) < 2**32:
        properties.append(
            {"id": "voxels", "type": "number", "data_type": "uint32", "values": voxels}
        )
    inline = {"ids": [str(wrapped(label)) for label in ids], "properties": properties}
    return {"@type": "neuroglancer_segment_properties", "inline": inline}


def wrapped(label: int) -> int:
    """A label as uint64, as voxels are handed out."""
    return label % 2**64


def colour_of(source: Source, label: int) -> str:
    """The colour of a label, its own or that of pictures (``voxquarry preview``)."""
    if label in source.colours:
        return source.colours[label]
    hue = (label * 0.381_966 + 0.66) % 1.0
    parts = colorsys.hsv_to_rgb(hue, 0.75, 0.95)
    return "#" + "".join(f"{round(part * 255):02x}" for part in parts)


def _annotations(boxes: Boxes, first: Source, world: _World) -> State:
    unit = [METRES[first.unit], "m"]
    corners = (boxes.corners - 0.5).tolist()
    return {
        "type": "annotation",
        "name": boxes.caption,
        "annotationColor": "#ffff00",
        "source": {
            "url": "local://annotations",
            "transform": {
                "outputDimensions": world.dimensions,
                "matrix": world.rows(first),
                "inputDimensions": dict.fromkeys("zyx", unit),
            },
        },
        "annotations": [
            {
                "type": "axis_aligned_bounding_box",
                "id": f"patch{n}",
                "description": f"patch {n} at {start}",
                "pointA": low,
                "pointB": high,
            }
            for n, ((low, high), start) in enumerate(
                zip(corners, boxes.corners[:, 0].tolist(), strict=True)
            )
        ],
    }


def _own_panels(names: list[str]) -> State:
    """Panels that the client does not turn together: of one orientation, one is mirrored."""

    def panel(layout: str) -> State:
        viewer: State = {"type": "viewer", "layers": names, "layout": layout}
        if layout in _NEUROLOGICAL:
            # Each panel turns its own way; across z is what the layout "xy" shows of it.
            value = _NEUROLOGICAL[layout]
            viewer |= {
                "layout": "xy",
                "crossSectionOrientation": {"link": "unlinked", "value": value},
            }
        return viewer

    rows = [[panel("xy"), panel("xz")], [panel("3d"), panel("yz")]]
    return {
        "type": "column",
        "children": [{"type": "row", "children": row} for row in rows],
    }

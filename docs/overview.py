"""Draws docs/overview.svg, the picture of the README: python docs/overview.py.

All colours are legible on a light and on a dark background; the picture has none of its own.
"""

from pathlib import Path

WIDTH, HEIGHT = 960, 250
TEXT = LINE = "#7a8794"
BLUE, ORANGE, PURPLE, GREEN = "#4a8fd9", "#e8833a", "#a371f7", "#35a56f"
SIDE = 112
DEPTH = 34
TOP = 74


def polygon(points: list[tuple[float, float]], fill: str, opacity: float) -> str:
    corners = " ".join(f"{x:g},{y:g}" for x, y in points)
    style = f'fill="{fill}" fill-opacity="{opacity:g}" stroke="{fill}" stroke-width="1.2"'
    return f'<polygon points="{corners}" {style} stroke-linejoin="round"/>'


def box(x: float, y: float, side: float, depth: float, fill: str, strength: float = 1) -> str:
    """A cube whose front face has its upper left corner at (x, y)."""
    front = [(x, y), (x + side, y), (x + side, y + side), (x, y + side)]
    lift = [(px + depth, py - depth) for px, py in front]
    top = [front[0], front[1], lift[1], lift[0]]
    right = [front[1], lift[1], lift[2], front[2]]
    faces = zip((front, top, right), (0.22, 0.12, 0.34), strict=True)
    return "".join(polygon(face, fill, strength * opacity) for face, opacity in faces)


def line(x0: float, y0: float, x1: float, y1: float, color: str, width: float = 0.8) -> str:
    ends = f'x1="{x0:g}" y1="{y0:g}" x2="{x1:g}" y2="{y1:g}"'
    return f'<line {ends} stroke="{color}" stroke-width="{width:g}"/>'


def chunk_lines(x: float, y: float, side: float, depth: float, n: int) -> str:
    """The grid of n × n × n chunks on the visible faces of a cube."""
    lines = []
    for i in range(1, n):
        a, b = side * i / n, depth * i / n
        lines.append(line(x + a, y, x + a, y + side, BLUE))
        lines.append(line(x, y + a, x + side, y + a, BLUE))
        lines.append(line(x + a, y, x + a + depth, y - depth, BLUE))
        lines.append(line(x + b, y - b, x + side + b, y - b, BLUE))
        lines.append(line(x + side, y + a, x + side + depth, y + a - depth, BLUE))
        lines.append(line(x + side + b, y - b, x + side + b, y + side - b, BLUE))
    return "".join(lines)


def square(x: float, y: float, side: float, color: str, opacity: float = 0.3) -> str:
    area = f'x="{x:g}" y="{y:g}" width="{side:g}" height="{side:g}"'
    style = f'fill="{color}" fill-opacity="{opacity:g}" stroke="{color}" stroke-width="1.6"'
    return f"<rect {area} {style}/>"


def head(x: float, y: float, color: str) -> str:
    """A slice of a head on a front face with its upper left corner at (x, y)."""
    cx, cy = x + SIDE / 2, y + SIDE / 2

    def ellipse(dx: float, dy: float, rx: float, ry: float, strength: float, turn: int = 0) -> str:
        place = f'cx="{cx + dx:g}" cy="{cy + dy:g}" rx="{rx:g}" ry="{ry:g}"'
        turned = f'transform="rotate({turn} {cx + dx:g} {cy + dy:g})"'
        return f'<ellipse {place} {turned} fill="{color}" fill-opacity="{strength:g}"/>'

    return "".join(
        [
            ellipse(0, 0, 40, 48, 0.25),
            ellipse(0, 0, 34, 42, 0.4),
            ellipse(-7, -9, 3.5, 11, 0.9, -14),
            ellipse(7, -9, 3.5, 11, 0.9, 14),
            ellipse(-10, 14, 3, 9, 0.9, 32),
            ellipse(10, 14, 3, 9, 0.9, -32),
        ]
    )


def arrow(x0: float, y0: float, x1: float, y1: float) -> str:
    ends = f'x1="{x0:g}" y1="{y0:g}" x2="{x1:g}" y2="{y1:g}"'
    return f'<line {ends} stroke="{LINE}" stroke-width="1.8" marker-end="url(#head)"/>'


def label(x: float, y: float, name: str, *details: str) -> str:
    text = f'<text x="{x:g}" y="{y:g}" class="name">{name}</text>'
    for i, detail in enumerate(details):
        text += f'<text x="{x:g}" y="{y + 17 + 15 * i:g}">{detail}</text>'
    return text


def model(x: float, y: float) -> str:
    """A network that narrows and widens again."""
    heights = (84, 60, 36, 60, 84)
    bars = []
    for i, height in enumerate(heights):
        area = f'x="{x + 15 * i:g}" y="{y - height / 2:g}" width="9" height="{height}"'
        bars.append(f'<rect {area} rx="2" fill="{TEXT}" fill-opacity="0.55"/>')
    return "".join(bars)


def picture() -> str:
    below = TOP + SIDE + 24
    parts = [
        box(24, TOP, SIDE, DEPTH, TEXT),
        head(24, TOP, TEXT),
        label(97, below, "NIfTI volume", "larger than memory"),
        arrow(178, 120, 216, 120),
        box(224, TOP, SIDE, DEPTH, BLUE),
        chunk_lines(224, TOP, SIDE, DEPTH, 4),
        square(236, 88, 36, ORANGE),
        square(282, 138, 36, ORANGE),
        label(297, below, "Zarr v3 store", "compressed chunks,", "laid out for patches"),
        arrow(378, 106, 424, 90),
        arrow(378, 142, 440, 162),
    ]
    parts += [box(436 + 48 * i, 74 + 8 * (i % 2), 28, 9, ORANGE, 1.6) for i in range(3)]
    parts += [square(452 + 17 * i, 146, 34, PURPLE, 0.22) for i in range(5)]
    parts += [
        label(504, 34, "random patches", "for training"),
        label(504, below, "overlapping patches", "for inference"),
        arrow(588, 90, 632, 108),
        arrow(566, 162, 632, 138),
        model(644, 122),
        label(678, below, "your model"),
        arrow(730, 122, 768, 122),
        box(778, TOP, SIDE, DEPTH, GREEN),
        head(778, TOP, GREEN),
        *(square(788 + 22 * i, 84, 44, PURPLE, 0.08) for i in range(3)),
        label(851, below, "blended prediction", "written to a store", "as it grows"),
    ]
    style = (
        f"text{{font:12px -apple-system,'Segoe UI',Helvetica,Arial,sans-serif;fill:{TEXT};"
        "text-anchor:middle}.name{font-size:14px;font-weight:600}"
    )
    marker = (
        '<marker id="head" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="6" markerHeight="6" '
        f'orient="auto"><path d="M0,0 L8,4 L0,8 Z" fill="{LINE}"/></marker>'
    )
    title = "From a volume to a store of chunks, to patches, a model and a blended prediction"
    size = f'width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
            f"<title>{title}</title>",
            f"<style>{style}</style>",
            f"<defs>{marker}</defs>",
            *parts,
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    Path(__file__).with_name("overview.svg").write_text(picture(), encoding="utf-8")

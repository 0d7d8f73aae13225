"""Line charts as SVG, in the reader's own light or dark colours, with nothing to load."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT = 620, 360
LEFT, TOP, BOTTOM = 70, 40, 50
LETTER = 7
"""Width of a letter, about."""
COLOURS = ("#3f6fb5", "#dd8a34", "#4fa8a0", "#b0568a", "#8a6bb1", "#7a5c45")

STYLE = """
.plot { --paper: #fdfdfc; --ink: #23272b; --soft: #6b7278; --line: #dfe2e4; }
@media (prefers-color-scheme: dark) { .plot { --paper: #17191c; --ink: #e6e8ea; --soft: #9aa1a8; --line: #363b41; } }
.plot text { font: 12px system-ui, sans-serif; fill: var(--ink); }
.plot .soft { fill: var(--soft); }
.plot .head { font-size: 14px; font-weight: 600; }
.plot .grid { stroke: var(--line); fill: none; }
"""


def chart(
    title: str, across: str, up: str, lines: dict[str, Sequence[tuple[float, float]]], *, logarithmic: bool = False
) -> str:
    """Return a line chart.

    Args:
        title: Above it.
        across: What the horizontal axis counts.
        up: What the vertical axis counts; it begins at 0.
        lines: Points by name.
        logarithmic: The horizontal axis doubles at each step.
    """
    right = 24 + LETTER * max(map(len, lines))
    points = [point for line in lines.values() for point in line]
    stops = sorted({x for x, _ in points})
    step = _round(max(y for _, y in points) / 5)
    top = step * math.ceil(max(y for _, y in points) / step)
    scale = math.log2 if logarithmic else float
    low, high = scale(stops[0]), scale(stops[-1])

    def at_x(x: float) -> float:
        return LEFT + (scale(x) - low) / ((high - low) or 1) * (WIDTH - LEFT - right)

    def at_y(y: float) -> float:
        return HEIGHT - BOTTOM - y / top * (HEIGHT - TOP - BOTTOM)

    out = [f'<text x="{LEFT}" y="22" class="head">{escape(title)}</text>']
    for i in range(round(top / step) + 1):
        y = at_y(i * step)
        out.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - right}" class="grid"/>')
        out.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" class="soft" text-anchor="end">{i * step:g}</text>')
    foot = f'y="{HEIGHT - BOTTOM + 18}" class="soft" text-anchor="middle"'
    out += [f'<text x="{at_x(x):.1f}" {foot}>{x:g}</text>' for x in stops]
    middle = (LEFT + WIDTH - right) / 2
    out.append(f'<text x="{middle}" y="{HEIGHT - 10}" class="soft" text-anchor="middle">{escape(across)}</text>')
    centre = (TOP + HEIGHT - BOTTOM) / 2
    turned = f'transform="rotate(-90 16 {centre})"'
    out.append(f'<text x="16" y="{centre}" class="soft" text-anchor="middle" {turned}>{escape(up)}</text>')
    taken: list[float] = []
    for (name, line), colour in zip(lines.items(), COLOURS, strict=False):
        path = "L".join(f"{at_x(x):.1f} {at_y(y):.1f}" for x, y in line)
        out.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out += [f'<circle cx="{at_x(x):.1f}" cy="{at_y(y):.1f}" r="3" fill="{colour}"/>' for x, y in line]
        # Names stand at the lines' ends, none over another.
        y = at_y(line[-1][1]) + 4
        while any(abs(y - other) < 14 for other in taken):
            y += 14
        taken.append(y)
        out.append(f'<text x="{at_x(line[-1][0]) + 8:.1f}" y="{y:.1f}" style="fill: {colour}">{escape(name)}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'height="{HEIGHT}" role="img"><style>{STYLE}</style><rect width="100%" height="100%" fill="var(--paper)"/>'
        f"{''.join(out)}</svg>\n"
    )


def _round(value: float) -> float:
    """Return the next of 1, 2, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= value)

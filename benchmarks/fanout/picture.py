"""
Draw the results as SVG: bars of CPU per delivery.
"""

from __future__ import annotations

from collections.abc import Iterator
from xml.sax.saxutils import escape

from shared.results import Results

from fanout.contestants import NAMES

_WIDTH = 720
_LEFT = 140
_RIGHT = 70
_ROW = 24
_BAR = 16
# The picture cannot know whether its page is light or dark. These colours contrast with white and with black,
# and the background is transparent.
_TEXT, _USER, _SYSTEM, _OURS = "#7a7f87", "#4c8fd6", "#9a8fc4", "#d9822b"

_PANELS = (
    ("fanout", "{subscribers:,} subscribers, one event per turn"),
    ("burst", "{subscribers:,} subscribers, {burst} events per turn"),
)


def drawn(results: Results) -> str:
    """
    Draw the scenarios that have figures, one below the other.
    """
    parts: list[str] = []
    y = 10
    for scenario, title in _PANELS:
        servers = results.ranked(scenario, "cpu")
        if not servers:
            continue
        parts.append(_text(0, y + 14, f"{title.format(**results.sizes)}: CPU per delivery, µs", bold=True))
        y += 28
        longest = max(results.median(scenario, server, "cpu") or 0 for server in servers)
        for server in servers:
            parts += _bar(results, scenario, server, NAMES.get(server, server), y, longest)
            y += _ROW
        y += 16
    parts += [
        f'<rect x="{_LEFT}" y="{y}" width="12" height="12" fill="{_SYSTEM}"/>',
        _text(_LEFT + 18, y + 11, "system"),
        f'<rect x="{_LEFT + 90}" y="{y}" width="12" height="12" fill="{_USER}"/>',
        f'<rect x="{_LEFT + 104}" y="{y}" width="12" height="12" fill="{_OURS}"/>',
        _text(_LEFT + 122, y + 11, "user"),
    ]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y + 24}" '
        f'font-family="system-ui, sans-serif" font-size="13" role="img">'
    )
    return "\n".join([head, "<title>CPU per delivery</title>", *parts, "</svg>", ""])


def _bar(results: Results, scenario: str, server: str, name: str, y: int, longest: float) -> Iterator[str]:
    total = results.median(scenario, server, "cpu") or 0
    ours = server == "txsse"
    system = min(total, results.median(scenario, server, "system") or 0)
    scale = (_WIDTH - _LEFT - _RIGHT) / longest
    yield _text(_LEFT - 8, y + 13, name, anchor="end", bold=ours)
    yield _rect(_LEFT, y, system * scale, _SYSTEM)
    yield _rect(_LEFT + system * scale, y, (total - system) * scale, _OURS if ours else _USER)
    yield _text(_LEFT + total * scale + 6, y + 13, f"{total * 1e6:.2f}", bold=ours)


def _rect(x: float, y: float, width: float, colour: str) -> str:
    return f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{_BAR}" fill="{colour}"/>'


def _text(x: float, y: float, text: str, *, anchor: str = "start", bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y}" fill="{_TEXT}" text-anchor="{anchor}"{weight}>{escape(text)}</text>'

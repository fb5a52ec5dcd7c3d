"""Charts as inline SVG, which take their colours from the page's style sheet and its theme."""

import base64
import io
import math
from html import escape

from matplotlib.image import imsave

__all__ = ["bars", "lines", "picture", "ticks"]

WIDTH, HEIGHT = 420, 220
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 34

#: Series and bars take the classes c0 to c5 of the style sheet, in turn.
COLOURS = 6


def _svg(title, height, parts):
    body = "".join(parts)
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{body}</svg>"
    )


def _figure(title, svg, names=()):
    legend = "".join(
        f'<span class="key c{i % COLOURS}">{escape(name)}</span>' for i, name in enumerate(names)
    )
    return f"<figure><figcaption>{escape(title)}</figcaption>{svg}<p>{legend}</p></figure>"


def _text(x, y, text, anchor="middle"):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def ticks(low, high, count=4):
    """About ``count`` round numbers from at most ``low`` to at least ``high``."""
    span = (high - low) or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / count))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= 0.999 * span / count)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, max(last, first + 1) + 1)]


def lines(title, series, x_label, unit=""):
    """A figure of one line for each series: name -> list of (x, y). The axis of y includes 0."""
    points = [point for line in series.values() for point in line]
    xs, ys = zip(*points, strict=True)
    marks = ticks(min(0, *ys), max(ys))
    x_low, x_span = min(xs), (max(xs) - min(xs)) or 1
    y_low, y_span = marks[0], marks[-1] - marks[0]
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def place(x, y):
        return (
            LEFT + (x - x_low) / x_span * (right - LEFT),
            bottom - (y - y_low) / y_span * (bottom - TOP),
        )

    parts = []
    for mark in marks:
        _, y = place(x_low, mark)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{right}"/>')
        parts.append(_text(LEFT - 6, y + 4, f"{mark:g}{unit}", "end"))
    places = sorted(set(xs))
    for x in places if len(places) <= 6 else (places[0], places[len(places) // 2], places[-1]):
        parts.append(_text(place(x, y_low)[0], bottom + 16, f"{x:g}"))
    parts.append(_text((LEFT + right) / 2, HEIGHT - 4, x_label))
    for index, line in enumerate(series.values()):
        colour = f"c{index % COLOURS}"
        dots = [place(x, y) for x, y in line]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in dots)
        parts.append(f'<polyline class="line {colour}" points="{path}"/>')
        parts += [f'<circle class="dot {colour}" cx="{x:.1f}" cy="{y:.1f}" r="2"/>'
                  for x, y in dots]
    return _figure(title, _svg(title, HEIGHT, parts), series)


def bars(title, rows, full=None):
    """A figure of horizontal bars: rows of (name, value, text); ``full`` is the whole width."""
    full = full or max(value for _, value, _ in rows) or 1
    left, right, pitch = 84, WIDTH - 128, 26
    parts = []
    for index, (name, value, text) in enumerate(rows):
        y = 4 + index * pitch
        length = min(value / full, 1) * (right - left)
        parts += [
            _text(left - 8, y + 14, name, "end"),
            f'<rect class="track" x="{left}" y="{y}" width="{right - left}" height="18" rx="2"/>',
            f'<rect class="bar c0" x="{left}" y="{y}" width="{length:.1f}" height="18" rx="2"/>',
            _text(right + 8, y + 14, text, "start"),
        ]
    return _figure(title, _svg(title, 8 + pitch * len(rows), parts))


def picture(pixels, alt, scale=1):
    """An ``img`` of uint8 [H, W, 4] pixels, ``scale`` screen pixels each, inside the page."""
    buffer = io.BytesIO()
    imsave(buffer, pixels, format="png")
    data = base64.b64encode(buffer.getvalue()).decode()
    height, width = pixels.shape[:2]
    return (
        f'<img src="data:image/png;base64,{data}" alt="{escape(alt)}"'
        f' width="{width * scale}" height="{height * scale}">'
    )

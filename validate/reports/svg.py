"""Plots as inline SVG: predicted over measured time, both axes in the logarithm."""

import math
from collections.abc import Sequence
from html import escape

SIZE, MARGIN = 300, 46
#: lines beside the diagonal: this much off
BAND = 1.25
#: colours of up to six series, legible side by side for most kinds of colour vision
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
_PREFIXES = {0: "s", -3: "ms", -6: "us", -9: "ns"}


def scatter(title: str, series: dict[str, Sequence[tuple[float, float, str]]]) -> str:
    """Return one plot.

    Parameters
    ----------
    title : str
    series : dict
        Name -> points ``(measured, predicted, label)``, both in seconds; the label is shown
        where the pointer rests on a point.

    Returns
    -------
    str
        An ``<svg>`` element.
    """
    values = [value for points in series.values() for point in points for value in point[:2] if value > 0]
    low, high = _ends(values)
    axis = _Axis(low, high)
    parts = [_frame(title, axis)]
    for factor, style in ((1.0, "diagonal"), (BAND, "band"), (1 / BAND, "band")):
        parts.append(_line(axis, factor, style))
    for colour, (name, points) in zip(COLOURS * len(series), series.items(), strict=False):
        parts += [_dot(axis, point, colour, name) for point in points]
    return "\n".join([*parts, "</svg>"])


class _Axis:
    """The same scale for both directions: seconds to places in the picture."""

    def __init__(self, low: float, high: float):
        self.low, self.high = math.log10(low), math.log10(high)

    def at(self, seconds: float) -> float:
        """Return the share of the axis at a time; ends are kept."""
        share = (math.log10(max(seconds, 1e-12)) - self.low) / (self.high - self.low)
        return min(1.0, max(0.0, share))

    def x(self, seconds: float) -> float:
        """Return the place from the left."""
        return MARGIN + self.at(seconds) * (SIZE - MARGIN - 10)

    def y(self, seconds: float) -> float:
        """Return the place from the top."""
        return SIZE - MARGIN - self.at(seconds) * (SIZE - MARGIN - 26)

    def decades(self) -> list[float]:
        """Return whole powers of ten on the axis."""
        first, last = math.ceil(self.low - 1e-9), math.floor(self.high + 1e-9)
        return [10.0**power for power in range(first, last + 1)]


def _ends(values: Sequence[float]) -> tuple[float, float]:
    if not values:
        return 1e-6, 1e-3
    low, high = min(values), max(values)
    return low / 1.4, max(high * 1.4, low * 4)


def _frame(title: str, axis: _Axis) -> str:
    box = f'viewBox="0 0 {SIZE} {SIZE}" width="{SIZE}" height="{SIZE}"'
    lines = [
        f'<svg {box} role="img" aria-label="{escape(title)}">',
        f'<text x="{MARGIN}" y="16" class="title">{escape(title)}</text>',
        f'<text x="{(SIZE + MARGIN) / 2}" y="{SIZE - 6}" class="axis">measured</text>',
        f'<text x="12" y="{SIZE / 2}" class="axis" transform="rotate(-90 12 {SIZE / 2})">predicted</text>',
    ]
    left, right, top, bottom = MARGIN, SIZE - 10, 26, SIZE - MARGIN
    for tick in axis.decades():
        x, y, name = axis.x(tick), axis.y(tick), time_text(tick)
        lines += [
            f'<line x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{bottom}" class="grid"/>',
            f'<line x1="{left}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" class="grid"/>',
            f'<text x="{x:.1f}" y="{bottom + 14}" class="axis">{name}</text>',
            f'<text x="{left - 4}" y="{y + 3:.1f}" class="tick">{name}</text>',
        ]
    return "\n".join(lines)


def _line(axis: _Axis, factor: float, style: str) -> str:
    low, high = 10**axis.low, 10**axis.high
    start, end = max(low, low / factor), min(high, high / factor)
    ends = axis.x(start), axis.y(start * factor), axis.x(end), axis.y(end * factor)
    x1, y1, x2, y2 = (f"{each:.1f}" for each in ends)
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" class="{style}"/>'


def _dot(axis: _Axis, point: tuple[float, float, str], colour: str, series: str) -> str:
    measured, predicted, label = point
    place = f'cx="{axis.x(measured):.1f}" cy="{axis.y(predicted):.1f}" r="2.4" fill="{colour}"'
    error = 100 * (predicted / measured - 1) if measured > 0 else math.nan
    return f"<circle {place}><title>{escape(f'{series}: {label}, {error:+.0f} %')}</title></circle>"


def time_text(seconds: float) -> str:
    """Return a power of ten of seconds as a tick.

    Examples
    --------
    >>> time_text(1e-5), time_text(0.1), time_text(1e-6)
    ('10 us', '100 ms', '1 us')
    """
    power = round(math.log10(seconds))
    base = max(each for each in _PREFIXES if each <= max(power, -9))
    return f"{10 ** (power - base):g} {_PREFIXES[base]}"


def legend(names: Sequence[str]) -> str:
    """Return the colours of series as HTML."""
    swatches = [
        f'<span><i style="background:{colour}"></i>{escape(name)}</span>'
        for colour, name in zip(COLOURS * len(names), names, strict=False)
    ]
    return f'<p class="legend">{" ".join(swatches)}</p>'

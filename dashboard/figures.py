"""Figures: records of ``calc`` in, Plotly figures out. Nothing of Streamlit here.

Every trace names its own colour (Okabe and Ito's), because Streamlit may drop a palette;
greys and text colours are chosen, or left to the theme, so that both themes can show them.
"""

import numpy as np
import plotly.graph_objects as go

import calc

BLUE, ORANGE, GREEN, PURPLE, VERMILLION = "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00"
SKY, YELLOW = "#56b4e9", "#f0e442"
GREY = "#8a8a8a"
FONT_SIZE = 16
BYTES_PER_GB = 1e9

OUTSIDE = "outside the engine's share"
#: row of Memory.breakdown() -> (label, fill, hatch, ink of the text in it; None: the theme's)
SEGMENTS = {
    "weights": ("Weights", BLUE, "", "#ffffff"),
    "drafts": ("Weights of what drafts", SKY, "", "#000000"),
    "cache": ("KV cache in use", ORANGE, "", "#000000"),
    "cache of drafts": ("KV cache of drafts", ORANGE, "/", "#000000"),
    "adapters": ("LoRA adapters", YELLOW, "", "#000000"),
    "activations": ("Activations", GREEN, "", "#000000"),
    "other": ("Driver and buffers", PURPLE, "", "#000000"),
    "unused cache pool": ("Free for cache", "rgba(138,138,138,0.14)", "", None),
    OUTSIDE: ("Kept from the engine", "rgba(138,138,138,0.30)", "/", None),
}
LABEL_FROM_SHARE = 0.24  # of the axis: narrower segments are named in the legend only


def memory_rows(estimate: calc.Estimate) -> list[tuple[str, float]]:
    """Return (label, bytes per device) of what the bar shows, in its order.

    Where it does not fit, what the engine must leave alone is drawn by the lines only: the
    bar then ends at what would be needed.
    """
    return [(label, value) for label, _, value in _segments(estimate)]


def _segments(estimate: calc.Estimate) -> list[tuple[str, tuple, float]]:
    """Return (label, (fill, hatch, ink), bytes) of each part; one without a style has its own name."""
    segments = []
    for name, value in estimate.memory.breakdown():
        label, *style = SEGMENTS.get(name, (name.capitalize(), SKY, "", "#000000"))
        if value and (estimate.fits or name != OUTSIDE):
            segments.append((label, tuple(style), float(value)))
    return segments


def memory_figure(estimate: calc.Estimate, dark: bool = False) -> go.Figure:
    """Return one device's memory as a stacked bar, with the limits it has to stay under."""
    memory = estimate.memory
    device = memory.device_bytes_per_device / BYTES_PER_GB
    usable = memory.usable_bytes_per_device / BYTES_PER_GB
    segments = _segments(estimate)
    needed = sum(value for _, _, value in segments) / BYTES_PER_GB
    longest = max(device, needed)
    figure = go.Figure()
    start = 0.0
    for label, (fill, hatch, ink), value in segments:
        end = start + value / BYTES_PER_GB
        _segment(figure, start, end, f"{label} {calc.format_bytes(value)}", fill, hatch, GREY)
        if end - start > LABEL_FROM_SHARE * longest:
            middle = (start + (end if estimate.fits else min(end, usable))) / 2
            text = f"{label}<br>{calc.format_bytes(value)}"
            figure.add_annotation(x=middle, y=0, text=text, showarrow=False, font_color=ink)
        start = end
    if not estimate.fits:
        name = f"Too much {calc.format_bytes(memory.shortfall_bytes_per_device)}"
        _segment(figure, usable, needed, name, VERMILLION, "/", "#ffffff")
    _limit(figure, device, longest, f"GPU has {calc.format_bytes(memory.device_bytes_per_device)}", "dot", 24)
    _limit(
        figure,
        usable,
        longest,
        f"engine may use {calc.format_bytes(memory.usable_bytes_per_device)}",
        "solid",
        2,
    )
    figure.update_layout(
        barmode="overlay",
        height=330,
        bargap=0,
        margin={"t": 52, "b": 8, "l": 16, "r": 16},
        legend=_LEGEND | {"y": -0.3},
        xaxis={"ticksuffix": " GB", "range": [0, longest * 1.01], "nticks": 6},
        yaxis={"visible": False},
    )
    return _styled(figure, dark)


_LEGEND = {
    "orientation": "h", "traceorder": "normal", "x": 0, "xanchor": "left", "yanchor": "top",
    "itemclick": False, "itemdoubleclick": False,
}  # fmt: skip


def _segment(
    figure: go.Figure, start: float, end: float, name: str, fill: str, hatch: str, stroke: str
) -> None:
    """Draw one part of the bar from ``start`` to ``end``. [GB]"""
    figure.add_bar(
        x=[end - start],
        base=[start],
        y=[0],
        orientation="h",
        name=name,
        marker={
            "color": fill,
            "pattern": {"shape": hatch, "fgcolor": stroke, "fillmode": "overlay", "size": 8, "solidity": 0.2},
            "line": {"color": GREY, "width": 1},
        },
        hovertemplate=f"{name} per GPU<extra></extra>",
    )


def _limit(figure: go.Figure, at: float, longest: float, text: str, dash: str, above: int) -> None:
    """Draw one limit as a line over the bar, its words above on the side with room."""
    figure.add_vline(at, line={"color": VERMILLION, "width": 3, "dash": dash})
    figure.add_annotation(
        x=at, y=1, yref="paper", yanchor="bottom", yshift=above, showarrow=False, text=text,
        xanchor="right" if at > longest / 2 else "left",
    )  # fmt: skip


def curve_rows(sweep: calc.Estimate, slo: calc.SLO) -> list[dict]:
    """Return one row per number of users: interactivity, throughput, times, whether it keeps the limits."""
    users = np.asarray(sweep.workload.concurrency)
    tpot, ttft, rate = (
        np.broadcast_to(v, users.shape) for v in (sweep.tpot_s, sweep.ttft_s, sweep.output_tokens_per_s)
    )
    meets = np.broadcast_to(sweep.meets(slo), users.shape)
    return [
        {
            "users": int(users[i]),
            "tokens_per_s_per_user": float(1 / tpot[i]),
            "tokens_per_s_per_gpu": float(rate[i] / sweep.n_devices),
            "ttft_s": float(ttft[i]),
            "tpot_s": float(tpot[i]),
            "meets": bool(meets[i]),
        }
        for i in range(len(users))
    ]


def point_row(estimate: calc.Estimate, slo: calc.SLO) -> dict:
    """Return the row of ``curve_rows`` for one scenario."""
    return {
        "users": int(estimate.workload.concurrency),
        "tokens_per_s_per_user": float(1 / estimate.tpot_s),
        "tokens_per_s_per_gpu": float(estimate.output_tokens_per_s / estimate.n_devices),
        "ttft_s": float(estimate.ttft_s),
        "tpot_s": float(estimate.tpot_s),
        "meets": bool(estimate.meets(slo)),
    }


def curve_figure(rows: list[dict], point: dict, slo: calc.SLO, dark: bool = False) -> go.Figure:
    """Return throughput per GPU against interactivity, the scenario marked, the limits shaded.

    Parameters
    ----------
    rows : list of dict
        The curve, from ``curve_rows``.
    point : dict
        The scenario, from ``point_row``.
    slo : SLO
        Limits; the region with enough tokens per second and user is shaded.
    dark : bool
        Whether the page is dark.
    """
    figure = go.Figure()
    everything = [*rows, point]
    right = 1.2 * max(row["tokens_per_s_per_user"] for row in everything)
    top = 1.25 * max(row["tokens_per_s_per_gpu"] for row in everything)
    if slo.tpot_s is not None:
        least = 1 / slo.tpot_s
        right = max(right, 1.7 * least)
        figure.add_vrect(least, right, fillcolor=GREEN, opacity=0.13, line_width=0, layer="below")
        figure.add_vline(least, line={"color": GREEN, "width": 2, "dash": "dash"})
        figure.add_annotation(
            x=right, y=1, yref="paper", xanchor="right", yanchor="top", showarrow=False,
            text=f"{calc.format_seconds(slo.tpot_s)} per token or less",
        )  # fmt: skip
    _line(figure, rows, GREY, "dot")
    _line(figure, [row if row["meets"] else None for row in rows], BLUE, "solid")
    _markers(figure, [row for row in rows if row["meets"]], "Within limits", BLUE, "circle")
    _markers(figure, [row for row in rows if not row["meets"]], "Misses a limit", GREY, "circle-open")
    for row in _labelled(rows):
        end = row["users"] in (rows[0]["users"], rows[-1]["users"])
        figure.add_annotation(
            x=row["tokens_per_s_per_user"], y=row["tokens_per_s_per_gpu"],
            text=f"{row['users']:,} user{'s' * (row['users'] != 1)}" if end else f"{row['users']:,}",
            showarrow=False, xanchor="left", yanchor="bottom", xshift=4, yshift=2,
        )  # fmt: skip
    words = f"This scenario, {point['users']:,} user{'s' * (point['users'] != 1)}"
    _markers(figure, [point], words, VERMILLION, "diamond", size=17, line={"color": "#ffffff", "width": 2})
    figure.update_layout(
        height=420,
        margin={"t": 8, "b": 8, "l": 8, "r": 12},
        legend=_LEGEND | {"y": -0.24},
        xaxis={"title": "Tokens/s per user (higher is better)", "range": [0, right], "nticks": 7},
        yaxis={"title": "Tokens/s per GPU (higher is better)", "range": [0, top], "nticks": 6},
    )
    return _styled(figure, dark)


def _line(figure: go.Figure, rows: list[dict | None], colour: str, dash: str) -> None:
    figure.add_scatter(
        x=[row and row["tokens_per_s_per_user"] for row in rows],
        y=[row and row["tokens_per_s_per_gpu"] for row in rows],
        mode="lines",
        line={"color": colour, "width": 3, "dash": dash},
        showlegend=False,
        hoverinfo="skip",
    )


def _markers(figure: go.Figure, rows: list[dict], name: str, colour: str, symbol: str, **style) -> None:
    if not rows:
        return
    figure.add_scatter(
        x=[row["tokens_per_s_per_user"] for row in rows],
        y=[row["tokens_per_s_per_gpu"] for row in rows],
        mode="markers",
        name=name,
        marker={"color": colour, "size": 8, "symbol": symbol} | style,
        customdata=[_hover(row) for row in rows],
        hovertemplate="%{customdata}<extra></extra>",
    )


def _labelled(rows: list[dict]) -> list[dict]:
    """Return the few rows whose number of users is written beside them."""
    picked = {}
    for wanted in (1, 8, 32, 128, 512):
        if wanted <= rows[-1]["users"]:
            row = min(rows, key=lambda row: abs(row["users"] - wanted))
            picked[row["users"]] = row
    picked[rows[-1]["users"]] = rows[-1]
    return list(picked.values())


def _hover(row: dict) -> str:
    return (
        f"{row['users']:,} users at once<br>{calc.format_seconds(row['tpot_s'])} per token, "
        f"first after {calc.format_seconds(row['ttft_s'])}<br>"
        f"{calc.significant(row['tokens_per_s_per_gpu'])} tokens/s per GPU"
    )


def _styled(figure: go.Figure, dark: bool) -> go.Figure:
    """Return the figure with what all share: readable sizes and ink, no dragging by accident."""
    font = {"size": FONT_SIZE, "color": "#fafafa" if dark else "#262730"}
    axis = {
        "title": {"font": font},
        "tickfont": font,
        "fixedrange": True,
        "automargin": True,
        "showgrid": True,
    }
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
    for note in figure.layout.annotations:
        note.font = font if note.font.color is None else {"size": FONT_SIZE, "color": note.font.color}
    figure.update_layout(
        font=font, legend_font=font, hoverlabel_font_size=FONT_SIZE, dragmode=False, hovermode="closest"
    )
    return figure

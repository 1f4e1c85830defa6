"""Figures: records of ``calc`` in, Plotly figures out. Nothing of Streamlit here.

Every trace names its own colour (Okabe and Ito's), because Streamlit may drop a palette;
greys and text colours are chosen, or left to the theme, so that both themes can show them.
"""

import numpy as np
import plotly.graph_objects as go

import calc

BLUE, ORANGE, GREEN, PURPLE, VERMILLION = "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00"
GREY = "#8a8a8a"
FONT_SIZE = 15
BYTES_PER_GB = 1e9

#: row of Memory.breakdown() -> (label, fill, hatch, text in it)
SEGMENTS = {
    "weights": ("Weights", BLUE, "", "#ffffff"),
    "cache": ("KV cache in use", ORANGE, "", "#000000"),
    "activations": ("Activations", GREEN, "", "#000000"),
    "other": ("Driver and buffers", PURPLE, "", "#000000"),
    "unused cache pool": ("Free cache pool", "rgba(138,138,138,0.18)", "/", None),
    "outside the engine's share": ("Kept from the engine", "rgba(138,138,138,0.45)", "x", None),
}
LABEL_FROM_SHARE = 0.16  # of the axis: narrower segments are named in the legend only


def memory_rows(estimate: calc.Estimate) -> list[tuple[str, float]]:
    """Return (label, bytes per device) of what the bar shows, in its order.

    Where it does not fit, what the engine must leave alone is drawn by the lines only: the
    bar then ends at what would be needed.
    """
    rows = [(SEGMENTS[name][0], float(value)) for name, value in estimate.memory.breakdown()]
    return rows if estimate.fits else rows[:-1]


def memory_figure(estimate: calc.Estimate) -> go.Figure:
    """Return one device's memory as a stacked bar, with the limits it has to stay under."""
    memory = estimate.memory
    device = memory.device_bytes_per_device / BYTES_PER_GB
    usable = memory.usable_bytes_per_device / BYTES_PER_GB
    rows = memory_rows(estimate)
    longest = max(device, sum(value for _, value in rows) / BYTES_PER_GB)
    styles = {label: style for label, *style in SEGMENTS.values()}
    figure = go.Figure()
    for label, value in rows:
        fill, hatch, ink = styles[label]
        gigabytes = value / BYTES_PER_GB
        inside = gigabytes > LABEL_FROM_SHARE * longest
        figure.add_bar(
            x=[gigabytes],
            y=[""],
            orientation="h",
            name=f"{label} {calc.format_bytes(value)}",
            marker={
                "color": fill,
                "pattern": {"shape": hatch, "fgcolor": GREY, "size": 7, "solidity": 0.25},
                "line": {"color": GREY, "width": 1},
            },
            text=[f"{label}<br>{calc.format_bytes(value)}" if inside else ""],
            textposition="inside",
            insidetextanchor="middle",
            textangle=0,
            insidetextfont={"size": FONT_SIZE} | ({"color": ink} if ink else {}),
            hovertemplate=f"{label}: {calc.format_bytes(value)} per GPU<extra></extra>",
        )
    if not estimate.fits:
        figure.add_vrect(usable, longest, fillcolor=VERMILLION, opacity=0.16, line_width=0)
    _limit(figure, usable, f"engine may use {calc.format_bytes(memory.usable_bytes_per_device)}", "right")
    _limit(figure, device, f"GPU has {calc.format_bytes(memory.device_bytes_per_device)}", "left" if device < longest else "right", low=True)
    figure.update_layout(
        barmode="stack",
        height=300,
        bargap=0.1,
        margin={"t": 36, "b": 8, "l": 4, "r": 8},
        legend={"orientation": "h", "traceorder": "normal", "y": -0.5, "x": 0, "font": {"size": 14}, "itemclick": False, "itemdoubleclick": False},
        xaxis={"title": "GB per GPU (1 GB = 10⁹ bytes), lower is better", "range": [0, longest * 1.02]},
        yaxis={"visible": False},
    )
    return _styled(figure)


def _limit(figure: go.Figure, at: float, text: str, side: str, low: bool = False) -> None:
    """Draw one limit as a line over the bar, its words above or below the bar."""
    figure.add_vline(at, line={"color": VERMILLION, "width": 3, "dash": "dot" if low else "solid"})
    figure.add_annotation(
        x=at,
        y=1,
        yref="paper",
        yanchor="bottom",
        xanchor=side,
        text=text,
        showarrow=False,
        font={"size": 14},
    )


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


def curve_figure(rows: list[dict], point: dict, slo: calc.SLO) -> go.Figure:
    """Return throughput per GPU against interactivity, the scenario marked, the limits shaded.

    Parameters
    ----------
    rows : list of dict
        The curve, from ``curve_rows``.
    point : dict
        The scenario, from ``point_row``.
    slo : SLO
        Limits; the region with enough tokens per second and user is shaded.
    """
    figure = go.Figure()
    everything = [*rows, point]
    right = 1.08 * max(row["tokens_per_s_per_user"] for row in everything)
    top = 1.18 * max(row["tokens_per_s_per_gpu"] for row in everything)
    if slo.tpot_s is not None:
        least = 1 / slo.tpot_s
        right = max(right, 1.15 * least)
        figure.add_vrect(least, right, fillcolor=GREEN, opacity=0.13, line_width=0, layer="below")
        figure.add_vline(least, line={"color": GREEN, "width": 2, "dash": "dash"})
        figure.add_annotation(
            x=least, y=1, yref="paper", xanchor="left", yanchor="top", showarrow=False, xshift=4,
            text=f"fast enough:<br>{calc.format_seconds(slo.tpot_s)} per token or less", align="left", font={"size": 14},
        )  # fmt: skip
    _curve(figure, rows, "Keeps the limits" if slo != calc.SLO() else "Users at once, 1 and up", BLUE, "circle", True)
    _curve(figure, rows, "Misses a limit", GREY, "circle-open", False)
    words = f"{point['users']:,} user{'s' * (point['users'] != 1)}"
    figure.add_scatter(
        x=[point["tokens_per_s_per_user"]],
        y=[point["tokens_per_s_per_gpu"]],
        mode="markers",
        name=f"This scenario: {words}",
        marker={"symbol": "diamond", "size": 17, "color": VERMILLION, "line": {"color": "#ffffff", "width": 2}},
        customdata=[_hover(point)],
        hovertemplate="%{customdata}<extra></extra>",
    )
    figure.update_layout(
        height=400,
        margin={"t": 12, "b": 8, "l": 8, "r": 8},
        legend={"orientation": "h", "y": -0.28, "x": 0, "font": {"size": 14}, "itemclick": False, "itemdoubleclick": False},
        xaxis={"title": "Output tokens/s per user (higher is better)", "range": [0, right], "showgrid": True},
        yaxis={"title": "Output tokens/s per GPU<br>(higher is better)", "range": [0, top], "showgrid": True},
    )  # fmt: skip
    return _styled(figure)


def _curve(figure: go.Figure, rows: list[dict], name: str, colour: str, symbol: str, meets: bool) -> None:
    """Add the rows that keep (or miss) the limits; a line joins neighbours."""
    if not any(row["meets"] == meets for row in rows):
        return
    shown = [row if row["meets"] == meets else None for row in rows]
    figure.add_scatter(
        x=[row and row["tokens_per_s_per_user"] for row in shown],
        y=[row and row["tokens_per_s_per_gpu"] for row in shown],
        mode="lines+markers",
        name=name,
        line={"color": colour, "width": 3, "dash": "solid" if meets else "dot"},
        marker={"color": colour, "size": 7, "symbol": symbol},
        customdata=[row and _hover(row) for row in shown],
        hovertemplate="%{customdata}<extra></extra>",
    )


def _hover(row: dict) -> str:
    return (
        f"{row['users']:,} users at once<br>{calc.format_seconds(row['tpot_s'])} per token, "
        f"first after {calc.format_seconds(row['ttft_s'])}<br>"
        f"{calc.significant(row['tokens_per_s_per_gpu'])} tokens/s per GPU"
    )


def _styled(figure: go.Figure) -> go.Figure:
    """Return the figure with what all share: readable sizes, no dragging by accident."""
    axis = {"title": {"font": {"size": FONT_SIZE}}, "tickfont": {"size": 14}, "fixedrange": True, "automargin": True}
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
    figure.update_layout(
        font={"size": FONT_SIZE}, hoverlabel={"font": {"size": FONT_SIZE}}, dragmode=False, hovermode="closest"
    )
    return figure

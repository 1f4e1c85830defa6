"""Inputs and blocks that pages share: small Streamlit helpers, no arithmetic."""

import math
from dataclasses import fields

import plotly.graph_objects as go
import streamlit as st

import calc
from dashboard import words
from dashboard.scenario import (
    AS_PUBLISHED,
    CUSTOM,
    OUTPUT_STEPS,
    PROMPT_STEPS,
    SLO_LIMITS,
    TP_CHOICES,
    USER_STEPS,
    Scenario,
    nearest_step,
)

DEFAULT = Scenario()
KEYS = tuple(field.name for field in fields(Scenario))
MOST_TOKENS, MOST_USERS = 10_000_000, 100_000
MOST_RANKS = 4096
#: parallelism beyond tp: field -> label, help
RANKS = {
    "pp": ("Pipeline stages", "Each holds a share of the layers."),
    "dp": ("Data parallel ranks", "Each has requests of its own; routed experts are spread over all."),
    "ep": ("Expert ranks", "Ranks that hold whole experts; must divide tensor times data ranks."),
    "cp": ("Context ranks", "Each keeps a share of the tokens' cache; within the tensor ranks."),
}
CHART_CONFIG = {"displaylogo": False, "modeBarButtonsToRemove": ["select2d", "lasso2d", "zoom2d", "pan2d"]}


def style() -> None:
    """Set what the theme cannot: no text under 16 px, and labels that wrap instead of being cut."""
    st.html(f"<style>{_CSS}</style>")


_CSS = """
[data-testid=stWidgetLabel] p, [data-testid=stMetricLabel] p, [data-testid=stTable] table,
[data-testid=stExpander] summary p, [data-testid=stPopover] button p, [data-testid=stButton] button p,
[data-testid=stButtonGroup] button p, [data-testid=stSliderThumbValue] p, .stMarkdownBadge,
[data-testid=stSelectbox] input, [data-testid=stSelectbox] [data-baseweb=select] > div,
[data-testid=stNumberInput] input, [data-testid=stTextInput] input { font-size: 1rem !important; }
[data-testid=stMetricLabel] * { white-space: normal !important; overflow: visible !important; }
[data-testid=stPopoverBody] { width: min(46rem, 94vw); max-width: 94vw; }
"""


def scenario_sidebar() -> Scenario:
    """Draw the inputs, bound to the URL by their keys, and return what they hold."""
    _drop_infinities()
    with st.sidebar:
        values = {
            "model": _choice("Model", calc.model_ids(), "model", "Type to search."),
            "weights": _choice(
                "Weights", [AS_PUBLISHED, *calc.WEIGHT_FORMATS], "weights", "Number format of the weights."
            ),
        }
        values["gpu"] = _choice("GPU", calc.device_ids(), "gpu", "Type to search.")
        values["tp"] = st.segmented_control(
            "GPUs per replica", TP_CHOICES, default=DEFAULT.tp, required=True, key="tp", bind="query-params",
            help="Tensor parallelism. Auto takes the smallest number that fits and keeps the limits; "
            "more kinds of parallelism are under Advanced.",
        )  # fmt: skip
        values["prompt"] = _count("Prompt tokens", "prompt", PROMPT_STEPS, MOST_TOKENS)
        values["output"] = _count("Output tokens", "output", OUTPUT_STEPS, MOST_TOKENS)
        values["users"] = _count("Users at once", "users", USER_STEPS, MOST_USERS)
        values["slo"] = _choice("Limits on speed", [*SLO_LIMITS, CUSTOM], "slo", _slo_help())
        if values["slo"] == CUSTOM:
            values |= _custom_limits()
        with st.expander("Advanced"):
            values |= _advanced()
        st.button(
            "Reset", on_click=reset, width="stretch", icon=":material/restart_alt:",
            help="Back to the defaults. The address bar always holds the whole scenario: copy it to share.",
        )  # fmt: skip
    return Scenario(**values)


def _drop_infinities() -> None:
    """Take infinite numbers out of the URL and start over: Streamlit 1.67 fails on them."""
    infinite = [key for key, text in st.query_params.items() if key in KEYS and _is_infinite(text)]
    for key in infinite:
        del st.query_params[key]
    if infinite:
        st.rerun()


def _is_infinite(text: str) -> bool:
    try:
        return math.isinf(float(text))
    except ValueError:
        return False


def reset() -> None:
    """Put every input back to its default, which also clears the URL."""
    apply({key: getattr(DEFAULT, key) for key in KEYS if key in st.session_state})


def apply(changes: dict) -> None:
    """Set inputs from a callback."""
    for key, value in changes.items():
        st.session_state[key] = value


def _choice(label: str, options, key: str, help: str) -> str:
    options = list(options)
    index = options.index(getattr(DEFAULT, key))
    return st.selectbox(label, options, index, key=key, help=help, bind="query-params")


def _count(label: str, key: str, steps: tuple[int, ...], most: int) -> int:
    """Draw a slider over handy steps beside a field for any value; the field is what the URL holds."""
    left, right = st.columns([3, 2], vertical_alignment="bottom")
    with right:
        value = st.number_input(
            f"{label}, exactly", 1, most, getattr(DEFAULT, key), key=key,
            label_visibility="collapsed", bind="query-params",
        )  # fmt: skip
    slider = f"{key}_slider"
    st.session_state[slider] = nearest_step(value, steps)
    with left:
        st.select_slider(
            label, steps, key=slider, format_func="{:,}".format, on_change=_copy, args=(slider, key)
        )
    return value


def _copy(source: str, target: str) -> None:
    st.session_state[target] = st.session_state[source]


def _slo_help() -> str:
    return "\n".join(f"- {words.slo_words(calc.SLO(*limits), name)}" for name, limits in SLO_LIMITS.items())


def _custom_limits() -> dict[str, float]:
    left, right = st.columns(2)
    with left:
        ttft = st.number_input(
            "First token (s)", 0.001, 3600.0, DEFAULT.ttft_s, 0.1, key="ttft_s", bind="query-params"
        )
    with right:
        tpot = st.number_input(
            "Per token (ms)", 0.1, 60000.0, DEFAULT.tpot_ms, 1.0, "%.1f", key="tpot_ms", bind="query-params"
        )
    return {"ttft_s": ttft, "tpot_ms": tpot}


def _advanced() -> dict:
    own = "The file stays where it is; leave empty to use the list above."
    return {
        "kv": _choice("KV cache", calc.KV_BYTES, "kv", "Number format of the cache."),
        "engine": _choice("Engine", calc.engine_ids(), "engine", "Its defaults and overheads are used."),
        **_parallelism(),
        "memory_share": st.number_input(
            "Share of GPU memory for the engine", 0.05, 1.0, None, 0.01, key="memory_share",
            placeholder="the engine's default", bind="query-params",
        ),
        "price": st.number_input(
            "Price per GPU-hour (USD)", 0.01, 10000.0, None, 0.1, key="price",
            placeholder="the list's price", bind="query-params",
        ),
        "own_model": st.text_input(
            "Own model: path of its config.json", key="own_model", help=own, bind="query-params"
        ),
        "own_device": st.text_input(
            "Own GPU: path of its .yaml", key="own_device", help=own, bind="query-params"
        ),
    }  # fmt: skip


def _parallelism() -> dict:
    """Draw parallelism beyond tp, two to a line, and how unevenly experts are visited."""
    values, columns = {}, [*st.columns(2), *st.columns(2)]
    for (key, (label, help)), column in zip(RANKS.items(), columns, strict=True):
        with column:
            values[key] = st.number_input(label, 1, MOST_RANKS, 1, key=key, help=help, bind="query-params")
    values["expert_skew"] = st.number_input(
        "Expert skew", 0.0, 1.5, DEFAULT.expert_skew, 0.1, key="expert_skew", bind="query-params",
        help="Exponent of the power law of expert popularity; 0 is uniform routing.",
    )  # fmt: skip
    return values


def chart(figure: go.Figure, key: str, title: str, takeaway: str, rows: list[dict]) -> None:
    """Draw a figure under its conclusion, with a sentence and a table that say the same."""
    st.markdown(f"## {title}")
    st.plotly_chart(figure, key=key, alt=f"{title}. {takeaway}", config=CHART_CONFIG)
    st.markdown(takeaway)
    with st.expander("Data"):
        table(rows)


def table(rows: list[dict]) -> None:
    """Draw rows as an HTML table, which screen readers can read."""
    st.table(rows, hide_index=True, border="horizontal")


def explained_metric(estimate: calc.Estimate, metric: str, label: str, value: str, note: str) -> None:
    """Draw a metric with a button that opens where it comes from; nothing is derived before it is opened."""
    with st.container(border=True, height="stretch", gap="xsmall", key=f"metric_{metric}"):
        st.metric(label, value)
        st.markdown(note)
        if value == words.NOTHING:
            return
        popover = st.popover(
            "Explain", key=f"explain_{metric}", on_change="rerun", icon=":material/function:"
        )
        if popover.open:
            with popover:
                explanation(estimate, metric)


def explanation(estimate: calc.Estimate, metric: str) -> None:
    """Draw where a metric comes from: the formula, with numbers, every input with its source."""
    try:
        e = calc.explain(estimate, metric)
    except calc.SpecError as error:
        st.markdown(str(error))
        return
    st.markdown(f"**{e.title}: {e.shown}**")
    st.latex(e.formula_latex)
    st.latex(e.substituted_latex)
    table([_term_row(term) for term in e.terms])
    if e.equations[1:]:
        with st.expander("Where the parts come from"):
            for equation in e.equations[1:]:
                st.latex(equation.formula_latex)
                st.latex(equation.substituted_latex)
    if e.parts:
        with st.expander("What it consists of"):
            table([{"Part": part.name, "Value": part.shown, "Note": part.note} for part in e.parts])
    for note in e.notes:
        st.markdown(f"- {note}")


def _term_row(term) -> dict[str, str]:
    source = f"[{term.source or 'source'}]({term.url})" if term.url else term.source
    return {
        "Symbol": f"${term.symbol_latex}$",
        "Is": term.name,
        "Value": term.shown,
        "From": ", ".join(part for part in (term.kind, source, term.date) if part),
    }


def is_dark() -> bool:
    """Return whether the page is shown in the dark theme."""
    return st.context.theme.type == "dark"

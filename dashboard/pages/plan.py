"""The Plan page: does it fit, how fast, at what cost, and the line that starts it."""

import streamlit as st

import calc
from dashboard import figures, widgets, words
from dashboard.scenario import AUTO, Scenario, remedies, user_sweep

_LOOKS = {
    "good": (st.success, ":material/check_circle:"),
    "slow": (st.warning, ":material/speed:"),
    "too large": (st.error, ":material/block:"),
}


def show(scenario: Scenario) -> None:
    """Draw the page for a scenario."""
    st.title("Plan", anchor=False)
    plan, scenario = _answer(scenario)
    if plan is None:
        return
    st.markdown(words.summary(plan, scenario.slo))
    _verdict(plan)
    _metrics(plan, scenario.tp != AUTO)
    if not plan.meets:
        _remedies(scenario)
    left, right = st.columns(2, gap="medium")
    with left:
        _memory(plan)
        _launch(plan)
    with right:
        _speed(plan)


def _answer(scenario: Scenario) -> tuple[calc.Plan | None, Scenario]:
    """Return the plan; where a file of one's own is wrong, say so and use the lists instead."""
    try:
        return scenario.answer(), scenario
    except (calc.SpecError, OSError) as error:
        listed = scenario.without_own_files()
        st.error(
            str(error) if listed == scenario else f"{error}. Shown instead: the model and GPU of the lists."
        )
    if listed == scenario:
        return None, scenario
    try:
        return listed.answer(), listed
    except calc.SpecError:
        return None, listed


def _verdict(plan: calc.Plan) -> None:
    kind, headline, sentences = words.verdict(plan)
    box, icon = _LOOKS[kind]
    box(f"**{headline}.** {sentences}", icon=icon)


@st.fragment
def _metrics(plan: calc.Plan, chosen: bool) -> None:
    """Draw the metrics; a fragment, so that opening an explanation redraws nothing else."""
    with st.grid(4, min_column_width=160):
        for metric, (value, note) in words.metric_values(plan, chosen).items():
            widgets.explained_metric(plan.estimate, metric, words.METRICS[metric], value, note)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.badge(words.trust(plan.estimate), icon=":material/straighten:", color="gray")
        st.markdown(words.price_line(plan.estimate))
        st.markdown(words.engine_line(plan.estimate))
    if plan.rejected and not chosen:
        st.markdown(
            ("**Why not fewer?** " if plan.meets else "**Tried:** ") + " · ".join(words.rejected(plan))
        )


def _remedies(scenario: Scenario) -> None:
    found = remedies(scenario)
    st.markdown("## What would help" if found else "## No single change of those tried is enough")
    for line, changes, plan in found:
        st.button(
            words.remedy_line(line, plan), on_click=widgets.apply, args=(changes,), key=f"remedy_{line}"
        )


def _memory(plan: calc.Plan) -> None:
    e = plan.estimate
    widgets.chart(
        figures.memory_figure(e, widgets.is_dark()),
        "memory",
        words.memory_title(e),
        words.memory_takeaway(e),
        words.memory_table(e),
    )


def _speed(plan: calc.Plan) -> None:
    sweep = user_sweep(plan)
    if sweep is None:
        st.markdown("## Speed: nothing to time yet")
        st.markdown("Throughput against interactivity appears here once the model fits.")
        return
    rows, point = figures.curve_rows(sweep, plan.slo), figures.point_row(plan.estimate, plan.slo)
    widgets.chart(
        figures.curve_figure(rows, point, plan.slo, widgets.is_dark()),
        "speed",
        words.curve_title(rows, point),
        words.curve_takeaway(rows, point),
        words.curve_table(rows, point),
    )


def _launch(plan: calc.Plan) -> None:
    e = plan.estimate
    if not e.fits:
        return
    st.markdown("## Start it")
    tokens = e.workload.prompt_tokens + e.workload.output_tokens
    try:
        command = calc.launch_command(e.deployment, e.model, context_tokens=tokens)
    except calc.SpecError as error:
        st.markdown(str(error))
    else:
        st.code(words.command_lines(command), language="bash", wrap_lines=True)

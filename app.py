"""The dashboard's entry: the scenario in the sidebar, the pages beside it. Run ``streamlit run app.py``."""

import streamlit as st

from dashboard import widgets
from dashboard.pages import plan

# A tank, not quite full; drawn here because a named icon would be fetched from a font server.
ICON = """
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">
<path d="M6 3v23a3 3 0 0 0 3 3h14a3 3 0 0 0 3-3V3" fill="none" stroke="#0072b2" stroke-width="3"/>
<path d="M9 13h14v13H9z" fill="#56b4e9"/></svg>
""".strip()

st.set_page_config("Ullage: plan LLM inference", ICON, layout="wide", initial_sidebar_state=360)
widgets.style()
scenario = widgets.scenario_sidebar()


def plan_page() -> None:
    """Draw the Plan page for the sidebar's scenario."""
    plan.show(scenario)


st.navigation(
    [st.Page(plan_page, title="Plan", icon=":material/checklist:", default=True)], position="top"
).run()

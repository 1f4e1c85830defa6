"""Pages of the dashboard, one module each, with a function ``show(scenario)``."""

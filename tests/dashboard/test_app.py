"""The app as a user meets it, run without a browser."""

import re

import pytest
from streamlit.testing.v1 import AppTest

import calc
from dashboard import words
from dashboard.scenario import Scenario

DEFAULT = Scenario()
WIDE = {"bf16", "fp16", "fp32"}
METRIC_LABELS = list(words.METRICS.values())
NOT_A_NUMBER = re.compile(r"\b(nan|inf|None)\b")


@pytest.fixture
def app(root):
    return AppTest.from_file(root / "app.py", default_timeout=60)


def metric(app, name):
    return next(m.value for m in app.metric if m.label == words.METRICS[name])


def said(app):
    """Everything the page says, in one text."""
    elements = [*app.markdown, *app.success, *app.warning, *app.error, *app.metric, *app.code]
    return "\n".join(str(element.value) for element in elements)


def answers(app):
    assert not app.exception, [error.message for error in app.exception]
    assert [m.label for m in app.metric] == METRIC_LABELS
    assert len([*app.success, *app.warning, *app.error]) == 1
    assert not NOT_A_NUMBER.search(said(app)), said(app)
    return app


def inputs(app):
    kinds = (app.selectbox, app.number_input, app.text_input, app.button_group)
    return {widget.key: widget.value for kind in kinds for widget in kind}


def test_answers_at_load(app):
    answers(app.run())
    e = DEFAULT.answer().estimate
    assert app.title[0].value == "Plan"
    assert "Fits on 4 × NVIDIA H100" in app.success[0].value
    assert metric(app, "n_devices") == "4"
    assert metric(app, "tpot_s") == calc.format_seconds(e.tpot_s)
    assert metric(app, "usd_per_mtok_output") == words.money(e.cost.usd_per_mtok_output)
    assert app.code[0].value.startswith("vllm serve ")
    assert len(app.get("plotly_chart")) == 2


def test_eight_inputs_and_the_advanced_ones(app):
    app.run()
    assert set(inputs(app)) == {
        "model", "weights", "gpu", "tp", "prompt", "output", "users", "slo",
        "kv", "engine", "memory_share", "price", "own_model", "own_device",
        "pp", "dp", "ep", "cp", "expert_skew",
    }  # fmt: skip
    assert {slider.key for slider in app.select_slider} == {"prompt_slider", "output_slider", "users_slider"}


def test_every_chart_has_words_for_those_who_cannot_see_it(app):
    app.run()
    for chart in app.get("plotly_chart"):
        assert len(chart.proto.alt) > 40
    assert len(app.table) == 2


def test_slider_sets_the_number(app):
    app.run()
    app.select_slider("users_slider").set_value(8).run()
    assert app.number_input("users").value == 8
    assert "8 users see" in app.success[0].value


def test_number_moves_the_slider(app):
    app.run()
    app.number_input("prompt").set_value(3000).run()
    assert app.select_slider("prompt_slider").value == 4096
    assert "3,000 tokens in" in said(answers(app))


def test_every_model_gets_an_answer(app):
    app.run()
    for model in calc.model_ids():
        answers(app.selectbox("model").set_value(model).run())


def test_every_gpu_gives_an_answer(app):
    app.run()
    for gpu in calc.device_ids():
        app.selectbox("gpu").set_value(gpu).run()
        if WIDE & set(calc.load_device(gpu).peaks):
            answers(app)
        else:  # a maker who prints fp4 only: no answer for bf16, said in one line
            assert not app.exception
            assert "no peak for dtype" in app.error[0].value


@pytest.mark.parametrize("weights", calc.WEIGHT_FORMATS)
def test_every_weight_format_gives_an_answer(app, weights):
    app.query_params["weights"] = weights
    assert answers(app.run()).selectbox("weights").value == weights


@pytest.mark.parametrize("engine", calc.engine_ids())
def test_every_engine_gives_an_answer(app, engine):
    app.query_params["engine"] = engine
    answers(app.run())


def test_link_brings_the_scenario_back(app):
    link = {"model": "llama-3.1-8b", "gpu": "l4", "tp": "2", "users": "7", "kv": "fp8", "price": "1.25"}
    for key, value in link.items():
        app.query_params[key] = value
    answers(app.run())
    values = inputs(app)
    assert values["model"] == "llama-3.1-8b"
    assert (values["gpu"], values["kv"], values["users"], values["price"]) == ("l4", "fp8", 7, 1.25)
    assert metric(app, "n_devices") == "2"
    assert "1.25 USD per GPU-hour, your own" in said(app)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tp", "abc"), ("tp", "3"), ("model", "no-such-model"), ("gpu", ""), ("weights", "fp7"),
        ("users", "0"), ("users", "many"), ("users", "99999999999"), ("prompt", "-1"), ("output", "1e999"),
        ("output", "nan"), ("prompt", "infinity"), ("slo", "never"), ("engine", "x"), ("kv", "x"),
        ("memory_share", "3"), ("price", "-2"), ("price", "nan"), ("unknown", "1"),
    ],
)  # fmt: skip
def test_bad_link_falls_back_to_the_default(app, key, value):
    app.query_params[key] = value
    answers(app.run())
    assert inputs(app).get(key) == inputs(AppTest.from_file(app._script_path).run()).get(key)


def test_parallelism_from_the_link_is_answered(app):
    app.query_params.update({"model": "deepseek-v3", "gpu": "h200-sxm", "tp": "1", "dp": "8", "ep": "8"})
    answers(app.run())
    assert metric(app, "n_devices") == "8"
    assert "Engine overheads:" in said(app)


def test_a_split_that_contradicts_itself_is_one_line(app):
    app.query_params.update({"tp": "2", "ep": "3"})
    app.run()
    assert not app.exception
    assert "ep: 3 does not divide tp * dp (2)" in app.error[0].value


def test_custom_limits_come_from_the_link(app):
    app.query_params.update({"slo": "custom", "ttft_s": "0.5", "tpot_ms": "25"})
    answers(app.run())
    assert re.search(r"custom: first token within 500(\.0)? ms, then 25 ms per token", said(app))


def test_reset_restores_the_defaults(app):
    app.run()
    before = inputs(app)
    app.selectbox("gpu").set_value("l4")
    app.number_input("users").set_value(3)
    app.run()
    next(button for button in app.button if button.label == "Reset").click().run()
    assert inputs(answers(app)) == before


def test_what_does_not_fit_says_so_and_offers_help(app):
    app.query_params["tp"] = "1"
    answers(app.run())
    assert "Does not fit" in app.error[0].value
    assert [m.value for m in app.metric] == ["1", "n/a", "n/a", "n/a"]
    assert not app.code
    remedy = next(button for button in app.button if button.label.startswith("Let it choose"))
    remedy.click().run()
    assert "Fits on" in answers(app).success[0].value


def test_slow_says_which_limit(app):
    app.query_params["tp"] = "2"
    warning = answers(app.run()).warning[0].value
    assert "too slow: time to first token over the limit" in warning
    assert "(limit 2 s)" in warning


def test_impossible_split_is_one_line(app):
    app.query_params.update({"tp": "16", "model": "gemma-2-2b"})
    app.run()
    assert not app.exception
    assert "does not divide" in app.error[0].value


@pytest.mark.parametrize("key", ["own_model", "own_device"])
def test_wrong_own_file_is_one_line_and_nothing_is_lost(app, key):
    app.query_params["users"] = "9"
    app.run()
    app.text_input(key).set_value("/nowhere/at-all.yaml").run()
    assert not app.exception
    assert "/nowhere/at-all.yaml" in app.error[0].value
    assert "\n" not in app.error[0].value
    assert app.text_input(key).value == "/nowhere/at-all.yaml"
    assert app.number_input("users").value == 9
    assert "9 users see" in app.success[0].value


def test_own_file_is_used(app, root):
    app.run()
    app.text_input("own_device").set_value(str(root / "hardware_specs" / "h200-sxm.yaml")).run()
    assert "H200" in answers(app).success[0].value


@pytest.mark.parametrize("name", words.METRICS)
def test_explanation_opens(app, name):
    app.run()
    assert not app.latex
    app.session_state[f"explain_{name}"] = True
    app.run()
    assert not app.exception
    assert len(app.latex) >= 2
    assert len(app.table) > 2

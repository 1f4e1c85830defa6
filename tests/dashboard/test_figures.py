"""Figures show the numbers of the calculator, with units and colours of their own."""

from itertools import pairwise

import numpy as np
import pytest

import calc
from dashboard import figures, words
from dashboard.scenario import Scenario, user_sweep

GB = 1e9


@pytest.fixture(scope="module")
def plan():
    return Scenario().answer()


@pytest.fixture(scope="module")
def too_large():
    return Scenario(tp="1").answer()


@pytest.fixture(scope="module")
def curve(plan):
    rows = figures.curve_rows(user_sweep(plan), plan.slo)
    return rows, figures.point_row(plan.estimate, plan.slo)


def ends(figure):
    return [(bar.base[0], bar.base[0] + bar.x[0]) for bar in figure.data]


def test_memory_bar_fills_the_device_without_gaps(plan):
    spans = ends(figures.memory_figure(plan.estimate))
    assert spans[0][0] == 0
    assert all(left[1] == pytest.approx(right[0]) for left, right in pairwise(spans))
    assert spans[-1][1] == pytest.approx(plan.estimate.memory.device_bytes_per_device / GB)


def test_memory_bar_draws_both_limits(plan):
    figure = figures.memory_figure(plan.estimate)
    memory = plan.estimate.memory
    lines = sorted(shape.x0 for shape in figure.layout.shapes)
    assert lines == pytest.approx([memory.usable_bytes_per_device / GB, memory.device_bytes_per_device / GB])


def test_what_drafts_has_parts_of_its_own():
    drafts = calc.Speculation("draft", 3, 0.7, draft_model="llama-3.2-1b")
    deployment = calc.Deployment(tp=4, speculation=drafts)
    e = calc.estimate("llama-3.1-70b", "h100-sxm", deployment, calc.Workload(concurrency=64))
    spans, rows = ends(figures.memory_figure(e)), dict(figures.memory_rows(e))
    assert all(left[1] == pytest.approx(right[0]) for left, right in pairwise(spans))
    assert rows["Weights of what drafts"] == e.memory.draft_bytes_per_device
    assert rows["KV cache of drafts"] == e.memory.draft_cache_bytes_per_device


def test_every_part_is_named_with_its_size(plan):
    names = [bar.name for bar in figures.memory_figure(plan.estimate).data]
    for label, value in figures.memory_rows(plan.estimate):
        assert f"{label} {calc.format_bytes(value)}" in names


def test_what_does_not_fit_reaches_over_the_limit(too_large):
    figure = figures.memory_figure(too_large.estimate)
    memory = too_large.estimate.memory
    over = figure.data[-1]
    assert over.name.startswith("Too much")
    assert over.base[0] == pytest.approx(memory.usable_bytes_per_device / GB)
    assert over.base[0] + over.x[0] == pytest.approx(memory.required_bytes_per_device / GB)
    assert figure.layout.xaxis.range[1] > over.base[0] + over.x[0]


def test_curve_falls_as_users_are_added(curve):
    rows, _ = curve
    speeds = [row["tokens_per_s_per_user"] for row in rows]
    assert speeds == sorted(speeds, reverse=True)


def test_point_lies_on_the_figure(curve, plan):
    rows, point = curve
    figure = figures.curve_figure(rows, point, plan.slo)
    marked = next(trace for trace in figure.data if trace.name and trace.name.startswith("This scenario"))
    assert marked.x[0] == pytest.approx(1 / plan.estimate.tpot_s)
    assert marked.y[0] == pytest.approx(plan.estimate.output_tokens_per_s / plan.n_devices)
    assert marked.x[0] < figure.layout.xaxis.range[1]
    assert marked.y[0] < figure.layout.yaxis.range[1]


def test_limit_region_starts_at_its_speed(curve, plan):
    region = figures.curve_figure(*curve, plan.slo).layout.shapes[0]
    assert region.x0 == pytest.approx(1 / plan.slo.tpot_s)


def test_no_limit_no_region(curve):
    assert not figures.curve_figure(*curve, calc.SLO()).layout.shapes


def test_axes_say_unit_and_direction(curve, plan):
    figure = figures.curve_figure(*curve, plan.slo)
    for axis in (figure.layout.xaxis, figure.layout.yaxis):
        assert "Tokens/s" in axis.title.text
        assert "higher is better" in axis.title.text
    assert figures.memory_figure(plan.estimate).layout.xaxis.ticksuffix == " GB"


@pytest.mark.parametrize("dark", [False, True])
def test_text_is_large_and_traces_have_their_own_colour(curve, plan, dark):
    for figure in (figures.memory_figure(plan.estimate, dark), figures.curve_figure(*curve, plan.slo, dark)):
        assert figure.layout.font.size >= 16
        assert all(note.font.size >= 16 for note in figure.layout.annotations)
        assert all((trace.marker.color or trace.line.color) for trace in figure.data)


def test_tables_say_what_the_figures_show(curve, plan):
    rows, point = curve
    table = words.curve_table(rows, point)
    assert len(table) <= words.TABLE_ROWS + 1
    assert f"{point['users']:,}" in [row["Users at once"] for row in table]
    assert len(words.memory_table(plan.estimate)) == len(figures.memory_figure(plan.estimate).data)


@pytest.mark.parametrize("gpu", ["l4", "a100-sxm-80gb", "mi300x", "tpu-v5e", "gb10"])
def test_every_model_is_drawn_on_any_gpu(gpu):
    for model in calc.model_ids():
        plan = Scenario(model=model, gpu=gpu, weights="fp8", users=16).answer()
        assert all(words.verdict(plan))
        assert "nan" not in str(words.metric_values(plan))
        assert all(np.isfinite(value) and value >= 0 for _, value in figures.memory_rows(plan.estimate)), (
            model
        )
        sweep = user_sweep(plan)
        if sweep is None:
            assert not plan.meets
            continue
        rows = figures.curve_rows(sweep, plan.slo)
        assert all(np.isfinite(list(row.values())).all() for row in rows), model


def test_verdicts_differ():
    kinds = [words.verdict(Scenario(tp=tp).answer())[0] for tp in ("auto", "2", "1")]
    assert kinds == ["good", "slow", "too large"]


def test_waiting_users_are_counted():
    plan = Scenario(tp="2").answer()
    held, queued = int(plan.estimate.service.concurrency), int(plan.estimate.service.queued)
    assert held + queued == 64
    assert f"holds {held} of them at once; {queued} wait" in words.verdict(plan)[2]


def test_price_says_whose_and_when(plan):
    line = words.price_line(plan.estimate)
    price = plan.estimate.cost.price
    assert price.provider in line
    assert price.fact.date in line
    assert ("Older than" in line) == price.is_stale()
    assert "your own" in words.price_line(Scenario(price=2.0).answer().estimate)


def test_command_stays_one_command():
    command = "vllm serve m --tensor-parallel-size 4 --max-model-len 1280"
    assert words.command_lines(command).replace("\\\n ", "").split() == command.split()

"""Plots: equality is the diagonal, both axes share a scale, ends are in the picture."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from validate.reports.svg import MARGIN, SIZE, scatter


def dots(*points):
    return list(ElementTree.fromstring(scatter("gemm", {"bf16": points})).iter("circle"))


def places(*points):
    return [(float(dot.get("cx")), float(dot.get("cy"))) for dot in dots(*points)]


def test_equal_times_lie_on_the_diagonal():
    (x1, y1), (x2, y2) = places((1e-6, 1e-6, "a"), (1e-3, 1e-3, "b"))
    line = ElementTree.fromstring(scatter("gemm", {"bf16": [(1e-6, 1e-6, "a"), (1e-3, 1e-3, "b")]}))
    (diagonal,) = (each for each in line.iter("line") if each.get("class") == "diagonal")
    left, low, right, high = (float(diagonal.get(name)) for name in ("x1", "y1", "x2", "y2"))
    slope = (high - low) / (right - left)
    assert (y2 - y1) / (x2 - x1) == pytest.approx(slope, rel=0.01)
    assert y1 == pytest.approx(low + slope * (x1 - left), abs=0.3)


def test_a_slower_prediction_lies_higher():
    (_, equal), (_, slow) = places((1e-5, 1e-5, "a"), (1e-5, 2e-5, "b"))
    assert slow < equal


def test_every_point_is_inside_the_frame():
    for x, y in places((1e-7, 5.0, "a"), (9.0, 1e-7, "b")):
        assert MARGIN <= x <= SIZE
        assert 0 <= y <= SIZE - MARGIN


def test_labels_are_escaped_and_carry_the_error():
    (dot,) = dots((1e-5, 1.2e-5, "m=1 <n>"))
    assert dot.find("title").text == "bf16: m=1 <n>, +20 %"


def test_ticks_are_powers_of_ten():
    names = re.findall(r'class="tick">([^<]*)<', scatter("x", {"a": [(2e-6, 2e-6, ""), (2e-3, 3e-3, "")]}))
    assert names == ["10 us", "100 us", "1 ms"]


def test_no_points_still_make_a_plot():
    ElementTree.fromstring(scatter("empty", {}))

"""Tiny cases: what runs and is right works; what is wrong or raises says so."""

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'ullage[validate]'")
from validate.checks.accelerators import accelerators  # noqa: E402
from validate.checks.host import host  # noqa: E402
from validate.checks.trials import BACKENDS, KERNELS, LIMITS, WRONG, trials  # noqa: E402


@pytest.fixture
def found():
    return lambda: {trial.name: trial.reason for trial in trials(torch, "cpu")}


def test_every_dtype_backend_and_kernel_is_tried(found):
    reasons = found()
    assert set(reasons) == {*LIMITS, *BACKENDS, *KERNELS}
    assert (reasons["fp32"], reasons["bf16"], reasons["MATH"]) == ("", "", "")
    assert all("\n" not in reason and len(reason) <= 100 for reason in reasons.values())


def test_a_wrong_product_is_not_taken_for_working(found, monkeypatch):
    monkeypatch.setattr(torch.nn.functional, "linear", lambda x, w: 1.1 * (x @ w.T))
    assert found()["bf16"].startswith(WRONG)


def test_an_output_that_nobody_wrote_is_wrong(found, monkeypatch):
    monkeypatch.setattr(torch.nn.functional, "linear", lambda x, w: torch.full((32, 48), torch.nan))
    assert found()["fp32"].startswith(WRONG)


def test_what_raises_gives_its_first_sentence(found, monkeypatch):
    def refuse(*args, **kwargs):
        raise NotImplementedError("no kernel for this. Try another\nlong story")

    monkeypatch.setattr(torch, "_int_mm", refuse)
    assert found()["int8"] == "no kernel for this"


def test_the_processor_is_among_the_devices():
    devices = accelerators(torch, host())
    assert devices[-1].place == "cpu"
    assert devices[-1].memory_bytes

"""Adapters: each says whether it can run and why not; nothing is imported before."""

import subprocess
import sys
from pathlib import Path

import pytest

import calc
from validate.adapters import ADAPTERS, adapter, kernels, statuses
from validate.adapters.flash_attention import _window
from validate.probes import PROBES

FOLDER = Path(adapter("liger").__file__).parent
HELPERS = {"__init__", "needs", "triton_kernels"}
CONTRACTS = {probe.replaces for probe in PROBES.values()} - {""}


def test_every_file_is_listed():
    assert {path.stem for path in FOLDER.glob("*.py")} - HELPERS == set(ADAPTERS)


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_says_in_one_line_why_it_cannot_run(name):
    reason = adapter(name).available()
    assert reason is None or (reason and "\n" not in reason)
    assert adapter(name).TITLE
    if reason:
        with pytest.raises(calc.SpecError, match=name):
            kernels(name)


@pytest.mark.parametrize("name", ADAPTERS)
def test_it_replaces_kernels_that_probes_have(name):
    assert set(adapter(name).kernels()) <= CONTRACTS
    assert all(callable(kernel) for kernel in adapter(name).kernels().values())


def test_statuses_cover_all():
    assert [status.name for status in statuses()] == list(ADAPTERS)


def test_a_package_that_is_missing_is_named_with_its_installation(monkeypatch):
    monkeypatch.setattr("validate.adapters.needs.find_spec", lambda name: None)
    assert adapter("liger").available() == "liger_kernel is not installed: pip install liger-kernel"
    assert adapter("flash_attention").available() == "flash_attn is not installed: pip install flash-attn"


def test_a_package_that_does_not_load_says_why(monkeypatch):
    monkeypatch.setattr("validate.adapters.needs.find_spec", lambda name: True)
    monkeypatch.setattr("validate.adapters.needs.no_accelerator", lambda capability: None)

    def broken(name):
        raise RuntimeError("undefined symbol: _ZN3c10\nmore")

    monkeypatch.setattr("validate.adapters.needs.import_module", broken)
    assert adapter("torchao").available() == "torchao does not load: undefined symbol: _ZN3c10"


def test_an_unknown_adapter_names_the_nearest():
    with pytest.raises(calc.SpecError, match="did you mean 'liger'"):
        adapter("ligr")


def test_listing_them_imports_no_torch(root):
    code = "import sys, validate.adapters as a; a.adapter('liger'); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_window_counts_the_token_itself():
    assert _window(1) == (0, 0)

"""The command: with and without torch, for people and for programs."""

import json
from importlib.util import find_spec

import pytest

from validate import check
from validate.cli import main


@pytest.fixture
def quiet(monkeypatch):
    monkeypatch.setattr(check, "warnings_of", lambda *args: [])


def test_without_torch_it_says_what_to_install_and_still_describes_the_host(capsys, monkeypatch):
    monkeypatch.setattr(check, "_torch", lambda: None)
    assert main(["check"]) == 1
    out = capsys.readouterr().out
    assert "pip install 'ullage[validate]'" in out
    assert "cores, load" in out
    assert "liger" in out


def test_json_holds_the_same(capsys, monkeypatch):
    monkeypatch.setattr(check, "_torch", lambda: None)
    assert main(["check", "--json"]) == 1
    record = json.loads(capsys.readouterr().out)
    assert (record["schema_version"], record["trustworthy"], record["torch"]) == (1, False, None)
    assert record["warnings"] == [check.NO_TORCH]
    assert {each["name"] for each in record["adapters"]} == set(check_adapters())


def check_adapters():
    from validate.adapters import ADAPTERS

    return ADAPTERS


@pytest.mark.skipif(not find_spec("torch"), reason="torch is not installed: pip install 'ullage[validate]'")
class TestWithTorch:
    def test_a_quiet_machine_is_trusted(self, capsys, quiet):
        assert main(["check"]) == 0
        out = capsys.readouterr().out
        assert "A run would be worth trusting now." in out
        assert "bf16" in out

    def test_a_wrong_kernel_takes_the_trust_away(self, capsys, quiet, monkeypatch):
        import torch

        monkeypatch.setattr(torch, "_int_mm", lambda x, w: torch.zeros(32, 48, dtype=torch.int32))
        assert main(["check", "--json"]) == 1
        (warning,) = json.loads(capsys.readouterr().out)["warnings"]
        assert warning.startswith("cpu: dtype int8: wrong result")

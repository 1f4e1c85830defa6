"""What tests of the validator share: an adapter made up on the spot."""

import sys
from types import SimpleNamespace

import pytest

from validate import adapters


@pytest.fixture
def fake_adapter(monkeypatch):
    """Return a function that adds an adapter of some kernels, which runs on processors."""

    def add(kernels, name="fake", reason=None, **more):
        module = SimpleNamespace(
            TITLE="made up", KINDS=("cpu", "cuda"), available=lambda: reason, kernels=lambda: kernels, **more
        )
        monkeypatch.setitem(sys.modules, f"validate.adapters.{name}", module)
        monkeypatch.setattr(adapters, "ADAPTERS", (*adapters.ADAPTERS, name))
        return name

    return add

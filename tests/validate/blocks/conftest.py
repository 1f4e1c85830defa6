"""What the tests of the blocks share: random tensors, and flops as torch counts them."""

import pytest

from calc.work.op import Precision

REASON = "torch is not installed: pip install 'ullage[validate]'"


@pytest.fixture(autouse=True)
def random():
    """Return a function for random tensors in double precision, the same in every run."""
    torch = pytest.importorskip("torch", reason=REASON)
    torch.manual_seed(0)
    return lambda *sizes: torch.randn(*sizes, dtype=torch.float64)


@pytest.fixture
def flops():
    """Return a function that counts the flops of all matrix products in a call."""
    counter = pytest.importorskip("torch.utils.flop_counter", reason=REASON).FlopCounterMode

    def count(function, *args) -> int:
        with counter(display=False) as counted:
            function(*args)
        return counted.get_total_flops()

    return count


@pytest.fixture
def elements():
    """Return a function that counts the elements of tensors."""
    return lambda *tensors: sum(tensor.numel() for tensor in tensors)


@pytest.fixture
def bf16():
    """Return the precision of a deployment in 16 bits throughout."""
    bits = dict.fromkeys(("attention", "feedforward", "expert", "router", "shared_expert"), 16.0)
    return Precision(bits=bits, kv_bytes=2.0, math="bf16")

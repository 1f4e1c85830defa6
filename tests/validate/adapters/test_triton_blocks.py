"""Sorting rows into blocks of one expert, which needs torch alone; the kernels, which need triton."""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'ullage[validate]'")
from torch.nn.functional import rms_norm  # noqa: E402

from validate.adapters import triton_experts, triton_norm  # noqa: E402
from validate.adapters.triton_experts import blocks_of  # noqa: E402
from validate.blocks.moe import Experts, moe_layer  # noqa: E402

CAN_RUN = triton_norm.available()
needs_triton = pytest.mark.skipif(CAN_RUN is not None, reason=f"Triton kernels: {CAN_RUN}")
DEVICE = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"


@pytest.mark.parametrize(
    ("tokens", "n_experts", "top_k", "block"), [(1, 8, 2, 4), (20, 4, 2, 4), (64, 16, 4, 16)]
)
def test_every_row_is_in_one_block_of_its_own_expert(tokens, n_experts, top_k, block):
    torch.manual_seed(0)
    experts = torch.rand(tokens, n_experts).topk(top_k).indices
    blocks = blocks_of(experts, n_experts, block)
    rows, flat = blocks.rows.view(-1, block), experts.flatten()
    assert sorted(r for r in rows.flatten().tolist() if r < len(flat)) == list(range(len(flat)))
    for expert, members in zip(blocks.experts.tolist(), rows, strict=True):
        real = members[members < len(flat)]
        assert (flat[real] == expert).all()
        assert expert < n_experts or not len(real)


def test_the_worst_routing_has_blocks_enough():
    """Every token to the same expert, and every token to experts of its own."""
    same = torch.zeros(33, 1, dtype=torch.int64)
    own = torch.arange(8)[:, None]
    for experts, n_experts in ((same, 8), (own, 8)):
        rows = blocks_of(experts, n_experts, 16).rows
        assert (rows < experts.numel()).sum() == experts.numel()


@needs_triton
@pytest.mark.parametrize("width", [64, 200])
def test_the_norm_agrees_with_torch(width):
    x, delta, weight = (torch.randn(5, width, device=DEVICE) for _ in range(3))
    total, normed = triton_norm.norm_and_residual(x, delta, weight[0])
    torch.testing.assert_close(total, x + delta)
    torch.testing.assert_close(normed, rms_norm(x + delta, (width,), weight[0], 1e-5))
    torch.testing.assert_close(triton_norm.rms_norm(x, weight[0]), rms_norm(x, (width,), weight[0], 1e-5))


@needs_triton
@pytest.mark.parametrize("tokens", [1, 7, 100])
def test_experts_agree_with_the_reference_block(tokens):
    d, width, n, top_k = 96, 40, 8, 2
    x, router = torch.randn(tokens, d, device=DEVICE), torch.randn(n, d, device=DEVICE)
    up, down = torch.randn(n, 2 * width, d, device=DEVICE) / 8, torch.randn(n, d, width, device=DEVICE) / 8
    got = triton_experts.grouped_experts(x, x @ router.T, up, down, top_k)
    want = moe_layer(x, Experts(router, up[:, :width], up[:, width:], down), top_k)
    torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-4)


@pytest.mark.skipif(not find_spec("triton"), reason="triton is not installed: pip install triton")
@pytest.mark.skipif(CAN_RUN is None, reason="the kernels ran above")
def test_without_a_device_the_kernels_agree_in_the_interpreter(root):
    """Triton must be told before it is imported, so in a process of its own."""
    command = [sys.executable, "-m", "pytest", __file__, "-q", "-k", "agree", "-p", "no:cacheprovider"]
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 passed" in done.stdout

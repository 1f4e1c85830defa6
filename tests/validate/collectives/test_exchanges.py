"""What ranks bring to an exchange and what each must get."""

import numpy as np
import pytest

from calc.work.communication import collective
from calc.work.op import Precision
from validate.collectives.exchanges import EXCHANGES, brought, expected, parts_of, payloads


@pytest.mark.parametrize("kind", EXCHANGES)
@pytest.mark.parametrize("world", [2, 4])
def test_the_payload_is_the_one_that_calc_defines(kind, world):
    """The sum or the whole result on one rank, or all that a rank sends with its own share."""
    elements, sizes = 24, parts_of(EXCHANGES[kind], 24, world)
    op = collective(kind, kind, elements, world, Precision({}, kv_bytes=2, math="bf16"))
    assert op.comm_bytes == 2 * max(sizes)
    assert len(brought(EXCHANGES[kind], elements, world, 0)) == sizes[0]
    assert len(expected(EXCHANGES[kind], elements, world, 0)) == sizes[1]


@pytest.mark.parametrize("world", [2, 3])
def test_results_by_hand(world):
    """From the definitions, element by element."""
    n, ranks = 6 * world, range(world)
    inputs = {kind: [brought(each, n, world, r) for r in ranks] for kind, each in EXCHANGES.items()}
    for rank in ranks:
        got = {kind: expected(each, n, world, rank) for kind, each in EXCHANGES.items()}
        for i in range(n):
            assert got["allreduce"][i] == sum(x[i] for x in inputs["allreduce"])
            assert got["allgather"][i] == inputs["allgather"][i // 6][i % 6]
            assert got["alltoall"][i] == inputs["alltoall"][i // 6][6 * rank + i % 6]
        for i in range(6):
            assert got["reduce_scatter"][i] == sum(x[6 * rank + i] for x in inputs["reduce_scatter"])


def test_ranks_bring_different_numbers_and_sums_are_exact_in_16_bits():
    a, b = (brought(EXCHANGES["allreduce"], 30, 2, rank) for rank in range(2))
    assert (a != b).all()
    assert expected(EXCHANGES["allreduce"], 30, 128, 0).max() <= 256


@pytest.mark.parametrize("world", [2, 3, 8])
def test_payloads_span_the_range_and_split_evenly(world):
    sizes = np.array(payloads(256, 64_000_000, 16, world))
    assert not (sizes % world).any()
    assert sizes[0] * 2 == pytest.approx(256, rel=0.1)
    assert sizes[-1] * 2 == pytest.approx(64e6, rel=1e-3)
    assert (np.diff(sizes) > 0).all()

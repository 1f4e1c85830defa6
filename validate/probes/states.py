"""What probes of linear attention share: sizes, inputs, and the check token by token."""

from collections.abc import Iterable, Mapping

from calc.work.linear_kernels import Rule, StateHeads, chunk_scan, recurrent_update
from calc.work.op import Op
from validate.probes.base import Built, Case, Plan, Probe, precision, spread

#: tokens of a scan that are compared: more than a chunk
MOST_TOKENS = 320


class StateProbe(Probe):
    """An update or a scan of the states of ``batch`` sequences; subclasses say by which rule."""

    shape = ("key_heads", "heads", "d_key", "d_value")
    chained = 2
    rule: Rule
    gated_delta = False
    phase = "decode"
    layers: tuple = ()

    def sizes(self, plan: Plan, dtype: str) -> Iterable[Mapping[str, int]]:
        """Yield batches of a decode step, or lengths of prompts, for each layer."""
        for layer in self.layers:
            heads = dict(zip(self.shape, layer, strict=True))
            if self.phase == "decode":
                yield from ({"batch": n, "new": 1, **heads} for n in spread(1, 32, 4 + plan.level))
            else:
                yield from ({"batch": 1, "new": n, **heads} for n in spread(32, plan.tokens, 4 + plan.level))

    def op(self, sizes: Mapping, dtype: str) -> Op:
        """Return the work of one call."""
        heads = StateHeads(*(sizes[name] for name in self.shape))
        kernel = recurrent_update if self.phase == "decode" else chunk_scan
        return kernel(self.name, sizes["batch"], sizes["new"], heads, precision(dtype), self.rule)

    def build(self, case: Case, bench) -> Built:
        """Return the call; states are cold, what a token brings is warm."""
        from validate.probes import scans
        from validate.probes.bench import rotated

        batch, new, key_heads, heads, d_key, d_value = (case.sizes[n] for n in ("batch", "new", *self.shape))
        states = bench.cold(batch, heads, d_key, d_value, dtype="fp32")
        query, key = (
            bench.random(batch, new, key_heads, d_key, dtype=case.dtype, scale=d_key**-0.5) for _ in range(2)
        )
        value = bench.random(batch, new, heads, d_value, dtype=case.dtype)
        decay = -bench.random(batch, new, heads, dtype="fp32").abs() * 0.1
        beta = [bench.random(batch, new, heads, dtype="fp32").sigmoid()] if self.gated_delta else []
        name = (
            f"{'delta' if self.gated_delta else 'decayed'}_{'update' if self.phase == 'decode' else 'scan'}"
        )
        sets = rotated(states, query, key, value, decay, *beta)
        return Built(getattr(scans, name), sets, "plain")

    def reference(self, case: Case, args: tuple, bench) -> tuple:
        """Return read-outs of the first sequence, first and last head, in float64 token by token.

        An update has moved its state on already: its read-out is that of the new state.
        """
        from validate.probes.scans import by_token

        state, query, *rest = args
        ends, most = [0, -1], MOST_TOKENS
        state = state[:1, ends]
        if self.phase == "decode":
            want = (query[:1, 0, ends].double()[:, :, None] @ state.double()).squeeze(-2)
            return (lambda out: out[:1, ends]), want
        want = by_token(state, *(x[:1, :most, ends] for x in (query, *rest)))
        return (lambda out: out[0][:1, :most, ends]), want

"""A small decoder in torch, from the same kernels that the probes time."""

import torch

from calc.specs.model import Model
from validate.acceptance.decoder import decoder_model
from validate.probes import kernels
from validate.probes.bench import DTYPES, rotated

_CACHE: dict = {}


def decoder_on(bench, name: str, dtype: str) -> "Decoder":
    """Return a decoder on a device; the same one each time."""
    key = (id(bench), name, dtype)
    if key not in _CACHE:
        _CACHE[key] = Decoder(decoder_model(name), bench, dtype)
    return _CACHE[key]


class Decoder:
    """Weights of all layers, and one step through them."""

    def __init__(self, model: Model, bench, dtype: str):
        self.model, self.dtype, self.kind = model, dtype, bench.kind
        self.device, self._experts = bench.device, kernels.experts_kernel(bench)[0]
        bench.seed(model.id)
        self._draw = lambda *shape: bench.random(*shape, dtype=dtype, scale=shape[-1] ** -0.5)
        d_model = model.d_model
        self.table, self.head = self._draw(model.vocab_size, d_model), self._draw(model.vocab_size, d_model)
        self.ones = torch.ones(d_model, dtype=DTYPES[dtype], device=self.device)
        self.routes: list = []  # the router's logits of the last step, layer by layer
        self.layers = [self._layer(layer) for layer in model.layers]
        width = self.layers[0]["d_head"]
        angles = torch.arange(8192)[:, None] / 10000 ** (torch.arange(width // 2) / (width // 2))
        self.cos, self.sin = (f(angles).to(DTYPES[dtype]).to(self.device) for f in (torch.cos, torch.sin))

    def _layer(self, layer) -> dict:
        a, f = dict(layer.attention.sizes), dict(layer.feedforward.sizes)
        d_model, draw = self.model.d_model, self._draw
        heads, kv_heads, width = a["n_heads"], a["n_kv_heads"], a["d_head"]
        found = {
            "heads": heads, "kv_heads": kv_heads, "d_head": width, "window": a.get("window") or 0,
            "qkv": draw((heads + 2 * kv_heads) * width, d_model), "out": draw(d_model, heads * width),
        }  # fmt: skip
        if layer.feedforward.kind == "dense":
            return {**found, "up": draw(2 * f["d_ff"], d_model), "down": draw(d_model, f["d_ff"])}
        n, inner = f["n_experts"], f["d_expert"]
        return {
            **found, "top_k": f["top_k"], "router": draw(n, d_model), "ups": draw(n, 2 * inner, d_model),
            "downs": draw(n, d_model, inner),
        }  # fmt: skip

    def call_for(self, sizes, bench) -> tuple:
        """Return the step of a case and its inputs: tokens, caches of all layers, cached tokens."""
        layer, (batch, new, past) = self.layers[0], (sizes[name] for name in ("batch", "new", "past"))
        shape = (batch, layer["kv_heads"], past + new, layer["d_head"])
        caches = bench.cold(len(self.layers), 2, *shape, dtype=self.dtype)
        tokens = torch.randint(0, self.model.vocab_size, (batch, new), device=self.device)
        return self.step, rotated(tokens, caches, past)

    def step(self, tokens, caches, past: int):
        """Return logits and next tokens of one step."""
        self.routes = []
        x = torch.nn.functional.embedding(tokens, self.table)
        delta = torch.zeros_like(x)
        for layer, cache in zip(self.layers, caches, strict=True):
            x, normed = kernels.norm_and_residual(x, delta, self.ones)
            x, normed = kernels.norm_and_residual(x, self._attend(layer, normed, cache, past), self.ones)
            delta = self._feedforward(layer, normed)
        last = kernels.rms_norm(x[:, -1] + delta[:, -1], self.ones)
        logits = kernels.linear(last, self.head)
        return logits, kernels.sample(logits)

    def _attend(self, layer, x, cache, past: int):
        batch, new, _ = x.shape
        heads, kv_heads, width = layer["heads"], layer["kv_heads"], layer["d_head"]
        mixed = kernels.linear(x, layer["qkv"]).view(batch, new, heads + 2 * kv_heads, width).transpose(1, 2)
        query, key, value = mixed.split((heads, kv_heads, kv_heads), 1)
        query, key = kernels.rope(query, key, self.cos[past : past + new], self.sin[past : past + new])
        call = kernels.prefill_attention if past == 0 else kernels.decode_attention
        out = call(query, key, value, cache[0], cache[1], past, layer["window"])
        return kernels.linear(out.transpose(1, 2).reshape(batch, new, heads * width), layer["out"])

    def _feedforward(self, layer, x):
        if "up" in layer:
            return kernels.linear(kernels.swiglu(kernels.linear(x, layer["up"])), layer["down"])
        flat = x.view(-1, x.shape[-1])
        logits = kernels.linear(flat, layer["router"])
        self.routes.append(logits)
        return self._experts(flat, logits, layer["ups"], layer["downs"], layer["top_k"]).view_as(x)

    def reference(self, args: tuple) -> tuple:
        """Return the first sequence's logits in float64, with the experts that the last step chose.

        The cached tokens are those of the pool; a step has written its own already, as it should.
        """
        tokens, caches, past = args
        return (lambda out: out[0][:1]), _Wide(self, self.routes, tokens.numel()).logits(tokens, caches, past)


class _Wide:
    """The same decoder in float64 for the first sequence, layer by layer, with given routes."""

    def __init__(self, decoder: Decoder, routes: list, tokens: int):
        self.decoder, self._routes, self._tokens = decoder, routes, tokens

    def logits(self, tokens, caches, past: int):
        """Return logits of the first sequence."""
        d = self.decoder
        x = torch.nn.functional.embedding(tokens[:1], d.table).double()
        for i, (layer, cache) in enumerate(zip(d.layers, caches, strict=True)):
            wide = {k: v.double() if isinstance(v, torch.Tensor) else v for k, v in layer.items()}
            x = x + self._attend(wide, kernels.rms_norm(x, d.ones.double()), cache, past)
            x = x + self._feedforward(wide, kernels.rms_norm(x, d.ones.double()), i)
        return kernels.linear(kernels.rms_norm(x[:, -1], d.ones.double()), d.head.double())

    def _attend(self, layer, x, cache, past: int):
        d = self.decoder
        cos, sin, d.cos, d.sin = d.cos, d.sin, d.cos.double(), d.sin.double()
        try:
            return Decoder._attend(d, layer, x, cache[:, :1].double(), past)
        finally:
            d.cos, d.sin = cos, sin

    def _feedforward(self, layer, x, i: int):
        if "up" in layer:
            return Decoder._feedforward(self.decoder, layer, x)
        flat = x.view(-1, x.shape[-1])
        logits = self._routes[i][: flat.shape[0]]
        return kernels.looped_experts(flat, logits, layer["ups"], layer["downs"], layer["top_k"]).view_as(x)

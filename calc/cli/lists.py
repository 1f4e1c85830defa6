"""What ``ullage list`` and ``ullage show`` print."""

import calc


def _models():
    header = [
        "id",
        "name",
        "parameters",
        "active_parameters",
        "cache_bytes_per_token",
        "weight_dtype",
        "max_context_tokens",
    ]
    rows = []
    for model_id in calc.model_ids():
        m = calc.load_model(model_id)
        rows.append([
            m.id, m.name, calc.total_parameters(m), calc.active_parameters(m),
            calc.cache_bytes_per_token(m), m.checkpoint.weight_dtype, m.max_context_tokens,
        ])  # fmt: skip
    shown = [
        [
            r[0],
            r[1],
            f"{r[2] / 1e9:,.2f} B",
            f"{r[3] / 1e9:,.2f} B",
            f"{r[4] / 1e3:,.1f} kB",
            r[5],
            f"{r[6]:,}",
        ]
        for r in rows
    ]
    names = ["id", "name", "parameters", "active", "cache/token", "weights", "max context"]
    return header, rows, (names, shown, (2, 3, 4, 6))


def _devices():
    header = [
        "id", "name", "memory_bytes", "bandwidth_bytes_per_s", "bf16_flops_per_s", "fp8_flops_per_s",
        "link_bytes_per_s", "status", "usd_per_hour",
    ]  # fmt: skip
    rows = []
    for device_id in calc.device_ids():
        d = calc.load_device(device_id)
        price = calc.device_price(device_id)
        link = d.link.bandwidth
        rows.append([
            d.id, d.name, d.memory_bytes, d.bandwidth_bytes_per_s, *(
                d.peaks[dtype].value if dtype in d.peaks else None for dtype in ("bf16", "fp8")
            ), link.value if link else None, d.status,
            price.usd_per_hour if price else None,
        ])  # fmt: skip

    def scaled(value, unit, digits=0):
        return "-" if value is None else f"{value / unit:,.{digits}f}"

    shown = [
        [*r[:2], scaled(r[2], 1e9, 1), scaled(r[3], 1e9), scaled(r[4], 1e12), scaled(r[5], 1e12),
         scaled(r[6], 1e9), scaled(r[8], 1, 2), r[7]]
        for r in rows
    ]  # fmt: skip
    names = ["id", "name", "GB", "GB/s", "bf16 TFLOP/s", "fp8 TFLOP/s", "link GB/s", "USD/h", "status"]
    return header, rows, (names, shown, (2, 3, 4, 5, 6, 7))


def _engines():
    header = [
        "id", "name", "versions", "memory_utilization", "max_sequences", "max_batched_tokens", "overheads"
    ]  # fmt: skip
    rows = []
    for engine_id in calc.engine_ids():
        e, overheads = calc.load_engine(engine_id), calc.overheads_line(calc.load_overheads(engine_id))
        limits = e.memory_utilization, e.max_sequences, e.max_batched_tokens
        rows.append([e.id, e.name, e.versions, *limits, overheads.partition(" ")[2]])
    return header, rows, (header, rows, (3, 4, 5))


def _prices():
    header = ["device", "provider", "term", "usd_per_hour", "region", "date", "stale", "kind"]
    rows = [
        [p.device, p.provider, p.term, p.usd_per_hour, p.region, p.fact.date, p.is_stale(), p.fact.kind]
        for p in sorted(calc.all_prices(), key=lambda p: (p.device, p.term, p.usd_per_hour))
    ]
    shown = [[*r[:3], f"{r[3]:.2f}", *r[4:6], "stale" if r[6] else "", r[7]] for r in rows]
    return header, rows, (header, shown, (3,))


LISTS = {"models": _models, "devices": _devices, "engines": _engines, "prices": _prices}


def show(name: str, with_sources: bool) -> tuple[str, dict, list[str], list[list[str]]]:
    """Return title, record, header and rows of a device, model or engine.

    Raises
    ------
    SpecError
        If no device, model or engine has the name.
    """
    for load, describe in (
        (calc.load_device, _device),
        (calc.load_model, _model),
        (calc.load_engine, _engine),
    ):
        try:
            thing = load(name)
        except calc.SpecError as error:
            if not str(error).startswith("unknown "):
                raise
            continue
        title, facts, extra = describe(thing)
        return _shown(thing, title, facts, extra, with_sources)
    raise calc.unknown_name("name", name, [*calc.device_ids(), *calc.model_ids(), *calc.engine_ids()])


def _device(d):
    return (
        f"{d.name} ({d.id}), {d.status}",
        d.facts(),
        {"architecture": d.architecture, "link": d.link.name, "topology": d.link.topology},
    )


def _engine(e):
    overheads = calc.load_overheads(e.id)
    facts = {**e.facts, **{f"host {name}": fact for name, fact in overheads.host.items()}}
    extra = {
        "overheads": calc.overheads_line(overheads),
        **{f"kernel factor {group}": f"{each:g}" for group, each in overheads.kernels.items()},
        **{f"reach {group}": f"{each:g}" for group, each in overheads.reach.items()},
    }
    return f"{e.name} {e.versions} ({e.id})", facts, extra


def _model(m):
    extra = {
        "family": m.family,
        "layers": m.n_layers,
        "d_model": m.d_model,
        "vocabulary": m.vocab_size,
        "parameters": f"{calc.total_parameters(m):,}",
        "active parameters": f"{calc.active_parameters(m):,}",
        "cache bytes per token (16 bit)": f"{calc.cache_bytes_per_token(m):,.0f}",
        "checkpoint weights": m.checkpoint.weight_dtype,
        "longest context": f"{m.max_context_tokens:,}",
        **{f"parameters: {role}": f"{count:,}" for role, count in calc.parameter_counts(m).items()},
        "aliases": ", ".join(m.aliases),
        "shape from": f"{m.config_kind}: " + "; ".join(s.url or s.title for s in m.config_sources),
    }
    return f"{m.name} ({m.id})", {f"published {key}": fact for key, fact in m.published.items()}, extra


def _shown(thing, title, facts, extra, with_sources):
    header = ["fact", "value", "kind"] + (["source", "note"] if with_sources else [])
    rows = [[key, str(value), ""] + (["", ""] if with_sources else []) for key, value in extra.items()]
    for key, fact in facts.items():
        row = [key, fact.printed, fact.kind]
        if with_sources:
            row += ["; ".join(source.url or source.title for source in fact.sources), fact.note]
        rows.append(row)
        if with_sources:
            rows += [
                [
                    "  not taken",
                    f"{other['value']:,} {other['unit']}",
                    "",
                    str(other.get("source", "")),
                    other["reason"],
                ]
                for other in fact.alternatives
            ]
    record = {
        "id": thing.id,
        "name": thing.name,
        **extra,
        "facts": {key: _fact_record(fact) for key, fact in facts.items()},
    }
    return title, record, header, rows


def _fact_record(fact) -> dict:
    return {
        "value": fact.value,
        "unit": fact.unit,
        "printed": fact.printed,
        "kind": fact.kind,
        "sources": [source.url or source.title for source in fact.sources],
        "date": fact.date,
        "note": fact.note,
        "alternatives": [dict(row) for row in fact.alternatives],
    }

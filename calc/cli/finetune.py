"""``ullage finetune``: does fine-tuning a model fit on a device, and where the memory goes."""

from dataclasses import asdict

import calc
from calc.cli.scenario import add_command, whole

_EXAMPLE = (
    "ullage finetune --model llama-3.1-8b --device h100-sxm --method lora --batch 4 --seq 4k --zero 3 --dp 8"
)


def add_parser(commands) -> None:
    """Add the command to the parsers of ``ullage``."""
    parser = add_command(commands, "finetune", "memory of full fine-tuning, LoRA and QLoRA", _EXAMPLE, run)
    add = parser.add_argument
    add("--model", required=True, help="id, Hugging Face name, or path of a config.json or spec")
    add("--device", required=True, help="id, or path of a device .yaml")
    add("--method", default="full", help="full (default), lora or qlora")
    add("--batch", default="1", metavar="N", help="sequences per device and forward pass (default 1)")
    add("--seq", default="2k", metavar="TOKENS", help="tokens per sequence (default 2k)")
    add("--optimizer", default="adamw", help="adamw (default), adamw-8bit, sgd, sgd-momentum, adafactor")
    add("--weights", default=None, metavar="DTYPE", help="base weights (default bf16; nf4 with qlora)")
    add("--grads", default=None, metavar="DTYPE", help="gradients (default: as what is trained)")
    add("--adapters", default="fp32", metavar="DTYPE", help="LoRA adapters (default fp32)")
    add("--no-master", action="store_true", help="no fp32 copy of trained 16-bit weights")
    add("--zero", default="0", metavar="STAGE", help="ZeRO stage 0 to 3 (FSDP: 3)")
    add("--dp", default="1", metavar="N", help="data-parallel devices")
    add("--tp", default="1", metavar="N", help="tensor-parallel devices")
    add("--checkpointing", default="none", help="recompute none (default), selective or full")
    add("--no-flash", action="store_true", help="attention that stores its scores")
    add("--rank", default="16", metavar="R", help="LoRA rank (default 16)")
    add("--targets", default="all-linear", help="adapted weights: all-linear (default) or q_proj,v_proj")


def run(args):
    """Return the output and the exit code: 0 fits, 1 does not."""
    from calc.cli import text

    m = calc.finetuning_memory(args.model, device=args.device, **_settings(args))
    code = 0 if m.fits else 1
    if args.json:
        return text.as_json(_record(m)), code
    if args.csv:
        row = text.flat(_record(m))
        return text.as_csv(list(row), [list(row.values())]), code
    return _report(m), code


def _settings(args) -> dict:
    return {
        "method": args.method,
        "batch": whole("--batch", args.batch),
        "seq_len": calc.parse_tokens(args.seq, "--seq"),
        "optimizer": args.optimizer,
        "weights_dtype": args.weights,
        "grad_dtype": args.grads,
        "adapter_dtype": args.adapters,
        "master_weights": False if args.no_master else None,
        "zero_stage": whole("--zero", args.zero),
        "dp": whole("--dp", args.dp),
        "tp": whole("--tp", args.tp),
        "checkpointing": args.checkpointing,
        "flash_attention": not args.no_flash,
        "lora_rank": whole("--rank", args.rank),
        "lora_targets": args.targets,
    }


def _record(m) -> dict:
    return {
        "schema_version": 1,
        "scenario": {"model": m.model.id, "device": m.device.id, **asdict(m.how)},
        "fits": bool(m.fits),
        "n_devices": m.n_devices,
        "trained_parameters": m.trained_parameters,
        "device_bytes_per_device": m.device_bytes_per_device,
        "total_bytes_per_device": float(m.total_bytes_per_device),
        "shortfall_bytes_per_device": float(m.shortfall_bytes_per_device),
        "total_bytes": float(m.total_bytes),
        "bytes_per_device": {
            name.removesuffix(", assumed").replace(" ", "_"): float(size) for name, size in m.breakdown()
        },
    }


def _report(m) -> str:
    from calc.cli import text

    how, size = m.how, calc.format_bytes
    recompute = "no checkpointing" if how.checkpointing == "none" else f"{how.checkpointing} checkpointing"
    sharding = f"ZeRO-{how.zero_stage}, dp {how.dp}, tp {how.tp}"
    trained = f"{m.trained_parameters:,} parameters trained with {how.optimizer}"
    needs = f"needs {size(m.total_bytes_per_device)} of {size(m.device_bytes_per_device)} per device"
    short = f" ({size(m.shortfall_bytes_per_device)} short per device)"
    rows = [[name, size(part)] for name, part in m.breakdown() if part]
    rows += [["total", size(m.total_bytes_per_device)], ["device reports", size(m.device_bytes_per_device)]]
    lines = [
        f"{m.model.name}, {how.method} fine-tuning in {how.weights_dtype} on {m.n_devices} x {m.device.name}",
        f"{how.batch} x {how.seq_len} tokens per device, {sharding}, {recompute}",
        trained,
        "",
        f"fits: {needs}" if m.fits else f"does not fit: {needs}{short}",
        "",
        text.table(["memory per device", ""], rows, right=(1,)),
    ]
    return "\n".join(lines)

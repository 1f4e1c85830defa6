"""10,000 broken configs and spec files: each gives an answer or one clear line, never a traceback.

What is accepted is asked for its parameters, cache, weights and a whole estimate: every
number must be finite and not negative. The same files are broken in every run (one seed).
"""

import copy
import json
import math
import random
import re

import numpy as np
import pytest

import calc
from calc.economics.prices import _prices_in
from calc.specs import engine as engine_module
from calc.specs.device import load_device
from calc.specs.engine import load_engine
from calc.specs.errors import SpecError
from calc.specs.facts import spec_files
from calc.specs.hf_config import model_from_config
from calc.specs.model_files import load_model
from calc.specs.strict_yaml import read_yaml
from calc.timing import overheads as overheads_module
from calc.timing.calibration import load_calibration
from calc.timing.overheads import load_overheads
from calc.work.memory import cache_bytes_per_sequence, precision_of, weights_bytes_by_role
from calc.work.parameters import active_parameters, mtp_parameters, total_parameters

CONFIGS, JSON_FILES, YAML_FILES = 5000, 1000, 4000
CONFIG = {name: read_yaml(path)["config"] for name, path in spec_files("model_specs").items()}
#: a checkpoint with its formats module by module is asked about each; a few of them are enough
QUICK = [name for name, config in CONFIG.items() if "quantization_config" not in json.dumps(config)]
SLOW = ["qwen3-32b-fp8", "gpt-oss-20b", "llama-3.1-8b-w4a16"]

DEEP = []
for _ in range(200):
    DEEP = [{"a": DEEP}]
WILD = [
    None, True, False, 0, 1, -1, 2, 3, 7, 64, 4096, 10**9, 10**30, -(10**30), 2**63, 0.5, -0.5, 1e-9, 1e300,
    math.nan, math.inf, -math.inf, "", " ", "0", "64", "auto", "nan", "x" * 100_000, "привет", "模型 🐉",
    "\x00", "\ud800", "a\nb", "{}", "[]", [], {}, [1, 2], [None], ["a"], [[]], [math.nan], [10**30] * 5,
    [-1] * 64, {"a": 1}, {"": {"": {}}}, {"quant_method": "fp8"}, "mamba", "full_attention", DEEP,
]  # fmt: skip


def places(section, before=()):
    """Paths of every field, nested ones too."""
    for name, value in section.items():
        yield (*before, name)
        if isinstance(value, dict):
            yield from places(value, (*before, name))


def mutated(config, rng):
    """Return a config with one to three fields dropped, replaced, scaled, negated or moved."""
    config = copy.deepcopy(config)
    for _ in range(rng.choice((1, 1, 2, 3))):
        every = list(places(config))
        if not every:
            break
        *path, name = rng.choice(every)
        section = config
        for step in path:
            section = section[step]
        change(section, name, rng)
    return config


def wild(rng):
    return copy.deepcopy(rng.choice(WILD))


def change(section, name, rng):
    value, other = section[name], rng.choice(list(section))
    how = rng.randrange(10)
    if how == 0:
        del section[name]
    elif how in (1, 5, 6) and isinstance(value, int | float) and not isinstance(value, bool):
        choices = (-value, value + 1, value - 1, value * 2, value / 2, float(value), min(value, 10**9) ** 3)
        section[name] = rng.choice(choices)
    elif how == 2 and isinstance(value, list) and value:
        at = rng.randrange(len(value))
        choices = (value[:-1], value + value[:1], [*value[:at], wild(rng)], value * 50)
        section[name] = rng.choice(choices)
    elif how == 3:
        section[name] = rng.choice(([value], {name: value}, str(value)))
    elif how == 4:
        section[rng.choice((name.upper(), name + " ", other))] = section.pop(name)
    else:
        section[name] = wild(rng)


def one_line(error):
    message = str(error)
    assert message
    assert len(message.splitlines()) == 1, message
    assert len(message) < 1000, message


def sound(value, what):
    array = np.asarray(value, dtype=float)
    assert np.all(np.isfinite(array)), (what, value)
    assert np.all(array >= 0), (what, value)


def answers(model, rng):
    """Ask an accepted model everything; numbers must be sound, refusals one line."""
    assert 0 < active_parameters(model) <= total_parameters(model)
    sound(mtp_parameters(model), "mtp")
    deployment = calc.Deployment(tp=rng.choice((1, 1, 2, 8)), kv_dtype=rng.choice(("bf16", "fp8")))
    tokens = np.array([1, 128, 10_000, 10**6])
    held = cache_bytes_per_sequence(model, tokens, 2, deployment.tp) + np.zeros(4)
    sound(held, "cache")
    assert np.all(np.diff(held) >= 0), held
    sound(sum(weights_bytes_by_role(model, precision_of(model, deployment)).values()), "weights")
    load = calc.Workload(prompt_tokens=rng.choice((1, 1000, 10**6)), output_tokens=100, concurrency=4)
    estimated(calc.estimate(model, rng.choice(("h200-sxm", "t4")), deployment, load))


def estimated(e):
    numbers = ("weights_bytes", "cache_bytes", "cache_pool_bytes", "shortfall_bytes", "max_concurrency")
    for name in numbers:
        sound(getattr(e.memory, name), name)
    for name in ("ttft_s", "tpot_s", "e2e_latency_s", "output_tokens_per_s"):
        sound(getattr(e, name), name)


def attempt(ask):
    """Return whether there was an answer; where there was none, the refusal must be one line."""
    try:
        ask()
    except SpecError as error:
        one_line(error)
        return False
    return True


@pytest.mark.parametrize("part", range(5))
def test_broken_configs(part):
    rng = random.Random(100 + part)
    accepted = 0
    for _ in range(CONFIGS // 5):
        config = CONFIG[rng.choice(SLOW) if rng.random() < 0.02 else rng.choice(QUICK)]
        broken = mutated(config, rng)
        accepted += attempt(lambda broken=broken: answers(model_from_config(broken, id="m", name="M"), rng))
    assert CONFIGS // 5 * 0.1 < accepted < CONFIGS // 5 * 0.9, accepted


def scrambled(text, rng):
    """Return text with a line dropped, doubled, moved or cut, or with characters changed."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        lines = text.split("\n")
        at = rng.randrange(len(lines))
        how = rng.choice((*range(8), 8, 8, 9, 9, 9, 9))
        if how == 0:
            del lines[at]
        elif how == 1:
            lines.insert(rng.randrange(len(lines)), lines[at])
        elif how == 2:
            lines[at] = rng.choice(("  ", " ", "\t", "- ", "? ", "&a ", "*a", "!!set ", "<<: ")) + lines[at]
        elif how == 3 and ":" in lines[at]:
            word = rng.choice(WILD)
            shown = json.dumps(word, ensure_ascii=False) if rng.random() < 0.5 else str(word)[:200]
            lines[at] = f"{lines[at].split(':')[0]}: {shown}"
        elif how == 4:
            lines = lines[: at + 1]
        elif how == 5:
            cut = rng.randrange(len(lines[at]) + 1)
            lines[at] = lines[at][:cut] + rng.choice("{}[]:,&*!|>'\"%@`#\x00\x07é🐉-?~0") + lines[at][cut:]
        elif how == 6:
            lines[at] = lines[at].replace(":", rng.choice(("", "::", " :", ":\n")), 1)
        elif how == 7:
            lines[at] = rng.choice(
                (
                    "[" * 3000,
                    "[" * 3000 + "]" * 3000,
                    "{a: " * 500,
                    "a: &a [*a]",
                    "&b b: {c: *b}",
                    "---",
                    "...",
                )
            )
        elif how == 9:  # another number
            numbers = ("0", "-1", "0.5", "7", "1000000000000", "1e400", ".inf", ".nan", "0.000000001", "2.5")
            lines[at] = re.sub(r"(?<=[ \[])\d+(\.\d+)?(?=[,\s\]]|$)", rng.choice(numbers), lines[at])
        else:
            other = rng.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
        text = "\n".join(lines)
    return text


def of_model(path, rng):
    answers(load_model(str(path)), rng)


def of_device(path, rng):
    estimated(calc.estimate("llama-3.1-8b", load_device(str(path)), workload=calc.Workload(concurrency=4)))


def of_prices(path, rng):
    for price in _prices_in(path):
        sound(price.usd_per_hour, price.provider)
        price.is_stale()


def of_calibration(path, rng):
    load_calibration.cache_clear()
    own, load = load_calibration(str(path)), calc.Workload(concurrency=4)
    estimated(calc.estimate("llama-3.1-8b", "h200-sxm", workload=load, calibration=own))


def of_engine(path, rng):
    engine_module._checked.cache_clear()
    engine_module.load_engine.cache_clear()
    deployment = calc.Deployment(engine="mine", tp=rng.choice((1, 2)))
    estimated(calc.estimate("llama-3.1-8b", "h200-sxm", deployment, calc.Workload(concurrency=4)))


def of_overheads(path, rng):
    overheads_module._checked.cache_clear()
    overheads_module.load_overheads.cache_clear()
    deployment = calc.Deployment(engine="mine", tp=rng.choice((1, 2)))
    estimated(calc.estimate("llama-3.1-8b", "h200-sxm", deployment, calc.Workload(concurrency=4)))


FOLDERS = {
    ("model_specs",): of_model,
    ("hardware_specs",): of_device,
    ("prices",): of_prices,
    ("calibrations", "devices"): of_calibration,
    ("calibrations", "engines"): of_engine,
    ("calibrations", "overheads"): of_overheads,
}


def as_mine(text):
    return re.sub("(?m)^id: .*$", "id: mine", text)


@pytest.mark.parametrize("folder", FOLDERS, ids="/".join)
def test_broken_files(folder, tmp_path, monkeypatch):
    rng = random.Random("/".join(folder))
    texts = [path.read_text(encoding="utf-8") for path in spec_files(*folder).values()]
    if folder == ("model_specs",):
        texts = [text for text in texts if "quantization_config" not in text]
    path = tmp_path / "mine.yaml"
    if folder[-1] in ("engines", "overheads"):
        own = {name: tmp_path / name / "mine.yaml" for name in ("engines", "overheads")}
        for module, name in ((engine_module, "engines"), (overheads_module, "overheads")):
            own[name].parent.mkdir()
            own[name].write_text(as_mine(spec_files("calibrations", name)["vllm"].read_text("utf-8")))
            monkeypatch.setattr(module, "spec_files", lambda *parts: {"mine": own[parts[-1]]})
            module._checked.cache_clear()
        load_engine.cache_clear()
        load_overheads.cache_clear()
        path, texts = own[folder[-1]], [as_mine(text) for text in texts]
    accepted = 0
    for _ in range(YAML_FILES // len(FOLDERS)):
        path.write_bytes(scrambled(rng.choice(texts), rng).encode("utf-8", "surrogatepass"))
        accepted += attempt(lambda: FOLDERS[folder](path, rng))
    assert YAML_FILES // len(FOLDERS) * 0.02 < accepted < YAML_FILES // len(FOLDERS) * 0.9


def test_broken_json_files(tmp_path):
    rng = random.Random(7)
    path = tmp_path / "config.json"
    for _ in range(JSON_FILES):
        text = json.dumps(CONFIG[rng.choice(QUICK)], indent=1)
        path.write_bytes(scrambled(text, rng).encode("utf-8", "surrogatepass"))
        attempt(lambda: of_model(path, rng))

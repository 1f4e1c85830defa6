"""Open loop against simulation: the chain of ``calc.serving.open_loop.arrivals`` beside simulated requests.

``python benchmarks/openloop.py [--quick]`` prints the error of mean TPOT and of the 99th percentile of
TTFT for each scenario, and the summary: deployments times length distributions times loads from 20 to
90 % of the highest steady rate. Times of requests that queue are alike for thousands of them in a
row: at 80 and 90 % 200,000 are simulated, below 20,000, and five and twenty times 200,000 where the 99th
percentile of so many has a large standard error, which comes from ten parts of a simulation, is printed
and counted.
"""

import argparse
import itertools
import time

import numpy as np

from calc.serving.open_loop.arrivals import open_loop
from calc.serving.requests import poisson_requests
from calc.serving.scenario import steps_of
from calc.serving.simulate import ready, simulate_requests
from calc.specs.deployment import Deployment
from calc.specs.lengths import Lengths

#: model, device, tp, prompt, output
DEPLOYMENTS = [
    ("llama-3.1-8b", "h100-sxm", 1, 1024, 256),
    ("llama-3.1-8b", "h100-sxm", 1, 512, 512),
    ("llama-3.1-8b", "l40s", 1, 1024, 256),
    ("llama-3.1-8b", "a100-sxm-80gb", 1, 2048, 256),
    ("llama-3.1-70b", "h100-sxm", 4, 1024, 256),
    ("llama-3.1-70b", "h100-sxm", 8, 2048, 512),
    ("llama-3.1-70b", "h200-sxm", 2, 1024, 256),
    ("llama-3.1-70b", "b200-sxm", 2, 1024, 1024),
    ("qwen3-32b", "a100-sxm-80gb", 2, 1024, 256),
    ("qwen3-32b", "h100-sxm", 2, 512, 128),
    ("gpt-oss-120b", "h100-sxm", 1, 1024, 512),
    ("gpt-oss-20b", "l40s", 1, 512, 256),
    ("deepseek-v3", "b200-sxm", 8, 1024, 256),
    ("llama-3.1-8b", "mi300x", 1, 4096, 512),
]
LENGTHS = [Lengths("constant"), Lengths("geometric"), Lengths("lognormal", 0.7)]
LOADS = (0.2, 0.4, 0.6, 0.8, 0.9)
REQUESTS, BUSY_REQUESTS, BUSY = 20_000, 200_000, 0.75
#: standard error of the 99th percentile of TTFT beyond which more are simulated, and how many
LARGE_ERROR, MORE_REQUESTS = 0.08, (1_000_000, 4_000_000)


def compared(deployment, lengths: Lengths, load: float, requests: int) -> dict:
    """Return chain over simulation, minus one, and how long both took."""
    model, device, tp, prompt, output = deployment
    drawn = poisson_requests(1.0, requests, prompt, output, prompt_lengths=lengths, output_lengths=lengths)
    table, rules = ready(steps_of(model, device, Deployment(tp=tp)), drawn)
    every = requests // 2000  # of the sample itself, whose mean is not the mean
    lengths_of = (np.sort(n)[every // 2 :: every] for n in (drawn.prompt_tokens, drawn.output_tokens))
    lengths_of = tuple(lengths_of)
    most = open_loop(table, rules, *lengths_of, 0)[0].max_requests_per_s
    start = time.perf_counter()
    chain = open_loop(table, rules, *lengths_of, load * most)[0]
    middle = time.perf_counter()
    simulated = simulate_requests(table, rules, drawn.faster(load * most / drawn.requests_per_s))
    return {
        "tpot": chain.tpot.mean / simulated.mean("tpot_s") - 1,
        "ttft": chain.ttft.mean / simulated.mean("ttft_s") - 1,
        "ttft_p99": chain.ttft.p99 / simulated.percentile("ttft_s", 99) - 1,
        "tpot_se": standard_error(simulated.tpot_s, np.nanmean),
        "ttft_p99_se": standard_error(simulated.ttft_s, lambda part: np.percentile(part, 99)),
        "tpot_p99": chain.tpot.p99 / simulated.percentile("tpot_s", 99) - 1,
        "preemptions": simulated.preemptions,
        "bound": chain.bottleneck,
        "chain_s": middle - start,
        "simulation_s": time.perf_counter() - middle,
    }


def standard_error(values: np.ndarray, figure, parts: int = 10) -> float:
    """Return the standard error of a figure over its value, from parts of a simulation."""
    found = np.array([figure(part) for part in np.array_split(values, parts)])
    return float(found.std(ddof=1) / np.sqrt(parts) / figure(values))


def main() -> None:
    """Print each scenario and the summary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="every seventh scenario only")
    scenarios = list(itertools.product(DEPLOYMENTS, LENGTHS, LOADS))[:: 7 if parser.parse_args().quick else 1]
    rows = []
    for deployment, lengths, load in scenarios:
        row = compared(deployment, lengths, load, BUSY_REQUESTS if load > BUSY else REQUESTS)
        for requests in MORE_REQUESTS:
            if row["ttft_p99_se"] > LARGE_ERROR:
                row = compared(deployment, lengths, load, requests)
        rows.append({**row, "load": load, "kind": lengths.kind})
        name = "{} {} tp{} {}+{}".format(*deployment)
        print(
            f"{name:44s} {lengths.kind:9s} {load:.1f} {row['bound']:7s} "
            f"TPOT {row['tpot']:+7.1%} (se {row['tpot_se']:5.1%}) TTFT {row['ttft']:+7.1%} "
            f"p99 TTFT {row['ttft_p99']:+7.1%} (se {row['ttft_p99_se']:5.1%}) "
            f"p99 TPOT {row['tpot_p99']:+7.1%} preempted {row['preemptions']:6d} "
            f"{row['chain_s']:.2f} s {row['simulation_s']:.2f} s",
            flush=True,
        )
    summary(rows)


def summary(rows: list[dict]) -> None:
    """Print how many scenarios stay within 3 % (mean TPOT) and 15 % (p99 TTFT), by load and lengths."""
    groups = {"all": rows}
    for key in ("load", "kind"):
        for value in sorted({row[key] for row in rows}, key=str):
            groups[f"{key} {value}"] = [row for row in rows if row[key] == value]
    for name, group in groups.items():
        shown = []
        for what, key, limit in (("mean TPOT", "tpot", 0.03), ("p99 TTFT", "ttft_p99", 0.15)):
            errors = np.abs([row[key] for row in group])
            beyond = errors - 2 * np.array([row[f"{key}_se"] for row in group])
            shown.append(
                f"{what}: within {limit:.0%} {np.mean(errors <= limit):4.0%}, not beyond it by two errors "
                f"{np.mean(beyond <= limit):4.0%}, median {np.median(errors):5.1%}, worst {errors.max():6.1%}"
            )
        print(f"{name:18s} n {len(group):3d}  {';  '.join(shown)}")
    chain, simulated = (sum(row[key] for row in rows) / len(rows) for key in ("chain_s", "simulation_s"))
    print(f"mean time: chain {chain:.2f} s, simulation {simulated:.2f} s")


if __name__ == "__main__":
    main()

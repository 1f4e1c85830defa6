"""Speed of the calculator: a million decode steps in one call, and one estimate.

``python benchmarks/grid.py`` prints both; timings depend on the machine and its load.
"""

import time

import numpy as np

import calc
from calc.serving.steps import Steps
from calc.specs.engine import engine_of
from calc.timing.calibration import calibration_for
from calc.timing.overheads import overheads_of
from calc.work.op import Sequences

BATCHES, CONTEXTS, RANKS = 250, 1000, 4


def million_decode_steps() -> tuple[int, float]:
    """Return how many decode-step times of Llama-3.1-70B one call gave, and its seconds."""
    batch = np.arange(1, BATCHES + 1).reshape(-1, 1, 1).astype(float)
    context = np.linspace(1, 131_000, CONTEXTS).reshape(1, -1, 1)
    tp = np.array([1, 2, 4, 8]).reshape(1, 1, -1)
    model, device = calc.load_model("llama-3.1-70b"), calc.load_device("h100-sxm")
    deployment = calc.Deployment(tp=tp)
    engine, adds = engine_of(deployment, device), overheads_of(deployment, device)
    steps = Steps(model, device, deployment, engine, calibration_for(device), adds)
    start = time.perf_counter()
    seconds = steps.time(Sequences("decode", batch, 1, context)).seconds
    return seconds.size, time.perf_counter() - start


def one_estimate(repeats: int = 200) -> float:
    """Return the seconds of one ``calc.estimate`` call, the best of several rounds."""
    deployment, load = calc.Deployment(tp=4, weight_dtype="fp8"), calc.Workload(concurrency=16)
    rounds = []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(repeats):
            calc.estimate("llama-3.1-70b", "h100-sxm", deployment, load)
        rounds.append((time.perf_counter() - start) / repeats)
    return min(rounds)


if __name__ == "__main__":
    million_decode_steps()
    n, seconds = min((million_decode_steps() for _ in range(3)), key=lambda row: row[1])
    print(f"{n:,} decode steps of a 70B model in {seconds:.2f} s")
    print(f"one estimate in {1e3 * one_estimate():.2f} ms")

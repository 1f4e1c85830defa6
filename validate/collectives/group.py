"""The ranks that torchrun started: one process for each device, all in step."""

import os
import time
from collections.abc import Callable

import calc

LAUNCH = "torchrun --nproc-per-node 2 -m validate collective"
BACKENDS = ("auto", "gloo", "nccl")


class Group:
    """All ranks together; every method is called by all of them, in the same order."""

    def __init__(self, backend: str = "auto"):
        """Join the group that torchrun announces.

        Raises
        ------
        SpecError
            If torch or torchrun is missing, or there is no other rank.
        """
        if "RANK" not in os.environ:
            raise calc.SpecError(f"collective needs several processes; start it with {LAUNCH}")
        if int(os.environ.get("WORLD_SIZE", 1)) < 2:
            raise calc.SpecError("collective: 1 process is not allowed; give --nproc-per-node 2 or more")
        try:
            import torch
            import torch.distributed as dist
        except ImportError:
            raise calc.SpecError("collective needs torch: pip install 'ullage[validate]'") from None
        self.torch, self.dist = torch, dist
        self.backend = self._chosen(backend)
        self.place = self._device()
        own = {"device_id": self.place} if self.backend == "nccl" else {}
        dist.init_process_group(self.backend, **own)
        self.rank, self.world = dist.get_rank(), dist.get_world_size()

    def _chosen(self, backend: str) -> str:
        if backend != "auto":
            return backend
        return "nccl" if self.torch.cuda.is_available() and self.dist.is_nccl_available() else "gloo"

    def _device(self):
        if self.backend != "nccl":
            return self.torch.device("cpu")
        local = int(os.environ.get("LOCAL_RANK", 0))
        if local >= self.torch.cuda.device_count():
            count = self.torch.cuda.device_count()
            raise calc.SpecError(f"nccl: rank {local} has no device of its own; this machine has {count}")
        self.torch.cuda.set_device(local)
        return self.torch.device("cuda", local)

    @property
    def leads(self) -> bool:
        """Whether this process is the one that prints and writes."""
        return self.rank == 0

    def tensor(self, array):
        """Return an array as 16-bit floats on this rank's device."""
        return self.torch.from_numpy(array).to(self.place, self.torch.bfloat16)

    def empty(self, elements: int):
        """Return a tensor that holds NaN until something is written into it."""
        return self.torch.full((elements,), self.torch.nan, dtype=self.torch.bfloat16, device=self.place)

    def largest(self, value: float) -> float:
        """Return the largest of the values that the ranks bring."""
        shared = self.torch.tensor([value], dtype=self.torch.float64, device=self.place)
        self.dist.all_reduce(shared, op=self.dist.ReduceOp.MAX)
        return float(shared.item())

    def seconds(self, call: Callable[[], object], calls: int) -> float:
        """Return the time of one call, mean over a block of them, of the slowest rank. [s]"""
        self.dist.barrier()
        self._wait()
        start = time.perf_counter()
        for _ in range(calls):
            call()
        self._wait()
        return self.largest((time.perf_counter() - start) / calls)

    def _wait(self) -> None:
        if self.place.type == "cuda":
            self.torch.cuda.synchronize()

    def close(self) -> None:
        """Leave the group."""
        self.dist.destroy_process_group()

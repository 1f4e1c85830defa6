"""What speaks against a run: load, memory, disk, devices in use, threads."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from validate.checks.accelerators import Accelerator, accelerators, state_from
from validate.checks.host import Host, host
from validate.checks.verdict import warnings_of

QUIET = Host("Example 9000", 16, 0.5, 64e9, 60e9, 500e9, "performance")
CPU = Accelerator("cpu", "Example 9000")
GPU = Accelerator("cuda:0", "NVIDIA H200", "h200-sxm", 150e9, 149e9, 132, "9.0",
                  {"utilization.gpu": 0.0, "temperature.gpu": 31.0})  # fmt: skip


def test_a_quiet_machine_has_nothing_against_it():
    assert warnings_of(QUIET, [GPU, CPU], threads=16) == []
    assert warnings_of(QUIET, [CPU], threads=15) == []


@pytest.mark.parametrize(("load", "says"), [(4.7, False), (4.9, True)])
def test_the_load_may_be_three_tenths_of_the_cores(load, says):
    assert any("load" in line for line in warnings_of(replace(QUIET, load=load), [GPU], 1)) is says


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"free_disk_bytes": 0.5e9}, "of disk are free"),
        ({"free_memory_bytes": 5e9}, "of memory are free"),
        ({"governor": "powersave"}, "powersave"),
    ],
)
def test_a_short_host_says_what_is_short(changed, words):
    (line,) = warnings_of(replace(QUIET, **changed), [GPU], 1)
    assert words in line


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"free_bytes": 100e9}, "50 GB are taken by other programs"),
        ({"state": {"utilization.gpu": 40.0}}, "40 % busy"),
        ({"state": {"temperature.gpu": 91.0}}, "91 degrees"),
    ],
)
def test_a_device_in_use_says_so(changed, words):
    (line,) = warnings_of(QUIET, [replace(GPU, **changed), CPU], 16)
    assert line.startswith("cuda:0: ")
    assert words in line


def test_all_threads_of_a_processor_leave_no_core_free():
    (line,) = warnings_of(QUIET, [CPU], 16)
    assert "leave one free" in line
    assert warnings_of(replace(QUIET, cores=1, load=0.1), [CPU], 1) == []


def test_the_host_here_is_read():
    here = host()
    assert here.cores >= 1
    assert here.free_disk_bytes > 0
    assert here.memory_bytes > 0
    assert here.free_memory_bytes > 0


def test_a_gpu_is_described_with_its_state(monkeypatch):
    about = SimpleNamespace(name="NVIDIA H200", multi_processor_count=132, major=9, minor=0)
    cuda = SimpleNamespace(
        device_count=lambda: 1,
        get_device_properties=lambda index: about,
        mem_get_info=lambda index: (149e9, 150e9),
    )
    mps = SimpleNamespace(is_available=lambda: False)
    torch = SimpleNamespace(cuda=cuda, backends=SimpleNamespace(mps=mps))
    monkeypatch.setattr("validate.checks.accelerators.shutil.which", lambda name: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(
        "validate.checks.accelerators.subprocess.run",
        lambda *args, **kwargs: SimpleNamespace(stdout="1980, 1980, 33, 120.5, 0\n"),
    )
    gpu, cpu = accelerators(torch, QUIET)
    assert (gpu.place, gpu.spec, gpu.processors, gpu.capability) == ("cuda:0", "h200-sxm", 132, "9.0")
    assert gpu.state["power.draw"] == 120.5
    assert cpu.place == "cpu"


def test_results_may_go_to_a_folder_that_is_not_there_yet(tmp_path):
    assert host(str(tmp_path / "a" / "b")).free_disk_bytes > 0


def test_a_driver_that_says_nothing_gives_no_state():
    assert state_from("") is None

"""The shipped devices: they load, they are dense, one-way and sourced, and they match golden rows."""

from pathlib import Path

import pytest

import calc.specs.device as device_module
from calc.specs.device import Device, device_ids, load_device
from calc.specs.errors import SpecError
from calc.specs.strict_yaml import read_yaml
from calc.specs.units import UNITS

IDS = device_ids()

# Names that published benchmark tables use for devices; all must resolve, as id or alias.
NAMES = """
a100-pcie-80gb a100-sxm-80gb a40 b200-sxm b300-sxm gaudi2 gaudi3 gb200 gb300 gh200-144gb gh200-96gb h100-nvl
h100-pcie h100-sxm h200-sxm l40s m2-ultra mi250x-gcd mi300x rtx-3070 rtx-3080 rtx-3090 rtx-4000-ada rtx-4080
rtx-4090 rtx-5000-ada rtx-6000-ada rtx-a6000 rtx-pro-6000-server tpu-v6e tpu-v7 arc-pro-b60 a100_sxm
h100_sxm h200_sxm b200_sxm b300_sxm rtx_pro_6000_server b60 v100_sxm2_32gb t4 a10g a30 a100_sxm_40gb
a100_pcie_40gb l4 rtx_5090 rtx_pro_6000_bw_server h800_sxm h20 h200_nvl b100 gb10 rubin mi210 mi250x mi325x
mi350x mi355x mi455x tpu_v4 tpu_v5e tpu_v5p tpu_7x tpu_8t tpu_8i trainium1 inferentia2 trainium2 trainium3
m3_ultra m4_max ascend_950dt
"""
NAMES_IN_USE = NAMES.split()

USUAL_ALIASES = {
    "h100": "h100-sxm",
    "H100": "h100-sxm",
    "h200": "h200-sxm",
    "b200": "b200-sxm",
    "b300": "b300-sxm",
    "a100": "a100-sxm-80gb",
    "4090": "rtx-4090",
    "3090": "rtx-3090",
    "5090": "rtx-5090",
    "a6000": "rtx-a6000",
    "ironwood": "tpu-v7",
    "trillium": "tpu-v6e",
    "trn2": "trainium2",
    "dgx-spark": "gb10",
    "mi250x": "mi250x-gcd",
    "NVIDIA H100 80GB HBM3": "h100-sxm",
    "NVIDIA A100-SXM4-80GB": "a100-sxm-80gb",
}

# Why a ratio of dense peaks may lie outside 1..2.
FP8_OVER_BF16 = {
    "trainium3": "AWS prints 671 bf16 and 2517 mxfp8",
    "rubin": "NVIDIA prints 4 PFLOP/s bf16 and 17.5 PFLOP/s fp8",
}
FP4_OVER_FP8 = {
    "b300-sxm": "Blackwell Ultra triples dense fp4 over fp8",
    "gb300": "Blackwell Ultra triples dense fp4 over fp8",
    "rtx-5090": "fp8 with fp32 accumulate runs at half rate on GeForce, fp4 does not",
}
ROUNDING = 1.03  # tables round: L40S prints 733 fp8 over 362.05 bf16


@pytest.mark.parametrize("device_id", IDS)
def test_a_shipped_device_loads_and_carries_its_facts(device_id):
    device = load_device(device_id)
    assert device.id == device_id
    assert Path(device.path).stem == device_id
    assert device.memory_bytes > 0
    assert device.bandwidth_bytes_per_s > 0
    assert device.peaks


def test_at_least_the_named_devices_are_shipped():
    assert len(IDS) >= 60


@pytest.mark.parametrize("name", NAMES_IN_USE)
def test_a_name_in_use_resolves(name):
    assert load_device(name).id in IDS


@pytest.mark.parametrize(("alias", "device_id"), USUAL_ALIASES.items())
def test_a_usual_alias_means_the_usual_device(alias, device_id):
    assert load_device(alias).id == device_id


def test_no_alias_is_used_twice_or_hides_an_id():
    owner = {}
    for device_id in IDS:
        for alias in load_device(device_id).aliases:
            key = alias.lower().replace("_", "-")
            assert key not in IDS, f"{alias} of {device_id} is an id"
            assert owner.setdefault(key, device_id) == device_id, f"{alias}: {owner[key]} and {device_id}"


@pytest.mark.parametrize("device_id", IDS)
def test_every_number_has_a_source_or_says_that_it_is_assumed(device_id):
    for name, fact in load_device(device_id).facts().items():
        if fact.kind in ("published", "measured", "secondary"):
            assert fact.sources, name
        else:
            assert fact.note, f"{name}: a {fact.kind} figure explains itself"


@pytest.mark.parametrize("device_id", IDS)
def test_every_source_listed_is_used_and_has_a_title(device_id):
    device = load_device(device_id)
    data = read_yaml(Path(device.path))
    cited = {source.id for fact in device.facts().values() for source in fact.sources}
    for fact in device.facts().values():
        for loser in fact.alternatives:
            assert loser["reason"]
            assert loser["unit"] in UNITS
            ids = loser.get("source", [])
            cited |= {ids} if isinstance(ids, str) else set(ids)
    assert cited == set(data["sources"])
    assert all(row["title"] for row in data["sources"].values())


@pytest.mark.parametrize("device_id", IDS)
def test_peaks_are_dense(device_id):
    device = load_device(device_id)
    peaks = {dtype: fact.value for dtype, fact in device.peaks.items()}
    assert peaks.get("bf16", 0) < 10e15
    assert max(peaks.values()) < 40e15
    if "bf16" in peaks and "fp16" in peaks and device_id != "gaudi3":  # Gaudi 3 has a slow fp16
        assert peaks["fp16"] == peaks["bf16"]
    if "fp8" in peaks and "bf16" in peaks and device_id not in FP8_OVER_BF16:
        assert 1 <= peaks["fp8"] / peaks["bf16"] <= 2 * ROUNDING
    if "fp4" in peaks and "fp8" in peaks and device_id not in FP4_OVER_FP8:
        assert 1 <= peaks["fp4"] / peaks["fp8"] <= 2 * ROUNDING


@pytest.mark.parametrize("device_id", sorted(FP8_OVER_BF16 | FP4_OVER_FP8))
def test_a_whitelisted_ratio_is_still_needed(device_id):
    peaks = load_device(device_id).peaks
    wide = "bf16" if device_id in FP8_OVER_BF16 else "fp8"
    narrow = "fp8" if device_id in FP8_OVER_BF16 else "fp4"
    assert peaks[narrow].value / peaks[wide].value > 2 * ROUNDING


@pytest.mark.parametrize("device_id", IDS)
def test_memory_and_links_are_within_bounds(device_id):
    device = load_device(device_id)
    assert 7e9 < device.capacity.value < 600e9
    assert 0.2e12 < device.bandwidth_bytes_per_s < 25e12
    # a label in GB usually means GiB (x 1.074), and the driver keeps a little
    assert 0.9 <= device.memory_bytes / device.capacity.value <= 1.08
    link = device.link
    if link.topology in ("pcie", "none"):
        assert link.bandwidth is None
    if link.bandwidth:
        assert 20e9 < link.bandwidth.value <= 1.8e12
        assert link.domain >= 2
    if link.per_peer:
        assert link.bandwidth.value / link.domain < link.per_peer.value <= link.bandwidth.value
    if link.topology == "pcie":
        assert device.host_link is not None
        assert link.domain == device.devices_per_node
    if device.host_link:
        assert 10e9 < device.host_link.value <= 450e9
    if device.network:
        assert 1e9 < device.network.value <= 100e9
    if device.power:
        assert 50 <= device.power.value <= 2000


@pytest.mark.parametrize("device_id", IDS)
def test_moving_weights_is_slower_than_multiplying_them(device_id):
    """The ridge point (flop per byte at which compute takes over) of any accelerator is far above one."""
    device = load_device(device_id)
    best = max(fact.value for fact in device.peaks.values())
    assert 15 < best / device.bandwidth_bytes_per_s < 3000


# device, memory GB on the label, GB/s, dense bf16, fp8, fp4 TFLOP/s, W, scale-up GB/s one way, its domain.
# From the vendors' sheets as collected by ml-engineering (2026-08-22) and, for NVIDIA, AIConfigurator
# (2026-08-21); Google Cloud TPU and AWS Neuron documentation for theirs.
# None: the device has none, or none is published.
GOLDEN = [
    ("a100-sxm-40gb", 40, 1555, 312, None, None, 400, 300, 8),
    ("a100-sxm-80gb", 80, 2039, 312, None, None, 400, 300, 8),
    ("a100-pcie-40gb", 40, 1555, 312, None, None, 250, 300, 2),
    ("a100-pcie-80gb", 80, 1935, 312, None, None, 300, 300, 2),
    ("h100-sxm", 80, 3350, 989.4, 1978.9, None, 700, 450, 8),
    ("h100-pcie", 80, 2000, 756.5, 1513, None, 350, 300, 2),
    ("h20", 96, 4000, 148, 296, None, 400, 450, 8),
    ("h200-sxm", 141, 4800, 989.4, 1978.9, None, 700, 450, 8),
    ("b200-sxm", 180, 8000, 2250, 4500, 9000, 1000, 900, 8),
    ("gb200", 186, 8000, 2500, 5000, 10000, 1200, 900, 72),
    ("b300-sxm", 288, 8000, 2250, 4500, 13500, 1100, 900, 8),
    ("gb300", 288, 8000, 2500, 5000, 15000, 1400, 900, 72),
    ("l4", 24, 300, 121, 242, None, 72, None, 8),
    ("l40s", 48, 864, 362.05, 733, None, 350, None, 8),
    ("rtx-4090", 24, 1008, 165.2, 330.3, None, 450, None, 8),
    ("rtx-5090", 32, 1792, 209.5, 419, 1676, 575, None, 8),
    ("mi300x", 192, 5300, 1307.4, 2614.9, None, 750, 448, 8),
    ("mi325x", 256, 6000, 1307.4, 2614.9, None, 1000, 448, 8),
    ("mi350x", 288, 8000, 2306, 4614, 9228, 1000, 535.5, 8),
    ("mi355x", 288, 8000, 2516.6, 5033, 10066, 1400, 535.5, 8),
    # 24 ports of 100 and 200 Gb/s, 21 of them inside the node
    ("gaudi2", 96, 2460, 432, 865, None, 600, 262.5, 8),
    ("gaudi3", 128, 3700, 1677, 1677, None, 900, 525, 8),
    ("tpu-v4", 32 * 1.073741824, 1200, 275, None, None, 192, 270, 4096),
    ("tpu-v5e", 16, 819, 197, None, None, None, 200, 256),
    ("tpu-v5p", 95 * 1.073741824, 2765, 459, 459, None, None, 600, 8960),
    ("tpu-v6e", 32 * 1.073741824, 1638, 918, 918, None, None, 400, 256),
    ("tpu-v7", 192 * 1.073741824, 7380, 2307, 4614, None, 1000, 600, 9216),
    ("trainium1", 32 * 1.073741824, 820, 190, 190, None, None, 384, 16),
    ("trainium2", 96 * 1.073741824, 2900, 667, 1299, None, None, 640, 64),
    ("trainium3", 144 * 1.073741824, 4900, 671, 2517, 2517, None, 1280, 144),
]


@pytest.mark.parametrize(
    ("device_id", "gigabytes", "bandwidth", "bf16", "fp8", "fp4", "watts", "link", "domain"),
    GOLDEN,
    ids=[row[0] for row in GOLDEN],
)
def test_golden_rows_of_the_vendors(device_id, gigabytes, bandwidth, bf16, fp8, fp4, watts, link, domain):
    device = load_device(device_id)

    def value(fact, factor):
        return fact and pytest.approx(fact.value / factor)

    assert gigabytes == value(device.capacity, 1e9)
    assert bandwidth == value(device.bandwidth, 1e9)
    assert bf16 == value(device.peaks.get("bf16"), 1e12)
    assert fp8 == value(device.peaks.get("fp8"), 1e12)
    assert fp4 == value(device.peaks.get("fp4"), 1e12)
    assert watts == value(device.power, 1)
    assert link == value(device.link.bandwidth, 1e9)
    assert domain == device.link.domain


# What CUDA, HIP or nvidia-smi reports in GiB, as seen in logs: see the sources in each file.
@pytest.mark.parametrize(
    ("device_id", "gibibytes"),
    [
        ("h100-sxm", 79.19),
        ("a100-sxm-80gb", 79.15),
        ("h200-sxm", 139.81),
        ("b200-sxm", 178.35),
        ("gb200", 189471 / 1024),
        ("mi300x", 191.98),
        ("rtx-3090", 23.58),
        ("rtx-4090", 25_250_627_584 / 2**30),
        ("rtx-pro-6000-server", 97887 / 1024),
    ],
)
def test_memory_is_what_the_device_reports_not_what_the_label_says(device_id, gibibytes):
    device = load_device(device_id)
    assert device.memory_bytes / 2**30 == pytest.approx(gibibytes)
    assert device.reported.kind == "measured"


def test_h100_dense_peak_follows_from_its_tensor_cores():
    """132 SM x 4 tensor cores x 512 FMA x 2 flop x 1.83 GHz."""
    assert load_device("h100-sxm").peak_flops_per_s("bf16") == pytest.approx(
        132 * 4 * 512 * 2 * 1.83e9, rel=1e-3
    )


def test_small_groups_of_a_mesh_get_one_link_per_peer():
    """Seven xGMI links of 64 GB/s (MI300X, MI325X) and of 76.5 GB/s (MI350X, MI355X) make the total."""
    for name, per_peer in [("mi300x", 64e9), ("mi325x", 64e9), ("mi350x", 76.5e9), ("mi355x", 76.5e9)]:
        link = load_device(name).link
        assert link.topology == "mesh"
        assert link.per_peer.value == per_peer
        assert link.bandwidth.value == pytest.approx(7 * per_peer)


def test_tpu_links_are_bytes_one_way_not_bits():
    """Google's old pages print 1600 Gb/s for v5e and 4800 Gb/s for v5p: 200 and 600 GB/s."""
    assert load_device("tpu-v5e").link.bandwidth.value == 1600e9 / 8
    assert load_device("tpu-v5p").link.bandwidth.value == 4800e9 / 8
    assert load_device("tpu-v7").link.bandwidth.value == load_device("tpu-v5p").link.bandwidth.value


def test_a_mi250x_is_two_devices_with_half_of_everything():
    gcd = load_device("mi250x")
    assert gcd.capacity.value == 64e9
    assert gcd.bandwidth.value == pytest.approx(3277e9 / 2)
    assert gcd.peaks["bf16"].value == 383e12 / 2
    assert gcd.devices_per_node == 8


def test_a_dtype_without_units_runs_in_the_next_wider_one():
    a100, v100, h100 = load_device("a100"), load_device("v100"), load_device("h100")
    assert a100.peak_flops_per_s("fp8") == a100.peaks["bf16"].value
    assert v100.peak_flops_per_s("bf16") == v100.peaks["fp16"].value
    assert h100.peak_flops_per_s("fp4") == h100.peaks["fp8"].value
    assert load_device("b200").peak_flops_per_s("fp4") == 9e15


def test_a_dtype_that_cannot_run_is_refused_by_name():
    with pytest.raises(SpecError, match=r"^tpu-8i: no peak for dtype 'bf16'; known are fp4$"):
        load_device("tpu-8i").peak_flops_per_s("bf16")


def test_a_device_passes_through_and_is_read_once():
    device = load_device("h100")
    assert load_device(device) is device
    assert load_device("h100-sxm") is device


@pytest.mark.parametrize(
    ("typo", "meant"), [("h100-sxn", "h100-sxm"), ("mi300", "mi300x"), ("H200-SMX", "h200-sxm")]
)
def test_a_typo_is_answered_with_the_nearest_device(typo, meant):
    with pytest.raises(SpecError, match=rf"unknown device '{typo}': did you mean '{meant}'"):
        load_device(typo)


# ------------------------------------------------------------------ your own file

OWN = """\
id: my-card
name: "My card"
vendor: acme
architecture: acme1
status: available
sources:
  sheet: {title: "Datasheet", url: "https://example.org/sheet.pdf", date: "2026-01"}
memory:
  capacity: {value: 24, unit: GB, kind: published, source: sheet}
  bandwidth: {value: 1, unit: TB/s, kind: published, source: sheet}
peaks:
  bf16: {value: 100, unit: TFLOP/s, kind: published, source: sheet}
link: {name: PCIe, topology: pcie, domain: 2}
"""


@pytest.fixture
def own(tmp_path):
    def write(old="", new="", name="my-card.yaml"):
        assert old in OWN
        path = tmp_path / name
        path.write_text(OWN.replace(old, new, 1) if old else OWN, encoding="utf-8")
        return path

    return write


def test_your_own_file_loads_by_its_path_under_any_name(own):
    device = load_device(str(own(name="anything.yaml")))
    assert isinstance(device, Device)
    assert (device.id, device.memory_bytes, device.bandwidth_bytes_per_s) == ("my-card", 24e9, 1e12)
    assert device.devices_per_node == 8
    assert load_device(own()).peak_flops_per_s("fp8") == 100e12
    assert set(device.facts()) == {"memory capacity", "memory bandwidth", "peak bf16"}


def test_a_file_that_changed_is_read_again(own):
    assert load_device(str(own())).memory_bytes == 24e9
    assert load_device(str(own("value: 24", "value: 48"))).memory_bytes == 48e9


@pytest.mark.parametrize("device_id", ["h100-sxm", "mi300x", "tpu-v5e"])
def test_a_shipped_file_can_be_copied_and_loaded_as_your_own(device_id, tmp_path):
    copy = tmp_path / "copy.yaml"
    copy.write_text(Path(load_device(device_id).path).read_text(encoding="utf-8"), encoding="utf-8")
    assert load_device(copy).memory_bytes == load_device(device_id).memory_bytes


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("vendor: acme\n", "vendor: acme\ncolour: red\n", "colour: extra inputs are not permitted"),
        ("id: my-card", "id: My Card", "id: string should match pattern"),
        ("status: available", "status: rumoured", "status: input should be 'available' or 'announced'"),
        (
            "value: 24,",
            "value: -24,",
            "memory.capacity.value: input should be greater than or equal to 0 (got -24)",
        ),
        ("value: 24,", "value: .inf,", "memory.capacity.value: input should be a finite number"),
        ("value: 24,", "value: '24',", "memory.capacity.value: input should be a valid number (got '24')"),
        ("value: 24,", "value: 2.4e1,", "line 9: '2.4e1' would load as text"),
        ("unit: GB,", "unit: Gigabyte,", "memory.capacity: unit 'Gigabyte' is not known: allowed are"),
        (
            "unit: GB, kind: published",
            "unit: GB, kind: guess",
            "memory.capacity.kind: input should be 'published'",
        ),
        ("unit: GB, kind: published", "kind: published", "memory.capacity.unit: field required"),
        ("  bf16:", "  bf17:", "peaks.bf17"),
        ("domain: 2", "domain: 0", "link.domain: input should be greater than or equal to 1 (got 0)"),
        ("topology: pcie", "topology: star", "link.topology: input should be 'switch'"),
        (
            "GB, kind: published, source: sheet",
            "GB, kind: published, source: blog",
            "memory.capacity: source 'blog'",
        ),
        (
            "GB, kind: published, source: sheet",
            "GB, kind: published",
            "memory.capacity: a published figure needs",
        ),
        ("sources:\n", "sources: {}\nnothing:\n", "nothing: "),
        ("vendor: acme\n", "vendor: acme\nvendor: acme\n", "line 4: key 'vendor' appears twice"),
        ("memory:", "memory: [", "not valid YAML"),
    ],
)
def test_a_mistake_in_your_file_is_named_in_one_line(own, old, new, message):
    path = own(old, new)
    with pytest.raises(SpecError) as caught:
        load_device(str(path))
    text = str(caught.value)
    assert text.startswith(str(path))
    assert message in text
    assert "\n" not in text


def test_a_path_that_does_not_exist_is_named():
    with pytest.raises(SpecError, match=r"no/such/card.yaml: cannot be read"):
        load_device("no/such/card.yaml")


def test_a_shipped_file_must_be_named_after_its_id(own):
    with pytest.raises(SpecError, match=r"id 'my-card' must equal the file's name"):
        device_module._device_from(own(name="other.yaml"))

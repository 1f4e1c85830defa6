"""The wheel holds all code and data, and works where nothing else is installed."""

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

CODE = ["calc", "dashboard", "validate"]
DATA = ["hardware_specs", "model_specs", "prices", "calibrations"]
NOT_COPIED = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "*.egg-info", "tests", "docs")


def run(command, **kwargs) -> subprocess.CompletedProcess:
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, **kwargs)


def checked(command, **kwargs) -> str:
    done = run(command, **kwargs)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(root, tmp_path_factory) -> Path:
    """The wheel of this checkout, built from a copy: an old build/ folder would end up inside it."""
    source = tmp_path_factory.mktemp("source") / "ullage"
    shutil.copytree(root, source, ignore=NOT_COPIED)
    out = tmp_path_factory.mktemp("wheel")
    checked([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, source])
    return next(out.glob("ullage-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """Folder of the programs of a new environment that holds the wheel and what it depends on."""
    home = tmp_path_factory.mktemp("installed") / "env"
    venv.create(home, with_pip=False, symlinks=True)
    pip = [sys.executable, "-m", "pip", "--python", home / "bin" / "python", "--disable-pip-version-check"]
    checked([*pip, "install", "--quiet", wheel])
    return home / "bin"


@pytest.fixture
def outside(tmp_path) -> dict:
    """Run a program in an empty folder, with no path back to the checkout."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return {"cwd": tmp_path, "env": environment}


def test_wheel_holds_every_module_and_data_file(root, wheel):
    folders = [root / name for name in CODE + DATA if (root / name).is_dir()]
    files = [file for folder in folders for kind in ("*.py", "*.yaml") for file in folder.rglob(kind)]
    expected = {file.relative_to(root).as_posix() for file in files} | {"app.py"}
    assert sorted(expected - set(zipfile.ZipFile(wheel).namelist())) == []


def test_wheel_holds_nothing_else_at_the_top(wheel):
    tops = {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} <= {*CODE, *DATA, "app.py"}


def test_installed_data_is_found(root, installed, outside):
    program = (
        "import importlib.resources as r, sys;"
        "print([sum(f.name.endswith('.yaml') for f in r.files(p).iterdir()) for p in sys.argv[1:]])"
    )
    packages = [*DATA, "calibrations.devices", "calibrations.engines"]
    counts = [len(list((root / name.replace(".", "/")).glob("*.yaml"))) for name in packages]
    assert checked([installed / "python", "-c", program, *packages], **outside) == f"{counts}\n"


def test_installed_command_plans(installed, outside):
    command = "plan --model llama-3.1-8b --device h100-sxm --users 8 --prompt 1k --output 256"
    done = run([installed / "ullage", *command.split()], **outside)
    assert done.returncode in (0, 1), done.stderr  # 0 fits, 1 does not; 2 would be a usage error
    assert "Traceback" not in done.stderr, done.stderr  # a crash ends with 1 as well
    assert done.stdout.strip()

"""`import calc` is cheap, and the faces see only what calc makes public."""

import ast
import json
import os
import subprocess
import sys

import pytest

HEAVY = ["torch", "pandas", "streamlit", "sympy", "plotly"]
IMPORT_BUDGET_S = 0.3
RUNS = 5  # the best of them counts: a busy machine makes a run slower, never faster

PROBE = """
import json, sys, time
start = time.perf_counter()
import calc
seconds = time.perf_counter() - start
print(json.dumps({"seconds": seconds, "modules": sorted({name.partition(".")[0] for name in sys.modules})}))
"""


@pytest.fixture(scope="module")
def fresh_imports(root, tmp_path_factory):
    """What `import calc` did in each of RUNS new interpreters, started outside the repository."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    environment = os.environ | {"PYTHONPATH": str(root)}
    command = [sys.executable, "-c", PROBE]
    outputs = [subprocess.check_output(command, cwd=elsewhere, env=environment) for _ in range(RUNS)]
    return [json.loads(output) for output in outputs]


def test_import_loads_nothing_heavy(fresh_imports):
    assert sorted(set(HEAVY) & set(fresh_imports[0]["modules"])) == []


def test_import_is_quick(fresh_imports):
    assert min(run["seconds"] for run in fresh_imports) < IMPORT_BUDGET_S


def test_app_imports_only_the_public_names_of_calc(root):
    """import-linter reads packages; app.py is a single file, so its imports are read here."""
    tree = ast.parse((root / "app.py").read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import)]
    imported = [alias.name for node in imports for alias in node.names]
    imported += [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert [name for name in imported if name.startswith("calc.")] == []

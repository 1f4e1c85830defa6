"""The real worker in a process of its own. Needs torch."""

import pytest

pytest.importorskip("torch", reason="torch is not installed: pip install 'ullage[validate]'")

from validate.machine import fingerprint, run_id, versions
from validate.probes.base import Case
from validate.remote import CaseError, local_worker


def test_it_tells_of_its_machine_checks_times_and_refuses():
    worker = local_worker("cpu", 1, 5e7)
    try:
        facts = worker.machine()
        about = fingerprint(facts)
        assert (about.kind, about.threads) == ("cpu", 1)
        assert about.memory_bytes > 1e8
        assert run_id(about, facts["torch"]) == run_id(about, facts["torch"] + ".post1")
        assert set(versions(facts)) >= {"torch", "python", "ullage"}
        case = Case("swiglu", "bf16", {"rows": 4, "width": 128})
        checked = worker.check(case)
        assert 0 < checked.error <= checked.limit
        assert 0 < worker.visit(case, 0.005).seconds < 0.1
        with pytest.raises(CaseError) as error:
            worker.visit(Case("copy", "fp32", {"elements": 10**9}), 0.005)
        assert error.value.flag == "out-of-memory"
    finally:
        worker.close()

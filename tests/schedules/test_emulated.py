"""Results of every kernel rule on emulated CPUs of each target; an unsupported instruction ends the process."""

from pathlib import Path

import cpus
import numpy as np
import pytest
from test_fallback import CASES, arguments, run

from edgepack.config.target import load_target
from edgepack.lower.emit.library import export
from edgepack.schedules import tvm_target
from edgepack.schedules.fallback import schedule_function
from edgepack.schedules.tiles import machine

LEVELS = {"x86-64-v2": "Nehalem", "x86-64-v3": "Haswell"}
RUNS = Path(__file__).with_name("kernel_runs.py")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Arguments of every case and the results of the unscheduled kernel."""
    arrays = {}
    for number, case in enumerate(CASES):
        function = CASES[case]()
        values = arguments(function)
        arrays |= {f"kernel_{number}/{i}": value for i, value in enumerate(values)}
        arrays[f"kernel_{number}/expected"] = run(function, values)
    path = tmp_path_factory.mktemp("kernels") / "arguments.npz"
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("level", LEVELS)
def test_every_rule_keeps_the_result_on_the_levels_cpu(level, saved, tmp_path):
    import tvm

    target = load_target(level)
    functions = {
        f"kernel_{number}": schedule_function(CASES[case](), machine(target)).with_attr(
            "global_symbol", f"kernel_{number}"
        )
        for number, case in enumerate(CASES)
    }
    library = tmp_path / "kernels.so"
    export(tvm.compile(tvm.IRModule(functions), target=tvm_target(target)), target, library)
    found = cpus.answer(LEVELS[level], RUNS, library, saved)
    assert len(found) == len(CASES)
    wrong = {list(CASES)[int(name.partition("_")[2])]: value for name, value in found.items() if value > 1}
    assert not wrong

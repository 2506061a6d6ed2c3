"""How usable is an untuned build? Ours, stock TVM's and (given records) a tuned one, on this machine.

    python benchmarks/untuned.py model.onnx [--target x86-64-v4] [--records DIR] [--runs 20]

The builds run in turn, one inference each, one thread, in processes of their own; the table shows the minimum,
the median and the spread between quartiles.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path


def build_stock(model: Path, target_name: str, out: Path) -> None:
    """What ``tvm.compile`` makes of the imported model, linked like ours."""
    import tvm

    from edgepack.config.target import load_target
    from edgepack.lower import phases
    from edgepack.lower.emit import library
    from edgepack.schedules import tvm_target

    target = load_target(target_name)
    context = phases.Context(model, target, tvm_target(target))
    module = phases.run(None, context, until="import")
    library.export(tvm.compile(module, target=context.tvm_target), target, out)


def serve(path: Path) -> None:
    """Run one inference for each line on stdin and answer with its milliseconds."""
    import time

    import numpy as np
    import tvm
    from tvm import relax

    given = json.loads(sys.stdin.readline())
    random = np.random.default_rng(0)
    machine = relax.VirtualMachine(tvm.runtime.load_module(str(path)), tvm.cpu())
    inputs = [
        # Whole numbers are token ids and the like: 0 and 1 are in every vocabulary.
        tvm.runtime.tensor(
            (random.normal(size=shape) if "float" in dtype else random.integers(0, 2, shape)).astype(dtype)
        )
        for shape, dtype in given
    ]
    for _ in sys.stdin:
        start = time.perf_counter()
        machine["main"](*inputs)
        print((time.perf_counter() - start) * 1e3, flush=True)


def measure(paths: dict[str, Path], inputs: list[tuple[list[int], str]], runs: int) -> dict[str, list[float]]:
    """Milliseconds of each build, interleaved, the first inference of each left out.

    Args:
        paths: The libraries by name.
        inputs: Shape and element type of each input.
        runs: Timed inferences of each.
    """
    environment = {**os.environ, "TVM_NUM_THREADS": "1"}
    servers = {
        name: subprocess.Popen(
            [sys.executable, __file__, "--serve", str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for name, path in paths.items()
    }
    samples: dict[str, list[float]] = {name: [] for name in paths}
    for server in servers.values():
        server.stdin.write(json.dumps(inputs) + "\n")
    for turn in range(runs + 1):
        for name, server in servers.items():
            server.stdin.write("go\n")
            server.stdin.flush()
            milliseconds = float(server.stdout.readline())
            if turn:
                samples[name].append(milliseconds)
    for server in servers.values():
        server.stdin.close()
        server.wait()
    return samples


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--target", default="x86-64-v4")
    parser.add_argument("--records", type=Path, help="a folder with workload.json and tuning_record.json")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.model)
        return

    from edgepack.config.target import load_target
    from edgepack.lower import compile_model

    target = load_target(options.target)
    with tempfile.TemporaryDirectory() as folder:
        paths = {"edgepack untuned": Path(folder, "ours.so"), "stock tvm.compile": Path(folder, "stock.so")}
        compiled = compile_model(options.model, target, paths["edgepack untuned"])
        build_stock(options.model, options.target, paths["stock tvm.compile"])
        if options.records:
            paths["edgepack tuned"] = Path(folder, "tuned.so")
            tuned = compile_model(options.model, target, paths["edgepack tuned"], records=options.records)
            print(f"{sum(k.tuned for k in tuned.kernels)} of {len(tuned.kernels)} kernels have records")
        print(f"{options.model.name} for {target.name}, one thread, {options.runs} interleaved runs")
        print(f"{'build':20} {'min ms':>9} {'p50 ms':>9} {'p25-p75 ms':>17} {'x best':>7}")
        samples = measure(paths, [(list(spec.shape), spec.dtype) for spec in compiled.inputs], options.runs)
        best = min(min(values) for values in samples.values())
        for name, values in samples.items():
            low, middle, high = statistics.quantiles(values, n=4)
            print(
                f"{name:20} {min(values):9.2f} {middle:9.2f} {low:8.2f}-{high:8.2f} {min(values) / best:7.2f}"
            )


if __name__ == "__main__":
    main()

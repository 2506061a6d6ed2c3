"""How usable is an untuned build? Ours, stock TVM's and (given records) a tuned one, on this machine.

    python -m benchmarks.untuned model.onnx [--target x86-64-v4] [--records DIR] [--runs 20]

The builds run in turn, one inference each, one thread, in processes of their own; the table shows the minimum,
the median and the spread between quartiles.
"""

import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.kit import command
from benchmarks.kit.documents import plain
from benchmarks.kit.libraries import build_stock, measure
from edgepack.config.target import load_target
from edgepack.lower import compile_model


def main(argv: Sequence[str] | None = None) -> None:
    parser = command.parser("untuned", __doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--target", default="x86-64-v4")
    parser.add_argument("--records", type=Path, help="a folder with workload.json and tuning_record.json")
    parser.add_argument("--runs", type=command.whole(2), default=20)
    options = parser.parse_args(argv)
    model, target = options.model, load_target(options.target)
    with tempfile.TemporaryDirectory() as folder:
        paths = {"edgepack untuned": Path(folder, "ours.so"), "stock tvm.compile": Path(folder, "stock.so")}
        compiled = compile_model(model, target, paths["edgepack untuned"])
        build_stock(model, target, paths["stock tvm.compile"])
        if options.records:
            paths["edgepack tuned"] = Path(folder, "tuned.so")
            tuned = compile_model(model, target, paths["edgepack tuned"], records=options.records)
            print(f"{sum(k.tuned for k in tuned.kernels)} of {len(tuned.kernels)} kernels have records")
        samples = measure(paths, compiled.inputs, options.runs)
    print(f"{model.name} for {options.target}, one thread, {options.runs} interleaved runs")
    best = min(min(values) for values in samples.values())
    rows = [("build", "min ms", "p50 ms", "p25-p75 ms", "x best")]
    for name, values in samples.items():
        low, middle, high = (f"{value:.2f}" for value in statistics.quantiles(values, n=4))
        rows.append((name, f"{min(values):.2f}", middle, f"{low}-{high}", f"{min(values) / best:.2f}"))
    print(plain(rows))


if __name__ == "__main__":
    sys.exit(command.finish(main))

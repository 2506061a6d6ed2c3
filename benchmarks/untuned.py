"""How fast is an untuned build? Compares edgepack's, stock TVM's and (given records) a tuned one, on this machine.

    python -m benchmarks.untuned model.onnx [--target host] [--records DIR] [--without PHASE] [--runs 20]

``--without`` adds a build without a phase of the lowering, to measure the effect of that phase. The builds run in turn,
one inference each, one thread, in separate processes; the table shows the minimum, the median and the interquartile
range.
"""

import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.kit import command
from benchmarks.kit.documents import plain
from benchmarks.kit.libraries import build_stock, build_without, measure
from edgepack.config.target import load_target
from edgepack.lower import compile_model


def main(argv: Sequence[str] | None = None) -> None:
    parser = command.parser("untuned", __doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--target", default="host")
    parser.add_argument("--records", type=Path, help="a folder with workload.json and tuning_record.json")
    parser.add_argument("--without", action="append", default=[], metavar="PHASE", help="may be repeated")
    parser.add_argument("--runs", type=command.whole(2), default=20)
    options = parser.parse_args(argv)
    model, target = options.model, load_target(options.target)
    with tempfile.TemporaryDirectory() as folder:
        paths = {"edgepack untuned": Path(folder, "ours.so"), "stock tvm.compile": Path(folder, "stock.so")}
        compiled = compile_model(model, target, paths["edgepack untuned"])
        build_stock(model, target, paths["stock tvm.compile"])
        for phase in options.without:
            paths[f"without {phase}"] = Path(folder, f"{phase}.so")
            build_without(phase, model, target, paths[f"without {phase}"])
        if options.records:
            paths["edgepack tuned"] = Path(folder, "tuned.so")
            tuned = compile_model(model, target, paths["edgepack tuned"], records=options.records)
            print(f"{sum(k.tuned for k in tuned.kernels)} of {len(tuned.kernels)} kernels have records")
        samples = measure(paths, compiled.inputs, options.runs)
        sizes = {name: f"{path.stat().st_size / 1000:,.0f}" for name, path in paths.items()}
    print(f"{model.name} for {options.target}, one thread, {options.runs} interleaved runs")
    best = min(min(values) for values in samples.values())
    rows = [("build", "library kB", "min ms", "p50 ms", "p25-p75 ms", "x best")]
    for name, values in samples.items():
        low, middle, high = (f"{value:.3f}" for value in statistics.quantiles(values, n=4))
        ratio = f"{min(values) / best:.2f}"
        rows.append((name, sizes[name], f"{min(values):.3f}", middle, f"{low}-{high}", ratio))
    print(plain(rows))


if __name__ == "__main__":
    sys.exit(command.finish(main))

"""ARM figures without a board: instructions executed in an emulator, predicted cycles of the hot loops.

    python -m benchmarks.arm [--nets mobilenet_v2 ds_cnn] [--targets rpi4 rpi5] [--out benchmarks/results/arm]
    python -m benchmarks.arm --page        regenerate the page from existing results

For each net and target, edgepack's build and onnxruntime's aarch64 wheel run the same input in qemu, which counts
all instructions of one inference; llvm-mca then predicts the loops in which edgepack's build executes most
instructions. All of this is prediction, and is labelled so. Builds use this machine's tuning records of the target,
if there are any (made with a board), and edgepack's fallback schedules otherwise.

Writes arm.json (all data) and arm.md to the folder after each cell, and prints the latter. Requires the Debian
packages qemu-user, mmdebstrap and llvm-19, and root access once, to build the emulated userland.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.arm import contestants, measure, page, tools
from benchmarks.kit import command, documents
from benchmarks.kit.places import RESULTS
from edgepack.zoo import NETS

DOCUMENT = 1  # version of the JSON
NETS_BY_DEFAULT = ("ds_cnn", "autoencoder", "mobilenet_v2", "mobilenet_v3_large", "bert_tiny")


def main(argv: Sequence[str] | None = None) -> int:
    targets = contestants.targets()
    parser = command.parser("arm", __doc__)
    add = parser.add_argument
    add("--nets", nargs="+", choices=NETS, default=NETS_BY_DEFAULT, metavar="NET")
    add("--targets", nargs="+", choices=targets, default=targets, metavar="TARGET")
    add("--untuned", action="store_true", help="ignore tuning records")
    add(
        "--top", type=command.whole(1), default=5, help="number of loops to print per cell (the JSON has all)"
    )
    add("--out", type=Path, default=RESULTS / "results/arm", help="output folder")
    add("--page", action="store_true", help="only regenerate the page")
    options = parser.parse_args(argv)
    results = options.out / "arm.json"
    if options.page:
        page.write(documents.read(results), options.out, options.top)
        return 0
    document = {"edgepack": DOCUMENT, "kind": "arm-prediction", "tools": needs(), "cells": []}
    for net in options.nets:
        for target in options.targets:
            print(f"{net} for {target}", file=sys.stderr, flush=True)
            document["cells"].append(measure.measure(net, target, tuned=not options.untuned))
            documents.write(results, document)
            page.write(document, options.out, options.top)
    print(page.page(document, options.top))
    if all(cell["failures"] for cell in document["cells"]):
        print("error: no cell could be counted completely; see the reasons above", file=sys.stderr)
        return 1
    return 0


def needs() -> dict[str, str]:
    """Return the versions of the programs that count and predict.

    Raises:
        EdgepackError: One is missing; names the Debian package.
    """
    tools.llvm("llvm-objdump")
    tools.find("mmdebstrap", "mmdebstrap")
    line = tools.output([tools.qemu(), "--version"]).splitlines()[0]
    version = re.search(r"version ([\d.]+)", line)
    return {"qemu": version.group(1) if version else line, "llvm": tools.llvm_version(tools.llvm("llvm-mca"))}


if __name__ == "__main__":
    sys.exit(command.finish(main))

"""ARM evidence without a board: executed instructions in an emulator, predicted cycles of the hot loops.

    python -m benchmarks.arm [--nets mobilenet_v2 ds_cnn] [--targets rpi4 rpi5] [--out benchmarks/results/arm]

For each net and target: edgepack's build and onnxruntime's aarch64 wheel run the same input in qemu, which counts
every instruction of one inference; then llvm-mca predicts the loops in which edgepack's build spends its
instructions. All of it is prediction, and is printed as such. Builds use tuning records of the target where this
machine has some (made with a board), and edgepack's fallback schedules otherwise.

Writes arm.json (everything) and arm.md into the folder, after each cell, and prints the latter. Needs, as Debian
packages: qemu-user, mmdebstrap, llvm-19; and root, once, to build the emulated userland.
"""

import argparse
import json
import re
import sys
from pathlib import Path

from benchmarks.arm import contestants, measure, page, tools
from edgepack.errors import EdgepackError
from edgepack.zoo import NETS

DOCUMENT = 1  # version of the JSON
NETS_BY_DEFAULT = ("ds_cnn", "autoencoder", "mobilenet_v2", "mobilenet_v3_large", "bert_tiny")


def main() -> None:
    targets = contestants.targets()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nets", nargs="+", choices=NETS, default=NETS_BY_DEFAULT, metavar="NET")
    parser.add_argument("--targets", nargs="+", choices=targets, default=targets, metavar="TARGET")
    parser.add_argument("--untuned", action="store_true", help="leave tuning records out")
    parser.add_argument(
        "--top", type=int, default=5, help="loops of each cell to print (all are in the JSON)"
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/arm"), help="where results go")
    options = parser.parse_args()
    try:
        versions = needs()
    except EdgepackError as error:
        parser.exit(error.exit_code, error.render() + "\n")
    document = {"edgepack": DOCUMENT, "kind": "arm-prediction", "tools": versions, "cells": []}
    for net in options.nets:
        for target in options.targets:
            print(f"{net} for {target}", file=sys.stderr, flush=True)
            try:
                document["cells"].append(measure.measure(net, target, tuned=not options.untuned))
            except EdgepackError as error:  # nothing can be counted here at all
                parser.exit(error.exit_code, error.render() + "\n")
            text = page.markdown(document, options.top)
            options.out.mkdir(parents=True, exist_ok=True)
            (options.out / "arm.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
            (options.out / "arm.md").write_text(text, encoding="utf-8")
    print(text)
    if all(cell["failures"] for cell in document["cells"]):
        parser.exit(1, "error: nothing could be counted whole; the reasons are above\n")


def needs() -> dict[str, str]:
    """The versions of the programs that count and predict.

    Raises:
        EdgepackError: One is missing; names the Debian package.
    """
    tools.llvm("llvm-objdump")
    tools.find("mmdebstrap", "mmdebstrap")
    line = tools.output([tools.qemu(), "--version"]).splitlines()[0]
    version = re.search(r"version ([\d.]+)", line)
    return {"qemu": version.group(1) if version else line, "llvm": tools.llvm_version(tools.llvm("llvm-mca"))}


if __name__ == "__main__":
    main()

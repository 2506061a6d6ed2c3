"""Size against accuracy of the compression methods, with several seeds.

    python -m benchmarks.compression                          # everything that has no result yet; hours
    python -m benchmarks.compression --nets vgg --only cluster --seeds 1
    python -m benchmarks.compression --page                   # regenerate the page from existing results

A cell is a network, compressed in one way and built into a bundle, from one seed: the network is trained, compressed and
fine-tuned anew for each. All cells are measured with the first seed, then with the next. Each result is saved at once, and
cells that have one are skipped, so that a run can be stopped at any time; two runs may share the networks between them.
Fashion-MNIST is read from Debian's package dataset-fashion-mnist.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.compression import page, results
from benchmarks.compression.cells import chosen
from benchmarks.compression.measure import measure
from benchmarks.compression.nets import NETS
from benchmarks.kit import command, places
from edgepack.errors import InputError

SEEDS = 3


def main(argv: Sequence[str] | None = None) -> None:
    options = parse(argv)
    nets = command.parse_names(options.nets, list(NETS), "nets")
    if not options.page:
        _require_data(nets)
        _measure(options, nets)
    page.write(results.read(options.out), options.out)


def _measure(options: argparse.Namespace, nets: Sequence[str]) -> None:
    ends = None if options.minutes is None else time.monotonic() + 60 * options.minutes
    for seed in range(options.seeds):
        for cell in chosen(nets, options.only):
            if results.known(options.out, cell, seed) and not options.again:
                continue
            if ends is not None and time.monotonic() > ends:
                return
            print(f"{cell.net}, {cell.name}, seed {seed}", flush=True)
            figures = measure(cell, seed)
            results.save(options.out, cell, figures)
            print(f"  {page.summary(figures)}", flush=True)


def _require_data(nets: Sequence[str]) -> None:
    folders = [Path(net.data["idx"]["folder"]) for name in nets if "idx" in (net := NETS[name]).data]
    for folder in folders:
        if not folder.is_dir():
            raise InputError(
                "Fashion-MNIST is missing",
                where=str(folder),
                next="apt install dataset-fashion-mnist, or choose other --nets",
            )


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = command.parser("compression", __doc__)
    add = parser.add_argument
    add("--nets", default="", help=f"only these networks, separated by commas: {', '.join(NETS)}")
    add(
        "--only",
        type=command.pattern,
        default="",
        metavar="PATTERN",
        help="only cells whose NET/NAME matches",
    )
    add("--seeds", type=command.whole(1), default=SEEDS, help="seeds per cell (default: %(default)s)")
    add("--minutes", type=command.above(0), help="start no cell after this time")
    add("--again", action="store_true", help="measure cells again that have a result")
    add("--out", type=Path, default=places.RESULTS / "results" / "compression", help="folder of the results")
    add("--page", action="store_true", help="only regenerate the page")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(command.finish(main))

"""Seconds and bytes of a first deploy, a redeploy and a rollback: edgepack, scp and rsync.

    python -m benchmarks.deploy
    python -m benchmarks.deploy --net resnet18 --mbit 8 --repeat 5 --rtt-ms 20
    python -m benchmarks.deploy --page       regenerate the page from existing results

The board is a real sshd on loopback. All tools connect through the same relay, which counts the bytes and,
for the second link, limits the rate to 8 Mbit/s in each direction. The redeploy uses a build of the same net in which
one layer's weights were changed; the rollback reverts it. Times are those of the whole command, including
start-up and SSH handshake; after each step, all files on the board are compared with the expected ones.
The tools take turns, in a different order each time.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.deploy import page
from benchmarks.deploy.contestants import WAYS
from benchmarks.deploy.measure import run
from benchmarks.deploy.versions import make
from benchmarks.kit import command, documents
from benchmarks.kit.machine import results, summary
from benchmarks.kit.nets import network


def main(argv: Sequence[str] | None = None) -> None:
    options = parse(argv)
    folders = results("deploy", options.out, written=options.page)
    if options.page:
        for folder in folders:
            page.write(documents.read(folder / "deploy.json"), folder)
        return
    (out,) = folders
    with tempfile.TemporaryDirectory(prefix="edgepack-benchmark-") as folder:
        scratch = Path(folder)
        first, second, change = make(network(options.net), scratch)
        document = {
            "benchmark": "deploy",
            "machine": summary(("ssh", "-V"), ("rsync", "--version")),
            "net": options.net,
            "change": change,
            "files_bytes": {"first": first.size, "second": second.size},
            "bundle_bytes": {"first": first.bundle.stat().st_size, "second": second.bundle.stat().st_size},
            "rtt_ms": options.rtt_ms,
            "ways": options.ways,
            "left_out": {name: why for name in options.ways if (why := WAYS[name].missing())},
            "samples": list(run(options, first, second, scratch)),
        }
    documents.write(out / "deploy.json", document)
    page.write(document, out)
    print(page.text(document))


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = command.parser("deploy", __doc__)
    add, number, count = parser.add_argument, command.at_least(0), command.whole(1)
    add("--net", default="mobilenet_v2", help="a network of edgepack.zoo, or an .onnx file")
    add("--ways", nargs="+", default=list(WAYS), choices=list(WAYS), help="only run these")
    add("--mbit", type=number, default=8.0, help="rate of the limited link; 0 disables it")
    add("--rtt-ms", type=number, default=0.0, help="round-trip time of the limited link")
    add("--repeat", type=count, default=5, help="repetitions on loopback")
    add("--limited-repeat", type=count, default=3, help="repetitions on the limited link")
    add(
        "--out",
        type=Path,
        help="output folder (default: benchmarks/results/deploy/KIND, for this kind of CPU)",
    )
    add("--page", action="store_true", help="only regenerate the page")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(command.finish(main))

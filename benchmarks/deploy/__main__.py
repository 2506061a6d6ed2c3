"""Seconds and bytes of a first deploy, a redeploy and a rollback: edgepack beside scp and rsync.

    python -m benchmarks.deploy
    python -m benchmarks.deploy --net resnet18 --mbit 8 --repeat 5 --rtt-ms 20

The board is a real sshd on loopback. Everybody reaches it through the same relay, which counts the bytes and,
for the second link, lets 8 Mbit/s pass in each direction. The redeploy brings a build of the same net in which
one layer's weights were changed; the rollback goes back from it. Seconds are those of the whole command, its
start and the SSH handshake within; after each, every file on the board is compared with what should be there.
The ways take turns, in another order each time.
"""

import argparse
import json
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import machine, network
from benchmarks.deploy.contestants import WAYS, Failed, Place, Way, check
from benchmarks.deploy.link import Link
from benchmarks.deploy.page import markdown, text
from benchmarks.deploy.versions import Version, make

STEPS = ("first", "redeploy", "rollback")


def main() -> None:
    """Run what the arguments say, print the table, write JSON and Markdown."""
    options = parse()
    with tempfile.TemporaryDirectory(prefix="edgepack-benchmark-") as folder:
        scratch = Path(folder)
        first, second, change = make(network(options.net, scratch), scratch)
        document = {
            "benchmark": "deploy",
            "machine": machine(("ssh", "-V"), ("rsync", "--version")),
            "net": options.net,
            "change": {"tensor": change.tensor, "bytes": change.bytes, "files": list(change.files)},
            "files_bytes": {"first": first.size, "second": second.size},
            "bundle_bytes": {
                "first": first.bundle.stat().st_size,
                "second": second.bundle.stat().st_size,
            },
            "rtt_ms": options.rtt_ms,
            "ways": options.ways,
            "left_out": left_out(options.ways),
            "samples": list(run(options, first, second, scratch)),
        }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "deploy.json").write_text(json.dumps(document, indent=1) + "\n")
    (options.out / "deploy.md").write_text(markdown(document))
    print(text(document))


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--net", default="mobilenet_v2", help="a network of edgepack.zoo, or an .onnx file")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS), help="only these")
    parser.add_argument("--mbit", type=float, default=8.0, help="of the limited link; 0 leaves it out")
    parser.add_argument("--rtt-ms", type=float, default=0.0, help="round-trip time of the limited link")
    parser.add_argument("--repeat", type=int, default=5, help="repetitions on loopback")
    parser.add_argument("--limited-repeat", type=int, default=3, help="repetitions on the limited link")
    parser.add_argument(
        "--out", type=Path, default=Path("benchmarks/results/deploy"), help="where results go"
    )
    options = parser.parse_args(argv)
    if min(options.repeat, options.limited_repeat) < 1 or options.mbit < 0 or options.rtt_ms < 0:
        parser.error("repetitions are 1 or more; --mbit and --rtt-ms are 0 or more")
    return options


def left_out(names: Sequence[str]) -> dict[str, str]:
    """The ways that cannot start here, with the reason."""
    return {name: why for name in names if (why := WAYS[name].missing())}


def run(
    options: argparse.Namespace, first: Version, second: Version, scratch: Path
) -> Iterator[dict[str, Any]]:
    """The three steps by each way over each link, in turns; one sample a step."""
    from edgepack.remote.virtual import up

    links: dict[str, dict[str, float]] = {"loopback": {}}
    if options.mbit:
        links[f"{options.mbit:g} Mbit/s"] = {"mbit": options.mbit, "delay_ms": options.rtt_ms / 2}
    ways = [WAYS[name] for name in options.ways if WAYS[name].missing() is None]
    order = random.Random(0)  # noqa: S311 - an order of turns, no secret
    with up("host", owned=True) as board:
        for name, settings in links.items():
            with Link(board.device.port, **settings) as link:
                device = board.device.model_copy(update={"port": link.port})
                for repetition in range(options.limited_repeat if settings else options.repeat):
                    for way in order.sample(ways, len(ways)):
                        folder = (
                            Path(board.device.work_dir)
                            / f"benchmark-{repetition}-{way.name.replace(' ', '')}"
                        )
                        place = Place(device, folder, scratch)
                        try:
                            for sample in steps(way, place, link, first, second):
                                yield {"link": name, "repetition": repetition, **sample}
                        finally:
                            shutil.rmtree(folder, ignore_errors=True)


def steps(way: Way, place: Place, link: Link, first: Version, second: Version) -> Iterator[dict[str, Any]]:
    """First deploy, redeploy, rollback by one way; it ends at the first that fails."""
    way.prepare(place)
    todo = ((way.deploy, first), (way.deploy, second), (way.back, first))
    for step, (act, version) in zip(STEPS, todo, strict=True):
        link.count()
        try:
            done = act(place, version)
            sample = {"seconds": done.seconds, **link.count(), "said": done.said}
            check(way, place, version)
        except Failed as failure:
            sample = {"error": str(failure)}
        print(f"{way.name:10} {step:9} {json.dumps(sample)}", file=sys.stderr, flush=True)
        yield {"way": way.name, "step": step, **sample}
        if "error" in sample:
            return


if __name__ == "__main__":
    main()

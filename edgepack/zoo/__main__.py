"""``python -m edgepack.zoo NET OUT.onnx`` exports a network of the zoo to ONNX; without arguments it lists them."""

import argparse
import sys
from pathlib import Path

from edgepack.errors import EdgepackError, UsageError
from edgepack.zoo import NETS, Net


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    listing = "\n".join(
        f"  {net.name:20} {net.title}: {net.parameters:,} parameters, {net.macs / 1e6:,.1f} million MACs"
        for net in NETS.values()
    )
    parser = argparse.ArgumentParser(
        prog="python -m edgepack.zoo",
        description="Export a network with random weights to ONNX.",
        epilog=f"networks:\n{listing}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("net", choices=NETS, metavar="NET", help="one of the networks below")
    parser.add_argument("out", type=Path, metavar="OUT.onnx")
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights")
    options = parser.parse_args(arguments)
    try:
        _write(NETS[options.net], options.out, options.seed)
    except EdgepackError as error:
        sys.stderr.write(f"{error.render()}\n")
        return error.exit_code
    return 0


def _write(net: Net, out: Path, seed: int) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)  # fails before the work, not after
        net.export(out, seed)
    except OSError as error:
        raise UsageError(
            "cannot write the model", where=str(out), why=error.strerror, next="choose another path"
        ) from error


if __name__ == "__main__":
    sys.exit(main())

"""Size against accuracy of the methods that store weights as codes, on handwritten digits.

    python -m benchmarks.codes [--only METHOD] [--seeds 1]

Trains the digits network once, applies each method with several settings, fine-tunes, and prints a table in Markdown: bytes
of all constants of the exported .onnx file, the same with codes at their entropy (which a coder of single symbols reaches),
and the accuracy on the test split, as mean and range over the seeds.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgepack.compression import Context, TorchMethod
from edgepack.compression.registry import METHODS
from edgepack.export import to_onnx
from edgepack.onnxfile.counting import count
from edgepack.spec import Input, Train
from edgepack.torchnet.encodable import forms, packed_bytes
from edgepack.torchnet.training import accuracy, train
from edgepack.zoo import digits

INPUTS = (Input(name="image", shape=(1, 1, 8, 8)),)
TRAINED = Train(epochs=6, lr=2e-3)
SETTINGS: Mapping[str, tuple[Train, Sequence[Mapping[str, Any]]]] = {
    "cluster": (Train(epochs=6, lr=1e-3), [{"clusters": n} for n in (256, 16, 8, 4, 2)]),
    "product-quantize": (
        Train(epochs=8, lr=1e-3),
        [
            {"entries": 256, "size": 4},
            {"entries": 256, "size": 8},
            {"entries": 64, "size": 8},
            {"entries": 16, "size": 8},
            {"entries": 16, "size": 16},
        ],
    ),
    "hash-weights": (Train(epochs=20, lr=4e-3), [{"ratio": r} for r in (0.5, 0.25, 0.125, 0.0625, 0.03125)]),
    "pulse-quantize": (
        Train(epochs=6, lr=1e-3),
        [
            {"size": 64, "pulses": 2.0},
            {"size": 64, "pulses": 1.0},
            {"size": 64, "pulses": 0.5},
            {"size": 64, "pulses": 0.25},
            {"size": 64, "pulses": 0.125},
        ],
    ),
}


def main(arguments: Sequence[str]) -> None:
    """Print one table per method."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.codes")
    parser.add_argument("--only", choices=SETTINGS)
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args(arguments)
    data, network = digits.splits(), digits.network()
    train(network, data, TRAINED)
    with tempfile.TemporaryDirectory() as folder:
        size = _bytes(network, Path(folder))
        print(f"before: {size} bytes, {accuracy(network, data.x_test, data.y_test):.2%}")
        for name in [options.only] if options.only else SETTINGS:
            fine_tune, settings = SETTINGS[name]
            print(
                f"\n| {name} | bytes | smaller | coded | smaller | accuracy | range |\n|---|---|---|---|---|---|---|"
            )
            for setting in settings:
                scores, after, coded = [], 0, 0
                for seed in range(options.seeds):
                    module = _encoded(network, name, {**setting, "seed": seed}, fine_tune, data)
                    scores.append(accuracy(module, data.x_test, data.y_test))
                    if not after:
                        after = _bytes(module, Path(folder))
                        coded = after - saved_by_coding(module)
                shown = ", ".join(f"`{key}: {value}`" for key, value in setting.items())
                mean = sum(scores) / len(scores)
                spread = f"{min(scores):.2%} to {max(scores):.2%}"
                sizes = f"{after} | {size / after:.1f} x | {coded} | {size / coded:.1f} x"
                print(f"| {shown} | {sizes} | {mean:.2%} | {spread} |", flush=True)


def saved_by_coding(module: Any) -> int:
    """Return the bytes by which codes and pulses at their entropy are smaller than packed ones."""
    saved = 0.0
    for stored in forms(module).values():
        codes = getattr(stored[0], "codes", getattr(stored[0], "pulses", None))
        if codes is not None:
            _, counts = np.unique(codes.numpy(), return_counts=True)
            entropy = float(-(counts / counts.sum() * np.log2(counts / counts.sum())).sum())
            levels = int(codes.max()) - int(codes.min()) + 1
            saved += packed_bytes(codes.numel(), max(levels, 2)) - entropy * codes.numel() / 8
    return int(saved)


def _encoded(network: Any, name: str, setting: Mapping[str, Any], fine_tune: Train, data: Any) -> Any:
    method = METHODS[name]
    if not isinstance(method, TorchMethod):
        raise TypeError(name)
    trained = fine_tune.model_copy(update={"seed": setting["seed"]})
    step = method.spec.model_validate({"method": name, **setting, "fine_tune": trained})
    return method.apply(network, step, Context(INPUTS, data)).module


def _bytes(module: Any, folder: Path) -> int:
    return sum(count(to_onnx(module, INPUTS, folder / "model.onnx")).encodings.values())


if __name__ == "__main__":
    main(sys.argv[1:])

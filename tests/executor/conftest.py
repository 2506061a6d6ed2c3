"""A compiled model, its object files, and programs that are linked with them."""

import shutil
from pathlib import Path

import onnx
import pytest
from executor_kit import HERE, RUNTIME, compile_with_clang, network

from edgepack.config.target import load_target
from edgepack.lower import compile_model
from edgepack.lower.emit import library


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """A folder with a model for x86-64-v3: ``small.onnx``, ``small.so``, its weights, and its own objects in ``objects``."""
    folder = tmp_path_factory.mktemp("executor")
    (folder / "objects").mkdir()
    onnx.save(network(), folder / "small.onnx")
    link = library.link

    def keep(parts, *others):
        for part in parts:
            if Path(part).name.startswith(("kernels", "model")):
                shutil.copy(part, folder / "objects")
        link(parts, *others)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library, "link", keep)
        compiled = compile_model(folder / "small.onnx", load_target("x86-64-v3"), folder / "small.so")
    assert compiled.executor == "aot"
    assert ("int8", "load") in {(each.encoding, each.decoded) for each in compiled.constants}
    return folder


@pytest.fixture(scope="session")
def driver(small):
    """Builds the driver with a kind of sanitizer, once."""
    built = {}

    def build(kind):
        if kind not in built:
            sources = [
                HERE / "driver.c",
                HERE / "made.c",
                *RUNTIME,
                *sorted((small / "objects").glob("*.o")),
            ]
            built[kind] = compile_with_clang(small / f"driver-{kind}", sources, kind)
        return built[kind]

    return build


@pytest.fixture(scope="session")
def weights(small):
    return small / "small.so.weights"

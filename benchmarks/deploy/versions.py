"""Two releases of a net that differ in one layer's weights, as bundles and as folders."""

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from benchmarks.kit.processes import ProcessFailed, run
from edgepack.base.files import sha256_file
from edgepack.bundle.archive import extract
from edgepack.errors import EdgepackError, UsageError

NAME = "redeploy"
_RECIPE = """\
edgepack: 1
name: {name}
version: {version}
model: {{onnx: {onnx}}}
targets: [{{target: host}}]
"""


@dataclass(frozen=True)
class Version:
    """A release: its bundle, and the same files as a folder, for tools that copy folders."""

    bundle: Path
    folder: Path
    files: dict[str, str]  # path inside the folder: sha256

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum((self.folder / path).stat().st_size for path in self.files)


def digests(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): sha256_file(path) for path in files}


def change_layer(model: Path, out: Path) -> tuple[str, int]:
    """Write the model with one weight tensor negated; returns the tensor's name and bytes.

    The tensor is the median, by size, of the fp32 tensors with at least two axes.
    """
    loaded = onnx.load(model)
    weights = [
        tensor
        for tensor in loaded.graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) > 1
    ]
    if not weights:
        raise UsageError(f"{model} has no fp32 weights with at least two axes, so no layer can be changed")
    weights.sort(key=lambda tensor: (np.prod(tensor.dims), tensor.name))
    chosen = weights[len(weights) // 2]
    values = onnx.numpy_helper.to_array(chosen)
    chosen.CopyFrom(onnx.numpy_helper.from_array(-values, chosen.name))
    onnx.save(loaded, out)
    return chosen.name, values.nbytes


def make(model: Path, scratch: Path) -> tuple[Version, Version, dict[str, Any]]:
    """Build both releases for this machine, as ``edgepack package`` does, untuned; also return their difference."""
    changed = scratch / "changed.onnx"
    tensor, size = change_layer(model, changed)
    first = _build(model.resolve(), "1.0.0", scratch)
    second = _build(changed, "1.1.0", scratch)
    return first, second, {"tensor": tensor, "bytes": size, "files": settle(first, second)}


def settle(first: Version, second: Version) -> tuple[str, ...]:
    """Set equal time stamps on unchanged files, later ones on the others, and return the others.

    rsync skips files of equal size and time; this is a folder in which a build changed only what it
    had to, the best case for rsync.
    """
    others = []
    for path in second.files:
        old, new = first.folder / path, second.folder / path
        if first.files.get(path) == second.files[path]:
            shutil.copystat(old, new)
        else:
            os.utime(new, (old.stat().st_mtime + 60,) * 2 if old.exists() else None)
            others.append(path)
    return tuple(others)


def unpack(bundle: Path, folder: Path) -> Version:
    """Unpack the bundle's files, verified."""
    extract(bundle, folder)
    return Version(bundle, folder, digests(folder))


def _build(model: Path, version: str, scratch: Path) -> Version:
    recipe = scratch / f"{version}.yaml"
    recipe.write_text(_RECIPE.format(name=NAME, version=version, onnx=model))
    out = scratch / f"bundle-{version}"
    try:
        run([sys.executable, "-m", "edgepack", "package", recipe, "--out", out])
    except ProcessFailed as error:
        raise EdgepackError(f"edgepack package of version {version} {error.how}", why=error.said) from error
    return unpack(next(out.glob("*.edgepack")), scratch / version)

"""Small bundles for the tests of deploying: real archives, with a shell script in place of the agent.

The script answers ``run`` as the agent does. What it answers is up to each bundle, so that a release that
crashes or computes nonsense can be made at will; the real agent has its own tests.
"""

import io
import platform
from pathlib import Path

import numpy as np

from edgepack.bundle import archive
from edgepack.bundle.manifest import Contents

_AGENT = """#!/bin/sh
while [ $# -gt 0 ]; do
  case $1 in --output-dir) out=$2;; esac
  shift
done
cd "$(dirname "$0")/.." || exit 1
BODY
"""
WORKS = 'cp sample/output-0.npy "$out/output-0.npy"'
CRASHES = "echo 'cannot load model/model.so' >&2; kill -SEGV $$"
COMPUTES_NONSENSE = 'cp sample/input-0.npy "$out/output-0.npy"'

EXPECTED = np.array([[0.1, 0.2, 0.3, 0.4]], dtype=np.float32)


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def make(
    folder: Path,
    *,
    version: str = "1.0.0",
    body: str = WORKS,
    model: bytes = b"\x00model" * 20_000,
    library: bytes = b"\x00library" * 30_000,
    candidate: str = "release",
    arch: str | None = None,
    libc: str = "2.17",
    features: tuple[str, ...] = (),
    gpu: bool = False,
    name: str = "digits",
    expected: np.ndarray = EXPECTED,
    changes: dict[str, bytes] | None = None,
) -> Path:
    """Pack a bundle, by default for this machine."""
    target = {
        "name": "jetson-orin" if gpu else "host",
        "abi": {"arch": arch or platform.machine(), "libc": libc},
        "device_kind": "cuda" if gpu else "cpu",
        "tvm": {"kind": "llvm"},
        "cpu_features": features,
    }
    if gpu:
        target["gpu"] = {"name": "Ampere", "arch": "sm_87", "cuda": "13.0", "jetpack": "7.2"}
    contents = Contents.model_validate(
        {
            "name": name,
            "version": version,
            "candidate": candidate,
            "agent_protocol": 1,
            "recipe": {"digest": "0" * 64, "content": {}},
            "target": target,
            "inputs": ({"name": "x", "shape": (1, 4), "dtype": "float32"},),
            "outputs": ({"name": "y", "shape": (1, 4), "dtype": "float32"},),
        }
    )
    files = {
        "bin/edgepack-agent": _AGENT.replace("BODY", body).encode(),
        "lib/libtvm_runtime.so": library,
        "model/model.so": model,
        "sample/input-0.npy": npy(np.full((1, 4), 7, dtype=np.float32)),
        "sample/output-0.npy": npy(expected),
    }
    return archive.pack(folder / f"{version}-{candidate}.edgepack", contents, files | (changes or {}))

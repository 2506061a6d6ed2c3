"""Tuning and its records on the emulated GPU: the tuned release answers as onnxruntime does."""

import pytest
from command_line import lacking

from edgepack.toolchain import cuda, nvrtc

RECIPE = """\
edgepack: 1
name: digits
model:
  source: edgepack.zoo.digits:network
  inputs:
    - {name: image, shape: [1, 1, 8, 8]}
data:
  source: edgepack.zoo.digits:splits
tune: {trials: 8}
targets:
  - {target: host-gpu, device: virtual:host-gpu}
"""


@pytest.mark.slow
def test_a_tuned_release_is_as_exact_as_an_untuned_one(module_cli):
    lacking("sshd")
    if not (cuda.nvcc() or nvrtc.library()):
        lacking("a CUDA compiler: pip install 'edgepack[cuda]'")
    module_cli.write("recipe.yaml", RECIPE)
    done = module_cli("run", "recipe.yaml", "--json")
    assert done.code == 0, done.err
    (tuning,) = done.json["tuning"]
    assert tuning["emulated"]
    assert tuning["trials"] == 8
    (row,) = done.json["rows"]
    assert row["parity"] < 1e-5
    assert row["measurement"]["emulated"]

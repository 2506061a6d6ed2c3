"""The paths inside a bundle, and thus inside a release on a board.

The examples in a bundle are stand-alone programs that repeat these paths; a test compares them.
"""

from pathlib import PurePosixPath

from edgepack.spec.runtime import WEIGHTS_SUFFIX

MANIFEST = "manifest.json"
AGENT = "bin/edgepack-agent"
KERNELS = "kernels.json"
"""The list of the model's kernels, ``edgepack.spec.kernels.KernelList``."""

_MODEL, _PROGRAMS, _LIBRARIES, _EXAMPLES, _SAMPLE = "model", "bin", "lib", "examples", "sample"
_HEADERS = "include"


def model(name: str) -> str:
    """The path of the compiled model, whose file name is given by its executor."""
    return f"{_MODEL}/{name}"


def weights(name: str) -> str:
    """The path of the weights file of the compiled model with this file name."""
    return model(name + WEIGHTS_SUFFIX)


def library(name: str) -> str:
    """The path of a runtime library."""
    return f"{_LIBRARIES}/{name}"


def example(name: str) -> str:
    """The path of an example program."""
    return f"{_EXAMPLES}/{name}"


def header(name: str) -> str:
    """The path of a C header for applications."""
    return f"{_HEADERS}/{name}"


def sample_input(index: int) -> str:
    """The path of the test sample's array for one of the model's inputs, counted from 0."""
    return f"{_SAMPLE}/input-{index}.npy"


def sample_output(index: int) -> str:
    """The path of the expected output for the sample, from onnxruntime; outputs are counted from 0."""
    return f"{_SAMPLE}/output-{index}.npy"


def is_model(path: str) -> bool:
    """Whether this path is that of the compiled model."""
    return PurePosixPath(path).parts[0] == _MODEL


def is_program(path: str) -> bool:
    """Whether the file at this path is executable."""
    return PurePosixPath(path).parts[0] == _PROGRAMS

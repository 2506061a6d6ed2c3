"""Where things lie inside a bundle, and so in a release on a board: the only place that knows.

The examples that travel in a bundle are programs of their own and spell these paths out; a test compares them.
"""

from pathlib import PurePosixPath

MANIFEST = "manifest.json"
AGENT = "bin/edgepack-agent"

_MODEL, _PROGRAMS, _LIBRARIES, _EXAMPLES, _SAMPLE = "model", "bin", "lib", "examples", "sample"


def model(name: str) -> str:
    """The path of the compiled model, whose file name is its executor's."""
    return f"{_MODEL}/{name}"


def library(name: str) -> str:
    """The path of a runtime library."""
    return f"{_LIBRARIES}/{name}"


def example(name: str) -> str:
    """The path of an example for people who write an application."""
    return f"{_EXAMPLES}/{name}"


def sample_input(index: int) -> str:
    """The path of the test sample's array for one of the model's inputs, counted from 0."""
    return f"{_SAMPLE}/input-{index}.npy"


def sample_output(index: int) -> str:
    """The path of what onnxruntime makes of the sample, for one of the model's outputs, counted from 0."""
    return f"{_SAMPLE}/output-{index}.npy"


def is_model(path: str) -> bool:
    """Whether the file of this path is the compiled model."""
    return PurePosixPath(path).parts[0] == _MODEL


def is_program(path: str) -> bool:
    """Whether the file of this path is executable."""
    return PurePosixPath(path).parts[0] == _PROGRAMS

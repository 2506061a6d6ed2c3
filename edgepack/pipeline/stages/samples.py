"""The recipe's samples, as the stages load them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.compression import Method, Step
from edgepack.errors import InputError
from edgepack.spec import Data, Input

if TYPE_CHECKING:
    import numpy as np

    from edgepack.data import Splits


def samples(data: Data | None, base: Path) -> "Splits | None":
    """The recipe's samples. Their sources are part of the cache key, so the arrays are not stored."""
    from edgepack.data import load_data

    return None if data is None else load_data(data, base)


def samples_for(method: Method[Any], step: Step, file: str | None) -> str | None:
    """The recipe's file of inputs without labels, if the step needs samples: they are in the key of no other step."""
    return file if any(need.kind == "samples" for need in method.needs(step)) else None


def unlabelled(file: str | None, inputs: Sequence[Input], base: Path) -> "dict[str, np.ndarray] | None":
    """The recipe's inputs without labels, by name, each ``[N, *shape]``; None if it has none."""
    from edgepack.data.inputs_file import load_inputs

    return None if file is None else load_inputs(base / file, inputs)


def required_samples(data: Data | None, base: Path) -> "Splits":
    """The recipe's samples.

    Raises:
        InputError: it has none.
    """
    found = samples(data, base)
    if found is None:
        raise InputError(
            "this step needs data, but the recipe has none", next="add a data block to the recipe"
        )
    return found

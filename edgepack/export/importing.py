"""Import an .onnx file and verify that it still computes the same.

Constant folding and fusion come from another library, and some of its rules change a model's values or break a valid
file. Therefore the imported file and the original are run on made-up inputs. If they differ, the import is repeated
with less simplification; if they still differ, the error names the first tensor that does.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.base.temporary import temporary_folder
from edgepack.errors import EdgepackError, ImportDiffersError
from edgepack.export.comparing import require_same
from edgepack.onnxfile import canonicalise, save_onnx
from edgepack.onnxfile.checking import refusing
from edgepack.onnxfile.contrib import has_own_rounding
from edgepack.onnxfile.importing import SIMPLIFICATIONS, import_onnx, keep_model, model_inputs
from edgepack.onnxfile.integer_weights import fold_model_norms
from edgepack.spec import Input

if TYPE_CHECKING:
    import onnx

    from edgepack.onnxfile.checking import refusing
from edgepack.onnxfile.importing import Simplify

# onnxruntime's quantized operators (QLinearSoftmax and others) may round the last digit up or down, and each digit is
# 1/255 of an activation's range. The bound detects a wrong scale or axis; each operator's replacement is tested to a
# digit in tests/onnxfile/test_contrib.py. What follows the replacement is compared as usual.
_OWN_ROUNDING = 0.25


def import_checked(path: Path, inputs: Sequence[Input], out: Path) -> tuple[Input, ...]:
    """Import ``path`` to canonical ``out``, and compare the two on made-up inputs.

    ``inputs`` may be empty if the model's own shapes are static. Returns the model's inputs.

    Raises:
        InputError: as :func:`edgepack.onnxfile.importing.import_onnx`; if onnxruntime cannot run the file.
        ImportDiffersError: the outputs differ even without simplification; names the first tensor that differs.
    """
    import onnx

    def make(simplify: "Simplify") -> tuple[Input, ...]:
        return import_onnx(path, inputs, out, simplify)

    with refusing("the file is not an ONNX model", str(path)):
        own_rounding = has_own_rounding(onnx.load_model(path, load_external_data=False))
    if not own_rounding:
        return _first_equal(path, out, make)
    plain = out.with_name(f"{out.stem}-plain.onnx")
    try:
        require_same(path, plain, import_onnx(path, inputs, plain, keep_model), tolerance=_OWN_ROUNDING)
        return _first_equal(plain, out, make)
    except ImportDiffersError as error:
        error.where = str(path)
        raise
    finally:
        plain.unlink(missing_ok=True)


def simplify_checked(model: "onnx.ModelProto", where: str, then: "Simplify") -> "onnx.ModelProto":
    """Return a canonical model, simplified as far as that does not change what it computes; its shapes are static.

    ``then`` is applied after each simplification; ``where`` names the model in errors.

    Raises:
        InputError: the model is inconsistent, or onnxruntime cannot run it.
    """
    import onnx

    inputs = model_inputs(model)
    with temporary_folder(prefix="edgepack-simplify-") as folder:
        before, after = Path(folder, "before.onnx"), Path(folder, "after.onnx")
        save_onnx(model, before)

        def make(simplify: "Simplify") -> tuple[Input, ...]:
            save_onnx(canonicalise(then(simplify(model, where), where)), after)
            return inputs

        _first_equal(before, after, make)
        return onnx.load_model(after)


def fold_norms_checked(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """Return a canonical model with normalisations folded into the scales of integer weights, where that is possible.

    A factor in the scales instead of after the sum may round an activation to the next step, so the comparison allows as
    much as for quantized operators.

    Raises:
        ImportDiffersError: the model computes something else then.
    """
    import onnx

    folded = fold_model_norms(model)
    if folded is model:
        return model
    with temporary_folder(prefix="edgepack-norms-") as folder:
        before, after = Path(folder, "before.onnx"), Path(folder, "after.onnx")
        save_onnx(model, before)
        save_onnx(canonicalise(folded), after)
        require_same(before, after, model_inputs(model), tolerance=_OWN_ROUNDING)
        return onnx.load_model(after)


def _first_equal(
    original: Path, out: Path, make: "Callable[[Simplify], tuple[Input, ...]]"
) -> tuple[Input, ...]:
    """Write ``out`` with the first simplification with which it computes the same as the original.

    One whose comparison tells nothing is not used: the last does no more than the conversion's own rules.
    """
    errors: list[EdgepackError] = []
    for simplify in SIMPLIFICATIONS:
        try:
            inputs = make(simplify)
            if require_same(original, out, inputs) or simplify is keep_model:
                return inputs
        except EdgepackError as error:
            errors.append(error)
    out.unlink(missing_ok=True)
    differing = [error for error in errors if isinstance(error, ImportDiffersError)]
    raise differing[-1] if differing else errors[0]

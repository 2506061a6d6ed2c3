"""``edgepack init``: writes a commented recipe for a model.

It passes ``edgepack check`` without changes, unless the model leaves sizes open: these are to be filled in.
"""

import json
import os
import re
from pathlib import Path
from typing import Any

from edgepack.base.filekind import use_of, wrong_kind
from edgepack.config.device import VIRTUAL_KINDS, VIRTUAL_PREFIX
from edgepack.config.reference import reference_problem
from edgepack.config.rows import misfit
from edgepack.config.target import Target, load_target
from edgepack.errors import InputError, UsageError

_TEMPLATE = """\
# yaml-language-server: $schema=recipe.schema.json
# (for validation and completion in your editor, run: edgepack schema recipe > recipe.schema.json)
#
#   edgepack check {file}     reports all problems at once
#   edgepack run {file}       builds, deploys, benchmarks and reports
#
# Paths are relative to this file. docs/recipe.md documents all keys. Commented-out keys are optional.

edgepack: 1
name: {name}
version: 0.1.0

model:
{model}
# Labelled samples for training, calibration and accuracy; use exactly one of these sources.
# data:
#   source: my_data:splits        # module:callable returning edgepack.data.Splits
#   npz: data.npz                 # x_train, y_train, x_test, y_test
#   images: {{folder: images}}      # one subfolder per class
#   csv: {{file: texts.csv}}        # columns text and label

# Instead of data, inputs without labels: an .npz file with one array per input, by its name.
# samples: inputs.npz

# Compression steps, applied in this order. They need data; quantize-static takes samples, too.
# compress:
{compress}
tune:
  trials: {trials}                     # candidates to measure per target; 0: no tuning
#   minutes: 30                   # stop after this time, even if trials are left

bench:
  runs: 100
  warmup: 10
  threads: 1

# Requirements for the release. A failed gate exits with code 3. Most gates need a device.
{gates}#   accuracy_min: 0.8             # on the board; needs data
#   accuracy_drop: 0.02           # below torch fp32; needs data
#   p90_ms: 20
#   bundle_kib: 16384

# Run `edgepack targets` for a list. A device is a name from your devices.yaml, or a virtual board, which
# needs no hardware. Without a device, the run stops after building the bundle.
targets:
{targets}"""

_TORCH_STEP = """\
#   - method: prune-channels
#     ratio: 0.3
#     fine_tune: {epochs: 10}
"""
_ONNX_STEP = """\
#   - method: quantize-static
#     samples: 256
"""
_PARITY = """\
gates:
  parity: 0.001                   # largest relative difference between board and onnxruntime
"""
_TRIALS = 256


def init(out: Path, *, model: str, targets: tuple[str, ...] = (), force: bool = False) -> Path:
    """Write a recipe for ``model``: an .onnx file (relative to the working directory) or module:callable.

    Without ``targets``, the recipe builds for this machine. Returns ``out``.

    Raises:
        InputError: the model does not exist or cannot be read.
        UsageError: ``out`` exists and ``force`` is not set, ``out`` cannot be written, or a target is unknown.
    """
    loaded = [load_target(name) for name in dict.fromkeys(targets or ("host",))]
    block, name, is_torch = _format_model(model, out.parent)
    boards = [_choose_virtual_board(target) for target in loaded]
    text = _TEMPLATE.format(
        file=out.name,
        name=name,
        model=block,
        compress=(_TORCH_STEP if is_torch else "") + _ONNX_STEP,
        trials=_TRIALS,
        gates=_PARITY if any(boards) else _comment_out(_PARITY),
        targets="".join(_format_target(target, board) for target, board in zip(loaded, boards, strict=True)),
    )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with out.open("w" if force else "x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError as error:
        raise UsageError(
            f"{out} already exists",
            state="it was not changed",
            next="choose another name with --out, or overwrite it with --force",
        ) from error
    except OSError as error:
        raise UsageError(f"cannot write {out}", why=error.strerror) from error
    return out


def _format_model(model: str, base: Path) -> tuple[str, str, bool]:
    """Return the lines of the model block, a name for the recipe, and whether the model is a torch module."""
    if model.endswith(".onnx") or use_of(Path(model)) == "model":
        return _format_onnx_model(Path(model), base), _slugify(Path(model).stem), False
    if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", model):
        why, step = wrong_kind(Path(model), "model") or (None, None)
        raise InputError(
            f"{model} is neither an .onnx file nor module:callable",
            why=why,
            next=step or "edgepack init model.onnx, or edgepack init my_module:my_model",
        )
    problem = reference_problem(model, base)
    if problem is not None:
        raise InputError(
            problem, next=f"put the module into {base.resolve()}, next to the recipe, or install it"
        )
    lines = [
        f"  source: {model}",
        "  # weights: model.safetensors    # or a weights-only .pt file",
        "  # train: {epochs: 10}           # instead of weights; needs data",
        "  inputs:",
        "    - name: input",
        "      shape: [1, 3, 224, 224]     # including the batch; set your model's input shape",
    ]
    return "\n".join(lines) + "\n", _slugify(model.replace(":", "-").replace(".", "-")), True


def _format_onnx_model(path: Path, base: Path) -> str:
    from edgepack.onnxfile import load_onnx

    graph = load_onnx(path).graph
    stored = {tensor.name for tensor in graph.initializer}
    inputs = [_format_input(value) for value in graph.input if value.name not in stored]
    lines = [f"  onnx: {_format_scalar(os.path.relpath(path, base))}"]
    if any(dynamic for _, dynamic in inputs):
        lines.append("  inputs:                         # fixes the dimensions that the model leaves open")
        lines += [line for input_lines, _ in inputs for line in input_lines]
    return "\n".join(lines) + "\n"


def _format_input(value: Any) -> tuple[list[str], list[str]]:
    """Return the lines of one input, and the names of the dimensions that the model leaves open."""
    from onnx import helper

    tensor = value.type.tensor_type
    dims = [dim.dim_value if dim.dim_value > 0 else dim.dim_param or "?" for dim in tensor.shape.dim]
    if not tensor.HasField("shape"):
        dims = ["?"]
    shape = ", ".join(str(dim) if isinstance(dim, int) else _format_scalar(dim) for dim in dims)
    dynamic = [str(dim) for dim in dims if not isinstance(dim, int)]
    line = f"      shape: [{shape}]"
    if dynamic:
        line = f"{line:<34}# write the sizes of {', '.join(dynamic)}"
    lines = [f"    - name: {_format_scalar(value.name)}", line]
    dtype = str(helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    return lines + ([f"      dtype: {dtype}"] if dtype != "float32" else []), dynamic


def _choose_virtual_board(target: Target) -> str | None:
    """Return the kind of virtual board to use for a target: preferably this machine, else the target's own kind."""
    kinds = ("host", target.name, *VIRTUAL_KINDS)
    return next((kind for kind in kinds if kind in VIRTUAL_KINDS and _fits(kind, target)), None)


def _format_target(target: Target, board: str | None) -> str:
    """Return the lines of one target; without a virtual board, the device is commented out."""
    if board is None:
        return f"  - target: {target.name}\n" + _comment_out(
            "    device: my-board              # a name from devices.yaml\n"
        )
    return f"  - target: {target.name}\n    device: {VIRTUAL_PREFIX}{board}\n"


def _fits(kind: str, target: Target) -> bool:
    return misfit(kind, load_target(kind), target) is None


def _comment_out(lines: str) -> str:
    return "".join(f"# {line}" for line in lines.splitlines(keepends=True))


def _format_scalar(text: str) -> str:
    """Return ``text`` as a YAML scalar, quoted if necessary."""
    plain = re.fullmatch(r"[A-Za-z_./][\w./+-]*", text) and text.lower() not in ("true", "false", "null")
    return text if plain else json.dumps(text)


def _slugify(text: str) -> str:
    return re.sub(r"[^a-z0-9_-]+", "-", text.lower()).strip("-_") or "model"

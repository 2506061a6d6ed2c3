"""``edgepack init``: a commented recipe for a user's own model, which passes ``edgepack check`` as it stands."""

import json
import os
import re
from pathlib import Path
from typing import Any

from edgepack.config.device import VIRTUAL_KINDS, VIRTUAL_PREFIX
from edgepack.config.reference import reference_problem
from edgepack.config.rows import misfit
from edgepack.config.target import Target, load_target
from edgepack.errors import InputError, UsageError

_TEMPLATE = """\
# yaml-language-server: $schema=recipe.schema.json
# (your editor checks this file once you have run: edgepack schema recipe > recipe.schema.json)
#
#   edgepack check {file}     reports every mistake at once
#   edgepack run {file}       builds, deploys, measures and reports
#
# Paths are relative to this file. docs/recipe.md explains every key; what is commented out is optional.

edgepack: 1
name: {name}
version: 0.1.0

model:
{model}
# Labelled samples, for training, calibration and accuracy: exactly one of these sources.
# data:
#   source: my_data:splits        # module:callable returning edgepack.data.Splits
#   npz: data.npz                 # x_train, y_train, x_test, y_test
#   images: {{folder: images}}      # one sub-folder a class
#   csv: {{file: texts.csv}}        # columns text and label

# Compression, in this order; each step needs data.
# compress:
{compress}
tune:
  trials: {trials}                     # measured candidates for each target; 0 builds untuned
#   minutes: 30                   # stop after this long, with trials left or not

bench:
  runs: 100
  warmup: 10
  threads: 1

# What a release must meet; a failed gate exits with 3. Most are measured on a device.
{gates}#   accuracy_drop: 0.01           # below torch fp32; needs data
#   p90_ms: 20
#   bundle_kib: 16384

# edgepack targets lists what there is. A device is a name of your devices.yaml, or a virtual board,
# which needs no hardware; without one the run stops at the bundle.
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
  parity: 0.001                   # board against onnxruntime, largest relative difference
"""
_TRIALS = 256


def init(out: Path, *, model: str, targets: tuple[str, ...] = (), force: bool = False) -> Path:
    """Write a recipe for ``model``: an .onnx file (relative to the working directory) or module:callable.

    Without ``targets`` it builds for this machine. Returns ``out``.

    Raises:
        InputError: there is no such model, or it cannot be read.
        UsageError: ``out`` exists and ``force`` is not given, or cannot be written; or an unknown target.
    """
    rows = [load_target(name) for name in dict.fromkeys(targets or ("host",))]
    block, name, is_torch = _model(model, out.parent)
    boards = [_stand_in(target) for target in rows]
    text = _TEMPLATE.format(
        file=out.name,
        name=name,
        model=block,
        compress=(_TORCH_STEP if is_torch else "") + _ONNX_STEP,
        trials=_TRIALS,
        gates=_PARITY if any(boards) else _commented(_PARITY),
        targets="".join(_row(target, board) for target, board in zip(rows, boards, strict=True)),
    )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with out.open("w" if force else "x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError as error:
        raise UsageError(
            f"{out} exists already",
            state="it was not changed",
            next="choose another name with --out, or --force",
        ) from error
    except OSError as error:
        raise UsageError(f"cannot write {out}", why=error.strerror) from error
    return out


def _model(model: str, base: Path) -> tuple[str, str, bool]:
    """The lines of the model block, a name for the recipe, and whether the model is a torch one."""
    if model.endswith(".onnx"):
        return _onnx_block(Path(model), base), _slug(Path(model).stem), False
    if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", model):
        raise InputError(
            f"{model} is neither an .onnx file nor module:callable",
            next="edgepack init model.onnx, or edgepack init my_module:my_model",
        )
    mistake = reference_problem(model, base)
    if mistake is not None:
        raise InputError(
            mistake, next=f"put the module into {base.resolve()}, next to the recipe, or install it"
        )
    lines = [
        f"  source: {model}",
        "  # weights: model.safetensors    # or a weights-only .pt",
        "  # train: {epochs: 10}           # instead of weights; needs data",
        "  inputs:",
        "    - name: input",
        "      shape: [1, 3, 224, 224]     # batch included: what your model takes",
    ]
    return "\n".join(lines) + "\n", _slug(model.replace(":", "-").replace(".", "-")), True


def _onnx_block(path: Path, base: Path) -> str:
    from edgepack.onnxfile import load_onnx

    graph = load_onnx(path).graph
    stored = {tensor.name for tensor in graph.initializer}
    inputs = [_input_lines(value) for value in graph.input if value.name not in stored]
    lines = [f"  onnx: {_scalar(os.path.relpath(path, base))}"]
    if any(dynamic for _, dynamic in inputs):
        lines.append("  inputs:                         # the model leaves sizes open; here they are fixed")
        lines += [line for own, _ in inputs for line in own]
    return "\n".join(lines) + "\n"


def _input_lines(value: Any) -> tuple[list[str], list[str]]:
    """The lines of one input, and the names of the dimensions the model leaves open, the batch apart."""
    from onnx import helper

    tensor = value.type.tensor_type
    dims = [dim.dim_value or dim.dim_param or "?" for dim in tensor.shape.dim]
    shape = ", ".join(str(dim) if isinstance(dim, int) else "1" for dim in dims)
    dynamic = [str(dim) for dim in dims if not isinstance(dim, int)]
    line = f"      shape: [{shape}]"
    if dynamic:
        line = f"{line:<34}# open: {', '.join(dynamic)}; put what you deploy with"
    lines = [f"    - name: {_scalar(value.name)}", line]
    dtype = str(helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    return lines + ([f"      dtype: {dtype}"] if dtype != "float32" else []), dynamic


def _stand_in(target: Target) -> str | None:
    """The kind of virtual board that can stand for the target: this machine at full speed, or the target's own."""
    kinds = ("host", target.name, *VIRTUAL_KINDS)
    return next((kind for kind in kinds if kind in VIRTUAL_KINDS and _fits(kind, target)), None)


def _row(target: Target, board: str | None) -> str:
    """One row of targets, on a virtual board where there is one."""
    if board is None:
        return f"  - target: {target.name}\n" + _commented(
            "    device: my-board              # a name of devices.yaml\n"
        )
    return f"  - target: {target.name}\n    device: {VIRTUAL_PREFIX}{board}\n"


def _fits(kind: str, target: Target) -> bool:
    return misfit(kind, load_target(kind), target) is None


def _commented(lines: str) -> str:
    return "".join(f"# {line}" for line in lines.splitlines(keepends=True))


def _scalar(text: str) -> str:
    """``text`` as a YAML scalar, quoted where it has to be."""
    plain = re.fullmatch(r"[A-Za-z_./][\w./+-]*", text) and text.lower() not in ("true", "false", "null")
    return text if plain else json.dumps(text)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9_-]+", "-", text.lower()).strip("-_") or "model"

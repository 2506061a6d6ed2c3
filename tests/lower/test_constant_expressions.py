"""Constant expressions are computed during the build."""

import sys
from pathlib import Path

import numpy as np
import pytest

from edgepack.config.target import load_target
from edgepack.lower.graph.folding import fold
from edgepack.lower.phase import Lowering

VALUE = np.arange(24, dtype="float32").reshape(2, 1, 3, 4)


def returned(compute):
    """The constant that an expression of a constant becomes."""
    import tvm
    from tvm import relax

    builder = relax.BlockBuilder()
    with builder.function("main", []):
        with builder.dataflow():
            out = builder.emit_output(compute(relax.const(VALUE)))
        builder.emit_func_output(out)
    target = load_target("x86-64-v2")
    lowering = Lowering(Path("m.onnx"), target, tvm.target.Target(target.tvm))
    with lowering.tvm_target:
        function = fold(builder.get(), lowering)["main"]
    values = [binding.value for block in function.body.blocks for binding in block.bindings]
    (constant,) = values or [function.body.body]
    return constant.value.numpy()


@pytest.mark.parametrize(
    ("name", "words", "expected"),
    [
        ("reshape", [(6, 4)], VALUE.reshape(6, 4)),
        ("permute_dims", [[3, 0, 2, 1]], VALUE.transpose(3, 0, 2, 1)),
        ("permute_dims", [], VALUE.transpose()),
        ("expand_dims", [[0, 2]], VALUE[None, :, None]),
        ("squeeze", [[1]], VALUE[:, 0]),
    ],
)
def test_other_shapes_of_a_constant_are_not_compiled(monkeypatch, name, words, expected):
    from tvm import relax

    compiled = []
    monkeypatch.setattr(sys.modules["tvm.tirx.build"], "tir_to_runtime", compiled.append)
    found = returned(lambda constant: getattr(relax.op, name)(constant, *words))
    np.testing.assert_array_equal(found, expected)
    assert found.flags["C_CONTIGUOUS"]
    assert compiled == []


def test_other_expressions_of_constants_are_computed_too():
    from tvm import relax

    found = returned(lambda constant: relax.op.add(constant, constant))
    np.testing.assert_array_equal(found, 2 * VALUE)

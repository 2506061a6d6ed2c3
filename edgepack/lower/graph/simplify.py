"""Graph phases between import and legalization."""

from typing import Any


def canonicalise(mod: Any, context: Any) -> Any:
    """Inference form of training operators, one binding a value, no duplicates."""
    from tvm import relax, transform

    del context
    passes = [
        relax.transform.DecomposeOpsForInference(),
        relax.transform.CanonicalizeBindings(),
        relax.transform.EliminateCommonSubexpr(),
        relax.transform.DeadCodeElimination(),
    ]
    return transform.Sequential(passes)(mod)


def fold_weights(mod: Any, context: Any) -> Any:
    """Replace ``dequantize(constant)`` by its value: quantized weights and biases become fp32 constants."""
    from tvm import relax, transform

    del context
    return transform.Sequential([relax.transform.FoldConstant(), relax.transform.DeadCodeElimination()])(mod)


def simplify(mod: Any, context: Any) -> Any:
    """Fold batch norm into convolutions, then constants; drop common and dead code."""
    from tvm import relax, transform

    del context
    passes = [
        relax.transform.FoldBatchnormToConv2D(),
        relax.transform.FoldConstant(),
        relax.transform.EliminateCommonSubexpr(),
        relax.transform.DeadCodeElimination(),
    ]
    return transform.Sequential(passes)(mod)

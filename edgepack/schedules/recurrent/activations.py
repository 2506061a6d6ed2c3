"""The activation functions of ONNX's recurrent operators: their parameters, and as TIR expressions."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from edgepack.schedules.recurrent.layer import Activation

Number = Callable[[float], Any]
"""Makes a constant of the element type."""


def _elu(x: Any, function: Activation, number: Number) -> Any:
    from tvm import tirx

    return tirx.Select(x >= number(0), x, number(function.alpha) * (tirx.exp(x) - number(1)))


def _leaky_relu(x: Any, function: Activation, number: Number) -> Any:
    from tvm import tirx

    return tirx.Select(x >= number(0), x, number(function.alpha) * x)


def _thresholded_relu(x: Any, function: Activation, number: Number) -> Any:
    from tvm import tirx

    return tirx.Select(x >= number(function.alpha), x, number(0))


def _hard_sigmoid(x: Any, function: Activation, number: Number) -> Any:
    from tvm import tirx

    line = number(function.alpha) * x + number(function.beta)
    return tirx.max(tirx.min(line, number(1)), number(0))


def _scaled_tanh(x: Any, function: Activation, number: Number) -> Any:
    from tvm import tirx

    return number(function.alpha) * tirx.tanh(number(function.beta) * x)


def _softplus(x: Any, _function: Activation, number: Number) -> Any:
    from tvm import tirx

    return tirx.max(x, number(0)) + tirx.log(number(1) + tirx.exp(-tirx.abs(x)))


def _simple(name: str) -> Callable[[Any, Activation, Number], Any]:
    def function(x: Any, _function: Activation, _number: Number) -> Any:
        from tvm import tirx

        return getattr(tirx, name)(x)

    return function


def _affine(x: Any, function: Activation, number: Number) -> Any:
    return number(function.alpha) * x + number(function.beta)


def _relu(x: Any, _function: Activation, number: Number) -> Any:
    from tvm import tirx

    return tirx.max(x, number(0))


def _softsign(x: Any, _function: Activation, number: Number) -> Any:
    from tvm import tirx

    return x / (number(1) + tirx.abs(x))


FUNCTIONS: Mapping[str, Callable[[Any, Activation, Number], Any]] = {
    "Affine": _affine,
    "Elu": _elu,
    "HardSigmoid": _hard_sigmoid,
    "LeakyRelu": _leaky_relu,
    "Relu": _relu,
    "ScaledTanh": _scaled_tanh,
    "Sigmoid": _simple("sigmoid"),
    "Softplus": _softplus,
    "Softsign": _softsign,
    "Tanh": _simple("tanh"),
    "ThresholdedRelu": _thresholded_relu,
}
"""By ONNX's name."""


# Values of alpha and beta where a node does not give them; None where ONNX and onnxruntime differ.
_PARAMETERS: Mapping[str, tuple[float | None, ...]] = {
    "Affine": (None, None),
    "Elu": (1.0,),
    "HardSigmoid": (0.2, 0.5),
    "LeakyRelu": (0.01,),
    "ScaledTanh": (None, None),
    "ThresholdedRelu": (None,),
}


def read_activations(
    names: Sequence[str], alpha: Sequence[float], beta: Sequence[float]
) -> Iterator[Activation]:
    """Yield activations with their parameters, which the functions that have some take in order.

    Raises:
        LookupError: A function has no name of ONNX's, or a parameter that must be given is not.
    """
    proper = {name.lower(): name for name in FUNCTIONS}
    given = {"alpha": list(alpha), "beta": list(beta)}
    for each in names:
        if each.lower() not in proper:
            raise LookupError(f"ONNX has no activation {each!r}")
        name = proper[each.lower()]
        values = {}
        for which, usual in zip(given, _PARAMETERS.get(name, ()), strict=False):
            value = given[which].pop(0) if given[which] else usual
            if value is None:
                raise LookupError(
                    f"ONNX and onnxruntime differ in the {which} of {name} that the node does not give"
                )
            values[which] = float(value)
        yield Activation(name=name, **values)


def activate(function: Activation, x: Any) -> Any:
    """Return the function of an expression, of its element type."""
    from tvm import tirx

    return FUNCTIONS[function.name](x, function, lambda value: tirx.const(value, x.ty))

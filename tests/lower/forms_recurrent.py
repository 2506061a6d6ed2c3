"""Forms of LSTM, GRU and RNN."""

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
from forms import Fixed, Form, some

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
USUAL = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}
FUNCTIONS = (
    *("Affine", "Elu", "HardSigmoid", "LeakyRelu", "Relu", "ScaledTanh"),
    *("Sigmoid", "Softplus", "Softsign", "Tanh", "ThresholdedRelu"),
)
WAYS = ("forward", "reverse", "bidirectional")


def recurrent(
    operator: str,
    *,
    steps: int = 5,
    batch: int = 2,
    width: int = 3,
    hidden: int = 4,
    direction: str = "forward",
    bias: bool = True,
    lengths: Any = None,
    state: str = "",
    peepholes: bool = False,
    constant: bool = True,
    dtype: str = "float32",
    outputs: tuple[str, ...] = (),
    opset: int = 22,
    **attributes: Any,
) -> Form:
    """Return a layer; ``state`` names the initial states that are given, ``h`` and ``c``."""
    ways, gates = 1 + (direction == "bidirectional"), GATES[operator]

    def weights(*shape: int) -> Any:
        values = some(dtype, *shape, low=-0.7, high=0.7)
        return Fixed(values) if constant else values

    first = (ways, batch, hidden) if not attributes.get("layout") else (batch, ways, hidden)
    data = (steps, batch, width) if not attributes.get("layout") else (batch, steps, width)
    given: list[Any] = [
        some(dtype, *data, low=-1.5, high=1.5),
        weights(ways, gates * hidden, width),
        weights(ways, gates * hidden, hidden),
        weights(ways, 2 * gates * hidden) if bias else None,
        lengths,
        some(dtype, *first, low=-0.8, high=0.8) if "h" in state else None,
    ]
    if operator == "LSTM":
        given.append(some(dtype, *first, low=-1.1, high=0.9) if "c" in state else None)
        given.append(weights(ways, 3 * hidden) if peepholes else None)
    while given[-1] is None:
        del given[-1]
    names = outputs or ("y", "yh", "yc")[: 3 if operator == "LSTM" else 2]
    more = {} if direction == "forward" else {"direction": direction}
    return Form(operator, tuple(given), {"hidden_size": hidden, **more, **attributes}, opset, names)


def layers() -> Iterator[Form]:
    """LSTM, GRU and RNN with each input, output and attribute."""
    for operator in GATES:
        yield recurrent(operator)
        yield recurrent(operator, opset=7)
        yield recurrent(operator, opset=14)
        yield from _inputs(operator)
        yield from _activations(operator)
        yield from _sizes(operator)
        for outputs in (("y",), ("", "yh"), ("y", "yh"), ("", "", "yc"), ("y", "", "yc"), ("", "yh", "yc")):
            if operator == "LSTM" or "yc" not in outputs:
                yield recurrent(operator, outputs=outputs, direction="bidirectional")
        for clip in (0.2, 1.0):
            yield recurrent(operator, clip=clip)
            yield recurrent(
                operator, clip=clip, direction="bidirectional", state="hc", lengths=_lengths(5, 2)
            )
    for before, direction in product((0, 1), WAYS):
        for bias, clip in product((True, False), (None, 0.3)):
            more = {} if clip is None else {"clip": clip}
            form = {"linear_before_reset": before, "direction": direction, "bias": bias, **more}
            yield recurrent("GRU", state="h", **form)
            yield recurrent("GRU", lengths=_lengths(5, 3, 0), batch=3, **form)
    for direction, forget, peepholes in product(WAYS, (0, 1), (True, False)):
        form = {"direction": direction, "input_forget": forget, "peepholes": peepholes}
        yield recurrent("LSTM", **form)
        yield recurrent("LSTM", state="hc", bias=False, clip=0.4, **form)


def _lengths(*values: int) -> np.ndarray:
    return np.array(values, "int32")


def _inputs(operator: str) -> Iterator[Form]:
    for direction, bias, state in product(WAYS, (True, False), ("", "h", "hc", "c")):
        if operator != "LSTM" and "c" in state:
            continue
        form = {"direction": direction, "bias": bias, "state": state}
        yield recurrent(operator, **form)
        yield recurrent(operator, constant=False, **form)
        yield recurrent(operator, lengths=_lengths(5, 3), **form)
        yield recurrent(operator, lengths=Fixed(_lengths(1, 4)), **form)
    for direction in WAYS:
        yield recurrent(operator, direction=direction, lengths=Fixed(_lengths(5, 5)))
        yield recurrent(operator, direction=direction, lengths=_lengths(0, 5), state="hc")


def _activations(operator: str) -> Iterator[Form]:
    usual = USUAL[operator]
    for name, place in product(FUNCTIONS, range(len(usual))):
        chosen = [*usual[:place], name, *usual[place + 1 :]]
        yield recurrent(operator, activations=chosen)
        yield recurrent(operator, activations=chosen, activation_alpha=[0.3], activation_beta=[0.6])
    both = [*usual, *(["LeakyRelu", "HardSigmoid", "Elu"][: len(usual)])]
    form = {"direction": "bidirectional", "activations": both}
    yield recurrent(operator, **form)
    yield recurrent(operator, activation_alpha=[0.3, 0.25, 1.4], activation_beta=[0.45], **form)
    yield recurrent(operator, activations=[each.lower() for each in usual])


def _sizes(operator: str) -> Iterator[Form]:
    for hidden, width, steps, batch in ((1, 1, 1, 1), (7, 5, 3, 1), (33, 4, 2, 3), (100, 9, 4, 1)):
        for direction in ("forward", "bidirectional"):
            yield recurrent(
                operator,
                hidden=hidden,
                width=width,
                steps=steps,
                batch=batch,
                direction=direction,
                state="hc",
            )
    for dtype in ("float16", "float64"):
        yield recurrent(operator, dtype=dtype)
        yield recurrent(operator, dtype=dtype, state="h", bias=False)
    yield recurrent(operator, layout=1)

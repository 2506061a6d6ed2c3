"""A recurrent layer as its kernel sees it."""

from typing import Literal

from edgepack.spec.base import Spec

Kind = Literal["RNN", "GRU", "LSTM"]

GATES: dict[Kind, int] = {"RNN": 1, "GRU": 3, "LSTM": 4}
"""Rows of weights per element of the state, in ONNX's order: GRU z, r, h; LSTM i, o, f, c."""


class Activation(Spec):
    """An activation function of ONNX's recurrent operators, with its parameters."""

    name: str
    alpha: float = 0.0
    beta: float = 0.0


class LayerDirection(Spec):
    """One direction of a layer: over time or against it, and the activations f, g and h, as many as its kind has."""

    backward: bool
    activations: tuple[Activation, ...]


class RecurrentLayer(Spec):
    """A layer whose input has been multiplied with its weights.

    Attributes:
        kind: as ONNX's operator.
        steps: length of the sequence.
        batch: sequences.
        hidden: size of the state.
        dtype: element type of the recurrent weights, the initial state and the outputs.
        directions: one or two.
        clip: bound of the numbers that the activations of gates get; None for no bound.
        input_forget: whether an LSTM's forget gate is 1 minus its input gate.
        linear_before_reset: whether a GRU multiplies its reset gate with the product, instead of with the state before it.
        given: names of the optional operands that there are: ``reset_bias``, ``peepholes``, ``lengths``, ``h0``, ``c0``.
    """

    kind: Kind
    steps: int
    batch: int
    hidden: int
    dtype: str
    directions: tuple[LayerDirection, ...]
    clip: float | None = None
    input_forget: bool = False
    linear_before_reset: bool = False
    given: frozenset[str] = frozenset()

    @property
    def gates(self) -> int:
        """Number of gates."""
        return GATES[self.kind]

    @property
    def accumulator(self) -> str:
        """Element type of sums and of the state between steps."""
        return "float64" if self.dtype == "float64" else "float32"

    def inputs(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Shape and element type of each operand, by name, in the kernel's order.

        ``x`` is the product of the input and its weights, with the biases; ``weights`` are those of the state: by its
        elements before the step, gates, and elements after it.
        """
        ways, wide = len(self.directions), self.accumulator
        state = (ways, self.batch, self.hidden)
        every = {
            "x": ((self.steps, self.batch, ways, self.gates, self.hidden), wide),
            "weights": ((ways, self.hidden, self.gates, self.hidden), self.dtype),
            "reset_bias": ((ways, self.hidden), wide),
            "peepholes": ((ways, 3, self.hidden), wide),
            "lengths": ((self.batch,), "int32"),
            "h0": (state, self.dtype),
            "c0": (state, self.dtype),
        }
        return {name: kind for name, kind in every.items() if name in {"x", "weights", *self.given}}

    def outputs(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Shape and element type of each result, by name, in the kernel's order: those of ONNX, and the rows of ``state``.

        These are the state before and after a step, which change places at each step, and what the kind keeps besides:
        an LSTM's cell, a GRU's update gate and reset state.
        """
        ways, rows = len(self.directions), {"RNN": 2, "GRU": 4, "LSTM": 3}[self.kind]
        last = (ways, self.batch, self.hidden)
        every = {
            "y": ((self.steps, *last), self.dtype),
            "y_h": (last, self.dtype),
            "y_c": (last, self.dtype),
            "state": ((ways, self.batch, rows, self.hidden), self.accumulator),
        }
        return {name: kind for name, kind in every.items() if name != "y_c" or self.kind == "LSTM"}

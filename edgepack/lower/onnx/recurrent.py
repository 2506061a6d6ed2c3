"""ONNX's recurrent operators: one matrix product for all steps, then a kernel with a loop over time."""

from collections.abc import Iterator, Sequence
from typing import Any, cast

from edgepack.schedules.recurrent.activations import read_activations
from edgepack.schedules.recurrent.kernel import build_kernel
from edgepack.schedules.recurrent.layer import GATES, Activation, Kind, LayerDirection, RecurrentLayer

RECURRENT = tuple(GATES)
"""The operators."""

_USUAL: dict[Kind, tuple[str, ...]] = {
    "RNN": ("Tanh",),
    "GRU": ("Sigmoid", "Tanh"),
    "LSTM": ("Sigmoid", "Tanh", "Tanh"),
}


def convert_recurrent(builder: Any, operator: str, inputs: Any, attributes: Any) -> Any:
    """Import an LSTM, GRU or RNN with the time first; returns a Relax tuple of its outputs, all that ONNX defines.

    Args:
        builder: TVM's block builder.
        operator: The node's operator.
        inputs: Relax expressions; None for one that is omitted.
        attributes: The node's, as TVM's importer reads them.

    Raises:
        ValueError: A form that ONNX does not define.
        LookupError: As ``read_activations``.
    """
    return _Importer(builder, cast("Kind", operator), inputs, attributes).run()


class _Importer:
    def __init__(self, builder: Any, kind: Kind, inputs: Any, attributes: Any) -> None:
        self._builder, self._kind, self._attributes = builder, kind, attributes
        x, weights, recurrent, bias = (inputs[i] for i in range(4))
        self._x, self._weights, self._recurrent, self._bias = x, weights, recurrent, bias
        self._lengths = inputs[4]
        self._peepholes = None
        states = {"h0": inputs[5]}
        if kind == "LSTM":
            states["c0"], self._peepholes = inputs[6], inputs[7]
        self._states = {
            name: state for name, state in states.items() if state is not None and not _is_all(state, 0)
        }
        self._steps, self._batch, _ = _shape(self._x)
        self._ways, _, self._hidden = _shape(recurrent)
        attributes.get("hidden_size")  # as the weights' shape says
        if self._lengths is not None and _is_all(self._lengths, self._steps):
            self._lengths = None

    def run(self) -> Any:
        from tvm import relax

        bias, reset_bias = self._biases()
        operands = {
            "x": self._inputs(bias),
            "weights": self._op("permute_dims", self._per_gate(self._recurrent, self._hidden), (0, 3, 1, 2)),
            "reset_bias": reset_bias,
            "peepholes": self._wide(self._reshape(self._peepholes, [self._ways, 3, self._hidden])),
            "lengths": self._lengths,
            **self._states,
        }
        layer = self._layer(frozenset(name for name, value in operands.items() if value is not None))
        function = self._builder.add_func(build_kernel(layer), self._kind.lower())
        types = [relax.TensorType(shape, dtype) for shape, dtype in layer.outputs().values()]
        given = [operands[name] for name in layer.inputs()]
        results = self._builder.emit(relax.call_tir(function, given, types))
        return relax.Tuple(
            [self._builder.emit(relax.TupleGetItem(results, i)) for i in range(len(types) - 1)]
        )

    def _layer(self, given: frozenset[str]) -> RecurrentLayer:
        clip = self._attributes.get("clip", None)
        forget = self._attributes.get("input_forget", 0) if self._kind == "LSTM" else 0
        linear = self._attributes.get("linear_before_reset", 0) if self._kind == "GRU" else 0
        return RecurrentLayer(
            kind=self._kind,
            steps=self._steps,
            batch=self._batch,
            hidden=self._hidden,
            dtype=_dtype(self._x),
            directions=tuple(self._directions()),
            clip=None if clip is None else float(clip),
            input_forget=bool(forget),
            linear_before_reset=bool(linear),
            given=given - {"x", "weights"},
        )

    def _directions(self) -> Iterator[LayerDirection]:
        name = self._attributes.get("direction", b"forward").decode()
        backward = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}.get(name, ())
        if len(backward) != self._ways:
            raise ValueError(f"weights of {self._ways} directions for the direction {name!r}")
        functions = self._functions()
        each = len(_USUAL[self._kind])
        for number, against in enumerate(backward):
            activations = functions[number * each : (number + 1) * each]
            yield LayerDirection(backward=against, activations=tuple(activations))

    def _functions(self) -> list[Activation]:
        """Return the activations of all directions."""
        usual = [name.encode() for name in _USUAL[self._kind]] * self._ways
        names = [name.decode() for name in self._attributes.get("activations", usual)]
        if len(names) != len(usual):
            raise ValueError(f"{len(names)} activations instead of {len(usual)}")
        given = [self._attributes.get(f"activation_{which}", ()) for which in ("alpha", "beta")]
        return list(read_activations(names, *given))

    def _inputs(self, bias: Any) -> Any:
        """Return the products of all steps' inputs with the weights, and the biases ``[steps, batch, ways, gates, hidden]``."""
        size = _shape(self._x)[2]
        rows = self._ways * GATES[self._kind] * self._hidden
        data = self._reshape(self._x, [self._steps * self._batch, size])
        weights = self._op("permute_dims", self._reshape(self._weights, [rows, size]), (1, 0))
        product = self._op("matmul", data, weights, out_dtype=self._accumulator)
        if bias is not None:
            product = self._op("add", product, self._reshape(bias, [rows]))
        return self._reshape(product, [self._steps, self._batch, self._ways, GATES[self._kind], self._hidden])

    def _biases(self) -> tuple[Any, Any]:
        """Return what is added to the products ``[ways, gates, hidden]``, and a GRU's reset bias ``[ways, hidden]``."""
        import numpy as np
        from tvm import relax

        if self._bias is None:
            return None, None
        gates = GATES[self._kind]
        both = self._wide(self._reshape(self._bias, [self._ways, 2, gates, self._hidden]))
        of_input, of_state = (
            self._op("take", both, relax.const(number, "int64"), axis=1, mode="clip") for number in range(2)
        )
        if not self._attributes.get("linear_before_reset", 0) or self._kind != "GRU":
            return self._op("add", of_input, of_state), None
        kept = np.array([1, 1, 0], self._accumulator).reshape(1, gates, 1)
        outside = self._op("multiply", of_state, relax.const(kept))
        inside = self._op("take", of_state, relax.const(gates - 1, "int64"), axis=1, mode="clip")
        return self._op("add", of_input, outside), inside

    def _per_gate(self, weights: Any, width: int) -> Any:
        return self._reshape(weights, [self._ways, GATES[self._kind], self._hidden, width])

    @property
    def _accumulator(self) -> str:
        return "float64" if _dtype(self._x) == "float64" else "float32"

    def _reshape(self, value: Any, shape: Sequence[int]) -> Any:
        return None if value is None else self._op("reshape", value, shape)

    def _wide(self, value: Any) -> Any:
        if value is None or _dtype(value) == self._accumulator:
            return value
        return self._op("astype", value, self._accumulator)

    def _op(self, name: str, *args: Any, **named: Any) -> Any:
        from tvm import relax

        return self._builder.emit(getattr(relax.op, name)(*args, **named))


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(int(dim) for dim in value.ty.shape)


def _dtype(value: Any) -> str:
    return str(value.ty.dtype)


def _is_all(value: Any, number: int) -> bool:
    """Whether it is a constant with this number alone."""
    from tvm import ir

    return isinstance(value, ir.GenericConst) and bool((value.value.numpy() == number).all())

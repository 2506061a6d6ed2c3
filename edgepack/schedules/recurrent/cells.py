"""The steps of recurrent layers, as ONNX defines them and onnxruntime computes them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgepack.schedules.recurrent.activations import activate
from edgepack.schedules.recurrent.layer import RecurrentLayer
from edgepack.schedules.recurrent.loops import Loops, lanes

# Rows of ``state`` after the two that change places.
_CELL = 2
_UPDATE, _RESET = 2, 3


@dataclass(frozen=True)
class RecurrentCell:
    """Writes the code of one sequence in one direction.

    Attributes:
        layer: the layer.
        loops: how its loops run.
        buffers: the kernel's operands and results, by name.
        way: index of the direction.
        sequence: index in the batch, a TIR expression.
    """

    layer: RecurrentLayer
    loops: Loops
    buffers: Mapping[str, Any]
    way: int
    sequence: Any

    def begin(self) -> None:
        """Write the state before the first step."""

        def body(first: Any, count: int) -> None:
            for name, row in (("h0", 0), ("c0", _CELL)):
                if name == "c0" and self.layer.kind != "LSTM":
                    continue
                with lanes(count) as lane:
                    at = first + lane
                    given = name in self.layer.given
                    value = (
                        self._wide(self.buffers[name][self.way, self.sequence, at])
                        if given
                        else self._number(0)
                    )
                    self._store("state", value, row, at)

        self.loops.elements(self.layer.hidden, 1, body)
        self.loops.barrier()

    def step(self, time: Any, before: Any, after: Any) -> None:
        """Write one step.

        Args:
            time: which element of the sequence it takes.
            before: the row of ``state`` with the state before the step.
            after: the row that the step writes.
        """
        write = {"RNN": self._rnn, "GRU": self._gru, "LSTM": self._lstm}[self.layer.kind]
        write(time, before, after)
        self.loops.barrier()

    def skip(self, time: Any) -> None:
        """Write the output of a step after the sequence's end."""

        def body(first: Any, count: int) -> None:
            with lanes(count) as lane:
                self._output(self._number(0), time, first + lane)

        self.loops.elements(self.layer.hidden, 1, body)

    def end(self, length: Any) -> None:
        """Write the state after so many steps; after none it is 0, as in onnxruntime."""
        from tvm import tirx

        def body(first: Any, count: int) -> None:
            for name, source in (("y_h", length % 2), ("y_c", _CELL)):
                if name in self.buffers:
                    with lanes(count) as lane:
                        value = self._state(source, first + lane)
                        if "lengths" in self.layer.given:
                            value = tirx.Select(length > 0, value, self._number(0))
                        self._put(name, self._narrow(value), self.way, self.sequence, first + lane)

        self.loops.elements(self.layer.hidden, 1, body)

    def _rnn(self, time: Any, before: Any, after: Any) -> None:
        (f,) = self.layer.directions[self.way].activations

        def body(first: Any, count: int) -> None:
            sums = self._products(before, (0,), first, count)
            with lanes(count) as lane:
                new = activate(f, self._clipped(sums[0][lane] + self._x(time, 0, first + lane)))
                self._write(new, time, after, first + lane)

        self.loops.elements(self.layer.hidden, 1, body)

    def _lstm(self, time: Any, before: Any, after: Any) -> None:
        f, g, h = self.layer.directions[self.way].activations
        (i, o, forget, c) = range(4)

        def body(first: Any, count: int) -> None:
            sums = self._products(before, (i, o, forget, c), first, count)

            def gate(number: int, function: Any, lane: Any, peephole: int | None) -> None:
                x = sums[number][lane] + self._x(time, number, first + lane)
                if peephole is not None and "peepholes" in self.layer.given:
                    weight = self.buffers["peepholes"][self.way, peephole, first + lane]
                    x = x + weight * self._state(_CELL, first + lane)
                sums[number].store(lane, activate(function, self._clipped(x)))

            with lanes(count) as lane:
                gate(i, f, lane, 0)
            with lanes(count) as lane:
                if self.layer.input_forget:
                    sums[forget].store(lane, self._number(1) - sums[i][lane])
                else:
                    gate(forget, f, lane, 2)
            with lanes(count) as lane:
                gate(c, g, lane, None)
            with lanes(count) as lane:
                kept = sums[forget][lane] * self._state(_CELL, first + lane)
                self._store("state", kept + sums[i][lane] * sums[c][lane], _CELL, first + lane)
            with lanes(count) as lane:
                gate(o, f, lane, 1)
            with lanes(count) as lane:
                new = sums[o][lane] * activate(h, self._state(_CELL, first + lane))
                self._write(new, time, after, first + lane)

        self.loops.elements(self.layer.hidden, 4, body)

    def _gru(self, time: Any, before: Any, after: Any) -> None:
        f, g = self.layer.directions[self.way].activations
        (z, r, h) = range(3)

        def gate(sums: Any, number: int, first: Any, count: int) -> None:
            with lanes(count) as lane:
                x = sums[number][lane] + self._x(time, number, first + lane)
                sums[number].store(lane, activate(f, self._clipped(x)))

        def finish(x: Any, update: Any, at: Any) -> None:
            new = activate(g, self._clipped(x + self._x(time, h, at)))
            self._write((self._number(1) - update) * new + update * self._state(before, at), time, after, at)

        def linear(first: Any, count: int) -> None:
            sums = self._products(before, (z, r, h), first, count)
            gate(sums, z, first, count)
            gate(sums, r, first, count)
            with lanes(count) as lane:
                product = sums[h][lane]
                if "reset_bias" in self.layer.given:
                    product = product + self.buffers["reset_bias"][self.way, first + lane]
                finish(sums[r][lane] * product, sums[z][lane], first + lane)

        def gates(first: Any, count: int) -> None:
            sums = self._products(before, (z, r), first, count)
            gate(sums, z, first, count)
            gate(sums, r, first, count)
            with lanes(count) as lane:
                self._store("state", sums[z][lane], _UPDATE, first + lane)
            with lanes(count) as lane:
                self._store("state", sums[r][lane] * self._state(before, first + lane), _RESET, first + lane)

        def state(first: Any, count: int) -> None:
            sums = self._products(_RESET, (h,), first, count)
            with lanes(count) as lane:
                finish(sums[h][lane], self._state(_UPDATE, first + lane), first + lane)

        if self.layer.linear_before_reset:
            self.loops.elements(self.layer.hidden, 3, linear)
            return
        self.loops.elements(self.layer.hidden, 2, gates)
        self.loops.barrier()
        self.loops.elements(self.layer.hidden, 1, state)

    def _products(self, row: Any, gates: Sequence[int], first: Any, count: int) -> "dict[int, _Sums]":
        """Write the products of a row of ``state`` with the weights of some gates, for ``count`` elements; returns them."""
        from tvm.script.ir_builder import tirx

        buffer = tirx.alloc_buffer((len(gates) * count,), self.layer.accumulator, scope=self.loops.scope)
        sums = {gate: _Sums(buffer, number * count) for number, gate in enumerate(gates)}
        with lanes(len(gates) * count) as lane:
            tirx.buffer_store(buffer, self._number(0), [lane])
        with tirx.serial(self.layer.hidden) as element:
            for gate in gates:
                with lanes(count) as lane:
                    weight = self.buffers["weights"][self.way, element, gate, first + lane]
                    sums[gate].store(lane, sums[gate][lane] + self._state(row, element) * self._wide(weight))
        return sums

    def _write(self, value: Any, time: Any, row: Any, at: Any) -> None:
        """Store an element of the new state, and of the output."""
        self._store("state", value, row, at)
        self._output(self._state(row, at), time, at)

    def _output(self, value: Any, time: Any, at: Any) -> None:
        self._put("y", self._narrow(value), time, self.way, self.sequence, at)

    def _store(self, name: str, value: Any, row: Any, at: Any) -> None:
        self._put(name, value, self.way, self.sequence, row, at)

    def _put(self, name: str, value: Any, *at: Any) -> None:
        from tvm.script.ir_builder import tirx

        tirx.buffer_store(self.buffers[name], value, list(at))

    def _state(self, row: Any, at: Any) -> Any:
        return self.buffers["state"][self.way, self.sequence, row, at]

    def _x(self, time: Any, gate: int, at: Any) -> Any:
        return self.buffers["x"][time, self.sequence, self.way, gate, at]

    def _clipped(self, x: Any) -> Any:
        from tvm import tirx

        if self.layer.clip is None:
            return x
        return tirx.max(tirx.min(x, self._number(self.layer.clip)), self._number(-self.layer.clip))

    def _number(self, value: float) -> Any:
        from tvm import tirx

        return tirx.const(value, self.layer.accumulator)

    def _wide(self, x: Any) -> Any:
        return x if self.layer.dtype == self.layer.accumulator else x.astype(self.layer.accumulator)

    def _narrow(self, x: Any) -> Any:
        return x if self.layer.dtype == self.layer.accumulator else x.astype(self.layer.dtype)


@dataclass(frozen=True)
class _Sums:
    """The sums of one gate: a part of a buffer."""

    buffer: Any
    first: int

    def __getitem__(self, lane: Any) -> Any:
        return self.buffer[self.first + lane]

    def store(self, lane: Any, value: Any) -> None:
        from tvm.script.ir_builder import tirx

        tirx.buffer_store(self.buffer, value, [self.first + lane])

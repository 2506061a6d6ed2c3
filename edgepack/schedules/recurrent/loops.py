"""The loops of a recurrent kernel: vectors and cores of a CPU, or blocks and threads of a GPU."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

from edgepack.schedules.recurrent.layer import RecurrentLayer

Elements = Callable[[Any, int], None]
"""Writes the code for some elements of the state: the first one's index, and how many."""

_ACCUMULATORS = 8  # vectors of sums: enough to hide the latency of a multiply-add on two pipes
_LONGEST = 64  # elements of a vector; LLVM splits it into registers
_PARALLEL = 1 << 18  # multiply-adds: below, waking threads costs more time than it saves
_MOST_THREADS = 256


class Loops(Protocol):
    """How a kernel's loops run."""

    @property
    def scope(self) -> str:
        """Scope of the buffers in which a few elements are summed."""

    def sequences(self, layer: RecurrentLayer, body: Callable[[int, Any], None]) -> None:
        """Loop over the directions and the batch; ``body`` gets the direction and the sequence's index."""

    def elements(self, hidden: int, sums: int, body: Elements) -> None:
        """Loop over the elements of the state; ``sums`` is how many sums each element has."""

    def barrier(self) -> None:
        """Wait until all elements have been written."""


def lanes(count: int) -> AbstractContextManager[Any]:
    """Loop over so many elements as one vector."""
    from tvm.script.ir_builder import tirx

    return tirx.vectorized(count) if count > 1 else nullcontext(0)


@dataclass(frozen=True)
class Vectors:
    """A CPU: one sequence on each core, its elements in vectors of so many lanes."""

    lanes: int = 1
    scope: str = "global"

    def sequences(self, layer: RecurrentLayer, body: Callable[[int, Any], None]) -> None:
        """Loop over the directions and the batch, in parallel if that is worth it."""
        from tvm.script.ir_builder import tirx

        count = len(layer.directions) * layer.batch
        work = count * layer.steps * layer.gates * layer.hidden**2
        with (tirx.parallel if count > 1 and work >= _PARALLEL else tirx.serial)(count) as number:
            _divide(layer, number, body)

    def elements(self, hidden: int, sums: int, body: Elements) -> None:
        """Loop over vectors of several registers, then over what is left in vectors of half as many elements each."""
        from tvm.script.ir_builder import tirx

        width, first = 1, 0
        if self.lanes > 1:
            width = min(self.lanes * max(1, _ACCUMULATORS // sums), _LONGEST)
        while first < hidden:
            count = (hidden - first) // width
            if count:
                with tirx.serial(count) as number:
                    body(first + number * width, width)
            first += count * width
            width //= 2

    def barrier(self) -> None:
        """One core computes all elements."""


@dataclass
class Threads:
    """A GPU: one sequence in each block, its elements divided among the block's threads."""

    scope: str = "local"
    _count: int = field(default=0, init=False)
    _thread: Any = field(default=None, init=False)

    def sequences(self, layer: RecurrentLayer, body: Callable[[int, Any], None]) -> None:
        """Start a block for each direction of each sequence."""
        from tvm.script.ir_builder import tirx

        self._count = min(layer.hidden, _MOST_THREADS)
        with (
            tirx.launch_thread("blockIdx.x", len(layer.directions) * layer.batch) as number,
            tirx.launch_thread("threadIdx.x", self._count) as self._thread,
        ):
            _divide(layer, number, body)

    def elements(self, hidden: int, sums: int, body: Elements) -> None:
        """Each thread takes one element of as many as there are threads."""
        from tvm.script.ir_builder import tirx

        del sums
        with tirx.serial(-(-hidden // self._count)) as number:
            element = number * self._count + self._thread
            with tirx.If(element < hidden), tirx.Then():
                body(element, 1)

    def barrier(self) -> None:
        """Wait for the block's threads."""
        from tvm.script.ir_builder import tirx

        tirx.evaluate(tirx.tvm_storage_sync("shared"))


def _divide(layer: RecurrentLayer, number: Any, body: Callable[[int, Any], None]) -> None:
    """Write the code of each direction, which may differ, for the sequences that it has."""
    from tvm.script.ir_builder import tirx

    if len(layer.directions) == 1:
        body(0, number)
        return
    with tirx.If(number < layer.batch):
        with tirx.Then():
            body(0, number)
        with tirx.Else():
            body(1, number - layer.batch)

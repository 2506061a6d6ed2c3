"""Contestants of the peers benchmark that need only numpy, each with a specific behaviour."""

# ruff: noqa: T201 - methods are the protocol's, and libraries print

import os
import time

import numpy as np

from benchmarks.peers.protocol import Cold, Contestant, LoadedModel, Prepared, Unsupported


class Right(Contestant):
    """y = 2 x, as in the reference."""

    title = "right"
    threads_share = False
    offset = 0.0
    exactly = None  # the exact outputs of its int8 model

    def prepare(self, task):
        print("libraries print what they like")
        path = task.folder / "model.txt"
        path.write_text("two")
        runs = task.folder / "prepared-times.txt"
        runs.write_text(runs.read_text() + "x" if runs.exists() else "x")
        exact = task.save_exact(self.exactly) if task.precision == "int8" and self.exactly else None
        return Prepared((path,), (), {"place": str(task.folder), "threads": task.threads}, exact)

    def load(self, task, prepared):
        assert prepared.model[0].read_text() == "two"
        print('{"ok": "a line that looks like an answer"}')
        return RightSession(self.offset)


class RightSession(LoadedModel):
    """Doubles."""

    def __init__(self, offset):
        self.offset, self.x = offset, np.zeros(1)

    def run(self, inputs):
        self.x = inputs["x"]
        return [2 * self.x + np.float32(self.offset)]

    def infer(self):
        return self.x * 2


class Shared(Right):
    """Prepared once for all thread counts."""

    title = "shared"
    threads_share = True


class Exact(Right):
    """Its quantized model has one value off by a hundredth of the largest, and its outputs are exactly that."""

    title = "exact"
    offset = 0.01

    def exactly(self, row):
        return [2 * row["x"] + np.float32(0.01)]


class ExactOnnx(Exact):
    """Its quantized model is the fp32 one, as ONNX; it is off by a hundredth."""

    title = "onnx"

    def prepare(self, task):
        made = super().prepare(task)
        return Prepared(made.model, made.runtime, made.notes, task.onnx if task.precision == "int8" else None)


class Saturating(Exact):
    """Adds more than the quantization error."""

    title = "saturating"
    offset = 0.1


class Wrong(Right):
    """Wrong outputs."""

    title = "wrong"
    offset = 1.0


class Fp32Only(Right):
    """Does not support int8."""

    title = "fp32 only"
    precisions = ("fp32",)


class Int8Mode(Right):
    """Another mode of a contestant in int8."""

    title = "int8 mode"
    precisions = ("int8",)
    alternative = True


class Refusing(Right):
    """Reports that the cell is not supported."""

    title = "refusing"

    def prepare(self, task):
        raise Unsupported(f"no operator for {task.net}")


class Raising(Right):
    """Fails while preparing."""

    title = "raising"

    def prepare(self, task):
        raise RuntimeError("a converter's last words")


class Crashing(Right):
    """Dies while loading, after printing something."""

    title = "crashing"

    def load(self, task, prepared):
        os.write(2, b"the heap is gone\n")
        os.abort()


class Hanging(Right):
    """Never returns from a timed call; a child in its own session keeps running."""

    title = "hanging"

    def load(self, task, prepared):
        return HangingSession(0.0)


class HangingSession(RightSession):
    """As above."""

    def time(self, runs):
        if os.fork() == 0:
            os.setsid()
            time.sleep(600)
        time.sleep(600)


class BreakingLater(Right):
    """Fails while being timed."""

    title = "breaking"

    def load(self, task, prepared):
        return BreakingSession(0.0)


class BreakingSession(RightSession):
    """Exits at the tenth call."""

    calls = 0

    def time(self, runs):
        self.calls += 1
        if self.calls == 10:
            os._exit(3)
        return super().time(runs)


class OwnCold(Right):
    """Measures its cold start itself."""

    title = "own cold start"

    def cold(self, task, prepared, inputs):
        assert inputs["x"].shape == (1, 3)
        return Cold(start_ns=5, load_ns=4, peak_rss_kib=3)


CONTESTANTS = {
    "right": Right(),
    "shared": Shared(),
    "exact": Exact(),
    "exact_onnx": ExactOnnx(),
    "saturating": Saturating(),
    "wrong": Wrong(),
    "fp32_only": Fp32Only(),
    "int8_mode": Int8Mode(),
    "refusing": Refusing(),
    "raising": Raising(),
    "crashing": Crashing(),
    "hanging": Hanging(),
    "breaking": BreakingLater(),
    "own_cold": OwnCold(),
}

"""From an ONNX file to a shared library for the board: one numbered list of phases (``phases.PHASES``)."""

from edgepack.lower.build import Compiled, Kernel, TensorSpec, compile_model, tuning_tasks

__all__ = ["Compiled", "Kernel", "TensorSpec", "compile_model", "tuning_tasks"]

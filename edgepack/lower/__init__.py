"""Lower an ONNX file to a shared library for the board; ``phases.phases_for`` returns the list of phases.

Imports: base, config, errors, executor, export, onnxfile, schedules, spec, toolchain, weightfile.
"""

from edgepack.lower.build import compile_model, tuning_tasks
from edgepack.lower.facts import workload
from edgepack.lower.result import Compiled, CudaModule, Kernel

__all__ = ["Compiled", "CudaModule", "Kernel", "compile_model", "tuning_tasks", "workload"]

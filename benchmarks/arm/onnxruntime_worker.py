"""Run a model with onnxruntime in the emulated userland, one thread, inputs and outputs bound.

onnxruntime_worker.py MODEL INPUTS.npz OUTPUTS.npz

The third inference is enclosed by calls to getsid: counter.c counts between the two.
"""

import os
import sys

import numpy as np
import onnxruntime

model, inputs, outputs = sys.argv[1:]
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
binding = session.io_binding()
with np.load(inputs, allow_pickle=False) as arrays:
    for name in arrays.files:
        binding.bind_cpu_input(name, np.ascontiguousarray(arrays[name]))
for output in session.get_outputs():
    binding.bind_output(output.name)
for _ in range(2):
    session.run_with_iobinding(binding)
os.getsid(0)
session.run_with_iobinding(binding)
os.getsid(0)
np.savez(outputs, **{f"output-{i}": value for i, value in enumerate(binding.copy_outputs_to_cpu())})

"""The pipeline as one tuple of stages; candidates, strategies, traces.

Imports: agent, base, bundle, compression, config, data, emulation, engine, errors, export, lower, measuring,
onnxfile, remote, scoring, spec, toolchain, torchnet, tuning, weightfile.
"""

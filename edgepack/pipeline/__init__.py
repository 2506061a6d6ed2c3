"""The pipeline as one visible tuple that is executed; candidates, strategies, runs on disk.

Imports: agent, base, bundle, compression, config, data, engine, errors, export, lower, measuring, onnxfile, remote,
spec, toolchain, torchnet, tuning.
"""

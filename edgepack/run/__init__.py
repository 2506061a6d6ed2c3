"""The pipeline as one visible tuple that is executed; candidates, strategies, runs on disk.

Imports: agent, base, bench, bundle, compress, config, data, engine, errors, export, lower, onnxfile, remote, spec,
toolchain, torchnet, tune.
"""

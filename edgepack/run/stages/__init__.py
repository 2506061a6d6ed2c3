"""What the stages of the pipeline do: one file each, in the order of ``edgepack.run.pipeline.STAGES``.

Imports: agent, base, bench, bundle, compress, config, data, engine, errors, export, lower, onnxfile, remote,
run.candidates, run.contract, run.figures, run.fingerprint, run.state, spec, toolchain, torchnet, tune.
"""

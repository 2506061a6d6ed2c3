"""What the stages of the pipeline do: one file each, in the order of ``edgepack.pipeline.pipeline.STAGES``.

Imports: agent, base, bundle, compression, config, data, engine, errors, export, lower, measuring, onnxfile,
pipeline.bundle_on_board, pipeline.candidates, pipeline.contract, pipeline.figures, pipeline.fingerprint, pipeline.state, remote, spec,
toolchain, torchnet, tuning.
"""

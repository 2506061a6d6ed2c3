"""The stages of the pipeline, one per file; ``edgepack.pipeline.pipeline.STAGES`` has their order.

Imports: agent, base, bundle, compression, config, data, emulation, engine, errors, export, lower, measuring,
onnxfile, pipeline.bundle_on_board, pipeline.candidates, pipeline.contract, pipeline.emulated_gpu, pipeline.figures,
pipeline.fingerprint, pipeline.profiling, pipeline.state, remote, scoring, spec, toolchain, torchnet, tuning,
weightfile.
"""

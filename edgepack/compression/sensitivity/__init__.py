"""How sensitive each layer of a model is to being compressed: one layer at a time is changed and the outputs compared.

Imports: base, compression.calibration, onnxfile, spec, torchnet.
"""

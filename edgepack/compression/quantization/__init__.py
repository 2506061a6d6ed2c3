"""What the methods that store weights in fewer bits share: layers of a graph, grids of integers, ranges, rounding.

Imports: base, compression.batches, compression.feeding, compression.method, compression.selection, data, errors, onnxfile, scoring, spec.
"""

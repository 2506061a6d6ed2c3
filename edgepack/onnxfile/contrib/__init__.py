"""Operators of onnxruntime's own domains, replaced by standard operators that compute the same.

onnxruntime's quantizer, its transformer optimizer and its graph optimisations write them into files. Each one is
replaced by its definition in onnxruntime's documentation:
https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md. ``table`` lists them, ``emitter`` has what a
rule sees of its node, ``converting`` applies the rules; the other modules have the rules.

Imports: errors, onnxfile.opset.site, onnxfile.protos.
"""

from edgepack.onnxfile.contrib.converting import convert_contrib, require_rules
from edgepack.onnxfile.contrib.table import RULES, has_own_rounding, name_domains

__all__ = ["RULES", "convert_contrib", "has_own_rounding", "name_domains", "require_rules"]

"""Conversion of a model to an opset that all tools read, by rules written for each operator.

``versions`` has the table: each operator's versions, with the rule that converts to each. ``rules`` and ``resizing``
have the rules, ``site`` what a rule sees of its node, ``convert`` applies them, and ``training`` replaces operators in
training form, at any opset.

Imports: errors, onnxfile.inlining, onnxfile.protos.
"""

from edgepack.onnxfile.opset.convert import raised, to_opset
from edgepack.onnxfile.opset.training import without_training

__all__ = ["raised", "to_opset", "without_training"]

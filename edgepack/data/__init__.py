"""Labelled samples: a user's callable, arrays, images or text become train and test splits.

Imports: base, errors, spec.
"""

from edgepack.data.loading import load_data
from edgepack.data.splits import Splits, majority_share, require_classes, stratified_split, top1

__all__ = ["Splits", "load_data", "majority_share", "require_classes", "stratified_split", "top1"]

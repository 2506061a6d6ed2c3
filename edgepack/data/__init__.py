"""Labelled samples: a user's callable, arrays, images or text become train and test splits.

Imports: base, errors, spec.
"""

from edgepack.data.loading import load_data
from edgepack.data.splits import Splits, fit_inputs, random_split, stratified_split

__all__ = ["Splits", "fit_inputs", "load_data", "random_split", "stratified_split"]

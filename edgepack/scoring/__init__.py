"""Metrics: how well a model's outputs match targets, with a 95 % interval; built in, or of the user.

Imports: data, errors, spec.
"""

from edgepack.scoring.evaluation import Evaluation, chance, merge_batches
from edgepack.scoring.scorer import Scorer

__all__ = ["Evaluation", "Scorer", "chance", "merge_batches"]

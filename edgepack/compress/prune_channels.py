"""Structured pruning: whole channels go, so that every runtime gains."""

from typing import Literal

from pydantic import Field

from edgepack.spec import Spec


class PruneChannels(Spec):
    """Remove the least important channels of each layer, then fine-tune."""

    method: Literal["prune-channels"]
    ratio: float = Field(gt=0, lt=1, description="Share of channels removed from each prunable layer.")

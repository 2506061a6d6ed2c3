"""Candidates by name: the two that every recipe has. Documents call a candidate's name its ``variant``."""

BASELINE = "baseline"  # the model as it came
RELEASE = "release"  # after the recipe's compression steps: what is deployed

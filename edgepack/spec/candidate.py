"""The names of the two candidates that every recipe has."""

BASELINE = "baseline"  # the original model
RELEASE = "release"  # after the recipe's compression steps: what is deployed

"""The stages of a run, by what they work on: the model, the build for a target, the board."""

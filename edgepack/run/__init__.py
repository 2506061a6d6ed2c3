"""The pipeline as one visible tuple that is executed; candidates, strategies, runs on disk."""

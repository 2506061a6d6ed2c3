"""edgepack: from a trained model to a measured release on your own boards."""

__version__ = "0.1.0"

"""Compare edgepack with its peers, interleaved in one run on one machine: ``make bench``."""

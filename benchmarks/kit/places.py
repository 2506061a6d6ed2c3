"""Where the benchmarks keep things."""

from pathlib import Path

from edgepack.base.paths import cache_dir

ROOT = Path(__file__).resolve().parents[2]  # of the checkout: what other processes import from
CACHE = cache_dir() / "benchmarks"
RESULTS = ROOT / "benchmarks"

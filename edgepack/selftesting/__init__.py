"""The self-test of a device: facts about the board, a tiny release, and single kernels, compared with the reference.

Imports: agent, base, bundle, config, emulation, engine, errors, export, lower, measuring, pipeline, remote, spec, toolchain.
"""

from edgepack.selftesting.result import Check, SelfTest
from edgepack.selftesting.run import selftest

__all__ = ["Check", "SelfTest", "selftest"]

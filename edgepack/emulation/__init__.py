"""CUDA kernels on the CPU, for virtual boards with a GPU: an emulated driver and runtime, and modules for it.

Imports: base, errors, toolchain.
"""

from edgepack.emulation.driver import EmulatedGpu, build_driver, install_driver
from edgepack.emulation.modules import build_module

__all__ = ["EmulatedGpu", "build_driver", "build_module", "install_driver"]

"""Boards without hardware: a real sshd on loopback, in this machine's userland or an emulated ARM or x86-64 one.

Some have an emulated GPU.

Imports: base, config, emulation, errors.
"""

from edgepack.remote.virtual.boards import Board, down, gpu_folder, prepare, purge, running, up
from edgepack.remote.virtual.kinds import KINDS, Kind

__all__ = ["KINDS", "Board", "Kind", "down", "gpu_folder", "prepare", "purge", "running", "up"]

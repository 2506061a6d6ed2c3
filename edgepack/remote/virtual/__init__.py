"""Boards without hardware: a real sshd on loopback, in this machine's userland or an emulated ARM or x86-64 one.

Imports: base, config, errors.
"""

from edgepack.remote.virtual.boards import Board, down, purge, running, up
from edgepack.remote.virtual.kinds import KINDS, Kind

__all__ = ["KINDS", "Board", "Kind", "down", "purge", "running", "up"]

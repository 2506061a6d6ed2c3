"""Which channels of a torch network depend on each other, found in its traced graph, and their removal.

Imports: data, errors, torchnet.layers.
"""

from edgepack.torchnet.channels.analysis import analyse
from edgepack.torchnet.channels.graph import ChannelGraph, ChannelGroup
from edgepack.torchnet.channels.surgery import mask, remove

__all__ = ["ChannelGraph", "ChannelGroup", "analyse", "mask", "remove"]

"""Find dependent channels of a torch network in its traced graph, and remove channels.

Imports: data, errors, torchnet.layers.
"""

from edgepack.torchnet.channels.analysis import analyse
from edgepack.torchnet.channels.graph import ChannelGraph, ChannelGroup
from edgepack.torchnet.channels.surgery import mask, remove

__all__ = ["ChannelGraph", "ChannelGroup", "analyse", "mask", "remove"]

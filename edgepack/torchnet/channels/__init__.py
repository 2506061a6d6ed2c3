"""Find dependent channels of a torch network in its traced graph, and remove channels.

Imports: data, errors, torchnet.layers.
"""

from edgepack.torchnet.channels.analysis import analyse
from edgepack.torchnet.channels.graph import ChannelGraph
from edgepack.torchnet.channels.surgery import mask, remove
from edgepack.torchnet.channels.table import ChannelGroup, ChannelTable, Volume

__all__ = ["ChannelGraph", "ChannelGroup", "ChannelTable", "Volume", "analyse", "mask", "remove"]

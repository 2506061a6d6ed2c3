"""Find dependent channels of an ONNX graph, and remove or mask channels in the file.

Imports: onnxfile, torchnet.
"""

from edgepack.compression.onnx_channels.analysis import analyse
from edgepack.compression.onnx_channels.graph import OnnxChannels
from edgepack.compression.onnx_channels.surgery import masked, without

__all__ = ["OnnxChannels", "analyse", "masked", "without"]

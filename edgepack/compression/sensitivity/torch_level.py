"""The layers of a torch module, changed one at a time."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from edgepack.compression.calibration import tensors
from edgepack.compression.sensitivity.probes import Edit
from edgepack.compression.sensitivity.scan import ProbedLayer, Subject

if TYPE_CHECKING:
    import numpy as np
    import torch

    Feed = Mapping[str, np.ndarray]

_TRANSPOSED = ("ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d")  # weights [in, out, ...]


def outputs_of(module: "torch.nn.Module", feeds: "Sequence[Feed]") -> "list[np.ndarray]":
    """Return each output of ``module``, in eval mode, for all samples."""
    import numpy as np
    import torch
    from torch.utils import _pytree

    from edgepack.torchnet.training import threads_for

    runs = []
    with torch.no_grad(), threads_for(module):
        for feed in feeds:
            leaves = _pytree.tree_leaves(module(*tensors(feed)))
            runs.append([np.atleast_1d(leaf.numpy()) for leaf in leaves if isinstance(leaf, torch.Tensor)])
    return [np.concatenate(parts) for parts in zip(*runs, strict=True)]


class TorchSubject(Subject):
    """A copy of a module in eval mode, and samples. Its layers are all that hold a weight of two or more axes."""

    def __init__(self, module: "torch.nn.Module", feeds: "Sequence[Feed]") -> None:
        """Prepare to run ``feeds``: inputs by name in the order of ``forward``, each with the batch axis."""
        self._module = copy.deepcopy(module).eval()
        self._feeds = feeds
        self._owners: dict[str, tuple[Any, list[str]]] = {}
        self._ranges: dict[str, tuple[float, float]] = {}  # of each layer's input
        self.layers: dict[str, ProbedLayer] = {}
        for name, layer in self._module.named_modules():
            weights = {
                key: value
                for key, value in layer.named_parameters(recurse=False)
                if value.dim() > 1 and value.is_floating_point()
            }
            if weights:
                count = sum(value.numel() for value in weights.values())
                self._owners[name] = (layer, list(weights))
                self.layers[name] = ProbedLayer(name, type(layer).__name__, count)

    def run(self, layer: str | None = None, edit: Edit | None = None) -> "list[np.ndarray]":
        """Return each output for all samples, with ``edit`` applied to ``layer``."""
        with ExitStack() as stack:
            if layer is not None and edit is not None:
                stack.enter_context(self._edited(layer, edit))
            return outputs_of(self._module, self._feeds)

    @contextmanager
    def _edited(self, name: str, edit: Edit) -> Iterator[None]:
        import torch

        layer, weights = self._owners[name]
        axis = 1 if type(layer).__name__ in _TRANSPOSED else 0
        before = {key: getattr(layer, key).data for key in weights}
        handle = None
        try:
            if edit.weights is not None:
                for key, value in before.items():
                    getattr(layer, key).data = torch.from_numpy(edit.weights(value.numpy(), axis))
            if edit.activation_bits is not None:
                handle = layer.register_forward_pre_hook(self._rounding(name, edit.activation_bits))
            yield
        finally:
            for key, value in before.items():
                getattr(layer, key).data = value
            if handle is not None:
                handle.remove()

    def _rounding(self, name: str, bits: int) -> Any:
        """A hook that rounds a layer's input to asymmetric integers over the range of the samples."""
        import torch

        low, high = self._range(name)
        top = 2**bits - 1
        scale = (high - low) / top or 1.0
        zero = round(-low / scale)

        def hook(_layer: Any, inputs: Any) -> Any:
            if not inputs or not isinstance(inputs[0], torch.Tensor) or not inputs[0].is_floating_point():
                return None
            codes = ((inputs[0] / scale).round() + zero).clamp(0, top)
            return ((codes - zero) * scale, *inputs[1:])

        return hook

    def _range(self, name: str) -> tuple[float, float]:
        """The range of a layer's input, zero included; all are measured in one run."""
        import torch

        if not self._ranges:
            handles = []
            for each, (layer, _) in self._owners.items():
                self._ranges[each] = (0.0, 0.0)

                def hook(_layer: Any, inputs: Any, each: str = each) -> None:
                    if inputs and isinstance(inputs[0], torch.Tensor) and inputs[0].is_floating_point():
                        low, high = self._ranges[each]
                        ends = inputs[0].aminmax()
                        self._ranges[each] = (min(low, float(ends.min)), max(high, float(ends.max)))

                handles.append(layer.register_forward_pre_hook(hook))
            try:
                self.run()
            finally:
                for handle in handles:
                    handle.remove()
        return self._ranges[name]

"""A transformer encoder of BERT-tiny's size: 2 layers, hidden 128, 2 heads (Turc et al. 2019, arXiv:1908.08962).

The architecture is that of BERT (Devlin et al. 2018, arXiv:1810.04805) for one segment without padding: all
tokens are attended to, and all have the segment embedding 0.
"""

import torch
from torch import nn

from edgepack.zoo.weights import init_seeded

VOCABULARY = 30522
_LAYERS, _HIDDEN, _HEADS, _FEED_FORWARD = 2, 128, 2, 512
_POSITIONS, _SEGMENTS = 512, 2
_EPSILON = 1e-12  # of BERT's layer normalisation


class Attention(nn.Module):  # type: ignore[misc] # torch is untyped here (pyproject.toml)
    """Multi-head self-attention over ``[N, tokens, hidden]``."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.size = hidden // heads
        self.query = nn.Linear(hidden, hidden)
        self.key = nn.Linear(hidden, hidden)
        self.value = nn.Linear(hidden, hidden)
        self.output = nn.Linear(hidden, hidden)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``[N, tokens, hidden]`` to the same shape."""
        query, key, value = (self._heads(layer(x)) for layer in (self.query, self.key, self.value))
        scores = query @ key.transpose(-2, -1) * self.size**-0.5
        context = torch.softmax(scores, dim=-1) @ value
        mixed: torch.Tensor = self.output(context.transpose(1, 2).flatten(2))
        return mixed

    def _heads(self, x: torch.Tensor) -> torch.Tensor:
        """``[N, tokens, hidden]`` to ``[N, heads, tokens, hidden/heads]``."""
        return x.unflatten(2, (-1, self.size)).transpose(1, 2)  # fewer heads after pruning


class Layer(nn.Module):  # type: ignore[misc] # torch is untyped here (pyproject.toml)
    """Attention and two linear layers, each with residual connection and normalisation."""

    def __init__(self, hidden: int = _HIDDEN, heads: int = _HEADS, feed_forward: int = _FEED_FORWARD) -> None:
        super().__init__()
        self.attention = Attention(hidden, heads)
        self.attention_norm = nn.LayerNorm(hidden, _EPSILON)
        self.feed_forward = nn.Sequential(
            nn.Linear(hidden, feed_forward), nn.GELU(), nn.Linear(feed_forward, hidden)
        )
        self.feed_forward_norm = nn.LayerNorm(hidden, _EPSILON)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``[N, tokens, hidden]`` to the same shape."""
        x = self.attention_norm(x + self.attention(x))
        y: torch.Tensor = self.feed_forward_norm(x + self.feed_forward(x))
        return y


class BertTiny(nn.Module):  # type: ignore[misc] # torch is untyped here (pyproject.toml)
    """Token ids ``[N, tokens]`` to hidden states ``[N, tokens, hidden]`` and the pooled first one ``[N, hidden]``."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, _HIDDEN)
        self.positions = nn.Embedding(_POSITIONS, _HIDDEN)
        self.segments = nn.Embedding(_SEGMENTS, _HIDDEN)
        self.norm = nn.LayerNorm(_HIDDEN, _EPSILON)
        self.layers = nn.Sequential(*(Layer() for _ in range(_LAYERS)))
        self.pooler = nn.Linear(_HIDDEN, _HIDDEN)

    def forward(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return hidden states and pooled state."""
        place = self.positions.weight[: ids.shape[1]] + self.segments.weight[0]
        hidden = self.layers(self.norm(self.words(ids) + place))
        return hidden, torch.tanh(self.pooler(hidden[:, 0]))


def network(seed: int = 0) -> BertTiny:
    """Return the encoder in eval mode; the same ``seed`` gives the same weights."""
    return init_seeded(BertTiny, seed)

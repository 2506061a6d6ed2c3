"""LSTM and GRU text classifiers of the size of Keras's example ``imdb_lstm``.

20,000 words, embeddings and states of 128, texts of 80 tokens. The example has one output for two classes;
here each class has a logit. torch's LSTM has two bias vectors where Keras's has their sum (512 numbers);
Keras's GRU also has two.
"""

import torch
from torch import nn

from edgepack.zoo.weights import init_seeded

VOCABULARY = 20_000
_HIDDEN = 128


class Classifier(nn.Module):  # type: ignore[misc] # torch is untyped here (pyproject.toml)
    """Token ids ``[N, tokens]`` to logits ``[N, 2]``, from the state after the last token."""

    def __init__(self, layer: type[nn.RNNBase], classes: int = 2) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, _HIDDEN)
        self.recurrent = layer(_HIDDEN, _HIDDEN, batch_first=True)
        self.classifier = nn.Linear(_HIDDEN, classes)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Return logits ``[N, classes]``."""
        states, _ = self.recurrent(self.embedding(ids))
        logits: torch.Tensor = self.classifier(states[:, -1])
        return logits


def lstm(seed: int = 0) -> Classifier:
    """Return the LSTM classifier in eval mode; the same ``seed`` gives the same weights."""
    return init_seeded(lambda: Classifier(nn.LSTM), seed)


def gru(seed: int = 0) -> Classifier:
    """Return the GRU classifier in eval mode; the same ``seed`` gives the same weights."""
    return init_seeded(lambda: Classifier(nn.GRU), seed)

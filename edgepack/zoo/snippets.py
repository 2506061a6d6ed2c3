"""Classifiers that tell source code from prose, byte by byte, and their data: parts of what every Python comes with.

Prose are paragraphs of ``pydoc_data.topics``, the chapters behind ``help()``, without examples, tables and grammars; code are
modules of the standard library without comments and docstrings. A sample are 64 bytes from anywhere in a text; of every five
chapters and modules, one is for the test split, so that no text is in both.
"""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from edgepack.data import Splits
from edgepack.zoo.bert import Layer
from edgepack.zoo.weights import untrained

if TYPE_CHECKING:
    import numpy as np

LENGTH = 64
"""Bytes of a sample."""

_CLASSES = ("prose", "code")
_SAMPLES = {"train": 2400, "test": 600}  # of each class
_PARTS = 5  # of as many texts, the last is for the test split
_SHORTEST = 80  # characters of a paragraph of prose; shorter ones are headings
_EVERY = 4  # module, of some 200: as much code as there is prose
_WIDTH, _HIDDEN = 32, 64


class SnippetClassifier(nn.Module):  # type: ignore[misc] # torch is untyped here (pyproject.toml)
    """Bytes ``[N, 64]`` to logits ``[N, 2]``, from the state after the last byte."""

    def __init__(self, layer: type[nn.RNNBase]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(256, _WIDTH)
        self.recurrent = layer(_WIDTH, _HIDDEN, batch_first=True)
        self.classifier = nn.Linear(_HIDDEN, len(_CLASSES))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Return logits ``[N, 2]``."""
        states, _ = self.recurrent(self.embedding(ids))
        logits: torch.Tensor = self.classifier(states[:, -1])
        return logits


class SnippetTransformer(nn.Module):  # type: ignore[misc] # torch is untyped here (pyproject.toml)
    """Bytes ``[N, 64]`` to logits ``[N, 2]``, from the mean state after two layers of a transformer encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(256, _WIDTH)
        self.positions = nn.Parameter(0.1 * torch.randn(LENGTH, _WIDTH))
        self.layers = nn.Sequential(*(Layer(_WIDTH, 2, 2 * _WIDTH) for _ in range(2)))
        self.classifier = nn.Linear(_WIDTH, len(_CLASSES))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Return logits ``[N, 2]``."""
        states = self.layers(self.embedding(ids) + self.positions)
        logits: torch.Tensor = self.classifier(states.mean(1))
        return logits


def lstm() -> SnippetClassifier:
    """Return the untrained network with an LSTM; its weights are always the same."""
    return untrained(lambda: SnippetClassifier(nn.LSTM))


def gru() -> SnippetClassifier:
    """Return the untrained network with a GRU; its weights are always the same."""
    return untrained(lambda: SnippetClassifier(nn.GRU))


def transformer() -> SnippetTransformer:
    """Return the untrained transformer; its weights are always the same."""
    return untrained(SnippetTransformer)


def splits() -> Splits:
    """Return 4,800 training and 1,200 test samples, int64 ``[N, 64]``, always the same with the same Python."""
    import numpy as np

    rng = np.random.default_rng(0)
    texts = {"prose": list(_prose()), "code": list(_code())}
    found: dict[str, list[np.ndarray]] = {"train": [], "test": []}
    for name in _CLASSES:
        for split, count in _SAMPLES.items():
            chosen = [
                text
                for number, text in enumerate(texts[name])
                if (number % _PARTS == _PARTS - 1) == (split == "test")
            ]
            found[split].append(_windows(chosen, count, rng))
    (x_train, y_train), (x_test, y_test) = (_joined(found[split], rng) for split in ("train", "test"))
    return Splits(x_train, y_train, x_test, y_test, classes=_CLASSES)


def _joined(classes: Sequence[np.ndarray], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the samples of all classes in random order, and the numbers of their classes."""
    import numpy as np

    x = np.concatenate(classes)
    y = np.concatenate([np.full(len(each), number) for number, each in enumerate(classes)])
    order = rng.permutation(len(x))
    return x[order], y[order]


def _windows(texts: Sequence[bytes], count: int, rng: np.random.Generator) -> np.ndarray:
    """Return parts of texts ``[count, LENGTH]``, each place in them as likely as any other."""
    import numpy as np

    usable = [np.frombuffer(text, np.uint8) for text in texts if len(text) >= LENGTH]
    places = np.cumsum([len(text) - LENGTH + 1 for text in usable])
    parts = []
    for place in rng.integers(places[-1], size=count):
        number = int(np.searchsorted(places, place, side="right"))
        start = int(place - (places[number - 1] if number else 0))
        parts.append(usable[number][start : start + LENGTH])
    return np.stack(parts).astype(np.int64)


def _prose() -> Iterator[bytes]:
    """Yield the chapters in order of their names, paragraphs joined by empty lines."""
    from pydoc_data.topics import topics

    for _, chapter in sorted(topics.items()):
        paragraphs = chapter.replace("\r", "").split("\n\n")
        kept = [each for each in paragraphs if len(each) >= _SHORTEST and each[0] not in " |+"]
        yield "\n\n".join(each for each in kept if "::=" not in each).encode()


def _code() -> Iterator[bytes]:
    """Yield some of the modules that lie directly in the standard library's folder, in order of their names."""
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))[::_EVERY]:
        yield _stripped(path.read_bytes())


def _stripped(source: bytes) -> bytes:
    """Return Python source without comments and docstrings, which are prose."""
    import ast

    lines = source.decode("utf-8", "replace").splitlines()
    for node in ast.walk(ast.parse(source)):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            for line in range(node.lineno - 1, node.end_lineno or node.lineno):
                lines[line] = ""
    return "\n".join(line for line in lines if line.strip() and not line.lstrip().startswith("#")).encode()

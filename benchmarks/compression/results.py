"""The committed results: one document per network, with what each cell was made by and its figures of each seed."""

import fcntl
from pathlib import Path
from typing import Any

from benchmarks.compression.cells import CELLS, SOURCE, CompressionCell
from benchmarks.compression.nets import NETS
from benchmarks.kit import documents, places
from benchmarks.kit.machine import commit

Results = dict[str, dict[str, list[dict[str, Any]]]]
"""By network and cell: the figures of each seed that was measured without an error."""


def known(folder: Path, cell: CompressionCell, seed: int) -> bool:
    """Whether there is a result of this cell and seed, for the same training and steps, that is not an error."""
    saved = _document(folder, cell.net)["cells"].get(cell.name)
    found = [] if saved is None or saved["made_by"] != _made_by(cell) else saved["seeds"]
    return any(each["seed"] == seed and "error" not in each for each in found)


def save(folder: Path, cell: CompressionCell, figures: dict[str, Any]) -> None:
    """Add the figures of one seed; those of other steps under this name are dropped."""
    places.CACHE.mkdir(parents=True, exist_ok=True)
    with (places.CACHE / "compression.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        document = _document(folder, cell.net)
        saved = document["cells"].get(cell.name)
        earlier = saved["seeds"] if saved is not None and saved["made_by"] == _made_by(cell) else []
        seeds = [each for each in earlier if each["seed"] != figures["seed"]] + [
            {**figures, "commit": commit()}
        ]
        seeds.sort(key=lambda each: each["seed"])
        document["cells"][cell.name] = {"made_by": _made_by(cell), "seeds": seeds}
        documents.write(folder / f"{cell.net}.json", document)


def read(folder: Path) -> Results:
    """Read all results of today's cells; those of other trainings or steps cannot be compared with them.

    Raises:
        InputError: there are none, or a document is damaged.
    """
    found: Results = {}
    for net in NETS:
        saved = _document(folder, net)["cells"]
        cells = {
            cell.name: [each for each in saved[cell.name]["seeds"] if "error" not in each]
            for cell in CELLS
            if cell.net == net and cell.name in saved and saved[cell.name]["made_by"] == _made_by(cell)
        }
        if cells:
            found[net] = cells
    if not any(SOURCE in cells for cells in found.values()):
        documents.read(folder / f"{next(iter(NETS))}.json")  # its error says what to do
    return found


def _document(folder: Path, net: str) -> dict[str, Any]:
    path = folder / f"{net}.json"
    return documents.read(path) if path.exists() else {"net": net, "cells": {}}


def _made_by(cell: CompressionCell) -> dict[str, Any]:
    """What the results of a cell depend on, besides the code: the training and the steps."""
    return {"train": dict(NETS[cell.net].train), "steps": [dict(step) for step in cell.steps]}

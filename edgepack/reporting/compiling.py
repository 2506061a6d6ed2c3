"""Compile an .onnx file, or a recipe's release model, for one target."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.base.files import require_writable
from edgepack.base.temporary import temporary_folder
from edgepack.config.plan import Plan
from edgepack.engine.events import Advanced, Listener
from edgepack.errors import UsageError, naming

if TYPE_CHECKING:
    from edgepack.lower import Compiled


def compile_path(
    path: Path,
    plan: Callable[[], Plan],
    target: str,
    out: Path | None,
    dump: Path | None,
    *,
    listener: Listener,
) -> "Compiled":
    """As :func:`edgepack.api.compile`; ``plan`` reads the recipe, if the path is one.

    Raises:
        UsageError: the library cannot be written.
        EdgepackError: the recipe has problems, or the model cannot be imported or compiled.
    """
    from edgepack.config.target import load_target
    from edgepack.export import import_checked, load_onnx, open_batch
    from edgepack.lower import compile_model
    from edgepack.reporting.running import release_model
    from edgepack.tuning import RecordStore, best_records

    chosen = load_target(target)
    library = out or Path(f"{path.stem}-{chosen.name}.so")
    if library.is_dir():
        raise UsageError("cannot write the library", where=str(library), why="it is a folder")
    require_writable(library.parent)
    with temporary_folder(prefix="edgepack-compile-") as folder, naming(folder, path, path):
        if path.suffix in {".yaml", ".yml"}:
            onnx = release_model(plan(), listener)
        else:
            onnx = Path(folder, "model.onnx")
            import_checked(path, open_batch(load_onnx(path)), onnx)
        return compile_model(
            onnx,
            chosen,
            library,
            records=best_records(onnx, chosen, RecordStore.of_user(emulated=False)),
            dump=dump,
            progress=lambda text: listener(Advanced(text=text)),
        )

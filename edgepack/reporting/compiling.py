"""Compile an .onnx file, or a recipe's release model, for one target."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.base.files import require_writable
from edgepack.base.temporary import temporary_folder
from edgepack.config.plan import Plan
from edgepack.engine.events import Advanced, Listener
from edgepack.errors import UsageError, naming
from edgepack.spec import Data
from edgepack.spec.runtime import Static

if TYPE_CHECKING:
    from edgepack.lower import Compiled


def compile_path(
    path: Path,
    plan: Callable[[], Plan],
    target: str,
    out: Path | None,
    dump: Path | None,
    *,
    static: Static = False,
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
    library = out or Path(f"{path.stem}-{chosen.name}.{'static' if static else 'so'}")
    if library.is_dir() and not static:
        raise UsageError("cannot write the library", where=str(library), why="it is a folder")
    if static:
        require_new(library)
    require_writable(library.parent)
    with temporary_folder(prefix="edgepack-compile-") as folder, naming(folder, path, path):
        name, version, data = path.stem, "0", None
        if path.suffix in {".yaml", ".yml"}:
            made = plan()
            name, version, data = made.recipe.name, made.recipe.version, made.recipe.data
            onnx = release_model(made, listener)
        else:
            onnx = Path(folder, "model.onnx")
            import_checked(path, open_batch(load_onnx(path)), onnx)
        build = partial(
            compile_model,
            onnx,
            chosen,
            records=best_records(onnx, chosen, RecordStore.of_user(emulated=False)),
            dump=dump,
            progress=lambda text: listener(Advanced(text=text)),
        )
        if not static:
            return build(library)
        return _static(
            partial(build, embed=static == "embedded"),
            library,
            name,
            version=version,
            target=chosen.name,
            data=data,
        )


def require_new(folder: Path) -> None:
    """Raise UsageError if there is something in the place of a static library's folder."""
    if folder.exists():
        raise UsageError(
            "cannot write the static library",
            where=str(folder),
            why="it exists",
            next="remove it, or choose another folder with --out",
        )


def _static(
    build: "Callable[..., Compiled]", folder: Path, name: str, *, version: str, target: str, data: Data | None
) -> "Compiled":
    """Build a static library with all that belongs to it in a new folder."""
    from edgepack.bundle import static

    symbol = static.identifier(name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(folder.parent, ".edgepack-") as scratch:
        fresh = scratch / "made"
        compiled = build(static.archive(fresh, symbol), static=symbol)
        if compiled.weights is not None:
            compiled.weights.rename(static.weights(fresh, symbol))
        known = {each.name: data.preprocess(each.shape) for each in compiled.inputs} if data else {}
        static.write_others(
            fresh,
            symbol,
            version=version,
            target=target,
            inputs=compiled.inputs,
            outputs=compiled.outputs,
            weights=compiled.weights is not None,
            preprocess={input_: each for input_, each in known.items() if each is not None},
        )
        fresh.rename(folder)
    weights = None if compiled.weights is None else static.weights(folder, symbol)
    return replace(compiled, path=static.archive(folder, symbol), weights=weights)

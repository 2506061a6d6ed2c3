"""``module:callable``: the user's own Python code beside the recipe, imported only while it is needed."""

import contextlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from edgepack.base.text import did_you_mean, nearest
from edgepack.data.sources import modules_below
from edgepack.errors import EdgepackError, InputError


def call(reference: str, base: Path) -> Any:
    """Import ``module:callable`` with ``base`` first on ``sys.path`` and call it without arguments.

    Raises:
        InputError: if the module or the callable is missing, or either raises; with the user's own
            file and line.
    """
    with importable(base):
        function = resolve(reference, base)
        return call_user_code(function, reference, base)


@contextlib.contextmanager
def importable(base: Path) -> Iterator[None]:
    """Put ``base`` first on ``sys.path`` for the block, so that user code can also import when it runs."""
    entry = str(base.resolve())
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        sys.path.remove(entry)


def resolve(reference: str, base: Path) -> Callable[..., Any]:
    """The callable that ``module:callable`` names; call it inside :func:`importable`.

    A module found under ``base`` is always re-imported, with all modules beside it that it imports: two recipes may both
    have a ``model.py``, and a file may have been edited since.
    """
    name, _, attribute = reference.partition(":")
    top = name.partition(".")[0]
    folder = base.resolve()
    if (folder / f"{top}.py").is_file() or (folder / top).is_dir():
        if top in sys.stdlib_module_names:
            raise InputError(
                f"{top!r} is the name of a standard library module",
                where=str(folder / top),
                next="rename your file",
            )
        ours = {top, *modules_below(name, folder)}
        for loaded in [m for m in sys.modules if m in ours or m.startswith(f"{top}.")]:
            del sys.modules[loaded]
        importlib.invalidate_caches()
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise _user_error(error, f"{name} cannot be imported", folder) from error
        raise InputError(
            f"there is no module {name!r}",
            where=reference,
            why=f"neither in {folder} nor installed",
            next=f"put {name.replace('.', '/')}.py beside the recipe",
        ) from error
    except Exception as error:
        raise _user_error(error, f"{name} cannot be imported", folder) from error
    function = getattr(module, attribute, None)
    if function is None:
        names = [n for n, value in vars(module).items() if callable(value) and not n.startswith("_")]
        hint = did_you_mean(nearest(attribute, names), quote="'")
        raise InputError(
            f"module {name!r} has no {attribute!r}{hint}",
            where=getattr(module, "__file__", None) or reference,
        )
    if not callable(function):
        raise InputError(f"{reference} is a {type(function).__name__}, not a callable", where=reference)
    return function  # type: ignore[no-any-return] # getattr gives Any; callable() was checked


def call_user_code(function: Callable[..., Any], reference: str, base: Path, *args: Any) -> Any:
    """Call ``function(*args)``; exceptions become an InputError with the user's file and line."""
    try:
        return function(*args)
    except EdgepackError:
        raise
    except Exception as error:
        raise _user_error(error, f"{reference} failed", base.resolve()) from error


_TOOLS = ("torch", "onnxscript", "onnx_ir", "edgepack.compression", "edgepack.export", "edgepack.torchnet")


def spot(error: BaseException) -> str | None:
    """``file:line`` of the deepest frame in the user's own code, over the error and its causes."""
    folders = []
    for name in _TOOLS:
        found = importlib.util.find_spec(name)
        folders += [] if found is None else list(found.submodule_search_locations or ())
    cause: BaseException | None = error
    place = None
    while cause is not None:
        for frame in traceback.extract_tb(cause.__traceback__):
            if Path(frame.filename).is_file() and not frame.filename.startswith(tuple(folders)):
                place = f"{frame.filename}:{frame.lineno}"
        cause = cause.__cause__
    return place


def _user_error(error: BaseException, message: str, folder: Path) -> InputError:
    why = f"{type(error).__name__}: {error}"
    if isinstance(error, SyntaxError) and error.filename:
        return InputError(message, where=f"{error.filename}:{error.lineno}", why=f"SyntaxError: {error.msg}")
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(folder)] or frames[-1:]
    return InputError(message, where=f"{own[-1].filename}:{own[-1].lineno}" if own else None, why=why)

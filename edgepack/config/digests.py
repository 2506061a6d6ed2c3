"""The sha256 of files that a recipe names, against those that it gives: checked before anything is read from them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from edgepack.base.files import sha256_file
from edgepack.compression.registry import METHODS
from edgepack.config.problems import DataProblem, Location
from edgepack.config.recipe import Recipe
from edgepack.errors import IntegrityError
from edgepack.spec import Model


@dataclass(frozen=True)
class ExpectedSum:
    """The sum that a file must have.

    Attributes:
        location: of the sum in the recipe.
        name: the file's name there.
        path: the file.
        sha256: its sum.
    """

    location: Location
    name: str
    path: Path
    sha256: str

    def require(self, found: str, where: str | None = None) -> None:
        """Compare with the sum of the file.

        Raises:
            IntegrityError: they differ.
        """
        if found != self.sha256.lower():
            raise IntegrityError(
                f"{self.path} is not the file that the recipe means",
                where=where or ".".join(map(str, self.location)),
                why=f"its sha256 is {found or 'that of no file'}, expected {self.sha256.lower()}",
                state="nothing was read from it",
                next="get the right file; or, if you changed it yourself, write its sum into the recipe",
            )


def require_sums(recipe: Recipe, base: Path, place: Callable[[Location], str]) -> None:
    """Compare the sums that a recipe gives with those of the files: of its model, and of files of its steps.

    Args:
        recipe: names files that exist.
        base: its folder.
        place: the file, line and column of a location.

    Raises:
        IntegrityError: a file has another sum.
    """
    for each in (*expected_sums(recipe.model, base), *_sums_of_steps(recipe, base)):
        if each.path.is_file():
            each.require(sha256_file(each.path), place(each.location))


def expected_sums(model: Model, base: Path) -> Iterator[ExpectedSum]:
    """The sums of a model's files."""
    here: Location = ("model", "sha256")
    main = model.onnx or model.weights
    if main is None or model.sha256 is None:
        return
    path = base / main
    if isinstance(model.sha256, str):
        yield ExpectedSum(here, path.name, path, model.sha256)
        return
    from edgepack.onnxfile.external import real_path

    for name, digest in model.sha256.items():
        file = path if name == path.name else real_path(path).parent / name
        yield ExpectedSum((*here, name), name, file, digest)


def _sums_of_steps(recipe: Recipe, base: Path) -> Iterator[ExpectedSum]:
    for number, step in enumerate(recipe.compress):
        for file in METHODS[step.method].files(step):
            if file.sha256 is not None:
                location = ("compress", number, *file.option[:-1], "sha256")
                yield ExpectedSum(location, file.value, base / file.value, file.sha256)


def sum_problems(model: Model, base: Path) -> Iterator[DataProblem]:
    """Files of a model whose sums are not given although others are, and names that are none of its files."""
    here: Location = ("model", "sha256")
    main = model.onnx or model.weights
    if model.sha256 is None or main is None or not (base / main).is_file():
        return
    files = [Path(main).name, *(external_files(base / main) if model.onnx else ())]
    given = {each.name: each for each in expected_sums(model, base)}
    missing = [name for name in files if name not in given]
    if missing:
        mapping = ", ".join(f"{name}: …" for name in files)
        message = (
            f"no sum is given of {', '.join(missing)}, where the model keeps data: write `{{{mapping}}}`"
        )
        yield DataProblem(here, message, depends=(("model",),))
    for name, sums in given.items():
        if name not in files:
            message = f"`{name}` is none of the model's files: {', '.join(files)}"
            yield DataProblem(sums.location, message, on_key=True)


def external_files(path: Path) -> list[str]:
    """The files in which an .onnx file keeps data, by their paths from its folder; none if it cannot be read."""
    from edgepack.onnxfile.external import tensors
    from edgepack.onnxfile.reading import peek

    model = peek(path)
    if model is None:
        return []
    entries = [entry for tensor in tensors(model) for entry in tensor.external_data]
    return sorted({entry.value for entry in entries if entry.key == "location"})

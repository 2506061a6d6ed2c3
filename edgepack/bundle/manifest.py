"""The manifest: name, version, target and contents of a bundle. Its digest identifies the release.

The release digest is the sha256 of ``manifest.json``, and the manifest holds the sha256 of every other
file. So the digest covers all bytes of the release, independent of the compressor. Nothing in it
depends on when or where the bundle was built: equal inputs give equal digests.

A manifest of an older version keeps the bytes that it was read from, since serialising it again would change them.

Versions: 1; 2 adds ``constants``, ``executor`` and ``compression[].encodings``, and renames ``variant`` to ``candidate``;
3 has ``scores`` of any metric in place of ``accuracy``, ``compression[].nonzeros``, ``constants[].raw_bytes``, and files of
weights; 4 adds ``agent_linking``, ``executor_reason`` and ``memory``.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, PrivateAttr, model_validator

from edgepack.agent.protocol import Linking
from edgepack.base.files import sha256_json
from edgepack.bundle.layout import MANIFEST, is_model
from edgepack.compression import Step
from edgepack.config.recipe import Recipe
from edgepack.config.target import Abi, Gpu, Target
from edgepack.errors import InputError
from edgepack.spec import Count, ModelFigures, Name, Preprocess, Scored, Spec, Tensor, Version
from edgepack.spec.candidate import RELEASE
from edgepack.spec.document import JsonDocument, rename_key
from edgepack.spec.encoding import ConstantSummary
from edgepack.spec.memory import MemoryPlan

PLAIN: Final = 0o644
EXECUTABLE: Final = 0o755
MAX_PATH = 100  # bytes: the name field of a ustar header

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

_PATH = re.compile(r"[A-Za-z0-9_+-][A-Za-z0-9._+-]*(/[A-Za-z0-9_+-][A-Za-z0-9._+-]*)*")


_NOT_PRINTABLE = {"Cc", "Cs", "Zl", "Zp"}  # Unicode's categories of control characters and line separators


def _texts(value: Any) -> Iterator[str]:
    """All strings in a JSON value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in (*value.keys(), *value.values()):
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


class FileEntry(Spec):
    """One file of the bundle. Paths are relative, with ``/``, and no part starts with a dot."""

    path: str
    sha256: Sha256
    size: Count = Field(description="Bytes.")
    mode: Literal[0o644, 0o755] = PLAIN

    @model_validator(mode="after")
    def _plain_path(self) -> Self:
        if len(self.path) > MAX_PATH or not _PATH.fullmatch(self.path):
            raise ValueError(f"{self.path!r} is not a path allowed in a bundle")
        return self


class Tokenizer(Spec):
    """How text becomes the input tensor."""

    kind: str = Field(description="'bytes', 'words', or a user's module:callable.")
    length: int = Field(ge=1, description="Tokens per sample; shorter samples are padded with 0.")
    vocabulary: tuple[str, ...] = Field(
        default=(), description="words: the word of each id; 0 is padding, 1 any other word."
    )


class InputInfo(Tensor):
    """An input, and how an image or text is converted to it."""

    preprocess: Preprocess | None = None
    tokenizer: Tokenizer | None = None


class RecipeInfo(Spec):
    """The part of the recipe that affects the release; ``digest`` is the sha256 of ``content``'s canonical JSON.

    Targets, gates and bench settings are not part of it: changing them does not change the release.
    """

    digest: Sha256
    content: dict[str, Any]

    @classmethod
    def of(cls, recipe: Recipe, steps: Sequence[Step]) -> Self:
        """The record of a parsed recipe, compressed by ``steps``."""
        content = recipe.model_dump(
            mode="json",
            include={"edgepack", "name", "version", "model", "data"},
        )
        task = {"metric", "higher_is_better", "loss"}
        content |= recipe.model_dump(mode="json", include=task, exclude_none=True)
        content["compress"] = [step.model_dump(mode="json") for step in steps]
        return cls(digest=sha256_json(content), content=content)


class TargetInfo(Spec):
    """Requirements on the board. Preflight checks them before anything is sent."""

    name: Name
    abi: Abi
    device_kind: Literal["cpu", "cuda"]
    tvm: dict[str, Any]
    cpu_features: tuple[str, ...] = Field(default=(), description="ISA features the kernels use.")
    gpu: Gpu | None = None

    @classmethod
    def of(cls, target: Target) -> Self:
        """The record of a parsed target."""
        return cls(
            name=target.name,
            abi=target.abi,
            device_kind=target.device_kind,
            tvm=target.tvm,
            cpu_features=target.cpu.features,
            gpu=target.gpu,
        )


class Scores(Spec):
    """The metric on the test split. That on the board is in the report, as it is measured after packaging."""

    torch: Scored | None = Field(default=None, description="The model after the steps on torch, in torch.")
    onnxruntime: Scored | None = Field(default=None, description="This bundle's ONNX model.")


class Contents(JsonDocument):
    """The manifest without its list of files: the input of ``pack``."""

    noun = "manifest"
    hint = "rebuild the bundle with this edgepack"

    kind: Literal["bundle"] = "bundle"
    edgepack: Literal[4] = Field(default=4, description="Version of the manifest schema.")
    name: Name
    version: Version
    candidate: Name = Field(default=RELEASE, description="The candidate that it was built from.")
    agent_protocol: int = Field(ge=1, description="Protocol version of its agent.")
    agent_linking: Linking = Field(
        default="dynamic",
        description="Whether the agent needs the board's C library, or nothing of the board.",
    )
    executor: Name = Field(
        default="vm", description="The executor that runs the compiled model on the board."
    )
    executor_reason: str | None = Field(
        default=None, description="Why it is TVM's virtual machine: what the model's own runtime cannot do."
    )
    memory: MemoryPlan | None = Field(default=None, description="If the model has its own runtime.")
    recipe: RecipeInfo
    target: TargetInfo
    tools: dict[str, str] = Field(
        default_factory=dict, description="Versions of the tools that built the bundle."
    )
    inputs: tuple[InputInfo, ...]
    outputs: tuple[Tensor, ...]
    classes: tuple[str, ...] | None = Field(default=None, description="Names of the output's classes.")
    compression: tuple[ModelFigures, ...] = ()
    constants: tuple[ConstantSummary, ...] = Field(
        default=(), description="The model's constants by encoding, and when they are decoded."
    )
    scores: Scores = Scores()

    @model_validator(mode="after")
    def _printable(self) -> Self:
        """What is about the target and the tools is printed, and written to a board's history."""
        told = self.model_dump(mode="json", include={"target", "tools", "executor_reason"})
        for text in _texts(told):
            if any(unicodedata.category(character) in _NOT_PRINTABLE for character in text):
                raise ValueError(f"{text[:80]!r} contains a control character")
        return self

    @classmethod
    def upgrade(cls, value: dict[str, Any], version: int) -> dict[str, Any]:
        """Convert the values of an older manifest to this version."""
        if version == 1:
            value = rename_key(value, "variant", "candidate")
        if version < 3 and isinstance(value.get("compression"), list):  # noqa: PLR2004 - the version that renamed it
            figures = [rename_key(item, "accuracy", "score") for item in value["compression"]]
            value = {**value, "compression": figures}
        if isinstance(found := value.get("accuracy"), dict):
            scores = {key: item for key, item in found.items() if key != "samples"}
            value = {key: item for key, item in value.items() if key != "accuracy"} | {"scores": scores}
        return super().upgrade(value, version)

    @property
    def filename(self) -> str:
        """``name-version-target.edgepack``; other candidates than the release are named after the name."""
        suffix = "" if self.candidate == RELEASE else f"-{self.candidate}"
        return f"{self.name}{suffix}-{self.version}-{self.target.name}.edgepack"


class Manifest(Contents):
    """The manifest of one bundle."""

    files: tuple[FileEntry, ...]

    _read_from: bytes | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _sound_list(self) -> Self:
        paths = [entry.path for entry in self.files]
        for first, second in pairwise(paths):
            if first >= second:
                raise ValueError(f"files are not sorted, or {second!r} is listed twice")
        known = set(paths)
        for path in paths:
            inside = next((str(p) for p in PurePosixPath(path).parents if str(p) in known), None)
            if inside:
                raise ValueError(f"{path!r} lies inside the file {inside!r}")
        for path in paths:
            if PurePosixPath(path).parts[0] == MANIFEST:
                raise ValueError(f"{path!r} is in the place of the manifest itself")
        return self

    @classmethod
    def parse(cls, data: bytes, *, where: str) -> Self:
        """Read a manifest from its bytes, and keep these if serialising it would give different ones.

        Raises:
            InputError: It is another document, or not a valid one.
            SchemaVersionError: It was written by a newer edgepack.
        """
        manifest = super().parse(data, where=where)
        if manifest.to_bytes() != data:
            manifest._read_from = data  # noqa: SLF001 - its own class
        return manifest

    @property
    def model(self) -> str:
        """The path of the compiled model in the bundle.

        Raises:
            InputError: The bundle has none.
        """
        found = next((entry.path for entry in self.files if is_model(entry.path)), None)
        if found is None:
            raise InputError(
                "the bundle has no compiled model",
                where=self.filename,
                next="rebuild it: edgepack package",
            )
        return found

    @property
    def data(self) -> bytes:
        """``manifest.json`` byte for byte: as it was read, or as ``pack`` writes it."""
        return self.to_bytes() if self._read_from is None else self._read_from

    @property
    def digest(self) -> str:
        """The release digest: sha256 of ``manifest.json``."""
        return hashlib.sha256(self.data).hexdigest()

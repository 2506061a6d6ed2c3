"""JSON documents for people and programs: canonical bytes, and a schema version checked before the rest."""

import json
from pathlib import Path
from typing import Any, ClassVar, Self, get_args

import pydantic_core
from pydantic import ValidationError

from edgepack.base.files import write_atomic
from edgepack.errors import InputError
from edgepack.spec.base import Spec


class SchemaVersionError(InputError):
    """The document is sound, and of a schema version that this edgepack does not read."""


def readable_json(value: Any) -> bytes:
    """The one spelling of a document: sorted keys, two-space indent, UTF-8, a newline at the end.

    Raises:
        ValueError: The value holds NaN or an infinity.
    """
    text = json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"


class JsonDocument(Spec):
    """A Spec kept as a JSON file. Subclasses declare ``kind: Literal[...]`` and ``edgepack: Literal[...]``.

    ``kind`` says which document it is, ``edgepack`` the version of its schema. Both are checked before the
    rest, so that a document of another version is named as such and not as a list of unknown fields.
    """

    hint: ClassVar[str] = "run the command that wrote it again"

    def to_bytes(self) -> bytes:
        """The canonical JSON of the document."""
        return readable_json(self.model_dump(mode="json"))

    def save(self, path: Path) -> Path:
        """Write the document atomically and return ``path``."""
        write_atomic(path, self.to_bytes())
        return path

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a document back.

        Raises:
            InputError: The file cannot be read, or is another document.
            SchemaVersionError: It is of another schema version.
        """
        try:
            data = path.read_bytes()
        except OSError as error:
            raise InputError("cannot read the file", where=str(path), why=error.strerror) from error
        return cls.parse(data, where=str(path))

    @classmethod
    def parse(cls, data: bytes, *, where: str) -> Self:
        """Read a document from its bytes; ``where`` names them in errors.

        Raises:
            InputError: It is another document, or not a valid one.
            SchemaVersionError: It is of another schema version.
        """
        (kind,) = get_args(cls.model_fields["kind"].annotation)
        versions: tuple[int, ...] = get_args(cls.model_fields["edgepack"].annotation)
        try:
            value = pydantic_core.from_json(data)
        except ValueError as error:
            raise InputError("not a JSON document", where=where, why=str(error), next=cls.hint) from error
        if not isinstance(value, dict) or value.get("kind") != kind:
            found = value.get("kind") if isinstance(value, dict) else type(value).__name__
            raise InputError(f"not an edgepack {kind}", where=where, why=f"its kind is {found!r}")
        version = value.get("edgepack")
        if version not in versions or isinstance(version, bool):
            newer = isinstance(version, int) and version > max(versions)
            raise SchemaVersionError(
                f"{kind} schema {version!r} is not one this edgepack reads",
                where=where,
                why=f"it reads {', '.join(map(str, versions))}",
                next="upgrade edgepack" if newer else cls.hint,
            )
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            raise InputError(f"not a valid {kind}", where=where, why=first_mistake(error)) from error


def first_mistake(error: ValidationError) -> str:
    """The first mistake pydantic found, on one line, and how many more there are."""
    mistakes = error.errors(include_url=False, include_context=False, include_input=False)
    place = ".".join(str(part) for part in mistakes[0]["loc"])
    more = f" (and {len(mistakes) - 1} more)" if len(mistakes) > 1 else ""
    return f"{place}: {mistakes[0]['msg']}{more}" if place else f"{mistakes[0]['msg']}{more}"

"""JSON documents: canonical bytes, schema versions, and how older versions are read.

Older documents stay readable. A document carries its schema version, which is incremented when its fields change. A
reader accepts every version up to its own: fields that an older version lacks have defaults, and where a default is not
enough, the document overrides ``JsonDocument.upgrade``. A newer version is rejected with an error that says so.
"""

import json
import re
from pathlib import Path
from typing import Any, ClassVar, Self, get_args

import pydantic_core
from pydantic import ValidationError

from edgepack.base.files import write_atomic
from edgepack.errors import InputError
from edgepack.spec.base import Spec


class SchemaVersionError(InputError):
    """The document was written by a newer edgepack, or its version is invalid."""


def check_version(what: str, version: object, newest: int, *, where: str, hint: str) -> int:
    """Check and return the schema version of a document that ``what`` names.

    Raises:
        SchemaVersionError: ``version`` is not one of 1 to ``newest``.
    """
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise SchemaVersionError(
            f"{what} version {version!r} is not one that edgepack writes",
            where=where,
            why=f"versions are whole numbers; this edgepack reads up to {newest}",
            next=hint,
        )
    if version > newest:
        raise SchemaVersionError(
            f"written by a newer edgepack: {what} version {version}, this one reads up to {newest}; update edgepack",
            where=where,
            next="pip install --upgrade edgepack",
        )
    return version


def is_canonical(data: bytes) -> bool:
    """Whether these bytes are the canonical form of the JSON value they hold.

    This checks the bytes as they were read, not a parsed document: parsing adds fields that an older version lacks.
    """
    try:
        return readable_json(json.loads(data)) == data
    except (ValueError, RecursionError):
        return False


# JSON escapes C0 itself; C1 and bidi controls would be obeyed by a terminal, and UTF-8 has no lone surrogates.
_OBEYED = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def readable_json(value: Any) -> bytes:
    """The canonical form of a document: sorted keys, two-space indent, UTF-8, a newline at the end.

    Raises:
        ValueError: The value holds NaN or an infinity.
    """
    text = json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text).encode() + b"\n"


def rename_key(value: Any, old: str, new: str) -> Any:
    """A JSON object with one key renamed; a value that is no object, or lacks the key, is returned unchanged."""
    if not isinstance(value, dict) or old not in value or new in value:
        return value
    return {new if key == old else key: item for key, item in value.items()}


class JsonDocument(Spec):
    """A Spec kept as a JSON file. Subclasses declare ``kind: Literal[...]`` and ``edgepack: Literal[version]``.

    ``kind`` is the type of the document, ``edgepack`` its schema version. Both are checked first, so that the error for a
    newer document is about its version and not about unknown fields. A parsed document is always of the current version,
    whichever version it was written in.

    Attributes:
        noun: The document's name in messages; its kind by default.
        hint: The next step in errors about a damaged document.
    """

    noun: ClassVar[str] = ""
    hint: ClassVar[str] = "re-run the command that wrote it"

    @classmethod
    def schema_version(cls) -> int:
        """The version that this edgepack writes, and the newest that it reads."""
        (version,) = get_args(cls.model_fields["edgepack"].annotation)
        return int(version)

    @classmethod
    def upgrade(cls, value: dict[str, Any], version: int) -> dict[str, Any]:
        """Convert the values of a document of ``version`` to the current version; they are validated afterwards.

        Fields that an older version lacks get their defaults. A document overrides this where a default is not enough.
        """
        return {**value, "edgepack": max(version, cls.schema_version())}

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
            SchemaVersionError: It was written by a newer edgepack.
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
            SchemaVersionError: It was written by a newer edgepack.
        """
        (kind,) = get_args(cls.model_fields["kind"].annotation)
        try:
            value = pydantic_core.from_json(data)
        except ValueError as error:
            raise InputError("not a JSON document", where=where, why=str(error), next=cls.hint) from error
        if not isinstance(value, dict) or value.get("kind") != kind:
            found = value.get("kind") if isinstance(value, dict) else type(value).__name__
            raise InputError(f"not an edgepack {kind}", where=where, why=f"its kind is {found!r}")
        newest = cls.schema_version()
        version = check_version(cls.noun or kind, value.get("edgepack"), newest, where=where, hint=cls.hint)
        try:
            # Through JSON, because pydantic's strict mode takes lists for tuples from JSON only.
            return cls.model_validate_json(json.dumps(cls.upgrade(value, version)))
        except ValidationError as error:
            raise InputError(f"not a valid {kind}", where=where, why=first_problem(error)) from error


def first_problem(error: ValidationError) -> str:
    """The first problem that pydantic reports, on one line, and the number of further ones."""
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    place = ".".join(str(part) for part in problems[0]["loc"])
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{place}: {problems[0]['msg']}{more}" if place else f"{problems[0]['msg']}{more}"

"""The base of everything a user writes in YAML: frozen, strict, unknown keys refused."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Spec(BaseModel):
    """A frozen, strict pydantic model. ``edgepack.config.problems`` suggests names for unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=True)


Reference = Annotated[
    str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$", description="module:callable")
]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
Version = Annotated[str, Field(pattern=r"^[0-9A-Za-z][0-9A-Za-z.+_]*$")]
Glibc = Annotated[str, Field(pattern=r"^2\.\d+$")]
GpuArch = Annotated[str, Field(pattern=r"^sm_\d+$")]
TwoNumbers = Annotated[str, Field(pattern=r"^\d+\.\d+$")]
Filled = Annotated[str, Field(pattern=r"\S")]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]

MAY_BE_EMPTY = "may be empty"
"""Metadata of a list or block for which empty is a meaningful value; others must not be empty in users' files."""

# Descriptions of the patterns above; a test checks that none is missing.
PATTERNS = {
    r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$": "module:callable",
    r"^[a-z0-9][a-z0-9_-]*$": "a name of lower-case letters, digits, - and _",
    r"^[0-9A-Za-z][0-9A-Za-z.+_]*$": "a version such as 1.2.0 (letters, digits, . + _)",
    r"^2\.\d+$": 'a glibc version such as "2.31", quoted',
    r"^sm_\d+$": "a GPU architecture such as sm_87",
    r"^\d+\.\d+$": 'a version such as "13.0", quoted',
    r"\S": "text that is not empty",
}

"""The base of everything a user writes in YAML: frozen, strict, unknown keys refused."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Spec(BaseModel):
    """A frozen, strict pydantic model. ``edgepack.config.problems`` suggests names for unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=True)


Reference = Annotated[
    str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$", description="module:callable")
]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
Version = Annotated[str, Field(pattern=r"^[0-9A-Za-z][0-9A-Za-z.+_]{0,63}$")]
Glibc = Annotated[str, Field(pattern=r"^2\.[0-9]{1,3}$")]
GpuArch = Annotated[str, Field(pattern=r"^sm_[0-9]{2,3}$")]
TwoNumbers = Annotated[str, Field(pattern=r"^[0-9]{1,4}\.[0-9]{1,4}$")]
Filled = Annotated[str, Field(pattern=r"\S")]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9A-Fa-f]{64}$")]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, le=(1 << 32) - 1)]  # what torch, NumPy and scikit-learn all take

MAY_BE_EMPTY = "may be empty"
"""Metadata of a list or block for which empty is a meaningful value; others must not be empty in users' files."""

# Descriptions of the patterns above; a test checks that none is missing.
PATTERNS = {
    r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$": "module:callable",
    r"^[a-z0-9][a-z0-9_-]{0,63}$": "a name of lower-case letters, digits, - and _, at most 64",
    r"^[0-9A-Za-z][0-9A-Za-z.+_]{0,63}$": "a version such as 1.2.0 (letters, digits, . + _), at most 64 characters",
    r"^2\.[0-9]{1,3}$": 'a glibc version such as "2.31", quoted',
    r"^sm_[0-9]{2,3}$": "a GPU architecture such as sm_87",
    r"^[0-9]{1,4}\.[0-9]{1,4}$": 'a version such as "13.0", quoted',
    r"^[0-9A-Fa-f]{64}$": "a sha256 (64 hexadecimal digits)",
    r"\S": "text that is not empty",
}

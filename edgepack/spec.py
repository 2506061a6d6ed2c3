"""The base of everything a user writes in YAML: frozen, strict, unknown keys refused."""

from pydantic import BaseModel, ConfigDict


class Spec(BaseModel):
    """A frozen, strict pydantic model. Near misses of unknown keys are named by ``edgepack.yaml``."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=True)

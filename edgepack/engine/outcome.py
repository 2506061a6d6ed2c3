"""An outcome: what became of one stage, for one target and variant where it has one."""

from typing import Literal

from pydantic import Field

from edgepack.engine.artifact import Artifact
from edgepack.spec import Finite, Spec

Variant = Literal["baseline", "release"]
Status = Literal["done", "cached", "failed", "skipped"]


class Outcome(Spec):
    """One stage's outcome; stages that serve every target have neither target nor variant."""

    stage: str
    target: str | None = None
    variant: Variant | None = None
    status: Status
    seconds: Finite = Field(default=0.0, ge=0, description="Wall clock.")
    started: Finite | None = Field(default=None, ge=0, description="Seconds after the run began.")
    why: str | None = Field(
        default=None, description="Why it was not cached, why it failed, why it was skipped."
    )
    artifacts: tuple[Artifact, ...] = ()

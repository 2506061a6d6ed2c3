"""What a self-test finds."""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from edgepack.spec import Finite, Spec

Status = Literal["passed", "failed", "skipped", "measured"]


class Check(Spec):
    """One check. What is measured has no limit, and neither passes nor fails."""

    group: str = Field(description="board, release, kernels or hardware.")
    name: str
    checks: str = Field(description="What it checks.")
    status: Status
    detail: str = Field(default="", description="What was found, or why it failed or was skipped.")
    error: Finite | None = Field(default=None, description="Largest difference from the reference.")
    tolerance: Finite | None = Field(default=None, description="Largest difference that passes.")
    emulation: Finite | None = Field(
        default=None, description="Largest difference of a real GPU from the emulated one."
    )
    figures: dict[str, Any] = Field(default_factory=dict, description="What was measured.")


class SelfTest(Spec):
    """The self-test of one device."""

    device: str
    target: str
    emulated: bool
    checks: tuple[Check, ...]

    @property
    def failed(self) -> tuple[str, ...]:
        """The names of the checks that failed."""
        return tuple(check.name for check in self.checks if check.status == "failed")


def skip(group: str, names: Sequence[tuple[str, str]], why: str) -> list[Check]:
    """Checks that could not be made, given by name and what they check."""
    return [Check(group=group, name=name, checks=what, status="skipped", detail=why) for name, what in names]

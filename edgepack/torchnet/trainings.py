"""The trainings of one stage, and what is recorded of each."""

from dataclasses import dataclass, field

from edgepack.spec import TrainingRecord


@dataclass
class Trainings:
    """Collects a record of each training.

    Attributes:
        records: of the trainings that ended, in order.
    """

    records: list[TrainingRecord] = field(default_factory=list)

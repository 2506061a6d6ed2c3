"""The start of a run, and arguments rejected before it."""

from datetime import UTC, datetime

import pytest

from edgepack import api
from edgepack.errors import UsageError
from edgepack.pipeline.begin import new_run_id


def test_ids_say_when_and_what():
    run_id = new_run_id("digits", datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC))
    assert run_id.split("-")[:4] == ["20260102", "030405", "678", "digits"]


@pytest.mark.parametrize("budget", [{"trials": 0}, {"minutes": 0}, {"trials": -1}, {"minutes": -0.5}])
def test_a_budget_of_nothing_is_refused(budget):
    with pytest.raises(UsageError, match="greater than 0"):
        api.tune("recipe.yaml", **budget)

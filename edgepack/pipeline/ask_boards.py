"""Ask the boards of a run before anything is trained or compiled, so that one that is off costs no time."""

from collections.abc import Iterator

from edgepack.config.device import VIRTUAL_PREFIX
from edgepack.config.plan import Plan, TargetPlan
from edgepack.config.recipe import Tune
from edgepack.engine.events import Advanced, Listener
from edgepack.errors import EdgepackError, UnreachableError
from edgepack.pipeline.trace import Until
from edgepack.remote.boards import Boards

_OFFLINE = "or start without asking the boards first: --offline"  # an option of run and package


def ask_boards(plan: Plan, boards: Boards, until: Until, budget: Tune | None, listener: Listener) -> None:
    """Connect to every board that the run will use, except virtual ones, which it starts itself.

    A board that cannot be used fails its own target later; the others can still be built and measured.

    Raises:
        EdgepackError: no target has a board that can be used: the error of connecting to it, or all of them in one
            UnreachableError.
    """
    used = [list(_used(target, until, budget)) for target in plan.targets]
    errors: dict[str, EdgepackError] = {}
    for name in dict.fromkeys(name for names in used for name in names):
        if name.startswith(VIRTUAL_PREFIX):
            continue
        listener(Advanced(text=f"asking {name}", share=None))
        try:
            boards.session(name)
        except EdgepackError as error:
            errors[name] = error
            listener(Advanced(text=f"{name} cannot be used: {error.message}", share=None))
    if not errors or not all(names and errors.keys() >= set(names) for names in used):
        return
    first = next(iter(errors.values()))
    first.state = "nothing was run"
    without = None if until == "tune" else _OFFLINE
    if len(errors) == 1:
        first.next = "; ".join(filter(None, (first.next, without))) or None
        raise first
    why = "; ".join(
        f"{name}: {error.message}{f' ({error.why})' if error.why else ''}" for name, error in errors.items()
    )
    raise UnreachableError(
        f"{len(errors)} boards cannot be used: {', '.join(errors)}",
        why=why,
        state=first.state,
        next=", ".join(filter(None, ("connect them", without))),
    ) from first


def _used(target: TargetPlan, until: Until, budget: Tune | None) -> Iterator[str]:
    """The devices that a target's stages up to ``until`` connect to."""
    tune = budget or target.tune
    tunes = until != "evaluate" and bool(tune.trials or tune.minutes)
    yield from target.devices if until == "bench" else target.devices[: int(tunes)]

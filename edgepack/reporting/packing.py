"""Build what a recipe releases for each of its targets: bundles, or static libraries for applications."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.base.files import require_writable
from edgepack.config.plan import Plan
from edgepack.engine.events import Listener
from edgepack.errors import UsageError
from edgepack.reporting.compiling import compile_path, require_new
from edgepack.reporting.running import bundles, run_plan
from edgepack.spec.runtime import Static

if TYPE_CHECKING:
    from edgepack.reporting.document import Report


def build_plan(
    plan: Plan,
    out: Path,
    fresh: Sequence[str],
    *,
    static: Static,
    offline: bool,
    listener: Listener,
) -> "tuple[Report, list[Path]]":
    """As :func:`edgepack.api.build`.

    Raises:
        UsageError: ``out`` cannot be written; a folder of a static library exists (nothing was run).
        InputError: a model cannot be a static library.
    """
    require_writable(out)
    if not static:
        report = run_plan(plan, "package", out=out, fresh=fresh, listener=listener, offline=offline)[0]
        return report, bundles(report, out)
    for target in plan.targets:
        if target.target.gpu is not None:
            raise UsageError(
                f"there is no static library for {target.target.name}",
                where=str(plan.path),
                why="a model for a GPU needs TVM's virtual machine",
                next="name the other targets with --target, or build bundles",
            )
    named = f"{plan.recipe.name}-{plan.recipe.version}"
    folders = {each.target.name: out / f"{named}-{each.target.name}" for each in plan.targets}
    for folder in folders.values():
        require_new(folder)
    report = run_plan(plan, "package", fresh=fresh, listener=listener, offline=offline)[0]
    if report.errors:
        return report, []
    for name, folder in folders.items():
        compile_path(plan.path, lambda: plan, name, folder, None, static=static, listener=listener)
    return report, list(folders.values())

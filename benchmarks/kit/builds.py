"""Models as edgepack and as stock TVM build them: most of what benchmarks take from inside edgepack is taken here."""

from collections import Counter
from pathlib import Path
from typing import Any

from edgepack.config.target import load_target
from edgepack.errors import UsageError


def build(model: Path, target_name: str, out: Path, records: Path | None = None) -> Any:
    """An .onnx file as edgepack's library; what ``compile_model`` says of it.

    Raises:
        EdgepackError: The model cannot be compiled.
    """
    from edgepack.lower import compile_model

    return compile_model(model, load_target(target_name), out, records=records)


def build_without(model: Path, target_name: str, out: Path, phase: str) -> None:
    """An .onnx file as edgepack's library, with a phase of the lowering left out.

    Raises:
        UsageError: There is no such phase for the target.
    """
    from edgepack.base.text import near_miss
    from edgepack.lower import phases
    from edgepack.lower.emit import vm
    from edgepack.lower.phase import Lowering
    from edgepack.schedules import tvm_target

    target = load_target(target_name)
    items = phases.phases_for(target, phases.executor_for(target))
    if phase not in phases.names(items):
        known = near_miss(phase, phases.names(items), say="phases:")
        raise UsageError(f"{target_name} has no phase {phase}{known}")
    lowering = Lowering(model, target, tvm_target(target))
    module = phases.run([item for item in items if item.name != phase], lowering)
    vm.build(module, lowering, out, lambda _: None)


def build_stock(model: Path, target_name: str, out: Path) -> None:
    """What ``tvm.compile`` makes of the imported model, linked like edgepack's."""
    import tvm

    from edgepack.lower import phases
    from edgepack.lower.emit import library
    from edgepack.lower.phase import Lowering
    from edgepack.schedules import tvm_target

    target = load_target(target_name)
    lowering = Lowering(model, target, tvm_target(target))
    items = phases.phases_for(target, phases.executor_for(target))
    module = phases.run(items, lowering, until=phases.IMPORT)
    library.export(tvm.compile(module, target=lowering.tvm_target), target, out)


def tuning_tasks(model: Path, target_name: str) -> list[Any]:
    """The kernels that can be tuned, as MetaSchedule extracts them."""
    from edgepack.lower import tuning_tasks as extract

    return list(extract(model, load_target(target_name)))


def workload(module: Any) -> str:
    """The name that a kernel has in edgepack's records, from a module of it."""
    from edgepack.lower import workload as name

    return name(module["main"])


def calls(model: Path, target_name: str) -> dict[str, int]:
    """Calls an inference of each kernel that can be tuned, by workload."""
    found: Counter[str] = Counter()
    for task in tuning_tasks(model, target_name):
        found[workload(task.dispatched[0])] += int(task.weight)
    return dict(found)


def search_space(target_name: str) -> Any:
    """The space of schedules that edgepack searches for a target."""
    from edgepack.schedules import FAMILIES

    target = load_target(target_name)
    return FAMILIES[target.family].space(target)


def best_records(model: Path, target_name: str, root: Path | None = None) -> Path | None:
    """The best records of a model below ``root``, or among those that boards of this user made; None without any."""
    from edgepack.tune import RecordStore
    from edgepack.tune import best_records as best

    return best(
        model, load_target(target_name), RecordStore(root) if root else RecordStore.of_user(emulated=False)
    )


def record_folder(root: Path, target_name: str) -> Path:
    """Where edgepack keeps the records of a target, below ``root``."""
    from edgepack.tune import RecordStore

    return RecordStore(root).folder(load_target(target_name))

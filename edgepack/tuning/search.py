"""One kernel's search, and the choice of the kernel to search next."""

import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from edgepack.config.target import Target
from edgepack.tuning.cost_model import Knowledge, cost_model
from edgepack.tuning.store import LEAST_NOISE, beats

# Evolutionary search scores POPULATION_PER_TRIAL x batch x (GENERATIONS + 1) candidates to pick a batch. MetaSchedule's
# 512 x 5 takes 17 s of two cores; this takes 1.5 s, so that building, not searching, is what a trial costs.
_POPULATION_PER_TRIAL = 2
_SMALLEST_POPULATION = 24
_GENERATIONS = 2
_EMPTY_BATCHES = 2  # a search that finds nothing new this often in a row is over
_SLOPE_WEIGHT = 0.2  # Ansor's alpha
_WINDOW = 3  # batches over which progress is measured
_NEGLIGIBLE = 0.02  # kernels that together take no more of the model than this are not searched
DEAD_S = 1e10  # MetaSchedule's cost of a candidate that did not run
MAX_TRIALS = 1 << 30


@dataclass
class Task:
    """A kernel of the model: its search state, and what has been measured of it."""

    name: str
    workload: str  # structural hash, as compile_model reports it
    weight: int  # calls an inference
    mod: Any
    context: Any
    database: Any  # MetaSchedule's, of this kernel alone: what the search starts from
    entry: Any  # the workload in that database
    model: Any
    untuned_s: float = DEAD_S  # the least of the fallback's timings
    noise: float = LEAST_NOISE  # relative to untuned_s: see ``time_untuned``
    best_s: float = DEAD_S
    best: Any = None  # the best tuning record
    trials: int = 0
    busy: bool = False
    exhausted: bool = False
    history: list[tuple[int, float]] = field(
        default_factory=list
    )  # (trials, best_s) at the start and after each batch
    _timings: list[float] = field(default_factory=list)  # of the fallback, in this run
    _empty: int = 0

    def resume(self) -> None:
        """Earlier runs' records are in: what they reached is where this run starts."""
        self.history = [(self.trials, self.best_s)]

    def time_untuned(self, seconds: float) -> None:
        """Count another timing of the fallback: the least is its time, the rest say how far timings can be trusted.

        Interference only ever adds time, so the noise is how far the median of this run's timings lies above the
        least, relative to it.
        """
        self._timings.append(seconds)
        self.untuned_s = min(self.untuned_s, seconds)
        if len(self._timings) > 1:
            least = min(self._timings)
            self.noise = max(LEAST_NOISE, median(self._timings) / least - 1)

    def generate(self, count: int) -> list[Any]:
        """Up to ``count`` new candidates; empty when the search found none."""
        candidates = self.context.generate_measure_candidates()
        if candidates is None:
            self.exhausted = True
            return []
        self._empty = 0 if len(candidates) else self._empty + 1
        self.exhausted = self._empty >= _EMPTY_BATCHES
        return list(candidates)[:count]

    def add(self, record: Any) -> None:
        """Count a measured record, from the store or new."""
        self.trials += 1
        seconds = cost(record)
        self.database.commit_tuning_record(record)
        if seconds < self.best_s:
            self.best_s, self.best = seconds, record

    def learn(self, candidates: Sequence[Any], seconds: Sequence[float]) -> None:
        """Tell the search strategy and the cost model how a batch did."""
        from tvm.s_tir.meta_schedule.runner import RunnerResult

        results = [RunnerResult([s], None) for s in seconds]
        self.context.notify_runner_results(list(candidates), results)
        self.model.update(self.context, list(candidates), results)
        self.history.append((self.trials, self.best_s))

    @property
    def tuned(self) -> bool:
        """Whether a record beats the untuned kernel by more than noise."""
        return beats(self.best_s, self.untuned_s, self.noise)

    @property
    def now_s(self) -> float:
        """Seconds of one call as it would be compiled."""
        return self._seconds(self.best_s)

    def _seconds(self, best_s: float) -> float:
        return best_s if beats(best_s, self.untuned_s, self.noise) else self.untuned_s

    def settled(self, patience: int) -> bool:
        """Whether this run's last ``patience`` batches together gained nothing beyond noise; never if that is 0."""
        if not patience or len(self.history) <= patience:
            return False
        before = self._seconds(self.history[-1 - patience][1])
        return before - self.now_s <= self.noise * before

    def gain(self) -> float:
        """Expected gain of another trial, seconds an inference: equation 2 of Ansor without similar tasks."""
        if not self.trials:
            return float("inf")
        past = self.history[-_WINDOW:]
        trials = past[-1][0] - past[0][0] if past else 0
        slope = (min(past[0][1], self.untuned_s) - self.now_s) / trials if trials else 0.0
        return self.weight * (_SLOPE_WEIGHT * slope + (1 - _SLOPE_WEIGHT) * self.now_s / self.trials)


def cost(record: Any) -> float:
    """Seconds of a tuning record: the least of its samples, since interference only ever adds time."""
    return min((float(s) for s in record.run_secs), default=DEAD_S)


def negligible(tasks: Sequence[Task]) -> set[str]:
    """The workloads of the lightest kernels, which together take at most 2 % of the model: not worth a batch."""
    total = sum(task.weight * task.now_s for task in tasks)
    light, share = set(), 0.0
    for task in sorted(tasks, key=lambda task: task.weight * task.now_s):
        share += task.weight * task.now_s
        if share > _NEGLIGIBLE * total:
            break
        light.add(task.workload)
    return light


def choose(tasks: Sequence[Task], patience: int = 0) -> Task | None:
    """The kernel to search next: first each once, the heaviest first, then by expected gain; None if none is worth it."""
    light = negligible(tasks)
    free = [
        task
        for task in tasks
        if not (task.busy or task.exhausted or task.settled(patience) or task.workload in light)
    ]
    fresh = [task for task in free if not task.trials]
    if fresh:
        return max(fresh, key=lambda task: task.weight * task.untuned_s)
    return max(free, key=Task.gain, default=None)


def open_tasks(
    extracted: Sequence[Any], target: Target, *, batch: int, threads: int, seed: int
) -> list[Task]:
    """The model's kernels, as ``tuning_tasks`` extracts them, ready to be searched ``batch`` candidates at a time."""
    from tvm.s_tir.meta_schedule import TuneContext
    from tvm.s_tir.meta_schedule.database import MemoryDatabase
    from tvm.s_tir.meta_schedule.search_strategy import EvolutionarySearch
    from tvm.s_tir.meta_schedule.utils import fork_seed

    from edgepack.lower import workload
    from edgepack.schedules import FAMILIES, tvm_target

    _skip_tensor_intrinsics()
    population = max(_SMALLEST_POPULATION, _POPULATION_PER_TRIAL * batch)
    knowledge = Knowledge(threads=threads, seed=seed)
    tasks = []
    for item, random in zip(extracted, fork_seed(seed, len(extracted)), strict=True):
        mod = item.dispatched[0]
        context = TuneContext(
            mod,
            target=tvm_target(target),
            space_generator=FAMILIES[target.family].space(target),
            search_strategy=EvolutionarySearch(
                population_size=population,
                init_min_unmeasured=population // 2,
                genetic_num_iters=_GENERATIONS,
            ),
            task_name=item.task_name,
            rand_state=random,
            num_threads=threads,
        ).clone()
        model, database = cost_model(knowledge, random), MemoryDatabase()
        entry = database.commit_workload(mod)
        context.pre_tuning(MAX_TRIALS, batch, context.generate_design_space(), database, model)
        tasks.append(
            Task(
                str(item.task_name),
                workload(mod["main"]),
                int(item.weight),
                mod,
                context,
                database,
                entry,
                model,
            )
        )
    return tasks


def _skip_tensor_intrinsics() -> None:
    """Keep ``TuneContext`` from importing TVM's tensor intrinsics: 15 to 50 s of parsing, for every backend.

    The families register their own (``schedules.intrinsics``). The package stays importable by its submodules.
    """
    name = "tvm.s_tir.tensor_intrin"
    spec = importlib.util.find_spec(name)
    if spec is not None and name not in sys.modules:
        sys.modules[name] = importlib.util.module_from_spec(spec)

"""Search of one kernel, and the choice of the next kernel to search."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from edgepack.config.target import Target
from edgepack.tuning.cost_model import Knowledge, cost_model
from edgepack.tuning.store import LEAST_NOISE, beats

_log = logging.getLogger(__name__)

# Evolutionary search scores POPULATION_PER_TRIAL x batch x (GENERATIONS + 1) candidates to pick a batch. MetaSchedule's
# 512 x 5 takes 17 s on two cores; this takes 1.5 s, so that a trial's time is spent on building, not searching.
_POPULATION_PER_TRIAL = 2
_SMALLEST_POPULATION = 24
_GENERATIONS = 2
_EMPTY_BATCHES = 2  # consecutive searches without new candidates after which a kernel's search ends
_SLOPE_WEIGHT = 0.2  # Ansor's alpha
_WINDOW = 3  # batches over which progress is measured
_NEGLIGIBLE = 0.02  # kernels with at most this share of the model's time in total are not searched
DEAD_S = 1e10  # MetaSchedule's cost of a candidate that failed
MAX_TRIALS = 1 << 30


@dataclass
class Task:
    """A kernel of the model: search state and measurements."""

    name: str
    workload: str  # structural hash, as reported by compile_model
    weight: int  # calls per inference
    mod: Any
    context: Any
    database: Any  # MetaSchedule's, for this kernel only: the starting point of the search
    entry: Any  # the workload in that database
    model: Any
    untuned_s: float = DEAD_S  # minimum of the fallback's timings
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
        """Start from the state that the records of earlier runs have reached."""
        self.history = [(self.trials, self.best_s)]

    def time_untuned(self, seconds: float) -> None:
        """Add a timing of the fallback: the minimum is its time, the others determine the noise.

        Interference only increases times, so the noise is the median of this run's timings minus the minimum,
        relative to it.
        """
        self._timings.append(seconds)
        self.untuned_s = min(self.untuned_s, seconds)
        if len(self._timings) > 1:
            least = min(self._timings)
            self.noise = max(LEAST_NOISE, median(self._timings) / least - 1)

    def generate(self, count: int) -> list[Any]:
        """Return up to ``count`` new candidates; empty if the search has none, or fails, which ends it."""
        try:
            candidates = self.context.generate_measure_candidates()
        except RuntimeError as error:  # of TVM: its schedule rules do not fit every kernel
            _log.warning("the search of kernel %s ends: %s", self.name, str(error).strip().splitlines()[-1])
            candidates = None
        if candidates is None:
            self.exhausted = True
            return []
        self._empty = 0 if len(candidates) else self._empty + 1
        self.exhausted = self._empty >= _EMPTY_BATCHES
        return list(candidates)[:count]

    def add(self, record: Any) -> None:
        """Add a measured record, loaded or new."""
        self.trials += 1
        seconds = cost(record)
        self.database.commit_tuning_record(record)
        if seconds < self.best_s:
            self.best_s, self.best = seconds, record

    def learn(self, candidates: Sequence[Any], seconds: Sequence[float]) -> None:
        """Update the search strategy and the cost model with a batch's results."""
        from tvm.s_tir.meta_schedule.runner import RunnerResult

        results = [RunnerResult([s], None) for s in seconds]
        self.context.notify_runner_results(list(candidates), results)
        self.model.update(self.context, list(candidates), results)
        self.history.append((self.trials, self.best_s))

    @property
    def tuned(self) -> bool:
        """Whether a record beats the fallback by more than the noise."""
        return beats(self.best_s, self.untuned_s, self.noise)

    @property
    def now_s(self) -> float:
        """Seconds per call, if compiled now."""
        return self._seconds(self.best_s)

    def _seconds(self, best_s: float) -> float:
        return best_s if beats(best_s, self.untuned_s, self.noise) else self.untuned_s

    def settled(self, patience: int) -> bool:
        """Whether this run's last ``patience`` batches together gained less than the noise; never if it is 0."""
        if not patience or len(self.history) <= patience:
            return False
        before = self._seconds(self.history[-1 - patience][1])
        return not beats(self.now_s, before, self.noise)

    def gain(self) -> float:
        """Expected gain of another trial in seconds per inference: equation 2 of Ansor without similar tasks."""
        if not self.trials:
            return float("inf")
        past = self.history[-_WINDOW:]
        trials = past[-1][0] - past[0][0] if past else 0
        slope = (min(past[0][1], self.untuned_s) - self.now_s) / trials if trials else 0.0
        return self.weight * (_SLOPE_WEIGHT * slope + (1 - _SLOPE_WEIGHT) * self.now_s / self.trials)


def cost(record: Any) -> float:
    """Seconds of a tuning record: the minimum of its samples, since interference only increases times."""
    return min((float(s) for s in record.run_secs), default=DEAD_S)


def negligible(tasks: Sequence[Task]) -> set[str]:
    """Return the workloads of the smallest kernels, at most 2 % of the model's time in total: not worth a batch."""
    total = sum(task.weight * task.now_s for task in tasks)
    light, share = set(), 0.0
    for task in sorted(tasks, key=lambda task: task.weight * task.now_s):
        share += task.weight * task.now_s
        if share > _NEGLIGIBLE * total:
            break
        light.add(task.workload)
    return light


def choose(tasks: Sequence[Task], patience: int = 0) -> Task | None:
    """Choose the next kernel to search: each once by weight, then by expected gain; None if none is worth it."""
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
    """Extract the model's kernels with ``tuning_tasks``, ready to be searched in batches of ``batch`` candidates."""
    from tvm.s_tir.meta_schedule import TuneContext
    from tvm.s_tir.meta_schedule.database import MemoryDatabase
    from tvm.s_tir.meta_schedule.search_strategy import EvolutionarySearch
    from tvm.s_tir.meta_schedule.utils import fork_seed

    from edgepack.lower import workload
    from edgepack.schedules import FAMILIES, tvm_target
    from edgepack.schedules.intrinsics import skip_tvms_package

    skip_tvms_package()
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

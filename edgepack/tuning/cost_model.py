"""MetaSchedule's cost model interface, with a small XGBoost model that trains in a fraction of a second.

The model is that of Ansor (Zheng et al. 2020, arXiv:2006.06762, section 5.2): one feature vector per
store statement of a candidate, a candidate's score is the sum over its stores, squared error weighted by
the throughput relative to the workload's best. TVM's own class trains for up to 10,000 rounds with a Python
callback per round, a fifth of the tuning time on two cores; this one uses a small, fixed number of rounds.
"""

from dataclasses import dataclass, field
from typing import Any

_ROUNDS = 60
_PARAMETERS = {
    "base_score": 0.0,
    "max_depth": 6,
    "eta": 0.2,
    "gamma": 0.001,
    "min_child_weight": 0,
    "tree_method": "hist",
    "max_bin": 64,
    "verbosity": 0,
}
_FIRST_TRAINING = 32  # samples; with fewer, candidates are picked at random
_GROWTH = 1.1  # retrain when the number of samples has grown by this factor


@dataclass
class Samples:
    """Samples of one workload: features [stores, features] and seconds of each candidate."""

    features: list[Any] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


class Knowledge:
    """All measured candidates of a run, and the model trained on them."""

    def __init__(self, *, threads: int, seed: int) -> None:
        self._parameters = {**_PARAMETERS, "nthread": threads, "seed": seed}
        self._samples: dict[int, Samples] = {}
        self._count = 0
        self._trained = 0
        self._booster: Any = None

    @property
    def ready(self) -> bool:
        """Whether the model has been trained."""
        return self._booster is not None

    def add(self, workload: int, features: list[Any], seconds: list[float]) -> None:
        """Add measured candidates of one workload; retrain if there are enough new ones."""
        samples = self._samples.setdefault(workload, Samples())
        for stores, cost in zip(features, seconds, strict=True):
            if len(stores):
                samples.features.append(stores)
                samples.seconds.append(cost)
                self._count += 1
        if self._count >= max(_FIRST_TRAINING, self._trained * _GROWTH):
            self._train()

    def score(self, features: list[Any]) -> Any:
        """Return relative throughput of each candidate, float64 [candidates]. The model must be ready."""
        import numpy as np

        stores, owner = _stack(features)
        return np.bincount(owner, weights=self._booster.inplace_predict(stores), minlength=len(features))

    def _train(self) -> None:
        import numpy as np
        import xgboost

        known = [samples for samples in self._samples.values() if samples.seconds]
        throughput = np.concatenate([min(s.seconds) / np.asarray(s.seconds) for s in known])
        stores, owner = _stack([stores for samples in known for stores in samples.features])
        wanted = throughput[owner]

        def objective(predicted: Any, _: Any) -> tuple[Any, Any]:
            error = np.bincount(owner, weights=predicted)[owner] - wanted
            return error * wanted, wanted

        matrix = xgboost.DMatrix(stores, label=wanted)
        self._booster = xgboost.train(self._parameters, matrix, num_boost_round=_ROUNDS, obj=objective)
        self._trained = self._count


def _stack(features: list[Any]) -> tuple[Any, Any]:
    """Return all store vectors as one float32 array, and the index of each vector's candidate."""
    import numpy as np

    owner = np.repeat(np.arange(len(features)), [len(stores) for stores in features])
    return np.concatenate(features, axis=0).astype("float32"), owner


def cost_model(knowledge: Knowledge, seed: int) -> Any:
    """Return the model with the interface of MetaSchedule's evolutionary search."""
    import numpy as np
    import tvm_ffi
    from tvm.ir.utils import derived_object
    from tvm.s_tir.meta_schedule.cost_model import PyCostModel
    from tvm.s_tir.meta_schedule.feature_extractor import PerStoreFeature

    extractor = PerStoreFeature()
    random = np.random.default_rng(seed)

    def features(context: Any, candidates: Any) -> list[Any]:
        return [tensor.numpy() for tensor in extractor.extract_from(context, candidates)]

    @derived_object
    class LearnedCostModel(PyCostModel):  # type: ignore[misc]  # TVM is untyped
        def update(self, context: Any, candidates: Any, results: Any) -> None:
            """Learn from measured candidates."""
            seconds = [min(float(s) for s in result.run_secs) for result in results]
            knowledge.add(tvm_ffi.structural_hash(context.mod), features(context, candidates), seconds)

        def predict(self, context: Any, candidates: Any) -> Any:
            """Score candidates, higher is faster; random until the model is trained."""
            if not knowledge.ready:
                return random.random(len(candidates))
            return knowledge.score(features(context, candidates))

    return LearnedCostModel()

"""Tuning a small network end to end, with the real agent."""

import itertools
import json

import pytest
from tune_kit import LocalBoard, NoBuilder, ScriptedBoard, SlowFallback, target

from edgepack.errors import Interrupted, UnreachableError, UsageError
from edgepack.lower import compile_model, tuning_tasks, workload
from edgepack.schedules import tvm_target
from edgepack.tuning import (
    BatchMeasured,
    BoardRunner,
    CandidateMeasured,
    ConnectionLost,
    PhaseEnded,
    Reconnected,
    RecordStore,
    TuningStarted,
    UntunedMeasured,
    best_records,
    tune,
)
from edgepack.tuning import loop as loop_module
from edgepack.tuning import runner as runner_module
from edgepack.tuning.journal import Journal
from edgepack.tuning.search import open_tasks
from edgepack.tuning.store import RECORDS, read_untuned


class Listener(list):
    """Collects events; raises Ctrl-C in the main thread at the n-th batch."""

    def __init__(self, interrupt_at=None):
        super().__init__()
        self.interrupt_at = interrupt_at

    def __call__(self, event):
        self.append(event)
        if (
            self.interrupt_at
            and len(self.of(BatchMeasured)) == self.interrupt_at
            and isinstance(event, BatchMeasured)
        ):
            raise KeyboardInterrupt

    def of(self, kind):
        return [event for event in self if isinstance(event, kind)]


def run(net, store, board, listener=None, runner=BoardRunner, **budget):
    runner = runner(board.connect, target().tune)
    events = Listener() if listener is None else listener
    return tune(net, target(), runner, store=store, progress=events, **budget), events


def records_on_disk(store):
    path = store.folder(target()) / RECORDS
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture(scope="module")
def tuned(net, agent, tmp_path_factory):
    """A run of 16 trials in which any candidate that runs beats the fallback."""
    store = RecordStore(tmp_path_factory.mktemp("store"))
    first, _ = run(net, store, LocalBoard(agent), runner=SlowFallback, trials=0)
    result, events = run(net, store, LocalBoard(agent), runner=SlowFallback, patience=0, trials=16)
    return store, first, result, events


def test_without_trials_the_fallback_of_each_kernel_is_timed(tuned):
    _, first, _, _ = tuned
    assert len(first.kernels) == 2
    assert all(kernel.untuned_ms > 0 and kernel.best_ms is None for kernel in first.kernels)
    assert first.untuned_share == 1.0
    assert first.predicted_ms == first.untuned_ms


def test_the_budget_is_used_and_every_trial_recorded(tuned):
    store, _, result, events = tuned
    assert (result.trials, result.new_trials, result.stopped) == (16, 16, "trials")
    assert sum(kernel.trials for kernel in result.kernels) == 16
    assert len(records_on_disk(store)) == 16
    assert all(kernel.trials >= 4 for kernel in result.kernels)
    assert events.of(TuningStarted) == [TuningStarted(2, 0, 16, None)]


def test_progress_and_curve_only_get_better(tuned):
    _, _, result, events = tuned
    batches = events.of(BatchMeasured)
    assert [b.trials for b in batches] == sorted({b.trials for b in batches})
    assert batches[-1].trials == 16
    assert batches[-1].tuned_share == 1.0
    assert batches[-1].seconds_left == 0.0
    assert all(a.predicted_ms >= b.predicted_ms for a, b in itertools.pairwise(result.curve))
    assert result.curve[-1].predicted_ms == pytest.approx(result.predicted_ms)
    assert result.curve[0].trials == 0


def test_every_trial_is_told_with_its_time(tuned):
    _, _, result, events = tuned
    told = events.of(CandidateMeasured)
    assert len(told) == 16
    assert all(0 < event.seconds <= result.seconds for event in told)
    for kernel in result.kernels:
        times = [event.ms for event in told if event.workload == kernel.workload and event.ms is not None]
        assert min(times) == pytest.approx(kernel.best_ms)


def test_every_piece_of_every_phase_is_told(tuned):
    _, _, result, events = tuned
    pieces = {
        phase: sorted((e.began, e.ended) for e in events.of(PhaseEnded) if e.phase == phase)
        for phase in ("search", "build", "transfer", "measure")
    }
    # A candidate that does not run has all three as well, because its execution fails.
    # Each of the four batches includes a timing of its kernel's fallback; the two fallbacks are built once.
    assert [len(pieces[phase]) for phase in ("build", "transfer", "measure")] == [18, 20, 20]
    assert len(pieces["search"]) >= 2 * len(events.of(BatchMeasured))  # generate, learn
    for spans in pieces.values():
        assert all(0 <= began <= ended <= result.seconds for began, ended in spans)
    one_at_a_time = pieces["search"], pieces["transfer"], pieces["measure"]
    for spans in one_at_a_time:
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))


def test_the_best_is_kept_and_compiled_in(tuned, net, tmp_path):
    store, _, result, _ = tuned
    fastest = {}
    for entry, (_, seconds, *_) in records_on_disk(store):
        fastest[entry] = min(fastest.get(entry, 1e10), *seconds)
    assert sorted(1000 * s for s in fastest.values()) == pytest.approx(
        sorted(k.best_ms for k in result.kernels)
    )
    assert len((result.records / RECORDS).read_text().splitlines()) == 2
    compiled = compile_model(net, target(), tmp_path / "model.so", records=result.records)
    assert {(k.workload, k.tuned) for k in compiled.kernels} == {(k.workload, True) for k in result.kernels}


def test_a_used_budget_measures_nothing_and_needs_no_board(tuned, net):
    store, _, result, _ = tuned
    board = LocalBoard("/nowhere")
    again, _ = run(net, store, board, trials=16)
    assert board.connections == 0
    assert (again.trials, again.new_trials) == (16, 0)
    assert again.records == result.records
    assert [k.best_ms for k in again.kernels] == pytest.approx([k.best_ms for k in result.kernels])


def test_another_target_is_not_served(tuned, net, agent):
    store, _, _, _ = tuned
    other = target(cpu={"name": "other", "cores": 1, "vector_bits": 256, "l1d_kib": 32, "l2_kib": 512})
    result = tune(net, other, BoardRunner(LocalBoard(agent).connect, other.tune), trials=0, store=store)
    assert result.trials == 0
    assert not any(kernel.tuned for kernel in result.kernels)
    assert not (result.records / RECORDS).read_text()


def test_a_larger_budget_goes_on_where_the_last_run_ended_although_the_agent_dies(
    tuned, net, agent, monkeypatch
):
    store, _, before, _ = tuned
    monkeypatch.setattr(runner_module, "_BACKOFF_S", (0.01,))
    board = LocalBoard(agent, dies_after=[2, 3])
    result, events = run(net, store, board, runner=SlowFallback, patience=0, trials=28)
    assert (result.trials, result.new_trials) == (28, 12)
    assert len(records_on_disk(store)) == 28
    assert result.predicted_ms <= before.predicted_ms
    assert board.connections == 3
    assert len(events.of(ConnectionLost)) == len(events.of(Reconnected)) == 2
    assert events.of(TuningStarted)[0].trials_done == 16
    assert not events.of(UntunedMeasured)


def test_ctrl_c_keeps_what_was_measured(net, agent, tmp_path):
    store = RecordStore(tmp_path)
    with pytest.raises(Interrupted) as stopped:
        run(net, store, LocalBoard(agent), Listener(interrupt_at=1), trials=64)
    kept = len(records_on_disk(store))
    assert kept >= 4
    assert f"{kept} new measurements" in stopped.value.state
    assert len(read_untuned(store.folder(target()))) == 2
    again, _ = run(net, store, LocalBoard("/nowhere"), trials=kept)
    assert (again.trials, again.new_trials) == (kept, 0)


def test_a_board_that_goes_away_keeps_what_was_measured(net, agent, tmp_path, monkeypatch):
    monkeypatch.setattr(runner_module, "_BACKOFF_S", (0.01,))
    store = RecordStore(tmp_path)
    board = LocalBoard(agent, dies_after=[9], refuses=10**6)
    runner = BoardRunner(board.connect, target().tune, patience_s=0.1)
    with pytest.raises(UnreachableError, match="has not responded"):
        tune(net, target(), runner, trials=64, store=store)
    # Four of the nine answers are for the fallbacks at the start, one or two more for those of the first batches.
    assert len(records_on_disk(store)) in {3, 4}


def test_minutes_end_a_run_too(net, agent, tmp_path):
    result, events = run(net, RecordStore(tmp_path), LocalBoard(agent), minutes=0.1, patience=0)
    assert result.stopped == "minutes"
    assert result.seconds >= 6
    assert all(batch.seconds_left is not None for batch in events.of(BatchMeasured))


def scripted(net, folder, *, fallback=lambda *_: 1.0, candidate=lambda *_: 2.0, **budget):
    store = RecordStore(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop_module, "Builder", NoBuilder)
        return tune(net, target(), ScriptedBoard(fallback, candidate), store=store, **budget), store


def test_a_run_without_gain_stops_by_itself(net, tmp_path):
    result, _ = scripted(net, tmp_path, trials=24, patience=1)
    assert result.stopped == "settled"
    assert {kernel.ended for kernel in result.kernels} == {"settled"}
    assert result.trials == 8  # a batch of four for each of two kernels
    assert not any(kernel.tuned for kernel in result.kernels)
    assert result.predicted_ms == result.untuned_ms == 2.0
    assert result.noise_ms == pytest.approx(0.02)


def test_a_run_goes_on_while_it_gains(net, tmp_path):
    result, _ = scripted(net, tmp_path, candidate=lambda _, number: 0.9**number, trials=24, patience=1)
    assert (result.trials, result.stopped) == (24, "trials")
    assert all(kernel.tuned for kernel in result.kernels)


def test_the_whole_budget_is_used_where_that_is_asked_for(net, tmp_path):
    result, _ = scripted(net, tmp_path, trials=24, patience=0)
    assert (result.trials, result.stopped) == (24, "trials")
    assert {kernel.ended for kernel in result.kernels} == {"budget"}


def test_a_candidate_must_beat_the_fallback_by_more_than_noise(net, tmp_path):
    timings = {"fallback": lambda _, number: 1.0 if number < 2 else 1.2, "candidate": lambda *_: 0.95}
    result, store = scripted(net, tmp_path, **timings, trials=24, patience=1)
    assert [kernel.noise for kernel in result.kernels] == pytest.approx([0.2, 0.2])
    assert [kernel.best_ms for kernel in result.kernels] == pytest.approx([0.95, 0.95])
    assert not any(kernel.tuned for kernel in result.kernels)
    for records in (result.records, best_records(net, target(), store)):
        assert not (records / RECORDS).read_text()
    again, _ = scripted(net, tmp_path, **timings, trials=8)  # results are restored, including the noise
    assert again.new_trials == 0
    assert [kernel.noise for kernel in again.kernels] == pytest.approx([0.2, 0.2])


def test_records_of_before_noise_was_kept_are_read(net, tmp_path):
    _, store = scripted(net, tmp_path, candidate=lambda *_: 0.9, trials=8)
    (store.folder(target()) / "noise.json").unlink()
    again, _ = scripted(net, tmp_path, trials=8)
    assert again.new_trials == 0
    assert all(kernel.tuned for kernel in again.kernels)


def test_kernels_that_hardly_count_are_not_searched(net, tmp_path):
    def fallback(arguments, _):
        return 1.0 if "float32:1x8x16x16" in arguments else 0.001  # the input of the first of the two

    result, _ = scripted(net, tmp_path, fallback=fallback, trials=16)
    ends = {kernel.untuned_ms: (kernel.ended, kernel.trials > 0) for kernel in result.kernels}
    assert ends == {1.0: ("settled", True), 0.001: ("small", False)}


def test_timing_the_fallback_leaves_the_kernel_as_it_is(net, tmp_path):
    board = target()
    tasks = open_tasks(tuning_tasks(net, board), board, batch=4, threads=1, seed=0)
    journal = Journal(tmp_path, board, tvm_target(board))
    for task in tasks:
        scheduled = journal.fallback(task)
        assert workload(task.mod["main"]) == task.workload
        assert workload(scheduled.sch.mod["main"]) != task.workload


def test_no_budget_is_a_usage_error(net, agent, tmp_path):
    with pytest.raises(UsageError, match="budget"):
        run(net, RecordStore(tmp_path), LocalBoard(agent))

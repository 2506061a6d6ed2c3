"""The runner with the real agent: crashes, lost connections, a board that stays unreachable."""

import queue

import pytest
from tune_kit import LocalBoard, target

from edgepack.errors import UnreachableError
from edgepack.tuning import BoardRunner, ConnectionLost, Reconnected
from edgepack.tuning import runner as runner_module
from edgepack.tuning.runner import KernelCandidate

ADD = ("float32:1024",) * 3


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(runner_module, "_BACKOFF_S", (0.01,))


class Session:
    """A started runner and its results."""

    def __init__(self, board, **options):
        self.results, self.notices = queue.Queue(), []
        self.runner = BoardRunner(board.connect, target().tune, **options)
        self.runner.start(self.results.put, self.notices.append)

    def measure(self, *libraries):
        for number, library in enumerate(libraries):
            self.runner.submit(KernelCandidate(number, library, "main", ADD))
        answers = [self.results.get(timeout=60) for _ in libraries]
        return {answer.id: answer for answer in answers}


def test_each_repeat_of_each_candidate_comes_back(agent, kernel):
    session = Session(LocalBoard(agent))
    with session.runner:
        answers = session.measure(*[kernel] * 6)
    assert sorted(answers) == list(range(6))
    assert all(
        len(a.ms) == target().tune.repeats and min(a.ms) > 0 and a.error is None for a in answers.values()
    )


def test_a_crashing_candidate_costs_itself_alone(agent, kernel, crashing):
    session = Session(LocalBoard(agent))
    with session.runner:
        answers = session.measure(kernel, crashing, kernel)
    assert "signal 11" in answers[1].error
    assert answers[0].ms
    assert answers[2].ms
    assert not session.notices


def test_a_file_that_is_no_program_is_a_dead_candidate(agent, kernel, tmp_path):
    (tmp_path / "junk").write_bytes(b"not an ELF file")
    session = Session(LocalBoard(agent))
    with session.runner:
        answers = session.measure(tmp_path / "junk", kernel)
    assert answers[0].error
    assert answers[1].ms


def test_candidates_in_flight_are_retried_after_the_agent_was_killed(agent, kernel):
    board = LocalBoard(agent, dies_after=[3])
    session = Session(board)
    with session.runner:
        answers = session.measure(*[kernel] * 10)
    assert all(answer.ms for answer in answers.values())
    assert board.connections == 2
    assert [type(notice) for notice in session.notices] == [ConnectionLost, Reconnected]
    assert session.notices[1].retried == 4


def test_a_candidate_that_was_in_flight_twice_is_dead(agent, kernel):
    session = Session(LocalBoard(agent, dies_after=[0, 0]))
    with session.runner:
        answers = session.measure(*[kernel] * 6)
    assert [bool(answers[i].error) for i in range(6)] == [True] * 4 + [False] * 2


def test_it_keeps_knocking_with_growing_pauses(agent, kernel, monkeypatch):
    monkeypatch.setattr(runner_module, "_BACKOFF_S", (0.01, 0.02, 0.03))
    session = Session(LocalBoard(agent, dies_after=[1], refuses=4))
    with session.runner:
        answers = session.measure(*[kernel] * 3)
    assert all(answer.ms for answer in answers.values())
    lost = [notice for notice in session.notices if isinstance(notice, ConnectionLost)]
    assert [(notice.attempt, notice.wait_s) for notice in lost] == [
        (1, 0.01), (2, 0.02), (3, 0.03), (4, 0.03), (5, 0.03),
    ]  # fmt: skip


def test_a_connection_on_which_the_agent_does_not_start_is_closed():
    class Board:
        closed = 0

        def stream(self, _argv):
            raise UnreachableError("no more channels")

        def close(self):
            self.closed += 1

    board = Board()
    runner = BoardRunner(lambda: (board, "agent"), target().tune)
    with pytest.raises(UnreachableError):
        runner.start(lambda _: None, lambda _: None)
    assert board.closed == 1


def test_a_board_that_stays_away_ends_the_run_with_a_reason(agent, kernel):
    session = Session(LocalBoard(agent, dies_after=[1], refuses=10**6), patience_s=0.1)
    with session.runner:
        answers = session.measure(*[kernel] * 3)
        assert sum(answer.lost for answer in answers.values()) == 2
    assert isinstance(session.runner.failure, UnreachableError)
    assert "resume" in session.runner.failure.next


def test_closing_answers_what_was_not_measured_as_lost(agent, kernel):
    session = Session(LocalBoard(agent))
    for number in range(50):
        session.runner.submit(KernelCandidate(number, kernel, "main", ADD))
    session.results.get(timeout=60)
    session.runner.close()
    rest = [session.results.get(timeout=1) for _ in range(49)]
    assert rest[-1].lost
    assert not any(answer.error for answer in rest)

"""Content-defined chunks: the board and this machine cut alike, and cuts move with the contents."""

import os
import subprocess

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from local_session import LocalSession

from edgepack.remote.chunks import DIGEST, FINEST, MAX, MIN, NORMAL, Chunk, finer, parse_lists, split

PIECES = st.one_of(
    st.tuples(st.integers(0, 50_000), st.integers(0, 2**32 - 1)).map(
        lambda it: np.random.default_rng(it[1]).bytes(it[0])
    ),
    st.tuples(st.binary(max_size=40), st.integers(0, 2_000)).map(lambda it: it[0] * it[1]),
    st.tuples(st.sampled_from([MIN, NORMAL, MAX]), st.integers(-1, 1)).map(lambda it: bytes(it[0] + it[1])),
)


@pytest.fixture(scope="module")
def listed(tmp_path_factory, built_agents):
    """The chunks of files with these contents, as the agent lists them."""
    folder = tmp_path_factory.mktemp("chunks")
    agent = LocalSession(folder).agent()

    def run(*contents: bytes, shift: int = 0) -> list[list[Chunk]]:
        for index, data in enumerate(contents):
            (folder / f"file-{index}").write_bytes(data)
        paths = "".join(f"{shift} file-{index}\n" for index in range(len(contents)))
        argv = [agent, "chunks", "--work-dir", folder]
        done = subprocess.run(argv, input=paths.encode(), capture_output=True, check=True)
        return parse_lists(done.stdout, len(contents))

    return run


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(PIECES, max_size=5).map(b"".join), max_size=3), st.integers(0, FINEST))
def test_the_board_and_this_machine_cut_alike(listed, contents, shift):
    assert listed(*contents, shift=shift) == [list(split(data, shift)) for data in contents]


def test_the_list_of_a_files_chunks_is_short_and_its_chunks_are_not_large():
    for size, shift in ((0, 4), (100_000, 4), (200_000, 3), (600_000, 2), (3_000_000, 1), (10**9, 0)):
        assert finer(size) == shift
        chunks = list(split(np.random.default_rng(0).bytes(min(size, 10_000_000)), shift))
        assert all(MIN >> shift <= chunk.size <= MAX >> shift for chunk in chunks[:-1])


def test_chunks_cover_the_file_with_sizes_within_their_limits(listed):
    data = os.urandom(3_000_000)
    chunks = list(split(data))
    assert listed(data) == [chunks]
    assert [chunk.offset for chunk in chunks] == [
        sum(it.size for it in chunks[:i]) for i in range(len(chunks))
    ]
    assert chunks[-1].offset + chunks[-1].size == len(data)
    assert all(MIN <= chunk.size <= MAX for chunk in chunks[:-1])
    assert NORMAL / 2 < len(data) / len(chunks) < NORMAL * 2
    assert all(len(chunk.digest) == DIGEST for chunk in chunks)


@given(st.integers(0, 300_000), st.integers(0, 300_000), st.binary(max_size=100))
@settings(max_examples=25, deadline=None)
def test_an_edit_changes_the_chunks_around_it_alone(begin, size, new):
    old = np.random.default_rng(0).bytes(600_000)
    edited = old[:begin] + new + old[begin + size :]
    there = {chunk.digest for chunk in split(old)}
    missing = sum(chunk.size for chunk in split(edited) if chunk.digest not in there)
    assert missing <= len(new) + 4 * MAX


def test_what_is_no_readable_file_has_no_chunks(tmp_path, built_agents):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").write_bytes(b"x")
    session = LocalSession(tmp_path)
    done = session.run([session.agent(), "chunks"], stdin=b"0 fifo\n0 missing\n0 .\n0 file\n")
    assert [len(it) for it in parse_lists(done.stdout, 4)] == [0, 0, 0, 1]
    for wrong, why in (
        (b"0 no newline", b"a path"),
        (b"file\n", b"a number up to 4"),
        (b"5 file\n", b"up to 4"),
    ):
        refused = session.run([session.agent(), "chunks"], stdin=wrong)
        assert (refused.returncode, why in refused.stdout) == (6, True)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "ends after 0 of 1"),
        (b"\x01", "ends after 0 of 1"),
        (b"\x01\x00abcd", "ends after 0 of 1"),
        (b"\x01\x00abcde", "ends after 0 of 1"),
        (b"\x00\x00\x00", "1 more bytes"),
    ],
)
def test_an_answer_of_another_form_is_refused(answer, why):
    with pytest.raises(ValueError, match=why):
        parse_lists(answer, 1)

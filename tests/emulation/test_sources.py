"""Kernel sources as a file."""

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.emulation import sources
from edgepack.errors import EdgepackError, InputError

HEAD = "// edgepack: kernels of cubin sha256:"
TEXT = st.text(st.characters(exclude_categories=["Cs"]))  # what UTF-8 can hold


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("sources")


@given(st.dictionaries(st.binary(), TEXT.filter(lambda text: HEAD not in text)))
def test_sources_are_read_as_they_were_written(folder, compiled):
    path = folder / "kernels.cu"
    sources.write(path, [(source, cubin) for cubin, source in compiled.items()])
    digests = [hashlib.sha256(cubin).hexdigest() for cubin in compiled]
    assert [(each.digest, each.source) for each in sources.read(path)] == list(
        zip(digests, compiled.values(), strict=True)
    )
    again = folder / "again.cu"
    sources.save(again, sources.read(path))
    assert again.read_bytes() == path.read_bytes()


def test_each_module_stands_after_the_digest_of_its_cubin(tmp_path):
    path = tmp_path / "kernels.cu"
    sources.write(path, [("__global__ void f() {}\n", b"one"), ("two", b"two"), ("the same cubin", b"one")])
    one, two = (hashlib.sha256(cubin).hexdigest() for cubin in (b"one", b"two"))
    assert path.read_text() == f"{HEAD}{one}\n__global__ void f() {{}}\n\n{HEAD}{two}\ntwo\n"


def test_a_comment_that_names_the_line_is_part_of_a_source(tmp_path):
    path = tmp_path / "kernels.cu"
    sources.write(path, [(f"int x;  {HEAD}00", b"")])
    assert [each.source for each in sources.read(path)] == [f"int x;  {HEAD}00"]


def test_a_source_with_such_a_line_is_refused(tmp_path):
    with pytest.raises(EdgepackError, match="cannot be written") as caught:
        sources.write(tmp_path / "kernels.cu", [(f"int x;\n{HEAD}00\n", b"")])
    assert HEAD in caught.value.why
    assert not (tmp_path / "kernels.cu").exists()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"int x;\n", "does not start with"),
        (f"\n{HEAD}{'0' * 64}\nint x;\n".encode(), "does not start with"),
        (f"{HEAD}abc\nint x;\n".encode(), "line 1: 'abc' is not a sha256"),
        (f"{HEAD}{'0' * 64}\nint x;\n{HEAD}{'1' * 63}\n\n".encode(), "line 3: '1{63}' is not a sha256"),
        (f"{HEAD}{'0' * 64}\nint x;".encode(), "line 1: the module ends within a line"),
        (f"{HEAD}{'0' * 64}\n".encode(), "line 1: the module ends within a line"),
        (f"{HEAD}{'0' * 64}\n\xff\n".encode("latin-1"), "byte 102 is not UTF-8"),
    ],
)
def test_a_damaged_file_is_an_error_that_says_where(content, why, tmp_path):
    path = tmp_path / "kernels.cu"
    path.write_bytes(content)
    with pytest.raises(InputError, match="not a file of kernel sources") as caught:
        sources.read(path)
    assert re.search(why, caught.value.why)
    assert caught.value.where == str(path)


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(InputError, match="cannot read the kernel sources") as caught:
        sources.read(tmp_path / "kernels.cu")
    assert "No such file" in caught.value.why

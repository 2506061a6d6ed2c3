"""Data from every source becomes splits, or an error with its location."""

import sys
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgepack.data import Splits, load_data, stratified_split
from edgepack.data.user_code import call
from edgepack.errors import InputError
from edgepack.spec import Data
from edgepack.zoo import digits


def arrays(n_train=12, n_test=6):
    x = np.arange((n_train + n_test) * 4, dtype="float32").reshape(-1, 4)
    y = np.arange(n_train + n_test) % 3
    return {"x_train": x[:n_train], "y_train": y[:n_train], "x_test": x[n_train:], "y_test": y[n_train:]}


def saved(tmp_path, **changes):
    np.savez(tmp_path / "d.npz", **{**arrays(), **changes})
    return load_data(Data(npz="d.npz"), tmp_path)


def test_the_digits_are_split_by_class_and_always_the_same():
    a, b = digits.splits(), digits.splits()
    assert (a.x_train.shape, a.x_test.shape) == ((1438, 1, 8, 8), (359, 1, 8, 8))
    assert (a.x_train.min(), a.x_train.max(), a.x_train.dtype) == (0, 1, np.float32)
    assert np.array_equal(a.x_test, b.x_test)
    assert a.classes == tuple("0123456789")
    share = np.bincount(a.y_test) / (np.bincount(a.y_test) + np.bincount(a.y_train))
    assert np.abs(share - 0.2).max() < 0.01


def test_arrays_with_and_without_a_test_split(tmp_path):
    got = saved(tmp_path)
    assert np.array_equal(got.x_test, arrays()["x_test"])
    assert got.y_train.dtype == np.int64
    np.savez(tmp_path / "d.npz", x=np.zeros((30, 2), "float32"), y=np.arange(30) % 3)
    got = load_data(Data(npz="d.npz", test_fraction=0.3), tmp_path)
    assert np.bincount(got.y_test).tolist() == [3, 3, 3]
    assert len(got.x_train) == 21


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_train": np.zeros(5, "int64")}, r"x_train has 12 samples and y_train the shape \[5\]"),
        ({"y_test": np.zeros((6, 3), "int64")}, r"a training target is \[\], a test target \[3\]"),
        ({"x_test": np.zeros((6, 5), "float32")}, r"a training sample is \[4\], a test sample \[5\]"),
        ({"y_train": np.full(12, -1)}, "class numbers from 0"),
        ({"y_train": np.full(12, np.nan), "y_test": np.zeros(6)}, "y_train holds NaN"),
        ({"y_train": np.full(12, "cat")}, "y_train has dtype"),
        ({"x_train": np.zeros((0, 4)), "y_train": np.zeros(0, "int64")}, "x_train is empty"),
        ({"x_train": np.full((12, 4), np.nan)}, "x_train holds NaN"),
        ({"x_train": np.full((12, 4), "text")}, "x_train has dtype"),
    ],
)
def test_arrays_that_do_not_fit_together(tmp_path, changes, message):
    with pytest.raises(InputError, match=message) as caught:
        saved(tmp_path, **changes)
    assert str(tmp_path / "d.npz") in caught.value.where


class Payload:
    def __reduce__(self):
        return (print, ("code from a data file ran",))


def test_an_array_that_claims_more_than_there_is_is_refused(tmp_path):
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (100000000000, 4), }".ljust(117) + "\n"
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode())
    with pytest.raises(InputError, match=r"not an \.npz of plain arrays"):
        load_data(Data(npz="d.npz"), tmp_path)


def test_files_that_are_no_arrays(tmp_path, capsys):
    with pytest.raises(InputError, match="no such data file"):
        load_data(Data(npz="d.npz"), tmp_path)
    for content in (b"", b"not a zip", b"PK\x03\x04 cut off", b"\x93NUMPY\x01\x00"):
        (tmp_path / "d.npz").write_bytes(content)
        with pytest.raises(InputError, match=r"not an \.npz of plain arrays"):
            load_data(Data(npz="d.npz"), tmp_path)
    with pytest.raises(InputError, match=r"not an \.npz of plain arrays"):
        saved(tmp_path, x_train=np.array([Payload()], dtype=object))
    assert "ran" not in capsys.readouterr().out
    np.save(tmp_path / "d.npy", np.zeros(3))
    with pytest.raises(InputError, match=r"not an \.npz of plain arrays"):
        load_data(Data(npz="d.npy"), tmp_path)
    np.savez(tmp_path / "d.npz", images=np.zeros(3))
    with pytest.raises(InputError, match="its arrays are images"):
        load_data(Data(npz="d.npz"), tmp_path)


USER = """\
import numpy as np
from edgepack.data import Splits
import helper_of_mine

def splits():
    x = helper_of_mine.samples()
    return Splits(x, np.zeros(4, int), x, np.zeros(4, int))

def late():
    import imported_late
    return splits()

def wrong():
    return 7

def broken():
    return {}["labels"]
"""


@pytest.fixture
def project(tmp_path):
    (tmp_path / "mine.py").write_text(USER)
    (tmp_path / "helper_of_mine.py").write_text(
        "import numpy as np\ndef samples():\n    return np.ones((4, 2), 'float32')\n"
    )
    (tmp_path / "imported_late.py").write_text("")
    return tmp_path


@pytest.mark.parametrize("name", ["splits", "late"])
def test_a_callable_beside_the_recipe(project, name):
    path = list(sys.path)
    assert load_data(Data(source=f"mine:{name}"), project).x_train.shape == (4, 2)
    assert sys.path == path


def test_a_callable_of_an_installed_module(tmp_path):
    assert len(load_data(Data(source="edgepack.zoo.digits:splits"), tmp_path).x_test) == 359


def test_two_recipes_may_both_have_a_file_of_the_same_name(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.py").write_text(f"def who():\n    return {name!r}\n")
    assert [call("model:who", tmp_path / name) for name in ("a", "b", "a")] == ["a", "b", "a"]


@pytest.mark.parametrize(
    ("reference", "message", "line"),
    [
        ("mine:wrong", "returned a int", None),
        ("mine:broken", "mine:broken failed", 17),
        ("mine:split", "did you mean 'splits'", None),
        ("nowhere:splits", "no module 'nowhere'", None),
        ("syntax:splits", "syntax cannot be imported", 1),
        ("imports:splits", "imports cannot be imported", 2),
        ("random:splits", "name of a standard library module", None),
    ],
)
def test_callables_that_cannot_be_used(project, reference, message, line):
    (project / "syntax.py").write_text("def (:\n")
    (project / "imports.py").write_text("\nimport not_installed_anywhere\n")
    (project / "random.py").write_text("")
    with pytest.raises(InputError, match=message) as caught:
        load_data(Data(source=reference), project)
    if line is not None:
        assert caught.value.where == f"{project / reference.partition(':')[0]}.py:{line}"
        assert caught.value.why


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    y=hnp.arrays(np.int64, st.integers(2, 80), elements=st.integers(0, 5)),
    fraction=st.floats(0.05, 0.95),
    seed=st.integers(0, 5),
)
def test_a_stratified_split_loses_nothing_and_leaves_every_class_to_train_on(y, fraction, seed):
    train, test = stratified_split(y, fraction, seed)
    assert sorted([*train, *test]) == list(range(len(y)))
    assert set(y[train]) == set(y)
    for label, count in zip(*np.unique(y, return_counts=True), strict=True):
        share = int((y[test] == label).sum())
        assert share == (0 if count == 1 else min(max(round(count * fraction), 1), count - 1))
    again = stratified_split(y, fraction, seed)
    assert np.array_equal(train, again[0])


def test_splits_from_user_code_are_checked(project):
    (project / "mine.py").write_text(
        "from edgepack.data import Splits\ndef splits():\n    return Splits([1], [2], [3], [4])\n"
    )
    with pytest.raises(InputError, match="x_train is a list, not a numpy array"):
        load_data(Data(source="mine:splits"), project)
    assert Splits(**arrays()).classes == ()

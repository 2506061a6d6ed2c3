""".npy files: what numpy writes is read back, and anything else is a ValueError."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from edgepack.base.npy import parse_npy

PLAIN = st.sampled_from(["<f4", "<f8", "<f2", "|i1", "|u1", "<i8", "<u2", "|b1", ">f4"])


def saved(array: np.ndarray, **options: bool) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def headed(text: str, data: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    width = 2 if version[0] == 1 else 4
    return b"\x93NUMPY" + version + len(text).to_bytes(width, "little") + text.encode() + data


@settings(max_examples=60, deadline=None)
@given(data=st.data(), dtype=PLAIN, fortran=st.booleans())
def test_what_numpy_writes_is_read_back(data, dtype, fortran):
    shape = data.draw(npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
    array = data.draw(npst.arrays(np.dtype(dtype), shape))
    read = parse_npy(saved(np.array(array, order="F" if fortran else "C")))
    assert (read.dtype, read.shape, read.tobytes()) == (array.dtype, array.shape, array.tobytes())


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (
            headed("{'descr': '<f4', 'fortran_order': False, 'shape': (100000000000, 2), }"),
            "header claims 800000000000",
        ),
        (headed("{'descr': '<f4', 'fortran_order': False, 'shape': (10**30,), }"), "not a .npy file"),
        (headed("{'descr': '<f4', 'fortran_order': False, 'shape': (1" + "0" * 40 + ", 0), }"), "not valid"),
        (headed("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 4), }"), "not valid"),
        (
            headed("{'descr': '<f4', 'fortran_order': False, 'shape': (" + "1," * 100 + "), }", bytes(4)),
            "not valid",
        ),
        (headed("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", bytes(8)), "not numbers"),
        (
            headed("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", bytes(4)),
            "not numbers",
        ),
        (headed("(" * 9000), "not a .npy file"),
        (headed("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }", bytes(3)), "holds 3 bytes"),
        (headed("", b"", b"\x09\x00"), "not a .npy file"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff", "not a .npy file"),
        (b"", "not a .npy file"),
    ],
)
def test_absurd_headers_are_refused_before_memory_is_taken(data, why):
    with pytest.raises(ValueError, match=why):
        parse_npy(data)


@settings(max_examples=500, deadline=None)
@given(
    cuts=st.lists(st.tuples(st.integers(0, 140), st.binary(max_size=6)), max_size=4),
    version=st.sampled_from([1, 2]),
)
def test_no_change_to_a_file_gives_another_error(cuts, version):
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.arange(4, dtype="<f4").reshape(2, 2), (version, 0))
    data = bytearray(buffer.getvalue())
    for at, new in cuts:
        data[at : at + len(new)] = new
    try:
        read = parse_npy(bytes(data))
    except ValueError:
        return
    assert read.nbytes <= len(data)

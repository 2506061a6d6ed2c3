"""IDX files: what is read is what was written, and nothing else is taken for one."""

import gzip
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from edgepack.data import load_data
from edgepack.data.idx import read_idx
from edgepack.data.images import preprocess_image
from edgepack.errors import InputError
from edgepack.spec import Data, Idx

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def idx(array):
    code = CODES[array.dtype.str[1:]]
    head = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


@given(
    hnp.arrays(
        st.sampled_from([np.dtype(name) for name in CODES]),
        hnp.array_shapes(min_dims=1, max_dims=4, max_side=4),
    ),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_what_was_written_is_read(tmp_path_factory, array, zipped):
    path = tmp_path_factory.mktemp("idx") / "a"
    path.write_bytes(gzip.compress(idx(array), 1) if zipped else idx(array))
    found = read_idx(path)
    assert found.dtype == array.dtype
    assert found.dtype.isnative
    assert np.array_equal(found, array, equal_nan=array.dtype.kind == "f")


@given(st.binary(max_size=40), st.integers(0, 30), st.booleans())
@settings(max_examples=150, deadline=None)
def test_any_bytes_are_an_array_of_their_size_or_an_error(tmp_path_factory, tail, cut, zipped):
    content = (b"\0\0\x08\x01" + struct.pack(">I", len(tail)) + tail)[: cut or None] if cut % 2 else tail
    path = tmp_path_factory.mktemp("idx") / "a"
    path.write_bytes(gzip.compress(content, 1) if zipped else content)
    try:
        assert read_idx(path).nbytes <= len(content)
    except InputError as error:
        assert error.where == str(path)  # noqa: PT017 - either outcome is right


@pytest.mark.parametrize("zipped", [False, True])
def test_a_header_that_claims_more_than_there_can_be_takes_no_memory(tmp_path, zipped):
    content = b"\0\0\x0e\x04" + struct.pack(">4I", *[2**32 - 1] * 4)
    (tmp_path / "a").write_bytes(gzip.compress(content) if zipped else content)
    with pytest.raises(InputError, match="more than a file of"):
        read_idx(tmp_path / "a")


def test_files_that_are_cut_off_too_long_or_missing(tmp_path):
    whole = idx(np.arange(12, dtype="u1"))
    for content, says in (
        (whole[:-1], "the header says 12 bytes"),
        (gzip.compress(whole[:-1]), "the header says 12 bytes, the file holds 11"),
        (whole + b"x", "the file holds more"),
        (gzip.compress(whole)[:-9], "cannot be read"),
        (b"PK\x03\x04 a zip", "not an IDX file"),
        (b"", "not an IDX file"),
    ):
        (tmp_path / "a").write_bytes(content)
        with pytest.raises(InputError, match=says):
            read_idx(tmp_path / "a")
    with pytest.raises(InputError, match="no such data file") as caught:
        read_idx(tmp_path / "b")
    assert caught.value.next is None


def test_debians_package_is_named_where_its_files_are_missing(monkeypatch, tmp_path):
    monkeypatch.setattr("edgepack.data.idx._PACKAGES", {str(tmp_path / "gone"): "dataset-fashion-mnist"})
    with pytest.raises(InputError) as caught:
        load_data(Data(idx=Idx(folder="gone")), tmp_path)
    assert caught.value.next == "install Debian's package: apt install dataset-fashion-mnist"


def written(folder, images=(6, 4, 5), labels=None):
    rng = np.random.default_rng(0)
    for name, count in (("train", images[0]), ("t10k", images[0] - 2)):
        pixels = rng.integers(0, 256, (count, *images[1:]), np.uint8)
        classes = np.arange(count, dtype=np.uint8) % 3 if labels is None else labels
        (folder / f"{name}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(pixels)))
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(idx(classes))  # found without .gz, too
    return pixels


def test_images_are_scaled_normalised_and_laid_out(tmp_path):
    pixels = written(tmp_path)
    found = load_data(Data(idx=Idx(folder=".", mean=(0.5,), std=(0.25,), classes=("a", "b", "c"))), tmp_path)
    assert (found.x_train.shape, found.x_train.dtype, found.classes) == (
        (6, 1, 4, 5),
        np.float32,
        ("a", "b", "c"),
    )
    assert found.y_test.tolist() == [0, 1, 2, 0]
    assert np.allclose(found.x_test[:, 0], (pixels / 255 - 0.5) / 0.25, atol=1e-5)
    nhwc = load_data(Data(idx=Idx(folder=".", layout="nhwc", scale=1.0)), tmp_path)
    assert np.array_equal(nhwc.x_test[..., 0], pixels)
    colour = written(tmp_path, (6, 4, 5, 3))
    assert np.array_equal(
        load_data(Data(idx=Idx(folder=".", scale=1.0)), tmp_path).x_test, colour.transpose(0, 3, 1, 2)
    )


def test_images_and_labels_that_do_not_fit(tmp_path):
    written(tmp_path, labels=np.arange(3, dtype=np.uint8))
    with pytest.raises(InputError, match="x_train has 6 samples and y_train the shape"):
        load_data(Data(idx=Idx(folder=".")), tmp_path)
    written(tmp_path)
    with pytest.raises(InputError, match="2 values for 1 channels"):
        load_data(Data(idx=Idx(folder=".", mean=(0.1, 0.2))), tmp_path)
    with pytest.raises(InputError, match="not images"):
        load_data(Data(idx=Idx(folder=".", test_images="t10k-labels-idx1-ubyte")), tmp_path)
    with pytest.raises(InputError, match="one whole number per image"):
        load_data(Data(idx=Idx(folder=".", test_labels="t10k-images-idx3-ubyte.gz")), tmp_path)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_file_is_prepared_as_its_pixels_are(tmp_path, layout, channels):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 4, channels), np.uint8)
    for part in ("train", "t10k"):
        whole = pixels[..., 0] if channels == 1 else pixels
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(idx(whole))
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(idx(np.array([0, 1], np.uint8)))
    data = Data(idx=Idx(folder=".", mean=(0.3,), std=(0.2,), layout=layout))
    samples = load_data(data, tmp_path).x_test
    found = data.preprocess((1, *samples.shape[1:]))
    Image.fromarray(pixels[1].squeeze()).save(tmp_path / "image.png")
    np.testing.assert_allclose(preprocess_image(tmp_path / "image.png", found), samples[1], atol=1e-6)


def test_samples_that_are_no_images_have_no_preprocessing():
    assert Data(npz="a.npz").preprocess((1, 1, 8, 8)) is None
    assert Data(idx=Idx(folder=".")).preprocess((1, 2, 8, 8)) is None
    assert Data(idx=Idx(folder=".")).preprocess((1, 8)) is None

"""Image folders: preprocessing that can be checked by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgepack.data import load_data
from edgepack.data.images import preprocess_image
from edgepack.errors import InputError
from edgepack.spec import Data, Images, Preprocess


def image(path, height=4, width=6, color=(10, 20, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), color).save(path)
    return path


def folder(tmp_path, count=5):
    for i in range(count):
        image(tmp_path / "photos" / "cat" / f"{i}.png", color=(200, i, 0))
        image(tmp_path / "photos" / "dog" / f"{i}.png", color=(0, i, 200))
    return tmp_path


def load(tmp_path, **preprocess):
    return load_data(Data(images=Images(folder="photos", preprocess=Preprocess(**preprocess))), tmp_path)


def test_a_folder_of_classes(tmp_path):
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    (tmp_path / "photos" / "cat" / "notes.txt").write_text("not an image")
    got = load(folder(tmp_path))
    assert got.classes == ("cat", "dog")
    assert got.x_train.shape == (8, 3, 4, 6)
    assert got.x_train.dtype == np.float32
    red = got.x_test[:, 0, 0, 0]
    assert np.allclose(red, np.where(got.y_test == 0, 200 / 255, 0))


@pytest.mark.parametrize(
    ("color", "pixel"),
    [("rgb", [10, 20, 30]), ("bgr", [30, 20, 10]), ("gray", [18])],
)
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_colour_and_layout(tmp_path, color, pixel, layout):
    got = preprocess_image(image(tmp_path / "i.png"), Preprocess(color=color, layout=layout, scale=1.0))
    channels = len(pixel)
    assert got.shape == ((channels, 4, 6) if layout == "nchw" else (4, 6, channels))
    assert np.array_equal(got[:, 0, 0] if layout == "nchw" else got[0, 0], pixel)


def test_scale_then_mean_then_std(tmp_path):
    spec = Preprocess(scale=0.1, mean=(1.0, 2.0, 3.0), std=(0.5, 1.0, 2.0))
    got = preprocess_image(image(tmp_path / "i.png", color=(10, 30, 50)), spec)
    assert np.allclose(got[:, 0, 0], [0.0, 1.0, 1.0])


def test_the_crop_is_the_centre_and_the_resize_keeps_the_ratio(tmp_path):
    path = tmp_path / "i.png"
    pixels = np.zeros((4, 8, 3), "uint8")
    pixels[:, 2:6] = 255
    Image.fromarray(pixels).save(path)
    assert preprocess_image(path, Preprocess(crop=(4, 4))).min() == 1
    assert preprocess_image(path, Preprocess(resize=8)).shape == (3, 8, 16)
    assert preprocess_image(path, Preprocess(resize=8, crop=(8, 8))).shape == (3, 8, 8)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    resize=st.integers(1, 40),
    layout=st.sampled_from(["nchw", "nhwc"]),
)
def test_any_image_becomes_the_crops_shape(tmp_path_factory, height, width, resize, layout):
    path = image(tmp_path_factory.getbasetemp() / "any.png", height, width, (255, 0, 0))
    got = preprocess_image(path, Preprocess(resize=resize, crop=(resize, resize), layout=layout))
    assert got.shape == ((3, resize, resize) if layout == "nchw" else (resize, resize, 3))
    assert np.isfinite(got).all()
    assert (got.min(), got.max()) == (0, 1)
    whole = preprocess_image(path, Preprocess(resize=resize, layout="nhwc"))
    assert min(whole.shape[:2]) == resize
    assert abs(whole.shape[1] / whole.shape[0] - width / height) <= max(width / height, 1) / min(
        whole.shape[:2]
    )


def test_images_of_different_shapes_name_the_odd_one(tmp_path):
    image(folder(tmp_path) / "photos" / "dog" / "z.png", 5, 5)
    with pytest.raises(InputError, match=r"has shape \[3, 5, 5\], others \[3, 4, 6\]") as caught:
        load(tmp_path)
    assert caught.value.where.endswith("dog/z.png")
    assert load(tmp_path, resize=4, crop=(4, 4)).x_train.shape[1:] == (3, 4, 4)


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n cut off"])
def test_files_that_are_no_images_are_named(tmp_path, content):
    (folder(tmp_path) / "photos" / "cat" / "broken.png").write_bytes(content)
    with pytest.raises(InputError, match=r"not an image|cannot be read") as caught:
        load(tmp_path)
    assert caught.value.where.endswith("cat/broken.png")


def test_a_cut_off_image_is_named(tmp_path):
    whole = image(tmp_path / "w.bmp", 40, 40).read_bytes()
    (tmp_path / "cut.bmp").write_bytes(whole[:-500])
    with pytest.raises(InputError, match="cannot be read"):
        preprocess_image(tmp_path / "cut.bmp", Preprocess())


def test_settings_that_do_not_fit(tmp_path):
    path = image(tmp_path / "i.png")
    with pytest.raises(InputError, match="4x6 before the crop to 8x8"):
        preprocess_image(path, Preprocess(crop=(8, 8)))
    with pytest.raises(InputError, match=r"preprocess\.mean has 3 values for 1 channels"):
        preprocess_image(path, Preprocess(color="gray", mean=(1.0, 2.0, 3.0)))


def test_folders_that_are_no_data(tmp_path):
    with pytest.raises(InputError, match="no such image folder"):
        load(tmp_path)
    image(tmp_path / "photos" / "cat" / "1.png")
    with pytest.raises(InputError, match="has 1 sub-folders"):
        load(tmp_path)
    (tmp_path / "photos" / "dog").mkdir()
    with pytest.raises(InputError, match="the class has no images") as caught:
        load(tmp_path)
    assert caught.value.where.endswith("dog")

"""The scenes: their data, and networks whose answers have the shapes of their targets."""

import numpy as np
import pytest
import torch

from edgepack.export import relative_error, run_onnx, to_onnx
from edgepack.spec import Input
from edgepack.zoo import digits, scenes

IMAGE = (Input(name="image", shape=(1, 1, scenes.SIZE, scenes.SIZE)),)


def test_masks_are_where_the_ink_is_and_always_the_same():
    data, again = scenes.masks(), scenes.masks()
    assert data.x_train.shape == (1438, 1, 24, 24)
    assert data.y_test.shape == (359, 24, 24)
    assert np.array_equal(data.x_train, again.x_train)
    assert set(np.unique(data.y_train)) == {0, 1}
    ink = data.x_train[:, 0][data.y_train == 1].mean()
    background = data.x_train[:, 0][data.y_train == 0].mean()
    assert ink > 0.6
    assert background < 0.1


def test_centres_are_those_of_the_digits():
    data, masks, drawn = scenes.centres(), scenes.masks(), digits.splits()
    assert np.array_equal(data.x_test, masks.x_test)
    places = (np.arange(scenes.SIZE) + 0.5) / scenes.SIZE
    for mask, centre, image in zip(masks.y_test, data.y_test, drawn.x_test, strict=True):
        seen = np.array(
            [
                mask.any(axis=1) @ places / mask.any(axis=1).sum(),
                mask.any(axis=0) @ places / mask.any(axis=0).sum(),
            ]
        )
        assert np.abs(seen - centre).max() < 4 / scenes.SIZE
        assert mask.sum() == (image > 0.4).sum()


@pytest.mark.parametrize(("name", "targets"), [("segmenter", "masks"), ("locator", "centres")])
def test_outputs_fit_the_targets_and_the_export_is_equal(name, targets, tmp_path):
    network, data = getattr(scenes, name)().eval(), getattr(scenes, targets)()
    x = data.x_test[:1]
    with torch.no_grad():
        y = network(torch.from_numpy(x)).numpy()
        assert np.array_equal(y, getattr(scenes, name)().eval()(torch.from_numpy(x)).numpy())
    assert y.shape == ((1, 2, 24, 24) if name == "segmenter" else (1, *data.y_test.shape[1:]))
    to_onnx(network, IMAGE, tmp_path / "net.onnx")
    assert relative_error(run_onnx(tmp_path / "net.onnx", {"image": x})[0], y) < 1e-5

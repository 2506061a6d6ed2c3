"""The trained digits network as an .onnx file, made once."""

import pytest

from edgepack.export import to_onnx
from edgepack.spec import Input


@pytest.fixture(scope="session")
def model(_trained, tmp_path_factory):
    inputs = (Input(name="image", shape=(1, 1, 8, 8)),)
    return to_onnx(_trained[0], inputs, tmp_path_factory.mktemp("onnx") / "digits.onnx")

"""The estimated size of a weights file is near that of the file."""

import numpy as np
import pytest

from edgepack.spec.encoding import BundledWeight
from edgepack.weightfile.estimate import estimated_sizes
from edgepack.weightfile.file import RawTensor, pack_weights

RANDOM = np.random.default_rng(3)


def normal(*shape):
    return RANDOM.normal(size=shape).astype("float32")


def whole(array):
    return BundledWeight("w", (array,), array)


CASES = {
    "float32, large": [whole(normal(256, 300))],
    "float32, small ones": [whole(normal(12, 9)) for _ in range(20)],
    "int8, large": [
        BundledWeight("w", ((20 * normal(128, 200)).astype("int8"), normal(128)), normal(128, 200))
    ],
    "int8, small ones": [
        BundledWeight("w", ((30 * normal(24, 20)).astype("int8"), normal(24)), normal(24, 20))
        for _ in range(20)
    ],
    "noise": [whole(RANDOM.integers(0, 256, 20_000).astype("uint8"))],
    "a few values": [
        BundledWeight("w", (RANDOM.binomial(15, 0.3, 30_000).astype("uint8"),), normal(300, 100))
    ],
    "zeros": [whole(np.zeros((100, 100), "float32"))],
    "float16": [BundledWeight("w", (normal(100, 100).astype("float16"),), normal(100, 100))],
    "empty and scalars": [whole(np.zeros((0, 3), "float32")), whole(np.float32(3).reshape(()))],
}


@pytest.mark.parametrize("weights", CASES.values(), ids=CASES)
def test_the_estimate_is_near_the_file(weights):
    arrays = [array for weight in weights for array in weight.in_file]
    file = pack_weights([RawTensor(str(array.dtype), array) for array in arrays])
    size, memory = estimated_sizes(weights)
    assert size == pytest.approx(len(file.data), rel=0.03, abs=60)
    assert memory == sum(weight.decoded.nbytes for weight in weights)


def test_equal_small_weights_count_once_and_no_weights_take_nothing():
    array = normal(10, 10)
    assert estimated_sizes([whole(array)] * 3)[0] == estimated_sizes([whole(array)])[0]
    assert estimated_sizes([whole(array)] * 3)[1] == 1200
    assert estimated_sizes([]) == (0, 0)


def test_a_weight_is_stored_decoded_where_its_encoding_saves_too_little():
    codes, table, decoded = np.zeros(64, "uint8"), normal(4), normal(8, 8)
    assert BundledWeight("w", (codes, table), decoded).in_file == (decoded,)
    large = BundledWeight("w", (np.zeros(640, "uint8"), table), normal(80, 8))
    assert large.in_file == large.stored

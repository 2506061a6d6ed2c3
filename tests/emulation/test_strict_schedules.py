"""Real schedules of TVM with a mistake put into them: each is found on the emulated GPU."""

import numpy as np
import pytest
from gpu_models import BARRIER, WEIGHT, RunError, X, compiled, race


@pytest.fixture(scope="module")
def product(tmp_path_factory):
    return compiled(tmp_path_factory.mktemp("product"), "MatMul", WEIGHT)


@pytest.fixture(scope="module")
def softmax(tmp_path_factory):
    return compiled(tmp_path_factory.mktemp("softmax"), "Softmax")


@pytest.mark.parametrize(
    "order", ["reverse", *(pytest.param(o, marks=pytest.mark.slow) for o in ("forward", "random:5"))]
)
def test_the_schedules_are_right_in_every_order(product, softmax, order):
    e = np.exp(X.astype(np.float64) - X.max(axis=1, keepdims=True))
    assert (product.source.count(BARRIER), softmax.source.count(BARRIER)) == (2, 6)
    np.testing.assert_allclose(
        softmax.run(softmax.source, order), e / e.sum(axis=1, keepdims=True), atol=1e-6
    )
    np.testing.assert_allclose(product.run(product.source, order), X.astype(np.float64) @ WEIGHT, atol=1e-4)


# The second and the fifth are left out: around them a thread uses only what it has written itself.
@pytest.mark.parametrize("number", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 3, 5))])
def test_a_softmax_without_one_of_its_barriers(softmax, number):
    with pytest.raises(RunError, match=race("softmax")):
        softmax.run(softmax.without_barrier(number), "reverse")


@pytest.mark.parametrize("number", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_product_without_one_of_its_barriers(product, number):
    with pytest.raises(RunError, match=race("matmul")):
        product.run(product.without_barrier(number), "reverse")
    if number:
        assert np.isnan(product.run(product.without_barrier(number))).any(), "garbage"


def changed(model, text, wrong):
    assert text in model.source
    return model.source.replace(text, wrong)


@pytest.mark.parametrize(
    ("index", "wrong", "why"),
    [
        ("softmax_norm_ptr[(", "softmax_norm_ptr[1 + (", "a write of 4 bytes at offset 98304 of an allocation of 98304"),
        ("x_ptr[(", "x_ptr[-1 + (", "a read of 4 bytes 4 bytes before an allocation of"),
        ("staging_ptr[(", "staging_ptr[1 + (", r"index 8 of an array of type 'float\[8\]' in line \d+"),
    ],
)  # fmt: skip
def test_a_softmax_with_an_index_off_by_one(softmax, index, wrong, why):
    with pytest.raises(RunError, match=f"kernel softmax_kernel, block .*, thread .*: {why}"):
        softmax.run(changed(softmax, index, wrong))


@pytest.mark.parametrize(
    ("index", "wrong", "why"),
    [
        ("ax3_0 < 12;", "ax3_0 <= 12;", "a read of .* bytes at offset 98304 of an allocation"),
        pytest.param(
            "x_reindex_shared_ptr + (", "x_reindex_shared_ptr + 1 + (",
            "a write of 8 bytes at an address that is no multiple of 8", marks=pytest.mark.slow,
        ),
        pytest.param(
            "B_reindex_shared_ptr + (", "B_reindex_shared_ptr + 4 + (",
            "a write of 8 bytes at offset 4608 of a shared array of 4608", marks=pytest.mark.slow,
        ),
        pytest.param(
            "local_ptr[7] = __", "local_ptr[9] = __", r"index 9 of an array of type 'float2\[8\]' in line \d+",
            marks=pytest.mark.slow,
        ),
    ],
)  # fmt: skip
def test_a_product_with_an_index_off_by_one(product, index, wrong, why):
    with pytest.raises(RunError, match=f"kernel matmul_kernel, block .*, thread .*: {why}"):
        product.run(changed(product, index, wrong))


@pytest.mark.slow
def test_an_index_off_by_one_within_its_array_reads_garbage(product):
    got = product.run(changed(product, "x_reindex_shared_ptr[(", "x_reindex_shared_ptr[1 + ("))
    assert np.isnan(got).any(), "what lies between the rows of the tile"


def test_blocks_that_write_the_same_row(softmax):
    index = "T_softmax_norm_ptr[((((int)blockIdx.x)"
    with pytest.raises(RunError, match=race("softmax")):
        softmax.run(changed(softmax, index, index + " / 2"), "reverse")

"""What lanes of a warp do together on the emulated GPU, and atomics."""

import ml_dtypes
import numpy as np
import pytest
from launching import HEAD, Launcher, LaunchError

LANES = np.arange(32)
ALL = "0xffffffffu"


@pytest.fixture(scope="module")
def gpu(tmp_path_factory):
    return Launcher(tmp_path_factory.mktemp("gpu"))


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("float", np.float32),
        ("half", np.float16),
        pytest.param("int", np.int32, marks=pytest.mark.slow),
        pytest.param("double", np.float64, marks=pytest.mark.slow),
        pytest.param("long long", np.int64, marks=pytest.mark.slow),
    ],
)
def test_shuffles_with_every_width(gpu, kind, dtype):
    body = "".join(
        f"r[{n} * 32 + i] = {call}(0xffffffffu, a[i], {argument}, {width});"
        for n, (call, argument, width) in enumerate(
            (call, argument, width)
            for width in (32, 16, 4)
            for call, argument in (
                ("__shfl_sync", "i * 7"),
                ("__shfl_up_sync", "3"),
                ("__shfl_down_sync", "5"),
                ("__shfl_xor_sync", "5"),
            )
        )
    )
    source = f"{HEAD}kernel({kind}* a, {kind}* r) {{ int i = threadIdx.x; {body} }}"
    a = (LANES * 3 + 1).astype(dtype)
    got = gpu.run(source, "kernel", [a, np.zeros((12, 32), dtype)], (1,), (32,))[1]
    for n, width in enumerate((32, 16, 4)):
        first, place = LANES - LANES % width, LANES % width
        other = LANES ^ 5
        wanted = [first + LANES * 7 % width, np.where(place >= 3, LANES - 3, LANES)]
        wanted += [
            np.where(place + 5 < width, LANES + 5, LANES),
            np.where(other < first + width, other, LANES),
        ]
        for k, lanes in enumerate(wanted):
            assert (got[4 * n + k] == a[lanes]).all(), (width, k)


def test_votes_matches_and_reductions(gpu):
    body = """int v = a[i];
    r[i] = __ballot_sync(0xffffffffu, v & 1); r[32 + i] = __any_sync(0xffffffffu, v == 70);
    r[64 + i] = __all_sync(0xffffffffu, v < 100); r[96 + i] = __match_any_sync(0xffffffffu, v);
    r[128 + i] = __reduce_add_sync(0xffffffffu, v); r[160 + i] = __reduce_max_sync(0xffffffffu, v);
    r[192 + i] = __reduce_xor_sync(0xffffffffu, (unsigned)v); r[224 + i] = __activemask();
    if (i < 8) r[i + 256] = __reduce_min_sync(0xffu, v); else r[i + 256] = __ballot_sync(0xffffff00u, 1);"""
    source = f"{HEAD}kernel(int* a, int* r) {{ int i = threadIdx.x; {body} }}"
    a = np.random.default_rng(0).integers(-5, 5, 32).astype(np.int32)
    got = gpu.run(source, "kernel", [a, np.zeros((9, 32), np.int32)], (1,), (32,))[1]
    bits = lambda x: int(sum(int(b) << k for k, b in enumerate(x)))  # noqa: E731
    unsigned = got.view(np.uint32)
    assert (unsigned[0] == bits(a & 1)).all()
    assert (got[1] == 0).all()
    assert (got[2] == 1).all()
    assert unsigned[3].tolist() == [bits(a == v) for v in a]
    assert (got[4] == a.sum()).all()
    assert (got[5] == a.max()).all()
    assert (got[6] == np.bitwise_xor.reduce(a)).all()
    assert (unsigned[7] == 2**32 - 1).all()
    assert (got[8, :8] == a[:8].min()).all()
    assert (unsigned[8, 8:] == 0xFFFFFF00).all()


def test_a_vote_that_not_all_lanes_reach_is_an_error(gpu):
    source = f"{HEAD}kernel(int* r) {{ if (threadIdx.x < 7) r[threadIdx.x] = __ballot_sync({ALL}, 1); else __syncthreads(); }}"
    with pytest.raises(LaunchError, match="kernel"):
        gpu.run(source, "kernel", [np.zeros(32, np.int32)], (1,), (32,))


def test_a_mask_without_the_caller_and_a_wrong_width_are_errors(gpu):
    source = f"{HEAD}kernel(int* r) {{ r[threadIdx.x] = __ballot_sync(0xfffffffeu, 1); }}"
    with pytest.raises(LaunchError, match="leaves out the calling lane"):
        gpu.run(source, "kernel", [np.zeros(32, np.int32)], (1,), (32,))
    source = f"{HEAD}kernel(int* r) {{ r[threadIdx.x] = __shfl_sync({ALL}, 1, 0, 12); }}"
    with pytest.raises(LaunchError, match="the width 12 is not a power of two"):
        gpu.run(source, "kernel", [np.zeros(32, np.int32)], (1,), (32,))


def test_atomics(gpu):
    body = """int i = blockIdx.x * blockDim.x + threadIdx.x;
    atomicAdd(r, i); atomicMax(r + 1, i * 3); atomicMin(r + 2, -i); atomicOr(r + 3, 1 << (i % 31));
    atomicInc((unsigned*)r + 4, 9); atomicDec((unsigned*)r + 5, 6); atomicSub(r + 6, i); atomicXor(r + 7, i);
    if (atomicCAS(r + 8, 0, i + 1) == 0) atomicExch(r + 9, 77);
    atomicAdd(f, 0.5f); atomicAdd(h, __float2half_rn(1.0f)); atomicAdd(b, __float2bfloat16_rn(1.0f));"""
    source = f"{HEAD}kernel(int* r, float* f, half* h, nv_bfloat16* b) {{ {body} }}"
    arrays = [
        np.zeros(10, np.int32),
        np.zeros(1, np.float32),
        np.zeros(2, np.float16),
        np.zeros(2, np.uint16),
    ]
    r, f, h, b = gpu.run(source, "kernel", arrays, (8,), (128,))
    n = 1024
    total = n * (n - 1) // 2
    assert r[:4].tolist() == [total, 3 * (n - 1), -(n - 1), 2**31 - 1]
    assert r[4] == n % 10
    assert r[5] == (7 - n % 7) % 7
    assert r[6] == -total
    assert r[7] == np.bitwise_xor.reduce(np.arange(n))
    assert 1 <= r[8] <= n
    assert r[9] == 77
    assert f[0] == n / 2
    assert h[0] == n
    assert h[1] == 0
    assert b.view(ml_dtypes.bfloat16)[0] == 256  # 256 + 1 is rounded to even


WMMA = """
using namespace nvcuda;
{head}kernel({ab}* a, {ab}* b, {c}* c, {d}* d, int* layouts) {{
  wmma::fragment<wmma::matrix_a, {m}, {n}, 16, {ab}, wmma::{la}> fa;
  wmma::fragment<wmma::matrix_b, {m}, {n}, 16, {ab}, wmma::{lb}> fb;
  wmma::fragment<wmma::accumulator, {m}, {n}, 16, {c}> fc;
  wmma::fragment<wmma::accumulator, {m}, {n}, 16, {d}> fd;
  layouts[threadIdx.x] = fa.num_elements * 100 + fc.num_elements;
  wmma::load_matrix_sync(fa, a, {lda}); wmma::load_matrix_sync(fb, b, {ldb});
  wmma::load_matrix_sync(fc, c, {n}, wmma::mem_row_major);
  wmma::mma_sync(fd, fa, fb, fc); wmma::mma_sync(fd, fa, fb, fd);
  for (int t = 0; t < fd.num_elements; ++t) fd.x[t] = fd.x[t] + ({d})(1.0f);
  wmma::store_matrix_sync(d, fd, {m}, wmma::mem_col_major);
}}"""
TYPES = {
    "half": np.float16,
    "float": np.float32,
    "int": np.int32,
    "signed char": np.int8,
    "unsigned char": np.uint8,
}
TYPES |= {"nv_bfloat16": ml_dtypes.bfloat16}


@pytest.mark.parametrize(
    "shape", [(16, 16), *(pytest.param(s, marks=pytest.mark.slow) for s in ((32, 8), (8, 32)))]
)
@pytest.mark.parametrize(
    ("ab", "c", "elements"),
    [
        ("half", "float", 16),
        ("half", "half", 16),
        ("nv_bfloat16", "float", 0),
        ("signed char", "int", 0),
        ("unsigned char", "int", 0),
    ],
)
def test_wmma(gpu, shape, ab, c, elements):
    m, n = shape
    la, lb = ("row_major", "col_major") if m != 32 or c == "int" else ("col_major", "row_major")
    rng = np.random.default_rng(5)
    if c == "int":
        a, b = (rng.integers(*((-128, 128) if ab[0] == "s" else (0, 256)), s) for s in ((m, 16), (16, n)))
    else:
        a, b = rng.integers(-8, 8, (m, 16)) / 4, rng.integers(-8, 8, (16, n)) / 4
    start = rng.integers(-9, 9, (m, n)).astype(TYPES[c])
    source = WMMA.format(
        head=HEAD, ab=ab, c=c, d=c, m=m, n=n, la=la, lb=lb,
        lda=16 if la == "row_major" else m, ldb=n if lb == "row_major" else 16,
    )  # fmt: skip
    given = [
        (a if la == "row_major" else a.T).astype(TYPES[ab]),
        (b if lb == "row_major" else b.T).astype(TYPES[ab]),
    ]
    bits = [np.ascontiguousarray(x).view(f"u{x.dtype.itemsize}") for x in given]
    arrays = [*bits, start, np.zeros((n, m), TYPES[c]), np.zeros(32, np.int32)]
    *_, got, counts = gpu.run(source, "kernel", arrays, (1,), (32,))
    want = (2 * (a @ b) + start + 1).astype(TYPES[c])
    assert (want == got.T).all()
    assert (counts == (elements or m * 16 // 32) * 100 + 8).all()


def test_wmma_rounds_a_half_accumulator_once(gpu):
    source = (
        WMMA.format(
            head=HEAD,
            ab="half",
            c="half",
            d="half",
            m=16,
            n=16,
            la="row_major",
            lb="row_major",
            lda=16,
            ldb=16,
        )
        .replace("wmma::mma_sync(fd, fa, fb, fd);", "")
        .replace("fd.x[t] + (half)(1.0f)", "fd.x[t]")
    )
    a, b = np.ones((16, 16), np.float16), np.zeros((16, 16), np.float16)
    b[1:] = 0.5  # 2048 + 0.5 fifteen times: each sum in half would be 2048 again
    c = np.full((16, 16), 2048, np.float16)
    *_, got, _ = gpu.run(
        source, "kernel", [a, b, c, np.zeros((16, 16), np.float16), np.zeros(32, np.int32)], (1,), (32,)
    )
    assert (got == 2056).all()  # 2055.5 rounded to even


def test_wmma_refuses_misaligned_matrices(gpu):
    source = WMMA.format(
        head=HEAD, ab="half", c="float", d="float", m=16, n=16, la="row_major", lb="row_major", lda=16, ldb=16
    )
    arrays = [
        np.zeros(512, np.float16),
        np.zeros(512, np.float16),
        *(np.zeros(256, np.float32),) * 2,
        np.zeros(32, np.int32),
    ]
    with pytest.raises(LaunchError, match="load_matrix_sync: the matrix is not aligned to 32 bytes"):
        gpu.run(source.replace("(fa, a, 16)", "(fa, a + 8, 16)"), "kernel", arrays, (1,), (32,))
    with pytest.raises(LaunchError, match="rows of 18 elements of 2 bytes are not aligned to 16 bytes"):
        gpu.run(source.replace("(fa, a, 16)", "(fa, a, 18)"), "kernel", arrays, (1,), (32,))

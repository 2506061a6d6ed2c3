"""CUDA's types and functions on the emulated GPU, against NumPy."""

import ml_dtypes
import numpy as np
import pytest
from launching import BLOCK, HEAD, I, Launcher, LaunchError, elementwise


@pytest.fixture(scope="module")
def gpu(tmp_path_factory):
    return Launcher(tmp_path_factory.mktemp("gpu"))


def same(got, want):
    """Equal, with NaN equal to NaN and signs of zeros looked at."""
    nan = np.isnan(want.astype(np.float64))
    assert (np.isnan(got.astype(np.float64)) == nan).all()
    bits = f"u{got.dtype.itemsize}"
    differ = np.flatnonzero((got.view(bits) != want.view(bits)) & ~nan)
    assert differ.size == 0, (differ[:5], got[differ[:5]], want[differ[:5]])


def special(dtype, bits, count=4096, seed=0):
    """Random bit patterns after zeros, infinities, NaN, subnormals and the largest numbers, each beside each other."""
    rng = np.random.default_rng(seed)
    info = ml_dtypes.finfo(dtype)
    edges = np.array(
        [
            0,
            -0.0,
            1,
            -1,
            np.inf,
            -np.inf,
            np.nan,
            info.max,
            -info.max,
            info.tiny,
            info.smallest_subnormal,
            0.5,
            3,
        ],
        np.float64,
    ).astype(dtype)
    random = rng.integers(0, 1 << bits, count, np.uint32).astype(f"u{bits // 8}").view(dtype)
    near = rng.normal(0, 1, count).astype(dtype)
    pairs = np.stack(np.meshgrid(edges, edges), -1).reshape(-1, 2)
    a = np.concatenate([pairs[:, 0], random, near])
    b = np.concatenate([pairs[:, 1], rng.permutation(random), rng.permutation(near)])
    return a, b


def test_every_vector_type_has_cudas_size_and_alignment(gpu):
    # CUDA C++ Programming Guide, Built-in Vector Types: alignments of the vectors of 1, 2, 3 and 4
    scalars = {"char": 1, "uchar": 1, "short": 2, "ushort": 2, "int": 4, "uint": 4, "float": 4}
    scalars |= {"long": 8, "ulong": 8, "longlong": 8, "ulonglong": 8, "double": 8}
    checks = [
        f'static_assert(sizeof({kind}{n}) == {n * size} && alignof({kind}{n}) == {align}, "");'
        for kind, size in scalars.items()
        for n, align in ((1, size), (2, 2 * size), (3, size), (4, min(4 * size, 16)))
    ]
    checks += [
        "static_assert(sizeof(half) == 2 && sizeof(half2) == 4 && alignof(half2) == 4);",
        "static_assert(sizeof(nv_bfloat16) == 2 && sizeof(nv_bfloat162) == 4 && alignof(nv_bfloat162) == 4);",
        "static_assert(__CUDA_ARCH__ == 870 && __CUDACC_VER_MAJOR__ == 13);",
    ]
    source = "\n".join(checks) + f"\n{HEAD}kernel(float* r) {{ r[0] = 1; }}"
    assert gpu.run(source, "kernel", [np.zeros(1, np.float32)])[0] == [1]


@pytest.mark.parametrize(
    ("vector", "element", "offset", "bytes_"),
    [("float4", "float", 1, 16), ("float4", "float", 2, 16), ("int2", "int", 1, 8), ("uint4", "uint", 3, 16)],
)
def test_a_misaligned_vector_is_found(gpu, vector, element, offset, bytes_):
    body = f"{HEAD}kernel({element}* a, {element}* r) {{ *({vector}*)(r) = *({vector}*)(a + __OFFSET); }}"
    data = np.arange(32, dtype=np.float32)
    kernel = body.replace("__OFFSET", "4")
    got = gpu.run(kernel, "kernel", [data, np.zeros(32, np.float32)])[1]
    assert (got[: bytes_ // 4] == data[4 : 4 + bytes_ // 4]).all()
    with pytest.raises(
        LaunchError, match=f"read of {bytes_} bytes at an address that is no multiple of {bytes_}"
    ):
        gpu.run(body.replace("__OFFSET", str(offset)), "kernel", [data, np.zeros(32, np.float32)])


def test_half_is_rounded_once(gpu):
    a, b = special(np.float16, 16)
    c = np.random.default_rng(1).permutation(a)
    body = """r[4 * i] = a[i] + b[i]; r[4 * i + 1] = a[i] - b[i]; r[4 * i + 2] = a[i] * b[i]; r[4 * i + 3] = a[i] / b[i];
    s[i] = __hfma(a[i], b[i], c[i]);"""
    source = f"{HEAD}kernel(half* a, half* b, half* c, half* r, half* s, int* n) {{ {I} if (i < n[0]) {{ {body} }} }}"
    n = len(a)
    arrays = [a, b, c, np.zeros(4 * n, np.float16), np.zeros(n, np.float16), np.array([n], np.int32)]
    got = gpu.run(source, "kernel", arrays, (-(-n // BLOCK),), (BLOCK,))
    with np.errstate(all="ignore"):
        same(got[3].reshape(n, 4), np.stack([a + b, a - b, a * b, a / b], 1))
        # exact in extended precision: 22 bits of the product and the addend lie within 64 bits where it matters
        exact = a.astype(np.longdouble) * b.astype(np.longdouble) + c.astype(np.longdouble)
        same(got[4], exact.astype(np.float16))


def test_half_comparisons_conversions_and_functions(gpu):
    a, b = special(np.float16, 16)
    prelude = """struct R { signed char order[14]; };"""
    body = """R o = {{__heq(a[i], b[i]), __hne(a[i], b[i]), __hlt(a[i], b[i]), __hle(a[i], b[i]), __hgt(a[i], b[i]), __hge(a[i], b[i]),
      __hequ(a[i], b[i]), __hltu(a[i], b[i]), a[i] == b[i], a[i] != b[i], a[i] < b[i], a[i] >= b[i], __hisnan(a[i]),
      (signed char)__hisinf(a[i])}};
    for (int k = 0; k < 14; ++k) r[i * 14 + k] = o.order[k];
    half f[12] = {__hmax(a[i], b[i]), __hmin(a[i], b[i]), hexp(a[i]), hsqrt(a[i]), htanh(a[i]), hfloor(a[i]), hrint(a[i]),
      __habs(a[i]), __hneg(a[i]), hrcp(a[i]), __hmax_nan(a[i], b[i]), hlog2(a[i])};
    for (int k = 0; k < 12; ++k) s[i * 12 + k] = f[k];
    t[i] = __half2int_rn(a[i]); u[i] = (int)a[i];"""
    n = len(a) // BLOCK * BLOCK
    a, b = a[:n], b[:n]
    names = "half* a, half* b, signed char* r, half* s, int* t, int* u"
    source = f"{prelude}{HEAD}kernel({names}) {{ {I} {body} }}"
    arrays = [
        a,
        b,
        np.zeros((n, 14), np.int8),
        np.zeros((n, 12), np.float16),
        np.zeros(n, np.int32),
        np.zeros(n, np.int32),
    ]
    _, _, order, values, nearest, cut = gpu.run(source, "kernel", arrays, (n // BLOCK,), (BLOCK,))
    nan = np.isnan(a) | np.isnan(b)
    with np.errstate(all="ignore"):
        wide = a.astype(np.float32)
        wanted = [a == b, (a != b) & ~nan, a < b, a <= b, a > b, a >= b, (a == b) | nan, (a < b) | nan]
        wanted += [a == b, a != b, a < b, a >= b, np.isnan(a), (wide == np.inf) * 1 - (wide == -np.inf)]
        for column, want in zip(order.T, wanted, strict=True):
            assert (column == want).all()
        zeros = (a == 0) & (b == 0)
        low = np.where(zeros, np.where(np.signbit(a), a, b), np.fmin(a, b))
        high = np.where(zeros, np.where(np.signbit(a), b, a), np.fmax(a, b))
        functions = [
            high,
            low,
            np.exp(wide),
            np.sqrt(wide),
            np.tanh(wide),
            np.floor(a),
            np.rint(a),
            np.abs(a),
            -a,
        ]
        functions += [1 / wide, np.where(nan, np.float16(np.nan), high), np.log2(wide)]
        for k, want in enumerate(function.astype(np.float16) for function in functions):
            if k in (2, 4, 11):  # two implementations in float may round a half differently, by its last bit
                close = np.isclose(values[:, k], want, rtol=2**-10, atol=2**-24, equal_nan=True)
                assert close.all()
                assert (values[:, k] != want)[~np.isnan(want)].mean() < 1e-3
            else:
                same(values[:, k].copy(), want)
        limit = np.clip(np.nan_to_num(wide.astype(np.float64), nan=0), -(2**31), 2**31 - 1)
        assert (nearest == np.rint(limit)).all()
        assert (cut == np.trunc(limit)).all()


def test_float_to_half_rounds_in_every_direction(gpu):
    rng = np.random.default_rng(2)
    a = np.concatenate(
        [rng.normal(0, 100, 2000), rng.normal(0, 1e-6, 1000), [65519.9, 65520, -70000, 1e-9, -1e-9, 0]]
    )
    a = a.astype(np.float32)
    body = "r[i] = __float2half_rn(a[i]); s[i] = __float2half_rz(a[i]); t[i] = __float2half_ru(a[i]); u[i] = __float2half_rd(a[i]);"
    rn, rz, ru, rd = elementwise(gpu, ["float", *["half"] * 4], body, [a], [np.float16] * 4)
    with np.errstate(all="ignore"):
        same(rn, a.astype(np.float16))
        assert (ru.astype(np.float64) >= a).all()
        assert (rd.astype(np.float64) <= a).all()
        assert (np.abs(rz.astype(np.float64)) <= np.abs(a)).all()
        inexact = (rn.astype(np.float32) != a) & np.isfinite(ru) & np.isfinite(rd)
        assert (np.nextafter(rd[inexact], np.float16(np.inf)) == ru[inexact]).all()


def test_bfloat16_is_rounded_once(gpu):
    bf16 = ml_dtypes.bfloat16
    a, b = special(bf16, 16)
    c = np.random.default_rng(1).permutation(a)
    # a sum that is halfway but for an addend far below: rounded twice, it would go to even
    a[:4], b[:4], c[:4] = bf16(1.0078125), bf16(1.0078125), np.array([2**-120, -(2**-120), 0, 2**-60], bf16)
    body = "r[i] = a[i] + b[i]; s[i] = a[i] * b[i]; t[i] = a[i] / b[i]; u[i] = __hfma(a[i], b[i], c[i]);"
    n = len(a) // BLOCK * BLOCK
    a, b, c = a[:n], b[:n], c[:n]
    got = elementwise(gpu, ["nv_bfloat16"] * 7, body, [a, b, c], [np.uint16] * 4)
    got = [x.view(bf16) for x in got]
    with np.errstate(all="ignore"):
        for x, want in zip(got, (a + b, a * b, a / b), strict=False):
            same(x, want)
        a_, b_, c_ = (x.astype(np.float64) for x in (a, b, c))
        near = (a_ * b_ + c_).astype(np.float32).astype(bf16)
        fused = got[3]
        assert np.isclose(fused.astype(np.float64), near.astype(np.float64), rtol=2**-7, equal_nan=True)[
            4:
        ].all()
    product = 1.0078125**2  # 1.01568603515625: between 1.015625 and 1.0234375
    assert product > 1.015625
    assert [float(x) for x in fused[:4]] == [1.015625] * 4


def test_integer_intrinsics(gpu):
    rng = np.random.default_rng(3)
    a, b, c = (rng.integers(-(2**31), 2**31, 1024, np.int64).astype(np.int32) for _ in range(3))
    a[:3], b[:3] = (0, -1, -(2**31)), (0, -1, -(2**31))
    body = """int f[16] = {__dp4a(a[i], b[i], c[i]), __dp4a((uint)a[i], b[i], c[i]), __dp4a(a[i], (uint)b[i], c[i]),
      (int)__dp4a((uint)a[i], (uint)b[i], (uint)c[i]), __popc(a[i]), __clz(a[i]), __ffs(a[i]), (int)__brev(a[i]),
      (int)__byte_perm(a[i], b[i], c[i]), __mulhi(a[i], b[i]), (int)__umulhi(a[i], b[i]), __mul24(a[i], b[i]),
      __clzll((long long)a[i] << 32), __popcll((unsigned long long)(uint)a[i] << 16), max(a[i], b[i]), min(a[i], b[i])};
    for (int k = 0; k < 16; ++k) r[i * 16 + k] = f[k];"""
    source = f"{HEAD}kernel(int* a, int* b, int* c, int* r) {{ {I} {body} }}".replace("uint", "unsigned int")
    got = gpu.run(source, "kernel", [a, b, c, np.zeros((1024, 16), np.int32)], (4,), (256,))[3]

    def dp4a(x, y):
        return (x.view(x.dtype).reshape(-1, 4).astype(np.int64) * y.reshape(-1, 4)).sum(1) + c

    s, u = (lambda x: x.view(np.int8)), (lambda x: x.view(np.uint8))
    wide, ua, ub = (
        a.astype(np.int64),
        a.view(np.uint32).astype(np.uint64),
        b.view(np.uint32).astype(np.uint64),
    )
    texts = [f"{x:032b}" for x in a.view(np.uint32)]
    pool = np.concatenate([u(a).reshape(-1, 4), u(b).reshape(-1, 4)], 1)
    choice = (c.view(np.uint32)[:, None] >> np.arange(0, 16, 4, dtype=np.uint32)) & 7
    low24 = lambda x: x.astype(np.int64) << 40 >> 40  # noqa: E731
    wanted = [dp4a(s(a), s(b)), dp4a(u(a), s(b)), dp4a(s(a), u(b)), dp4a(u(a), u(b))]
    wanted += [[t.count("1") for t in texts], [len(t) - len(t.lstrip("0")) for t in texts]]
    wanted += [[len(t) - len(t.rstrip("0")) + 1 if "1" in t else 0 for t in texts]]
    wanted += [
        [int(t[::-1], 2) for t in texts],
        np.take_along_axis(pool, choice, 1).copy().view(np.int32)[:, 0],
    ]
    wanted += [wide * b >> 32, (ua * ub) >> np.uint64(32), low24(a) * low24(b)]
    wanted += [
        [len(t) - len(t.lstrip("0")) if "1" in t else 64 for t in texts],
        [t.count("1") for t in texts],
    ]
    wanted += [np.maximum(a, b), np.minimum(a, b)]
    for k, want in enumerate(wanted):
        assert (got[:, k] == np.asarray(want).astype(np.int64).astype(np.int32)).all(), k


def test_conversions_to_integers_saturate(gpu):
    a = np.array([0.5, 1.5, -0.5, -1.5, 2.5, 3e9, -3e9, np.nan, np.inf, -np.inf, 2**31, 1e20], np.float32)
    body = """r[i] = __float2int_rn(a[i]); s[i] = (int)a[i]; t[i] = __float2uint_rz(a[i]); u[i] = __float2ll_rd(a[i]);"""
    rn, cast, unsigned, floor = elementwise(
        gpu,
        ["float", "int", "int", "unsigned int", "long long"],
        body,
        [a],
        [np.int32, np.int32, np.uint32, np.int64],
    )
    top, low = 2**31 - 1, -(2**31)
    assert rn.tolist() == [0, 2, 0, -2, 2, top, low, 0, top, low, top, top]
    assert cast.tolist() == [0, 1, 0, -1, 2, top, low, 0, top, low, top, top]
    assert unsigned.tolist() == [0, 1, 0, 0, 2, 3 * 10**9, 0, 0, 2**32 - 1, 0, 2**31, 2**32 - 1]
    assert floor.tolist()[:7] == [0, 1, -1, -2, 2, 3 * 10**9, -3 * 10**9]
    assert floor.tolist()[7:10] == [-(2**63), 2**63 - 1, -(2**63)]


def test_tvms_own_prelude(gpu):
    import tvm  # noqa: F401 - registers the generator
    from tvm.backend.cuda.codegen.header import header_generator

    prelude = header_generator(["fp16", "bf16", "int8", "math_constants", "mma", "warp_shuffle"])
    body = """half4 x = *(half4*)(a + i * 4); r[i * 4] = max(x.x, x.y); r[i * 4 + 1] = hpow(x.x, __float2half_rn(2.0f));
    uint2 p = make_uint2(__pack_half2(x.x, x.y), __pack_half2(x.z, x.w)); r[i * 4 + 2] = ((half2*)(&(p.y)))->y;
    r[i * 4 + 3] = herf(x.w); b[i] = min(__float2bfloat16(CUDART_INF_F), (nv_bfloat16)((float)x.y));"""
    source = f"{prelude}{HEAD}kernel(half* a, half* r, nv_bfloat16* b) {{ {I} {body} }}"
    a = np.random.default_rng(7).normal(0, 1, (256, 4)).astype(np.float16)
    _, r, b = gpu.run(source, "kernel", [a, np.zeros_like(a), np.zeros(256, np.uint16)], (1,), (256,))
    assert (r[:, 0] == a[:, :2].max(1)).all()
    assert (r[:, 1] == a[:, 0] * a[:, 0]).all()
    assert (r[:, 2] == a[:, 3]).all()
    assert (np.sign(r[:, 3]) == np.sign(a[:, 3])).all()
    assert (b.view(ml_dtypes.bfloat16) == a[:, 1].astype(ml_dtypes.bfloat16)).all()

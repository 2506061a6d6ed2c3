"""Inline PTX assembly, as TVM writes it, on the emulated GPU."""

import re

import ml_dtypes
import numpy as np
import pytest
from launching import HEAD, Launcher, LaunchError

from edgepack.emulation import ptx
from edgepack.emulation.driver import SOURCES
from edgepack.errors import EdgepackError


@pytest.fixture(scope="module")
def gpu(tmp_path_factory):
    return Launcher(tmp_path_factory.mktemp("gpu"))


def mma(mnemonic, a, b, c, kinds):
    """The statement that TVM's PrintMMAAssembly writes; ``a``, ``b`` and ``c`` are numbers of registers."""
    numbers = iter(range(99))
    groups = ", ".join("{" + ", ".join(f"%{next(numbers)}" for _ in range(n)) + "}" for n in (c, a, b, c))
    letter, kind = kinds
    outs = ", ".join(f'"={letter}"((({kind} *)(D + 0))[{i}])' for i in range(c))
    ins = [f'"r"(((unsigned *)({x} + 0))[{i}])' for x, n in (("A", a), ("B", b)) for i in range(n)]
    ins += [f'"{letter}"((({kind} *)(D + 0))[{i}])' for i in range(c)]
    return f"""
  {{
    __asm__ __volatile__(
      "{mnemonic}"
      "{groups};\\n"
      : {outs}
      : {", ".join(ins)});
  }}
"""


# PTX ISA, Matrix fragments for mma.m16n8k16 and the others: element i of a lane with g = lane / 4 and t = lane % 4, as
# (row, column) of A and (row, column) of B
LAYOUTS = {
    (16, 16, 2): (
        lambda g, t, i: (g if i < 2 or 4 <= i < 6 else g + 8, t * 2 + (i & 1) + (8 if i >= 4 else 0)),
        lambda g, t, i: (t * 2 + (i & 1) + (8 if i >= 2 else 0), g),
    ),
    (16, 8, 2): (lambda g, t, i: (g if i < 2 else g + 8, t * 2 + (i & 1)), lambda g, t, i: (t * 2 + i, g)),
    (16, 4, 4): (lambda g, t, i: (g if i == 0 else g + 8, t), lambda g, t, _: (t, g)),
    (16, 8, 4): (
        lambda g, t, i: (g if i in (0, 2) else g + 8, t if i < 2 else t + 4),
        lambda g, t, i: (t if i == 0 else t + 4, g),
    ),
    (8, 16, 1): (lambda g, t, i: (g, t * 4 + i), lambda g, t, i: (t * 4 + i, g)),
    (16, 16, 1): (lambda g, t, i: (g if i < 4 else g + 8, t * 4 + (i & 3)), lambda g, t, i: (t * 4 + i, g)),
    (16, 32, 1): (
        lambda g, t, i: (g if i < 4 or 8 <= i < 12 else g + 8, t * 4 + (i & 3) + (16 if i >= 8 else 0)),
        lambda g, t, i: (t * 4 + (i & 3) + (16 if i >= 4 else 0), g),
    ),
}


def registers(matrix, layout):
    """Each lane's elements of a matrix."""
    count = matrix.size // 32
    return np.array([[matrix[layout(lane // 4, lane % 4, i)] for i in range(count)] for lane in range(32)])


def unpack(lanes, m):
    """The matrix of which ``lanes`` has each lane's elements of C."""
    matrix = np.zeros((m, 8), lanes.dtype)
    for lane in range(32):
        for i in range(m // 4):
            matrix[lane // 4 + 8 * (i // 2), lane % 4 * 2 + i % 2] = lanes[lane, i]
    return matrix


MMA = [
    ("m16n8k16", "f32.f16.f16.f32", np.float16, np.float16, np.float32),
    ("m16n8k8", "f32.f16.f16.f32", np.float16, np.float16, np.float32),
    ("m16n8k16", "f16.f16.f16.f16", np.float16, np.float16, np.float16),
    ("m16n8k16", "f32.bf16.bf16.f32", ml_dtypes.bfloat16, ml_dtypes.bfloat16, np.float32),
    ("m16n8k8", "f32.tf32.tf32.f32", np.float32, np.float32, np.float32),
    ("m16n8k4", "f32.tf32.tf32.f32", np.float32, np.float32, np.float32),
    ("m16n8k32", "s32.s8.s8.s32", np.int8, np.int8, np.int32),
    ("m16n8k32", "s32.u8.s8.s32", np.uint8, np.int8, np.int32),
    ("m16n8k16", "satfinite.s32.s8.u8.s32", np.int8, np.uint8, np.int32),
    ("m8n8k16", "s32.u8.u8.s32", np.uint8, np.uint8, np.int32),
]


def forms():
    """Those that tensor cores use most are fast tests, the others slow ones."""
    fast = {("m16n8k16", "f32.f16.f16.f32"), ("m16n8k32", "s32.s8.s8.s32")}
    for row in MMA:
        yield pytest.param(*row, id="-".join(row[:2]), marks=() if row[:2] in fast else pytest.mark.slow)


@pytest.mark.parametrize(("shape", "types", "ta", "tb", "tc"), [*forms()])
def test_mma(gpu, shape, types, ta, tb, tc):  # noqa: PLR0917
    m, k = (int(re.search(f"{x}([0-9]+)", shape)[1]) for x in "mk")
    rng = np.random.default_rng(6)
    if tc == np.int32:
        a, b = (
            rng.integers(np.iinfo(t).min, np.iinfo(t).max + 1, s) for t, s in ((ta, (m, k)), (tb, (k, 8)))
        )
    else:
        a, b = rng.integers(-8, 8, (m, k)) / 4, rng.integers(-8, 8, (k, 8)) / 4
    c = rng.integers(-50, 50, (m, 8)).astype(tc)
    if "satfinite" in types:
        c[:] = 2**31 - 1
    of_a, of_b = LAYOUTS[m, k, np.dtype(ta).itemsize]
    of_c = lambda g, t, i: (g + i // 2 * 8, t * 2 + i % 2)  # noqa: E731
    lanes = registers(a.astype(ta), of_a), registers(b.astype(tb), of_b), registers(c, of_c)
    words = [np.ascontiguousarray(x).view(np.uint32) for x in lanes]
    counts = [w.shape[1] for w in words]
    kinds = {"f32": ("f", "float"), "s32": ("r", "int"), "f16": ("r", "unsigned")}[types.rsplit(".", 1)[1]]
    source = f"""{HEAD}kernel(unsigned* a, unsigned* b, unsigned* c) {{
      unsigned A[4], B[4], D[4]; int i = threadIdx.x;
      for (int k = 0; k < {counts[0]}; ++k) A[k] = a[i * {counts[0]} + k];
      for (int k = 0; k < {counts[1]}; ++k) B[k] = b[i * {counts[1]} + k];
      for (int k = 0; k < {counts[2]}; ++k) D[k] = c[i * {counts[2]} + k];
      {mma(f"mma.sync.aligned.{shape}.row.col.{types}", *counts, kinds)}
      for (int k = 0; k < {counts[2]}; ++k) c[i * {counts[2]} + k] = D[k]; }}"""
    got = gpu.run(source, "kernel", words, (1,), (32,))[2]
    exact = a.astype(np.float64) @ b + c
    if "satfinite" in types:
        exact = np.clip(exact, -(2**31), 2**31 - 1)
    assert (unpack(got.view(tc).reshape(32, -1), m) == exact.astype(tc)).all()


LDMATRIX = """
  {
    unsigned int addr = __cvta_generic_to_shared(tile + (threadIdx.x & 31) * 8);
    __asm__ __volatile__(
      "ldmatrix.sync.aligned.m8n8.xCOUNTTRANS.shared.b16"
      "{OPERANDS}, [%COUNT];\\n"
      : OUTS
      : "r"(addr)
    );
  }
"""


@pytest.mark.parametrize("count", [4, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2))])
@pytest.mark.parametrize("trans", ["", ".trans"])
def test_ldmatrix(gpu, count, trans):
    statement = LDMATRIX.replace("OPERANDS", ", ".join(f"%{i}" for i in range(count))).replace("TRANS", trans)
    outs = ", ".join(f'"=r"(((unsigned *)(local + 0))[{i}])' for i in range(count))
    statement = statement.replace("OUTS", outs).replace("COUNT", str(count))
    source = f"""{HEAD}kernel(half* a, unsigned* r) {{
      __shared__ alignas(64) half tile[256]; unsigned local[4] = {{}};
      for (int k = 0; k < 8; ++k) tile[threadIdx.x * 8 + k] = a[threadIdx.x * 8 + k];
      __syncthreads();
      {statement}
      for (int k = 0; k < {count}; ++k) r[threadIdx.x * {count} + k] = local[k]; }}"""
    a = np.arange(256, dtype=np.float16)
    got = gpu.run(source, "kernel", [a, np.zeros((32, count), np.uint32)], (1,), (32,))[1].view(np.float16)
    for lane in range(32):
        for m in range(count):
            matrix = a.reshape(4, 8, 8)[m]
            matrix = matrix.T if trans else matrix
            assert (got[lane, 2 * m : 2 * m + 2] == matrix[lane // 4, lane % 4 * 2 :][:2]).all()
    if count == 4:
        with pytest.raises(LaunchError, match="ldmatrix: a row is not aligned to 16 bytes"):
            gpu.run(
                source.replace("* 8);", "* 7);"), "kernel", [a, np.zeros((32, count), np.uint32)], (1,), (32,)
            )


COPY = """
__forceinline__ __device__ void copy_if(void* dst, int dst_off, void* src, int src_off, int predicate) {
  uint8_t* dst_p = (uint8_t*)dst + dst_off;
  uint8_t* src_p = (uint8_t*)src + src_off;
  unsigned int dst_addr = __cvta_generic_to_shared(dst_p);
  __asm__ __volatile__(
    "{\\n"
    " .reg .pred p;\\n"
    " setp.eq.u32 p, %3, 1;\\n"
    " @p cp.async.cg.shared.global [%0], [%1], %2;\\n"
    " @!p st.shared.v4.u32 [%0], {%4, %4, %4, %4};\\n"
    "}\\n"
    :: "r"(dst_addr), "l"(src_p), "n"(16), "r"(predicate), "r"(0)
  );
}
__forceinline__ __device__ void commit() { asm volatile("cp.async.commit_group;" :  : ); }
__forceinline__ __device__ void wait() { asm volatile("cp.async.wait_group 0;" :  :  : "memory"); }
"""


def test_copies_to_shared_memory(gpu):
    source = f"""{COPY}{HEAD}kernel(float* a, float* r) {{
      __shared__ alignas(16) float tile[128]; int i = threadIdx.x;
      copy_if(tile, i * 16, a, i * 16, i % 3 != 0);
      commit(); wait();
      __syncthreads();
      for (int k = 0; k < 4; ++k) r[i * 4 + k] = tile[i * 4 + k]; }}"""
    a = np.arange(128, dtype=np.float32) + 1
    got = gpu.run(source, "kernel", [a, np.zeros(128, np.float32)], (1,), (32,))[1]
    assert (got.reshape(32, 4) == np.where(np.arange(32)[:, None] % 3 != 0, a.reshape(32, 4), 0)).all()
    with pytest.raises(LaunchError, match="no multiple of 16"):
        gpu.run(
            source.replace("a, i * 16", "a, i * 4"), "kernel", [a, np.zeros(128, np.float32)], (1,), (32,)
        )


def test_a_guarded_load_does_not_touch_memory(gpu):
    source = f"""{HEAD}kernel(float* a, float* r) {{
      float local[1] = {{7.0f}};
      asm volatile (
"{{.reg .pred p;\\n"
" setp.ne.b32 p, %2, 0;\\n"
" @!p mov.b32 %0, 0;\\n"
" @p ld.global.nc.f32 %0, [%1];}}\\n"
: "=f"(local[0])
: "l"((void*)(a+(int)threadIdx.x)), "r"((int)(threadIdx.x < 5))
);
      r[threadIdx.x] = local[0]; }}"""
    got = gpu.run(
        source, "kernel", [np.arange(5, dtype=np.float32) + 1, np.zeros(32, np.float32)], (1,), (32,)
    )[1]
    assert got.tolist() == [1, 2, 3, 4, 5] + [0] * 27


def test_lines_keep_their_numbers():
    statement = mma("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32", 4, 2, 4, ("f", "float"))
    source = f"first\n{statement}last"
    text = ptx.rewrite(source)
    assert (
        "emu_ptx_mma_sync_aligned_m16n8k16_row_col_f32_f16_f16_f32(__LINE__, (((float *)(D + 0))[0])," in text
    )
    assert text.split("\n").index("last") == source.split("\n").index("last")


def test_nothing_else_is_taken_for_assembly():
    source = '// asm volatile("x");\n#define __asm__ asm\n/* asm("y") */ const char* s = "asm(\\"z\\")"; int asm_(int);\n'
    assert ptx.rewrite(source) == source
    assert ptx.rewrite('asm volatile("" ::: "memory");\n') == ";\n"


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ('"mbarrier.init.shared.b64 [%0], %1;" :: "l"(p), "r"(1)', "mbarrier.init.shared.b64"),
        ('"wgmma.fence.sync.aligned;" ::: "memory"', "wgmma.fence.sync.aligned"),
        (
            '"mma.sync.aligned.m8n8k4.row.col.f32.f16.f16.f32 {%0};" : "=f"(x)',
            "mma.sync.aligned.m8n8k4.row.col.f32.f16",
        ),
        ('"{ .reg .u64 a; cvta.to.shared.u64 a, %1; }" : "=r"(x) : "l"(p)', ".u64"),
        ('"mov.u32 %0, %clock;" : "=r"(x)', "'%clock'"),
    ],
)
def test_unknown_assembly_is_refused_by_name(statement, named):
    with pytest.raises(EdgepackError) as caught:
        ptx.rewrite(f"\n\nvoid f() {{ asm volatile({statement}); }}")
    assert named in caught.value.why
    assert caught.value.where == "line 3 of the CUDA source"


def test_the_headers_have_every_known_instruction():
    text = "".join((SOURCES / "device" / name).read_text() for name in ("ptx.h", "ptx_mma.h"))
    families = {re.sub(r"[.:]", "_", name) for name in ptx.KNOWN}
    plain = {name for name in families if not re.match("mma|ldmatrix|cp_async_c[ag]", name)}
    assert {name for name in plain if f"emu_ptx_{name}(" not in text} == set()
    shapes = {name for name in families - plain if name.startswith("mma")}
    assert len(shapes) == 32
    assert len(families - plain - shapes) == 14


def test_what_is_not_there_is_named(gpu):
    for body, name in (("r[0] = clock64();", "clock64"), ("nvcuda::wmma::bmma_sync(r);", "bmma_sync")):
        with pytest.raises(EdgepackError) as caught:
            gpu.run(f"{HEAD}kernel(float* r) {{ {body} }}", "kernel", [np.zeros(1, np.float32)])
        assert name in caught.value.why


def test_a_copy_that_nobody_waits_for_does_not_arrive(gpu):
    def run(waiting):
        source = f"""{COPY.replace("wait_group 0", "wait_group 1")}{HEAD}kernel(float* a, float* r) {{
          __shared__ alignas(16) float tile[256]; int i = threadIdx.x;
          copy_if(tile, i * 16, a, i * 16, 1); commit();
          copy_if(tile + 128, i * 16, a, i * 16, 1); commit();
          {waiting} __syncthreads();
          for (int k = 0; k < 4; ++k) r[i * 4 + k] = tile[i * 4 + k];
          for (int k = 0; k < 4; ++k) r[128 + i * 4 + k] = tile[128 + i * 4 + k]; }}"""
        got = gpu.run(source, "kernel", [a, np.zeros(256, np.float32)], (1,), (32,))[1]
        return [(part == a).all() or not np.isnan(part).all() for part in (got[:128], got[128:])]

    a = np.arange(128, dtype=np.float32)
    assert run("") == [False, False]
    assert run("wait();") == [True, False], "the last group may still be under way"
    assert run('asm volatile("cp.async.wait_all;" : : );') == [True, True]

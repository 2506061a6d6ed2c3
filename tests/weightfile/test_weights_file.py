"""Weights files: written and read back, read the same by the C code of compiled models, refused when damaged."""

import shutil
import struct
import subprocess
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from edgepack.errors import EdgepackError, IntegrityError
from edgepack.weightfile.blocks import code_blocks, decode_block
from edgepack.weightfile.cursor import Cursor, varint
from edgepack.weightfile.file import RawTensor, pack_weights, read_weights
from edgepack.weightfile.frequencies import SCALE, read_table, table_for
from edgepack.weightfile.loader import SOURCES

TYPES = ("int8", "uint8", "bool", "float16", "int32", "float32", "int64", "float64")


@st.composite
def arrays(draw):
    """Tensors as they occur: noise, few values, zeros, empty, scalars, large ones and small ones that share blocks."""
    dtype = np.dtype(draw(st.sampled_from(TYPES)))
    shape = draw(st.lists(st.integers(0, 40), max_size=3))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = random.integers(0, draw(st.sampled_from((1, 2, 16, 256))), shape)
    if dtype.kind == "f" and draw(st.booleans()):
        values = random.normal(size=shape)
    return RawTensor(str(dtype), np.asarray(values).astype(dtype))


@pytest.fixture(scope="module")
def in_c(tmp_path_factory):
    """A program that reads a weights file as a model does, and prints its elements."""
    compiler = shutil.which("clang") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs clang or gcc: apt-get install clang")
    folder = tmp_path_factory.mktemp("reader")
    source = __file__.replace("test_weights_file.py", "read_all.c")
    files = [str(SOURCES / f"{name}.c") for name in ("crc32", "frequencies", "rans", "weightfile")]
    sanitizers = ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")
    flags = ("-std=c11", "-D_GNU_SOURCE", "-O1", "-g", "-Wall", "-Werror", *sanitizers, f"-I{SOURCES}")
    subprocess.run([compiler, *flags, source, *files, "-o", str(folder / "read_all")], check=True)

    def run(*cases):
        """Read files, each given by its bytes and identity; return each one's elements, or None, and what is wrong."""
        lines = []
        for number, (data, identity) in enumerate(cases):
            (folder / str(number)).write_bytes(data)
            lines.append(" ".join(map(str, (folder / str(number), *struct.unpack("<IIQ", identity)))))
        done = subprocess.run(
            [folder / "read_all"],
            input="\n".join(lines).encode(),
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr.decode()  # of a sanitizer
        return list(parsed(done.stdout))

    return run


def parsed(output):
    while output:
        head, _, output = output.partition(b"\n")
        status, size = map(int, head.split())
        text, output = output[:size], output[size:]
        yield (text, "") if status == 0 else (None, text.decode())


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tensors=st.lists(arrays(), max_size=8))
def test_python_and_c_read_what_was_written(tensors, in_c):
    packed = pack_weights(tensors)
    again = read_weights(packed.data, "w")
    assert again.tensors == packed.tensors
    assert again.identity == packed.identity
    assert [(entry.dtype, entry.shape) for entry in packed.tensors] == [
        (tensor.dtype, tensor.elements.shape) for tensor in tensors
    ]
    elements = list(packed.elements("w"))
    assert elements == [tensor.elements.tobytes() for tensor in tensors]
    assert in_c((packed.data, packed.identity)) == [(b"".join(elements), "")]
    blocks = packed.index.blocks
    assert sum(entry.stored_bytes for entry in packed.tensors) == sum(block.stored_bytes for block in blocks)
    assert all(block.stored_bytes <= block.raw_bytes for block in blocks)
    assert all(block.offset % 64 == 0 for block in blocks if not block.coded and block.raw_bytes >= 4096)


@settings(max_examples=12, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 5000), max_size=3), width=st.sampled_from((1, 2, 4, 8)), kinds=st.integers(1, 256),
    seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_codes_decode_to_what_was_coded(sizes, width, kinds, seed):
    random = np.random.default_rng(seed)
    blocks = [(random.integers(0, kinds, size * width).astype("uint8").tobytes(), width) for size in sizes]
    coded = code_blocks(blocks)
    for (data, _), code, size in zip(blocks, coded.codes, sizes, strict=True):
        if code is not None:
            assert decode_block(code, width, size, coded.tables) == data
            assert len(code) < len(data)


@st.composite
def counts_of_bytes(draw):
    """How often each byte occurs in a plane: a distribution, and a few values that occur far more often."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    mean, spread = draw(st.integers(0, 255)), draw(st.sampled_from((0.3, 4, 30, 1000)))
    values = np.rint(random.normal(mean, spread, draw(st.sampled_from((1, 30, 3000))))).astype(int)
    counts = np.bincount(values % draw(st.integers(1, 256)), minlength=256)
    for value, count in draw(st.dictionaries(st.integers(0, 255), st.integers(1, 10**6), max_size=3)).items():
        counts[value] += count
    return counts


FEW_NON_ZEROS = np.r_[100_000, np.full(255, 10)]


@settings(max_examples=60, deadline=None)
@given(counts=counts_of_bytes())
@example(counts=FEW_NON_ZEROS)
def test_tables_are_read_as_they_were_written(counts):
    table = table_for(counts)
    cursor = Cursor(table.written + b"more")
    np.testing.assert_array_equal(read_table(cursor).frequencies, table.frequencies)
    assert cursor.at == len(table.written)
    assert table.frequencies.sum() == SCALE
    assert (table.frequencies[counts > 0] > 0).all()


@settings(max_examples=300, deadline=None)
@given(data=st.one_of(st.binary(max_size=80), st.binary(max_size=60).map(lambda rest: b"\2" + rest)))
def test_any_bytes_are_a_table_or_refused(data):
    try:
        table = read_table(Cursor(data))
    except ValueError:
        return
    assert table.frequencies.sum() == SCALE
    assert table.frequencies.min() >= 0


@given(value=st.one_of(st.integers(0, 300), st.integers(0, 2**63 - 1)))
def test_varints(value):
    cursor = Cursor(varint(value))
    assert cursor.varint() == value
    assert cursor.at == len(cursor.data)


def test_varints_have_one_form():
    for data in (b"", b"\x80", b"\x81\0", b"\xff" * 9 + b"\1"):
        with pytest.raises(ValueError, match=r"too early|longer"):
            Cursor(data).varint()


def stored(*arrays):
    """Bytes of a weights file without header."""
    tensors = [RawTensor(str(each.dtype), each) for each in arrays]
    return len(pack_weights(tensors).data) - 44


def test_codes_are_close_to_the_entropy():
    values = np.random.default_rng(0).choice(4, 100_000, p=[0.9, 0.05, 0.04, 0.01]).astype("uint8")
    share = np.bincount(values) / values.size
    bits = -(share * np.log2(share)).sum() * values.size
    assert stored(values) < 1.01 * bits / 8 + 200


def test_small_layers_cost_hardly_more_than_the_entropy_of_their_weights():
    """Eight layers of int8 weights with scales and biases: the tables of frequencies, the index and the scales are small."""
    random = np.random.default_rng(0)
    weights = [np.clip(np.rint(random.normal(0, 40, (64, 32))), -127, 127).astype("int8") for _ in range(8)]
    scales = [random.uniform(0.01, 0.02, 64).astype("float32") for _ in weights]
    for scale in scales:  # as bfloat16
        scale.view("uint32")[:] &= 0xFFFF0000
    joint = np.concatenate([weight.ravel() for weight in weights])
    share = np.bincount(joint.view("uint8")) / joint.size
    share = share[share > 0]
    entropy = -(share * np.log2(share)).sum() * joint.size / 8
    assert stored(*weights, *scales) < 1.01 * entropy + 64 * 8 * 1.1 + 16 * 8 + 100


def test_small_gains_are_taken_where_decoding_takes_no_time():
    values = np.random.default_rng(0).integers(-120, 121, 1 << 20).astype("int8")  # 98.9 % of 8 bits
    small, large = (pack_weights([RawTensor("int8", values[:size])]) for size in (60_000, 1 << 20))
    assert [each.index.blocks[0].coded for each in (small, large)] == [True, False]
    assert 59_300 < small.index.blocks[0].stored_bytes < 59_800
    assert large.index.blocks[0].stored_bytes == 1 << 20


@pytest.mark.parametrize(("zeros", "coded"), [(0.0, False), (0.5, True)])
def test_large_floats_are_mapped_unless_their_code_is_much_smaller(zeros, coded):
    random = np.random.default_rng(0)
    values = (random.normal(size=100_000) * (random.random(100_000) >= zeros)).astype("float32")
    (block,) = pack_weights([RawTensor("float32", values)]).index.blocks
    assert block.coded == coded
    assert coded or (block.offset % 64 == 0 and block.stored_bytes == values.nbytes)
    (small,) = pack_weights([RawTensor("float32", values[:9000])]).index.blocks
    assert small.coded


def test_a_smooth_distribution_needs_no_list_of_frequencies():
    values = np.clip(np.rint(np.random.default_rng(0).normal(0, 30, 9000)), -127, 127).astype("int8")
    table = table_for(np.bincount(values.view("uint8"), minlength=256))
    assert len(table.written) < 50
    share = np.bincount(values.view("uint8")) / values.size
    share = share[share > 0]
    bits = -(share * np.log2(share)).sum() * values.size
    assert table.bits(np.bincount(values.view("uint8"), minlength=256)) < 1.01 * bits


def example():
    random = np.random.default_rng(0)
    return pack_weights(
        [
            RawTensor("int8", np.rint(random.normal(0, 9, (30, 40))).astype("int8")),
            RawTensor("float32", random.normal(size=7).astype("float32")),
            RawTensor("float32", np.float32(3)),
            RawTensor("uint8", random.choice(4, 5000, p=[0.7, 0.1, 0.1, 0.1]).astype("uint8")),
            RawTensor("int32", random.integers(-(2**31), 2**31, 1100).astype("int32")),
            RawTensor("float32", random.normal(size=(2, 60)).astype("float32")),
        ]
    )


def refused(data):
    """Read a file to its end; return how it was refused, or None."""
    try:
        list(read_weights(data, "m.so.weights").elements("m.so.weights"))
    except IntegrityError as error:
        return error.where, error.exit_code
    return None


def damaged(data, random):
    changed = bytearray(data)
    for _ in range(random.integers(1, 4)):
        changed[random.integers(len(changed))] ^= 1 << random.integers(8)
    end = random.choice([len(changed), len(changed), random.integers(len(changed))])
    return bytes(changed[:end]) + bytes(random.integers(0, 3) if end == len(changed) else 0)


def test_damage_is_noticed_in_python_and_in_c(in_c):
    packed, random = example(), np.random.default_rng(1)
    cases = [damaged(packed.data, random) for _ in range(300)]
    cases = [data for data in cases if data != packed.data]
    assert set(map(refused, cases)) == {("m.so.weights", 6)}
    whole = b"".join(packed.elements("w"))
    found = in_c(*((data, packed.identity) for data in cases))
    # The C code does not look at the padding between blocks.
    assert {elements for elements, _ in found} <= {None, whole}
    assert sum(elements is None for elements, _ in found) > 250


def forged(data, random):
    """Damage of the index or the codes with checksums that match again: as an attacker would write it."""
    changed = bytearray(data)
    length = int.from_bytes(data[16:24], "little")
    for _ in range(random.integers(1, 4)):
        at = (
            random.integers(12, 44 + length)
            if random.random() < 0.8
            else random.integers(44 + length, len(data))
        )
        changed[at] = random.integers(256)
    length = min(int.from_bytes(changed[16:24], "little"), len(data))
    changed[40:44] = zlib.crc32(changed[44 : 44 + length]).to_bytes(4, "little")
    identity = changed[12:16] + changed[40:44] + changed[32:40]
    return bytes(changed), bytes(identity)


def test_forged_files_are_read_without_leaving_a_buffer(in_c):
    packed, random = example(), np.random.default_rng(2)
    problems = {why for _, why in in_c(*(forged(packed.data, random) for _ in range(2000)))}
    assert len(problems) > 10


def test_the_file_of_another_model_is_refused(in_c):
    packed, other = example(), pack_weights([RawTensor("int8", np.zeros(3, "int8"))])
    assert in_c((packed.data, other.identity)) == [(None, "it belongs to another model")]


def test_what_a_file_cannot_hold_is_an_error():
    with pytest.raises(EdgepackError, match="constants of type complex64"):
        pack_weights([RawTensor("complex64", np.zeros(2, "complex64"))])
    with pytest.raises(EdgepackError, match="cannot hold a constant with 17 axes"):
        pack_weights([RawTensor("int8", np.zeros((1,) * 17, "int8"))])

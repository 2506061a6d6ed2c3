"""Weights files: written and read back, read the same by the C code of compiled models, refused when damaged."""

import shutil
import struct
import subprocess
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgepack.errors import EdgepackError, IntegrityError
from edgepack.weightfile import rans
from edgepack.weightfile.file import NamedTensor, pack_weights, read, read_index
from edgepack.weightfile.loader import SOURCES

TYPES = ("int8", "uint8", "bool", "float16", "int32", "float32", "int64", "float64")


@st.composite
def arrays(draw):
    """Tensors as they occur: noise, few values, zeros, empty, scalars."""
    dtype = np.dtype(draw(st.sampled_from(TYPES)))
    shape = draw(st.lists(st.integers(0, 40), max_size=3))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = random.integers(0, draw(st.sampled_from((1, 2, 16, 256))), shape)
    if dtype.kind == "f" and draw(st.booleans()):
        values = random.normal(size=shape)
    return NamedTensor(draw(st.text(max_size=9)), str(dtype), np.asarray(values).astype(dtype))


@pytest.fixture(scope="module")
def in_c(tmp_path_factory):
    """A program that reads a weights file as a model does, and prints its elements."""
    compiler = shutil.which("clang") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs clang or gcc: apt-get install clang")
    folder = tmp_path_factory.mktemp("reader")
    source = __file__.replace("test_weights_file.py", "read_all.c")
    files = [str(SOURCES / f"{name}.c") for name in ("rans", "weightfile")]
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


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tensors=st.lists(arrays(), max_size=4))
def test_python_and_c_read_what_was_written(tensors, in_c):
    packed = pack_weights(tensors)
    entries = read_index(packed.data, "w")
    assert entries == packed.tensors
    assert [(entry.name, entry.dtype, entry.shape) for entry in entries] == [
        (tensor.name, tensor.dtype, tensor.elements.shape) for tensor in tensors
    ]
    assert all(entry.offset % 64 == 0 for entry in entries)
    elements = [read(packed.data, entry, "w") for entry in entries]
    assert elements == [tensor.elements.tobytes() for tensor in tensors]
    assert all(entry.stored_bytes <= entry.raw_bytes for entry in entries)
    assert in_c((packed.data, packed.identity)) == [(b"".join(elements), "")]


@settings(max_examples=20, deadline=None)
@given(
    size=st.integers(0, 5000), width=st.sampled_from((1, 2, 4, 8)), kinds=st.integers(1, 256), seed=st.integers(0, 2**32 - 1)
)  # fmt: skip
def test_codes_decode_to_what_was_coded(size, width, kinds, seed):
    data = np.random.default_rng(seed).integers(0, kinds, size * width).astype("uint8").tobytes()
    code = rans.encode(data, width)
    assert rans.decode(code, width, size) == data
    assert len(code) <= len(data) + width


def test_codes_are_close_to_the_entropy():
    values = np.random.default_rng(0).choice(4, 100_000, p=[0.9, 0.05, 0.04, 0.01]).astype("uint8")
    share = np.bincount(values) / values.size
    bits = -(share * np.log2(share)).sum() * values.size
    assert len(rans.encode(values.tobytes(), 1)) < 1.02 * bits / 8 + 600


def example():
    random = np.random.default_rng(0)
    return pack_weights(
        [
            NamedTensor("w", "int8", np.rint(random.normal(0, 9, (30, 40))).astype("int8")),
            NamedTensor("b", "float32", random.normal(size=7).astype("float32")),
            NamedTensor("s", "float32", np.float32(3)),
        ]
    )


def refused(data):
    """Read a file to its end; return how it was refused, or None."""
    try:
        for entry in read_index(data, "m.so.weights"):
            read(data, entry, "m.so.weights")
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
    whole = b"".join(read(packed.data, entry, "w") for entry in packed.tensors)
    found = in_c(*((data, packed.identity) for data in cases))
    # The C code does not look at the padding between tensors.
    assert {elements for elements, _ in found} <= {None, whole}
    assert sum(elements is None for elements, _ in found) > 250


def forged(data, random):
    """Damage of the index or the codes with checksums that match again: as an attacker would write it."""
    changed = bytearray(data)
    length = int.from_bytes(data[16:24], "little")
    for _ in range(random.integers(1, 4)):
        at = (
            random.integers(12, 64 + length)
            if random.random() < 0.6
            else random.integers(64 + length, len(data))
        )
        changed[at] = random.integers(256)
    length = min(int.from_bytes(changed[16:24], "little"), len(data))
    changed[40:44] = zlib.crc32(changed[64 : 64 + length]).to_bytes(4, "little")
    identity = changed[12:16] + changed[40:44] + changed[32:40]
    return bytes(changed), bytes(identity)


def test_forged_files_are_read_without_leaving_a_buffer(in_c):
    packed, random = example(), np.random.default_rng(2)
    problems = {why for _, why in in_c(*(forged(packed.data, random) for _ in range(2000)))}
    assert len(problems) > 10


def test_the_file_of_another_model_is_refused(in_c):
    packed, other = example(), pack_weights([NamedTensor("w", "int8", np.zeros(3, "int8"))])
    assert in_c((packed.data, other.identity)) == [(None, "it belongs to another model")]


def test_what_a_file_cannot_hold_is_an_error():
    with pytest.raises(EdgepackError, match="constants of type complex64"):
        pack_weights([NamedTensor("w", "complex64", np.zeros(2, "complex64"))])
    with pytest.raises(EdgepackError, match="cannot hold 'w'"):
        pack_weights([NamedTensor("w", "int8", np.zeros((1,) * 17, "int8"))])

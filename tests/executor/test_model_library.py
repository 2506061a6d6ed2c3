"""The shared library of a model: its results, what it exports and needs, its header, and several of them in one process."""

import importlib.util
import re
import shutil
import subprocess

import numpy as np
import pytest
from executor_kit import HERE, INCLUDES, SHAPE, WARNINGS, compile_with_clang, run
from programs import need

from edgepack.bundle.examples import example_files
from edgepack.executor.build import EXPORTS, HEADERS
from edgepack.export.reference import run_onnx


@pytest.mark.parametrize("threads", [1, 3])
def test_results_are_those_of_onnxruntime(small, threads):
    spec = importlib.util.spec_from_file_location("example", example_files("aot")["infer.py"])
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    x = np.random.default_rng(4).standard_normal(SHAPE).astype(np.float32)
    model = example.Model(small / "small.so", threads)
    for _ in range(2):
        for got, want in zip(model(x), run_onnx(small / "small.onnx", {"x": x}), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    model.close()


def functions():
    header = re.sub(r"/\*.*?\*/", "", (HEADERS / "edgepack.h").read_text(), flags=re.DOTALL)
    return set(re.findall(r"\b(edgepack_\w+)\(", header))


def test_it_exports_the_functions_of_the_header_and_the_model(small):
    lines = run(need("nm", "binutils"), "-D", "--defined-only", small / "small.so").splitlines()
    exported = {line.split()[-1] for line in lines}
    assert exported == functions() | {"edgepack_this_net", "edgepack_index_ranges"}
    assert exported == set(re.findall(r"(edgepack_\w+);", EXPORTS.read_text()))


def test_it_needs_the_c_library_alone(small):
    text = run(need("readelf", "binutils"), "-dW", small / "small.so")
    needed = set(re.findall(r"\(NEEDED\).*\[(.*)\]", text))
    assert {"libc.so.6"} < needed <= {"libc.so.6", "libm.so.6", "libpthread.so.0", "ld-linux-x86-64.so.2"}
    assert "STATIC_TLS" not in text  # else there is only so much room in a process that loads it later
    assert "TEXTREL" not in text


@pytest.mark.parametrize(
    ("program", "language"),
    [
        ("gcc", "c99"),
        ("gcc", "c11"),
        ("clang", "c99"),
        ("clang", "c17"),
        ("clang", "c++11"),
        ("clang", "c++20"),
    ],
)
def test_the_header_compiles_with_all_warnings(tmp_path, program, language):
    source = tmp_path / ("use.cpp" if "++" in language else "use.c")
    source.write_text(
        "#include <edgepack.h>\n#include <edgepack.h>\nextern const edgepack_net net;\n"
        "int use(void);\nint use(void) { return edgepack_input_count(&net) + EDGEPACK_TEXT + EDGEPACK_OK; }\n"
    )
    words = (f"-std={language}", "-Wall", "-Wextra", "-Wpedantic", "-Werror", f"-I{HEADERS}", "-fsyntax-only")
    subprocess.run([need(program, program), *words, source], check=True)


@pytest.mark.parametrize("kind", ["plain", "address"])
def test_libraries_are_loaded_and_unloaded_and_used_side_by_side(small, weights, tmp_path, kind):
    loader = compile_with_clang(tmp_path / "loader", [HERE / "loader.c"], kind)
    other = shutil.copy(small / "small.so", tmp_path / "other.so")
    run(loader, weights, small / "small.so", other)


def test_a_program_is_linked_with_a_library_whose_description_may_grow(small, tmp_path):
    source = tmp_path / "size.c"
    source.write_text(
        '#include "edgepack_net.h"\n#include <stdio.h>\nextern const edgepack_net edgepack_this_net;\n'
        'int main(void) { printf("%s", edgepack_input_info(&edgepack_this_net, 0)->name); return sizeof(edgepack_net) != 16; }\n'
    )
    program = tmp_path / "size"
    rpath = f"-Wl,-rpath,{small}"
    words = (*WARNINGS, *INCLUDES, source, small / "small.so", rpath, "-o", program)
    subprocess.run([need("gcc", "gcc"), *words], check=True)
    assert run(program) == "x"

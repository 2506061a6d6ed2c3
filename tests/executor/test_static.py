"""Static libraries: linked into programs as their README says, several in one, with glibc and musl."""

import re
import shutil
import subprocess

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save
from programs import need

from edgepack import api
from edgepack.bundle.static import identifier
from edgepack.config.target import load_target
from edgepack.errors import InputError, UsageError
from edgepack.export.reference import run_onnx
from edgepack.toolchain.zig import zig

HOST = load_target("host")


def write_model(path, outputs, seed=0):
    """Save x · w with ReLU."""
    weight = np.random.default_rng(seed).standard_normal((16, outputs)).astype("float32")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["z"]), helper.make_node("Sigmoid", ["z"], ["y"])]
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size])
        for name, size in (("x", 16), ("y", outputs))
    ]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], [numpy_helper.from_array(weight, "w")])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two models as static libraries."""
    folder = tmp_path_factory.mktemp("static")
    made = []
    for name, outputs in (("First Net", 3), ("2nd", 4)):
        model = write_model(folder / f"{name}.onnx", outputs, seed=outputs)
        api.compile(model, "host", out=folder / f"{name}.static", static=True)
        made.append(folder / f"{name}.static")
    return made


def numbers(text):
    return [float(word) for word in re.search(r"^y:(.*)$", text, re.MULTILINE)[1].split()]


def test_the_folder_has_what_a_build_needs(folders):
    names = {str(path.relative_to(folders[0])) for path in folders[0].rglob("*") if path.is_file()}
    assert names == {
        "README.md",
        "example.c",
        "include/edgepack.h",
        "include/first_net.h",
        "lib/libfirst_net.a",
        "lib/first_net.weights",
        "lib/pkgconfig/first_net.pc",
        "lib/cmake/first_net/first_netConfig.cmake",
    }
    assert " *     input 0: x, float32[1, 16]" in (folders[0] / "include/first_net.h").read_text()


def test_the_example_runs_as_it_says(folders):
    need("gcc", "gcc")
    text = (folders[0] / "example.c").read_text()
    command, run = re.findall(r"^ \*     (\S.*?)(?: \*/)?$", text, re.MULTILINE)
    subprocess.run(["sh", "-ec", f"{command} -Wall -Wextra -Werror"], cwd=folders[0], check=True)
    done = subprocess.run(["sh", "-ec", run], cwd=folders[0], capture_output=True, text=True, check=True)
    np.testing.assert_allclose(numbers(done.stdout), [0.5] * 3)


def test_the_program_of_a_static_c_library_has_no_needs(folders, tmp_path):
    """With musl and without a loader: the executable is all there is."""
    folder = folders[0]
    program = tmp_path / "example"
    subprocess.run(
        [
            *(zig(), "cc", "-target", f"{HOST.abi.arch}-linux-musl", "-static", "-O2", folder / "example.c"),
            *(f"-I{folder}/include", f"-L{folder}/lib", "-lfirst_net", "-lm", "-lpthread", "-o", program),
        ],
        check=True,
    )
    done = subprocess.run(
        [program, folder / "lib/first_net.weights"], env={}, capture_output=True, text=True, check=True
    )
    np.testing.assert_allclose(numbers(done.stdout), [0.5] * 3)
    headers = subprocess.run(["readelf", "-lW", program], capture_output=True, text=True, check=True).stdout
    assert "INTERP" not in headers


def test_two_models_are_linked_into_one_program(folders, tmp_path):
    need("gcc", "gcc")
    (tmp_path / "app.c").write_text("""
#include <stdio.h>
#include <first_net.h>
#include <model_2nd.h>
static void run(const edgepack_net *net, const char *weights)
{
    char why[EDGEPACK_TEXT];
    edgepack_model *model;
    float x[16];
    for (int i = 0; i < 16; i++)
        x[i] = i / 16.0f - 0.5f;
    if (edgepack_open(net, weights, 2, &model, why) != EDGEPACK_OK) {
        puts(why);
        return;
    }
    edgepack_set_input(model, 0, x, sizeof x);
    edgepack_run(model);
    const float *y = edgepack_output(model, 0);
    for (unsigned i = 0; i < edgepack_output_info(net, 0)->size / 4; i++)
        printf("%.9g ", y[i]);
    puts("");
    edgepack_close(model);
}
int main(int count, char **words)
{
    (void)count;
    run(&first_net, words[1]);
    run(&model_2nd, words[2]);
    run(&first_net, words[2]); /* the other one's weights */
}
""")
    flags = [f"-I{folder}/include" for folder in folders] + [f"-L{folder}/lib" for folder in folders]
    libraries = ["-lfirst_net", "-lmodel_2nd", "-lm", "-lpthread"]
    words = ["gcc", "-Wall", "-Wextra", "-Werror", "app.c", *flags, *libraries]
    subprocess.run([*words, "-o", "app"], cwd=tmp_path, check=True)
    weights = [next((folder / "lib").glob("*.weights")) for folder in folders]
    done = subprocess.run(["./app", *weights], cwd=tmp_path, capture_output=True, text=True, check=True)
    first, second, refused = done.stdout.splitlines()
    x = (np.arange(16, dtype="float32") / 16 - 0.5)[None]
    for line, folder in ((first, folders[0]), (second, folders[1])):
        (want,) = run_onnx(folder.with_suffix(".onnx"), {"x": x})
        np.testing.assert_allclose(np.array(line.split(), "float32"), want[0], rtol=1e-6)
    assert "another model" in refused


def test_a_library_with_its_weights_needs_no_file(folders, tmp_path):
    need("gcc", "gcc")
    folder = tmp_path / "whole"
    path = shutil.copy(folders[0].with_suffix(".onnx"), tmp_path / "model.onnx")
    compiled = api.compile(path, "host", out=folder, static="embedded")
    assert compiled.weights is None
    assert not list(folder.rglob("*.weights"))
    assert "WEIGHTS" not in (folder / "lib/cmake/model/modelConfig.cmake").read_text()
    text = (folder / "example.c").read_text()
    command, run = re.findall(r"^ \*     (\S.*?)(?: \*/)?$", text, re.MULTILINE)
    subprocess.run(["sh", "-ec", f"{command} -Wall -Wextra -Werror"], cwd=folder, check=True)
    (folder / "lib/libmodel.a").unlink()
    done = subprocess.run(["sh", "-ec", run], cwd=folder, capture_output=True, text=True, check=True)
    np.testing.assert_allclose(numbers(done.stdout), [0.5] * 3)


@pytest.mark.parametrize(
    ("name", "symbol"),
    [("model", "model"), ("My Net", "my_net"), ("2nd", "model_2nd"), ("double", "model_double")],
)
def test_the_name_of_a_library_is_an_identifier_of_c(name, symbol):
    assert identifier(name) == symbol


def test_quantized_tensors_say_what_their_integers_stand_for(tmp_path):
    need("gcc", "gcc")
    constants = {"s": np.float32(0.125), "z": np.int8(-3), "t": np.float32(2), "u": np.uint8(7)}
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "s", "z"], ["a"]),
        helper.make_node("Sigmoid", ["a"], ["b"]),
        helper.make_node("QuantizeLinear", ["b", "t", "u"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.INT8, [1, 4])],
        [
            helper.make_tensor_value_info("y", TensorProto.UINT8, [1, 4]),
            helper.make_tensor_value_info("b", TensorProto.FLOAT, [1, 4]),
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    save(model, tmp_path / "q.onnx")
    api.compile(tmp_path / "q.onnx", "host", out=tmp_path / "q", static=True)
    (tmp_path / "app.c").write_text("""
#include <q.h>
#include <stdio.h>
static void show(const edgepack_tensor *tensor)
{
    printf("%s %g %d\\n", tensor->name, tensor->scale, tensor->zero_point);
}
int main(void)
{
    show(edgepack_input_info(&q, 0));
    show(edgepack_output_info(&q, 0));
    show(edgepack_output_info(&q, 1));
    return 0;
}
""")
    words = ["gcc", "app.c", "-Iq/include", "-Lq/lib", "-lq", "-lm", "-lpthread", "-o", "app"]
    subprocess.run(words, cwd=tmp_path, check=True)
    done = subprocess.run(["./app"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["x 0.125 -3", "y 2 7", "b 0 0"]


def test_pkg_config_and_cmake_files_say_how_to_link(folders, tmp_path):
    pc = (folders[1] / "lib/pkgconfig/model_2nd.pc").read_text()
    assert "prefix=${pcfiledir}/../.." in pc
    assert "Libs: -L${prefix}/lib -lmodel_2nd -lm -lpthread" in pc
    cmake = (folders[1] / "lib/cmake/model_2nd/model_2ndConfig.cmake").read_text()
    assert "add_library(model_2nd::model_2nd STATIC IMPORTED)" in cmake
    assert "$$" not in pc + cmake


def test_a_recipe_is_packaged_as_static_libraries(tmp_path):
    write_model(tmp_path / "m.onnx", 3)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "edgepack: 1\nname: my-net\nversion: 1.2.3\nmodel: {onnx: m.onnx}\ntargets: [{target: host}]\n"
    )
    out = tmp_path / "not" / "there"
    report, (folder,) = api.build(recipe, out=out, static=True)
    assert report.errors == ()
    assert folder == out / "my-net-1.2.3-host"
    assert {"libmy_net.a", "my_net.weights"} <= {path.name for path in (folder / "lib").iterdir()}
    assert "version 1.2.3, for host" in (folder / "include/my_net.h").read_text()
    with pytest.raises(UsageError, match="cannot write the static library"):
        api.build(recipe, out=out, static=True)
    recipe.write_text(recipe.read_text().replace("target: host", "target: jetson-orin"))
    with pytest.raises(UsageError, match="no static library for jetson-orin"):
        api.build(recipe, out=tmp_path / "gpu", static=True)
    assert not (tmp_path / "gpu").exists()


def test_what_cannot_be_static_is_refused(folders, tmp_path):
    model = write_model(tmp_path / "m.onnx", 3)
    with pytest.raises(UsageError, match="cannot write the static library") as caught:
        api.compile(model, "host", out=folders[0], static=True)
    assert caught.value.why == "it exists"
    with pytest.raises(InputError, match="cannot be a static library") as refused:
        api.compile(model, "jetson-orin", out=tmp_path / "gpu", static=True)
    assert refused.value.why == "a model for a GPU needs it"
    assert not (tmp_path / "gpu").exists()

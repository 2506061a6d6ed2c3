"""edgepack check: all problems of a recipe, with their positions, quickly."""

import platform
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from edgepack.api import check
from edgepack.base.paths import shipped_dir
from edgepack.config.consistency import ONE_INPUT
from edgepack.config.plan import make_plan
from edgepack.errors import ConfigError

MODULE = """\
import somewhere_that_is_not_installed
from os.path import join as joined

def network():
    return None

def with_arguments(width, depth=2, *, bias):
    return None

def tokenize(text):
    return [1]

if True:
    def conditional():
        return None

table = {"a": 1}
"""

RECIPE = """\
edgepack: 1
name: mine
model:
  source: my_net:network
  inputs:
    - name: x
      shape: [1, 4]
data:
  npz: data.npz
compress:
  - method: prune-channels
    ratio: 0.5
  - method: quantize-static
targets:
  - target: arm64
    device: virtual:arm64
"""


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A user's configuration folder."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "edgepack"


def write_npz(path, *names):
    np.savez(path, **{name: np.zeros((2, 4) if name[0] == "x" else 2) for name in names})


@pytest.fixture
def folder(tmp_path):
    """The folder of a recipe with a module, data and weights."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "my_net.py").write_text(MODULE)
    write_npz(folder / "data.npz", "x_train", "y_train", "x_test", "y_test")
    (folder / "empty.onnx").write_bytes(b"")
    (folder / "other.onnx").write_bytes(b"\x08\x08\x12\x00")
    (folder / "texts.csv").write_text("review,label\ngood,1\n")
    (folder / "texts.jsonl").write_text('{"text": "good", "lable": 1}\n')
    for name in ("images/cat", "images/dog", "one/cat"):
        (folder / name).mkdir(parents=True)
        (folder / name / "1.png").write_bytes(b"x")
    (folder / "one" / "dog").mkdir()
    return folder


def found(folder: Path, text: str) -> list[str]:
    recipe = folder / "recipe.yaml"
    recipe.write_text(text)
    return [f"{p.line}:{p.column}: {p.message}".replace(str(folder), ".") for p in check(recipe)]


def test_a_right_recipe_has_no_problems(folder):
    assert found(folder, RECIPE) == []


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        # what the model is
        ("  source: my_net:network\n", "", "3:1: expected source or onnx"),
        (
            "my_net:network\n",
            "my_net:network\n  onnx: other.onnx\n",
            "3:1: expected source or onnx, not both",
        ),
        ("my_net:network\n", "my_net\n", "4:11: expected module:callable, got the text 'my_net'"),
        (
            "my_net:network",
            "my_nte:network",
            "4:11: no module `my_nte` next to the recipe (.) or on Python's path; did you mean `my_net`?",
        ),
        ("my_net:network", "my_net.deep:network", "4:11: no module `my_net.deep`: `my_net` is not a package"),
        ("my_net:network", "my_net:netwrok", "4:11: `my_net` has no `netwrok`; did you mean `network`?"),
        (
            "my_net:network",
            "edgepack.zoo.digit:network",
            "4:11: no module `edgepack.zoo.digit` in `edgepack.zoo`; did you mean `digits`?",
        ),
        (
            "my_net:network",
            "my_net:with_arguments",
            "4:11: `my_net:with_arguments` is called with no arguments, but needs width, bias",
        ),
        (
            "my_net:network\n",
            "my_net:network\n  weights: w.h5\n",
            "5:12: expected a file that ends in .safetensors or .pt or .pth or .ckpt or .bin, got w.h5",
        ),
        ("my_net:network\n", "my_net:network\n  weights: w.pt\n", "5:12: no such file: ./w.pt"),
        (
            "    - name: x\n      shape: [1, 4]\n",
            "    - {name: x, shape: [1]}\n    - {name: x, shape: [1]}\n",
            "7:14: duplicate input `x`",
        ),
        ("shape: [1, 4]", "shape: [1, 0]", "7:18: expected a number at least 1, got the number 0"),
        # data
        (
            "  npz: data.npz\n",
            "  npz: data.npz\n  images: {folder: images}\n",
            "8:1: expected exactly one of source, npz, images, idx, csv, jsonl, got npz and images",
        ),
        ("npz: data.npz", "npz: dta.npz", "9:8: no such file: ./dta.npz; did you mean `data.npz`?"),
        ("npz: data.npz", "npz: images", "9:8: expected a file that ends in .npz, got images"),
        ("npz: data.npz", "images: {folder: nowhere}", "9:20: no such folder: ./nowhere"),
        ("npz: data.npz", "images: {folder: one}", "9:20: the class folder `dog` in ./one is empty"),
        (
            "npz: data.npz",
            "images: {folder: images, preprocess: {mean: [1, 2]}}",
            "9:47: 2 values for 3 channels (rgb)",
        ),
        (
            "npz: data.npz",
            "images: {folder: images, preprocess: {std: [0.0]}}",
            "9:46: `std` must not contain 0",
        ),
        # compression
        (
            "prune-channels",
            "prune-chanels",
            "11:13: unknown method `prune-chanels`; did you mean `prune-channels`?",
        ),
        ("ratio: 0.5", "ratoi: 0.5", "12:5: unknown key `ratoi`; did you mean `ratio`?"),
        ("ratio: 0.5", "ratio: 50%", "12:12: expected a number, got the text '50%'"),
        (
            "  - method: quantize-static\n",
            "  - methd: quantize-static\n",
            "13:5: unknown key `methd`; did you mean `method`?",
        ),
        ("  - method: quantize-static\n", "  - samples: 3\n", "13:5: missing key `method`"),
        (
            "prune-channels\n    ratio: 0.5",
            "low-rank\n    rank: 4\n    macs: 0.5",
            "13:5: expected one of rank, energy and macs, got rank and macs",
        ),
        (
            "prune-channels\n    ratio: 0.5",
            "low-rank\n    rank: 4\n    skip: atuo",
            "13:11: expected a list or auto or a number, got the text 'atuo'; did you mean `auto`?",
        ),
        # budget, gates
        (
            "    device: virtual:arm64\n",
            "gates: {p90_ms: 3}\n",
            "16:9: `p90_ms` is measured on a board, but no target of the recipe has a `device`",
        ),
        ("targets:", "bench: {threads: 5}\ntargets:", "14:18: 5 threads, but arm64 has 4 cores"),
        # targets and devices
        ("target: arm64", "target: rpi44", "15:13: unknown target `rpi44`; did you mean `rpi4`?"),
        ("virtual:arm64", "virtual:rpi9", "16:13: unknown virtual board `rpi9`; did you mean `rpi5`?"),
        (
            "virtual:arm64",
            "bench-pi",
            "16:13: unknown device `bench-pi`; devices.yaml has no devices; virtual:rpi4 needs no hardware",
        ),
        (
            "target: arm64",
            "target: rpi5",
            "16:13: `virtual:arm64` lacks aes, crc, dotprod, fullfp16, lse, sha2, which rpi5 uses",
        ),
        (
            "target: arm64",
            "target: jetson-orin",
            "16:13: jetson-orin needs a GPU with sm_87, but `virtual:arm64` has none; remove `device` to stop at the bundle",
        ),
        (
            "target: arm64",
            "target: x86-64-v3",
            "16:13: `virtual:arm64` is aarch64, but x86-64-v3 is for x86_64",
        ),
        (
            "  - target: arm64\n    device: virtual:arm64\n",
            "  - {target: arm64}\n  - {target: arm64}\n",
            (
                "16:5: duplicate target `arm64`: a release is built once per target; list more boards in `devices`, "
                "or use `edgepack deploy`"
            ),
        ),
        (
            "device: virtual:arm64",
            "devices: [virtual:arm64, virtual:amr64]",
            "16:30: unknown virtual board `amr64`; did you mean `arm64`?",
        ),
        (
            "device: virtual:arm64",
            "devices: [virtual:arm64, virtual:arm64]",
            "16:30: duplicate `virtual:arm64` in `devices`",
        ),
        (
            "device: virtual:arm64",
            "device: virtual:arm64\n    devices: [virtual:rpi4]",
            "17:5: expected device or devices, not both",
        ),
        (
            "  - target: arm64\n    device: virtual:arm64\n",
            "  []\n",
            "15:3: expected at least 1 item, got an empty list",
        ),
    ],
)
def test_each_problem_is_reported_at_its_position(folder, old, new, expected):
    assert old in RECIPE
    problems = found(folder, RECIPE.replace(old, new))

    assert problems == [expected]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("csv: {file: texts.csv}", "10:8: ./texts.csv has no column `text`; it has: label, review"),
        ("csv: {file: texts.txt, text: review}", "10:15: no such file: ./texts.txt; did you mean `texts.csv`?"),
        ("jsonl: {file: texts.jsonl}", "10:10: ./texts.jsonl has no column `label`; did you mean `lable`?"),
        ("jsonl: {file: texts.csv}", "10:17: the first line of ./texts.csv is not a JSON object"),
        ("csv: {file: texts.csv, text: review, tokenizer: my_net:tokenise}", "10:51: `my_net` has no `tokenise`; did you mean `tokenize`?"),
        ("csv: {file: texts.csv, text: review, tokenizer: word}", "10:51: expected one of bytes, words or module:callable, got the text 'word'; did you mean `words`?"),
        ("csv: {file: texts.csv, text: review, tokenizer: my_net:tokenize}", None),
    ],
)  # fmt: skip
def test_text(folder, data, expected):
    text = RECIPE.replace("[1, 4]\n", "[1, 128]\n      dtype: int64\n").replace("npz: data.npz", data)
    assert found(folder, text) == ([] if expected is None else [expected])


def test_names_defined_at_run_time_are_accepted(folder):
    (folder / "star.py").write_text("from os.path import *\n")
    for reference in ("star:anything", "my_net:conditional", "my_net:joined", "my_net:table"):
        assert found(folder, RECIPE.replace("my_net:network", reference)) == []


def test_user_code_is_read_never_run(folder):
    (folder / "loud.py").write_text("open('ran', 'w')\ndef network(): ...\n")
    assert found(folder, RECIPE.replace("my_net:network", "loud:network")) == []
    assert not (folder / "ran").exists()
    assert "loud" not in sys.modules


def test_a_module_that_is_not_python_or_hides_the_standard_library(folder):
    (folder / "broken.py").write_text("def network(:\n")
    (folder / "json.py").write_text("def network(): ...\n")
    assert "./broken.py is not valid Python, line 1" in found(folder, RECIPE.replace("my_net:", "broken:"))[0]
    assert "has the name of a standard library module" in found(folder, RECIPE.replace("my_net:", "json:"))[0]


def onnx_recipe(**changes: str) -> str:
    lines = {"onnx": "empty.onnx", **changes}
    model = "".join(f"  {key}: {value}\n" for key, value in lines.items())
    return f"edgepack: 1\nname: mine\nmodel:\n{model}targets:\n  - target: arm64\n"


def test_onnx_models(folder):
    assert found(folder, onnx_recipe()) == ["4:9: the file is empty (0 bytes): ./empty.onnx"]
    assert found(folder, onnx_recipe(onnx="images")) == [
        "4:9: expected a file that ends in .onnx, got images; it is a folder"
    ]
    (folder / "model.onnx").write_bytes(b"\x08\x08\x12\x00")
    assert found(folder, onnx_recipe(onnx="model.onnx")) == []
    assert found(folder, onnx_recipe(onnx="model.onnx", weights="data.npz"))[0].startswith(
        "5:3: `weights` needs a torch source"
    )
    step = onnx_recipe(onnx="model.onnx") + "compress:\n  - {method: prune-channels, ratio: 0.5}\n"
    assert found(folder, step) == []
    assert found(folder, step.replace("0.5}", "0.5, fine_tune: {epochs: 1}, criterion: taylor}")) == [
        "8:42: fine-tuning needs a torch model: model.source",
        "8:66: the criterion taylor needs a torch model: model.source",
    ]


def test_torch_steps_come_before_onnx_steps(folder):
    swapped = RECIPE.replace("  - method: quantize-static\n", "").replace(
        "compress:\n", "compress:\n  - method: quantize-static\n"
    )
    assert found(folder, swapped) == [
        "12:13: prune-channels makes no sense after quantize-static: its layers have scales for each channel; prune before quantizing"
    ]


def test_steps_that_need_data_report_it(folder):
    text = RECIPE.replace("data:\n  npz: data.npz\n", "").replace(
        "    ratio: 0.5\n", "    ratio: 0.5\n    fine_tune: {epochs: 1}\n"
    )
    text += "gates: {accuracy_drop: 0.1}\nbench: {accuracy_samples: 10}\n"
    text = text.replace("  inputs:", "  train: {epochs: 1}\n  inputs:")
    assert [line.split(" needs")[0] for line in found(folder, text)] == [
        "5:3: training",
        "12:5: fine-tuning",
        "13:13: calibration",
        "17:9: measuring the metric",
        "18:9: measuring the metric",
    ]


def test_all_layers_report_together_without_consequences(folder):
    text = (
        RECIPE.replace("name: mine", "name: Not Good")
        .replace("my_net:network", "my_net:nowhere")
        .replace("  inputs:", "  train: {epoch: 3}\n  inputs:")
        .replace("ratio: 0.5", "ratio: 5")
        .replace("data.npz", "no.npz")
        .replace("target: arm64", "target: arm46")
        + "extra: 1\nextra: 2\n"
    )
    assert [line.split(": ", 1)[1].split(";")[0] for line in found(folder, text)] == [
        "expected a name of lower-case letters, digits, - and _, at most 64, got the text 'Not Good'",
        "`my_net` has no `nowhere`",
        "unknown key `epoch`",
        "no such file: ./no.npz",
        "expected a number below 1, got the number 5",
        "unknown target `arm46`",
        "unknown key `extra`",
        "key `extra` is already set on line 18",
    ]


def test_problems_after_a_removed_list_item_keep_their_position(folder):
    text = RECIPE.replace(
        "  - target: arm64\n", "  - {targt: arm64}\n  - {target: arm65}\n  - target: rpi55\n"
    )
    assert [line.split(": ")[0] for line in found(folder, text)] == ["15:6", "16:14", "17:13"]


def test_devices(folder, home):
    home.mkdir(parents=True)
    devices = home / "devices.yaml"
    devices.write_text(
        "edgepack: 1\ndevices:\n  bench-pi: {host: 10.0.0.7, target: rpi4}\n  odd: {host: a, target: rpi}\n"
    )
    use = RECIPE.replace("virtual:arm64", "{}")
    assert found(folder, use.format("bench-pi")) == []
    assert found(folder, use.format("bench-ip")) == [
        "16:13: unknown device `bench-ip`; did you mean `bench-pi`?"
    ]
    assert found(folder, use.format("bench-pi").replace("arm64", "rpi5")) == [
        "16:13: `bench-pi` lacks aes, dotprod, fullfp16, lse, sha2, which rpi5 uses"
    ]
    assert found(folder, use.format("odd"))[0].startswith(
        "16:13: device `odd` has target `rpi`: unknown target `rpi`"
    )
    devices.write_text("edgepack: 1\ndevices:\n  bench-pi: {hots: 10.0.0.7, target: rpi4}\n")
    problems = check_text(folder, use.format("bench-pi"))
    assert (problems[0].file, problems[0].line, problems[0].message) == (
        str(devices),
        3,
        "unknown key `hots`; did you mean `host`?",
    )


def check_text(folder: Path, text: str):
    (folder / "recipe.yaml").write_text(text)
    return check(folder / "recipe.yaml")


def test_problems_in_a_users_target_are_reported_in_its_file(folder, home):
    (home / "targets").mkdir(parents=True)
    own = home / "targets" / "my-board.yaml"
    own.write_text("edgepack: 1\nname: my-board\nextends: rpi4\nfamly: x86\n")
    problems = check_text(folder, RECIPE.replace("target: arm64", "target: my-board"))
    assert [(p.file, p.line) for p in problems] == [(str(own), 4)]


def test_virtual_host_must_have_what_the_target_uses(folder):
    text = RECIPE.replace("virtual:arm64", "virtual:host")
    machine = platform.machine()
    name, arch = ("x86-64-v3", "x86_64") if machine == "aarch64" else ("arm64", "aarch64")
    assert found(folder, text.replace("target: arm64", f"target: {name}")) == [
        f"16:13: `virtual:host` is {machine}, but {name} is for {arch}"
    ]
    assert found(folder, text.replace("target: arm64", "target: host")) == []


def test_a_plan_is_rejected_with_all_of_its_problems(folder):
    (folder / "recipe.yaml").write_text(RECIPE.replace("ratio: 0.5", "ratio: 5").replace("[1, 4]", "[0]"))
    with pytest.raises(ConfigError) as caught:
        make_plan(folder / "recipe.yaml")
    assert [p.line for p in caught.value.problems] == [7, 12]
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("recipe", sorted(shipped_dir("recipes").glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_recipes_are_right(recipe):
    messages = [p.message for p in check(recipe)]
    # The templates name files of the user's; and this machine may be too old for x86-64-v3, or no x86 at all.
    users = ("no such file: ", "no module `my_text`", "`virtual:host` ")
    data = "apt install dataset-fashion-mnist"
    assert [m for m in messages if not m.startswith(users) and data not in m] == []
    if recipe.stem == "digits":
        assert [m for m in messages if not m.startswith("`virtual:host` ")] == []


def test_data_and_weights_that_are_cut_off_or_something_else(folder):
    write_npz(folder / "data.npz", "x_train", "y_train", "x_tset")
    assert [line.split(";")[0] for line in found(folder, RECIPE)] == [
        "9:8: ./data.npz has no array `x_test`",
        "9:8: ./data.npz has no array `y_test`",
    ]
    write_npz(folder / "data.npz", "x", "y")
    assert found(folder, RECIPE) == []
    whole = (folder / "data.npz").read_bytes()
    (folder / "data.npz").write_bytes(whole[:-30])
    assert found(folder, RECIPE) == [
        "9:8: not an .npz file, or truncated: ./data.npz: it is a truncated zip archive; download or copy it again"
    ]
    write_npz(folder / "data.npz", "x_train", "y_train", "x_test", "y_test")
    weights = RECIPE.replace("  inputs:", "  weights: w.safetensors\n  inputs:")
    save_file({"a": np.zeros(100, np.float32)}, folder / "w.safetensors")
    assert found(folder, weights) == []
    (folder / "w.safetensors").write_bytes((folder / "w.safetensors").read_bytes()[:40])
    assert found(folder, weights) == [
        "5:12: ./w.safetensors: it is a truncated safetensors file; download or copy it again"
    ]


@pytest.mark.parametrize("name", ["x" * 300, "a\\0b", "data.npz/x", "d/../" * 1000 + "x"])
def test_file_names_no_file_can_have(folder, name):
    for text in (
        onnx_recipe(onnx=f'"{name}.onnx"'),
        RECIPE.replace("npz: data.npz", f'images: {{folder: "{name}"}}'),
        RECIPE.replace("npz: data.npz", f'npz: "{name}.npz"'),
        RECIPE.replace("  inputs:", f'  weights: "{name}.pt"\n  inputs:'),
    ):
        (problem,) = found(folder, text)
        assert "no such f" in problem or "cannot be read: file name too long" in problem


@pytest.mark.parametrize(
    ("data", "given", "expected"),
    [
        ("csv: {file: texts.csv, text: review, length: 4}", "[1, 4], dtype: int64", None),
        ("csv: {file: texts.csv, text: review, length: 5}", "[1, 4], dtype: int64", "samples are int64 with shape [5], but the input is int64 with shape [4]"),
        ("csv: {file: texts.csv, text: review, length: 4}", "[1, 4]", "samples are int64 with shape [4], but the input is float32 with shape [4]"),
        ("images: {folder: images, preprocess: {crop: [8, 6]}}", "[1, 3, 8, 6]", None),
        ("images: {folder: images, preprocess: {crop: [8, 6], layout: nhwc, color: gray}}", "[1, 8, 6, 1]", None),
        ("images: {folder: images, preprocess: {crop: [8, 6]}}", "[1, 3, 6, 8]", "samples are float32 with shape [3, 8, 6], but the input is float32 with shape [3, 6, 8]"),
        ("images: {folder: images}", "[1, 3, 6, 8]", None),
    ],
)  # fmt: skip
def test_samples_have_the_shape_the_model_takes(folder, data, given, expected):
    text = RECIPE.replace(
        "    - name: x\n      shape: [1, 4]\n", f"    - {{name: x, shape: {given}}}\n"
    ).replace("npz: data.npz", data)
    says = f"6:24: {expected}"
    assert found(folder, text) == ([] if expected is None else [says])


def test_an_item_with_a_problem_still_counts_as_an_item(folder):
    problems = check_text(folder, RECIPE.replace("device: virtual:arm64", "device: [virtual:arm64, pi]"))
    assert [(problem.line, problem.column, problem.message) for problem in problems] == [
        (16, 13, "expected text, got a list of 2")
    ]


def write_model(path: Path, *inputs: tuple[str, tuple[int, ...], str]) -> None:
    """An .onnx file that passes its inputs through."""
    import onnx
    from onnx import helper

    infos = [
        [
            helper.make_tensor_value_info(
                prefix + name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape
            )
            for name, shape, dtype in inputs
        ]
        for prefix in ("", "out_")
    ]
    nodes = [helper.make_node("Identity", [name], [f"out_{name}"]) for name, _, _ in inputs]
    graph = helper.make_graph(nodes, "g", *infos)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)


def test_data_for_a_model_of_several_inputs_or_of_other_shapes_is_refused(folder):
    text = onnx_recipe(onnx="m.onnx") + "data: {npz: data.npz}\n"
    write_model(folder / "m.onnx", ("image", (1, 4), "float32"), ("meta", (1, 5), "float32"))
    said = "there is one for each input, named by it"
    assert found(folder, text) == [
        f"7:13: ./data.npz has no array `x_train.{name}`: {said}" for name in ("image", "meta")
    ]
    of_text = text.replace("{npz: data.npz}", "{csv: {file: d.csv}}")
    (folder / "d.csv").write_text("text,label\na,b\n")
    assert found(folder, of_text) == [f"7:1: {ONE_INPUT} (the model has image, meta)"]
    arrays = {
        f"{part}.{name}": np.zeros((2, size))
        for part in ("x_train", "x_test")
        for name, size in (("image", 4), ("meta", 5))
    }
    np.savez(folder / "two.npz", **arrays)
    assert found(folder, text.replace("data.npz", "two.npz")) == []
    write_model(folder / "m.onnx", ("image", (1, 4), "float32"))
    assert found(folder, text) == []
    write_model(folder / "m.onnx", ("image", (1, 3, 8, 8), "float32"))
    assert [line.split(" holds")[0] for line in found(folder, text)] == [
        "7:13: x_test in ./data.npz",
        "7:13: x_train in ./data.npz",
    ]
    write_model(folder / "m.onnx", ("ids", (1, 4), "int64"))
    assert all(line.endswith("but input `ids` is int64 with shape [4]") for line in found(folder, text))


SAMPLES = {"ids": np.zeros((6, 5), "int64"), "scale": np.ones((3, 2, 2), "float32")}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, None),
        ({"ids": np.zeros((3, 2, 5), "int32")}, None),
        ({"ids": None}, "there is no array `ids`; it has: scale"),
        ({"idz": np.zeros(1)}, "the model has no input `idz`; did you mean `ids`?"),
        ({"ids": np.zeros((6, 4), "int64")}, "`ids` has the shape [6, 4], and the input takes [N, 5]"),
        ({"ids": np.zeros((5, 5), "int64")}, "`ids` has 5 rows, not a multiple of the batch size 2"),
        ({"ids": np.zeros((4, 5), "int64")}, "the inputs have different numbers of samples (ids: 2, scale: 3)"),
        ({"ids": np.zeros((6, 5))}, "`ids` is float64, and the input takes int64"),
        ({"ids": np.array([["a"] * 5] * 6)}, "`ids` is <U1, and the input takes int64"),
        ({"scale": np.full((3, 2, 2), np.nan)}, "`scale` holds NaN"),
        ({"scale": np.full((3, 2, 2), 1e300)}, "`scale` holds values that float32 cannot hold"),
        ({"ids": np.zeros((0, 5), "int64"), "scale": np.ones((0, 2, 2))}, "`ids` has no samples; `scale` has no samples"),
    ],
)  # fmt: skip
def test_samples_are_checked_against_the_models_inputs(folder, changes, expected):
    write_model(folder / "m.onnx", ("ids", (2, 5), "int64"), ("scale", (2, 2), "float32"))
    np.savez(folder / "in.npz", **{k: v for k, v in (SAMPLES | changes).items() if v is not None})
    text = onnx_recipe(onnx="m.onnx") + "samples: in.npz\ncompress: [{method: quantize-static}]\n"
    assert found(folder, text) == ([] if expected is None else [f"7:10: ./in.npz: {expected}"])


def test_samples_that_cannot_be_read_or_go_with_data(folder):
    text = RECIPE.replace("data:\n  npz: data.npz\n", "samples: {}\n")
    assert found(folder, text.format("no.npz")) == ["8:10: no such file: ./no.npz"]
    assert found(folder, text.format("my_net.py")) == [
        "8:10: expected a file that ends in .npz, got my_net.py"
    ]
    (folder / "bad.npz").write_bytes(b"PK")
    assert found(folder, text.format("bad.npz"))[0].startswith(
        "8:10: ./bad.npz: the file is not an .npz of plain arrays: "
    )
    np.savez(folder / "in.npz", x=np.zeros((3, 4)))
    assert found(folder, text.format("in.npz")) == []
    both = RECIPE.replace("data:\n", "samples: in.npz\ndata:\n")
    assert found(folder, both) == [
        "8:1: expected data or samples, not both: with labels, the test split serves as samples"
    ]

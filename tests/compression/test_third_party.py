"""The package of docs/add-a-compression-method.md, installed into a new environment, provides a method like any other."""

import json
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import edgepack

ROOT = Path(edgepack.__file__).parents[1]
GUIDE = ROOT / "docs" / "add-a-compression-method.md"
RECIPE = """\
edgepack: 1
name: thin
model:
  source: edgepack.zoo.digits:network
  train: {epochs: 2, lr: 0.002}
  inputs:
    - {name: image, shape: [1, 1, 8, 8]}
data:
  source: edgepack.zoo.digits:splits
compress:
  - {method: prune-channels, ratio: 0.25, fine_tune: {epochs: 2, lr: 0.002}}
  - {method: thin-linear, rank: 8}
  - {method: quantize-static, samples: 16}
bench: {baseline: false}
targets:
  - {target: x86-64-v3}
"""


class Environment:
    """A separate virtual environment with edgepack and the package installed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
        self.python = folder / "venv/bin/python"
        (site,) = (folder / "venv").glob("lib/python*/site-packages")
        # The edgepack under test, and its dependencies from the environment that runs the tests.
        (site / "edgepack.pth").write_text(
            f"{ROOT}\nimport site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"
        )
        package = folder / "package"
        package.mkdir()
        text = GUIDE.read_text()
        (package / "pyproject.toml").write_text(re.search(r"```toml\n(.*?)```", text, re.DOTALL)[1])
        (package / "edgepack_thin_linear.py").write_text(re.search(r"```py\n(.*?)```", text, re.DOTALL)[1])
        quiet = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation"]
        self("-m", "pip", "install", *quiet, "--prefix", str(folder / "venv"), str(package))

    def __call__(self, *argv, check=True, input=None, **variables):  # noqa: A002 - as subprocess has it
        home = {f"XDG_{kind}_HOME": str(self.folder / kind) for kind in ("CACHE", "CONFIG", "DATA", "STATE")}
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
        return subprocess.run(
            [self.python, *argv], cwd=self.folder, env={**environment, **home, **variables},
            capture_output=True, text=True, check=check, input=input,
        )  # fmt: skip

    def cli(self, *argv, check=True, **variables):
        return self("-m", "edgepack", *argv, check=check, **variables)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    made = Environment(tmp_path_factory.mktemp("fresh"))
    (made.folder / "recipe.yaml").write_text(RECIPE)
    return made


def test_it_is_not_in_the_environment_that_runs_the_tests():
    from edgepack.compression.registry import METHODS

    assert "thin-linear" not in METHODS


def test_check_accepts_it_and_reports_its_problems(fresh):
    assert fresh.cli("check", "recipe.yaml").returncode == 0
    (fresh.folder / "wrong.yaml").write_text(RECIPE.replace("rank: 8", "rnak: 8"))
    done = fresh.cli("check", "wrong.yaml", check=False)
    assert done.returncode == 2
    assert "12:27: unknown key `rnak`; did you mean `rank`?" in done.stderr
    (fresh.folder / "wrong.yaml").write_text(RECIPE.replace("thin-linear", "thin-linaer"))
    assert "did you mean `thin-linear`?" in fresh.cli("check", "wrong.yaml", check=False).stderr


def test_the_schema_has_it(fresh):
    schema = json.loads(fresh.cli("schema", "recipe").stdout)
    assert (
        schema["$defs"]["ThinLinear"]["properties"]["rank"]["description"] == "Width between the two layers."
    )
    assert schema["$defs"]["ThinLinear"]["properties"]["method"]["const"] == "thin-linear"


def test_completion_offers_it(fresh):
    for words, position in (("edgepack run recipe.yaml --fresh thin", "4"), ("edgepack methods thin", "2")):
        done = fresh.cli(_EDGEPACK_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=position)
        assert "thin-linear" in done.stdout


def test_lists_and_tables_have_it(fresh):
    listed = json.loads(fresh.cli("methods", "--json").stdout)
    assert {"name": "thin-linear", "level": "torch", "origin": "edgepack-thin-linear"}.items() <= next(
        m for m in listed["methods"] if m["name"] == "thin-linear"
    ).items()
    assert listed["unusable"] == {}
    assert "| `rank` | whole number ≥ 1 | required |" in fresh.cli("methods", "thin-linear").stdout
    program = "import runpy; g = runpy.run_path('docs/generate.py'); print(*g['generated']().values())"
    pages = fresh("-c", f"import os; os.chdir({str(ROOT)!r}); {program}").stdout
    assert "| `thin-linear` | the torch module | edgepack-thin-linear | Replace each linear layer" in pages
    assert "thin-linear" not in (ROOT / "docs/recipe.md").read_text()


def test_a_run_compresses_with_it_between_two_of_ours(fresh):
    done = fresh.cli("run", "recipe.yaml", "--json", check=False)
    report = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    assert [step["stage"] for step in report["compression"]] == [
        "source", "prune-channels", "thin-linear", "quantize-static",
    ]  # fmt: skip
    pruned, thin = report["compression"][1:3]
    # 48 channels into 10 classes: 490 parameters become 48 * 8 + 8 * 10 + 10.
    assert pruned["parameters"] - thin["parameters"] == 48 * 10 - (48 * 8 + 8 * 10)
    assert thin["score"]["value"] > 0.5
    status = {s["stage"]: s["status"] for s in report["stages"]}
    assert status["export"] == status["compile"] == status["package"] == "done"
    again = json.loads(fresh.cli("run", "recipe.yaml", "--json").stdout)
    assert {s["status"] for s in again["stages"]} <= {"cached", "skipped"}


def test_an_edit_of_it_runs_its_step_anew_and_not_those_before(fresh):
    (site,) = (fresh.folder / "venv").glob("lib/python*/site-packages")
    module = site / "edgepack_thin_linear.py"
    module.write_text(module.read_text() + "\n# an edit\n")
    report = json.loads(fresh.cli("run", "recipe.yaml", "--json").stdout)
    done = {s["stage"]: s["why"] for s in report["stages"] if s["status"] == "done"}
    assert done["thin-linear"] == "edgepack_thin_linear.py changed"
    assert not {"train", "prune-channels", "quantize-static"} & set(done)


TAUGHT = RECIPE.replace(
    "{method: thin-linear, rank: 8}",
    """method: thin-linear
    rank: 8
    teachers:
      - {source: "elders:network", weights: one.safetensors}
      - {source: "elders:network", weights: two.safetensors}
    fine_tune: {epochs: 1, lr: 0.01}""",
).replace("name: thin", "name: taught")
ELDERS = "from edgepack.zoo.digits import network\n"
WEIGHTS = """\
import sys
from safetensors.torch import save_file
from edgepack.zoo.digits import network
state, scale = network().state_dict(), float(sys.argv[2])
save_file({k: v * scale if v.is_floating_point() else v for k, v in state.items()}, sys.argv[1])
"""


def test_the_files_of_its_step_are_checked_at_their_options(fresh):
    (fresh.folder / "taught.yaml").write_text(TAUGHT)
    done = fresh.cli("check", "taught.yaml", check=False)
    assert done.returncode == 2
    assert "15:18: no module `elders` next to the recipe" in done.stderr
    assert "15:45: no such file: one.safetensors" in done.stderr
    assert "16:45: no such file: two.safetensors" in done.stderr
    (fresh.folder / "elders.py").write_text("def netwrok(): ...\n")
    (fresh.folder / "one.safetensors").write_bytes(b"no weights")
    done = fresh.cli("check", "taught.yaml", check=False)
    assert "did you mean `netwrok`?" in done.stderr
    assert "15:45: one.safetensors: it is a text file" in done.stderr


@pytest.mark.slow
def test_several_teachers_are_found_beside_the_recipe_and_are_part_of_the_key(fresh):
    (fresh.folder / "taught.yaml").write_text(TAUGHT)
    (fresh.folder / "elders.py").write_text(ELDERS)
    for name, scale in (("one", "1"), ("two", "0.5")):
        fresh("-c", WEIGHTS, f"{name}.safetensors", scale)
    first = json.loads(fresh.cli("compress", "taught.yaml", "--json").stdout)
    step = next(step for step in first["compression"] if step["stage"] == "thin-linear")
    assert step["metrics"]["layers"] == ["classifier"]
    assert step["metrics"]["loss"] > 0
    fresh("-c", WEIGHTS, "two.safetensors", "0.7")
    again = json.loads(fresh.cli("compress", "taught.yaml", "--json").stdout)
    why = {s["stage"]: s["why"] for s in again["stages"] if s["status"] == "done"}
    assert why["thin-linear"] == "teachers.1.weights changed"
    assert "train" not in why
    (fresh.folder / "elders.py").write_text(ELDERS + "EDITED = True\n")
    again = json.loads(fresh.cli("compress", "taught.yaml", "--json").stdout)
    why = {s["stage"]: s["why"] for s in again["stages"] if s["status"] == "done"}
    assert why["thin-linear"] == "teachers.0.source changed, teachers.1.source changed"


RUDE = '''\
"""Methods that change what they have to keep."""

import copy
from typing import Literal

from edgepack.compression import OnnxMethod, Step, TorchMethod, TorchResult


class Rude(Step):
    """Change a module's interface."""

    method: Literal["rude"]
    change: Literal["number", "shape", "dtype", "inputs", "samples"]


class RudeFile(Step):
    """Change an .onnx file's interface."""

    method: Literal["rude-file"]
    change: Literal["input name", "output name", "dtype", "shape", "samples"]


def apply(module, step, context):
    import torch

    class Changed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = copy.deepcopy(module)

        def forward(self, image):
            if step.change == "inputs":
                image = image.reshape(-1, 2, 4, 8)
            found = self.inner(image)
            changes = {"number": (found, found), "shape": found[:, :9], "dtype": found.half()}
            return changes.get(step.change, found)

    if step.change == "samples":
        context.data.x_test[0] = 0
    return TorchResult(Changed().eval(), {})


def apply_file(model, out, step, context):
    import onnx

    found = onnx.load(model)
    graph = found.graph
    if step.change == "samples":
        context.data.y_test[0] = 0
    if step.change == "input name":
        graph.node[0].input[0] = graph.input[0].name = "picture"
    elif step.change == "output name":
        graph.node[-1].output[0] = graph.output[0].name = "logits"
    elif step.change in ("dtype", "shape"):
        last, graph.node[-1].output[0] = graph.output[0].name, "inner"
        if step.change == "dtype":
            node = onnx.helper.make_node("Cast", ["inner"], [last], to=onnx.TensorProto.FLOAT16)
            graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
        else:
            graph.initializer.append(onnx.numpy_helper.from_array(__import__("numpy").array([10]), "ten"))
            node = onnx.helper.make_node("Reshape", ["inner", "ten"], [last])
            del graph.output[0].type.tensor_type.shape.dim[0]
        graph.node.append(node)
    onnx.save(found, out)
    return {}


TORCH = TorchMethod(spec=Rude, apply=apply, distributions=("torch",))
FILE = OnnxMethod(spec=RudeFile, apply=apply_file, distributions=("onnx",))
'''
RUDE_PROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "edgepack-rude"
version = "0.1.0"

[project.entry-points."edgepack.methods"]
rude = "edgepack_rude:TORCH"
rude-file = "edgepack_rude:FILE"
"""
CHANGES = {
    "rude": {
        "number": "model's outputs: before: float32[1, 10]; after: float32[1, 10], float32[1, 10]",
        "shape": "model's outputs: before: float32[1, 10]; after: float32[1, 9]",
        "dtype": "model's outputs: before: float32[1, 10]; after: float16[1, 10]",
        "inputs": "model's inputs: it does not run on them",
        "samples": "samples: ",
    },
    "rude-file": {
        "input name": "model's inputs: before: image float[1, 1, 8, 8]; after: picture float[1, 1, 8, 8]",
        "output name": "model's outputs: before: output float[1, 10]; after: logits float[1, 10]",
        "dtype": "model's outputs: before: output float[1, 10]; after: output float16[1, 10]",
        "shape": "model's outputs: before: output float[1, 10]; after: output float[10]",
        "samples": "samples: ",
    },
}
RUN = """\
import json, sys
from edgepack import api
found = {}
for method, changes in json.load(sys.stdin).items():
    for change in changes:
        with open("rude.yaml", "w") as file:
            file.write(RECIPE.replace("STEP", json.dumps({"method": method, "change": change})))
        (error,) = api.compress("rude.yaml").errors
        found[f"{method} {change}"] = [error.exit_code, error.where, error.message, error.why, error.next]
print(json.dumps(found))
"""


def test_a_step_that_changes_inputs_outputs_or_samples_is_refused_by_its_name(fresh):
    package = fresh.folder / "rude"
    package.mkdir()
    (package / "pyproject.toml").write_text(RUDE_PROJECT)
    (package / "edgepack_rude.py").write_text(RUDE)
    quiet = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation"]
    fresh("-m", "pip", "install", *quiet, "--prefix", str(fresh.folder / "venv"), str(package))
    recipe = re.sub(r"  train: .*\n", "", RECIPE)
    recipe = re.sub(r"compress:\n(  - .*\n)+", "compress: [STEP]\n", recipe)
    done = fresh("-c", f"RECIPE = {recipe!r}\n{RUN}", input=json.dumps(CHANGES))
    found = json.loads(done.stdout)
    for method, changes in CHANGES.items():
        for change, expected in changes.items():
            code, where, message, why, step = found[f"{method} {change}"]
            assert (code, where) == (2, f"compress, {method}")
            assert f"{message}: {why}".startswith(f"{method} changed the {expected}")
            assert "edgepack-rude" in step

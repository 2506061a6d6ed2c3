"""Files read and modules imported by `check` and the start of `run`: every file once, no slow imports."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import edgepack
from edgepack.base.paths import shipped_dir

RECIPE = """\
edgepack: 1
name: mine
model:
  source: my_net:network
  inputs:
    - {name: x, shape: [1, 4]}
tune: {trials: 4}
targets:
  - target: rpi4
    devices: [kitchen, attic, virtual:rpi4]
  - target: my-board
    devices: [desk]
  - target: arm64
    devices: [virtual:rpi5, virtual:rpi3, virtual:arm64]
"""
DEVICES = """\
edgepack: 1
devices:
  kitchen: {host: 10.0.0.7, target: rpi4}
  attic: {host: 10.0.0.8, target: rpi4}
  desk: {host: 10.0.0.9, target: my-board}
"""
BOARD = "edgepack: 1\nname: my-board\nextends: rpi4\nmemory_mib: 512\n"

# Told when the process ends, or when the run has begun.
SPY = """\
import atexit, json, os, sys
opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
def tell(*_):
    print(json.dumps({"opened": opened, "modules": sorted(sys.modules)}), file=sys.__stdout__, flush=True)
    os._exit(0)
atexit.register(tell)
"""
CHECK = SPY + "from edgepack.cli import main; main(['check', 'recipe.yaml'])"
RUN = {
    "run": "import edgepack; edgepack.run('recipe.yaml', listener=tell)",
    "compress": "import edgepack; edgepack.compress('recipe.yaml', listener=tell)",
    "tune": "import edgepack; edgepack.tune('recipe.yaml', trials=1, listener=tell)",
    "build": "import edgepack, pathlib; edgepack.build('recipe.yaml', out=pathlib.Path('out'), listener=tell)",
}
READ = ("recipe.yaml", "devices.yaml", "my-board.yaml", "rpi3.yaml", "rpi4.yaml", "rpi5.yaml", "arm64.yaml")
HEAVY = {"torch", "tvm", "onnx", "onnxruntime", "numpy", "sklearn", "paramiko", "jinja2", "rich"}
# What `check` may import: at most these packages, of edgepack at most these rooms and so many modules
# besides those of the methods.
PACKAGES = {
    "annotated_types", "click", "edgepack", "platformdirs", "pydantic", "pydantic_core", "typing_extensions",
    "typing_inspection", "yaml",
}  # fmt: skip
ROOMS = {"api", "base", "cli", "compression", "config", "engine", "errors", "spec"}
MODULES = 53


@pytest.fixture
def project(tmp_path):
    own = tmp_path / "config" / "edgepack"
    (own / "targets").mkdir(parents=True)
    (own / "devices.yaml").write_text(DEVICES)
    (own / "targets" / "my-board.yaml").write_text(BOARD)
    (tmp_path / "my_net.py").write_text("def network(): ...\n")
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return tmp_path


def spied(project: Path, code: str) -> tuple[dict[str, int], set[str]]:
    """How often each of the YAML files was opened, and the modules that were imported."""
    places = {
        f"XDG_{k}_HOME": str(project / k.lower()) for k in ("CONFIG", "CACHE", "DATA", "STATE", "RUNTIME")
    }
    env = {**os.environ, **places, "PYTHONPATH": str(Path(edgepack.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=project, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    files = Counter(Path(name).name for name in told["opened"] if name.endswith(".yaml"))
    return dict(files), set(told["modules"])


def test_check_reads_every_file_once_and_imports_little(project):
    files, modules = spied(project, CHECK)
    assert files == dict.fromkeys(READ, 1)
    own = {name for name in modules if name.partition(".")[0] == "edgepack"}
    assert {name.split(".")[1] for name in own if "." in name} <= ROOMS
    counted = {name for name in own if not name.startswith("edgepack.compression.")}  # a file per method
    assert len(counted) <= MODULES, sorted(counted)
    # Some packages bring a module of their build's name, or are loaded by the interpreter's start (site).
    bare = subprocess.run(
        [sys.executable, "-c", "import sys; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    known = {*PACKAGES, *sys.stdlib_module_names, *bare.stdout.split(), "cython_runtime"}
    others = {name.partition(".")[0] for name in modules} - known
    assert {name for name in others if not name.startswith(("_cython", "_sysconfigdata", "__"))} == set()


@pytest.mark.parametrize("command", sorted(RUN))
def test_a_run_begins_with_the_same_one_pass(project, command):
    files, modules = spied(project, SPY + RUN[command])
    assert files == dict.fromkeys(READ, 1)
    assert not HEAVY & modules


def test_a_recipe_with_problems_is_read_once_too(project):
    recipe = project / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("kitchen", "kichten").replace("trials", "trails"))
    files, _ = spied(project, CHECK)
    assert files == dict.fromkeys(READ, 1)


def test_devices_are_read_only_where_a_row_names_one(project):
    (project / "config" / "edgepack" / "devices.yaml").write_text("not: [devices")
    (project / "recipe.yaml").write_text(
        (shipped_dir("recipes") / "digits.yaml").read_text().replace("x86-64-v3", "host")
    )
    files, _ = spied(project, CHECK)
    assert files == {"recipe.yaml": 1, "rpi4.yaml": 1, "jetson-orin.yaml": 1}

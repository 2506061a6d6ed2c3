"""What a user installs: the wheel, the pins, the Makefile's entry points, the Dockerfile."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=!~;\[ ]", r, maxsplit=1)[0].lower().replace("_", "-") for r in requirements}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from a copy of the sources, without a network."""
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("dist")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    for name in ("edgepack", *project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(ROOT / name, tree)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--no-build-isolation",
    ]
    subprocess.run([*command, "--wheel-dir", out, tree], check=True)
    [built] = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The bin folder of an environment that holds the wheel and borrows everything else from ours."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin/python"
    command = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        wheel,
    ]
    subprocess.run(command, check=True)
    [site] = folder.glob("lib/python*/site-packages")
    # A folder named by a .pth file is searched, its own .pth files are not read: the editable edgepack of
    # this environment stays invisible.
    (site / "borrowed.pth").write_text("\n".join(p for p in sys.path if p.endswith("site-packages")) + "\n")
    return folder / "bin"


def run(command: list[object], cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_the_wheel_holds_targets_recipes_and_the_agents_sources(wheel):
    inside = zipfile.ZipFile(wheel).namelist()
    for kind in ("targets", "recipes"):
        shipped = {f"edgepack/_data/{kind}/{p.name}" for p in (ROOT / kind).glob("*.yaml")}
        assert shipped
        assert shipped <= set(inside)
    sources = {p.relative_to(ROOT).as_posix() for p in (ROOT / "edgepack").rglob("*.[ch]")}
    assert sources
    assert sources <= set(inside)
    assert not [
        name for name in inside if name.startswith(("tests/", "benchmarks/")) or "__pycache__" in name
    ]
    assert any(name.endswith("licenses/LICENSE") for name in inside)


def test_an_installed_edgepack_finds_its_data_from_any_directory(installed, tmp_path):
    where = run([installed / "python", "-c", "import edgepack; print(edgepack.__file__)"], tmp_path)
    assert str(installed.parent) in where.stdout, where.stderr
    listed = run([installed / "edgepack", "targets"], tmp_path)
    assert listed.returncode == 0, listed.stderr
    for target in (ROOT / "targets").glob("*.yaml"):
        assert target.stem in listed.stdout
    assert run([installed / "edgepack", "--version"], tmp_path).stdout.split()[-1] == "0.1.0"


def test_every_dependency_is_pinned_to_a_release():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", pin) for pin in pins), "a local version, URL or path"
    wanted = names(project["dependencies"] + project["optional-dependencies"]["dev"])
    assert wanted <= names(pins)
    cuda = [pin for pin in pins if pin.startswith("nvidia-")]
    assert names(cuda) == names(project["optional-dependencies"]["cuda"])
    assert all("==13.0." in pin for pin in cuda), "the targets' CUDA release"
    exact = {d for d in project["dependencies"] if "==" in d}
    assert {"apache-tvm==0.27.0.post1", "apache-tvm-ffi==0.1.14.post1"} <= exact <= set(pins)


@pytest.mark.parametrize(
    ("target", "command"),
    [
        ("demo", "scripts/demo.sh .venv/bin/edgepack"),
        ("test", 'python -m pytest -m "not slow"'),
        ("test", "bin/mypy"),
        ("setup", "pip install"),
    ],
)
def test_make_on_a_fresh_checkout_sets_itself_up_first(target, command, tmp_path):
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    lines = run(["make", "--dry-run", target], tmp_path)
    assert lines.returncode == 0, lines.stderr
    steps = ["system-packages.sh", "-m venv --clear .venv", "-c constraints.txt", command]
    positions = [lines.stdout.find(step) for step in steps]
    assert -1 not in positions, lines.stdout
    assert positions[:3] == sorted(positions[:3])
    assert positions[3] >= positions[1]


@pytest.mark.parametrize(
    ("startable", "command", "left"),
    [
        (
            "host rpi4 jetson-orin",
            "run recipes/digits.yaml --target x86-64-v3 --target rpi4 --target jetson-orin",
            "",
        ),
        ("host", "run recipes/digits.yaml --target x86-64-v3", "rpi4 jetson-orin"),
        ("rpi4", "run recipes/digits.yaml --target rpi4", "host jetson-orin"),
        ("", "package recipes/digits.yaml --target x86-64-v3 --out dist", "host rpi4 jetson-orin"),
    ],
)
@pytest.mark.parametrize("status", [0, 3])
def test_the_demo_leaves_out_boards_that_do_not_start(startable, command, left, status, tmp_path):
    edgepack = tmp_path / "edgepack"
    edgepack.write_text(
        "#!/bin/sh\n"
        f'if [ "$2" = prepare ]; then case " {startable} " in *" $3 "*) exit 0 ;; esac; exit 2; fi\n'
        f'echo "$@"\nexit {status}\n'
    )
    edgepack.chmod(0o755)
    result = run([str(ROOT / "scripts/demo.sh"), str(edgepack)], tmp_path)
    assert result.stdout == command + "\n"
    assert result.returncode == status
    said = [line for line in result.stderr.splitlines() if line.startswith("Left out")]
    assert said == [] if status or not left else said[0].endswith(f": {left}")


def test_a_machine_without_the_system_packages_is_told_their_names(tmp_path):
    programs = tmp_path / "bin"
    programs.mkdir()
    # A PATH that holds just enough for the script itself, and an id(1) of a normal user.
    for name in ("sh", "sort", "tr", "cat"):
        (programs / name).symlink_to(shutil.which(name))
    (programs / "id").write_text("#!/bin/sh\necho 1000\n")
    (programs / "id").chmod(0o755)
    script = (ROOT / "scripts/system-packages.sh").read_text()
    fenced = script.replace('PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"', "")
    assert fenced != script
    (tmp_path / ".venv").symlink_to(sys.prefix)
    result = subprocess.run(
        ["sh", "-c", fenced],
        cwd=tmp_path,
        env={"PATH": str(programs)},
        executable="/bin/sh",
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0
    assert "sudo apt-get install" in result.stderr
    for package in ("openssh-server", "qemu-user-static"):
        assert package in result.stderr


def check_dockerfile(root: Path) -> subprocess.CompletedProcess[str]:
    return run([sys.executable, ROOT / "scripts/check-dockerfile.py", "--root", root], root)


def test_the_dockerfile_runs_the_makefiles_own_targets():
    result = check_dockerfile(ROOT)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("RUN make setup", "RUN make set-up", "make set-up: the Makefile has no such target"),
        ("COPY . .", "COPY lost.txt .", "lost.txt does not exist"),
        ("FROM debian:12", "FROM alpine", "base image alpine is not one of"),
        ("RUN make setup", "RUN ./setup.sh #", "no step runs make"),
    ],
)
def test_a_dockerfile_that_drifts_from_the_makefile_is_caught(right, wrong, message, tmp_path):
    for name in ("Makefile", ".dockerignore"):
        shutil.copy(ROOT / name, tmp_path)
    text = (ROOT / "Dockerfile").read_text()
    assert right in text
    (tmp_path / "Dockerfile").write_text(text.replace(right, wrong))
    result = check_dockerfile(tmp_path)
    assert result.returncode == 1
    assert message in result.stderr


@pytest.mark.parametrize(("before", "after"), [(None, "1"), ("0", "0")])
def test_onnxruntime_reports_nothing_unless_the_user_says_so(before, after):
    environment = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    environment |= {"ORT_DISABLE_TELEMETRY": before} if before else {}
    code = "import edgepack, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == after

"""Virtual boards with an emulated GPU: what they show, their faults, and what edgepack says of each."""

import os
import shutil
from pathlib import Path

import pytest
import small_bundles

from edgepack.agent import protocol
from edgepack.agent.protocol import info
from edgepack.bundle.archive import read_manifest
from edgepack.config.device import FAULTS, VIRTUAL_KINDS
from edgepack.config.target import load_target
from edgepack.errors import PreflightError, UsageError
from edgepack.remote import virtual
from edgepack.remote.preflight import preflight
from edgepack.remote.session import connect
from edgepack.remote.tools import ensure_tools

JETSONS = {"jetson-orin": ("8.7", "15W"), "jetson-thor": ("11.0", "120W")}
NEEDED = ("libcuda.so.1", "libcudart.so.13", "libstdc++.so.6", "libgcc_s.so.1")


def _lacks() -> str:
    programs = ("sshd", "qemu-aarch64-static")
    path = f"{os.environ['PATH']}:/usr/sbin"
    missing = [name for name in programs if shutil.which(name, path=path) is None]
    machine = [] if os.uname().machine == "x86_64" else ["an x86-64 machine"]
    return ", ".join(missing + machine + (["root"] if os.geteuid() != 0 else []))


pytestmark = pytest.mark.skipif(
    bool(_lacks()) and os.environ.get("CI") != "true", reason=f"emulated boards need {_lacks()}"
)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """State of this test alone; root file systems and the driver are shared with every other test."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    yield tmp_path
    for board in virtual.running():
        virtual.down(board.name)


def said(session, command: str) -> str:
    done = session.run(["bash", "-c", command], timeout=60)
    return (done.stdout + done.stderr).decode().strip()


def bundle_for(folder: Path, target: str):
    """The manifest of a small bundle that asks for what the target's bundles ask for."""
    shipped = load_target(target)
    features = shipped.cpu.features
    made = small_bundles.make(
        folder, arch=shipped.abi.arch, libc=shipped.abi.libc, features=features, gpu=True
    )
    manifest = read_manifest(made)
    target_of = manifest.target.model_copy(update={"name": target, "gpu": shipped.gpu})
    return manifest.model_copy(update={"target": target_of})


def check(board, folder: Path):
    with connect(board.name, board.device) as session:
        manifest = bundle_for(folder, board.device.target)
        return preflight(session, manifest, 1000, work_dir=board.device.work_dir, libraries=NEEDED)


@pytest.mark.parametrize("kind", [*JETSONS, "host-gpu"])
def test_a_board_with_a_gpu_meets_what_its_target_asks_for(kind, tmp_path):
    with virtual.up(kind) as board:
        assert board.device.emulated
        facts = check(board, tmp_path)
    assert set(NEEDED) <= facts.libraries
    assert facts.gpu
    assert not Path("/dev/nvidia0").exists() or Path("/proc/driver/nvidia").exists()  # the host is left alone


@pytest.mark.parametrize("kind", JETSONS)
def test_a_jetson_shows_what_a_real_one_shows(kind):
    capability, mode = JETSONS[kind]
    jetson = virtual.KINDS[kind].jetson
    with virtual.up(kind) as board, connect(board.name, board.device) as session:
        target = load_target(board.device.target)
        told = info(session, ensure_tools(session, target, board.device.work_dir))
        assert (told.board, told.cpu) == (jetson.model, target.cpu.name.replace(" V3", "-V3"))
        assert (told.cuda.l4t, told.cuda.driver, told.cuda.loadable) == (jetson.l4t, True, True)
        assert told.state.power_mode == mode
        rails = {rail.rail: rail.milliwatts for rail in told.state.power}
        assert [gpu.name for gpu in told.state.gpu] == [jetson.devfreq]
        assert {zone.zone for zone in told.state.temperature} == {name for _, name, _ in jetson.zones}
        assert said(session, "nvpmodel -q") == f"NV Power Mode: {mode}\n{jetson.modes.index(mode)}"
        line = said(session, "tegrastats --interval 100 | head -n 1")
        for rail, milliwatts in rails.items():
            assert f" {rail} {milliwatts}mW/{milliwatts}mW" in line
        assert "tj@" in line
        assert said(session, "tegrastats --interval soon; echo $?").startswith("1\nusage:")
        assert said(session, 'echo "$EDGEPACK_GPU"; grep compute "$EDGEPACK_GPU/gpu.conf"').endswith(
            f"compute {capability}"
        )


def test_what_the_host_puts_beside_a_running_board_is_seen_on_it():
    with virtual.up("jetson-orin", "mine") as board, connect(board.name, board.device) as session:
        folder = virtual.gpu_folder("mine")
        assert (
            folder
            == virtual.gpu_folder(board)
            == virtual.gpu_folder("virtual:jetson-orin")
            == board.gpu_folder
        )
        (folder / "modules" / "new.so").write_text("kernels")
        assert said(session, 'cat "$EDGEPACK_GPU/modules/new.so"') == "kernels"
        assert virtual.gpu_folder("other") is None


def test_the_setting_of_a_board_lasts_until_it_stops():
    with virtual.up("host-gpu", order="random:7", fault="hang") as board:
        [listed] = virtual.running()
        assert (listed.gpu.order, listed.gpu.fault) == ("random:7", "hang")
        lines = (board.gpu_folder / "gpu.conf").read_text().splitlines()
        assert {"order random:7", "fault hang"} <= set(lines)
    with virtual.up("host-gpu") as board:
        assert (board.gpu.order, board.gpu.fault) == ("forward", None)
        assert "hang" not in (board.gpu_folder / "gpu.conf").read_text()
    with virtual.up("host") as board:
        assert board.gpu is None
        assert virtual.gpu_folder(board) is None


@pytest.mark.parametrize(
    ("kind", "setting", "message"),
    [
        ("rpi4", {"fault": "hang"}, "has no GPU, which --fault is for"),
        ("host", {"order": "reverse"}, "has no GPU, which --order is for"),
        ("jetson-orin", {"fault": "fire"}, "unknown fault 'fire'"),
        ("jetson-orin", {"order": "random"}, "unknown order 'random'"),
        ("host-gpu", {"fault": "jetpack-6"}, "cannot play the fault 'jetpack-6'"),
    ],
)
def test_a_setting_that_a_kind_cannot_have_is_refused(kind, setting, message):
    with pytest.raises(UsageError, match=message):
        virtual.up(kind, **setting)
    assert virtual.running() == []


PREFLIGHT = {
    "jetpack-6": [
        "libcudart.so.13 is missing; the release needs CUDA 13.0 (JetPack 7.2); this board has JetPack 6"
    ],
    "no-driver": ["libcuda.so.1 is missing: the NVIDIA driver", "there is no NVIDIA device node in /dev"],
    "compute-capability": [
        "tegra194 has compute capability 7.2, and the kernels of jetson-orin are for 8.7 (sm_87)"
    ],
}


@pytest.mark.parametrize("fault", PREFLIGHT)
def test_a_fault_that_shows_beforehand_is_named_before_anything_is_sent(fault, tmp_path):
    with virtual.up("jetson-orin", fault=fault) as board, pytest.raises(PreflightError) as raised:
        check(board, tmp_path)
    problems = raised.value.why.strip().splitlines()
    assert len(problems) == len(PREFLIGHT[fault])
    for problem, words in zip(problems, PREFLIGHT[fault], strict=True):
        assert words in problem
    assert (raised.value.exit_code, raised.value.state) == (
        5,
        "the release was not sent to the board",
    )


def test_a_fault_ends_with_its_start(tmp_path):
    with virtual.up("jetson-orin", "mended", fault="jetpack-6"):
        pass
    with virtual.up("jetson-orin", "mended") as board:
        assert check(board, tmp_path).l4t.startswith("# R39 (release)")


def test_kinds_and_faults_are_those_that_the_command_line_offers():
    assert set(virtual.KINDS) == set(VIRTUAL_KINDS)
    assert all(kind.target in (*VIRTUAL_KINDS, "host") for kind in virtual.KINDS.values())
    assert set(PREFLIGHT) < set(FAULTS)


@pytest.mark.parametrize(
    ("kind", "error", "stderr", "words", "step"),
    [
        (
            "device",
            "CUDA Runtime Error: CUDA_ERROR_OUT_OF_MEMORY: out of memory",
            b"",
            "OUT_OF_MEMORY",
            "free memory",
        ),
        ("device", "CUDAError: CUDA_ERROR_NO_BINARY_FOR_GPU", b"", "NO_BINARY", "compute capability"),
        ("device", "the CUDA driver reports no GPU for this user", b"", "no GPU", "JetPack"),
        (
            "device",
            "TVM's CUDA runtime cannot be loaded: out of memory",
            b"",
            "loaded",
            "install the JetPack",
        ),
        ("crash", "the process died", b"what():  CUDA Runtime Error: reset (999)\n", "reset (999)", "reboot"),
        ("crash", "the process died", b"Segmentation fault", "died", "check that the target matches"),
    ],
)
def test_an_error_of_the_gpu_says_what_to_do(kind, error, stderr, words, step):
    why, following = protocol.explain(protocol.Failure(ok=False, kind=kind, error=error), stderr)
    assert words in why
    assert step in following

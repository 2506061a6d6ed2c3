"""The shipped targets: complete, consistent with LLVM, and unchanged by a round trip."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from edgepack.base.paths import shipped_dir
from edgepack.config import host
from edgepack.config.target import HOST, Target, list_targets, load_target, target_names
from edgepack.errors import ConfigError, UsageError
from edgepack.schedules import FAMILIES

FILES = sorted(shipped_dir("targets").glob("*.yaml"))
WANTED = {
    "x86-64-v2", "x86-64-v3", "x86-64-v4", "host", "arm64", "rpi3", "rpi4", "rpi5", "jetson-orin", "jetson-thor", "jetson-cpu",
    "host-gpu",
}  # fmt: skip


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch):
    """The folder of the user's targets."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = tmp_path / "edgepack" / "targets"
    folder.mkdir(parents=True)
    return folder


def test_all_targets_are_listed():
    assert {target.name for target in list_targets()} == WANTED
    assert set(target_names()) == WANTED


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_a_target_survives_a_round_trip(path, tmp_path):
    target = load_target(path)
    again = tmp_path / "again.yaml"
    again.write_text(yaml.safe_dump(target.model_dump(mode="json", exclude_none=True), sort_keys=False))
    assert load_target(again) == target
    assert load_target(path.stem) == target


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_every_target_is_documented_with_sources(path):
    target = load_target(path)
    assert target.name == path.stem
    assert len(target.notes) >= 3
    first = path.read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=../schemas/target.schema.json"


def test_libc_versions_are_not_older_than_the_runtimes():
    for target in list_targets():
        assert tuple(map(int, target.abi.libc.split("."))) >= (2, 27)


@pytest.mark.parametrize("name", sorted(WANTED))
def test_the_family_has_schedules(name):
    assert load_target(name).family in FAMILIES


LLVM = """
import json, sys, tvm
known = {}
features = tvm.get_global_func("target.llvm_get_cpu_features")
archlist = tvm.get_global_func("target.llvm_get_cpu_archlist")
for name, data in json.load(sys.stdin).items():
    target = tvm.target.Target(data)
    cpu = target.host or target
    known[name] = {
        "kind": target.kind.name,
        "cores": int(cpu.attrs["num-cores"]),
        "mcpus": [str(m) for m in archlist(cpu)],
        "features": [str(f) for f in features(cpu)],
    }
print(json.dumps(known))
"""


@pytest.fixture(scope="module")
def llvm():
    """How TVM's LLVM reads each target, in a separate process whose stderr is captured."""
    import json

    data = {target.name: target.tvm for target in list_targets()}
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", LLVM],
        input=json.dumps(data),
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    return json.loads(done.stdout), done.stderr


@pytest.mark.parametrize("name", sorted(WANTED))
def test_llvm_knows_the_cpu_and_has_every_feature_on(llvm, name):
    known, complaints = llvm
    target = load_target(name)
    # LLVM replaces a CPU it does not know by a generic one, with no more than a line on stderr.
    assert target.host_tvm["mcpu"] in known[name]["mcpus"]
    assert set(target.cpu.features) <= set(known[name]["features"])
    assert known[name]["cores"] == target.cpu.cores
    assert known[name]["kind"] == ("cuda" if target.gpu else "llvm")
    assert not re.search(r"not (a recognized|valid)", complaints), complaints


@pytest.mark.parametrize(
    ("name", "feature", "there"),
    [
        ("x86-64-v2", "sse4.2", True),
        ("x86-64-v2", "avx", False),
        ("x86-64-v3", "avx512f", False),
        ("x86-64-v4", "avx512vnni", False),
        ("arm64", "dotprod", False),
        ("rpi3", "dotprod", False),
        ("rpi4", "aes", False),
        ("rpi5", "dotprod", True),
        ("rpi5", "i8mm", False),
        ("jetson-cpu", "dotprod", True),
        ("jetson-thor", "i8mm", True),
    ],
)
def test_llvm_emits_nothing_the_board_lacks(llvm, name, feature, there):
    assert (feature in llvm[0][name]["features"]) is there


def test_vector_width_follows_from_the_features():
    for target in list_targets():
        widest = 512 if "avx512f" in target.cpu.features else 256 if "avx2" in target.cpu.features else 128
        assert target.cpu.vector_bits == widest


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(text)
    return path


def test_a_users_target_extends_a_shipped_one(own):
    write(
        own,
        "my-pi",
        "edgepack: 1\nname: my-pi\nextends: rpi4\nmemory_mib: 8192\ntune: {cores: [2, 3]}\nabi: {libc: '2.36'}\n",
    )
    mine, base = load_target("my-pi"), load_target("rpi4")
    assert "my-pi" in target_names()
    assert (mine.memory_mib, mine.tune.cores, mine.abi.libc, mine.abi.arch) == (
        8192,
        (2, 3),
        "2.36",
        "aarch64",
    )
    assert mine.tune.cooldown_ms == base.tune.cooldown_ms
    assert (mine.tvm, mine.cpu, mine.title) == (base.tvm, base.cpu, base.title)


def messages(path: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_target(path)
    return [f"{p.line}:{p.column}: {p.message}" for p in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: my\nextends: rpi44\n", "2:10: unknown target `rpi44`; did you mean `rpi4`?"),
        ("name: my\nextends: rpi4\ncpu: {coers: 8}\n", "3:7: unknown key `coers`; did you mean `cores`?"),
        ("name: my\nextends: rpi4\ncpu: {cores: 8}\n", "1:1: expected 8 as in cpu.cores, got 4"),
        ("name: my\nextends: rpi4\ntune: {cores: [4]}\n", "3:16: core 4 does not exist; cores are 0 to 3"),
        ("name: my\nextends: rpi4\nfamily: raspberry-pi\n", "3:9: expected one of arm_cpu, raspberry_pi, jetson, x86, got the text 'raspberry-pi'; did you mean `raspberry_pi`?"),
        ("name: my\nextends: rpi4\nfamily: jetson\n", "3:9: the jetson family is only for targets with a gpu, and required for them"),
        ("name: my\nextends: jetson-orin\ngpu: {arch: sm_72}\n", "1:1: expected sm_72 as in gpu.arch, got 'sm_87'"),
        ("name: my\nextends: rpi4\nabi: {arch: x86_64}\n", "1:1: expected x86_64-linux-gnu as in abi.arch, got 'aarch64-linux-gnu'"),
        ("name: my\nextends: rpi4\nabi: {libc: 2.31}\n", "3:13: expected text, got the number 2.31; quote it if it is meant as text"),
        ("name: rpi5\nextends: rpi4\n", "1:7: `rpi5` is a shipped target; choose another name and extend it"),
        ("name: other\nextends: rpi4\n", "1:7: expected my, the file's own name, got other"),
        ("name: my\nextends: my\n", "2:10: `my` extends this target, too: circular `extends`"),
        ("name: my\n", "1:1: missing key `title`: Name for display."),
    ],
)  # fmt: skip
def test_problems_in_a_users_target(own, text, expected):
    found = messages(write(own, "my", text + "edgepack: 1\n"))
    assert expected in found
    assert len(found) == 1 or text == "name: my\n"


def test_a_file_named_like_a_shipped_target_is_refused_not_used(own):
    path = write(own, "rpi4", "edgepack: 1\nname: rpi4\nextends: rpi5\n")
    assert "is a shipped target" in messages(path)[0]
    with pytest.raises(ConfigError, match=r"rpi4\.yaml"):
        load_target("rpi4")
    with pytest.raises(ConfigError, match=r"rpi4\.yaml"):
        list_targets()


def test_an_unknown_name_is_a_usage_error_with_a_suggestion():
    with pytest.raises(UsageError, match="unknown target `jetson-orn`; did you mean `jetson-orin`"):
        load_target("jetson-orn")


def test_targets_are_frozen():
    with pytest.raises(Exception, match="frozen"):
        load_target("rpi4").name = "other"


# --- host -----------------------------------------------------------------------------------------

ZEN4 = "avx avx2 bmi1 bmi2 f16c fma abm movbe xsave cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3 avx512f avx512bw avx512cd avx512dq avx512vl avx512_vnni avx512_bf16"
HASWELL = ZEN4.split(" avx512f", maxsplit=1)[0]


def machine(tmp_path: Path, cpuinfo: str, monkeypatch, arch: str, caches: dict[str, str]) -> Target:
    from edgepack.config.yaml_document import YamlDocument
    from edgepack.config.yaml_model import validate

    proc, sys_ = tmp_path / "proc", tmp_path / "sys"
    proc.mkdir()
    (proc / "cpuinfo").write_text(cpuinfo)
    (proc / "meminfo").write_text("MemTotal:        8000000 kB\nMemFree: 1 kB\n")
    for index, (kind, size) in enumerate(caches.items()):
        folder = sys_ / f"devices/system/cpu/cpu0/cache/index{index}"
        folder.mkdir(parents=True)
        level, what = kind.split()
        for name, value in (("level", level), ("type", what), ("size", size)):
            (folder / name).write_text(value + "\n")
    monkeypatch.setattr("platform.machine", lambda: arch)
    monkeypatch.setattr("platform.libc_ver", lambda: ("glibc", "2.36"))
    return validate(YamlDocument(HOST, host.describe(proc, sys_)), Target).result()


@pytest.mark.parametrize(
    ("flags", "mcpu", "mattr", "bits"),
    [
        (ZEN4, "x86-64-v4", ["+avx512bf16", "+avx512vnni"], 512),
        (HASWELL, "x86-64-v3", None, 256),
        (HASWELL + " avx_vnni", "x86-64-v3", ["+avxvnni"], 256),
        (HASWELL.replace("avx2 ", "").replace("fma ", ""), "x86-64-v2", ["+avx", "+f16c"], 128),
        ("sse2", "x86-64", None, 128),
    ],
)
def test_host_on_x86(tmp_path, monkeypatch, flags, mcpu, mattr, bits):  # noqa: PLR0917 - pytest's
    cpuinfo = "".join(f"processor\t: {i}\nmodel name\t: A CPU\nflags\t\t: {flags}\n\n" for i in range(2))
    target = machine(
        tmp_path,
        cpuinfo,
        monkeypatch,
        "x86_64",
        {"1 Data": "48K", "1 Instruction": "32K", "2 Unified": "2048K"},
    )
    assert (target.tvm["mcpu"], target.tvm.get("mattr"), target.cpu.vector_bits) == (mcpu, mattr, bits)
    assert (target.cpu.l1d_kib, target.cpu.l2_kib, target.cpu.l3_kib) == (48, 2048, None)
    assert target.memory_mib == 7812
    assert target.family == "x86"


@pytest.mark.parametrize(
    ("parts", "features", "mcpu", "expected"),
    [
        (["0xd08"] * 4, "fp asimd evtstrm crc32", "cortex-a72", ("crc", "neon")),
        (["0xd0b"] * 4, "fp asimd aes sha2 crc32 atomics asimdhp asimddp", "cortex-a76", ("aes", "crc", "dotprod", "fullfp16", "lse", "neon", "sha2")),
        (["0xd05", "0xd0b"], "fp asimd asimddp", "generic", ("dotprod", "neon")),
        (["0xabc"], "fp asimd", "generic", ("neon",)),
    ],
)  # fmt: skip
def test_host_on_arm(tmp_path, monkeypatch, parts, features, mcpu, expected):  # noqa: PLR0917 - pytest's
    cpuinfo = "".join(
        f"processor\t: {i}\nFeatures\t: {features}\nCPU implementer\t: 0x41\nCPU part\t: {part}\n\n"
        for i, part in enumerate(parts)
    )
    target = machine(tmp_path, cpuinfo + "Model\t\t: A board\n", monkeypatch, "aarch64", {})
    assert (target.tvm["mcpu"], target.cpu.features, target.family) == (mcpu, expected, "arm_cpu")
    if mcpu == "cortex-a72":
        assert "-aes" in target.tvm["mattr"]
        assert "+crc" in target.tvm["mattr"]


def test_host_is_the_same_twice():
    assert load_target(HOST) == load_target(HOST)

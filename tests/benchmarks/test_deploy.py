"""benchmarks/deploy: the link, changing one layer, and all three steps with a small bundle."""

import asyncio
import io
import os
import platform
import shutil
import signal

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.deploy.__main__ import parse
from benchmarks.deploy.contestants import WAYS, Destination, WayFailed, check
from benchmarks.deploy.link import Bucket, Link, Relay
from benchmarks.deploy.measure import STEPS, run
from benchmarks.deploy.page import page, text
from benchmarks.deploy.versions import NAME, change_layer, settle, unpack
from edgepack.bundle import archive
from edgepack.bundle.manifest import Contents
from edgepack.config.device import Device
from edgepack.errors import UsageError

_AGENT = """#!/bin/sh
while [ $# -gt 0 ]; do
  case $1 in --output-dir) out=$2;; esac
  shift
done
cp "$(dirname "$0")/../sample/output-0.npy" "$out/output-0.npy"
"""


@settings(deadline=None)  # a busy machine is no defect
@given(
    steps=st.lists(st.tuples(st.integers(1, 5000), st.floats(0, 2)), min_size=1, max_size=40),
    rate=st.floats(10, 1e6),
    burst=st.floats(0, 1000),
)
def test_a_bucket_never_lets_more_pass_than_its_rate_and_burst(steps, rate, burst):
    bucket, now, passed = Bucket(rate, burst), 0.0, 0
    for size, pause in steps:
        now += pause
        passed += size
        now += bucket.take(size, now)  # as the relay does: wait, then forward
        assert passed <= burst + rate * now + 1e-6 * passed + 1e-3


@settings(deadline=None)  # a busy machine is no defect
@given(sizes=st.lists(st.integers(1, 5000), min_size=1, max_size=40), rate=st.floats(10, 1e6))
def test_a_busy_bucket_is_not_slower_than_its_rate(sizes, rate):
    bucket, now = Bucket(rate, 0.0), 0.0
    for size in sizes:
        now += bucket.take(size, now)
    assert now == pytest.approx(sum(sizes) / rate)


def test_a_bucket_without_a_rate_never_waits():
    assert Bucket(None, 0.0).take(1 << 30, 5.0) == 0.0


def _relay(rate, delay_s, sent, answered):
    """Send ``sent`` through a relay to a server that answers with ``answered``; returns both ends' bytes, and the count."""

    async def conversation():
        arrived = asyncio.get_running_loop().create_future()

        async def serve(reader, writer):
            arrived.set_result(await reader.read())
            writer.write(answered)
            await writer.drain()
            writer.close()

        upstream = await asyncio.start_server(serve, "127.0.0.1")
        relay = Relay(upstream.sockets[0].getsockname()[1], rate, delay_s)
        server = await relay.serve()
        reader, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
        writer.write(sent)
        writer.write_eof()
        answer = await reader.read()
        writer.close()
        server.close()
        upstream.close()
        return await arrived, answer, relay.count(), relay.count()

    return asyncio.run(conversation())


@pytest.mark.parametrize(("rate", "delay_s"), [(None, 0.0), (400_000.0, 0.0), (None, 0.01)])
def test_the_relay_passes_and_counts_every_byte_both_ways(rate, delay_s):
    sent, answered = bytes(range(256)) * 300, b"answer" * 1000
    arrived, answer, counted, again = _relay(rate, delay_s, sent, answered)
    assert arrived == sent
    assert answer == answered
    assert counted == {"sent": len(sent), "received": len(answered)}
    assert again == {"sent": 0, "received": 0}


def _model(path, *shapes):
    weights = [
        onnx.numpy_helper.from_array(np.full(shape, i + 1, np.float32), f"w{i}")
        for i, shape in enumerate(shapes)
    ]
    graph = onnx.helper.make_graph([], "g", [], [], initializer=weights)
    onnx.save(onnx.helper.make_model(graph), path)
    return path


def test_one_layer_changes_and_nothing_else(tmp_path):
    model = _model(tmp_path / "a.onnx", (2, 3), (4, 4), (64, 64), (5000,))
    name, size = change_layer(model, tmp_path / "b.onnx")
    before, after = (
        {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
        for path in (model, tmp_path / "b.onnx")
    )
    assert (name, size) == ("w1", 64)
    assert [n for n in before if not np.array_equal(before[n], after[n])] == [name]


def test_a_model_without_weights_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no layer can be changed"):
        change_layer(_model(tmp_path / "a.onnx", (7,)), tmp_path / "b.onnx")


def _npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def _bundle(folder, version, model):
    """A bundle whose agent is a shell script: sufficient for a deploy, in a few hundred kilobytes."""
    tensor = {"name": "x", "shape": (1, 4), "dtype": "float32"}
    contents = Contents.model_validate(
        {
            "name": NAME,
            "version": version,
            "agent_protocol": 1,
            "recipe": {"digest": "0" * 64, "content": {}},
            "target": {
                "name": "host",
                "abi": {"arch": platform.machine(), "libc": "2.17"},
                "device_kind": "cpu",
                "tvm": {"kind": "llvm"},
                "cpu_features": (),
            },
            "inputs": (tensor,),
            "outputs": (tensor,),
        }
    )
    sample = _npy(np.ones((1, 4), np.float32))
    files = {
        "bin/edgepack-agent": _AGENT.encode(),
        "lib/libtvm_runtime.so": b"\x00library" * 20_000,
        "model/model.so": model,
        "sample/input-0.npy": sample,
        "sample/output-0.npy": sample,
    }
    return unpack(archive.pack(folder / f"{version}.edgepack", contents, files), folder / version)


@pytest.fixture
def versions(tmp_path):
    random = np.random.default_rng(0).bytes(200_000)
    first = _bundle(tmp_path, "1.0.0", random)
    second = _bundle(tmp_path, "1.1.0", random[:100_000] + b"changed" + random[100_007:])
    assert settle(first, second) == ("manifest.json", "model/model.so")
    return first, second


def test_first_deploy_redeploy_and_rollback_by_every_way(versions, tmp_path):
    lacking = [why for way in WAYS.values() if (why := way.missing())]
    if shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin") is None:
        lacking.append("sshd is not installed (Debian: openssh-server)")
    if lacking:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("; ".join(lacking))
    options = parse(["--repeat", "1", "--mbit", "0"])
    samples = list(run(options, *versions, tmp_path))
    assert not [sample["error"] for sample in samples if "error" in sample]
    assert {(s["way"], s["step"]) for s in samples} == {(way, step) for way in WAYS for step in STEPS}
    sent = {(s["way"], s["step"]): s["sent"] for s in samples}
    for way in WAYS:
        compresses = way in {"edgepack", "rsync -az"}
        assert compresses or sent[way, "first"] > versions[0].size  # SSH's own bytes come on top
    assert (
        5_000 < sent["edgepack", "redeploy"] < sent["edgepack", "first"] / 2
    )  # what did not change is there already
    assert sent["edgepack", "rollback"] < 50_000
    document = {
        "net": "small",
        "change": {"tensor": "w", "bytes": 7, "files": ["model/model.so"]},
        "files_bytes": {"first": versions[0].size, "second": versions[1].size},
        "rtt_ms": 0.0,
        "ways": options.ways,
        "left_out": {},
        "samples": samples,
    }
    assert text(document).count("redeploy") == len(WAYS) + 1  # the headline has the word, too
    assert "inference" in page(document)


def test_what_does_not_hold_the_version_has_failed(versions, tmp_path):
    first, second = versions
    place = Destination(Device(host="127.0.0.1", target="host"), first.folder, tmp_path)
    check(WAYS["scp -r"], place, first)
    with pytest.raises(WayFailed, match=r"manifest\.json, model/model\.so"):
        check(WAYS["scp -r"], place, second)


def test_failures_and_what_is_left_out_stand_in_the_table():
    document = {
        "net": "small",
        "change": {"tensor": "w", "bytes": 7, "files": ["model/model.so"]},
        "files_bytes": {"first": 10, "second": 10},
        "rtt_ms": 20.0,
        "ways": ["edgepack", "scp -r"],
        "left_out": {"rsync -a": "rsync is not installed"},
        "samples": [{"link": "loopback", "step": "first", "way": "scp -r", "error": "disk full"}],
    }
    shown = text(document)
    assert "1 of 1 failed: disk full" in shown
    assert "left out: rsync is not installed" in shown
    assert "round-trip time of 20 ms" in shown


@pytest.mark.parametrize("argv", [["--repeat", "0"], ["--mbit", "-1"], ["--ways", "ftp"]])
def test_wrong_arguments_are_refused(argv, capsys):
    with pytest.raises(SystemExit) as ended:
        parse(argv)
    assert ended.value.code == 2
    assert capsys.readouterr().err


def test_a_link_in_its_own_process_answers_and_ends():
    with Link(1, mbit=8.0) as link:
        assert link.port > 0
        assert link.count() == {"sent": 0, "received": 0}
        process = link._process
        process.stdin.close()
        assert process.wait(60) == 0
    with Link(1) as link:
        process = link._process
    assert process.returncode == -signal.SIGKILL

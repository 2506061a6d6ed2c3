"""A smoke test: one net, two peers, nothing mocked. Checks structure and correctness, never time."""

import xml.etree.ElementTree as ET

import pytest

from benchmarks.kit import environments, places
from benchmarks.kit.correctness import FP32_ERROR, INT8_COSINE
from benchmarks.peers import __main__ as command
from benchmarks.peers.results import kinds, load_groups

PEERS = ("edgepack", "onnxruntime")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A separate, empty cache."""
    monkeypatch.setattr(places, "CACHE", tmp_path / "cache")
    return tmp_path / "cache"


def test_one_net_and_two_peers(cache, tmp_path, capsys):
    options = [
        *("--nets", "autoencoder", "--peers", ",".join(PEERS), "--threads", "1", "--trials", "0"),
        *(
            "--prepare-minutes",
            "1",
            "--rounds",
            "3",
            "--colds",
            "1",
            "--group-seconds",
            "4",
            "--minutes",
            "10",
        ),
        *("--canary-limit", "1000000", "--out", str(tmp_path)),  # a busy machine is no failure of a test
    ]
    assert command.main(options) == 0
    assert (cache / "nets" / "autoencoder" / "model.onnx").is_file()
    (kind,) = kinds(tmp_path / "results" / "peers")
    folder = tmp_path / "results" / "peers" / kind
    groups = load_groups(folder)
    assert [group.cell.key for group in groups] == ["autoencoder-fp32-1t", "autoencoder-int8-1t"]
    for group in groups:
        assert set(group.entries) == set(PEERS)
        assert group.roofline.macs == 264_192
        for name, entry in group.entries.items():
            assert entry.status == "measured", f"{group.cell.key}, {name}: {entry.reason}"
            assert len(group.kept(name)) == 3
            assert min(sample for samples in group.kept(name).values() for sample in samples) > 0
            assert entry.model_bytes > 200_000  # of 270,000 parameters in int8
            assert entry.cold[0].start_ns > entry.cold[0].load_ns > 0
            assert entry.cold[0].peak_rss_kib > 100
            if group.precision == "fp32":
                assert entry.relative_error <= FP32_ERROR
            else:
                assert entry.cosine >= INT8_COSINE
                assert entry.exactness.samples > 0
                assert name != "edgepack" or entry.exactness.exact
    text = (folder / "peers.md").read_text()
    assert f"## {kind}" in (tmp_path / "RESULTS.md").read_text()
    assert "### Autoencoder (MLPerf Tiny), int8, 1 thread" in text
    assert text.count("| **edgepack** |") == 2
    assert str(tmp_path) not in text
    for chart in ("fp32-1t", "int8-1t"):
        assert ET.parse(folder / f"{chart}.svg").getroot().get("viewBox")  # noqa: S314 - our own
    again = command.main(["--report", "--out", str(tmp_path)])
    assert again == 0
    assert (folder / "peers.md").read_text() == text
    assert "autoencoder-int8-1t" in capsys.readouterr().out


def test_without_requirements_the_environment_is_this_one(tmp_path):
    found = environments.environment("x", (), tmp_path)
    assert "numpy" in found.packages
    assert not list(tmp_path.iterdir())


def test_an_environment_is_built_once_and_a_broken_one_anew(tmp_path, monkeypatch):
    # --no-index: what pip needs is not looked for anywhere.
    requirements = ("--no-index", "--find-links", str(_wheel(tmp_path)), "tiny==1.0")
    built = []
    monkeypatch.setattr(environments, "_build", _counting(environments._build, built))
    found = environments.environment("x", requirements, tmp_path / "environments")
    assert found.packages["tiny"] == "1.0"
    assert environments.environment("x", requirements, tmp_path / "environments") == found
    assert len(built) == 1
    (found.python.parents[1] / "ready.json").unlink()  # as if the building had been cut off
    assert environments.environment("x", requirements, tmp_path / "environments") == found
    assert len(built) == 2


def test_an_environment_that_cannot_be_built_says_why_and_leaves_nothing(tmp_path):
    with pytest.raises(environments.EnvironmentFailed, match="absent"):
        environments.environment("x", ("--no-index", "absent==1.0"), tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def _counting(build, built):
    def counted(*words):
        built.append(words)
        build(*words)

    return counted


def _wheel(folder):
    """A folder with a wheel of one empty module."""
    import zipfile

    wheels = folder / "wheels"
    wheels.mkdir()
    info = "tiny-1.0.dist-info"
    with zipfile.ZipFile(wheels / "tiny-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny.py", "")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", f"tiny.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return wheels

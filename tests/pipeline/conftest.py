"""A separate home with three boards in devices.yaml, and the pipeline in it."""

import pytest
from pipeline_kit import Line

DEVICES = """\
edgepack: 1
devices:
  pi: {host: pi, target: rpi4}
  pi2: {host: pi2, target: rpi4}
  arm: {host: arm, target: arm64}
  arm2: {host: arm2, target: arm64}
  orin: {host: orin, target: jetson-orin}
"""


@pytest.fixture
def line(tmp_path, monkeypatch):
    for kind in ("CONFIG", "DATA", "STATE"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(tmp_path / kind.lower()))
    folder = tmp_path / "config/edgepack"
    folder.mkdir(parents=True)
    (folder / "devices.yaml").write_text(DEVICES)
    return Line(tmp_path, monkeypatch)

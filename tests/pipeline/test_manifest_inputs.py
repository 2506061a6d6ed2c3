"""The manifest contains what affects the release: other changes keep the release digest."""

import pytest
from pipeline_kit import RECIPE, target_of

from edgepack.bundle.archive import pack, read_manifest

TARGET = "  - {target: rpi4, device: pi}\n"


def digests(line, folder, text):
    """The release digest of each bundle for rpi4, by candidate."""
    line(text, fresh=("package",), until="package")
    found = {}
    for work in line.calls["PackageStage"]:
        if target_of(work) == "rpi4":
            contents = work.spec.contents
            bundle = pack(folder / contents.filename, contents, {"model/model.so": b"code"})
            found[contents.candidate] = read_manifest(bundle).digest
    return found


@pytest.mark.parametrize(
    "edited",
    [
        RECIPE.replace(TARGET, f"{TARGET}  - {{target: rpi5}}\n"),
        RECIPE.replace("  - {target: arm64}\n", ""),
        RECIPE.replace(TARGET, "  - {target: rpi4, devices: [pi, pi2]}\n"),
        RECIPE.replace("targets:", "gates: {accuracy_drop: 0.1}\ntargets:"),
        RECIPE.replace("targets:", "bench: {runs: 7}\ntargets:"),
        RECIPE.replace("targets:", "# a comment\ntargets:"),
        RECIPE.replace("edgepack: 1\nname: tiny\n", "name: tiny\nedgepack: 1\n"),
    ],
    ids=["a target more", "a target less", "a device more", "a gate", "bench", "a comment", "another order"],
)
def test_a_change_that_shapes_no_release_leaves_its_digest(edited, line, tmp_path):
    before = digests(line, tmp_path, RECIPE)
    assert set(before) == {"baseline", "release"}
    assert digests(line, tmp_path, edited) == before
    assert edited != RECIPE


@pytest.mark.parametrize(
    ("edited", "changed"),
    [
        (RECIPE.replace("name: tiny", "name: tiny\nversion: 2.0.0"), {"baseline", "release"}),
        (RECIPE.replace("epochs: 1", "epochs: 2"), {"baseline", "release"}),
        (RECIPE.replace("ratio: 0.5", "ratio: 0.4"), {"release"}),
        (RECIPE.replace("  - {method: quantize-static, samples: 8}\n", ""), {"release"}),
    ],
    ids=["version", "training", "ratio", "steps"],
)
def test_a_change_that_shapes_a_release_changes_its_digest(edited, changed, line, tmp_path):
    before = digests(line, tmp_path, RECIPE)
    after = digests(line, tmp_path, edited)
    assert {name for name in before if before[name] != after[name]} == changed

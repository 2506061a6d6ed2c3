"""`edgepack sensitivity` shows what each layer tolerates, from a recipe of a torch source or of an .onnx file."""

import shutil

import pytest

RECIPE = """\
edgepack: 1
name: digits
model:
  source: edgepack.zoo.digits:network
  train: {epochs: 1, lr: 0.002}
  inputs:
    - {name: image, shape: [1, 1, 8, 8]}
data: {source: "edgepack.zoo.digits:splits"}
targets: [{target: x86-64-v3}]
"""


def test_a_scan_of_a_torch_source_with_its_metric_is_cached_and_written_as_pages(module_cli):
    module_cli.write("recipe.yaml", RECIPE)
    options = ("--samples", "16", "--probe", "weights", "--probe", "rank")
    done = module_cli("sensitivity", "recipe.yaml", *options, "--json", "-o", "scan.html")
    assert done.code == 0, done.err
    found = done.json
    assert (found["metric"], found["higher_is_better"], found["samples"], found["made_up"]) == (
        "accuracy",
        True,
        16,
        False,
    )
    assert [layer["name"] for layer in found["layers"]][::6] == ["stem.0", "classifier"]
    for layer in found["layers"]:
        assert [(p["probe"], p["setting"]) for p in layer["points"]][::3] == [
            ("weights", 8),
            ("weights", 2),
            ("rank", 0.125),
        ]
        assert layer["points"][0]["sqnr"] > layer["points"][3]["sqnr"]
        assert all(0 <= point["metric"] <= 1 for point in layer["points"])
    page = (module_cli.folder / "scan.html").read_text()
    assert page.count("<svg") == 2
    assert page.count("<circle") == 7 * (4 + 3)
    again = module_cli("sensitivity", "recipe.yaml", *options, "-o", "scan.md")
    assert "sensitivity baseline" in again.err
    assert again.err.count("cached") == 2, "training and the scan"
    lines = again.out.splitlines()
    assert lines[0].startswith("7 layers, outputs for 16 samples; accuracy ")
    assert lines[4].split() == [
        "layer",
        "operator",
        "weights",
        "8",
        "bit",
        "4",
        "bit",
        "3",
        "bit",
        "2",
        "bit",
    ]
    assert lines[5].split()[:3] == ["stem.0", "Conv2d", "288"]
    text = (module_cli.folder / "scan.md").read_text()
    assert "## Share of the full rank: accuracy" in text
    assert "| residual.first.0 | Conv2d | 9,216 |" in text


def test_a_scan_of_a_file_without_samples_says_that_they_are_made_up(cli, tiny_onnx):
    shutil.copy(tiny_onnx, cli.folder / "tiny.onnx")
    cli.write(
        "recipe.yaml", "edgepack: 1\nname: tiny\nmodel: {onnx: tiny.onnx}\ntargets: [{target: x86-64-v3}]\n"
    )
    done = cli("sensitivity", "recipe.yaml", "--probe", "activations")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0] == "2 layers, outputs for 4 made-up samples"
    assert [line.split()[:2] for line in lines[5:]] == [["conv", "Conv"], ["dense", "MatMul"]]


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("recipe.yaml", "-o", "scan.pdf"), 2, "name an .html or .md file"),
        (
            ("recipe.yaml", "--probe", "bits"),
            2,
            "'bits' is not one of 'weights', 'activations', 'prune', 'rank'",
        ),
        (("recipe.yaml", "--samples", "0"), 2, "0 is not in the range x>=1"),
        (("none.yaml",), 2, "none.yaml"),
    ],
)
def test_mistakes_are_usage_errors(module_cli, options, code, words):
    module_cli.write("recipe.yaml", RECIPE)
    done = module_cli("sensitivity", *options)
    assert done.code == code
    assert words in done.err

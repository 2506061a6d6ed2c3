"""The recipe that init writes, with everything that it comments out taken in: built, deployed, and through its own gates."""

import re

import pytest
from command_line import lacking

TAKEN_IN = (
    "train:", "data:", "  source:", "compress:", "  - method:", "    ratio:", "    samples:", "    fine_tune:",
    "  minutes:", "  accuracy_min:", "  accuracy_drop:", "  p90_ms:", "  bundle_kib:",
)  # fmt: skip


def take_in(text):
    """The recipe without comment marks before these keys, for the digits network and its data."""
    keys = tuple(key.lstrip("- ") for key in TAKEN_IN)
    lines = []
    for line in text.splitlines():
        bare = re.sub(r"^(  )?# ", r"\1", line)
        taken = bare.lstrip("- ").startswith(keys) and "inputs.npz" not in bare
        lines.append(bare if taken else line)
    return (
        "\n".join(lines)
        .replace("my_data:splits", "edgepack.zoo.digits:splits")
        .replace("[1, 3, 224, 224]", "[1, 1, 8, 8]")
        .replace("epochs: 10", "epochs: 6")
        .replace("trials: 256", "trials: 0")
        .replace("minutes: 30", "patience: 3")
    )


@pytest.fixture(scope="module")
def report(module_cli):
    lacking("sshd")
    done = module_cli("init", "edgepack.zoo.digits:network", "-t", "host")
    assert done.code == 0, done.err
    path = module_cli.folder / "recipe.yaml"
    path.write_text(take_in(path.read_text()) + "\n")
    done = module_cli("run", "recipe.yaml", "--json")
    assert done.code == 0, done.err
    return done.json


def test_every_gate_is_measured_and_passed(report):
    gates = {gate["name"]: gate for gate in report["gates"]}
    assert set(gates) == {"parity", "accuracy_min", "accuracy_drop", "p90_ms", "bundle_kib"}
    assert {gate["status"] for gate in gates.values()} == {"passed"}
    assert [stage["stage"] for stage in report["compression"]] == [
        "source",
        "prune-channels",
        "quantize-static",
    ]


def test_the_limit_of_parity_fits_a_quantized_release(report):
    (gate,) = (gate for gate in report["gates"] if gate["name"] == "parity")
    rows = {row["candidate"]: row for row in report["rows"]}
    assert rows["baseline"]["rounding"] is None
    assert gate["limit"] == pytest.approx(max(0.001, 2 * rows["release"]["rounding"]))
    assert 2 / 255 <= gate["limit"] < 0.2
    assert rows["release"]["warnings"] == []
    assert 0.05 < rows["release"]["chance"] < 0.2

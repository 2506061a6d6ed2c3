"""Single layers with int8 weights decoded in the kernel or during the build."""

from benchmarks import decoding
from benchmarks.decoding import LAYERS, IntegerLayer, ratios
from benchmarks.kit.interleaving import TimedBlock


def block(contestant, round_, position, *samples):
    return TimedBlock(
        contestant=contestant, round=round_, position=position, discarded=None, canary_before_ns=(1,),
        canary_after_ns=(1,), samples_ns=samples,
    )  # fmt: skip


def test_neighbouring_blocks_are_compared():
    blocks = [
        block("build", 0, 0, 90, 100, 990), block("kernel", 0, 1, 50),
        block("kernel", 0, 2, 100), block("build", 0, 3, 100),
    ]  # fmt: skip
    assert ratios(blocks, "build", "kernel") == [2.0, 1.0]


def test_layers_have_names_of_their_own():
    assert len({layer.name for layer in LAYERS}) == len(LAYERS)
    assert IntegerLayer((8, 4, 3, 3), (1, 4, 9, 9)).name == "3x3 4 -> 8 at 9x9"
    assert IntegerLayer((4, 8), (2, 4)).name == "MatMul 4 -> 8, 2 rows"


def test_a_layer_is_measured_both_ways(monkeypatch, capsys):
    layer = IntegerLayer((8, 4, 1, 1), (1, 4, 3, 3))
    monkeypatch.setattr(decoding, "LAYERS", (layer,))
    decoding.main(["--target", "host", "--rounds", "2"])
    first, _cpu, head, row = capsys.readouterr().out.splitlines()
    assert first.endswith("host, one thread")
    assert head.split("  ")[0] == "layer"
    name, build, kernel, ratio, spread, rule = row.replace(layer.name, layer.name.replace(" ", "_")).split()
    assert name == layer.name.replace(" ", "_")
    assert float(build) > 0
    assert float(kernel) > 0
    assert float(ratio) > 0
    assert spread.count("-") == 1
    assert rule in {"kernel", "build"}

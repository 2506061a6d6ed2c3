"""Low rank as a recipe step: budgets, accuracy, checkpoints, errors."""

import pytest
import torch
from torch import nn

from edgepack.compression import low_rank
from edgepack.compression.low_rank import LowRank
from edgepack.compression.method import Context
from edgepack.errors import InputError
from edgepack.export import parity, to_onnx
from edgepack.spec import Input, Train
from edgepack.torchnet import checkpoint
from edgepack.zoo import NETS, digits


def apply(module, context, **options):
    return low_rank.apply(module, LowRank(method="low-rank", **options), context)


def test_half_the_macs_of_the_digits_network(teacher, data, inputs, tmp_path):
    result = apply(teacher, Context(inputs, data), macs=0.5, data_aware=True, fine_tune=Train(epochs=3))
    before, after = result.metrics["macs"]
    assert 0.47 * before < after <= 0.5 * before
    assert result.metrics["parameters"][1] < 0.45 * result.metrics["parameters"][0]
    assert result.metrics["kept_whole"]["depthwise.0"] == "its channels are in groups"
    accuracy = result.metrics["score"]
    assert accuracy["factored"] >= accuracy["before"] - 0.05, "the statistics of the activations are used"
    assert accuracy["fine_tune"] >= accuracy["before"] - 0.02
    path = tmp_path / "thin.safetensors"
    checkpoint.save(result.module, path, [checkpoint.Change("low-rank", result.change)])
    again = checkpoint.restore(digits.network(), path, {"low-rank": low_rank.rebuild}).module
    x = torch.from_numpy(data.x_test[:8])
    assert torch.equal(again(x), result.module(x))
    exported = to_onnx(again, inputs, tmp_path / "thin.onnx")
    assert parity(again, exported, [data.x_test[:1]]) < 1e-4


@pytest.mark.parametrize("conv", ["tucker", "svd", "cp"])
def test_data_makes_the_same_ranks_lose_less_and_equal_options_give_equal_weights(
    conv, teacher, data, inputs
):
    context = Context(inputs, data)
    options = {"rank": 20, "conv": conv, "skip": ("stem*", "classifier")}
    plain = apply(teacher, context, **options)
    aware, again = (apply(teacher, context, data_aware=True, samples=64, **options) for _ in range(2))
    assert plain.change == aware.change == again.change
    for name, value in aware.module.state_dict().items():
        assert torch.equal(value, again.module.state_dict()[name])
    x = torch.from_numpy(data.x_train[:200])
    with torch.no_grad():
        losses = [float((each.module(x) - teacher(x)).square().mean()) for each in (plain, aware)]
    assert losses[1] < losses[0]


def test_a_step_factors_what_an_earlier_one_factored():
    module = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4)).eval()
    context = Context((Input(name="x", shape=(1, 32)),))
    first = apply(module, context, rank=12)
    assert (
        first.change == {"0": {"form": "svd", "ranks": [12]}, "2": {"form": "svd", "ranks": [3]}}
        or first.change
    )
    second = apply(first.module, context, energy=0.5)
    rebuilt = low_rank.rebuild(low_rank.rebuild(module, first.change), second.change)
    rebuilt.load_state_dict(second.module.state_dict())
    x = torch.randn(2, 32)
    assert torch.equal(rebuilt(x), second.module(x))


def test_the_inputs_of_a_text_classifier_are_projected():
    net = NETS["lstm_text"] if "lstm_text" in NETS else next(n for k, n in NETS.items() if "lstm" in k)
    result = apply(net.network(), Context(net.inputs), rank=16)
    assert result.change["recurrent"] == {"form": "recurrent", "ranks": [16]}
    # 80 steps: 128 inputs of 512 gates become 128 * 16 + 16 * 512.
    saved = 80 * (128 * 512 - 16 * (128 + 512))
    assert result.metrics["macs"][0] - result.metrics["macs"][1] == saved
    assert result.metrics["kept_whole"]["classifier"] == "rank 16 saves no multiply-accumulates"


def test_sensitive_layers_are_skipped(teacher, data, inputs):
    context = Context(inputs, data)
    every = apply(teacher, context, rank=16)
    robust = apply(teacher, context, rank=16, samples=64, skip=5.0)
    sensitive = every.metrics["layers"].keys() - robust.metrics["layers"].keys()
    assert sensitive >= {"residual.first.0"}
    assert all(robust.metrics["kept_whole"][name].startswith("sensitive") for name in sensitive)
    assert "last.0" in apply(teacher, context, rank=16, samples=64, skip="auto").metrics["layers"]
    with pytest.raises(InputError, match="no layer of which a lower rank saves") as caught:
        apply(teacher, context, rank=16, samples=64, skip=150.0)
    assert "the limit is 150.0 dB" in caught.value.why


class ReadsWeights(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(16, 16)

    def forward(self, x):
        return self.fc(x) * self.fc.weight.mean()


def test_errors_say_what_to_do():
    context = Context((Input(name="x", shape=(1, 16)),))
    module = nn.Sequential(nn.Linear(16, 16))
    for options, got in (({}, "macs"), ({"rank": 2, "energy": 0.5}, "macs, got rank and energy")):
        with pytest.raises(InputError, match=f"expected one of rank, energy and {got}"):
            apply(module, context, **options)
    with pytest.raises(InputError, match="no layer of which a lower rank saves") as caught:
        apply(module, context, rank=12)
    assert caught.value.why == "0: rank 12 saves no multiply-accumulates"
    with pytest.raises(
        InputError, match="at least 32 multiply-accumulates at rank 1, and 25 are left for them"
    ):
        apply(module, context, macs=0.1)
    with pytest.raises(InputError, match="no layer matches 'fc'"):
        apply(module, context, rank=2, skip=("fc",))
    with pytest.raises(InputError, match="does not run with factored layers") as caught:
        apply(ReadsWeights(), context, rank=2)
    assert caught.value.next == "skip that layer"

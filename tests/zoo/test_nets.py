"""The zoo's networks match the published numbers of parameters and MACs; no large network is run here."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.utils import _pytree
from torch.utils.flop_counter import FlopCounterMode

from edgepack.export import parity, run_onnx
from edgepack.onnxfile.counting import count
from edgepack.zoo import NETS, Net, __main__
from edgepack.zoo.mobilenet_v3 import _divisible

# As published: parameters, billions of MACs to the given digits.
TORCHVISION = {
    "mobilenet_v2": (3_504_872, "0.301"),
    "mobilenet_v3_large": (5_483_032, "0.217"),
    "resnet18": (11_689_512, "1.814"),
    "resnet50": (25_557_032, "4.089"),
    "vgg16": (138_357_544, "15.47"),
}


def meta(net: Net) -> tuple[torch.nn.Module, int]:
    """The network without values, and the MACs that torch counts in one run of it."""
    module = net.architecture()
    with torch.device("meta"):
        inputs = [torch.zeros(spec.shape, dtype=getattr(torch, spec.dtype)) for spec in net.inputs]
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            module(*inputs)
    assert counter.get_total_flops() % 2 == 0
    return module, counter.get_total_flops() // 2


def parameters(module):
    return sum(tensor.numel() for tensor in module.parameters())


@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
def test_a_net_says_what_it_costs(net):
    module, macs = meta(net)
    assert (parameters(module), macs) == (net.parameters, net.macs)
    assert NETS[net.name] is net
    assert all(spec.shape[0] == 1 for spec in net.inputs)


@pytest.mark.parametrize("name", TORCHVISION)
def test_image_classifiers_are_torchvisions(name):
    count, macs = TORCHVISION[name]
    assert NETS[name].parameters == count
    digits = len(macs.partition(".")[2])
    assert f"{NETS[name].macs / 1e9:.{digits}f}" == macs


def test_ds_cnn_is_the_keras_model_of_mlperf_tiny():
    module, _ = meta(NETS["ds_cnn"])
    # Keras's summary says "Total params: 24,908, trainable 23,756": it counts running statistics, too.
    statistics = sum(b.numel() for name, b in module.named_buffers() if "running" in name)
    assert (parameters(module), parameters(module) + statistics) == (23_756, 24_908)


def test_the_autoencoder_is_that_of_mlperf_tiny():
    widths = (640, 128, 128, 128, 128, 8, 128, 128, 128, 128, 640)
    weights = sum(a * b for a, b in itertools.pairwise(widths))
    biases, normalised = sum(widths[1:]), sum(widths[1:-1])
    assert NETS["autoencoder"].parameters == weights + biases + 2 * normalised
    assert NETS["autoencoder"].macs == weights


def test_bert_tiny_is_of_the_published_size():
    hidden, wide, tokens, layers = 128, 512, 128, 2
    embeddings = (30_522 + 512 + 2) * hidden + 2 * hidden
    layer = 4 * (hidden**2 + hidden) + 2 * hidden * wide + wide + hidden + 4 * hidden
    assert NETS["bert_tiny"].parameters == embeddings + layers * layer + hidden**2 + hidden
    assert f"{NETS['bert_tiny'].parameters / 1e6:.1f}" == "4.4"  # google-research/bert
    linear, attention = tokens * (4 * hidden**2 + 2 * hidden * wide), 2 * tokens**2 * hidden
    assert NETS["bert_tiny"].macs == layers * (linear + attention) + hidden**2


def test_text_classifiers_have_the_size_of_kerass_example():
    keras = 2_691_713  # examples/imdb_lstm.py: 2,560,000 + 131,584 + 129
    second_bias, second_class = 4 * 128, 128 + 1
    assert NETS["lstm"].parameters == keras + second_bias + second_class
    assert NETS["gru"].parameters == 2_560_000 + 3 * (256 * 128 + 2 * 128) + 2 * (128 + 1)
    for name, gates in (("lstm", 4), ("gru", 3)):
        assert NETS[name].macs == 80 * gates * 256 * 128 + 2 * 128


def test_channels_are_rounded_as_mobilenets_are():
    # 72/4, 120/4, 480/4, 672/4, 960/4 of the paper's table; 11 would lose a quarter as 8.
    assert [_divisible(c) for c in (18, 30, 120, 168, 240, 11, 3)] == [24, 32, 120, 168, 240, 16, 8]


SMALL = ("ds_cnn", "autoencoder", "bert_tiny", "lstm", "gru")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("zoo")
    made = {}

    def get(name):
        if name not in made:
            made[name] = NETS[name].export(folder / f"{name}.onnx")
        return made[name]

    return get


def check_export(net, path):
    samples = net.samples(2, seed=1)
    rows = [{name: array[i] for name, array in samples.items()} for i in range(2)]
    assert parity(net.network(), path, list(rows[0].values())) < 1e-4
    assert count(path).macs == net.macs
    first, second = (run_onnx(path, row) for row in rows)
    for a, b in zip(first, second, strict=True):
        assert 0.01 < np.std(a) < 20, "values neither vanish nor explode"
        assert np.abs(a - b).max() > 0.02 * np.abs(a).max(), "outputs depend on the input"


@pytest.mark.parametrize("name", SMALL)
def test_a_small_net_is_the_same_in_onnxruntime(name, exported):
    check_export(NETS[name], exported(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NETS if name not in SMALL])
def test_a_large_net_is_the_same_in_onnxruntime(name, exported):
    check_export(NETS[name], exported(name))


@pytest.mark.parametrize(("name", "operator"), [("lstm", "LSTM"), ("gru", "GRU")])
def test_a_recurrent_net_is_one_operator_with_constant_weights(name, operator, exported):
    import onnx

    graph = onnx.load(exported(name)).graph
    (node,) = [node for node in graph.node if node.op_type == operator]
    constants = {tensor.name for tensor in graph.initializer}
    assert set(node.input[1:4]) <= constants, "weights, recurrent weights, biases"
    assert "Slice" not in {node.op_type for node in graph.node}


def test_the_same_seed_gives_the_same_weights_whatever_happened_before():
    net = NETS["ds_cnn"]
    a, state = net.network(), torch.random.get_rng_state()
    torch.rand(7)
    b, c = net.network(), net.network(seed=1)
    assert all(
        torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )
    assert not torch.equal(a.classifier.weight, c.classifier.weight)
    torch.random.set_rng_state(state)
    net.network()
    assert torch.equal(torch.random.get_rng_state(), state), "torch's own random state is left alone"
    assert not any(layer.training for layer in a.modules())


@pytest.mark.parametrize("name", SMALL)
def test_an_architecture_takes_the_weights_of_a_network(name):
    net = NETS[name]
    full, empty = net.network(), net.architecture()
    assert {tensor.device.type for tensor in empty.state_dict().values()} == {"meta"}
    empty.load_state_dict(full.state_dict(), assign=True)
    (x,) = (torch.from_numpy(array[0]) for array in net.samples(1).values())
    with torch.no_grad():
        for a, b in zip(_pytree.tree_leaves(full(x)), _pytree.tree_leaves(empty(x)), strict=True):
            assert torch.equal(a, b)
    assert not any(layer.training for layer in empty.modules())


def test_samples_are_of_the_inputs_shape_and_kind():
    for net in NETS.values():
        (spec,) = net.inputs
        x = net.samples(3, seed=5)[spec.name]
        assert (x.shape, x.dtype) == ((3, *spec.shape), np.dtype(spec.dtype))
        assert np.array_equal(x, net.samples(3, seed=5)[spec.name])
        assert not np.array_equal(x, net.samples(3, seed=6)[spec.name])
        if net.tokens:
            assert x.min() >= 0
            assert 0.9 * net.tokens < x.max() < net.tokens
        else:
            assert abs(x.std() - 1) < 0.05


def test_the_list_of_nets_imports_no_torch():
    code = "import sys, edgepack.zoo; print({'torch', 'numpy', 'onnx', 'tvm'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_program_writes_a_net_and_refuses_others(tmp_path, capsys):
    out = tmp_path / "new" / "m.onnx"
    assert __main__.main(["autoencoder", str(out), "--seed", "3"]) == 0
    assert count(out).macs == NETS["autoencoder"].macs
    with pytest.raises(SystemExit) as stopped:
        __main__.main(["resnet19", str(out)])
    assert stopped.value.code == 2
    assert "resnet18" in capsys.readouterr().err
    assert __main__.main(["autoencoder", str(out / "below" / "a-file.onnx")]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {out / 'below' / 'a-file.onnx'}: cannot write the model")

"""Networks for recipes, benchmarks and tests. Data comes from scikit-learn and from Python's own texts; weights are generated.

``NETS`` are real architectures with random weights, for everything after training; ``digits`` and ``snippets``
are small classifiers with real data. ``python -m edgepack.zoo NET OUT.onnx`` exports one of ``NETS`` to ONNX.

Imports: data, errors, export, spec.
"""

from edgepack.spec import Input
from edgepack.zoo.net import Net

_IMAGE = (Input(name="image", shape=(1, 3, 224, 224)),)
_TEXT = (Input(name="ids", shape=(1, 80), dtype="int64"),)  # as torch exports token ids

_TORCHVISION = "num_params and _ops of torchvision's weights of this architecture"
_TINY = "https://github.com/mlcommons/tiny, benchmark/training; MACs by its layers' shapes"
_KERAS = (
    "Keras's example imdb_lstm (https://github.com/keras-team/keras/blob/2.3.1/examples/imdb_lstm.py): "
    "2,691,713 parameters with an LSTM, one bias per gate and one output; MACs by the layers' shapes"
)

NETS: dict[str, Net] = {
    "mobilenet_v2": Net(
        name="mobilenet_v2",
        title="MobileNetV2",
        module="edgepack.zoo.mobilenet_v2",
        inputs=_IMAGE,
        parameters=3_504_872,
        macs=300_774_272,
        source=f"arXiv:1801.04381; {_TORCHVISION}: 3,504,872 and 0.301 G",
    ),
    "mobilenet_v3_large": Net(
        name="mobilenet_v3_large",
        title="MobileNetV3-Large",
        module="edgepack.zoo.mobilenet_v3",
        function="large",
        inputs=_IMAGE,
        parameters=5_483_032,
        macs=216_589_760,
        source=f"arXiv:1905.02244; {_TORCHVISION}: 5,483,032 and 0.217 G",
    ),
    "resnet18": Net(
        name="resnet18",
        title="ResNet-18",
        module="edgepack.zoo.resnet",
        function="resnet18",
        inputs=_IMAGE,
        parameters=11_689_512,
        macs=1_814_073_344,
        source=f"arXiv:1512.03385; {_TORCHVISION}: 11,689,512 and 1.814 G",
    ),
    "resnet50": Net(
        name="resnet50",
        title="ResNet-50",
        module="edgepack.zoo.resnet",
        function="resnet50",
        inputs=_IMAGE,
        parameters=25_557_032,
        macs=4_089_184_256,
        source=f"arXiv:1512.03385; {_TORCHVISION}: 25,557,032 and 4.089 G",
    ),
    "vgg16": Net(
        name="vgg16",
        title="VGG-16",
        module="edgepack.zoo.vgg",
        inputs=_IMAGE,
        parameters=138_357_544,
        macs=15_470_264_320,
        source=f"arXiv:1409.1556; {_TORCHVISION}: 138,357,544 and 15.47 G",
    ),
    "ds_cnn": Net(
        name="ds_cnn",
        title="DS-CNN (MLPerf Tiny)",
        module="edgepack.zoo.mlperf_tiny",
        function="ds_cnn",
        inputs=(Input(name="mfcc", shape=(1, 1, 49, 10)),),
        parameters=23_756,
        macs=2_656_768,
        source=f"arXiv:2106.07597; keyword_spotting/keras_model.py of {_TINY}",
    ),
    "autoencoder": Net(
        name="autoencoder",
        title="Autoencoder (MLPerf Tiny)",
        module="edgepack.zoo.mlperf_tiny",
        function="autoencoder",
        inputs=(Input(name="frames", shape=(1, 640)),),
        parameters=267_928,
        macs=264_192,
        source=f"arXiv:2106.07597; anomaly_detection/keras_model.py of {_TINY}",
    ),
    "bert_tiny": Net(
        name="bert_tiny",
        title="BERT-tiny, 128 tokens",
        module="edgepack.zoo.bert",
        inputs=(Input(name="ids", shape=(1, 128), dtype="int64"),),
        tokens=30_522,
        parameters=4_385_920,
        macs=58_736_640,
        source="arXiv:1908.08962 and https://github.com/google-research/bert: 4.4 million parameters; MACs by the layers' shapes",
    ),
    "lstm": Net(
        name="lstm",
        title="LSTM classifier, 80 tokens",
        module="edgepack.zoo.recurrent",
        function="lstm",
        inputs=_TEXT,
        tokens=20_000,
        parameters=2_692_354,
        macs=10_486_016,
        source=_KERAS,
    ),
    "gru": Net(
        name="gru",
        title="GRU classifier, 80 tokens",
        module="edgepack.zoo.recurrent",
        function="gru",
        inputs=_TEXT,
        tokens=20_000,
        parameters=2_659_330,
        macs=7_864_576,
        source=_KERAS,
    ),
}

__all__ = ["NETS", "Net"]

"""What tests of several rooms share: a trained digits network, made once."""

import copy

import pytest

from edgepack.base.paths import cache_dir
from edgepack.spec import Input, Train


@pytest.fixture(scope="session", autouse=True)
def _home(tmp_path_factory):
    """No test sees the user's devices, running boards, runs or tuning records. The cache, of what can be rebuilt, is shared."""
    with pytest.MonkeyPatch.context() as patch:
        for kind in ("CONFIG", "DATA", "STATE"):
            patch.setenv(f"XDG_{kind}_HOME", str(tmp_path_factory.mktemp(kind.lower())))
        # Shared by tests that have a cache of their own, too: zig takes 10 s and more for the C library of a target.
        patch.setenv("ZIG_GLOBAL_CACHE_DIR", str(cache_dir().parent / "zig"))
        yield


@pytest.fixture(scope="session")
def data():
    from edgepack.zoo import digits

    return digits.splits()


@pytest.fixture(scope="session")
def _trained(data):
    import torch

    from edgepack.torchnet.training import train
    from edgepack.zoo import digits

    torch.set_num_threads(1)  # small layers: threads cost more than they bring
    module = digits.network()
    metrics = train(module, data, Train(epochs=6, lr=2e-3))
    return module, metrics


@pytest.fixture
def teacher(_trained):
    return copy.deepcopy(_trained[0])


@pytest.fixture
def teacher_metrics(_trained):
    return _trained[1]


@pytest.fixture
def inputs():
    return (Input(name="image", shape=(1, 1, 8, 8)),)

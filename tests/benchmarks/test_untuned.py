"""Libraries side by side: in turns, one inference each, and their table."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks import untuned
from benchmarks.kit.interleaving import in_turns
from benchmarks.kit.processes import ProcessFailed
from edgepack.errors import UsageError


class Numbered:
    """Answers with the number of its inferences so far, and logs whose turn it was."""

    def __init__(self, log, name, breaks_at=0):
        self.log, self.name, self.breaks_at = log, name, breaks_at
        self.count, self.running = 0, False

    def resume(self):
        self.running = True

    def stop(self):
        self.running = False

    def time(self, untimed, runs, timeout_s):
        assert self.running
        assert (untimed, runs) == (0, 1)
        self.count += 1
        if self.count == self.breaks_at:
            raise ProcessFailed("it broke")
        self.log.append(self.name)
        return [1000 * self.count]


@pytest.mark.parametrize("runs", [4, 5])
def test_everybody_has_one_inference_a_turn_and_the_first_does_not_count(runs):
    log = []
    names = ["a", "b", "c"]
    taken = in_turns({name: Numbered(log, name) for name in names}, runs)
    assert taken == {name: [1000 * (i + 2) for i in range(runs)] for name in names}
    assert log[:3] == names
    rounds = [log[3:][i : i + 6] for i in range(0, len(log) - 3, 6)]
    assert all(one == one[::-1] and sorted(one[:3]) == names for one in rounds), (
        "an order and its mirror image"
    )


def test_a_library_that_breaks_is_told():
    with pytest.raises(ProcessFailed, match="b: it broke"):
        in_turns({"a": Numbered([], "a"), "b": Numbered([], "b", breaks_at=3)}, 4)


@pytest.fixture
def small(tmp_path):
    weights = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="y")],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (2, 4))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (2, 6))],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, tmp_path / "small.onnx")
    return tmp_path / "small.onnx"


def test_the_builds_stand_in_the_table(small, capsys):
    untuned.main([str(small), "--target", "host", "--runs", "3", "--without", "prepack"])
    first, head, *rows = capsys.readouterr().out.splitlines()
    assert first == "small.onnx for host, one thread, 3 interleaved runs"
    assert head.split("  ")[0] == "build"
    assert [row.rpartition("  ")[0].split("  ")[0] for row in rows] == [
        "edgepack untuned",
        "stock tvm.compile",
        "without prepack",
    ]
    assert min(float(row.split()[-1]) for row in rows) == 1


def test_a_phase_that_is_not_there_is_named(small):
    with pytest.raises(UsageError, match="host has no phase prepak; did you mean `prepack`"):
        untuned.main([str(small), "--target", "host", "--without", "prepak"])

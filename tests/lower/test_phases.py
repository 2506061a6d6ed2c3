"""The list of phases by target, their pre- and postconditions, and the facts recorded at the marks."""

import re
from itertools import pairwise

import numpy as np
import pytest

from edgepack.base.paths import PACKAGE
from edgepack.config.target import load_target
from edgepack.errors import EdgepackError
from edgepack.lower import CudaModule, compile_model, conditions, phases
from edgepack.lower.emit import vm
from edgepack.lower.graph.indices import BOUNDED
from edgepack.lower.phase import CHECK, Condition, Executor, Lowering, Mark, Phase
from edgepack.lower.result import Emitted
from edgepack.schedules import tvm_target
from edgepack.spec.runtime import BASE, CUDA

CPU = [
    "import", "canonicalise", "decode-in-kernels", "fold-weights", "simplify", "legalize", "bound-indices",
    "annotate-patterns",
    "fuse-ops", "fuse-tir", "free-weight-layouts", "apply-records", "schedule-untuned", "prepack", "lift-weights",
    "lower-dataflow",
]  # fmt: skip
MACHINE = [*CPU, "lower-vm"]


def items(target="x86-64-v3", executor=None):
    return phases.phases_for(load_target(target), executor and phases.EXECUTORS[executor])


def lowering(model, target="x86-64-v3"):
    chosen = load_target(target)
    return Lowering(model, chosen, tvm_target(chosen))


def test_the_list_is_made_for_the_target():
    assert phases.names(items("rpi4")) == phases.names(items("x86-64-v4")) == CPU
    assert phases.names(items("rpi4", "vm")) == MACHINE
    gone = {"decode-in-kernels", "free-weight-layouts", "prepack"}
    assert phases.names(items("jetson-orin")) == [name for name in MACHINE if name not in gone]
    levels = [item.level for item in items() if isinstance(item, Phase)]
    order = ["onnx", "graph", "kernels", "schedules", "emit"]
    assert levels == sorted(levels, key=order.index)
    assert set(levels) == set(order)


def test_every_phase_states_what_holds():
    for target in ("x86-64-v3", "jetson-orin"):
        for item in items(target):
            if isinstance(item, Phase):
                assert item.ensures, item.name
                assert item.requires or item.name in {"import", "fold-weights"}, item.name


@pytest.mark.parametrize("target", ["x86-64-v3", "rpi4", "jetson-orin"])
@pytest.mark.parametrize("model", ["network", "quantized_network"])
def test_the_conditions_hold_for_real_networks(model, target, request, monkeypatch):
    monkeypatch.setenv(CHECK, "1")
    at = lowering(request.getfixturevalue(model), target)
    mod = phases.run(items(target, "vm"), at)
    for condition in (conditions.PLANNED, conditions.SEQUENTIAL):
        assert condition.violation(mod) is None


CONDITIONS = {
    "every shape is static", "no training-only operators", "no constant is decoded by a separate operator",
    "the graph contains only kernel calls", "every kernel is one function", "every kernel has a schedule",
    "the graph is sequential", "memory is planned", BOUNDED.name,
}  # fmt: skip


def test_every_condition_can_be_violated(quantized_network):
    """Each condition is false for some phase, so that none is trivially true."""
    at, mod, violated = lowering(quantized_network), None, set()
    every = {
        condition.name: condition
        for item in items(executor="vm")
        if isinstance(item, Phase)
        for condition in (*item.requires, *item.ensures)
    }
    assert set(every) == CONDITIONS
    for before, name in pairwise([None, *MACHINE]):
        mod = phases.run(items(executor="vm"), at, mod, after=before, until=name)
        violated |= {key for key, condition in every.items() if condition.violation(mod) is not None}
    never = set(every) - violated
    assert never == {"every shape is static", "no training-only operators", BOUNDED.name}  # see test_indices
    assert conditions.STATIC.violation(_module(dynamic=True)) is not None
    assert "relax.nn.dropout" in conditions.INFERENCE.violation(_module(dynamic=False))


def _module(*, dynamic):
    from tvm import relax, tirx

    builder = relax.BlockBuilder()
    size = tirx.Var("n", "int64") if dynamic else 4
    x = relax.Var("x", relax.TensorType((size, 4), "float32"))
    with builder.function("main", [x]):
        y = builder.emit(relax.op.nn.relu(x) if dynamic else relax.op.nn.dropout(x))
        builder.emit_func_output(y)
    return builder.get()


@pytest.mark.parametrize("when", ["requires", "ensures"])
def test_a_condition_that_does_not_hold_is_named_with_its_phase(when, network, monkeypatch):
    never = Condition("the moon is made of cheese", lambda _: "it is not")
    spoilt = tuple(
        Phase(item.name, item.level, item.run, **{when: (never,)})
        if isinstance(item, Phase) and item.name == "simplify"
        else item
        for item in items()
    )
    phases.run(spoilt, lowering(network), until="simplify")
    monkeypatch.setenv(CHECK, "1")
    with pytest.raises(EdgepackError, match=r"cheese does not hold .* phase simplify") as caught:
        phases.run(spoilt, lowering(network), until="simplify")
    assert caught.value.why == "it is not"


def test_a_phase_that_fails_is_named_with_the_model(network):
    def broken(_mod, _lowering):
        raise ValueError("first line\nlast line")

    spoilt = tuple(
        Phase(item.name, item.level, broken) if item.name == "legalize" else item for item in items()
    )
    with pytest.raises(EdgepackError, match="lowering phase 05-legalize failed") as caught:
        phases.run(spoilt, lowering(network))
    assert caught.value.why == "ValueError: last line"
    assert str(network) in caught.value.where


def test_facts_are_recorded_at_marks(network):
    at = lowering(network)
    marks = [item.name for item in items() if isinstance(item, Mark)]
    assert marks == ["kernels", "macs", "tuned", "packed-functions", "work", "calls"]
    mod = phases.run(items(), at, until="kernels")
    assert at.facts.workloads
    assert at.facts.calls == {}
    phases.run(items(), at, mod, after="kernels")
    assert set(at.facts.calls) <= set(at.facts.workloads)
    assert [tensor.name for tensor in at.facts.outputs] == ["y"]
    assert at.facts.packed == set()


def test_what_a_model_needs_at_run_time_is_known_from_its_lowering(network, one_node, tmp_path):
    plain = compile_model(network, load_target("rpi4"), tmp_path / "a.so")
    assert (plain.executor, plain.runtime, plain.executor_reason) == ("aot", (), None)
    count = {"k": np.array([3], "int64")}
    top = one_node("TopK", {"x": [1, 8]}, count, outputs=("y", "i"), out_shape=[1, 3])
    sorting = compile_model(top, load_target("rpi4"), tmp_path / "b.so")
    assert (sorting.executor, sorting.runtime) == ("aot", ())
    jetson = compile_model(top, load_target("jetson-orin"), tmp_path / "d.so")
    assert (jetson.executor, jetson.executor_reason) == ("vm", None)
    assert b"tvm.contrib." not in plain.path.read_bytes()
    assert compile_model(network, load_target("jetson-orin"), tmp_path / "c.so").runtime == (*BASE, CUDA)


def test_the_page_has_the_list():
    page = (PACKAGE.parent / "docs" / "schedules.md").read_text()
    table = re.search(r"<!-- phases -->\n(.*?)<!-- end -->", page, re.DOTALL)[1]
    drawn = re.findall(r"^\| (\d\d) \| ([\w-]+) \| (\w+) \|", table, re.MULTILINE)
    here = [item for item in items(executor="vm") if isinstance(item, Phase)]
    assert drawn == [(f"{number:02d}", item.name, item.level) for number, item in enumerate(here)]
    assert re.search(r"The list for a GPU omits 02, 10 and 13:", page)


def test_an_executor_is_its_phases_build_runtime_and_file(network, tmp_path, monkeypatch):
    def runtime(target, facts):
        return (f"lib{target.abi.arch}.so", *facts.packed)

    def build(mod, lowering, out, progress):
        progress("write")
        out.write_text(f"{lowering.target.name} {sum(1 for _ in mod.functions)}")
        return Emitted((CudaModule("source", b"cubin"),))

    steps = []
    last = Phase("note", "emit", lambda mod, _: mod)
    other = Executor("text", (vm.SEQUENCE, last), build, runtime, "model.txt")
    monkeypatch.setattr(phases, "executors_for", lambda _: (other,))
    made = compile_model(network, load_target("x86-64-v3"), tmp_path / other.file, progress=steps.append)
    assert (made.executor, made.runtime) == ("text", ("libx86_64.so",))
    assert made.path.read_text().startswith("x86-64-v3 ")
    assert steps[-2:] == ["note", "write"]
    assert made.sources == (("source", b"cubin"),)


def test_every_executor_goes_by_its_own_name():
    assert {name: each.name for name, each in phases.EXECUTORS.items()} == {"aot": "aot", "vm": "vm"}

"""Forms of old opsets, compiled: what a conversion makes of them is something that TVM computes as onnxruntime does."""

from collections import defaultdict

import pytest
from forms_run import MERGED, differences, imported, run
from opset_forms import LEFT_OUT, changed, forms, model_of, opsets, written

from edgepack.errors import InputError
from edgepack.onnxfile import opset_of
from edgepack.onnxfile.importing import model_inputs
from edgepack.onnxfile.opset.rules import same
from edgepack.onnxfile.opset.versions import LOWEST, VERSIONS
from edgepack.onnxfile.sampling import made_up

EVERY = 8  # of a version's forms, one in so many is compiled always
REFUSED = {"Resize": "ONNX and onnxruntime differ", "RoiAlign": "takes the maximum", "Scan": ""}
"""Operators of which some forms are refused, and words of the reason."""


def old_forms(every):
    """Forms of versions below ``LOWEST`` that a rule changes on the way there; all, or one in ``every``."""
    for op in sorted(set(changed()) - set(LEFT_OUT)):
        for version, opset in opsets(op):
            rules = {v: rule for v, rule in VERSIONS.get(op, {}).items() if v > version and rule is not same}
            if version < LOWEST and rules:
                for form in forms(op, version)[::every]:
                    if not form.refused:
                        yield op, opset, form


def check(chosen, folder):
    ready, expected, feeds, wrong = defaultdict(dict), {}, {}, []
    for number, (op, opset, form) in enumerate(chosen):
        path = folder / "form.onnx"
        try:
            written(model_of(op, opset, form), path)
        except InputError:
            continue  # onnxruntime has no kernel for it
        model, problems = imported(path)
        allowed = REFUSED.get(op)
        wrong += [
            f"{op} at opset {opset}, {form}: {each}"
            for each in problems
            if allowed is None or allowed not in each.why
        ]
        if model is not None:
            name = f"f{number}"
            (sample,) = made_up(path, model_inputs(model), 1)
            ready[opset_of(model)][name] = model
            expected[name], feeds[name] = sample.outputs, sample.inputs
    for models in ready.values():
        for start in range(0, len(models), MERGED):
            names = list(models)[start : start + MERGED]
            outputs = run({n: models[n] for n in names}, {n: feeds[n] for n in names}, folder)
            for name in names:
                found = differences(outputs[name], expected[name])
                wrong += [f"{chosen[int(name[1:])]}: {why}" for why in found]
    assert not wrong, "\n".join(wrong)


def test_some_forms_of_old_opsets_are_compiled_as_onnxruntime_computes_them(tmp_path):
    check(list(old_forms(EVERY)), tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_all_forms_of_old_opsets_are_compiled_as_onnxruntime_computes_them(tmp_path):
    check(list(old_forms(1)), tmp_path)

"""Every operator, in many forms: compiled with the reference's results, or refused by name.

The forms vary attributes, omitted and constant inputs, element types, ranks and shapes. Each is imported by itself; those
that are accepted are compiled together, so that thousands take minutes.
"""

from collections import defaultdict
from itertools import groupby

import pytest
from forms_all import forms
from forms_run import MERGED, differences, imported, reference, run

from edgepack.onnxfile import opset_of

_ACTIVATIONS = "does not give a parameter of its activations"

REFUSED = {
    "DeformConv": ("not supported",),
    "GRU": (_ACTIVATIONS,),
    "LSTM": (_ACTIVATIONS,),
    "MaxUnpool": ("what the indices mean",),
    "RNN": (_ACTIVATIONS,),
    "Resize": ("integers are rounded in fixed point", "whole sizes"),
    "RoiAlign": ("TVM takes the maximum of the interpolated values",),
    "TopK": ("TVM's runtime sorts only",),
}
"""Operators of which some forms are refused, and why."""

EVERY = 32  # of an operator's forms, one in so many is tested always


def some_forms():
    """The first form of each operator, and one in ``EVERY`` of the others."""
    return [
        form
        for _, each in groupby(
            sorted(forms(), key=lambda form: form.operator), key=lambda form: form.operator
        )
        for form in list(each)[::EVERY]
    ]


def check(chosen, folder, caplog):
    wrong, ready = [], defaultdict(dict)
    expected, feeds = {}, {}
    for number, form in enumerate(chosen):
        path = folder / "form.onnx"
        results = reference(form, path)
        if results is None:
            continue
        model, problems = imported(path)
        if model is not None:
            name = f"f{number}"
            ready[opset_of(model)][name] = model
            expected[name], feeds[name] = results, form.feeds()
        for problem in problems:
            named = problem.operator == form.operator and problem.why and problem.next
            if not named or not any(why in problem.why for why in REFUSED.get(form.operator, ())):
                wrong.append(f"{form}: {problem}")
    for models in ready.values():
        for start in range(0, len(models), MERGED):
            names = list(models)[start : start + MERGED]
            outputs = run(
                {name: models[name] for name in names}, {name: feeds[name] for name in names}, folder
            )
            for name in names:
                found = differences(outputs[name], expected[name])
                wrong += [f"{chosen[int(name[1:])]}: {why}" for why in found]
    wrong += [record.getMessage() for record in caplog.records if record.name.startswith("edgepack")]
    assert not wrong, "\n".join(wrong)


def test_some_forms_of_every_operator_give_the_reference_s_results_or_are_refused(tmp_path, caplog):
    check(some_forms(), tmp_path, caplog)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_all_forms_give_the_reference_s_results_or_are_refused(tmp_path, caplog):
    check(list(forms()), tmp_path, caplog)

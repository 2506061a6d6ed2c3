"""The code in docs/add-a-compression-method.md works as described."""

import re
from pathlib import Path

from edgepack.compression.method import Context
from edgepack.compression.registry import __file__ as registry
from edgepack.torchnet.outputs import accuracy

GUIDE = Path(registry).parents[2] / "docs" / "add-a-compression-method.md"


def test_the_guides_method_and_its_test_work(teacher, data, inputs):
    method, test = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    names = {"Context": Context, "accuracy": accuracy}
    exec(compile(method, "zero_weights.py", "exec"), names)  # noqa: S102 - our own documentation
    assert names["METHOD"].name == "zero-weights"
    exec(compile(test, "test_zero_weights.py", "exec"), names)  # noqa: S102
    names["test_a_fifth_of_the_weights_is_zero_and_accuracy_stays"](teacher, data, inputs)


def test_the_guide_shows_the_registry_as_it_is():
    diff = re.search(r"```diff\n(.*?)```", GUIDE.read_text(), re.DOTALL).group(1)
    before = "\n".join(line[1:] for line in diff.splitlines() if not line.startswith("+"))
    text = Path(registry).read_text()
    for block in before.split("\n\n"):
        assert block in text

"""Generate ``schemas/*.json`` and the tables of keys and methods in ``docs/`` from the models.

Run it after changing a field of a recipe, target or device, or a compression method. A test checks that the
files are up to date.
"""  # noqa: INP001 - a script, not a package

import re
from pathlib import Path

from edgepack.compression.registry import METHODS
from edgepack.config.recipe import Recipe
from edgepack.config.schema import KINDS, render
from edgepack.config.tables import methods_table, reachable, table
from edgepack.config.target import Target

ROOT = Path(__file__).resolve().parent.parent
PAGES = {"recipe.md": (Recipe,), "add-a-target.md": (Target,)}
_KEYS = re.compile(r"(<!-- keys: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_METHODS = re.compile(r"(<!-- methods -->\n).*?(<!-- end -->)", re.DOTALL)


def generated() -> dict[Path, str]:
    """Return the text of each generated file."""
    files = {ROOT / "schemas" / f"{kind}.schema.json": render(kind) for kind in KINDS}
    for name, roots in PAGES.items():
        models = {model.__name__: model for root in roots for model in reachable(root)}
        page = ROOT / "docs" / name
        text = _KEYS.sub(
            lambda found, models=models: f"{found[1]}{table(models[found[2]])}{found[3]}", page.read_text()
        )
        files[page] = _METHODS.sub(
            lambda found: f"{found[1]}{methods_table(METHODS.values())}{found[2]}", text
        )
    return files


if __name__ == "__main__":
    for path, text in generated().items():
        path.write_text(text)

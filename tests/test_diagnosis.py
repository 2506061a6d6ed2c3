"""Checks of this machine: a check that raises is reported, never fatal."""

import pytest

from edgepack import diagnosis
from edgepack.errors import EdgepackError


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        (EdgepackError("no network", why="DNS says no"), "DNS says no"),
        (EdgepackError("no network"), "no network"),
        (ImportError("libtvm.so: undefined symbol\nand more"), "libtvm.so: undefined symbol"),
        (AttributeError("x" * 500), "x" * 120),
        (OSError(), "OSError"),
        (RuntimeError(""), "RuntimeError"),
    ],
)
def test_any_exception_fails_the_check(error, detail):
    def check():
        raise error

    found = diagnosis._run_check("tvm", check, "reinstall")
    assert (found.ok, found.detail, found.hint) == (False, detail, "reinstall")


def test_a_check_that_passes_has_its_detail():
    found = diagnosis._run_check("cache", lambda: "3 GB free", "free some", required=False)
    assert (found.ok, found.detail, found.hint) == (True, "3 GB free", "")


def test_a_method_that_cannot_be_loaded_fails_its_check(monkeypatch):
    from edgepack.compression import registry

    count = len(registry.BUILT_IN)
    assert diagnosis._check_methods() == f"{count} compression methods from edgepack"
    broken = registry.Registry(registry.METHODS, {"low-rank": "of thin: ImportError: no torch"})
    monkeypatch.setattr(registry, "REGISTRY", broken)
    found = next(f for f in diagnosis.examine() if f.name == "methods")
    assert (found.ok, found.required, found.detail) == (
        False,
        False,
        "low-rank: of thin: ImportError: no torch",
    )


def test_missing_programs_are_named():
    assert diagnosis._check_programs("sh") == "sh"
    with pytest.raises(EdgepackError, match="not installed: no-such-program"):
        diagnosis._check_programs("sh", "/usr/no-such-program")

"""A small bundle for these tests, from real recipe and target objects."""

from edgepack.bundle.manifest import Contents, InputInfo, RecipeInfo, TargetInfo
from edgepack.config.recipe import Recipe
from edgepack.config.target import Target
from edgepack.spec import ModelFigures, Tensor

RECIPE = Recipe.model_validate_json(
    """{"edgepack": 1, "name": "digits", "model": {"source": "pkg:model"}, "targets": [{"target": "rpi4"}]}"""
)
TARGET = Target.model_validate_json(
    """{"edgepack": 1, "name": "rpi4", "title": "Raspberry Pi 4", "family": "raspberry_pi",
        "abi": {"arch": "aarch64", "libc": "2.31"},
        "tvm": {"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mcpu": "cortex-a72", "num-cores": 4},
        "cpu": {"name": "Cortex-A72", "cores": 4, "vector_bits": 128, "features": ["neon"], "l1d_kib": 32,
                "l2_kib": 1024},
        "memory_mib": 1024}"""
)
FILES = {
    "model/model.so": b"\x7fELF" + bytes(range(256)) * 9,
    "lib/libtvm_runtime.so": b"RUNTIME",
    "bin/edgepack-agent": b"#!agent",
    "sample/input-0.npy": b"",
}


def contents(**changes: object) -> Contents:
    fields: dict[str, object] = {
        "name": "digits",
        "version": "0.1.0",
        "agent_protocol": 1,
        "recipe": RecipeInfo.of(RECIPE, RECIPE.compress),
        "target": TargetInfo.of(TARGET),
        "tools": {"apache-tvm": "0.27.0.post1"},
        "inputs": (InputInfo(name="image", shape=(1, 1, 8, 8), dtype="float32"),),
        "outputs": (Tensor(name="logits", shape=(1, 10), dtype="float32"),),
        "compression": (ModelFigures(stage="source", parameters=100, macs=2000, size=400, score=0.975),),
    }
    return Contents(**(fields | changes))

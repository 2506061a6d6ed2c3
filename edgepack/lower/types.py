"""Element types that a target's CPU has no arithmetic for."""

from pathlib import Path

from edgepack.config.target import Target

_ARITHMETIC = {"float16": {"fullfp16", "avx512fp16"}, "bfloat16": {"bf16", "avx512bf16"}}  # CPU features


def slow_types(model: Path, target: Target) -> tuple[str, ...]:
    """Warnings about element types of an .onnx file that the target converts for every operation."""
    import onnx

    if target.gpu is not None:
        return ()
    graph = onnx.load_model(model, load_external_data=False).graph
    used = {tensor.data_type for tensor in graph.initializer}
    used |= {value.type.tensor_type.elem_type for value in (*graph.input, *graph.value_info)}
    names = [
        name
        for name, features in _ARITHMETIC.items()
        if getattr(onnx.TensorProto, name.upper()) in used and not features & set(target.cpu.features)
    ]
    return tuple(
        f"the model computes in {name}, for which the CPU of {target.name} has no arithmetic: every value is converted "
        "to float32 and back, which is slower than the same model in float32"
        for name in names
    )

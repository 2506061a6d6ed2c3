"""The memory that a compiled model needs while it runs."""

from pydantic import Field

from edgepack.spec.base import Count, Spec


class MemoryPlan(Spec):
    """Bytes of a model that is run by its own runtime, besides its code, inputs and outputs."""

    weights: Count = Field(description="Decoded weights, as the kernels read them.")
    arena: Count = Field(description="What kernels compute for other kernels, in one block.")
    arena_least: Count = Field(description="The least that any plan of that block needs.")
    workspace: Count = Field(description="Arrays inside kernels, for each thread.")

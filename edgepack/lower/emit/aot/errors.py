"""What this executor cannot do."""

from edgepack.errors import EdgepackError


class NeedsMachineError(EdgepackError):
    """The graph does something that is decided at run time."""

    def __init__(self, why: str) -> None:
        super().__init__("the model is not a fixed sequence of kernels", why=why)

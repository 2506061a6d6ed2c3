"""An artifact: a file in the store, by what it is and where it came from."""

from edgepack.spec import Spec

USER = "user"  # made_by of what the user brought: a digest in a cache key, never a file in the store


class Artifact(Spec):
    """A file in the content-addressed store."""

    kind: str  # weights, onnx, tuning-records, compiled-model, bundle, measurement, ...
    name: str  # a file name for people, e.g. digits-rpi4.edgepack
    sha256: str
    size: int  # bytes
    made_by: str  # the stage
    parents: tuple[str, ...] = ()  # sha256 of the artifacts it was made from

"""An artifact: a file in the store with its kind and provenance."""

from edgepack.spec import Spec

USER = "user"  # made_by of the user's own files: digests in a cache key, never files in the store


class Artifact(Spec):
    """A file in the content-addressed store."""

    kind: str  # weights, onnx, tuning-records, compiled-model, bundle, measurement, ...
    name: str  # a file name for display, e.g. digits-rpi4.edgepack
    sha256: str
    size: int  # bytes
    made_by: str  # the stage that produced it
    parents: tuple[str, ...] = ()  # sha256 of the artifacts that it was produced from

"""Small files of each version, as the edgepack of that time wrote them, and copies of them with another version.

``NAME-1`` are from before the rooms; ``NAME-1-…`` from just after, when fields had been added and the version had not
been raised. In the bundles a shell script stands in for the agent: it answers with the sample's own outputs, and with
one latency for every inference.
"""

import io
import json
import tarfile
from pathlib import Path

import zstandard

from edgepack.bundle import frame, ustar
from edgepack.bundle.layout import MANIFEST

FILES = Path(__file__).with_name("files")
BUNDLES = sorted(FILES.glob("bundle-*.edgepack"))
REPORTS = sorted(FILES.glob("report-*.json"))
NEWEST = FILES / "bundle-4.edgepack"


def unpack(bundle: Path) -> dict[str, tuple[bytes, int]]:
    """Contents and mode of each file of a bundle, read without edgepack."""
    data = zstandard.ZstdDecompressor().decompressobj().decompress(bundle.read_bytes())
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {member.name: (tar.extractfile(member).read(), member.mode) for member in tar}


def repack(bundle: Path, out: Path, manifest: bytes) -> Path:
    """The same bundle with another manifest."""
    files = unpack(bundle) | {MANIFEST: (manifest, 0o644)}
    tar = b"".join(
        ustar.header(ustar.Header(path, len(data), mode)) + data + ustar.padding(len(data))
        for path, (data, mode) in files.items()
    )
    out.write_bytes(frame.compressor().compress(tar + ustar.END))
    return out


def of_version(bundle: Path, out: Path, version: int) -> Path:
    """The bundle as written by an edgepack with an additional field in its manifests."""
    value = json.loads(unpack(bundle)[MANIFEST][0]) | {"edgepack": version, "surprise": 1}
    return repack(
        bundle, out, json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False).encode() + b"\n"
    )

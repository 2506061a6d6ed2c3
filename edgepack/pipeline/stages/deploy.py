"""``deploy``: install the release over SSH. Never answered from the store: the board is asked what it runs."""

from collections.abc import Iterator

from edgepack.engine.stage import Ingredients, Request, Skip, StageResult, Work
from edgepack.pipeline.bundle_on_board import install_bundle
from edgepack.pipeline.contract import NO_DEVICE, DeviceStage
from edgepack.pipeline.state import DeviceRun, Resources
from edgepack.spec import Count, Spec


class DeploySpec(Spec):
    """Where to."""

    device: str


class DeployFigures(Spec):
    """What the board runs now, and whether that took anything."""

    digest: str
    changed: bool
    bytes_sent: Count


class DeployStage(DeviceStage[DeploySpec, DeployFigures]):
    """The release becomes what the board runs."""

    name = "deploy"
    figures = DeployFigures
    cached = False

    def ingredients(self, spec: DeploySpec) -> Ingredients:
        """Nothing: it is done each time."""
        del spec
        return Ingredients()

    def requests(self, at: DeviceRun) -> Iterator[Request[DeploySpec] | Skip]:
        """One for the release alone."""
        if at.device is None:
            yield Skip(NO_DEVICE)
        elif at.candidate.deployed:
            yield Request(DeploySpec(device=at.device.name), {"bundle": at.build.artifacts["bundle"]})

    def run(self, work: Work[DeploySpec, Resources]) -> StageResult[DeployFigures]:
        """Install the bundle; when the board has it already, only the check is made."""
        done = install_bundle(work.resources.boards, work.spec.device, work.inputs["bundle"], work.progress)
        return StageResult(
            DeployFigures(digest=done.digest, changed=done.changed, bytes_sent=done.bytes_sent)
        )

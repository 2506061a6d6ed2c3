"""``deploy``: install the release over SSH. Never answered from the store: the board is asked what it runs."""

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

    def request(self, at: DeviceRun) -> Request[DeploySpec] | Skip | None:
        """The release alone is deployed."""
        if at.device is None:
            return Skip(NO_DEVICE)
        if at.candidate.deployed:
            return Request(DeploySpec(device=at.device.name), {"bundle": at.build.artifacts["bundle"]})
        return None

    def run(self, work: Work[DeploySpec, Resources]) -> StageResult[DeployFigures]:
        """Install the bundle; when the board has it already, only the check is made."""
        done = install_bundle(work.resources.boards, work.spec.device, work.inputs["bundle"], work.progress)
        return StageResult(
            DeployFigures(digest=done.digest, changed=done.changed, bytes_sent=done.bytes_sent)
        )

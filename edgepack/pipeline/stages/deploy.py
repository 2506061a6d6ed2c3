"""``deploy``: install the release over SSH. Never cached, since it depends on what the board runs."""

from edgepack.engine.stage import Ingredients, Request, Skip, StageResult, Work
from edgepack.pipeline.bundle_on_board import install_bundle
from edgepack.pipeline.contract import NO_DEVICE, DeviceStage
from edgepack.pipeline.state import DeviceRun, Resources
from edgepack.spec import Count, Spec


class DeploySpec(Spec):
    """The device to deploy to."""

    device: str


class DeployFigures(Spec):
    """The release that the board runs now, and whether it changed."""

    digest: str
    changed: bool
    bytes_sent: Count


class DeployStage(DeviceStage[DeploySpec, DeployFigures]):
    """Installs the release on a device."""

    name = "deploy"
    figures = DeployFigures
    cached = False

    def ingredients(self, spec: DeploySpec) -> Ingredients:
        """None, since it is never cached."""
        del spec
        return Ingredients()

    def request(self, at: DeviceRun) -> Request[DeploySpec] | Skip | None:
        """Only the release is deployed."""
        if at.device is None:
            return Skip(NO_DEVICE)
        if at.candidate.deployed:
            files = {role: at.build.artifacts[role] for role in ("bundle", *at.kernels)}
            return Request(DeploySpec(device=at.device.name), files)
        return None

    def run(self, work: Work[DeploySpec, Resources]) -> StageResult[DeployFigures]:
        """Install the bundle; if the board has it already, it is only checked."""
        done = install_bundle(
            work.resources.boards,
            work.spec.device,
            work.inputs["bundle"],
            work.progress,
            kernels=work.inputs.get("kernels"),
            built_here=True,
        )
        return StageResult(
            DeployFigures(digest=done.digest, changed=done.changed, bytes_sent=done.bytes_sent)
        )

"""An order of steps that makes no sense is refused, with the reason."""

from dataclasses import replace

from edgepack.compression.ordering import misplaced
from edgepack.compression.prune_channels import METHOD as PRUNE
from edgepack.compression.prune_channels import PruneChannels
from edgepack.compression.quantize_static import METHOD as QUANTIZE
from edgepack.compression.quantize_static import QuantizeStatic

METHODS = {
    "prune-channels": replace(PRUNE, destroys={"quantized": "channels of integers cannot be ranked"}),
    "quantize-static": replace(QUANTIZE, leaves=frozenset({"quantized"})),
}
CUT = PruneChannels(method="prune-channels", ratio=0.5)
QUANTIZED = QuantizeStatic(method="quantize-static")


def test_what_destroys_the_result_of_an_earlier_step_is_named():
    assert list(misplaced((CUT, QUANTIZED), METHODS)) == []
    (found,) = misplaced((CUT, QUANTIZED, CUT), METHODS)
    assert found == (
        2,
        "prune-channels makes no sense after quantize-static: channels of integers cannot be ranked",
    )

"""Rules for Resize and Upsample, whose coordinates were fixed until opset 10 and are attributes since 11."""

from typing import TYPE_CHECKING

from edgepack.onnxfile.opset.site import RefusedError, Site

if TYPE_CHECKING:
    import numpy as np

_ASYMMETRIC = {"coordinate_transformation_mode": "asymmetric"}


def scales_as_input(site: Site) -> None:
    """Upsample 9: the attribute ``scales`` becomes an input."""
    site.inputs(site.node.input[0], site.tensor(site.take("scales"), "float32"))


def asymmetric(site: Site) -> None:
    """Resize 11: until 10, the coordinate in the input was that in the output divided by the scale.

    In mode nearest, the specification of opset 10 does not say how coordinates are rounded. onnxruntime rounds up
    along axes that become smaller, and down along others. A node that has both kinds becomes two.
    """
    data, scales = site.node.input
    mode, known = site.attribute("mode", "nearest"), site.constant(1)
    if mode != "nearest":
        site.replace("Resize", data, "", scales, mode=mode, **_ASYMMETRIC)
        return
    if (
        known is None or (known >= 1).all()
    ):  # if they are computed, the comparison of the import finds smaller ones
        site.replace("Resize", data, "", scales, mode=mode, nearest_mode="floor", **_ASYMMETRIC)
        return
    if (known > 1).any():
        larger = site.tensor(_at_least_one(known), "float32")
        data = site.add("Resize", data, "", larger, mode=mode, nearest_mode="floor", **_ASYMMETRIC)
        scales = site.tensor(_at_most_one(known), "float32")
    site.replace("Resize", data, "", scales, mode=mode, nearest_mode="ceil", **_ASYMMETRIC)


def _at_least_one(scales: "np.ndarray") -> "np.ndarray":
    return scales.clip(min=1)


def _at_most_one(scales: "np.ndarray") -> "np.ndarray":
    return scales.clip(max=1)


def half_pixel_rounded(site: Site) -> None:
    """Resize 13: ``tf_half_pixel_for_nn``, whose coordinate is larger by 0.5 than that of ``half_pixel``, was removed."""
    if site.attribute("coordinate_transformation_mode") != "tf_half_pixel_for_nn":
        return
    if site.attribute("mode", "nearest") != "nearest" or site.attribute("nearest_mode") != "floor":
        why = "the coordinates tf_half_pixel_for_nn were removed in opset 13, except for nearest_mode floor"
        raise RefusedError(why, "export with the coordinates half_pixel, align_corners or asymmetric")
    site.take("coordinate_transformation_mode")
    site.take("nearest_mode")
    site.give(coordinate_transformation_mode="half_pixel", nearest_mode="round_prefer_ceil")

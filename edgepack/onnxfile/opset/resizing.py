"""Rules for Resize and Upsample, whose coordinates were fixed until opset 10 and are attributes since 11."""

from edgepack.onnxfile.opset.site import RefusedError, Site

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
    mode, factors = site.attribute("mode", "nearest"), site.constant(1)
    if mode != "nearest":
        site.replace("Resize", data, "", scales, mode=mode, **_ASYMMETRIC)
        return
    # Of computed scales, those below 1 are found when the imported model is compared with the file.
    if factors is None or (factors >= 1).all():
        site.replace("Resize", data, "", scales, mode=mode, nearest_mode="floor", **_ASYMMETRIC)
        return
    if (factors > 1).any():
        larger = site.tensor(factors.clip(min=1), "float32")
        data = site.add("Resize", data, "", larger, mode=mode, nearest_mode="floor", **_ASYMMETRIC)
        scales = site.tensor(factors.clip(max=1), "float32")
    site.replace("Resize", data, "", scales, mode=mode, nearest_mode="ceil", **_ASYMMETRIC)


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

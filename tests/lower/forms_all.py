"""All forms."""

from collections.abc import Iterator
from itertools import chain

import forms_elementwise
import forms_models
import forms_recurrent
import forms_reductions
import forms_shapes
import forms_signals
import forms_windows
from forms import Form


def forms() -> Iterator[Form]:
    """Yield every form of every operator."""
    return chain(
        forms_elementwise.unary(),
        forms_elementwise.binary(),
        forms_elementwise.several(),
        forms_recurrent.layers(),
        forms_shapes.views(),
        forms_shapes.repeats(),
        forms_shapes.lookups(),
        forms_shapes.generated(),
        forms_reductions.reductions(),
        forms_reductions.normalisations(),
        forms_reductions.products(),
        forms_windows.convolutions(),
        forms_windows.pools(),
        forms_windows.unpooled(),
        forms_signals.resizes(),
        forms_signals.spectra(),
        forms_signals.quantization(),
        forms_models.attention(),
        forms_models.generated(),
        forms_models.control(),
        forms_models.narrow(),
        forms_models.sequences(),
    )

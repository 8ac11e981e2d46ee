"""What is measured of `fundus_quality`: drawn photographs whose truth is known."""

from collections.abc import Iterator

from benchmarks.image_quality import fundi
from benchmarks.measured import Agreement, Measured, Row, agreement
from models.builtin.fundus_quality.model import FundusQuality
from models.contract import Context, Image
from models.training.fundus_phantom import fundus
from results import codes


def agreements() -> Iterator[Row]:
    """Three seeds of three widths of vessels and four kinds of blur."""
    for name, pairs in fundi(range(3)):
        measured, truth = zip(*pairs, strict=True)
        yield name, *agreement(measured, truth).cells(digits=2)


def sharpness() -> Iterator[Row]:
    """One eye at five kinds of focus: what is measured has to follow."""
    model, headers = FundusQuality(), {"Modality": "OP", "ImageLaterality": "R"}
    for blur in (0.7, 1.2, 2.0, 3.0, 4.5):
        image = Image(array=fundus(seed=4, blur_pixels=blur).rgb, spacing_mm=None, headers=headers)
        findings = model.run(image, Context(headers=headers))
        edge = next(
            (one.value for one in findings.measurements if one.name == codes.EDGE_BLUR_OF_FIELD), None
        )
        said = next((one.value.meaning for one in findings.grades if one.label == "Sharpness"), "refused")
        yield f"{blur:g} pixels", "none" if edge is None else f"{edge:.2f}", said


TABLES = (
    Measured(
        name="phantoms",
        title="Drawn photographs of both eyes, three widths of vessels, in and out of focus",
        columns=("what", *Agreement.COLUMNS),
        rows=agreements,
        note="Drawn vessels stand out more clearly than the finest real ones: real images do worse.",
    ),
    Measured(
        name="sharpness",
        title="One drawn photograph of 640 pixels, more and more out of focus",
        columns=("blur", "blur as measured, thousandths of the field", "sharpness"),
        rows=sharpness,
    ),
)

"""What is measured of `mg_density_estimate`: drawn mammograms whose truth is known."""

from collections.abc import Iterator

from benchmarks.image_quality import mammograms
from benchmarks.measured import Agreement, Measured, Row, agreement


def agreements() -> Iterator[Row]:
    """Four seeds of each density, for presentation and for processing."""
    for name, pairs in mammograms(range(4)):
        measured, truth = zip(*pairs, strict=True)
        yield name, *agreement(measured, truth).cells(digits=2)


TABLES = (
    Measured(
        name="phantoms",
        title="Drawn mammograms of both views, 5 to 90 % dense, three levels of noise, five sizes of breast",
        columns=("what", *Agreement.COLUMNS),
        rows=agreements,
        note="Phantoms have clean edges and two kinds of tissue: real images do worse.",
    ),
)

"""Put the best of the last run's pictures into the documentation: `make pictures`."""

from pathlib import Path

from PIL import Image

from tests.peers.browser import PICTURES

DOCS = Path(__file__).resolve().parents[2] / "docs" / "pictures"
#: Its name in the documentation → the test's name for it.
CHOSEN = {
    "ohif": "ohif-slice-30",
    "ohif-segmentation": "ohif-CT-segmentation",
    "ohif-marks": "ohif-CT-marks",
    "ohif-report": "ohif-CT-report",
    "ohif-map": "ohif-MR-map",
    "ohif-radiograph": "ohif-CR-segmentation",
    "volview-mr": "volview-MR",
    "console": "console-first-page",
    "console-queue": "console-queue",
}
WIDTH = 1200


def renew() -> None:
    """Smaller, and in 256 colours: a page of documentation is no archive."""
    for name, seen in CHOSEN.items():
        picture = Image.open(PICTURES / f"{seen}.png").convert("RGB")
        height = round(picture.height * WIDTH / picture.width)
        small = picture.resize((WIDTH, height), Image.Resampling.LANCZOS)
        small.quantize(256, dither=Image.Dither.NONE).save(DOCS / f"{name}.png", optimize=True)


if __name__ == "__main__":
    renew()

"""For every model that comes with Wetread a rule to begin with: as its manifest says what it is made for.

`wetread init` shows them commented out, and the demo of a model has the one of that model.
"""

from collections.abc import Iterator

from models.manifest import Manifest
from models.registry import every_found
from models.trust import BUILT_IN


def built_in() -> tuple[Manifest, ...]:
    """The manifests of the models that come with Wetread, by name."""
    return tuple(found.manifest for found in every_found() if found.trust == BUILT_IN)


def rule_for(manifest: Manifest) -> str:
    """The lines of a [[rule]] that gives a model all that it is made for, and nothing else."""
    return "\n".join(_lines(manifest))


def _lines(manifest: Manifest) -> Iterator[str]:
    wanted = manifest.input
    yield f'name = "{manifest.name}"'
    yield f'model = "{manifest.name}"'
    yield f"modality = {_listed(wanted.modality)}"
    if wanted.body_part:
        yield f"body_part = {_listed(wanted.body_part)}"
    if manifest.given == "image":
        yield 'each = "image"'  # a job for every image
        return
    if wanted.contrast is not None:
        yield f"contrast = {str(wanted.contrast).lower()}"
    if wanted.spacing_max_mm is not None:
        yield f"spacing_max_mm = {wanted.spacing_max_mm:g}"
    yield f"at_least = {wanted.minimum_slices}"
    yield 'choose = "thinnest"'


def commented(manifests: tuple[Manifest, ...], *, without: str) -> str:
    """The rules of all of them but one, commented out, each below what its model is for."""
    said = []
    for manifest in manifests:
        if manifest.name != without:
            lines = ["[[rule]]", *_lines(manifest), "deliver_to = []"]
            said.append("\n".join([f"# {manifest.title}:", *(f"# {line}" for line in lines)]))
    return "\n\n".join(said)


def _listed(words: tuple[str, ...]) -> str:
    return "[" + ", ".join(f'"{word}"' for word in words) + "]"

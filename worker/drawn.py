"""
A model that draws first, for another that measures what was drawn.

A manifest names with `drawn_by` the setting in which a rule names the other model. That one is opened,
admitted and run like any other, on the same images, before the first one is admitted: the two are never
loaded into more memory than the budget has, and what the other drew is all that stays of its run.
"""

from ledger.errors import StudyError
from models.contract import Context, Drawn, Model, SettingsNotUnderstood, grid_shape
from models.registry import provenance_of, trust_in
from results.findings import Findings, refused
from worker.exchange import RunRequest
from worker.given import Usable
from worker.residents import Resident, Residents
from worker.suitable import why_unsuitable


def who_draws(request: RunRequest, model: Model, residents: Residents) -> Resident | None:
    """The model that draws for `model`; None where the rule names none.

    Raises `SettingsNotUnderstood` where it is none that could, and as `Residents.open` does.
    """
    key = model.manifest.drawn_by
    reference = request.settings.get(key, "") if key else ""
    if not reference:
        return None
    if not isinstance(reference, str):
        raise SettingsNotUnderstood(f"{model.manifest.identity}: {key} is the name of a model")
    other = residents.open(reference, allow_python=request.allow_python_models, models=request.models)
    manifest = other.model.manifest
    if manifest.given != model.manifest.given or "segmentation" not in manifest.tasks or manifest.drawn_by:
        raise SettingsNotUnderstood(
            f"{model.manifest.identity}: {manifest.identity} cannot draw for it; {key} names a model that "
            f"is given a {model.manifest.given} and draws segments by itself"
        )
    return other


def draw(
    other: Resident, request: RunRequest, read: Usable, residents: Residents, held: int
) -> tuple[Model, Findings]:
    """What `other` says of the images, with the model that said it. Raises as `Residents.admit` and as models
    do.
    """
    manifest = other.model.manifest
    because = why_unsuitable(manifest.input, read.headers, read.source, model=manifest.identity)
    if because is not None:
        return other.model, refused(because)
    admission = residents.admit(other, grid_shape(read.given), request.peaks, held)
    context = Context(headers=read.headers, memory=admission.memory)
    try:
        return admission.model, admission.model.run(read.given, context)
    except StudyError as unsuitable:
        return admission.model, refused(str(unsuitable))


def drawn_of(model: Model, findings: Findings, request: RunRequest) -> Drawn:
    """What is handed on: the findings, and exactly which model they are of."""
    provenance = provenance_of(model, {}, trust_in(model, request.models))
    return Drawn(
        findings=findings,
        identity=provenance.identity,
        digest=str(provenance.weights_digest or provenance.code_digest),
        trust=provenance.trust,
    )

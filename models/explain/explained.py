"""
Findings with what a rule asked for besides them: a map of where a finding came from, a map of uncertainty.

A saliency map is not a finding, and says so wherever it is shown (`HeatMap.explains`).
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ledger.job import Outcome
from models.contract import Context, Given, SettingsNotUnderstood
from models.explain.grad_cam import grad_cam
from models.explain.occlusion import occlusion
from models.explain.settings import ExplainSettings
from models.explain.subject import Explainable, Explaining
from models.explain.uncertainty import ask
from models.prepare.ladder import is_out_of_memory
from results.findings import Concept, Findings, HeatMap

CONTRIBUTION = Concept("CONTRIBUTION", "99WETREAD", "Relative contribution to a decision")
UNCERTAINTY = Concept("UNCERTAINTY", "99WETREAD", "Uncertainty of a model")
NO_UNITS = Concept("1", "UCUM", "no units")

_METHODS = {"grad_cam": "Grad-CAM", "occlusion": "occlusion"}


def explained(
    model: object, given: Given, context: Context, findings: Findings, wish: ExplainSettings
) -> Findings:
    """`findings` of `model` with what `wish` asks for. Refused findings have nothing to explain.

    Raises `SettingsNotUnderstood` where this model cannot give it, or has no such label.
    """
    if not wish.wanted or findings.outcome is Outcome.REFUSED:
        return findings
    if not isinstance(model, Explaining):
        raise SettingsNotUnderstood(
            "the rule asks for an explanation, and this model's runtime gives none: leave out explain and "
            "uncertainty of its settings"
        )
    subject = model.explainable(given, context)
    try:
        return _with(subject, findings, wish)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
    # What was found is there already, and worth more than what it came from.
    short = "Memory was too short for the explanation that was asked for."
    return replace(findings, cautions=(*findings.cautions, short))


def _with(subject: Explainable, findings: Findings, wish: ExplainSettings) -> Findings:
    maps, cautions = list(findings.maps), list(findings.cautions)
    if wish.explain != "off":
        channel = _channel(subject, findings, wish.explain_of)
        if channel is None:
            cautions.append("Nothing was found that could be explained.")
        else:
            maps.append(_explanation(subject, channel, wish))
    if wish.uncertainty != "off":
        if wish.uncertainty == "ensemble" and not subject.others:
            raise SettingsNotUnderstood(
                'the rule asks for uncertainty = "ensemble", and this model is a single network: use "flips"'
            )
        asked = ask(subject, wish.uncertainty, wish.uncertainty_of)
        askers = "mirrored images" if wish.uncertainty == "flips" else "an ensemble"
        how = f"{wish.uncertainty_of} over {askers}"
        if subject.dense:
            values = subject.back(asked.uncertainty)
            maps.append(
                HeatMap(label=f"Uncertainty ({how})", quantity=UNCERTAINTY, unit=NO_UNITS, values=values)
            )
        else:
            much = f"{float(asked.uncertainty):.2f}"
            cautions.append(f"Uncertainty of the model here, from 0 to 1: {much} ({how}).")
    return replace(findings, maps=tuple(maps), cautions=tuple(cautions))


def _explanation(subject: Explainable, channel: int, wish: ExplainSettings) -> HeatMap:
    if wish.explain == "grad_cam":
        saliency = grad_cam(subject, channel, wish.explain_layer)
    else:
        sides = subject.given.shape[1:]
        seen = [side if side > 0 else n for side, n in zip(subject.window or sides, sides, strict=True)]
        tile = [max(1, -(-min(pair) // wish.explain_tiles)) for pair in zip(seen, sides, strict=True)]
        saliency = occlusion(subject, channel, tile).clamp(min=0)
    label = subject.labels[channel]
    return HeatMap(
        label=f"Explanation of {label} ({_METHODS[wish.explain]})",
        quantity=CONTRIBUTION,
        unit=NO_UNITS,
        values=_relative(subject.back(saliency.float())),
        explains=label,
    )


def _relative(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """0 … 1, the largest being 1: between two runs nothing else could be compared anyway."""
    values = np.nan_to_num(np.asarray(values, np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    largest = float(values.max(initial=0.0))
    return values / np.float32(largest) if largest > 0 else np.zeros_like(values)


def _channel(subject: Explainable, findings: Findings, wanted: str) -> int | None:
    """The channel of the label that is asked for, or of what was found most surely; None: nothing was."""
    if wanted:
        if wanted not in subject.labels:
            have = ", ".join(label for label in subject.labels if label)
            raise SettingsNotUnderstood(f"explain_of = {wanted!r}: the model has {have}")
        return subject.labels.index(wanted)
    for label in _most_sure(findings):
        if label in subject.labels:
            return subject.labels.index(label)
    return None


def _most_sure(findings: Findings) -> list[str]:
    verdicts = sorted(findings.verdicts, key=lambda one: (one.present, one.probability), reverse=True)
    voxels = {segment.label: int(findings.mask(segment.number).sum()) for segment in findings.segments}
    drawn = sorted((label for label, count in voxels.items() if count), key=lambda label: -voxels[label])
    return [verdict.label for verdict in verdicts] + drawn

"""Do a rule and the model that it names fit each other? Asked at the start, when both are known.

A rule may only narrow what a manifest says. Where it gives the model something else than the model is made
for, every job of it would be refused in the night; the sentence says what to change.
"""

from dicom_node.routing import Rule
from models.manifest import Manifest


def misfit(rule: Rule, manifest: Manifest) -> str | None:
    """Why jobs of the rule could not be run by the model, as a sentence; None where they can."""
    return _what_it_is_given(rule, manifest) or _names(rule, manifest) or _modality(rule, manifest)


def _what_it_is_given(rule: Rule, manifest: Manifest) -> str | None:
    several = manifest.given == "series" and len(manifest.inputs) > 1
    image, timeline = manifest.given == "image", manifest.given == "timeline"
    listed = ", ".join(one.name for one in manifest.inputs)
    wrong = (
        (
            several and not rule.inputs,
            f"several series: the rule needs a [[rule.inputs]] for each of {listed}",
        ),
        (
            bool(rule.inputs) and not several,
            f"one {'image' if image else 'series'}: leave out the rule's inputs",
        ),
        (image and rule.each != "image", 'single images: the rule needs each = "image"'),
        (not image and rule.each == "image", 'whole series: leave out each = "image"'),
        (
            timeline and not rule.waits,
            "earlier examinations: the rule needs priors, with wait_s for how long a job waits for them",
        ),
        (not timeline and rule.waits, "no earlier examinations: leave out wait_s of the rule's priors"),
    )
    return next((f"{manifest.identity} is given {what}" for holds, what in wrong if holds), None)


def _names(rule: Rule, manifest: Manifest) -> str | None:
    if not rule.inputs:
        return None
    asked, given = [one.name for one in manifest.inputs], [one.name for one in rule.inputs]
    unfilled = [name for name in asked if name not in given]
    unknown = [name for name in given if name not in asked]
    if unfilled:
        return f"nothing fills input {', '.join(unfilled)} of {manifest.identity}"
    if unknown:
        return f"{manifest.identity} has no input {', '.join(unknown)}, only {', '.join(asked)}"
    if asked[0] != given[0]:
        return (
            f"findings of {manifest.identity} are on the grid of {asked[0]}: put that input first, "
            f"not {given[0]}"
        )
    return None


def _modality(rule: Rule, manifest: Manifest) -> str | None:
    """A modality that the model is not made for would be refused, each time."""
    for one in manifest.inputs:
        mine = next((each for each in rule.inputs if each.name == one.name), None)
        asked = (mine.modality if mine else frozenset()) or rule.modality
        if wrong := sorted(asked - set(one.modality)):
            about = f"input {one.name} of " if rule.inputs else ""
            return (
                f"{about}{manifest.identity} is made for {' or '.join(one.modality)}, and the rule asks for "
                f"{' or '.join(wrong)}"
            )
    return None

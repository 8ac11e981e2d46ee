"""
What a rule asks for besides the findings: an explanation, an uncertainty.

    [[rule]]
    model = "pneumonia"
    settings = { explain = "grad_cam", uncertainty = "flips" }

These keys belong to every model and are taken out before a model sees its own settings.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationError

from models.contract import SettingsNotUnderstood
from models.manifest import Strict


class ExplainSettings(Strict):
    """All that a rule can ask for; each is off unless it is asked for."""

    explain: Literal["off", "grad_cam", "occlusion"] = "off"
    explain_of: str = ""  #: the label to explain; empty: what the model found most surely
    explain_layer: str = ""  #: of the network; empty: the last (for voxel by voxel: the coarsest) convolution
    explain_tiles: int = Field(default=8, ge=2, le=32)  #: of occlusion, along each axis
    uncertainty: Literal["off", "flips", "ensemble"] = "off"
    uncertainty_of: Literal["entropy", "deviation"] = "entropy"

    @property
    def wanted(self) -> bool:
        """Whether anything is asked for."""
        return self.explain != "off" or self.uncertainty != "off"


def parted(settings: Mapping[str, object]) -> tuple[ExplainSettings, dict[str, object]]:
    """(what is asked for here, the model's own settings). Raises `SettingsNotUnderstood`."""
    reserved: dict[str, Any] = {
        key: value for key, value in settings.items() if key in ExplainSettings.model_fields
    }
    try:
        asked = ExplainSettings.model_validate(reserved)
    except ValidationError as error:
        wrong = "; ".join(f"{one['loc'][0]} = {one['input']!r}: {one['msg']}" for one in error.errors())
        raise SettingsNotUnderstood(f"the rule asks for an explanation that there is not: {wrong}") from error
    return asked, {key: value for key, value in settings.items() if key not in reserved}

"""What parts of a model have in common, whichever code runs them."""

from dataclasses import dataclass, field
from typing import Annotated, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from models.contract import Memory
from models.manifest import Strict
from models.runtimes.nnunet_given import Images, Orientation
from models.runtimes.nnunet_predict import Resampled

StepSize = Annotated[float, Field(gt=0, le=1)]


class Settings(Strict):
    """What a rule may choose anew for its jobs."""

    mirror: bool | None = None
    step_size: StepSize | None = None
    resampling: Resampled | None = None


class PartOption(Strict):
    """One folder of several, whose label k (up to `keep`) becomes `first` + k."""

    folder: str
    first: int = Field(0, ge=0, le=65535)
    keep: int | None = Field(None, ge=0)  #: 0: it draws nothing, another one starts from it


class Options(Strict):
    """`[options]` of a manifest."""

    parts: tuple[PartOption, ...] = ()  #: none: the one folder that the package has
    folds: tuple[int | Literal["all"], ...] = ()  #: none: all numbered ones that there are
    checkpoint: str = "checkpoint_final.pth"
    mirror: bool = (
        True  #: mean over mirrored windows, where the training mirrored: up to eight times the time
    )
    step_size: StepSize = 0.5  #: from window to window, as a share of its sides
    resampling: Resampled = "cubic"  #: of image and logits, as the plans say; or cheaper ways
    streaming: bool = True  #: labels are taken while windows are computed, where no resampling is needed
    orientation: Orientation | None = None  #: of the training images; None: as the plans say, or as given
    task: str = ""  #: of TotalSegmentator, for the reader: `models.totalsegmentator` knows its labels


@dataclass(slots=True)
class Running:
    """What parts that run one after the other know of one another."""

    limit: Memory | None
    earlier: dict[str, NDArray[np.uint16]] = field(default_factory=dict)  #: by the name of the configuration
    cautions: list[str] = field(default_factory=list)


class Part(Protocol):
    """One folder, ready to run."""

    @property
    def configuration_name(self) -> str:
        """What the plans call it: "2d", "3d_fullres"."""

    def labels(self, images: Images, options: Options, running: Running) -> NDArray[np.uint16]:
        """The label map on the grid of `images`. Raises `NotForThisModel` and `OutOfMemory`."""

    def estimate(self, shape: tuple[int, int, int], options: Options) -> Memory:
        """What a grid of `shape` takes."""

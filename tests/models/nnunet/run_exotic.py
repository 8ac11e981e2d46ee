"""Run where nnU-Net's own package is: our runtime on the folders that need it."""

import contextlib
import io
import sys
from pathlib import Path

import numpy as np

from models.runtimes.nnunet_extra import ExtraPart
from tests.models.nnunet.test_equality import agreement, findings_of, model_of

_CASCADE = (
    {"folder": "3d_lowres", "first": 0, "keep": 0},
    {"folder": "3d_cascade_fullres", "first": 0},
)

if __name__ == "__main__":
    at = Path(sys.argv[1])
    image = np.load(at / "image.npy")
    printed = io.StringIO()
    answers = {}
    with contextlib.redirect_stdout(printed):
        for name, options in {"other_order": {}, "cascade": {"parts": _CASCADE}}.items():
            model = model_of(at / name / "model", **options)
            assert isinstance(model._parts[-1][0], ExtraPart)
            findings = findings_of(model, image, (1.0, 1.0, 1.0))
            answers[name] = agreement(findings, np.load(at / name / "reference.npy"))
    print("stdout of nnU-Net", len(printed.getvalue()))
    for name, value in answers.items():
        print(name, value)

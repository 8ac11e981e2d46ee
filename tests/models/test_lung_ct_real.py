"""Real chests: a reference that someone else drew, and one with a tumour."""

import highdicom as hd
import numpy as np
import pytest
import SimpleITK

from ledger.job import Outcome
from models.builtin.lung_ct.measure import value_of
from models.chest.anatomy import LEFT, RIGHT
from models.contract import Context
from results.codes import VOLUME
from tests.models import real
from tests.models.measuring import dice

pytestmark = pytest.mark.real


def test_both_lungs_agree_with_a_reference_drawn_elsewhere(lung_ct) -> None:
    volume, headers = real.series("ct_thorax_cip64")
    nrrd = real.folder("ct_thorax_cip64")
    same_voxels = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(nrrd / "ct-64.nrrd")))[::-1]
    whole_lung = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(nrrd / "wholeLung-64.nrrd")))[::-1] > 0
    thirds = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(nrrd / "lm-64.nrrd")))[::-1] & 255
    assert (volume.array == same_voxels).all()

    findings = lung_ct.run(volume, Context(headers=headers))

    assert dice(np.isin(findings.label_map, (RIGHT, LEFT)), whole_lung) > 0.98
    # Thirds of the left lung are 9, 10, 11 and of the right 12, 13, 14 in the reference.
    assert (findings.label_map[np.isin(thirds, (9, 10, 11))] == LEFT).mean() > 0.99
    assert (findings.label_map[np.isin(thirds, (12, 13, 14))] == RIGHT).mean() > 0.99


def test_thick_slices_with_a_tumour_give_two_lungs_and_a_caution(lung_ct) -> None:
    volume, headers = real.series("ct_thorax_lungdx_A0002_b40f")

    findings = lung_ct.run(volume, Context(headers=headers))

    assert findings.outcome is Outcome.FOUND, findings.because
    right, left, _ = findings.segments
    # The tumour, which reaches the hilum, is not in the outline of the right lung: the caution says so.
    assert any("0.70 times the left" in caution for caution in findings.cautions)
    assert 950 < value_of(right, VOLUME) < 1300 < value_of(left, VOLUME) < 1800
    assert any("8.0 mm thick" in caution for caution in findings.cautions)


def test_an_abdomen_with_the_bases_of_the_lungs_is_refused(lung_ct) -> None:
    image = SimpleITK.ReadImage(str(real.folder("ct_totalseg") / "example_ct.nii.gz"))
    affine = np.eye(4)
    affine[:3, :3] = (np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing())[:, ::-1]
    affine[:3, 3] = image.GetOrigin()
    array = SimpleITK.GetArrayFromImage(image).astype(np.float32)

    findings = lung_ct.run(hd.Volume(array, affine, "PATIENT"), Context(headers={"Modality": "CT"}))

    assert findings.outcome is Outcome.REFUSED
    assert "lung" in findings.because

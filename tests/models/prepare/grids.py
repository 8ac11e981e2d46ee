"""Grids as scanners make them: any axes, mirrored, oblique, head or feet first."""

import numpy as np
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from models.prepare.grid import Grid

TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
CODES = st.tuples(st.permutations(["LR", "AP", "SI"]), st.tuples(*[st.integers(0, 1)] * 3)).map(
    lambda drawn: "".join(pair[n] for pair, n in zip(*drawn, strict=True))
)


@st.composite
def grids(draw, max_tilt_deg: float = 44.0, most: int = 7) -> Grid:
    axes = draw(st.permutations([0, 1, 2]))
    turned = np.zeros((3, 3))
    for axis, lps in enumerate(axes):
        turned[lps, axis] = draw(st.sampled_from([1.0, -1.0])) * draw(st.floats(0.4, 5.0))
    towards = np.array(draw(st.tuples(*[st.floats(-1, 1)] * 3)))
    length = np.linalg.norm(towards)
    tilt = draw(st.sampled_from([0.0, 0.25, 1.0])) * np.deg2rad(max_tilt_deg)
    oblique = Rotation.from_rotvec(tilt * towards / length if length > 0.1 else np.zeros(3)).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = oblique @ turned
    affine[:3, 3] = draw(st.tuples(*[st.floats(-300, 300)] * 3))
    return Grid(draw(st.tuples(*[st.integers(1, most)] * 3)), affine)

"""Balls painted into phantoms of the chest: nodules whose size is known."""

import highdicom as hd
import numpy as np

from models.training.phantoms import Phantom

SOLID_HU, GROUND_GLASS_HU, CALCIFIED_HU = 40.0, -620.0, 500.0


def painted(phantom: Phantom, *balls: tuple[tuple[float, float, float], float, float]) -> hd.Volume:
    """The phantom with balls of (centre as LPS mm, diameter in mm, Hounsfield units), within the lungs only,
    with an edge as wide as a voxel.
    """
    hu = phantom.hu.astype(np.float32)
    geometry = phantom.geometry
    edge = float(np.mean(geometry.spacing))
    for centre, diameter, value in balls:
        at = geometry.map_reference_to_indices(np.array([centre]))[0]
        reach = (diameter / 2 + edge) / np.array(geometry.spacing) + 1
        box = tuple(
            slice(max(0, int(a - r)), min(n, int(a + r) + 2))
            for a, r, n in zip(at, reach, hu.shape, strict=True)
        )
        index = np.stack(np.meshgrid(*(np.arange(s.start, s.stop) for s in box), indexing="ij"), -1)
        points = geometry.map_indices_to_reference(index.reshape(-1, 3))
        away = np.linalg.norm(points - np.array(centre), axis=1).reshape(index.shape[:-1]) - diameter / 2
        alpha = np.clip(0.5 - away / edge, 0, 1) * (phantom.truth[box] > 0)
        hu[box] += alpha * (value - hu[box])
    return geometry.with_array(np.rint(hu).astype(np.int16))

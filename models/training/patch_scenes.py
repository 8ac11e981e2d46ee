"""
A batch of small scenes in the lung, painted part by part on tensors (n, z, y, x); see `nodule_patches`.

Coordinates are mm from the middle of the cube. Every quantity with a shape (n,) is drawn anew for each scene.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from models.training import patch_shapes as shapes

_LUNG_HU, _BONE_HU = (-905.0, -770.0), 330.0


@dataclass(slots=True, eq=False)
class Scene:
    """`hu` and `labels` grow as parts are painted; `second` is the other generator."""

    count: int
    size: int
    spacing_mm: float
    random: torch.Generator
    second: bool
    x: Tensor
    y: Tensor
    z: Tensor
    hu: Tensor
    labels: Tensor
    blood_hu: Tensor
    direction: Tensor = field(default_factory=lambda: torch.zeros(0))  # (n, 3): towards the pleura
    _volume: Tensor = field(default_factory=lambda: torch.zeros(0))

    @classmethod
    def empty(
        cls, count: int, size: int, spacing_mm: float, random: torch.Generator, *, second: bool
    ) -> "Scene":
        """Air; the grid of each scene is shifted by up to half a voxel."""
        device = random.device
        along = (torch.arange(size, device=device) - (size - 1) / 2) * spacing_mm
        shift = (torch.rand((count, 3), generator=random, device=device) - 0.5) * spacing_mm
        z, y, x = torch.meshgrid(along, along, along, indexing="ij")
        coordinates = [axis[None] + shift[:, i, None, None, None] for i, axis in enumerate((x, y, z))]
        contrast = torch.rand(count, generator=random, device=device)
        blood = 42 + torch.where(contrast < 0.35, 60 + 700 * contrast, torch.zeros_like(contrast))
        made = cls(
            count, size, spacing_mm, random, second, coordinates[0], coordinates[1], coordinates[2],
            torch.full((count, size, size, size), -1000.0, device=device),
            torch.zeros((count, size, size, size), dtype=torch.uint8, device=device),
            blood,
        )  # fmt: skip
        made.direction = made.unit()
        return made

    def uniform(self, low: float, high: float) -> Tensor:
        """(n,)"""
        drawn: Tensor = torch.rand(self.count, generator=self.random, device=self.random.device)
        return low + (high - low) * drawn

    def unit(self) -> Tensor:
        """(n, 3) directions."""
        way = torch.randn((self.count, 3), generator=self.random, device=self.random.device)
        return functional.normalize(way, dim=1)

    def smooth_field(self, knots: int) -> Tensor:
        """(n, z, y, x) of deviation about 1, with about `knots` bumps along a side."""
        coarse = torch.randn(
            (self.count, 1, knots, knots, knots), generator=self.random, device=self.random.device
        )
        size = (self.size,) * 3
        mode = "nearest" if self.second and knots > 8 else "trilinear"
        fine = functional.interpolate(
            coarse, size, mode=mode, align_corners=None if mode == "nearest" else True
        )
        return fine[:, 0] * 1.5

    def lung(self) -> None:
        """Parenchyma, textured; one in five with emphysema, one in eight with ground glass."""
        base = self.uniform(*_LUNG_HU)
        self.hu = _wide(base) + _wide(self.uniform(5, 25)) * self.smooth_field(9)
        worn = _wide(torch.where(self.uniform(0, 1) < 0.2, self.uniform(0.2, 1.4), torch.tensor(9.0)))
        self.hu = torch.where(self.smooth_field(6) > worn, -985.0, self.hu)
        glass = _wide(torch.where(self.uniform(0, 1) < 0.12, self.uniform(0.3, 1.2), torch.tensor(9.0)))
        veil = (self.smooth_field(5) - glass).clamp(0, 1)
        self.hu = self.hu + veil * (-620 - self.hu).clamp_min(0)

    def paint(
        self,
        distance: Tensor,
        value: Tensor | float,
        *,
        label: int = 0,
        only_adds: bool = True,
        rows: Tensor | None = None,
    ) -> Tensor:
        """Blend `value` in where `distance` (n, z, y, x) mm is negative; how much of every voxel it took.

        `rows` are the scenes that `distance` is about, all where it is None; `value` is one for each scene.
        """
        every = torch.arange(self.count, device=self.x.device) if rows is None else rows
        share = (0.5 - distance / self.spacing_mm).clamp_(0, 1)
        change = (_wide(value[every]) if isinstance(value, Tensor) else value) - self.hu[every]
        self.hu[every] += share * (change.clamp_min_(0) if only_adds else change)
        if label:
            self.labels[every] = torch.where(share >= 0.5, label, self.labels[every])
        return share

    def at(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x, y, z of the scenes `rows`."""
        return self.x[rows], self.y[rows], self.z[rows]

    def vessels(self, *, touching: Tensor, end_on: Tensor, branch: Tensor, bend: Tensor) -> None:
        """Some that pass by; one that ends on the nodule (`touching` mm from the middle); the mimics."""
        far = self.size * self.spacing_mm
        for _ in range(5):
            start = (torch.rand((self.count, 3), generator=self.random, device=self.x.device) - 0.5) * far
            # A passing vessel keeps off the middle: what lies there is what the label says.
            start = start + start / start.norm(dim=1, keepdim=True).clamp_min(1e-3) * 3
            way = self.unit()
            way = way - 0.8 * (way * start).sum(1, keepdim=True) * start / start.square().sum(1, keepdim=True)
            radius = 0.5 * 5.0 ** self.uniform(0, 1)
            self._tube(start - way * far * 0.6, start + way * far * 0.6, radius, radius * 0.8)
        middle = torch.zeros((self.count, 3), device=self.x.device)
        thick = 0.9 * 4.2 ** self.uniform(0, 1)
        first, second = self.unit(), self.unit()
        touch = touching > 0
        self._tube(
            first * touching[:, None], first * far, thick.clamp_max(2.2), thick.clamp_max(2.2), where=touch
        )
        upright = torch.tensor([0.0, 0.0, 1.0], device=self.x.device) + 0.25 * first
        self._tube(-upright * far, upright * far, thick, thick, where=end_on)
        # Murray: r0³ = r1³ + r2³.
        part = self.uniform(0.3, 0.7)
        self._tube(-first * far, middle, thick, thick, where=branch)
        second = second + first * (0.4 - (second * first).sum(1, keepdim=True))
        third = first * 0.8 - second * 0.6
        self._tube(middle, second * far, thick * part ** (1 / 3), thick * 0.5, where=branch)
        self._tube(middle, third * far, thick * (1 - part) ** (1 / 3), thick * 0.5, where=branch)
        self._tube(-first * far, middle, thick, thick, where=bend)
        self._tube(middle, second * far, thick, thick * 0.9, where=bend)

    def _tube(
        self, start: Tensor, end: Tensor, start_mm: Tensor, end_mm: Tensor, *, where: Tensor | None = None
    ) -> None:
        wave = self.uniform(0.5, 2.5) if self.second else None
        rows = _rows(
            torch.ones(self.count, dtype=torch.bool, device=self.x.device) if where is None else where
        )
        if len(rows):
            bend = None if wave is None else wave[rows]
            distance = shapes.tube(
                self.at(rows), (start[rows], end[rows]), (start_mm[rows], end_mm[rows]), bend
            )
            self.paint(distance, self.blood_hu, label=3, rows=rows)

    def airway(self, where: Tensor, *, through: Tensor) -> None:
        """A tube of air in a wall; `through` has it touch the middle with its wall."""
        radius, thick, wall_hu = self.uniform(0.9, 3.5), self.uniform(0.5, 1.6), self.uniform(-60, 40)
        off = torch.where(through, radius, radius + self.uniform(5, 12))
        way, side = self.unit(), self.unit()
        side = side - (side * way).sum(1, keepdim=True) * way
        side = side / side.norm(dim=1, keepdim=True)
        start, end = side * off[:, None] - way * 40, side * off[:, None] + way * 40
        rows = _rows(where)
        distance = shapes.tube(self.at(rows), (start[rows], end[rows]), (radius[rows], radius[rows]))
        self.paint(distance - _wide(thick[rows]), wall_hu, rows=rows)
        self.paint(distance, -985.0, only_adds=False, rows=rows)

    def plug(self, where: Tensor) -> None:
        """Mucus in a small airway: a short thick rod that branches like one."""
        radius, way, aside = self.uniform(1.2, 3.0), self.unit(), self.unit()
        long = (radius * self.uniform(1.6, 3.0))[:, None]
        value, r = self.uniform(0, 40), _rows(where)
        rod = shapes.tube(self.at(r), (-(way * long)[r], (way * long)[r]), (radius[r], radius[r] * 0.8))
        fork, tip = way * long * 0.4, way * long + aside * long
        arm = shapes.tube(self.at(r), (fork[r], tip[r]), (radius[r] * 0.7, radius[r] * 0.5))
        self.paint(torch.minimum(rod, arm), value, rows=r)

    def fissure(self, where: Tensor, *, through: Tensor, lens: Tensor) -> None:
        """A thin sheet; `lens` thickens it in the middle, flat as no nodule is."""
        way, wide, value = self.unit(), self.uniform(3, 9), self.uniform(-150, 20)
        off = torch.where(through, torch.zeros_like(wide), self.uniform(3, 12))
        curve, thick = self.uniform(-0.004, 0.004), self.uniform(0.16, 0.3)
        swelling = torch.where(lens, wide * thick, torch.zeros_like(wide))
        rows = _rows(where)
        x, y, z = self.at(rows)
        across = x * _wide(way[rows, 0]) + y * _wide(way[rows, 1]) + z * _wide(way[rows, 2])
        square = x.square() + y.square() + z.square()
        bent = across - _wide(off[rows]) + _wide(curve[rows]) * square
        beside = (square - across.square()).clamp_min(0)
        half = 0.35 + _wide(swelling[rows]) * torch.exp(-beside / _wide(wide[rows].square()) * 1.5)
        self.paint(bent.abs() - half, value, rows=rows)

    def nodule(self, where: Tensor, kind: Tensor, diameter: Tensor) -> None:
        """KINDS of `nodule_patches`: solid 0, part-solid 1, ground glass 2, calcified 3, spiculated 4."""
        rough = torch.where(kind == 4, self.uniform(0.12, 0.25), self.uniform(0.0, 0.14))
        subsolid = (kind == 1) | (kind == 2)
        value = torch.where(subsolid, self.uniform(-720, -460), self.uniform(0, 70))
        value = torch.where(kind == 3, self.uniform(200, 900), value)
        core_hu, rim = self.uniform(-40, 60), diameter * self.uniform(0.1, 0.3)
        shift = (torch.rand((self.count, 3), generator=self.random, device=self.x.device) - 0.5) * 2
        self._volume = torch.zeros_like(diameter)
        threads = [(self.unit(), self.uniform(0.65, 1.1), self.uniform(-250, 0)) for _ in range(9)]
        rows = _rows(where)
        if not len(rows):
            return
        at = [axis - _wide(shift[rows, i]) for i, axis in enumerate(self.at(rows))]
        make = shapes.blob if self.second else shapes.star
        distance = make(at, diameter[rows], rough[rows], self.random)
        share = self.paint(distance, value, rows=rows)
        inside = share >= 0.5
        name = torch.where(subsolid[rows], 2, 1).to(torch.uint8)
        self.labels[rows] = torch.where(inside, _wide(name), self.labels[rows])
        self._volume[rows] = share.sum((1, 2, 3)) * self.spacing_mm**3
        mixed = _rows(kind[rows] == 1)
        core = self.paint(distance[mixed] + _wide(rim[rows[mixed]]), core_hu, rows=rows[mixed])
        self.labels[rows[mixed]] = torch.where(core >= 0.5, 1, self.labels[rows[mixed]]).to(torch.uint8)
        spiky = _rows(kind[rows] == 4)
        own = [axis[spiky] for axis in at]
        thin = (0.07 * diameter).clamp(0.5, 1.0)
        for way, far, thread_hu in threads if len(spiky) else []:
            r = rows[spiky]
            start, end = way * (0.4 * diameter)[:, None], way * (diameter * far)[:, None]
            thread = shapes.tube(own, (start[r], end[r]), (thin[r], thin[r] * 0.3))
            self.paint(thread, thread_hu, rows=r)

    def nodule_volume_mm3(self) -> Tensor:
        """Of each scene's nodule, of what lies in the lung: (n,)."""
        return self._volume

    def wall(self, depth_mm: Tensor, *, bulge: Tensor, scar: Tensor) -> None:
        """Everything beyond a curved pleura `depth_mm` from the middle is chest wall: fat, muscle, rib."""
        curve, size = self.uniform(-0.004, 0.006), self.uniform(3, 9)
        scar_hu, pleura_hu, wall_hu, bump_hu = (
            self.uniform(-60, 40), self.uniform(-20, 60), self.uniform(-110, 40), self.uniform(120, 420),
        )  # fmt: skip
        rough, ribs = self.smooth_field(6), self.smooth_field(4)
        rows = _rows(depth_mm < self.size * self.spacing_mm * 0.9)
        if not len(rows):
            return
        x, y, z = self.at(rows)
        way = self.direction[rows]
        across = x * _wide(way[:, 0]) + y * _wide(way[:, 1]) + z * _wide(way[:, 2])
        square = x.square() + y.square() + z.square()
        beyond = across - _wide(depth_mm[rows]) - _wide(curve[rows]) * (square - across.square())
        bump = (square + 1e-6).sqrt() - _wide(size[rows] / 2)
        own = _rows(scar[rows])
        irregular = bump[own] + _wide(0.3 * size[rows[own]]) * rough[rows[own]].clamp(-1, 1)
        self.paint(irregular, scar_hu, rows=rows[own])
        share = self.paint(-beyond, pleura_hu, only_adds=False, rows=rows)
        inside, labels = share >= 0.5, self.labels[rows]
        lost = ((labels == 1) | (labels == 2)) & inside
        self._volume[rows] -= lost.sum((1, 2, 3)) * self.spacing_mm**3
        self.labels[rows] = torch.where(inside, 0, labels).to(torch.uint8)
        self.paint(-(beyond - 2.5), wall_hu, only_adds=False, rows=rows)
        self.paint(torch.maximum(1.0 - beyond, ribs[rows].abs() * 6 - 3), _BONE_HU, rows=rows)
        own = _rows(bulge[rows])
        self.paint(bump[own], bump_hu, rows=rows[own])

    def scanned(self) -> Tensor:
        """Blurred, in slices, noisy and not quite calibrated; (n, z, y, x)."""
        sharp = self.uniform(0, 1) < 0.3
        in_plane = self.uniform(0.5, 1.4) / 2.3548
        through = 0.3 + 2.3 * self.uniform(0, 1).square()  # thin slices are the rule
        hu = shapes.blurred(self.hu, through / 2.3548 * 1.2, in_plane, self.spacing_mm)
        softer = shapes.blurred(
            hu, torch.full_like(in_plane, 0.2), torch.full_like(in_plane, 0.9), self.spacing_mm
        )
        hu = hu + _wide(torch.where(sharp, self.uniform(0.3, 1.2), torch.zeros_like(in_plane))) * (
            hu - softer
        )
        sigma = 5.0 * 12.0 ** self.uniform(0, 1)
        noise = torch.randn(hu.shape, generator=self.random, device=hu.device)
        grain = shapes.blurred(noise, through / 3, self.uniform(0.25, 0.9), self.spacing_mm)
        if not self.second:  # the ramp of filtered back-projection takes out the slow part
            grain = grain - shapes.blurred(grain, through / 3, torch.full_like(through, 1.8), self.spacing_mm)
        grain = grain / grain.std((1, 2, 3), keepdim=True).clamp_min(1e-6)
        hu = hu + _wide(sigma) * grain
        return (hu * _wide(self.uniform(0.97, 1.03)) + _wide(self.uniform(-30, 30))).clamp(-1024, 1500)


def _rows(where: Tensor) -> Tensor:
    """The numbers of the scenes where it is so."""
    return torch.nonzero(where)[:, 0]


def _wide(values: Tensor) -> Tensor:
    """(n, 1, 1, 1) of (n,)."""
    return values[:, None, None, None]

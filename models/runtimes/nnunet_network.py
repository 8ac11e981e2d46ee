"""
nnU-Net's two U-Nets, built from the plans, with the parameter names of its checkpoints.

Plain stacks of convolution, norm and activation, or residual blocks in the encoder (He et al. 2019, ResNet-D:
the shortcut is an average pool and a convolution of one voxel). The heads of deep supervision, which only
training needs, are kept so that every parameter of the file has its place.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.runtimes.nnunet_plans import Architecture, NotPlans, UNetPlan

_CONVOLUTIONS: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED: dict[int, type[nn.ConvTranspose2d] | type[nn.ConvTranspose3d]] = {
    2: nn.ConvTranspose2d,
    3: nn.ConvTranspose3d,
}
_POOLS: dict[int, type[nn.AvgPool2d] | type[nn.AvgPool3d]] = {2: nn.AvgPool2d, 3: nn.AvgPool3d}
_NORMS: dict[str, type[nn.Module]] = {
    one.__name__: one for one in (nn.InstanceNorm2d, nn.InstanceNorm3d, nn.BatchNorm2d, nn.BatchNorm3d)
}
_ACTIVATIONS: dict[str, type[nn.Module]] = {
    one.__name__: one for one in (nn.LeakyReLU, nn.ReLU, nn.GELU, nn.SiLU, nn.ELU, nn.PReLU)
}


class _Layers:
    """What the convolutions of one network have in common."""

    def __init__(self, plan: UNetPlan) -> None:
        self.axes = 3 if plan.conv_op.endswith("3d") else 2
        self.bias = plan.conv_bias
        self._norm = _named(plan.norm_op, _NORMS)
        self._norm_kwargs = dict(plan.norm_op_kwargs or {})
        self._activation = _named(plan.nonlin, _ACTIVATIONS)
        self._activation_kwargs = dict(plan.nonlin_kwargs or {})

    def norm(self, features: int) -> nn.Module | None:
        return self._norm(features, **self._norm_kwargs) if self._norm else None

    def activation(self) -> nn.Module | None:
        return self._activation(**self._activation_kwargs) if self._activation else None

    def sides(self, size: int | Sequence[int]) -> tuple[int, ...]:
        return (size,) * self.axes if isinstance(size, int) else tuple(size)


def _named(name: str | None, known: dict[str, type[nn.Module]]) -> type[nn.Module] | None:
    if name is None:
        return None
    last = name.rsplit(".", 1)[-1]
    if last not in known:
        raise NotPlans(f"plans.json wants a layer {name}, which no U-Net of nnU-Net has")
    return known[last]


class _Convolution(nn.Module):
    """Convolution, norm and activation."""

    def __init__(
        self,
        layers: _Layers,
        given: int,
        features: int,
        kernel: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        *,
        active: bool = True,
        bias: bool | None = None,
    ) -> None:
        super().__init__()
        sides = layers.sides(kernel)
        self.conv = _CONVOLUTIONS[layers.axes](
            given,
            features,
            sides,  # type: ignore[arg-type]
            layers.sides(stride),  # type: ignore[arg-type]
            tuple((side - 1) // 2 for side in sides),  # type: ignore[arg-type]
            bias=layers.bias if bias is None else bias,
        )
        steps: list[nn.Module] = [self.conv]
        if (norm := layers.norm(features)) is not None:
            self.norm = norm
            steps.append(norm)
        if active and (activation := layers.activation()) is not None:
            self.nonlin = activation
            steps.append(activation)
        self._steps = steps  # A plain list: the modules are registered by their names above.

    def forward(self, x: Tensor) -> Tensor:
        for step in self._steps:
            x = step(x)
        return x


class _Convolutions(nn.Module):
    """`many` of them; the first one strides."""

    def __init__(
        self,
        layers: _Layers,
        given: int,
        features: int,
        kernel: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        *,
        many: int,
    ) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            _Convolution(layers, given, features, kernel, stride),
            *(_Convolution(layers, features, features, kernel) for _ in range(many - 1)),
        )

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.convs(x)
        return answer


class _Residual(nn.Module):
    def __init__(
        self,
        layers: _Layers,
        given: int,
        features: int,
        kernel: int | Sequence[int],
        stride: int | Sequence[int] = 1,
    ) -> None:
        super().__init__()
        self.conv1 = _Convolution(layers, given, features, kernel, stride)
        self.conv2 = _Convolution(layers, features, features, kernel, active=False)
        self.nonlin2 = layers.activation() or nn.Identity()
        steps = layers.sides(stride)
        shortcut: list[nn.Module] = []
        if any(step != 1 for step in steps):
            shortcut.append(_POOLS[layers.axes](steps, steps))  # type: ignore[arg-type]
        if given != features:
            shortcut.append(_Convolution(layers, given, features, 1, active=False, bias=False))
        self.skip = nn.Sequential(*shortcut)

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.nonlin2(self.conv2(self.conv1(x)).add_(self.skip(x)))
        return answer


class _Residuals(nn.Module):
    def __init__(
        self,
        layers: _Layers,
        given: int,
        features: int,
        kernel: int | Sequence[int],
        stride: int | Sequence[int],
        *,
        many: int,
    ) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            _Residual(layers, given, features, kernel, stride),
            *(_Residual(layers, features, features, kernel) for _ in range(many - 1)),
        )

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.blocks(x)
        return answer


class UNet(nn.Module):
    """(n, channels, patch) → (n, heads, patch) logits."""

    def __init__(self, kind: Architecture, plan: UNetPlan, channels: int, heads: int) -> None:
        super().__init__()
        layers = _Layers(plan)
        features, kernels, strides = plan.features_per_stage, plan.kernel_sizes, plan.strides
        self.encoder = nn.Module()
        given, stem = channels, None
        if kind == "ResidualEncoderUNet":
            self.encoder.stem = stem = _Convolutions(layers, channels, features[0], kernels[0], many=1)
            given = features[0]
        stages: list[nn.Module] = []
        for stage in range(plan.n_stages):
            what = (given, features[stage], kernels[stage], strides[stage])
            if kind == "ResidualEncoderUNet":
                stages.append(_Residuals(layers, *what, many=plan.n_blocks_per_stage[stage]))
            else:
                stages.append(nn.Sequential(_Convolutions(layers, *what, many=plan.n_conv_per_stage[stage])))
            given = features[stage]
        self.encoder.stages = nn.Sequential(*stages)

        self.decoder = nn.Module()
        up = _TRANSPOSED[layers.axes]
        ups, ways, ends = [], [], []
        for below in range(plan.n_stages - 1, 0, -1):
            to = features[below - 1]
            steps = layers.sides(strides[below])
            ups.append(up(features[below], to, steps, steps, bias=layers.bias))  # type: ignore[arg-type]
            many = plan.n_conv_per_stage_decoder[plan.n_stages - 1 - below]
            ways.append(_Convolutions(layers, 2 * to, to, kernels[below - 1], many=many))
            ends.append(_CONVOLUTIONS[layers.axes](to, heads, 1))
        self.decoder.transpconvs = nn.ModuleList(ups)
        self.decoder.stages = nn.ModuleList(ways)
        self.decoder.seg_layers = nn.ModuleList(ends)
        # Lists, which register nothing a second time under another name.
        self._down = [stem, *stages] if stem is not None else stages
        self._kept = stages[:-1]
        self._up, self._end = list(zip(ups, ways, strict=True)), [ends[-1]]

    def forward(self, x: Tensor) -> Tensor:
        passed: list[Tensor] = []
        for stage in self._down:
            x = stage(x)
            if stage in self._kept:
                passed.append(x)
        for up, way in self._up:
            x = way(torch.cat((up(x), passed.pop()), 1))
        answer: Tensor = self._end[0](x)
        return answer


class Mirrored(nn.Module):
    """The mean logits of one fold over all ways to mirror the window along `axes` (0 is the first side)."""

    def __init__(self, network: nn.Module, axes: Sequence[int]) -> None:
        super().__init__()
        self.network = network
        ways: list[tuple[int, ...]] = [()]
        for axis in axes:
            ways += [(*way, axis + 2) for way in ways]
        # As nnU-Net adds them up: one axis, then two, then three.
        self._ways = sorted(ways[1:], key=lambda way: (len(way), way))

    def forward(self, windows: Tensor) -> Tensor:  # (n, channels, patch)
        total: Tensor = self.network(windows)
        for way in self._ways:
            total = total.add_(torch.flip(self.network(torch.flip(windows, way)), way))
        return total.div_(len(self._ways) + 1) if self._ways else total


class Mean(nn.Module):
    """The mean logits of several folds."""

    def __init__(self, folds: Sequence[nn.Module]) -> None:
        super().__init__()
        self.folds = nn.ModuleList(folds)

    def forward(self, windows: Tensor) -> Tensor:
        first, *others = self.folds
        total: Tensor = first(windows)
        for fold in others:
            total = total.add_(fold(windows))
        return total.div_(len(self.folds)) if others else total

"""
A network over a volume: ours, MONAI's sliding window, and the network alone on the same windows, in one run.

`python -m benchmarks.windows [--device cuda:0] [--shape 400,512,512] [--window 128,128,128] [--classes 105]`
prints medians and ratios: the time of ours and of MONAI's over the pure forward time of the same windows, the
peak of memory of ours over MONAI's default, and how many voxels have the same label. Without options the
sizes fit a CPU of two cores, or a GPU of 80 GB. On a GPU half precision is tried as well, and the formats of
the network's input. Quote the ratios; the seconds are this machine's. Needs MONAI for its half.
"""

import argparse
import gc
import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from models.prepare.ladder import Plan
from models.prepare.memory import measured
from models.prepare.tiling import Padding, Tiling, monai_starts, part_of
from models.prepare.windows import predict

try:
    from monai.inferers import sliding_window_inference
    from monai.networks.nets import UNet
except ImportError:  # Only the comparison needs it.
    UNet = sliding_window_inference = None


class Cheap(nn.Module):
    """As many classes as one likes for next to no work: what is left is the windows' own memory."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.head = nn.Conv3d(1, classes, 1)

    def forward(self, windows: Tensor) -> Tensor:
        logits: Tensor = self.head(windows)
        return logits


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    options.add_argument("--device", default="cpu")
    options.add_argument("--shape", default="", help="z,y,x of the volume")
    options.add_argument("--window", default="", help="z,y,x")
    options.add_argument("--classes", type=int, default=105)
    options.add_argument("--batch", type=int, default=0)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--only", choices=["time", "memory"], default=None)
    given = options.parse_args()
    device = torch.device(given.device)
    on_gpu = device.type == "cuda"
    torch.manual_seed(0)
    batch = given.batch or (4 if on_gpu else 1)
    machine = torch.cuda.get_device_name(device) if on_gpu else platform.processor() or platform.machine()
    say(machine=machine, torch=torch.__version__, threads=torch.get_num_threads(), batch=batch)
    if given.only != "memory":
        shape = sizes(given.shape, (400, 512, 512) if on_gpu else (96, 144, 144))
        window = sizes(given.window, (128, 128, 128) if on_gpu else (96, 96, 96))
        for classes in (5, given.classes):
            compare_time(device, shape, window, classes, batch, given.rounds)
    if given.only != "time":
        shape = sizes(given.shape, (400, 512, 512) if on_gpu else (320, 128, 128))
        window = sizes(given.window, (128, 128, 128) if on_gpu else (64, 64, 64))
        compare_memory(device, shape, window, given.classes, batch)


def sizes(text: str, otherwise: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(n) for n in text.split(",")) if text else otherwise


def compare_time(  # noqa: PLR0917
    device: torch.device,
    shape: tuple[int, ...],
    window: tuple[int, ...],
    classes: int,
    batch: int,
    rounds: int,
) -> None:
    """Seconds of a UNet whose work is that of a small real one."""
    if UNet is None:
        say(time="MONAI is not installed")
        return
    network = UNet(
        spatial_dims=3,
        in_channels=1,
        out_channels=classes,
        channels=(16, 32, 64, 128),
        strides=(2, 2, 2),
        num_res_units=2,
    )
    network = network.eval().to(device)
    volume = torch.randn(1, *shape, device=device)
    first = Plan.on(str(device), batch=batch)
    plan = replace(first, batch=batch, autocast=None)
    ways: dict[str, Callable[[], Any]] = {
        "forward": lambda: forward(network, volume, window, plan),
        "ours": lambda: predict(network, volume, window=window, plan=plan),
        "monai": lambda: by_monai(network, volume, window, batch),
    }
    if device.type == "cuda":
        half = replace(plan, autocast=torch.float16)
        ways |= {
            "forward_half": lambda: forward(network, volume, window, half),
            "ours_half": lambda: predict(network, volume, window=window, plan=half),
        }
    ways["ours_channels_last"] = lambda: predict(
        network, volume, window=window, plan=replace(plan, channels_last=True)
    )
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    labels: dict[str, Tensor] = {}
    with torch.no_grad():
        network(volume[None, :, : window[0], : window[1], : window[2]])  # what only the first time costs
        for _ in range(rounds):
            for name, way in ways.items():  # in turn: whatever else the machine does hits all of them
                took, answer = timed(way, device)
                seconds[name].append(took)
                if isinstance(answer, Tensor):
                    labels[name] = answer.to("cpu", torch.int32)
    medians = {name: statistics.median(took) for name, took in seconds.items()}
    say(
        shape=shape,
        window=window,
        classes=classes,
        windows=Tiling.of(shape, window, plan.overlap, monai_starts).count,
        seconds={name: round(took, 3) for name, took in medians.items()},
        of_forward={
            name: round(
                statistics.median(
                    a / b
                    for a, b in zip(
                        took, seconds["forward_half" if "half" in name else "forward"], strict=True
                    )
                ),
                3,
            )
            for name, took in seconds.items()
            if not name.startswith("forward")
        },
        same_labels_as_monai={
            name: round(float((one == labels["monai"]).float().mean()), 6)
            for name, one in labels.items()
            if name != "monai"
        },
    )


def compare_memory(
    device: torch.device, shape: tuple[int, ...], window: tuple[int, ...], classes: int, batch: int
) -> None:
    """Peaks of memory where the network itself takes next to none."""
    network = Cheap(classes).eval().to(device)
    volume = torch.randn(1, *shape, device=device)
    plan = replace(Plan.on(str(device)), batch=batch, autocast=None)
    ways: dict[str, Callable[[], Tensor]] = {
        "ours": lambda: predict(network, volume, window=window, plan=plan),
        "ours_half": lambda: predict(network, volume, window=window, plan=replace(plan, sums=torch.float16)),
        "ours_no_blending": lambda: predict(
            network, volume, window=window, plan=replace(plan, blending=False)
        ),
    }
    if device.type == "cuda":
        ways["ours_sums_on_host"] = lambda: predict(
            network, volume, window=window, plan=replace(plan, sums_on="host")
        )
    if sliding_window_inference is not None:
        ways["monai"] = lambda: by_monai(network, volume, window, batch)
    peaks: dict[str, float] = {}
    labels: dict[str, Tensor] = {}
    took: dict[str, float] = {}
    with torch.no_grad():
        predict(network, volume[:, : window[0]], window=window, plan=plan)
        for name, way in ways.items():
            gc.collect()
            if device.type == "cuda":
                torch.cuda.empty_cache()
            began = time.perf_counter()
            try:
                answer, peak = measured(way, str(device))
            except (torch.OutOfMemoryError, RuntimeError) as error:
                say(memory=name, failed=str(error).splitlines()[0])
                continue
            took[name] = round(time.perf_counter() - began, 2)
            labels[name] = answer.to("cpu", torch.int32)
            peaks[name] = (peak.device if device.type == "cuda" else peak.host) / 2**30
            del answer
    monai = peaks.get("monai")
    say(
        shape=shape,
        window=window,
        classes=classes,
        peak_gib={name: round(peak, 3) for name, peak in peaks.items()},
        of_monai={name: round(peak / monai, 3) for name, peak in peaks.items()} if monai else None,
        seconds=took,
        same_labels_as_monai={
            name: round(float((one == labels["monai"]).float().mean()), 6)
            for name, one in labels.items()
            if name != "monai" and monai
        },
    )


def forward(network: nn.Module, volume: Tensor, window: tuple[int, ...], plan: Plan) -> None:
    """The network on the same windows in the same batches, and nothing else."""
    tiling = Tiling.of(volume.shape[1:], window, plan.overlap, monai_starts)
    padded, places = tiling.pad(volume, Padding()), tiling.places()
    half = plan.autocast if volume.device.type == "cuda" else None
    for first in range(0, len(places), plan.batch):
        windows = [
            part_of(padded, [slice(at, at + side) for at, side in zip(place, tiling.window, strict=True)])
            for place in places[first : first + plan.batch]
        ]
        with torch.autocast(volume.device.type, dtype=half, enabled=half is not None):
            network(torch.stack(windows))


def by_monai(network: nn.Module, volume: Tensor, window: tuple[int, ...], batch: int) -> Tensor:
    logits = sliding_window_inference(
        volume[None], window, batch, network, overlap=0.5, mode="gaussian", sigma_scale=0.125
    )
    labels: Tensor = logits[0].argmax(0)
    return labels


def timed(way: Callable[[], Any], device: torch.device) -> tuple[float, Any]:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    answer = way()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began, answer


def say(**facts: object) -> None:
    print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    main()

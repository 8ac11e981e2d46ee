"""
A model tried on a phantom that fits its inputs: does it load, run, stay in its bounds, and say something that
can be written?

Its findings are checked as those of any run: they lie on the grid of what it was given. What they are worth
is another question: a phantom is no patient.
"""

import resource
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import highdicom as hd
import numpy as np
import torch
from rich.console import Console
from rich.text import Text

from console.tables import Value, findings_table
from ledger.errors import ModelError
from ledger.identifiers import Uid
from ledger.job import Outcome
from models.contract import Context, Earlier, Given, Image, Memory, SeriesSet, Timeline, grid_shape
from models.manifest import Input, Manifest
from models.registry import Found, open_found
from models.settings import ModelsSettings
from models.training.own_kind import OWN_KIND, write_own_kind
from models.training.phantoms import chest
from models.trust import BUILT_IN
from results.findings import Findings
from worker.exchange import Files
from worker.given import Unusable, read_given
from worker.residents import device_named

_SIZE = 96  # voxels along rows and columns: large enough for most patches, small enough for a laptop
_COLOUR = {"XC", "ES", "GM", "OP", "SM", "DMS"}  # what comes in colours


class TrialFailed(ModelError):
    """A model did not stay within what its manifest says."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What one run on a phantom came to."""

    findings: Findings
    estimate: Memory
    load_s: float
    run_s: float
    peak_host_mib: float  #: more than before it was loaded
    peak_device_mib: float


def try_on_phantom(found: Found, settings: ModelsSettings, device: str) -> Trial:
    """Load the model and run it once. Raises whatever it raises, and `TrialFailed`."""
    on = device_named(device)
    model = open_found(found, settings)
    given, headers = phantom_of_its_own(found) or phantom_for(found.manifest)
    _forget_peak(on)
    before = _resident_mib()
    began = time.perf_counter()
    model.load(on)
    loaded = time.perf_counter()
    try:
        estimate = model.estimate(grid_shape(given))
        started = time.perf_counter()
        findings = model.run(given, Context(headers=headers))
        ended = time.perf_counter()
    finally:
        model.unload()
    trial = Trial(
        findings=findings,
        estimate=estimate,
        load_s=loaded - began,
        run_s=ended - started,
        peak_host_mib=max(0.0, _peak_mib() - before),
        peak_device_mib=torch.cuda.max_memory_allocated(on) / 2**20 if on != "cpu" else 0.0,
    )
    _check(found.manifest, findings, grid_shape(given), trial)
    return trial


def print_trial(found: Found, trial: Trial, console: Console) -> None:
    """What it found, how long it took and how much memory."""
    findings = trial.findings
    colour = {"found": "green", "nothing": "yellow", "refused": "yellow"}[findings.outcome]
    console.print(Text(f"{found.manifest.identity} on a phantom: {findings.outcome}", colour))
    if findings.because:
        console.print(f"  {findings.because}")
    values = list(_values(findings))
    if values:
        console.print(findings_table(values))
    for caution in findings.cautions:
        console.print(Text(f"  ! {caution}", "yellow"))
    console.print(
        f"  load {trial.load_s:.2f} s, run {trial.run_s:.2f} s of {found.manifest.time_limit_s:g} s; memory "
        f"{trial.peak_host_mib:.0f} MiB at most"
        + (f", {trial.peak_device_mib:.0f} MiB on the device" if trial.peak_device_mib else "")
        + f" (estimated {(trial.estimate.host + trial.estimate.device) / 2**20:.0f} MiB)"
    )


def phantom_of_its_own(found: Found) -> tuple[Given, dict[str, str]] | None:
    """What comes with Wetread brings a phantom that it has an answer to, and reads it from files as a worker
    does; None for any other model.
    """
    manifest = found.manifest
    if found.trust != BUILT_IN or manifest.name not in OWN_KIND:
        return None
    with tempfile.TemporaryDirectory(prefix="wetread-") as scratch:
        paths = write_own_kind(manifest.name, Path(scratch), seed=7)
        read = read_given(Files(inputs=tuple(map(str, paths))), manifest)
    if isinstance(read, Unusable):
        raise TrialFailed(f"the phantom of {manifest.identity} is not for it: {read.because}")
    return read.given, dict(read.headers)


def phantom_for(manifest: Manifest) -> tuple[Given, dict[str, str]]:
    """Something of the kind that the model is made for, and its headers."""
    headers = _headers(manifest.input)
    match manifest.given:
        case "image":
            return _image(manifest.input), headers
        case "series":
            volumes = {one.name: _volume(one) for one in manifest.inputs}
            each = {one.name: _headers(one) for one in manifest.inputs}
            return SeriesSet(volumes=volumes, headers=each, reference=manifest.input.name), headers
        case "timeline":
            then = _volume(manifest.input)
            named = [(Uid("1.2.840.10008.5.1.4.1.1.2"), Uid(f"2.25.3{k}")) for k in range(len(then.array))]
            earlier = Earlier(
                acquired=date(2024, 1, 1),
                study=Uid("2.25.1"),
                series=Uid("2.25.2"),
                images=tuple(named),
                volume=then,
                headers=headers,
            )
            return Timeline(current=_volume(manifest.input), headers=headers, earlier=(earlier,)), headers
    return _volume(manifest.input), headers


def _volume(wants: Input) -> hd.Volume:
    """A chest. What is no CT has no negative values."""
    step_mm = min(300.0 / 64, wants.spacing_max_mm or 300.0 / 64)
    slices = max(wants.minimum_slices, round(300.0 / step_mm))
    phantom = chest((min(slices, 400), _SIZE, _SIZE), seed=7)
    if "CT" in wants.modality:
        return phantom.volume
    return phantom.geometry.with_array((phantom.hu.astype(np.float32) + 1024.0).clip(0))


def _image(wants: Input) -> Image:
    """What a radiograph of the chest would be: the sum along the way of the rays."""
    sums = chest((_SIZE, _SIZE, _SIZE), seed=7).hu.astype(np.float32).sum(axis=1)
    grey = (sums - sums.min()) / max(1.0, float(np.ptp(sums)))
    if _COLOUR & set(wants.modality):
        return Image(array=(np.repeat(grey[..., None], 3, axis=2) * 255).astype(np.uint8), spacing_mm=None)
    return Image(array=(grey * 4095).astype(np.float32), spacing_mm=(0.8, 0.8), headers=_headers(wants))


def _headers(wants: Input) -> dict[str, str]:
    headers = {"Modality": wants.modality[0]}
    if wants.body_part:
        headers["BodyPartExamined"] = wants.body_part[0]
    return headers


def _check(manifest: Manifest, findings: Findings, shape: tuple[int, int, int], trial: Trial) -> None:
    """Raise `TrialFailed` for what a job would be parked for."""
    if not isinstance(findings, Findings):
        raise TrialFailed(f"{manifest.identity} gives {type(findings).__name__}, and not findings")
    drawn = [] if findings.label_map is None else [("its label map", findings.label_map.shape[-3:])]
    drawn += [(f"its map {one.label!r}", one.values.shape) for one in findings.maps]
    for what, found in drawn:
        if tuple(found) != shape:
            raise TrialFailed(f"{manifest.identity}: {what} is {tuple(found)}, and it was given {shape}")
    if trial.run_s > manifest.time_limit_s:
        raise TrialFailed(
            f"{manifest.identity} took {trial.run_s:.0f} s on a small phantom, and its time_limit_s is "
            f"{manifest.time_limit_s:g}"
        )
    if findings.outcome is Outcome.REFUSED and not findings.because:
        raise TrialFailed(f"{manifest.identity} refuses without a reason")


def _values(findings: Findings) -> list[Value]:
    about = [(one.label, one.measurements) for one in findings.segments]
    about += [(one.label, one.measurements) for one in findings.boxes]
    values = [
        Value(label, one.name.meaning, one.value, one.unit.value)
        for label, measurements in about
        for one in measurements
    ]
    values += [Value(one.label, "Score", 100 * one.score, "%") for one in findings.boxes]
    values += [Value(one.label, "Probability", 100 * one.probability, "%") for one in findings.verdicts]
    values += [Value("series", one.name.meaning, one.value, one.unit.value) for one in findings.measurements]
    return values


def _forget_peak(device: str) -> None:
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak of resident memory starts anew.
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats(device)


def _peak_mib() -> float:
    return _status_mib("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _resident_mib() -> float:
    return _status_mib("VmRSS") or 0.0


def _status_mib(name: str) -> float | None:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    found = next((line for line in lines if line.startswith(f"{name}:")), "")
    return int(found.split()[1]) / 1024 if found else None

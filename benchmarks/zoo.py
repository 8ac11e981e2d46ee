"""
Every bundle of a checkout of MONAI's model zoo: does it run, or why not?

    git clone https://github.com/Project-MONAI/model-zoo
    python -m benchmarks.zoo model-zoo/models [NAME …]

The zoo keeps weights elsewhere, so each bundle gets random ones, of half precision, in a copy of its folder;
all else is what production does: a manifest is proposed, what only a person can say is filled in, the files
are vouched for, the bundle is judged, loaded and run on a small volume or image. The answers mean nothing.
"""

import argparse
import shutil
import tempfile
import time
import warnings
from hashlib import sha256
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import torch

from ledger.errors import WetreadError
from models.contract import Context, Given, Image, SeriesSet
from models.manifest import Manifest
from models.package import Package
from models.runtimes.bundles.configuration import Folder
from models.runtimes.bundles.judgement import Options, opened
from models.runtimes.bundles.loading import network_of, prepared, weights_path
from models.runtimes.bundles.proposal import propose
from models.runtimes.bundles.running import quiet
from models.runtimes.monai_bundle import MonaiBundle

_TISSUE = {"value": "85756007", "scheme": "SCT", "meaning": "Tissue"}
_MANY = 100
_SHAPE, _SPACING_MM = (16, 48, 48), (3.0, 1.0, 1.0)  # smaller than most windows: seconds, not minutes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("zoo", type=Path, help="the folder that holds the bundles' folders")
    parser.add_argument("names", nargs="*", help="only these bundles")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    print("| bundle | is | load s | run s | gives, or why it is refused |\n|---|---|---|---|---|")
    for folder in sorted(path for path in arguments.zoo.iterdir() if path.is_dir()):
        if not arguments.names or folder.name in arguments.names:
            print(f"| {folder.name} | {' | '.join(_tried(folder, arguments.device))} |", flush=True)


def _tried(folder: Path, device: str) -> tuple[str, str, str, str]:
    kind = "?"
    with tempfile.TemporaryDirectory(prefix="wetread-zoo-") as temporary:
        copy = Path(temporary) / folder.name
        shutil.copytree(folder, copy)
        try:
            bundle = opened(Folder(copy), Options(), classifies=False)
            kind = "code" if bundle.reasons else "data"
            fields = _filled_in(propose(copy)["manifest"])
            _random_weights(copy, fields)
            package = _vouched_for(copy, fields)
            model = MonaiBundle(package)
            began = time.perf_counter()
            model.load(device)
            loaded = time.perf_counter()
            findings = model.run(_given(package.manifest), Context())
        except WetreadError as refusal:
            return kind, "", "", f"refused: {refusal}".replace("|", "/").replace("\n", " ")
        ran = time.perf_counter()
        drawn = f"{len(package.manifest.segments)} segments" if package.manifest.segments else ""
        said = ", ".join(
            text
            for text in (
                drawn,
                f"{len(findings.boxes)} boxes" if "detection" in package.manifest.tasks else "",
                f"{len(findings.verdicts)} classes" if findings.verdicts else "",
            )
            if text
        )
        told = f"{findings.outcome}: {said}" + (f" ({findings.because})" if not said else "")
        return kind, f"{loaded - began:.1f}", f"{ran - loaded:.1f}", told


def _filled_in(fields: dict[str, Any]) -> dict[str, Any]:
    """What `propose` leaves to a person."""
    if len(fields.get("segments", [])) > _MANY and fields["name"].startswith("vista"):
        # A network with prompts sees the volume once for every few classes: one pass shows that it runs.
        values = [one.get("value", one["number"]) for one in fields["segments"]]
        fields.setdefault("options", {})["prompts"] = values[:4]
    for one in fields.get("segments", []):
        if "structure" not in one:
            one |= {"category": _TISSUE, "kind": _TISSUE}
    for one in fields.get("classes", []):
        one |= {"finding": _TISSUE, "threshold": 0.0}
    return fields


def _random_weights(folder: Path, fields: dict[str, Any]) -> None:
    """Write what `large_files.yml` would have fetched: weights, and an architecture if one is wanted."""
    options = Options.model_validate(fields.get("options", {}))
    bundle = opened(Folder(folder), options, classifies="classification" in fields["tasks"])
    (folder / "models").mkdir(exist_ok=True)
    for one in bundle.configuration.large_files:
        if "search_code" in one.path:
            rng = np.random.default_rng(0)
            codes = {
                "node_a": np.ones((13, 4), np.int64),
                "arch_code_a": np.ones((12, 10), np.int64),
                "arch_code_c": rng.integers(0, 4, (12, 10)),
            }
            torch.save(codes, folder / one.path)
    builder, inside = prepared(bundle, str(folder), torch.device("cpu"))
    with inside(), quiet():
        path = folder / weights_path(bundle, builder)
        state = network_of(bundle, builder).state_dict()
    half = {name: one.half() if one.is_floating_point() else one for name, one in state.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(half, path)


def _vouched_for(folder: Path, fields: dict[str, Any]) -> Package:
    files = []
    for path in Folder(folder).paths():
        content = (folder / path).read_bytes()
        if " " not in path:
            files.append({"path": path, "sha256": sha256(content).hexdigest(), "size": len(content)})
    return Package(folder, Manifest.model_validate({**fields, "files": files}))


def _given(manifest: Manifest) -> Given:
    rng = np.random.default_rng(1)
    if manifest.given == "image":
        return Image(array=rng.integers(0, 256, (240, 320, 3)).astype(np.uint8), spacing_mm=None)
    affine = np.array(
        [
            [0, 0, _SPACING_MM[2], -60],
            [0, _SPACING_MM[1], 0, -70],
            [_SPACING_MM[0], 0, 0, -40],
            [0, 0, 0, 1.0],
        ]
    )
    smooth = torch.nn.functional.interpolate(
        torch.from_numpy(rng.normal(0, 300, (1, 1, 8, 12, 11))), size=_SHAPE, mode="trilinear"
    )
    volume = hd.Volume(smooth[0, 0].numpy().astype(np.float32), affine, coordinate_system="PATIENT")
    if manifest.given == "volume":
        return volume
    names = [one.name for one in manifest.inputs]
    return SeriesSet(
        volumes=dict.fromkeys(names, volume), headers={name: {} for name in names}, reference=names[0]
    )


if __name__ == "__main__":
    main()

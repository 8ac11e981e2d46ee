"""A container is given the image without the patient, may do nothing else, and what it leaves is looked
at.
"""

import gzip
import json
import os
import shutil
import subprocess
import tarfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

import highdicom as hd
import nibabel
import numpy as np
import pydicom
import pytest

from ledger.job import Outcome
from models.contract import BrokenModel, Context, SettingsNotUnderstood
from models.manifest import Manifest
from models.package import Package
from models.prepare.grid import Grid
from models.runtimes.container import Container, ImageMissing, NoContainerEngine, _end_overdue
from models.runtimes.containers import given as giving
from models.runtimes.containers import left
from models.runtimes.containers.command import LABEL, UnfitFolder, command_line, kill_line
from models.runtimes.containers.command import Container as Run
from models.runtimes.containers.options import ContainerOptions, folders
from tests.models.making import manifest_of, package_of, volume_of
from tests.patience import patient
from tests.peers.loopback import until
from tests.peers.programs import find

PINNED = "registry.example/lab/model@sha256:" + "a" * 64
LABELS = np.zeros((5, 6, 7), np.int16)
LABELS[1:3, 2:5, 3] = 1
LABELS[3, 1, 4:6] = 2
HEADERS = {"Modality": "CT", "PatientName": "Doe^Jane", "PatientID": "MRN-4711", "KVP": "120"}


# runc runs under every arrangement of control groups, and the limits fit into those of a small machine.
ENGINE = """
[engine]
runtime = "runc"
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
"""


@pytest.fixture(autouse=True)
def engine(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """How Podman runs containers in these tests, whatever this machine says."""
    settings = tmp_path_factory.mktemp("engine") / "containers.conf"
    settings.write_text(ENGINE)
    monkeypatch.setenv("CONTAINERS_CONF", str(settings))


def busybox_image(folder: Path, name: str, script: str) -> str:
    """An image of one shell script, as Podman calls it, or a skip where no container can run here."""
    find("podman")
    busybox = find("busybox")
    root = folder / name
    root.mkdir()
    (root / "run.sh").write_text(f"#!/bin/busybox sh\nset -e\n{script}\n")
    (root / "run.sh").chmod(0o755)
    archive = folder / f"{name}.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(busybox, "bin/busybox")
        tar.add(root / "run.sh", "run.sh")
    made = subprocess.run(
        ["podman", "import", "--quiet", "--change", 'CMD ["/run.sh"]', str(archive)],
        capture_output=True, text=True, check=False, timeout=patient(60),
    )  # fmt: skip
    if made.returncode != 0:
        pytest.skip(f"podman cannot make images here: {made.stderr[-200:]}")
    return made.stdout.strip()


@pytest.fixture
def image(tmp_path: Path) -> Iterator[Callable[[str], str]]:
    made: list[str] = []

    def make(script: str) -> str:
        made.append(busybox_image(tmp_path, f"image{len(made)}", script))
        tried = subprocess.run(
            ["podman", "run", "--rm", "--network", "none", made[-1], "/bin/busybox", "true"],
            capture_output=True, text=True, check=False, timeout=patient(60),
        )  # fmt: skip
        if tried.returncode != 0:
            pytest.skip(f"podman cannot run anything here: {tried.stderr[-200:]}")
        return made[-1]

    yield make
    for one in made:
        subprocess.run(
            ["podman", "rmi", "--force", one], capture_output=True, check=False, timeout=patient(60)
        )


def model_of(folder: Path, image: str, *tasks: str, limit_s: float = 60, **options: object) -> Container:
    folder.mkdir(exist_ok=True)
    asked = {"image": image, "engine": "podman", "memory_mib": 256, "input": "nifti"} | options
    package = package_of(
        folder, "container", *(tasks or ("segmentation",)), options=asked, time_limit_s=limit_s
    )
    return Container(package)


@pytest.mark.peer
def test_a_container_draws_on_the_image_it_is_given(tmp_path: Path, image: Callable[[str], str]) -> None:
    model = model_of(tmp_path / "m", image("/bin/busybox cp /in/image.nii.gz /out/labels.nii.gz"))
    model.load("cpu")
    findings = model.run(volume_of(LABELS), Context(headers=HEADERS))
    assert findings.outcome is Outcome.FOUND
    assert np.array_equal(findings.label_map, LABELS)
    assert [one.label for one in findings.segments] == ["Liver", "Spleen"]


@pytest.mark.peer
def test_a_container_has_no_network_and_nowhere_else_to_write(
    tmp_path: Path, image: Callable[[str], str]
) -> None:
    script = """
touched=0; /bin/busybox touch /here 2>/dev/null && touched=1
/bin/busybox touch /in/there 2>/dev/null && touched=2
links=$(/bin/busybox ls /sys/class/net | /bin/busybox wc -w)
user=$(/bin/busybox id -u)
caps=$(/bin/busybox grep CapEff /proc/self/status | /bin/busybox cut -f2)
limit=0; [ "$caps" = 0000000000000000 ] && limit=1
echo "{\\"values\\": [$touched, $links, $user, $limit]}" > /out/result.json
"""
    model = model_of(tmp_path / "m", image(script), "regression")
    model.load("cpu")
    quantities = []
    for index in range(4):  # the manifest's one quantity, each time of another number
        facts = model.manifest.quantities[0].model_copy(update={"index": index, "scale": 1.0, "offset": 0.0})
        model.manifest = model.manifest.model_copy(update={"quantities": (facts,)})
        (found,) = model.run(volume_of(LABELS), Context()).measurements
        quantities.append(found.value)
    touched, interfaces, user, without_capabilities = quantities
    assert touched == 0
    assert interfaces == 1  # the loopback
    assert user == (65534 if os.geteuid() == 0 else os.geteuid())
    assert without_capabilities == 1


@pytest.mark.peer
def test_a_container_that_does_not_end_is_ended(tmp_path: Path, image: Callable[[str], str]) -> None:
    model = model_of(tmp_path / "m", image("while :; do :; done"), limit_s=3)
    model.load("cpu")
    began = time.monotonic()
    with pytest.raises(BrokenModel, match="did not end within 3 s"):
        model.run(volume_of(LABELS), Context())
    assert time.monotonic() - began < patient(30)
    # Podman clears away what was killed behind our back.
    until(lambda: not _left_over(), within_s=30, what="nothing of the container is left")


def _left_over() -> str:
    """The containers of models that are there, running or not."""
    return subprocess.run(
        ["podman", "ps", "--all", "--quiet", "--filter", "label=wetread.ends"],
        capture_output=True, text=True, check=True, timeout=patient(30),
    ).stdout  # fmt: skip


@pytest.mark.peer
def test_a_container_that_fails_is_quoted(tmp_path: Path, image: Callable[[str], str]) -> None:
    model = model_of(tmp_path / "m", image("echo no weights found >&2; exit 3"))
    model.load("cpu")
    with pytest.raises(BrokenModel, match=r"ended with 3.*no weights found"):
        model.run(volume_of(LABELS), Context())


@pytest.mark.peer
def test_a_container_that_leaves_a_link_is_refused(tmp_path: Path, image: Callable[[str], str]) -> None:
    model = model_of(tmp_path / "m", image("/bin/busybox ln -s /etc/passwd /out/labels.nii"))
    model.load("cpu")
    with pytest.raises(BrokenModel, match="no regular file"):
        model.run(volume_of(LABELS), Context())


@pytest.mark.peer
@pytest.mark.parametrize("convention", ["map", "mercure"])
def test_an_image_is_told_its_folders_as_its_platform_would(
    tmp_path: Path, image: Callable[[str], str], convention: str
) -> None:
    where = {"map": ("$HOLOSCAN_INPUT_PATH", "$HOLOSCAN_OUTPUT_PATH"),
             "mercure": ("$MERCURE_IN_DIR", "$MERCURE_OUT_DIR")}[convention]  # fmt: skip
    script = f"/bin/busybox ls {where[0]} | /bin/busybox grep -c dcm > {where[1]}/n\n"
    script += f'echo "{{\\"values\\": [$(/bin/busybox cat {where[1]}/n)]}}" > {where[1]}/result.json'
    if convention == "mercure":
        script = f"/bin/busybox grep -q threshold {where[0]}/task.json\n{script}"
    name = image(script)
    model = model_of(tmp_path / "m", name, "regression", convention=convention, input="dicom")
    model.load("cpu")
    context = Context(headers=HEADERS, settings={"threshold": 3} if convention == "mercure" else {})
    (found,) = model.run(volume_of(LABELS), context).measurements
    assert found.value == len(LABELS) * 10 + 3


@pytest.mark.peer
def test_an_image_that_is_not_here_is_named_with_the_command_that_brings_it(tmp_path: Path) -> None:
    find("podman")
    with pytest.raises(ImageMissing, match="podman pull registry"):
        model_of(tmp_path, PINNED).load("cpu")


def test_without_an_engine_the_site_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoContainerEngine, match="neither podman nor docker is installed"):
        model_of(tmp_path, PINNED, engine="auto").load("cpu")


def test_an_image_without_a_digest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BrokenModel, match="does not say which image exactly"):
        model_of(tmp_path, "registry.example/lab/model:latest")


def test_settings_are_taken_only_by_images_that_can_be_told_them(tmp_path: Path) -> None:
    model = model_of(tmp_path, PINNED)
    model._engine = "podman"
    with pytest.raises(SettingsNotUnderstood, match="threshold"):
        model.run(volume_of(LABELS), Context(settings={"threshold": 1}))


RUN = Run(
    name="wetread-1", image=PINNED, command=("go",), environment={"B": "2", "A": "1"},
    input_folder=Path("/scratch/in"), output_folder=Path("/scratch/out"), input_path=PurePosixPath("/in"),
    output_path=PurePosixPath("/out"), memory_mib=512, processes=64, scratch_mib=100, user=1000, group=1001,
    ends=99, gpu=1,
)  # fmt: skip


def test_the_command_line_is_dockers() -> None:
    assert " ".join(command_line("docker", RUN, rootless=False)) == (
        "docker run --rm --name wetread-1 --label wetread.ends=99 --pull never --network none --read-only "
        "--cap-drop ALL --security-opt no-new-privileges --pids-limit 64 --memory 512m --memory-swap 512m "
        "--ulimit core=0 --ulimit nofile=4096:4096 --ulimit nproc=4096:4096 --user 1000:1001 --tmpfs "
        "/tmp:rw,nosuid,nodev,size=100m "
        "--mount type=bind,src=/scratch/in,dst=/in,ro --mount type=bind,src=/scratch/out,dst=/out "
        f"--env A=1 --env B=2 --gpus device=1 {PINNED} go"
    )
    assert kill_line("docker", "wetread-1") == ["docker", "kill", "--signal", "KILL", "wetread-1"]


@pytest.mark.parametrize(
    "other",
    [
        {"output_path": PurePosixPath("/out,src=/srv/wetread")},
        {"input_path": PurePosixPath('/in",rw')},
        {"output_folder": Path("/scratch,src=/srv/out")},
        {"input_folder": Path("/scratch\n/in")},
    ],
    ids=str,
)
def test_no_folder_widens_what_a_container_may_write(other: dict[str, Path]) -> None:
    with pytest.raises(UnfitFolder, match="cannot be given to a container"):
        command_line("docker", replace(RUN, **other), rootless=False)


def test_podman_without_root_keeps_the_users_number_and_names_gpus_its_own_way() -> None:
    line = " ".join(command_line("podman", RUN, rootless=True))
    assert "--userns keep-id" in line
    assert "--device nvidia.com/gpu=1" in line
    assert "--gpus" not in line


def test_docker_itself_understands_every_option() -> None:
    """Its client reads the whole line before it looks for its service, which is not needed for this."""
    docker = shutil.which("docker")
    if docker is None:
        pytest.skip("there is no docker client here")
    line = command_line("docker", RUN, rootless=False)
    tried = subprocess.run(
        line, capture_output=True, text=True, check=False, timeout=patient(30),
        env={"DOCKER_HOST": "unix:///nowhere/docker.sock", "PATH": os.environ["PATH"], "HOME": "/nowhere"},
    )  # fmt: skip
    assert "unknown" not in tried.stderr
    assert "annot connect" in tried.stderr, tried.stderr


def test_an_application_package_says_where_it_looks(tmp_path: Path) -> None:
    said = {"command": "python3 -m app", "environment": {"X": "1"}, "input": {"path": "in/"},
            "output": {"path": "/var/elsewhere"}, "workingDirectory": "/var/work"}  # fmt: skip
    (tmp_path / "app.json").write_text(json.dumps(said))
    asked = ContainerOptions(image=PINNED, convention="map")
    found = folders(Package(tmp_path, manifest_of(tmp_path)), asked)
    assert (str(found.input), str(found.output)) == ("/var/work/in", "/var/elsewhere")
    assert found.command == ("python3", "-m", "app")
    assert found.environment["HOLOSCAN_INPUT_PATH"] == "/var/work/in"
    assert found.environment["X"] == "1"


@pytest.mark.parametrize(
    "said",
    [
        {"input": {"path": "../../etc"}},
        {"output": {"path": "/out,src=/srv/wetread"}},
        {"output": {"path": 'out",src=/srv'}},
        {"input": {"path": "in\nro"}},
        {"workingDirectory": "var/work"},
        {"workingDirectory": "/"},
    ],
    ids=str,
)
def test_an_application_package_cannot_have_its_folders_anywhere(
    tmp_path: Path, said: dict[str, object]
) -> None:
    (tmp_path / "app.json").write_text(json.dumps(said))
    with pytest.raises(BrokenModel, match="names the folder"):
        folders(Package(tmp_path, manifest_of(tmp_path)), ContainerOptions(image=PINNED, convention="map"))


def test_what_is_given_as_dicom_is_the_image_and_not_the_patient(tmp_path: Path) -> None:
    volume = volume_of(LABELS.astype(np.float32) * 1.5 - 1000)
    giving.write_dicom(volume, Context(headers=HEADERS), manifest_of(tmp_path), tmp_path)
    datasets = [pydicom.dcmread(path) for path in sorted(tmp_path.glob("*.dcm"))]
    assert {str(one.PatientName) for one in datasets} == {"Anonymous"}
    assert not any("Doe" in str(one) or "MRN-4711" in str(one) for one in datasets)
    assert datasets[0].KVP == 120
    back = hd.image.get_volume_from_series(datasets).match_geometry(volume)
    assert np.allclose(back.array, volume.array, atol=1e-3)
    assert np.allclose(back.affine, volume.affine, atol=1e-4)


def test_what_is_given_as_nifti_is_read_by_nibabel(tmp_path: Path) -> None:
    path = tmp_path / "image.nii.gz"
    giving.write_nifti(volume_of(LABELS), manifest_of(tmp_path), path)
    image = nibabel.load(path)
    assert np.array_equal(np.asarray(image.dataobj), LABELS.transpose(2, 1, 0))
    ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume_of(LABELS).affine[:, [2, 1, 0, 3]]
    assert np.allclose(image.affine, ras, atol=1e-5)


def found_in(folder: Path, *tasks: str, **options: object) -> object:
    manifest: Manifest = package_of(folder, "container", *tasks, options={"image": PINNED}).manifest
    said = ContainerOptions.model_validate({"image": PINNED} | options)
    return left.findings_of(folder, manifest, said, Grid.of(volume_of(LABELS)))


def test_a_label_map_of_nibabels_on_another_grid_is_brought_back(tmp_path: Path) -> None:
    flipped = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume_of(LABELS).affine[:, [2, 1, 0, 3]]
    turned = flipped @ np.array([[-1, 0, 0, 6], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    data = LABELS.transpose(2, 1, 0)[::-1].astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(data, turned), tmp_path / "labels.nii.gz")
    assert np.array_equal(found_in(tmp_path, "segmentation").label_map, LABELS)


def test_numbers_in_json_mean_what_the_manifest_says(tmp_path: Path) -> None:
    said = {"nodules": {"boxes": [[1, 1, 1, 3, 4, 5]], "scores": [0.8]}, "classes": [0.3, 0.9], "mm": [1.5],
            "points": [[1, 2, 3], [0, 0, 1]], "words": "ignored", "ragged": [[1], [1, 2]]}  # fmt: skip
    (tmp_path / "result.json").write_text(json.dumps(said))
    findings = found_in(
        tmp_path, "detection", "classification", "regression", "landmarks",
        detection={"boxes": "nodules.boxes", "scores": "nodules.scores"},
        classification={"output": "classes", "activation": "none"},
        regression={"output": "mm"}, landmarks={"output": "points", "form": "coordinates"},
    )  # fmt: skip
    assert findings.boxes[0].low == (0.5, 0.5, 0.5)
    assert findings.boxes[0].high == (2.5, 3.5, 4.5)
    assert findings.verdicts[0].probability == pytest.approx(0.3)
    assert findings.measurements[0].value == 18.0
    assert np.allclose([one.at for one in findings.points], [(1, 2, 3), (0, 0, 1)])


def nothing(folder: Path) -> None:
    pass


def two_maps(folder: Path) -> None:
    for name in ("a.nii", "b.nii"):
        (folder / name).write_bytes(b"")


def cut_off(folder: Path) -> None:
    affine = np.eye(4)
    (folder / "a.nii").write_bytes(giving.nifti_header(LABELS, affine) + LABELS.tobytes()[:-2])


def damaged(folder: Path) -> None:
    (folder / "a.nii.gz").write_bytes(gzip.compress(bytes(1000))[:-12] + b"x" * 12)


def no_place(folder: Path) -> None:
    header = bytearray(giving.nifti_header(LABELS, np.eye(4)))
    header[254:256] = b"\0\0"
    (folder / "a.nii").write_bytes(bytes(header) + LABELS.tobytes())


def no_labels(folder: Path) -> None:
    array = np.full(LABELS.shape, -5, np.int16)
    (folder / "a.nii").write_bytes(giving.nifti_header(array, np.eye(4)) + array.tobytes())


def second_name(folder: Path) -> None:
    (folder / "a.nii").write_bytes(b"")
    os.link(folder / "a.nii", folder / "b.txt")


@pytest.mark.parametrize(
    ("leave", "why"),
    [
        (nothing, "left 0 files like"), (two_maps, "left 2 files like"), (cut_off, "is cut off"),
        (damaged, "damaged|no label map"), (no_place, "does not say where it lies"),
        (no_labels, "values that are no labels"), (second_name, "no regular file"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)  # fmt: skip
def test_what_cannot_be_used_is_refused_with_what_is_wrong(
    tmp_path: Path, leave: Callable[[Path], None], why: str
) -> None:
    leave(tmp_path)
    with pytest.raises(BrokenModel, match=why):
        found_in(tmp_path, "segmentation")


def memory_of(read: Callable[[], object]) -> int:
    """The most bytes that were held while reading."""
    tracemalloc.start()
    try:
        read()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("side", [800, 32767])
def test_a_label_map_of_many_more_voxels_than_the_image_is_not_unpacked(tmp_path: Path, side: int) -> None:
    header = giving.nifti_header(LABELS, np.eye(4))
    sides = np.full(3, side, "<i2").tobytes()
    (tmp_path / "a.nii.gz").write_bytes(
        gzip.compress(header[:40] + b"\x03\0" + sides + header[48:] + bytes(64 << 20))
    )

    def read() -> None:
        with pytest.raises(BrokenModel, match=f"has {side**3} voxels, and the image has 210"):
            found_in(tmp_path, "segmentation")

    assert memory_of(read) < 4 << 20


def test_no_more_of_a_label_map_is_unpacked_than_its_header_says(tmp_path: Path) -> None:
    header = giving.nifti_header(LABELS, np.eye(4))
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(header + LABELS.tobytes() + bytes(64 << 20)))
    assert memory_of(lambda: found_in(tmp_path, "segmentation")) < 4 << 20


def test_a_label_map_whose_sum_does_not_agree_is_damaged(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(giving.nifti_header(LABELS, np.eye(4)) + LABELS.tobytes()))
    packed[-8] ^= 1
    (tmp_path / "a.nii.gz").write_bytes(packed)
    with pytest.raises(BrokenModel, match="is damaged"):
        found_in(tmp_path, "segmentation")


@pytest.mark.peer
def test_a_container_that_outlived_its_worker_is_ended_by_the_next_run(
    tmp_path: Path, image: Callable[[str], str]
) -> None:
    forgotten = ["podman", "run", "--detach", "--rm", "--name", "wetread-forgotten", "--label", f"{LABEL}=1"]
    subprocess.run([*forgotten, "--network", "none", image("while :; do /bin/busybox sleep 1; done")],
                   check=True, capture_output=True, timeout=patient(60))  # fmt: skip
    _end_overdue("podman")
    running = subprocess.run(
        ["podman", "ps", "--quiet", "--filter", "name=wetread-forgotten"],
        capture_output=True, text=True, check=True, timeout=patient(30),
    )  # fmt: skip
    assert running.stdout == ""


def test_a_segmentation_object_is_brought_to_the_grid(tmp_path: Path) -> None:
    volume = volume_of(LABELS)
    sources = tmp_path / "in"
    sources.mkdir()
    giving.write_dicom(volume, Context(headers=HEADERS), manifest_of(tmp_path), sources)
    descriptions = [
        hd.seg.SegmentDescription(
            segment_number=number, segment_label=str(number), algorithm_type="MANUAL",
            segmented_property_category=hd.sr.CodedConcept("113343008", "SCT", "Organ"),
            segmented_property_type=hd.sr.CodedConcept("10200004", "SCT", "Liver"),
        )
        for number in (1, 2)
    ]  # fmt: skip
    datasets = [pydicom.dcmread(path) for path in sorted(sources.glob("*.dcm"))]
    for dataset in datasets:  # what highdicom copies into a SEG
        for keyword in ("PatientBirthDate", "PatientSex", "AccessionNumber", "StudyDate", "StudyTime",
                        "ReferringPhysicianName"):  # fmt: skip
            setattr(dataset, keyword, "")
    made = hd.seg.Segmentation(
        source_images=datasets, pixel_array=LABELS.astype(np.uint8), segmentation_type="BINARY",
        segment_descriptions=descriptions, series_instance_uid=hd.UID(), series_number=2,
        sop_instance_uid=hd.UID(), instance_number=1, manufacturer="m", manufacturer_model_name="m",
        software_versions="1", device_serial_number="1",
    )  # fmt: skip
    left_in = tmp_path / "out"
    left_in.mkdir()
    made.save_as(left_in / "seg.dcm")
    assert np.array_equal(found_in(left_in, "segmentation", segmentation="*.dcm").label_map, LABELS)
    made.NumberOfFrames = 1 << 21
    made.save_as(left_in / "seg.dcm")
    with pytest.raises(BrokenModel, match="and the image has 210"):
        found_in(left_in, "segmentation", segmentation="*.dcm")

"""PixelMed's validator of reports, the only one that knows the rows of TID 1500 and its context groups.

Its two stylesheets take six seconds to be read, so one Java machine judges all files. That is asked for in
JavaScript, which Rhino runs: a headless JRE has no compiler.
"""

import copy
import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

import pydicom
from pydicom import Dataset

from tests.patience import patient
from tests.peers.programs import find, missing

#: What brings the jars; `tests/peers/install.sh` installs the first two, and they need the others.
PACKAGES = (
    "libpixelmed-java",
    "librhino-java",
    "libcommons-codec-java",
    "libjsonp-java",
    "libslf4j-java",
    "libvecmath-java",
    "libjaxb-api-java",
)
_JARS = ("pixelmed", "js", "commons-codec", "javax.json", "javax.json-api", "slf4j-api", "slf4j-nop",
         "vecmath", "jaxb-api")  # fmt: skip
_INSTALLED = Path("/usr/share/java")
_CACHE = Path(__file__).resolve().parents[2] / ".cache" / "pixelmed"
# The validator is an XSLT of its own that is larger than Java's limits for strangers' stylesheets.
_LIMITS = (
    # It lives for seconds: no time to compile thoroughly, or to collect garbage on every core.
    "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC",
    "-Djdk.xml.xpathExprOpLimit=0", "-Djdk.xml.xpathTotalOpLimit=0", "-Djdk.xml.xpathExprGrpLimit=0",
)  # fmt: skip
_MARK = "===="
_ASK = f"""
var validator = new Packages.com.pixelmed.validate.DicomSRValidator();
for (var i = 0; i < arguments.length; i++) {{
    print("{_MARK}" + arguments[i]);
    print(validator.validate(arguments[i]));
}}
"""


def validate(reports: Sequence[Path], work: Path) -> dict[Path, list[str]]:
    """What DicomSRValidator says of each report, line by line; `work` is a folder for its question."""
    java, jars = find("java"), _jars()
    work.mkdir(parents=True, exist_ok=True)
    script = work / "validate.js"
    script.write_text(_ASK)
    done = subprocess.run(
        [java, *_LIMITS, "-cp", os.pathsep.join(map(str, jars)), "org.mozilla.javascript.tools.shell.Main",
         script, *reports],
        capture_output=True, text=True, timeout=patient(300), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said: dict[Path, list[str]] = {}
    lines: list[str] = []
    for line in done.stdout.splitlines():
        if line.startswith(_MARK):
            lines = said[Path(line.removeprefix(_MARK))] = []
        elif line:
            lines.append(line)
    assert said.keys() == set(reports), f"PixelMed did not answer for every file: {done.stderr[-500:]}"
    return said


def one_kind_of_group_each(report: Path, work: Path) -> list[Path]:
    """Copies of `report`, each with the measurement groups of one template only.

    TID 1500 lets groups of TID 1410, 1411 and 1501 stand side by side. This validator decides once for all
    groups of a report which of the three they are, and then misses the rows of a region in a group that has
    none. Every group is judged all the same, among its like.
    """
    whole = pydicom.dcmread(report)
    kinds = {str(group.ContentTemplateSequence[0].TemplateIdentifier) for group in _groups(whole)}
    if len(kinds) < 2:
        return [report]
    work.mkdir(parents=True, exist_ok=True)
    paths = []
    for kind in sorted(kinds):
        part = copy.deepcopy(whole)
        for container in _containers(part):
            container.ContentSequence = [
                group
                for group in container.ContentSequence
                if "ContentTemplateSequence" not in group
                or group.ContentTemplateSequence[0].TemplateIdentifier == kind
            ]
        paths.append(work / f"{report.stem}-{kind}.dcm")
        part.save_as(paths[-1], enforce_file_format=True)
    return paths


def _containers(report: Dataset) -> Iterable[Dataset]:
    return (
        item for item in report.ContentSequence
        if item.ConceptNameCodeSequence[0].CodeValue == "126010"
    )  # fmt: skip


def _groups(report: Dataset) -> Iterable[Dataset]:
    for container in _containers(report):
        yield from (group for group in container.ContentSequence if "ContentTemplateSequence" in group)


def _jars() -> list[Path]:
    """The validator's class path: as Debian installs it, or fetched once into the cache."""
    installed = [_INSTALLED / f"{name}.jar" for name in _JARS]
    return installed if all(jar.exists() for jar in installed) else _fetched()


def _fetched() -> list[Path]:
    unpacked = _CACHE / "unpacked"
    jars = [unpacked / "usr/share/java" / f"{name}.jar" for name in _JARS]
    if not all(jar.exists() for jar in jars):
        if shutil.which("apt-get") is None:
            missing("PixelMed is not here: it comes with the Debian packages libpixelmed-java, librhino-java")
        _CACHE.mkdir(parents=True, exist_ok=True)
        fetched = subprocess.run(
            ["apt-get", "download", *PACKAGES],
            cwd=_CACHE, capture_output=True, text=True, timeout=patient(120), check=False,
        )  # fmt: skip
        packages = sorted(_CACHE.glob("*.deb"))
        if fetched.returncode or len(packages) < len(PACKAGES):
            missing(f"PixelMed could not be fetched: {fetched.stderr.strip()[-200:]}")
        for package in packages:
            subprocess.run(["dpkg", "-x", package, unpacked], check=True, timeout=patient(60))
    return jars

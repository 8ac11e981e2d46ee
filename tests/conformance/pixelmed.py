"""PixelMed's validator of reports, the only one that knows the rows of TID 1500 and its context groups."""

import shutil
import subprocess
from pathlib import Path

from tests.peers.programs import find, missing

_PACKAGES = (
    "libpixelmed-java",
    "libcommons-codec-java",
    "libjsonp-java",
    "libslf4j-java",
    "libvecmath-java",
    "libjaxb-api-java",
)
_CACHE = Path(__file__).resolve().parents[2] / ".cache" / "pixelmed"
# The validator is an XSLT of its own that is larger than Java's limits for strangers' stylesheets.
_LIMITS = ("-Djdk.xml.xpathExprOpLimit=0", "-Djdk.xml.xpathTotalOpLimit=0", "-Djdk.xml.xpathExprGrpLimit=0")


def validate(report: Path) -> list[str]:
    """What DicomSRValidator says of `report`, line by line."""
    java, jars = find("java"), _jars()
    arguments = [
        str(java),
        *_LIMITS,
        "-cp",
        ":".join(jars),
        "com.pixelmed.validate.DicomSRValidator",
        str(report),
    ]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=False)
    return [
        line for line in (done.stdout + done.stderr).splitlines() if line and not line.startswith("SLF4J")
    ]


def _jars() -> list[str]:
    """The validator's class path; fetched once into the cache from Debian, without installing anything."""
    unpacked = _CACHE / "unpacked"
    if not (unpacked / "usr/share/java/pixelmed.jar").exists():
        if shutil.which("apt-get") is None:
            missing("PixelMed is not here: it comes with the Debian package libpixelmed-java")
        _CACHE.mkdir(parents=True, exist_ok=True)
        fetched = subprocess.run(
            ["apt-get", "download", *_PACKAGES],
            cwd=_CACHE,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        packages = sorted(_CACHE.glob("*.deb"))
        if fetched.returncode or len(packages) < len(_PACKAGES):
            missing(f"PixelMed could not be fetched: {fetched.stderr.strip()[-200:]}")
        for package in packages:
            subprocess.run(["dpkg", "-x", str(package), str(unpacked)], check=True, timeout=60)
    names = (
        "pixelmed",
        "commons-codec",
        "javax.json",
        "javax.json-api",
        "slf4j-api",
        "slf4j-nop",
        "vecmath",
        "jaxb-api",
    )
    jars = [unpacked / "usr/share/java" / f"{name}.jar" for name in names]
    assert jars[0].exists(), "libpixelmed-java has no pixelmed.jar"
    return [str(jar) for jar in jars if jar.exists()]

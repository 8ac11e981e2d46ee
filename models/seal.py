"""
The digests of a model's files: taken of what lies in its folder, written into its manifest, compared again.

Who installs a model from a folder vouches for what is in it now; from then on its manifest does.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from models.contract import BrokenModel
from models.manifest import FileFact, Manifest
from models.package import Package
from models.shelf import MANIFESTS, manifest_path, package_in
from models.signature import FILE_NAME as SIGNATURE

_PIECE_BYTES = 1 << 20
_PROSE = (".md", ".rst", ".pdf", ".bib", ".cff")  # Nothing opens it, so nobody has to vouch for it.


def files_in(folder: Path) -> tuple[FileFact, ...]:
    """What lies in the folder, with digests: all but manifest, signature and prose."""
    found = []
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder).as_posix()
        if path.is_file() and not path.is_symlink() and not _is_beside(relative):
            found.append(FileFact(path=relative, sha256=_sha256(path), size=path.stat().st_size))
    return tuple(found)


def sealed(folder: Path) -> Package:
    """The model in `folder`, every file with its digest; nothing is written. For a model in the making."""
    package = package_in(folder)
    if package.manifest.files:
        return package
    manifest = package.manifest.model_copy(update={"files": files_in(folder)})
    return Package(folder, manifest, package.written)


def seal(folder: Path) -> Package:
    """Write the digests of all files into the manifest, unless it has some; the model as it is then."""
    package = package_in(folder)
    if package.manifest.files:
        return package
    path = manifest_path(folder)
    text = path.read_text(encoding="utf-8").rstrip() + "\n\n"
    facts = files_in(folder)
    path.write_text(text + (_toml(facts) if path.suffix == ".toml" else _yaml(facts)), encoding="utf-8")
    package = package_in(folder)
    if package.manifest.files != facts:
        raise BrokenModel(f"the digests cannot be written into {path.name}: `files` has to be left out of it")
    return package


def wrong_with(package: Package) -> list[str]:
    """What is not as the manifest says, a sentence for each: changed, missing, or not named there."""
    found = []
    for fact in package.manifest.files:
        try:
            package.open(fact.path).close()
        except BrokenModel as error:
            found.append(str(error))
    named = {fact.path for fact in package.manifest.files}
    for path in sorted(package.folder.rglob("*")):
        relative = path.relative_to(package.folder).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            found.append(f"model {package.manifest.identity}: {relative} is a link or no file at all")
        elif path.is_file() and relative not in named and not _is_beside(relative):
            found.append(f"model {package.manifest.identity}: {relative} is not named in its manifest")
    return found


def check_whole(package: Package) -> None:
    """Raise `BrokenModel` unless everything is as the manifest says."""
    if wrong := wrong_with(package):
        raise BrokenModel("; ".join(wrong))


def weight_mib(manifest: Manifest) -> float:
    """How much there is of it on disk."""
    return sum(fact.size for fact in manifest.files) / 2**20


def _is_beside(relative: str) -> bool:
    name = relative.rpartition("/")[2]
    at_top = relative in (*MANIFESTS, SIGNATURE)
    prose = name.lower().endswith(_PROSE) or name.upper() in ("LICENSE", "LICENCE", "NOTICE", "README")
    return at_top or prose or "__pycache__" in relative or name.startswith(".")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def _toml(facts: Iterable[FileFact]) -> str:
    return "\n".join(
        f'[[files]]\npath = "{one.path}"\nsha256 = "{one.sha256}"\nsize = {one.size}\n' for one in facts
    )


def _yaml(facts: Iterable[FileFact]) -> str:
    # Quoted: a digest of digits alone would be read as a number.
    rows = [f'  - {{path: "{one.path}", sha256: "{one.sha256}", size: {one.size}}}' for one in facts]
    return "\n".join(["files:", *rows]) + "\n" if rows else "files: []\n"

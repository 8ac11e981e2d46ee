"""
What a file says of itself, for who adds it: the beginning of a manifest, and in sentences what is missing.

Nothing is run, and nothing of the file is believed: a person reads the proposal and completes it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def proposal(
    runtime: str,
    folder: Path,
    endings: tuple[str, ...],
    *,
    options: dict[str, Any] | None = None,
    missing: Sequence[str] = (),
    tasks: Sequence[str] = (),
    given: str | None = None,
) -> dict[str, Any]:
    """`manifest`: the fields that can be told; `missing`: sentences on what is to be filled in or checked."""
    files = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink() and path.name.endswith(endings)
    )
    manifest: dict[str, Any] = {"runtime": runtime, "options": dict(options or {})}
    sentences = list(missing)
    if len(files) > 1:
        manifest["options"]["file"] = files[0]
        sentences.append(f"Say in [options] file which one of {', '.join(files)} holds the network.")
    if not files:
        sentences.append(f"There is no file that ends in {' or '.join(endings)}.")
    if tasks:
        manifest["tasks"] = list(tasks)
    if given is not None:
        manifest["given"] = given
    return {"manifest": manifest, "missing": sentences}

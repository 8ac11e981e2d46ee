"""
The command line that runs a container, for Docker and for Podman.

Everything that decides how much a container may is here and nowhere else: no network, a root file system that
it cannot write, no capabilities, no more memory and processes than it is given, one folder to read and one to
write. The options are those of https://docs.docker.com/reference/cli/docker/container/run and
https://docs.podman.io/en/stable/markdown/podman-run.1.html.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from ledger.errors import SiteError

_ENDS_A_PATH = set(',"\r\n')  # `--mount` is a line of comma-separated values.

Engine = Literal["docker", "podman"]

LABEL = "wetread.ends"  #: when the container is to be gone, in seconds of the epoch


class UnfitFolder(SiteError):
    """A folder's name cannot be told to a container engine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """One run of one image."""

    name: str
    image: str  #: with its digest
    command: tuple[str, ...] = ()
    environment: Mapping[str, str]
    input_folder: Path
    output_folder: Path
    input_path: PurePosixPath  #: where it finds the input
    output_path: PurePosixPath
    workdir: PurePosixPath | None = None
    memory_mib: int
    processes: int
    scratch_mib: int  #: of /tmp, which is memory
    user: int
    group: int
    ends: int
    gpu: int | None = None


def command_line(engine: Engine, one: Container, *, rootless: bool) -> list[str]:
    """What starts the container and stays until it ends. Raises `UnfitFolder`."""
    for folder in (one.input_folder, one.input_path, one.output_folder, one.output_path):
        if _ENDS_A_PATH & set(str(folder)):
            raise UnfitFolder(
                f"the folder {str(folder)!r} cannot be given to a container: {engine} would read what "
                "follows a comma, a quotation mark or a line end in its name as further options; give the "
                "worker another temporary folder (TMPDIR)"
            )
    line = [engine, "run", "--rm", "--name", one.name, "--label", f"{LABEL}={one.ends}"]
    line += ["--pull", "never", "--network", "none", "--read-only", "--cap-drop", "ALL"]
    line += ["--security-opt", "no-new-privileges", "--pids-limit", str(one.processes)]
    line += ["--memory", f"{one.memory_mib}m", "--memory-swap", f"{one.memory_mib}m"]
    # A core dump holds the patient's images. Of the others the engine's default is more than we may give.
    line += ["--ulimit", "core=0", "--ulimit", "nofile=4096:4096", "--ulimit", "nproc=4096:4096"]
    line += ["--user", f"{one.user}:{one.group}"]
    if engine == "podman" and rootless:
        line += ["--userns", "keep-id"]  # Otherwise the numbers would be others outside.
    line += ["--tmpfs", f"/tmp:rw,nosuid,nodev,size={one.scratch_mib}m"]  # noqa: S108 # inside
    line += ["--mount", f"type=bind,src={one.input_folder},dst={one.input_path},ro"]
    line += ["--mount", f"type=bind,src={one.output_folder},dst={one.output_path}"]
    if one.workdir is not None:
        line += ["--workdir", str(one.workdir)]
    for name, value in sorted(one.environment.items()):
        line += ["--env", f"{name}={value}"]
    if one.gpu is not None:
        line += (
            ["--gpus", f"device={one.gpu}"]
            if engine == "docker"
            else ["--device", f"nvidia.com/gpu={one.gpu}"]
        )
    return [*line, one.image, *one.command]


def kill_line(engine: Engine, name: str) -> list[str]:
    """What ends the container; its `--rm` then takes it away."""
    return [engine, "kill", "--signal", "KILL", name]


def overdue_line(engine: Engine) -> list[str]:
    """What lists our containers, one a line: name, a space, when it is to be gone."""
    label = f'{{{{index .Labels "{LABEL}"}}}}' if engine == "podman" else f'{{{{.Label "{LABEL}"}}}}'
    return [engine, "ps", "--filter", f"label={LABEL}", "--format", f"{{{{.Names}}}} {label}"]

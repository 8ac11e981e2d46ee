# Commands import what they need when they run, and Typer wants their options as plain arguments:
# ruff: noqa: PLC0415
"""`wetread viewer`: OHIF, served by the console from what lies here."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from console.options import Config, Data, OpenSite
from console.viewer.obtain import VERSION

if TYPE_CHECKING:
    pass


def viewer_app(open_site: OpenSite) -> typer.Typer:
    """The commands; `open_site` is how the command line finds the settings."""
    app = typer.Typer(help="The viewer that the console opens results in: OHIF.", no_args_is_help=True)

    @app.command("install")
    def install(
        source: Annotated[
            Path | None,
            typer.Option("--from", metavar="FILE.tgz", help="An archive that `npm pack` made elsewhere."),
        ] = None,
        version: Annotated[str, typer.Option(help="Of OHIF.")] = VERSION,
        sha512: Annotated[
            str | None,
            typer.Option(
                "--sha512", help="Of its npm archive, in base64: for versions that Wetread does not know."
            ),
        ] = None,
        config: Config = None,
        data: Data = None,
    ) -> None:
        """Fetch OHIF with this machine's npm, or take an archive, and make it ready. Needs no restart.

        The archive has to have the SHA-512 that is known; nothing of it is run here.
        """
        from console.viewer import installed

        site = open_site(config, data)
        say = _console()
        viewer = installed.install(
            site.data, source=source, version=version, sha512=sha512, progress=say.print
        )
        say.print(
            f"OHIF {viewer.index.version} is installed ({viewer.index.size / 2**20:.0f} MiB): the console "
            "opens results in it from now on. Its licence (MIT) lies beside it."
        )

    @app.command("status")
    def status(config: Config = None, data: Data = None) -> None:
        """Say which viewer is installed. Exit code 1 where there is none, or a damaged one."""
        from console.viewer import installed

        viewer = installed.find_viewer(open_site(config, data).data)
        if viewer is None:
            raise installed.NoViewer(installed.HOW)
        _console().print(
            f"OHIF {viewer.index.version}, {len(viewer.index.files)} files, "
            f"{viewer.index.size / 2**20:.0f} MiB, in {viewer.folder}",
            soft_wrap=True,
        )

    @app.command("remove")
    def remove(config: Config = None, data: Data = None) -> None:
        """Take the viewer away."""
        from console.viewer import installed

        version = installed.remove(open_site(config, data).data)
        _console().print(f"OHIF {version} is removed")

    return app


def _console() -> Console:
    return Console(highlight=False)

# Commands import what they need when they run, and Typer wants their options as plain arguments:
# ruff: noqa: PLC0415
"""`wetread account` and `wetread audit`: who may use the console, and who did what."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from console.options import Config, Data, OpenLedger, OpenSite
from ledger.account import Role

if TYPE_CHECKING:
    pass


Name = Annotated[str, typer.Argument(help="Name of the account.")]


def accounts_app(open_site: OpenSite, open_ledger: OpenLedger) -> typer.Typer:
    """`wetread account`."""
    app = typer.Typer(no_args_is_help=True, help="Who may use the console.")

    @app.command("list")
    def list_(config: Config = None, data: Data = None) -> None:
        """List all accounts: role, second factor, when each was last used."""
        from console.accounts import print_accounts

        print_accounts(open_ledger(open_site(config, data)), _console())

    @app.command("add")
    def add(
        name: Name,
        role: Annotated[Role, typer.Option(help="What it may do.")] = Role.VIEWER,
        config: Config = None,
        data: Data = None,
    ) -> None:
        """Make an account. Its first password is printed once."""
        from console.accounts import add as add_account

        add_account(open_ledger(open_site(config, data)), name, role, _console())

    @app.command("reset")
    def reset(name: Name, config: Config = None, data: Data = None) -> None:
        """Print a new password, once. It opens a lock, drops the second factor and revokes all tokens."""
        from console.accounts import reset as reset_account

        reset_account(open_ledger(open_site(config, data)), name, _console())

    @app.command("disable")
    def disable(name: Name, config: Config = None, data: Data = None) -> None:
        """Sign an account out everywhere, and let nobody in with it. `reset` lets it in again."""
        from console.accounts import disable as disable_account

        disable_account(open_ledger(open_site(config, data)), name, _console())

    @app.command("free")
    def free(name: Name, config: Config = None, data: Data = None) -> None:
        """Disable the account of somebody who has left, so that another one can have the name."""
        from console.accounts import free as free_account

        free_account(open_ledger(open_site(config, data)), name, _console())

    return app


def audit_app(open_site: OpenSite, open_ledger: OpenLedger) -> typer.Typer:
    """`wetread audit`."""
    app = typer.Typer(no_args_is_help=True, help="Who did what: the audit trail.")

    @app.command("verify")
    def verify(
        known: Annotated[
            str, typer.Option(metavar="NUMBER:DIGEST", help="What an earlier walk said, to be found again.")
        ] = "",
        config: Config = None,
        data: Data = None,
    ) -> None:
        """Walk the chain of all rows. Exit code 1 where one was altered; the message names the first."""
        from console.accounts import verify_audit

        verify_audit(open_ledger(open_site(config, data)), _console(), known=known)

    return app


def _console() -> Console:
    return Console(highlight=False)

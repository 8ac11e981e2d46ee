"""Every text that the console says in the visitor's language, read from its templates and tables."""

import re
from pathlib import Path

from console.tables import STAGES
from console.web.access import door, passwords, said
from console.web.journey import Mark
from console.web.pages import my_account, provider, sign_in
from console.web.rendering import PAGES
from dicom_node.checkup import Finding, Step
from ledger.account import Role as AccountRole
from ledger.completeness import Witness
from ledger.delivery import DeliveryState
from ledger.job import JobState
from ledger.notification import NotificationState
from ledger.result import Role
from ledger.study import StudyState

TEMPLATES = Path(__file__).resolve().parents[3] / "console" / "web" / "templates"
_SAID = re.compile(r"""(?<![\w.])_\(\s*"((?:[^"\\]|\\.)*)\"""")


def in_templates() -> set[str]:
    """Texts that stand in `_("…")`, in templates and in the code of the console."""
    files = [*TEMPLATES.rglob("*.html"), *TEMPLATES.parent.rglob("*.py")]
    return {found for file in files for found in _SAID.findall(file.read_text(encoding="utf-8"))}


def by_name() -> set[str]:
    """Words that templates look up by the name of a state, a step, a kind."""
    enums = (StudyState, JobState, DeliveryState, NotificationState, Mark, Witness, Role)
    steps = {"received", "complete", "computed", "delivered", "committed"}
    things = {"study", "job", "delivery", "commitment", "notification", "fetch", "instance"}
    return {
        *(str(member) for enum in enums for member in enum),
        *(name for _, name, _ in PAGES),
        *steps,
        *things,
        *STAGES,
        *door.SENTENCES,
        *passwords.SENTENCES,
        *my_account.SENTENCES,
        *provider.SENTENCES,
        *sign_in.SENTENCES,
        *(str(role) for role in AccountRole),
        *said.ROLES.values(),
        *said.PERMISSIONS.values(),
        "idle",
        "ready",
        "works",
        "active",
        "shadow",
        *(str(member) for member in (*Step, *Finding)),
        "TLS when called",
        "TLS when it calls",
        "optional TLS",
        "HTTPS",
    }

"""Roles and permissions in the words of the pages."""

from collections.abc import Mapping

from console.web.access.table import Permission
from ledger.account import Role

ROLES: Mapping[Role, str] = {
    Role.VIEWER: "sees everything but accounts and the audit trail, and judges results",
    Role.OPERATOR: "also: runs again, cancels, reorders and releases",
    Role.ADMINISTRATOR: "also: rules, models, accounts and the audit trail",
    Role.AUDITOR: "reads only who did what, and sees no studies",
    Role.SERVICE: "a program with a token; does not sign in",
}
PERMISSIONS: Mapping[Permission, str] = {
    Permission.SEE: "look",
    Permission.PATIENTS: "patients' names",
    Permission.JUDGE: "judge results",
    Permission.STEER: "steer",
    Permission.CONFIGURE: "rules and models",
    Permission.ACCOUNTS: "accounts",
    Permission.AUDIT: "read the audit trail",
    Permission.MEASURE: "figures",
    Permission.OWN: "one's own account",
}

"""Every route and what it needs, every role and what it has: the two tables that decide all access.

Rule 1: a route that is not in `ROUTES` does not exist: the application refuses to start with one.
Rule 2: no page decides by itself who may see it. What it shows beside (names, buttons) asks `Visitor.may`.
"""

from collections.abc import Mapping
from enum import StrEnum

from ledger.account import Role


class Permission(StrEnum):
    """What a route needs."""

    PUBLIC = "public"  #: nothing: not even an account
    SEE = "see"  #: counts, studies, queue, models, rules, peers
    PATIENTS = "patients"  #: names and ids of patients, when asked for
    JUDGE = "judge"  #: accept, reject or comment on a result
    STEER = "steer"  #: change what happens to studies, jobs and deliveries
    CONFIGURE = "configure"  #: rules and models
    ACCOUNTS = "accounts"  #: accounts and tokens of others
    AUDIT = "audit"  #: who did what
    MEASURE = "measure"  #: figures for monitoring
    OWN = "own"  #: one's own account, sessions and preferences


_ROLES: Mapping[Role, frozenset[Permission]] = {
    Role.VIEWER: frozenset({Permission.SEE, Permission.PATIENTS, Permission.JUDGE, Permission.OWN}),
    Role.OPERATOR: frozenset(
        {Permission.SEE, Permission.PATIENTS, Permission.JUDGE, Permission.STEER, Permission.OWN}
    ),
    Role.ADMINISTRATOR: frozenset(Permission) - {Permission.PUBLIC},
    Role.AUDITOR: frozenset({Permission.AUDIT, Permission.OWN}),
    Role.SERVICE: frozenset({Permission.SEE, Permission.MEASURE, Permission.OWN}),
}

#: (method, path as the application knows it) → what it needs.
ROUTES: Mapping[tuple[str, str], Permission] = {
    ("GET", "/"): Permission.SEE,
    ("GET", "/now"): Permission.SEE,
    ("GET", "/live"): Permission.SEE,
    ("GET", "/studies"): Permission.SEE,
    ("POST", "/studies"): Permission.SEE,  # A search: names of patients belong into no address.
    ("GET", "/studies/{study_id}"): Permission.SEE,
    ("GET", "/studies/{study_id}/results/{result_id}/picture"): Permission.SEE,
    ("GET", "/why"): Permission.SEE,
    ("POST", "/why"): Permission.SEE,
    ("GET", "/rules"): Permission.SEE,
    ("POST", "/rules/test"): Permission.SEE,  # Nothing is changed, and nothing told of a patient.
    ("POST", "/rules/draft"): Permission.CONFIGURE,
    ("POST", "/rules/review"): Permission.CONFIGURE,
    ("POST", "/rules/save"): Permission.CONFIGURE,
    ("GET", "/rules/versions"): Permission.SEE,
    ("GET", "/rules/versions/{number}"): Permission.SEE,
    ("POST", "/preferences"): Permission.PUBLIC,
    ("GET", "/sign-in"): Permission.PUBLIC,
    ("POST", "/sign-in"): Permission.PUBLIC,
    ("GET", "/sign-in/code"): Permission.PUBLIC,
    ("POST", "/sign-in/code"): Permission.PUBLIC,
    ("GET", "/sign-in/provider"): Permission.PUBLIC,
    ("GET", "/sign-in/provider/back"): Permission.PUBLIC,
    ("POST", "/sign-out"): Permission.OWN,
    ("GET", "/account"): Permission.OWN,
    ("POST", "/account/password"): Permission.OWN,
    ("POST", "/account/second-factor/begin"): Permission.OWN,
    ("POST", "/account/second-factor"): Permission.OWN,
    ("POST", "/account/second-factor/remove"): Permission.OWN,
    ("POST", "/account/sessions/{session_id}/end"): Permission.OWN,
    ("POST", "/account/tokens"): Permission.OWN,
    ("POST", "/account/tokens/{token_id}/revoke"): Permission.OWN,
    ("POST", "/account/names"): Permission.PATIENTS,
    ("GET", "/accounts"): Permission.ACCOUNTS,
    ("POST", "/accounts"): Permission.ACCOUNTS,
    ("POST", "/accounts/{account_id}/role"): Permission.ACCOUNTS,
    ("POST", "/accounts/{account_id}/disable"): Permission.ACCOUNTS,
    ("POST", "/accounts/{account_id}/enable"): Permission.ACCOUNTS,
    ("POST", "/accounts/{account_id}/reset"): Permission.ACCOUNTS,
    ("POST", "/accounts/{account_id}/tokens"): Permission.ACCOUNTS,
    ("POST", "/accounts/tokens/{token_id}/revoke"): Permission.ACCOUNTS,
    ("GET", "/audit"): Permission.AUDIT,
    ("GET", "/audit/check"): Permission.AUDIT,
    ("GET", "/audit.csv"): Permission.AUDIT,
    ("GET", "/healthz"): Permission.PUBLIC,
    ("GET", "/readyz"): Permission.PUBLIC,
    ("GET", "/metrics"): Permission.MEASURE,
    ("GET", "/models"): Permission.SEE,
    ("GET", "/models/{name}"): Permission.SEE,
    ("GET", "/models/{name}/comparison"): Permission.SEE,
    ("POST", "/models/{name}/promote"): Permission.CONFIGURE,
    ("POST", "/models/{name}/shadow"): Permission.CONFIGURE,
    ("GET", "/peers"): Permission.SEE,
    ("GET", "/peers/{name}"): Permission.SEE,
    ("POST", "/peers/{name}/echo"): Permission.STEER,
    ("POST", "/peers/{name}/doctor"): Permission.STEER,
    ("GET", "/settings"): Permission.CONFIGURE,  # Names of hosts and files: for who looks after them.
    ("GET", "/feedback"): Permission.SEE,
    ("GET", "/feedback/results/{job_id}"): Permission.JUDGE,
    ("POST", "/feedback/results/{job_id}"): Permission.JUDGE,
    ("GET", "/feedback/link/{token}"): Permission.JUDGE,
    ("GET", "/viewer/{path:path}"): Permission.PATIENTS,  # Images show whose they are.
    ("GET", "/dicom-web/{path:path}"): Permission.PATIENTS,
    ("POST", "/dicom-web/{path:path}"): Permission.STEER,  # What is stored is analysed.
    ("GET", "/api/v1/openapi.json"): Permission.PUBLIC,
    ("GET", "/api/v1/account"): Permission.OWN,
    ("GET", "/api/v1/accounts"): Permission.ACCOUNTS,
    ("GET", "/api/v1/audit"): Permission.AUDIT,
    ("GET", "/api/v1/audit/check"): Permission.AUDIT,
    ("GET", "/api/v1/now"): Permission.SEE,
    ("GET", "/queue"): Permission.SEE,
    ("POST", "/queue/move"): Permission.STEER,
    ("POST", "/queue/pause"): Permission.STEER,
    ("POST", "/queue/resume"): Permission.STEER,
    ("POST", "/studies/{study_id}/complete"): Permission.STEER,
    ("POST", "/studies/{study_id}/priority"): Permission.STEER,
    ("POST", "/studies/{study_id}/run"): Permission.STEER,
    ("POST", "/jobs/{job_id}/again"): Permission.STEER,
    ("POST", "/jobs/{job_id}/cancel"): Permission.STEER,
    ("POST", "/jobs/{job_id}/priority"): Permission.STEER,
    ("POST", "/jobs/{job_id}/deliver"): Permission.STEER,
    ("POST", "/deliveries/{delivery_id}/again"): Permission.STEER,
    ("POST", "/quarantine/{number}/release"): Permission.STEER,
    ("POST", "/quarantine/{number}/discard"): Permission.STEER,
    ("GET", "/api/v1/queue"): Permission.SEE,
    ("POST", "/api/v1/queue/pause"): Permission.STEER,
    ("POST", "/api/v1/queue/resume"): Permission.STEER,
    ("POST", "/api/v1/queue/move"): Permission.STEER,
    ("POST", "/api/v1/studies/{study_id}/complete"): Permission.STEER,
    ("POST", "/api/v1/studies/{study_id}/priority"): Permission.STEER,
    ("POST", "/api/v1/studies/{study_id}/run"): Permission.STEER,
    ("POST", "/api/v1/jobs/{job_id}/again"): Permission.STEER,
    ("POST", "/api/v1/jobs/{job_id}/cancel"): Permission.STEER,
    ("POST", "/api/v1/jobs/{job_id}/priority"): Permission.STEER,
    ("POST", "/api/v1/jobs/{job_id}/deliver"): Permission.STEER,
    ("POST", "/api/v1/deliveries/{delivery_id}/again"): Permission.STEER,
    ("POST", "/api/v1/quarantine/{number}/release"): Permission.STEER,
    ("POST", "/api/v1/quarantine/{number}/discard"): Permission.STEER,
    ("GET", "/api/v1/studies"): Permission.SEE,
    ("GET", "/api/v1/studies/{study_id}"): Permission.SEE,
    ("GET", "/api/v1/why"): Permission.SEE,
    ("GET", "/api/v1/models"): Permission.SEE,
    ("GET", "/api/v1/models/{name}"): Permission.SEE,
    ("GET", "/api/v1/models/{name}/comparison"): Permission.SEE,
    ("POST", "/api/v1/models/{name}/promote"): Permission.CONFIGURE,
    ("POST", "/api/v1/models/{name}/shadow"): Permission.CONFIGURE,
    ("GET", "/api/v1/peers"): Permission.SEE,
    ("POST", "/api/v1/peers/{name}/echo"): Permission.STEER,
    ("POST", "/api/v1/peers/{name}/doctor"): Permission.STEER,
    ("GET", "/api/v1/settings"): Permission.CONFIGURE,
    ("GET", "/api/v1/feedback"): Permission.SEE,
    ("GET", "/api/v1/jobs/{job_id}/feedback"): Permission.SEE,
    ("POST", "/api/v1/jobs/{job_id}/feedback"): Permission.JUDGE,
    ("GET", "/api/v1/rules"): Permission.SEE,
    ("POST", "/api/v1/rules"): Permission.CONFIGURE,
    ("POST", "/api/v1/rules/check"): Permission.SEE,
    ("POST", "/api/v1/rules/test"): Permission.SEE,
    ("POST", "/api/v1/rules/dry-run"): Permission.CONFIGURE,
    ("GET", "/api/v1/rules/versions"): Permission.SEE,
    ("GET", "/api/v1/rules/versions/{number}"): Permission.SEE,
}


def permissions(role: Role) -> frozenset[Permission]:
    """What somebody of `role` may do."""
    return _ROLES[role]


def needed(method: str, path: str) -> Permission | None:
    """What the route needs; None: there is no such route in the table."""
    return ROUTES.get(("GET" if method == "HEAD" else method, path))

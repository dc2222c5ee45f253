"""Command that creates or updates the MLflow accounts `pipeline` (can write everything) and `scorer` (can read).

Runs as `admin` at every start of the stack and is idempotent. Sets the passwords of the accounts from the environment.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.server import get_app_client

WORKSPACE = "default"
ACCOUNTS = ("pipeline", "scorer")
WRITER, ROLE = "pipeline", "writers"
"""A role instead of single grants: each experiment belongs to its creator, and the pipeline writes to all of them.
`scorer` needs no role: basic_auth.ini lets every account read."""

KINDS = ("experiment", "registered_model")


def ensure_account(client: Any, name: str, password: str) -> None:
    """Create an account, or set the password of the existing account."""
    try:
        client.get_user(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        client.create_user(name, password)
    else:
        client.update_user_password(name, password)


def ensure_writer(client: Any, account: str) -> None:
    """Assign an account the role that can write to every experiment and registered model."""
    roles = {role.name: role for role in client.list_roles(WORKSPACE)}
    role = roles.get(ROLE) or client.create_role(WORKSPACE, ROLE, "writes every experiment and registered model")
    granted = {permission.resource_type for permission in client.list_role_permissions(role.id)}
    for kind in KINDS:
        if kind not in granted:
            client.add_role_permission(role.id, kind, "*", "MANAGE")
    if ROLE not in {user_role.name for user_role in client.list_user_roles(account)}:
        client.assign_role(account, role.id)


def main() -> None:
    """Create or update both accounts."""
    client = get_app_client("basic-auth", tracking_uri=os.environ["MLFLOW_TRACKING_URI"])
    try:
        for account in ACCOUNTS:
            ensure_account(client, account, os.environ[f"MLFLOW_{account.upper()}_PASSWORD"])
        ensure_writer(client, WRITER)
    except MlflowException as error:
        if "401" not in str(error):
            raise
        sys.exit(
            "AccountsRefused: MLFLOW_ADMIN_PASSWORD is not the password of admin. MLflow read it only once, when no "
            "accounts existed. Set it in docker/.env to admin's current password, or change that password: "
            "docs/stack.md (Passwords)"
        )
    print("accounts: pipeline can write, scorer can read")


if __name__ == "__main__":
    main()

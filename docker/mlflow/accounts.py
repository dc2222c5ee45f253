"""Make the MLflow accounts of the machines, or bring them up to date: `pipeline` may write everything, `scorer` reads.

Runs at every start of the stack, as `admin`, and may run any number of times. New passwords in the environment become
those of the accounts.
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
"""A role, not a grant for each: whoever makes an experiment owns it, and the pipeline must write to those of others.
The other account has what basic_auth.ini gives everyone: it reads."""

KINDS = ("experiment", "registered_model")


def ensure_account(client: Any, name: str, password: str) -> None:
    """Make an account, or give the one that is there this password."""
    try:
        client.get_user(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        client.create_user(name, password)
    else:
        client.update_user_password(name, password)


def ensure_writer(client: Any, account: str) -> None:
    """Give an account the role that may write to every experiment and registered model."""
    known = {role.name: role for role in client.list_roles(WORKSPACE)}
    role = known.get(ROLE) or client.create_role(WORKSPACE, ROLE, "writes every experiment and registered model")
    held = {entry.resource_type for entry in client.list_role_permissions(role.id)}
    for kind in KINDS:
        if kind not in held:
            client.add_role_permission(role.id, kind, "*", "MANAGE")
    if ROLE not in {one.name for one in client.list_user_roles(account)}:
        client.assign_role(account, role.id)


def main() -> None:
    client = get_app_client("basic-auth", tracking_uri=os.environ["MLFLOW_TRACKING_URI"])
    try:
        for account in ACCOUNTS:
            ensure_account(client, account, os.environ[f"MLFLOW_{account.upper()}_PASSWORD"])
        ensure_writer(client, WRITER)
    except MlflowException as error:
        if "401" not in str(error):
            raise
        sys.exit(
            "AccountsRefused: MLflow does not take MLFLOW_ADMIN_PASSWORD as admin's password. It was taken when there "
            "were no accounts yet. Write the one that admin has now into docker/.env; docs/stack.md (Passwords) "
            "says how to change it."
        )
    print("accounts: pipeline may write, scorer may read")


if __name__ == "__main__":
    main()

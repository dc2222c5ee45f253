#!/usr/bin/env bash
# Creates a role and a database for each service. PostgreSQL's entry point runs this once, when the data folder is new.
set -euo pipefail

# psql quotes the passwords (:'name'), so they may contain any character.
psql -v ON_ERROR_STOP=1 --no-psqlrc --username "${POSTGRES_USER:-postgres}" --dbname postgres \
  -v mlflow="$MLFLOW_DB_PASSWORD" -v airflow="$AIRFLOW_DB_PASSWORD" \
  -v predictions="$PREDICTIONS_DB_PASSWORD" -v grafana="$GRAFANA_DB_PASSWORD" <<'SQL'
CREATE ROLE mlflow LOGIN PASSWORD :'mlflow';
CREATE ROLE airflow LOGIN PASSWORD :'airflow';
CREATE ROLE predictions LOGIN PASSWORD :'predictions';
CREATE ROLE grafana LOGIN PASSWORD :'grafana';
ALTER ROLE grafana SET default_transaction_read_only = on;
ALTER ROLE grafana SET statement_timeout = '15s';

CREATE DATABASE mlflow OWNER mlflow;
CREATE DATABASE mlflow_auth OWNER mlflow;
CREATE DATABASE airflow OWNER airflow;
CREATE DATABASE predictions OWNER predictions;
REVOKE ALL ON DATABASE mlflow, mlflow_auth, airflow, predictions FROM PUBLIC;

-- The dashboards read runs and predictions, but not the accounts or Airflow's connections.
GRANT CONNECT ON DATABASE mlflow, predictions TO grafana;
\connect mlflow
GRANT USAGE ON SCHEMA public TO grafana;
ALTER DEFAULT PRIVILEGES FOR ROLE mlflow IN SCHEMA public GRANT SELECT ON TABLES TO grafana;
\connect predictions
GRANT USAGE ON SCHEMA public TO grafana;
ALTER DEFAULT PRIVILEGES FOR ROLE predictions IN SCHEMA public GRANT SELECT ON TABLES TO grafana;
SQL

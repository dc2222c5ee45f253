"""empty: an MLflow project that only opens and closes its run, the least time that any project takes."""

import mlflow

if __name__ == "__main__":
    with mlflow.start_run():
        pass

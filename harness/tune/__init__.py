"""``harness tune``: Optuna studies that are fair, resumable and shared between processes."""

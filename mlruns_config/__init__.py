"""MLflow: where it is, what things are called, how a model is packed."""

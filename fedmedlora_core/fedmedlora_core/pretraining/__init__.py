"""Pretraining of the base model that ships with the package: ``python -m fedmedlora_core.pretraining``."""

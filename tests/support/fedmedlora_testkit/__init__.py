"""Fixtures shared by the tests: studies, keys and whole federations."""

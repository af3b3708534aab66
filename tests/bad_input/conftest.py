"""The fixture that all of these tests start from."""

from spoiled_stage import stage  # noqa: F401

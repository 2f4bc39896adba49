"""Runs compared: at equal cost, step by step of revision, and policies by difficulty."""

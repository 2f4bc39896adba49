"""Runs compared: at equal cost, drafts of revision step by step, policies by difficulty."""

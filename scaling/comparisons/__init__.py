"""Compare runs at equal cost, analyse revision, and evaluate policies by difficulty."""

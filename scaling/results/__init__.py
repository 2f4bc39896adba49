"""The results of the study: the runs that each is read from, and its numbers with intervals."""

from scaling.results import (
    exchange,
    ladder,
    lengths,
    repeated,
    revision,
    reward,
    serial,
    thinking_pays,
    truth,
)
from scaling.results.table import COLUMNS, Sampled, find, results_table

#: in the order of docs/study.md
RESULTS = (ladder, repeated, serial, truth, thinking_pays, lengths, exchange, reward, revision)

__all__ = ["COLUMNS", "RESULTS", "Sampled", "find", "results_table"]

"""The results of the study: the runs that each is read from, and its numbers with intervals."""

from scaling.results import exchange, ladder, lengths, reward, thinking_pays
from scaling.results.table import COLUMNS, Sampled, find, results_table

RESULTS = (ladder, thinking_pays, lengths, exchange, reward)  #: in the order of docs/study.md

__all__ = ["COLUMNS", "RESULTS", "Sampled", "find", "results_table"]

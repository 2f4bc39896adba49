"""The results of the study: the runs that each is read from, and its numbers with intervals."""

"""What a report says, in sentences without a digit: {id} stands for a row, [key] for a work."""

from __future__ import annotations

SOURCES = {
    "chen2021": ("Chen, Mark and others", "Evaluating Large Language Models Trained on Code",
                 2021, "2107.03374"),
    "brown2024": ("Brown, Bradley and others", "Large Language Monkeys: Scaling Inference Compute "
                  "with Repeated Sampling", 2024, "2407.21787"),
    "kaplan2020": ("Kaplan, Jared and others", "Scaling Laws for Neural Language Models", 2020,
                   "2001.08361"),
    "hesterberg2015": ("Hesterberg, Tim", "What Teachers Should Know About the Bootstrap", 2015,
                       "1411.5279"),
}  # fmt: skip
FOUND = """\
On {task}, {called} ({method-name}) answered a share of {first} of the {asked} right with its \
first sample; {selector} at {k} was {last}."""
FITTED = """ \
Fitted up to {upto}, the law {law} misses it by {error} (predicted minus measured, in the unit of \
accuracy; fit: {message})."""
NOT_FITTED = " No law was fitted: {message}."
SAMPLED = """\
{model} on {task} (run {run}): method {method}, {grid}, temperature {temperature}, top-p \
{top-p}, at most {max-new-tokens} new tokens per step, feedback {feedback}, stopped at {stopped} \
(zero: never), seed {seed}; {drawn}, {missing} of them missing. Sampled on {cpu}, {cores} cores, \
GPUs: {gpus}, with the kit's version {kit}, commit {commit}, PyTorch {torch}."""
CONVENTIONS = """\
Coverage at a budget is the unbiased estimate of pass@k over all subsets of the pool [chen2021]; \
a majority is taken exactly over all subsets, a tie worth its share. A multiply-add is \
{all.flops} FLOPs; matrix products and attention count, nothing else [kaplan2020]; a prompt is \
prefilled once per problem and shared by its chains, and a later step pays for its longer \
context. Training is {all.training} forwards per token. Intervals of accuracies are \
{all.level} percent empirical-likelihood intervals over problems; they allow for a kind of \
problem that the sample missed. A law is refitted to each of {all.replicates} bootstrap \
replicates over problems [hesterberg2015], since the points of one curve share problems. The law \
of coverage is the exponentiated power law [brown2024]; open points were held out of its fit."""

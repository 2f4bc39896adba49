"""The table of methods: how each samples, which plan fields it reads, how its samples are read.

Torch-free, so that the reading side uses it too. A new method is one entry of `METHODS`; no other
module compares a method's name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from scaling.methods.chains import Process, Question, best_of_n, in_steps, revise, wait
from scaling.methods.search import Rule, beam, dvts, particles, rebase, searching
from scaling.methods.thinking import think
from scaling.records import Plan, look_up
from scaling.tasks.traces import thinking_budgets

STOPS = ("stop_after_correct", "stop_at_agreement")  #: plan fields that end a problem early


@dataclass(frozen=True)
class Method:
    """How inference compute is spent, and how the samples are read."""

    sample: Callable[[Question], Process]  #: samples one problem, see `chains`
    reads: tuple[str, ...] = ("steps", "feedback", "history", "stop")  #: not read by all methods
    selectors: tuple[str, ...] = ("coverage", "last")  #: what may be read from its samples
    title: str = ""  #: for legends; its name where empty
    exchangeable: bool = False  #: budgets are chains, in any order; else steps, read by prefix
    rounds: bool = False  #: asks in rounds, since later contexts depend on completions
    is_search: bool = False  #: grows a tree by a scorer
    one_trace: bool = False  #: steps are budgets of one trace, each priced as if it were alone
    grid: bool = False  #: tables read its coverage for several chains too
    needs_skill: bool = False  #: a model's card says whether it was trained for it
    check: Callable[[Plan], object] = lambda plan: None  #: raises ValueError for a wrong plan

    def asks_once(self, plan: Plan) -> bool:
        """Return whether all requests are made at the start, so that problems need no turns."""
        return not (self.rounds or plan.history or plan.stop_at_agreement)


def search_method(rule: Rule, title: str = "", reads: tuple[str, ...] = ()) -> Method:
    """Return a method that grows a tree by a rule; reads: plan fields in addition to a search's."""
    return Method(
        searching(rule),
        reads=("steps", "width", *reads, "scorer"),
        selectors=("last", "coverage"),
        title=title,
        rounds=True,
        is_search=True,
    )


METHODS: dict[str, Method] = {
    "best_of_n": Method(
        best_of_n,
        reads=(*STOPS, "stop"),
        selectors=("coverage", "majority", "logprob"),
        title="samples",
        exchangeable=True,
    ),
    "revision": Method(
        in_steps(revise),
        selectors=("coverage", "majority", "logprob", "first", "last"),
        title="revision",
        grid=True,
        needs_skill=True,
    ),
    "wait": Method(
        in_steps(wait),
        reads=("steps", "history", "stop"),
        selectors=("coverage", "first", "last"),
        title="wait",
        needs_skill=True,
    ),
    "thinking": Method(
        think,
        reads=("steps",),
        selectors=("last",),
        title="thinking",
        rounds=True,
        one_trace=True,
        needs_skill=True,
        check=thinking_budgets,
    ),
    "beam": search_method(beam, "beam search", ("keep",)),
    "dvts": search_method(dvts, "DVTS", ("keep",)),
    "rebase": search_method(rebase, "REBASE"),
    "particles": search_method(particles, "particles"),
}
UNKNOWN = Method(in_steps(revise))  #: how samples of a method outside the table are read


def method_of(plan: Plan) -> Method:
    """Return the method of a plan; one that is not in the table is read as ordered steps."""
    return METHODS.get(plan.method, UNKNOWN)


def labels() -> list[str]:
    """Return the names of runs in tables: of methods, and "+verdict" with verifier feedback."""
    with_feedback = [name for name, method in METHODS.items() if "feedback" in method.reads]
    return [*METHODS, *(f"{name}+verdict" for name in with_feedback)]


def searches() -> list[str]:
    """Return the names of the methods that grow a tree."""
    return [name for name, method in METHODS.items() if method.is_search]


def check_plan(plan: Plan) -> None:
    """Raise ValueError for an unknown method, or a plan field that it does not read or allow."""
    method = look_up(METHODS, plan.method, "method")
    known = {name for other in METHODS.values() for name in other.reads}
    for name in sorted(known - set(method.reads)):
        if (value := getattr(plan, name)) != getattr(Plan, name):
            readers = ", ".join(other for other, entry in METHODS.items() if name in entry.reads)
            raise ValueError(
                f"{name} is {value!r}, but {plan.method} does not read it; leave it out, or take "
                f"one that does: {readers}"
            )
    stops = {name: needed for name in STOPS if (needed := getattr(plan, name))}
    for name, needed in stops.items():
        if needed >= plan.chains:
            raise ValueError(
                f"{name} is {needed} of {plan.chains} chains: no chain would be saved; give less, "
                "or more chains"
            )
    if len(stops) > 1:
        raise ValueError(f"{' and '.join(stops)} are both set: a pool is read by one; give one")
    if method.is_search and not 1 <= plan.width <= plan.steps:
        raise ValueError(
            f"width is {plan.width} with a cap of {plan.steps} nodes (steps): "
            f"give a width of 1 to {plan.steps}, or a larger cap; a round draws `width` nodes"
        )
    if "keep" in method.reads and not 1 <= plan.keep <= plan.width:
        raise ValueError(f"keep is {plan.keep}; {plan.method} of width {plan.width} keeps 1 to it")
    method.check(plan)

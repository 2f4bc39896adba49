"""What a server would add to a plan by itself is turned off, where the server can do so."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scaling.serving import Client
from scaling.serving.engines import HttpEngine
from scaling.serving.trials import CUTS, PENALTIES, with_neutral_fields
from tests.faulty_server import serve
from tests.test_serving import PLAN, TOY, drawn

ALL = CUTS | PENALTIES


def refusing(*names: str, status: int = 400):
    """Return a fault: a server that refuses requests with these fields."""

    def fault(handler, body):
        unknown = [name for name in names if name in body]
        if unknown:
            handler.reply(status, {"error": {"message": f"Unrecognized argument: {unknown[0]}"}})
        return bool(unknown)

    return fault


def last_body(fault=None, plan=PLAN, endpoint=TOY):
    """Return the last request of a run, once all samples were drawn."""
    with serve(fault) as (url, state):
        assert len(drawn(url, plan, endpoint=endpoint)) == 18
        return state.bodies[-1]


def test_settings_that_the_plan_leaves_off_are_turned_off_in_every_request():
    body = last_body()
    assert {name: body[name] for name in ALL} == ALL


def test_settings_of_the_plan_and_of_the_user_stay():
    body = last_body(plan=replace(PLAN, top_k=5, min_p=0.1))
    assert (body["top_k"], body["min_p"]) == (5, 0.1)
    own = replace(TOY, extra={"top_k": 7, "min_p": None, "repetition_penalty": 1.2})
    body = last_body(endpoint=own)
    assert (body["top_k"], body["repetition_penalty"], "min_p" in body) == (7, 1.2, False)


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize(
    ("refused", "kept"), [(tuple(PENALTIES), CUTS), (("repeat_penalty",), CUTS), (tuple(ALL), {})]
)
def test_fields_that_a_server_refuses_are_left_out(refused, kept, status):
    body = last_body(refusing(*refused, status=status))
    assert {name: body[name] for name in ALL if name in body} == kept


def test_a_first_prompt_that_is_refused_does_not_hide_what_the_server_accepts():
    def fault(handler, body):
        return body["prompt"] == "0+" and refusing("prompt")(handler, body)

    with serve(fault) as (url, _), Client(url, pause=0.01) as client:
        engine = HttpEngine(client, TOY)
        assert with_neutral_fields(engine._once, TOY, PLAN, ("0+",)).extra == ALL

"""What schemathesis does beside generating: shows tokens, makes prepared calls, and writes down how each call ended."""

import json
import os
import pathlib
import random

import schemathesis
from schemathesis import GenerationMode

PREPARED = json.loads(pathlib.Path(os.environ["HEARTH_PREPARED"]).read_text())
OUTCOMES = open(os.environ["HEARTH_OUTCOMES"], "a", buffering=1)
# How many of the generated calls go to the prepared chats, users and devices.
AT_HOME = 0.5
# A write that has less time may well be told that it was over before the write began.
DEADLINE_MIN_MS = 1_000

draw = random.Random(20)
succeeded = set()


def name(case):
    return case.operation.definition.raw["operationId"]


@schemathesis.auth(refresh_interval=None)
class Token:
    def get(self, case, _):
        return PREPARED["tokens"].get(name(case), PREPARED["token"])

    def set(self, case, token, _):
        case.headers = {**(case.headers or {}), "Authorization": f"Bearer {token}"}


def give_time(body):
    asked = body.get("deadlineMs") if isinstance(body, dict) else None
    if isinstance(asked, int) and 0 < asked < DEADLINE_MIN_MS:
        body["deadlineMs"] = DEADLINE_MIN_MS


@schemathesis.hook
def before_call(_, case, kwargs):
    """Until an operation has succeeded, what is generated for it by its schema gives way to what was prepared."""
    give_time(case.body)
    operation = name(case)
    call = PREPARED["calls"].get(operation)
    if call is None or case.meta is None or case.meta.generation.mode != GenerationMode.POSITIVE:
        return
    if operation in succeeded:
        if call["path"] and draw.random() < AT_HOME:
            case.path_parameters = call["path"]
        return
    case.path_parameters, case.query = call["path"], call["query"]
    if call["body"] is not None:
        case.body, case.media_type = call["body"], "application/json"


@schemathesis.hook
def after_call(_, case, response):
    operation = name(case)
    OUTCOMES.write(f"{operation} {response.status_code}\n")
    if 200 <= response.status_code < 300:
        succeeded.add(operation)

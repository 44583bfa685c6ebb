"""Starts a deployment with accounts, prepares what calls need, and runs schemathesis against `/v1/openapi.json`.

It fails where an answer is not what the document says (status, content type, headers, schema), where a call that needs
a token succeeds without one, where an answer is a 5xx, and where an operation never succeeded.
"""

import argparse
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys

import prepared
import requests

HERE = pathlib.Path(__file__).resolve().parent
SEED = "20"
EXAMPLES_MAX = "12"
FUZZ_TIMEOUT_S = 600
START_TIMEOUT_S = 60
# `hearth up` takes consecutive ports: ten for itself and ten for each region.
PORTS = 40
# It never ends, so it is asked once, here.
STREAM = "followEvents"
CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "ignored_auth",
]


def free_ports():
    """The first of so many ports in a row that nobody listens at."""
    for first in range(21_000, 32_000, PORTS):
        try:
            for port in range(first, first + PORTS):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
            return first
        except OSError:
            continue
    raise SystemExit("there are no free ports")


class Deployment:
    """`hearth up --accounts`, until the end of the block."""

    def __init__(self, program, folder):
        self.log = open(folder / "hearth.log", "wb")
        command = [program, "up", "--accounts", "--json", "--wan", "none", "--partitions", "8"]
        command += ["--dir", str(folder / "deployment"), "--base-port", str(free_ports())]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, text=True)
        self.http = None

    def __enter__(self):
        signal.signal(signal.SIGALRM, lambda *_: self.process.kill())
        signal.alarm(START_TIMEOUT_S)
        for line in self.process.stdout:
            event = json.loads(line)
            if event["event"] == "ready":
                signal.alarm(0)
                self.http = [region["http"] for region in event["regions"]]
                return self
        self.__exit__()
        sys.stderr.write(pathlib.Path(self.log.name).read_text())
        raise SystemExit(f"the deployment did not start within {START_TIMEOUT_S} s")

    def __exit__(self, *_):
        self.process.stdout.close()
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.log.close()


def schemathesis(node, folder):
    """Whether every answer was what the document says."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(HERE),
        "PYTHONDONTWRITEBYTECODE": "1",
        "SCHEMATHESIS_HOOKS": "hooks",
        "HEARTH_PREPARED": str(folder / "prepared.json"),
        "HEARTH_OUTCOMES": str(folder / "outcomes"),
    }
    command = [pathlib.Path(sys.executable).with_name("schemathesis"), "run", f"{node}/v1/openapi.json"]
    command += ["--checks", ",".join(CHECKS), "--phases", "examples,coverage,fuzzing", "--workers", "1"]
    command += ["--seed", SEED, "--generation-deterministic"]
    command += ["--max-examples", EXAMPLES_MAX, "--request-timeout", "20", "--continue-on-failure"]
    command += ["--exclude-operation-id", STREAM]
    command += ["--warnings", "off", "--no-color", "--no-shrink"]
    outcome = subprocess.run(command, env=environment, cwd=folder, timeout=FUZZ_TIMEOUT_S, check=False)
    return outcome.returncode == 0


def streams(node, token):
    """Whether events come as the document says, to whoever shows a token only."""
    headers = {"authorization": f"Bearer {token}"}
    with requests.get(f"{node}/v1/events", headers=headers, stream=True, timeout=20) as answer:
        kind = answer.headers.get("content-type", "")
        first = next(answer.iter_lines(decode_unicode=True), "")
        is_sound = answer.status_code == 200 and kind.startswith("text/event-stream") and first != ""
    return is_sound and requests.get(f"{node}/v1/events", timeout=20).status_code == 401


def never_succeeded(node, folder):
    """The operations that the document has and that answered no 2xx; the one that tells it is asked here."""
    document = requests.get(f"{node}/v1/openapi.json", timeout=20)
    document.raise_for_status()
    paths = document.json()["paths"]
    known = {operation["operationId"] for item in paths.values() for operation in item.values()}
    outcomes = [line.split() for line in (folder / "outcomes").read_text().splitlines()]
    calls = len(outcomes)
    print(f"{len(known)} operations, {calls} calls")
    succeeded = {operation for operation, status in outcomes if status.startswith("2")}
    return sorted(known - succeeded - {"readOpenApi", STREAM})


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--hearth", required=True, help="the program")
    arguments.add_argument("--folder", required=True, type=pathlib.Path, help="where to write")
    arguments = arguments.parse_args()
    with Deployment(arguments.hearth, arguments.folder) as deployment:
        node = deployment.http[0]
        calls = prepared.prepare(deployment.http)
        (arguments.folder / "prepared.json").write_text(json.dumps(calls))
        is_sound = schemathesis(node, arguments.folder)
        if not streams(node, calls["token"]):
            print("no events come as the document says")
            is_sound = False
        missed = never_succeeded(node, arguments.folder)
    if missed:
        print(f"these never succeeded: {', '.join(missed)}")
    return 0 if is_sound and not missed else 1


if __name__ == "__main__":
    sys.exit(main())

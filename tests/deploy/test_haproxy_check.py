"""HAProxy's health check is the bytes of a call that gRPC understands."""

from __future__ import annotations

import re
import socket
from concurrent import futures

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from scripts.haproxy_check import CONFIGURATION, renewed, sent

RULES = CONFIGURATION.read_text(encoding="utf-8")


def test_the_configuration_holds_todays_check():
    assert renewed(RULES) == RULES, "run scripts/haproxy_check.py"


@pytest.mark.parametrize("status", ["SERVING", "NOT_SERVING"])
def test_a_server_answers_the_check_with_its_status(status):
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=1))
    servicer = health.HealthServicer()
    servicer.set("", health_pb2.HealthCheckResponse.ServingStatus.Value(status))
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            connection.sendall(b"".join(sent().values()))
            patterns = [re.search(rf"{option}binary (\S+)", RULES)[1] for option in ("expect r", "L7OKC ")]
            answered, serving = (re.compile(pattern) for pattern in patterns)
            answer = ""
            while not answered.search(answer):
                more = connection.recv(1 << 16)
                assert more, answer
                answer += more.hex()
        assert bool(serving.search(answer)) is (status == "SERVING")
    finally:
        server.stop(None).wait()

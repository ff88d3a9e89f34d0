"""What befalls the process as a whole: signals, a clock that jumps, no files left to open, a fork."""

from __future__ import annotations

import resource
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest
from tests.e2e.chaos.callers import ONE_ROW, TEXT, Requests, channel_to, fresh, unary
from tests.e2e.chaos.sockets import connected
from tests.e2e.chaos.test_sigterm import stop
from tests.e2e.conftest import StartServer
from tests.e2e.wire import Request, configuration, turn

from kniv.v1 import annotation_service_pb2_grpc as stubs

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: /proc, prlimit, LD_PRELOAD")

_DAY = 86_400


class Talk:
    """A stream under way, a turn at a time."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._requests = Requests(configuration(options=ONE_ROW))
        self.call = stubs.AnnotationServiceStub(channel).StreamAnnotations(iter(self._requests), timeout=120)
        assert next(self.call).HasField("configured")
        self._number = 0

    def send(self, request: Request) -> None:
        self._requests.put(request)

    def say(self) -> None:
        """A turn, and its answer."""
        self._number += 1
        self.send(turn(str(self._number), TEXT))
        assert next(self.call).HasField("sentence")
        assert next(self.call).HasField("completion")

    def end(self) -> None:
        """Half-close; nothing else is to come."""
        self._requests.end()
        assert not list(self.call)
        assert self.call.code() == grpc.StatusCode.OK

    def abandon(self) -> None:
        self._requests.end()


def test_sigterm_mid_stream_hands_back_what_has_no_end(start_server: StartServer, tiny_repository: Path) -> None:
    """Of a thousand turns each one has an end or is the client's to send again; nothing comes twice."""
    server = start_server("--model-repository", str(tiny_repository), "--drain-seconds", "30")
    with channel_to(server.target) as channel:
        talk = Talk(channel)
        for number in range(1000):
            talk.send(turn(str(number), TEXT))
        assert next(talk.call).HasField("sentence")
        server.process.send_signal(signal.SIGTERM)
        ended: list[str] = []
        with pytest.raises(grpc.RpcError) as over:
            ended.extend(one.completion.item.turn_id for one in talk.call if one.HasField("completion"))
        assert over.value.code() == grpc.StatusCode.UNAVAILABLE
        talk.abandon()
    assert len(ended) == len(set(ended))
    stop(server)


def test_sigterm_twice_ends_at_once(start_server: StartServer, tiny_repository: Path) -> None:
    """A stream that would keep the server for ten minutes does not when the signal comes a second time."""
    server = start_server("--model-repository", str(tiny_repository), "--drain-seconds", "600")
    with channel_to(server.target) as channel:
        requests = Requests(configuration(options={"tasks": ["TASK_POS", "TASK_DEP"]}))
        call = stubs.AnnotationServiceStub(channel).StreamAnnotations(iter(requests))
        assert next(call).HasField("configured")
        for number in range(2000):  # more than fits on the way to a client that does not read
            requests.put(turn(str(number), f"{TEXT} " * 3))
        server.process.send_signal(signal.SIGTERM)
        until = time.monotonic() + 60
        while "draining" not in server.log.read_text():
            assert time.monotonic() < until
            threading.Event().wait(0.02)
        stop(server)
        call.cancel()
        requests.end()


_CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
static long *jump(void) {
    static long none, *found;
    if (!found) {
        int file = open(getenv("JUMP_FILE"), O_RDONLY);
        void *page = file < 0 ? MAP_FAILED : mmap(0, sizeof(long), PROT_READ, MAP_SHARED, file, 0);
        found = page == MAP_FAILED ? &none : page;
    }
    return found;
}
int clock_gettime(clockid_t clock, struct timespec *out) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, out);
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) out->tv_sec += *jump();
    return result;
}
int gettimeofday(struct timeval *restrict out, void *restrict zone) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    out->tv_sec = now.tv_sec;
    out->tv_usec = now.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler to put itself before the clock")
def test_the_clock_jumps(
    start_server: StartServer, tiny_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wall clock goes a day back and a day ahead, as the whole process sees it: gRPC and ONNX Runtime too."""
    source, library, jump = tmp_path / "clock.c", tmp_path / "clock.so", tmp_path / "jump"
    source.write_text(_CLOCK)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)
    jump.write_bytes(struct.pack("l", 0))
    with monkeypatch.context() as patch:
        patch.setenv("LD_PRELOAD", str(library))
        patch.setenv("JUMP_FILE", str(jump))
        server = start_server("--model-repository", str(tiny_repository))
    before = fresh(server.target)
    with channel_to(server.target) as channel:
        talk = Talk(channel)
        for seconds in (-_DAY, _DAY, 0):
            with jump.open("r+b") as file:
                file.write(struct.pack("l", seconds))
            talk.say()
            assert unary(channel, timeout=60).code() == grpc.StatusCode.OK
            assert fresh(server.target) == before
        talk.end()
    stop(server)


def test_no_file_descriptors_are_left(start_server: StartServer, tiny_repository: Path) -> None:
    """Streams that are open go on; once others hang up, new callers are served."""
    server = start_server("--model-repository", str(tiny_repository))
    before = fresh(server.target)
    with channel_to(server.target) as channel:
        talk = Talk(channel)
        pid = server.process.pid
        used = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + 8, hard))
        with ExitStack() as stack:
            for _ in range(64):  # the system takes them, the server cannot
                stack.enter_context(connected(server.target)).sendall(b"PRI")
            talk.say()
        assert fresh(server.target) == before  # still within the limit
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
        talk.say()
        talk.end()
    stop(server)


# Python reads this of itself when it starts.
_FORKS = """
import os, signal, sys

def fork(*_):
    if (child := os.fork()) == 0:
        os._exit(0)
    os.waitpid(child, 0)
    print("forked", file=sys.stderr, flush=True)

signal.signal(signal.SIGUSR1, fork)
"""


def test_a_fork_after_the_start(
    start_server: StartServer, tiny_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child that is split off while gRPC and ONNX Runtime have their threads, and ends, takes nothing with it."""
    (tmp_path / "sitecustomize.py").write_text(_FORKS)
    with monkeypatch.context() as patch:
        patch.setenv("PYTHONPATH", str(tmp_path))
        server = start_server("--model-repository", str(tiny_repository))
    before = fresh(server.target)
    with channel_to(server.target) as channel:
        talk = Talk(channel)
        for number in range(1, 4):
            server.process.send_signal(signal.SIGUSR1)
            until = time.monotonic() + 60
            while server.log.read_text().count("forked") < number:
                assert time.monotonic() < until, server.log.read_text()
                talk.say()
            talk.say()
            assert fresh(server.target) == before
        talk.end()
    stop(server)

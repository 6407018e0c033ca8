"""The first signal is noted at once, the second ends the process; outside of the block signals do what they did."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from r1jax.run.interrupt import Interrupted, StopSignals

WAIT = """
import signal, time
from r1jax.run.interrupt import StopSignals

signal.signal(signal.SIGINT, signal.default_int_handler)  # which a job in the background ignores
with StopSignals() as stop:
    print("ready", flush=True)
    while not stop.received:
        time.sleep(0.01)
    print(stop.received, flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def heeded():
    """Tests may run in a job in the background, which ignores SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_signal_that_is_ignored_stays_so():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with StopSignals() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)
        assert stop.received is None and signal.getsignal(signal.SIGINT) == signal.SIG_IGN


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_second_signal_ends_the_process(number, code):
    assert Interrupted("", number).exit_code == code
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", WAIT], **pipes)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    assert process.stdout.readline() == f"{number.value}\n"
    process.send_signal(number)
    assert process.wait(timeout=10) == code
    first, second = process.stderr.read().splitlines()
    assert first.startswith(f"{number.name}: stopping with a checkpoint, after this step or its rollout")
    assert second.startswith(f"{number.name}: ended at once")


def test_before_there_is_a_run_a_signal_ends_the_process_in_any_callback():
    """Python would drop its KeyboardInterrupt in one, such as those of JAX when garbage is collected."""
    code = """
import gc, os, signal, time
from r1jax.run.interrupt import ending_at_once

signal.signal(signal.SIGINT, signal.default_int_handler)
gc.callbacks.append(lambda *_: os.kill(os.getpid(), signal.SIGINT))
with ending_at_once():
    gc.collect()
    time.sleep(20)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=15, check=False)
    assert (ended.returncode, ended.stderr.count("\n")) == (130, 1)
    assert ended.stderr.startswith("interrupted; the same command resumes a run from its last checkpoint")


def test_signals_are_given_back(capsys):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    for _ in range(2):
        with StopSignals() as stop:
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(500):
                time.sleep(0.01 if stop.received is None else 0)
            assert stop.received == signal.SIGINT
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)


def test_another_thread_has_no_signals():
    seen = []

    def enter():
        with StopSignals() as stop:
            seen.append(stop.received)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [None] and signal.getsignal(signal.SIGINT) is signal.default_int_handler

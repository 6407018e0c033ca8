"""Workers whose functions return, raise, hang, crash and flood; no child process may be left afterwards."""

import os
import select
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from r1jax.sandbox import workers
from r1jax.sandbox.workers import Worker, WorkerCrash, WorkerPool, WorkerTimeout

FUNCTIONS = """
    import ctypes, json, os, signal, subprocess, sys, time

    def add(a, b): return a + b
    def echo(value): return value
    def fail(message): raise ValueError(message)
    def divide(a, b): return a / b
    def unjsonable(): return {1, 2}
    def deep(): return deep()
    def sleep(seconds): time.sleep(seconds)
    def ring(): os.kill(os.getpid(), signal.SIGALRM)
    def leave(status): os._exit(status)
    def quit(): sys.exit(3)
    def segfault(): os.kill(os.getpid(), signal.SIGSEGV)
    def eat(): return len("a" * 10**12)
    def flood(): return "x" * (8 << 20)
    def chatter():
        print("[true, 1]", flush=True)
        os.write(1, b"noise\\n")
        os.system("echo noise")
        return sys.stdin.read()
    def scribble():
        for fd in range(3, 20):
            try: os.write(fd, b"noise\\n")
            except OSError: pass
    def trickle():
        while True:
            for fd in range(3, 20):
                try: os.write(fd, b".")
                except OSError: pass
            time.sleep(0.01)
    def pid(): return os.getpid()
    def core(): return __import__("resource").getrlimit(4)
    def secret(): return os.environ.get("HF_TOKEN")
    def jax(): return "jax" in sys.modules or "numpy" in sys.modules
    def spawn():
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        open("spawned", "w").write(f"{os.getpid()} {child.pid}")
        time.sleep(60)
"""


@pytest.fixture
def worker(tmp_path, monkeypatch):
    (tmp_path / "functions.py").write_text(textwrap.dedent(FUNCTIONS))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    made = []

    def make(name, **limits):
        made.append(Worker(f"functions:{name}", **{"timeout": 60.0, **limits}))
        return made[-1]

    yield make
    for one in made:
        one.close()


def alive(pid):
    """Whether a process runs; one that has ended and waits to be reaped does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout


def ends(pid, seconds=30.0):
    deadline = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(pid)


def test_result_in_one_lasting_process_without_jax(worker):
    assert worker("add").call("a", "b") == "ab"
    assert worker("echo").call({"a": [1, None, 2.5, "é\ud800\n"]}) == {"a": [1, None, 2.5, "é\ud800\n"]}
    assert worker("jax").call() is False
    one = worker("pid")
    assert one.call() == one.call() != os.getpid()


def test_exceptions_come_back_as_value_errors_and_the_process_stays(worker):
    with pytest.raises(ValueError, match=r"^needs more salt$"):
        worker("fail").call("needs more salt")
    one = worker("divide")
    with pytest.raises(ValueError, match=r"^ZeroDivisionError: division by zero$"):
        one.call(1, 0)
    assert one.call(1, 2) == 0.5
    with pytest.raises(ValueError, match=r"^TypeError: Object of type set is not JSON serializable"):
        worker("unjsonable").call()
    with pytest.raises(ValueError, match=r"^SystemExit: 3$"):
        worker("quit").call()
    with pytest.raises(ValueError, match=r"^RecursionError: "):
        worker("deep").call()
    with pytest.raises(ValueError, match=r"^TypeError: .*positional argument"):
        worker("add").call(1)


def test_a_call_that_exceeds_its_time_is_killed_and_the_next_one_works(worker):
    one = worker("sleep", timeout=3.0)
    one.call(0)
    process = one._process
    with pytest.raises(WorkerTimeout, match=r"^functions:sleep took longer than 3 s$"):
        one.call(60)
    assert process.returncode in (-signal.SIGKILL, -signal.SIGALRM)
    assert one.call(0) is None


def talker(code):
    command = [sys.executable, "-c", code]
    return subprocess.Popen(command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def test_the_parents_clock_ends_a_call_by_itself(worker):
    with talker("import time; time.sleep(60)") as process:
        with pytest.raises(WorkerTimeout, match=r"^functions:sleep took longer than 0\.1 s$"):
            worker("sleep")._transfer(process, b"", 0.1)
        process.kill()


@pytest.mark.parametrize("line", ["[true, 1]\n", "[true, "])
def test_a_complete_result_that_arrived_before_the_deadline_counts(worker, line):
    with talker(f"print({line!r}, end='', flush=True); input()") as process:
        select.select([process.stdout], [], [], 60)
        if line.endswith("\n"):
            assert worker("sleep")._transfer(process, b"", -1.0) == line.encode()
        else:
            with pytest.raises(WorkerTimeout):
                worker("sleep")._transfer(process, b"", -1.0)
        process.kill()


def test_the_childs_own_clock_is_a_time_out_too(worker):
    with pytest.raises(WorkerTimeout, match=r"^functions:ring took longer than 60 s$"):
        worker("ring").call()


def test_time_out_holds_against_a_trickle_of_bytes(worker):
    with pytest.raises(WorkerTimeout):
        worker("trickle", timeout=0.3).call()


def test_time_out_kills_the_children_of_the_child(worker, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WorkerTimeout):
        worker("spawn", timeout=5.0).call()
    assert all(ends(int(pid)) for pid in (tmp_path / "spawned").read_text().split())


def test_crashes_say_how_and_the_next_call_works(worker, monkeypatch):
    one = worker("leave")
    for _ in range(2):
        with pytest.raises(WorkerCrash, match=r"^functions:leave ended its process with status 5$"):
            one.call(5)
    with pytest.raises(WorkerCrash, match="died of SIGSEGV"):
        worker("segfault").call()
    with pytest.raises(WorkerCrash, match="needed more than 256 MB of memory"):
        worker("eat", memory_mb=256).call()
    monkeypatch.setattr(workers, "MAX_RESULT", 2**20)
    with pytest.raises(WorkerCrash, match="returned more than 1 MiB"):
        worker("flood").call()
    with pytest.raises(WorkerCrash, match="wrote to the pipe of the worker's results"):
        worker("scribble").call()


def test_a_large_request_to_a_dead_child_is_a_crash(worker):
    one = worker("echo")
    one.call(1)
    os.kill(one._process.pid, signal.SIGKILL)
    with pytest.raises(WorkerCrash, match="died of SIGKILL"):
        one.call("x" * 2**21)
    assert one.call(2) == 2


def test_function_that_cannot_be_loaded(worker):
    with pytest.raises(WorkerCrash, match=r"functions:nothing cannot be loaded: AttributeError: .*nothing"):
        worker("nothing").call()
    with pytest.raises(WorkerCrash, match="nowhere:f cannot be loaded: ModuleNotFoundError"):
        Worker("nowhere:f").call()


def test_prints_and_stdin_are_separate_from_the_results(worker):
    one = worker("chatter")
    assert [one.call(), one.call()] == ["", ""]


def test_the_child_gets_no_secrets_and_dumps_no_core(worker, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert worker("secret").call() is None
    assert worker("core").call() == [0, 0]


def test_large_messages_do_not_block(worker):
    text = "é" * 2**20
    one = worker("echo", timeout=30.0)
    assert one.call(text) == text
    assert one.call([text, text]) == [text, text]


def test_threads_take_turns(worker):
    one, results = WorkerPool("functions:echo", size=1), {}
    threads = [threading.Thread(target=lambda i=i: results.update({i: one.call(i)})) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {i: i for i in range(16)}


def test_no_child_outlives_close_or_collection(worker):
    one = Worker("functions:pid")
    first = one.call()
    assert alive(first)
    one.close()
    assert not alive(first)
    second = one.call()
    assert second != first
    del one
    assert ends(second)


@pytest.mark.parametrize("function", ["pid", "spin"])
def test_no_child_outlives_a_killed_parent(tmp_path, monkeypatch, function):
    functions = "import os\ndef pid(): return os.getpid()\ndef spin():\n    while True: pass\n"
    (tmp_path / "functions.py").write_text(functions)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    code = f"""
from r1jax.sandbox import workers
from r1jax.sandbox.workers import Worker
worker = Worker("functions:{function}", timeout=5.0)
worker.start()
print(worker._process.pid, flush=True)
worker.call()
import time; time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    time.sleep(0.2)  # the call is on its way
    assert alive(child)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert ends(child)


def test_throughput_is_printed(worker):
    one = worker("add")
    one.call(1, 2)
    start, calls = time.perf_counter(), 2000
    for i in range(calls):
        assert one.call(i, 1) == i + 1
    print(f"{calls / (time.perf_counter() - start):.0f} calls a second")

"""A limit on computing that a busy machine does not change."""

import contextlib
import time


@contextlib.contextmanager
def cpu_limit(seconds: float, of: str = "this"):
    """The body may compute for `seconds` in this thread; waiting and what other threads do are not counted."""
    start = time.thread_time()
    yield
    spent = time.thread_time() - start
    assert spent < seconds, f"{of} took {spent:.2f} s of computing; the limit is {seconds} s"

"""Programs in the sandbox: ordinary ones, ones that try to escape, and the processes that are left of either."""

import contextlib
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from r1jax.sandbox import programs
from r1jax.sandbox.programs import SandboxError, check_isolation

run_program = functools.partial(programs.run_program, seconds=60.0)


def usable():
    with contextlib.suppress(ValueError):
        check_isolation()
        return True
    return False


pytestmark = pytest.mark.skipif(not usable(), reason="this machine cannot isolate programs")


def processes():
    """Every process: its parent, and whether it belongs to a sandbox."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            found[int(folder.name)] = (parent, b"namespaces.py" in (folder / "cmdline").read_bytes())
    return found


def sandboxed(ancestor):
    """The sandboxed processes that `ancestor` started, and those whose ancestor has ended."""
    found = processes()

    def outside(pid):
        while found.get(pid, (0, False))[1]:
            pid = found[pid][0]
        return pid

    return [pid for pid, (_, inside) in found.items() if inside and outside(pid) in (0, 1, ancestor)]


def runs(pid):
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
    return False


def no_process_left(ancestor, seconds=30.0):
    deadline = time.monotonic() + seconds
    while (left := sandboxed(ancestor)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not left


@pytest.mark.parametrize(
    ("code", "stdin", "output"),
    [
        ("print(int(input()) * 2)", "3\n", b"6\n"),
        ("import sys\nsys.stdout.buffer.write(b'5\\n')", "", b"5\n"),
        ("import sys\nfor line in sys.stdin: print(line.strip()[::-1])", "ab\ncd", b"ba\ndc\n"),
        ("print(open(0).read() + open('/dev/stdin').read())", "x", b"xx\n"),
        ("import sys\nprint(sys.stdin.buffer.read())", "é", b"b'\\xc3\\xa9'\n"),
        ("print(1)\nexit()\nprint(2)", "", b"1\n"),
        ("print(1)\nimport sys\nsys.exit(0)", "", b"1\n"),
        ("if __name__ == '__main__':\n    print('main')", "", b"main\n"),
        ("print(len(str(2 ** 100000)))", "", b"30103\n"),
        ("import pickle\nclass A: pass\nprint(type(pickle.loads(pickle.dumps(A()))).__module__)", "", b"__main__\n"),
        ("import atexit\natexit.register(print, 'end')", "", b"end\n"),
        ("open('a', 'w').write('kept')\nprint(open('/tmp/a').read())", "", b"kept\n"),
        ("import asyncio\nasync def f(): print(3)\nasyncio.run(f())", "", b"3\n"),
        ("print({'b', 'a', 'c'} == {'a', 'b', 'c'}, annotations) if 0 else print(list({'b', 'a'}))", "", None),
        ("import os\nprint(sorted(os.environ) == sorted(set(os.environ)), os.getcwd())", "", b"True /tmp\n"),
        (
            "import sys, threading\nsys.setrecursionlimit(10**6)\nthreading.stack_size(1 << 27)\n"
            "def f(n): return n and 1 + f(n - 1)\n"
            "t = threading.Thread(target=lambda: print(f(50000)))\nt.start()\nt.join()",
            "",
            b"50000\n",
        ),
        (
            "from multiprocessing.pool import ThreadPool\ndef f(x): return x + 1\n"
            "with ThreadPool(2) as pool: print(pool.map(f, [1, 2]))",
            "",
            b"[2, 3]\n",
        ),
        ("import zoneinfo\nprint(zoneinfo.ZoneInfo('Europe/Berlin'))", "", b"Europe/Berlin\n"),
    ],
)
def test_a_program_runs_as_a_script_does(code, stdin, output):
    run = run_program(code, stdin)
    assert run.reason is None
    assert output is None or run.output == output


def test_the_same_program_prints_a_set_in_the_same_order():
    assert len({run_program("print({'b', 'a', 'c', 'd', 'e'})").output for _ in range(3)}) == 1


@pytest.mark.parametrize(
    ("code", "call", "value"),
    [
        ("def f(a, b): return a + b", "f(*arguments)", 3),
        ("def f(a, b): print('noise'); return a", "f(*arguments)", 1),
        ("class Solution:\n    def f(self, a, b): return [a, b]", "Solution().f(*arguments)", [1, 2]),
        ("f = lambda a, b: (a, {b})", "f(*arguments)", {"tuple": [1, {"set": [2]}]}),
        ("f = lambda a, b: {a: b'x'}", "f(*arguments)", {"dict": [[1, {"bytes": "78"}]]}),
        ("f = lambda a, b: 2 ** 100 * b", "f(*arguments)", {"int": hex(2**101)}),
        ("f = lambda a, b: complex(a, b)", "f(*arguments)", {"complex": [1.0, 2.0]}),
        ("f = lambda a, b: [None, True, 0.5, 'é\\ud800']", "f(*arguments)", [None, True, 0.5, "é\ud800"]),
        ("import collections\nf = lambda *a: collections.Counter(a)", "f(*arguments)", {"dict": [[1, 1], [2, 1]]}),
        ("if __name__ == '__main__': raise SystemExit\nf = max", "f(*arguments)", 2),
    ],
)
def test_a_call_gives_its_value(code, call, value):
    run = run_program(code, call=call, arguments=[1, 2])
    assert run.reason is None
    assert json.loads(run.output) == value


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise ValueError", "runtime_error"),
        ("1 +", "runtime_error"),
        ("\0", "runtime_error"),
        ("'\ud800'", "runtime_error"),
        ("(" * 10000, "runtime_error"),
        ("exit(3)", "runtime_error"),
        ("import os\nos.abort()", "runtime_error"),
        ("import os\nos.kill(os.getpid(), 9)", "runtime_error"),
        ("import numpy", "runtime_error"),
        ("import time\ntime.sleep(60)", "time_limit"),
        ("import threading, time\nthreading.Thread(target=time.sleep, args=[60]).start()", "time_limit"),
        ("import atexit, time\natexit.register(time.sleep, 60)", "time_limit"),
    ],
)
def test_a_failure_has_a_reason(code, reason):
    run = run_program(code, seconds=0.5 if reason == "time_limit" else 10.0)
    assert run.reason == reason


@pytest.mark.parametrize(
    "code", ["f = lambda: object()", "def f(): exit(0)", "import os\ndef f(): os._exit(0)", "f = 3"]
)
def test_a_call_without_a_plain_value_has_no_output(code):
    assert run_program(code, call="f()").output == b""


BEFORE = """
import contextlib, ctypes, mmap, os, resource, signal, socket, subprocess, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
def check(result):
    if result < 0: raise OSError(ctypes.get_errno(), "refused")
CANARY = {canary!r}
X86 = os.uname().machine == "x86_64"
"""
REFUSED = {
    "tcp": "socket.create_connection(('1.1.1.1', 53), 0.5)",
    "localhost": "socket.socket().bind(('127.0.0.1', 0))",
    "udp": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('8.8.8.8', 53))",
    "names": "socket.getaddrinfo('example.com', 80)",
    "abstract socket": "socket.socket(socket.AF_UNIX).connect('\\0/tmp/.X11-unix/X0')",
    "vsock": "socket.socket(socket.AF_VSOCK)",
    "netlink": "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
    "host name": "socket.sethostname('escaped')",
    "memory file": "os.memfd_create('x')",
    "system v memory": "check(libc.shmget(0, 1 << 20, 0o1600))",
    "message queue": "check(libc.msgget(0, 0o1600))",
    "keys": "check(libc.syscall(248 if X86 else 217, b'user', b'x', b'y', 1, -4))",
    "kill the trainer": f"os.kill({os.getpid()}, 9)",
    "kill the trainer's group": f"os.killpg({os.getpgid(0)}, 9)",
    "watch the trainer": f"os.pidfd_open({os.getpid()})",
    "trace": "check(libc.ptrace(16, os.getppid(), 0, 0))",
    "parent's memory": "check(libc.process_vm_readv(os.getppid(), bytes(16), 1, bytes(16), 1, 0))",
    "parent's descriptor": "check(libc.syscall(438, os.pidfd_open(os.getppid()), 1, 0))",
    "environment": "os.environ['SECRET']",
    "own initial environment": "open('/proc/self/environ')",
    "parent's environment": "open(f'/proc/{os.getppid()}/environ')",
    "first process": "os.listdir('/proc/1')",
    "root of the first process": "os.listdir('/proc/1/root')",
    "own memory's file": "open('/proc/self/mem', 'rb')",
    "kernel's settings": "os.listdir('/sys')",
    "passwords": "open('/etc/passwd')",
    "users": "__import__('pwd').getpwuid(0)",
    "home": f"os.listdir({os.path.expanduser('~')!r} + '/.cache')",
    "this repository": f"os.listdir({str(Path(__file__).parent)!r})",
    "site-packages": f"os.listdir({str(Path(pytest.__file__).parent)!r})",
    "canary": "open(CANARY)",
    "overwrite the canary": "open(CANARY, 'w')",
    "remove the canary": "os.remove(CANARY)",
    "write to the root": "open('/escaped', 'w')",
    "folder in the root": "os.mkdir('/escaped')",
    "write to usr": "open('/usr/escaped', 'w')",
    "write to dev": "open('/dev/escaped', 'w')",
    "write to python": "open(os.__file__, 'a')",
    "write to the script": f"open({str(programs.SCRIPT)!r}, 'a')",
    "symlink": "os.symlink(CANARY, 'link')\n    open('link')",
    "symlink to a folder": "os.symlink('/etc', 'etc')\n    open('etc/passwd')",
    "hard link": "os.link(os.__file__, 'os.py')",
    "dot dot": "open('../../../../../../etc/passwd')",
    "chroot": "os.chroot('/tmp')",
    "mount": "check(libc.mount(b'none', b'/tmp', b'tmpfs', 0, b''))",
    "remount": "check(libc.mount(b'none', b'/', None, 32, b''))",
    "unmount": "check(libc.umount2(b'/tmp', 2))",
    "user namespace": "os.unshare(os.CLONE_NEWUSER)",
    "user namespace by clone": "check(libc.syscall(56 if X86 else 220, os.CLONE_NEWUSER | 17, 0, 0, 0, 0))",
    "user namespace of a thread": "check(libc.syscall(56 if X86 else 220, os.CLONE_NEWUSER | 0x10f00, 0, 0, 0, 0))",
    "user namespace by clone3": "check(libc.syscall(435, os.CLONE_NEWUSER.to_bytes(8, 'little') + bytes(56), 64))",
    "process": "os.fork()",
    "process by clone": "check(libc.syscall(56 if X86 else 220, 17, 0, 0, 0, 0))",
    "process by clone3": "check(libc.syscall(435, bytes(64), 64))",
    "process by vfork": "check(libc.syscall(58, 0) if X86 else -1)",
    "process by spawn": "os.posix_spawn(sys.executable, ['python', '-c', ''], {})",
    "numbers of x32": "check(libc.syscall(0x40000000 + 57) if X86 else -1)",
    "numbers of i386": "m = mmap.mmap(-1, 4096, prot=7)\n    m.write(b'\\xb8\\x02\\0\\0\\0\\xcd\\x80\\xc3')\n"  # fork
    "    start = ctypes.addressof(ctypes.c_char.from_buffer(m))\n"
    "    check(ctypes.CFUNCTYPE(ctypes.c_int)(start)() if X86 else -1)",
    "attribute": "open('file', 'w').close()\n    os.setxattr('file', 'user.x', b'x')",
    "attribute of a link": "os.setxattr('file', 'user.x', b'x', follow_symlinks=False)",
    "attribute of a descriptor": "os.setxattr(os.open('file', os.O_RDWR), 'user.x', b'x')",
    "watches": "check(libc.inotify_init1(0))",
    "asynchronous files": "check(libc.syscall(206 if X86 else 0, 8, bytes(8)))",
    "queue of messages": "check(libc.mq_open(b'/q', 0o102, 0o600, None))",
    "local configuration": "os.listdir('/usr/local/etc')",
    "documents": "os.listdir('/usr/share/doc')",
    "programs": "os.listdir('/usr/bin')",
    "another's namespace": "os.setns(0)",
    "become another": "os.setuid(0 if os.getuid() else 1)",
    "raise a limit": "resource.setrlimit(resource.RLIMIT_NPROC, (4096, 4096))",
    "priority": "os.nice(-10)",
    "device": "os.mknod('disk', 0o60600, os.makedev(254, 0))\n    open('disk')",
    "kernel's log": "open('/dev/kmsg')",
    "terminal": "open('/dev/tty')",
    "clock": "time.clock_settime(time.CLOCK_REALTIME, 0)",
    "kill the first process": "os.kill(1, 9)\n    os.kill(1, 0)\n    raise OSError('still there')",
}


def escapes(canary):
    """A program that prints the names of the attempts that are not refused."""
    attempts = [
        f"try:\n    {attempt}\n    print({name!r})\nexcept (OSError, KeyError, ValueError): pass\n"
        for name, attempt in REFUSED.items()
    ]
    return BEFORE.format(canary=str(canary)) + "".join(attempts)


def test_every_escape_is_refused(tmp_path, monkeypatch):
    canary = tmp_path / "canary"
    canary.write_text("unchanged")
    files = [Path(os.__file__), programs.SCRIPT, canary]
    before = [file.read_bytes() for file in files]
    monkeypatch.setenv("SECRET", "of the trainer")
    run = run_program(escapes(canary))
    assert run.output.decode().splitlines() == []
    assert run.reason is None
    assert [file.read_bytes() for file in files] == before
    assert not Path("/escaped").exists() and not Path("/usr/escaped").exists()


FATAL = {
    "fork bomb": "while True: os.fork()",
    "quiet fork bomb": "while True:\n    with contextlib.suppress(OSError): os.fork()",
    "many forks": "for _ in range(40):\n    if not os.fork(): time.sleep(60)",
    "many threads": "for _ in range(100): threading.Thread(target=time.sleep, args=[60], daemon=True).start()",
    "memory": "x = bytearray(2 << 30)",
    "slow memory": "x = []\nwhile len(x) < 2048: x.append(bytearray(1 << 20))",
    "shared memory": "import mmap\nmmap.mmap(-1, 2 << 30)",
    "memory of children": "for _ in range(8):\n    if not os.fork():\n        x = b'x' * (400 << 20)\n"
    "        time.sleep(60)\ntime.sleep(60)",
    "stacks": "threading.stack_size(200 << 20)\n"
    "for _ in range(8): threading.Thread(target=time.sleep, args=[60], daemon=True).start()",
    "files": "for i in range(10000): open(str(i), 'wb').close()",
    "folders": "for i in range(230000): os.mkdir(str(i))",
    "nested folders": "for i in range(230000):\n    os.mkdir('x')\n    os.chdir('x')",
    "links": "for i in range(230000): os.symlink('x' * 4000, str(i))",
    "attributes": "for i in range(4000):\n    open(str(i), 'w').close()\n"
    "    for j in range(16): os.setxattr(str(i), f'user.{j}', bytes(60000))",
    "pipes": "while True: os.pipe()",
    "timers": "timer = ctypes.c_void_p()\nwhile True: check(libc.timer_create(0, None, ctypes.byref(timer)))",
    "disk": "with open('big', 'wb') as f:\n    for _ in range(200): f.write(bytes(1 << 20))",
    "disk in many files": "for i in range(200): open(str(i), 'wb').write(bytes(1 << 20))",
    "10 GB": "for _ in range(10 << 10): sys.stdout.write('x' * (1 << 20))",
    "10 GB of errors": "for _ in range(10 << 10): sys.stderr.write('x' * (1 << 20))\ntime.sleep(60)",
    "kill parent": "os.kill(os.getppid(), 9)\ntime.sleep(60)",
    "interrupt parent": "os.kill(os.getppid(), 2)\ntime.sleep(60)",
    "stop parent": "os.kill(os.getppid(), 19)\ntime.sleep(60)",
    "kill group": "os.kill(0, 9)",
    "kill all": "os.kill(-1, 9)\ntime.sleep(60)",
    "ignoring signals": "for s in range(1, 65):\n    with contextlib.suppress(OSError, ValueError):\n"
    "        signal.signal(s, signal.SIG_IGN)\nwhile True: pass",
    "no parent-death signal": "check(libc.prctl(1, 0, 0, 0, 0))\nwhile True: pass",
    "closed descriptors": "os.closerange(0, 4096)\ntime.sleep(60)",
    "scribbled descriptors": "for fd in range(3, 4096):\n    with contextlib.suppress(OSError): os.write(fd, b'x')\n"
    "raise SystemExit(1)",
    "huge exception": "raise ValueError('x' * (100 << 20))",
    "recursion": "def f(): f()\nf()",
    "recursion without limit": "sys.setrecursionlimit(1 << 30)\ndef f(): f()\nf()",
    "recursion in C": "x = []\nfor _ in range(10**6): x = [x]\nrepr(x)",
    "crash": "ctypes.string_at(0)",
    "large number": "9 ** 9 ** 9",
    "user namespaces": "while True: check(libc.unshare(0x10000000))",
    "background": "subprocess.Popen(['/bin/sleep', '60'])\nraise SystemExit(1)",
    "daemon": "if os.fork(): os._exit(1)\nos.setsid()\nif os.fork(): os._exit(1)\nlibc.prctl(1, 0, 0, 0, 0)\n"
    "os.closerange(0, 4096)\nwhile True: pass",
}


def fatal(attack):
    return BEFORE.format(canary="") + FATAL[attack] + "\nos.write(1, b'survived')\n"


@pytest.mark.parametrize("attack", FATAL)
def test_an_attack_fails_and_leaves_no_process(attack, monkeypatch):
    monkeypatch.setattr(programs, "MEMORY_MB", 512)
    run = run_program(fatal(attack), seconds=0.5)
    assert run.reason is not None and run.seconds < 30
    assert b"survived" not in run.output[-100:]
    assert no_process_left(os.getpid())


@pytest.mark.parametrize("attack", ["files", "folders", "nested folders", "links", "attributes", "pipes", "timers"])
def test_what_the_kernel_holds_is_limited(attack):
    """Not by the time that it takes: the program is refused more of it."""
    assert run_program(fatal(attack), seconds=20.0).reason == "runtime_error"


def test_all_of_a_programs_memory_is_limited(monkeypatch):
    """Pages of a shared mapping count as those of its own do, and there is no other process to hold more."""
    monkeypatch.setattr(programs, "MEMORY_MB", 256)
    code = """
import mmap, os, threading
held, refused = [], 0
def take():
    global refused
    for make in (lambda: bytearray(8 << 20), lambda: mmap.mmap(-1, 8 << 20)):
        try:
            while True: held.append(make())
        except (MemoryError, OSError): refused += 1
thread = threading.Thread(target=take)
thread.start()
thread.join()
try: os.fork()
except PermissionError: refused += 1
print(len(held) * 8 < 256, refused)
"""
    assert run_program(code).output == b"True 3\n"


def test_a_program_that_closes_everything_and_ends_is_silent():
    assert run_program("import os\nos.closerange(0, 4096)\nos._exit(0)").output == b""


def test_two_runs_share_nothing():
    assert run_program("open('/tmp/left', 'w').write('x')").reason is None
    assert run_program("import os\nprint(sorted(os.listdir('/tmp')))").output == b"['main.py', 'stdin']\n"


def test_a_killed_trainer_leaves_no_process():
    code = """
        from r1jax.sandbox.programs import check_isolation, run_program
        check_isolation()
        print("checked", flush=True)
        code = "import ctypes; ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)\\nwhile True: pass"
        run_program(code, seconds=60.0)
    """
    trainer = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE)
    trainer.stdout.readline()
    deadline = time.monotonic() + 30
    while len(sandboxed(trainer.pid)) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.2)
    assert len(sandboxed(trainer.pid)) >= 3
    trainer.kill()
    trainer.communicate()
    assert no_process_left(trainer.pid)


def test_calls_from_many_threads_do_not_mix():
    answers = {}

    def ask(n):
        if n % 4 == 0:
            answers[n] = run_program("import time; time.sleep(60)", seconds=0.3).reason
        else:
            answers[n] = run_program("print(int(input()) * 2)", str(n)).output

    threads = [threading.Thread(target=ask, args=[n]) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {n: f"{2 * n}\n".encode() if n % 4 else "time_limit" for n in range(12)}


def test_a_sandbox_that_is_killed_from_outside_says_nothing_about_the_program(monkeypatch):
    read = programs._read

    def killed(process, seconds):
        started = os.read(process.stdout.fileno(), 1)
        os.kill(process.pid, signal.SIGKILL)
        output, *rest = read(process, seconds)
        return started + output, *rest

    check_isolation()  # which reads too
    monkeypatch.setattr(programs, "_read", killed)
    with pytest.raises(SandboxError, match=r"^was killed from outside by SIGKILL$"):
        run_program("import time\ntime.sleep(60)")
    assert no_process_left(os.getpid())


def test_a_sandbox_that_does_not_start_is_a_sandbox_error(monkeypatch, tmp_path):
    check_isolation()
    monkeypatch.setattr(programs, "SCRIPT", tmp_path / "namespaces.py")
    with pytest.raises(SandboxError, match=r"can't open file"):
        run_program("print(1)", sandbox="unsafe")
    monkeypatch.setattr(programs, "PYTHON", [str(tmp_path / "python")])
    with pytest.raises(SandboxError, match=r"cannot be started"):
        run_program("print(1)", sandbox="unsafe")
    (tmp_path / "namespaces.py").write_text("import time; time.sleep(60)")
    monkeypatch.setattr(programs, "PYTHON", [sys.executable])
    monkeypatch.setattr(programs, "START_SECONDS", 0.5)
    with pytest.raises(SandboxError, match=r"did not start within 0\.5 s"):
        run_program("print(1)", sandbox="unsafe")


@pytest.fixture
def unchecked():
    check_isolation.cache_clear()
    yield
    check_isolation.cache_clear()


def test_isolation_is_tried(unchecked, monkeypatch):
    """A sandbox that does not isolate, here none at all, is detected."""
    check_isolation()
    assert "socket" in programs._probe(isolated=False)
    check_isolation.cache_clear()
    monkeypatch.setattr(programs, "_probe", lambda: "no namespaces")
    with pytest.raises(ValueError, match=r"^sandbox: auto finds no way .*\(no namespaces\).*unsafe$"):
        check_isolation()
    with pytest.raises(ValueError, match="finds no way"):
        run_program("print(1)")
    check_isolation("unsafe")


def test_an_unknown_sandbox_is_refused():
    with pytest.raises(ValueError, match="'safe' is unknown"):
        run_program("print(1)", sandbox="safe")


def test_unsafe_programs_keep_their_limits():
    assert run_program("print(int(input()) + 1)", "1", sandbox="unsafe").output == b"2\n"
    assert run_program("import time; time.sleep(60)", seconds=0.3, sandbox="unsafe").reason == "time_limit"
    assert run_program("while True: print('x' * 10000)", sandbox="unsafe").reason == "output_limit"
    assert run_program("x = bytearray(2 << 30)", sandbox="unsafe").reason == "runtime_error"
    assert "SECRET" not in run_program("import os\nprint(os.environ)", sandbox="unsafe").output.decode()
    code = "import subprocess\nprint(subprocess.Popen(['sleep', '60'], stdout=2).pid)"
    pid = int(run_program(code, sandbox="unsafe").output)
    deadline = time.monotonic() + 30
    while (left := runs(pid)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not left


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="only root can become another user")
def test_another_user_isolates_too():
    """In a mount namespace where everybody may read Python and r1jax: homes are often closed to others."""
    script = """
        mount -t tmpfs none /mnt && mkdir /mnt/python /mnt/code && mount --bind "$1" /mnt/python
        mount --bind "$2" /mnt/code && cd /mnt/code && export LD_LIBRARY_PATH=/mnt/python/lib TMPDIR=/tmp
        exec setpriv --reuid=65534 --regid=65534 --clear-groups "/mnt/python/bin/$3" -B -c "$4"
    """
    code = """
        import json, os, sys
        from r1jax.sandbox import programs
        from r1jax.sandbox.programs import check_isolation, run_program
        check_isolation()
        escapes, attacks = json.load(sys.stdin)
        programs.MEMORY_MB = 512
        print(os.getuid(), run_program("print(input())", "3", seconds=60.0).output, flush=True)
        print(run_program(escapes, seconds=60.0), flush=True)
        for name, code in attacks.items():
            run = run_program(code, seconds=0.5)
            if run.reason is None or b"survived" in run.output[-100:]: print(name, run, flush=True)
    """
    python = Path(sys.executable).resolve()
    folders = [python.parent.parent, Path(programs.__file__).parents[2]]
    command = ["unshare", "-m", "sh", "-c", textwrap.dedent(script), "sh", *folders, python.name, textwrap.dedent(code)]
    attacks = json.dumps([escapes("/etc/hostname"), {name: fatal(name) for name in FATAL}])
    done = subprocess.run(command, input=attacks, capture_output=True, text=True)
    first, second = done.stdout.splitlines()
    assert first == "65534 b'3\\n'", done.stderr
    assert second.startswith("Run(output=b'', reason=None,"), done.stderr
    assert no_process_left(0)

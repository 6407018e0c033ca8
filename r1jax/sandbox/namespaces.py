"""The script that isolates itself by Linux namespaces and then runs one program in this interpreter.

    python -P -s -S namespaces.py < job    # `programs` writes the job

Every run of a program starts this script, so it imports little. The program shares its memory, so it holds nothing that
the program must not know. Its processes, from outside to inside, are the launcher, which no program sees; the first
process of a new pid namespace, which no program in it can kill and whose end ends them all; and the program.
"""

from __future__ import annotations

import _sitebuiltins
import builtins
import ctypes
import marshal
import os
import resource
import struct
import sys
import types

ROOT = "/tmp"  # becomes the program's root in the new mount namespace; any folder would do
TMP_BYTES = 64 << 20  # of the program's /tmp, which is in memory
MAX_FILE_BYTES = 32 << 20
LINKS = {"/tmp/stdin": "/dev/stdin", "/tmp": "/dev/shm"}  # semaphores and shared memory are files
IMPORTED = {  # for functions that are called by the tests
    "typing": "Any Callable DefaultDict Deque Dict Iterable Iterator List Optional Sequence Set Tuple Union",
    "collections": "Counter OrderedDict defaultdict deque",
    "heapq": "heapify heappop heappush heappushpop heapreplace nlargest nsmallest",
    "bisect": "bisect bisect_left bisect_right insort",
    "itertools": "accumulate chain combinations groupby pairwise permutations product zip_longest",
    "functools": "cache cmp_to_key lru_cache partial reduce",
    "math": "ceil comb factorial floor gcd inf isqrt lcm log2 sqrt",
    "string": "ascii_lowercase ascii_uppercase",
    "operator": "itemgetter",
    **dict.fromkeys(("random", "re", "sys"), ""),
}
MAX_PROCESSES = 16  # threads included
MAX_OPEN_FILES = 64
FIRST_USER = 2_000_000_000  # far above the ids that systems assign

SIGKILL = 9
PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 22, 38
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 4096, 16384, 1 << 18
MOUNT_SETATTR, AT_FDCWD, AT_RECURSIVE = 442, -100, 0x8000  # one number on every machine; Linux 5.12

# System calls that namespaces and limits do not cover: sockets of families without a namespace, memory outside of the
# address space (of the kernel too: attributes of files, watches, rules), keys that outlive a process, other processes'
# memory, and large parts of the kernel that programs here do not need.
DENIED_SYSCALLS = {
    "x86_64": (0xC000003E, {
        "socket": 41, "shmget": 29, "semget": 64, "msgget": 68, "ptrace": 101, "mount": 165, "add_key": 248,
        "request_key": 249, "keyctl": 250, "unshare": 272, "perf_event_open": 298, "setns": 308,
        "process_vm_readv": 310, "process_vm_writev": 311, "memfd_create": 319, "bpf": 321, "userfaultfd": 323,
        "io_uring_setup": 425, "fsopen": 430, "pidfd_getfd": 438, "memfd_secret": 447, "setxattr": 188,
        "lsetxattr": 189, "fsetxattr": 190, "setxattrat": 463, "io_setup": 206, "inotify_init1": 294,
        "fanotify_init": 300, "landlock_create_ruleset": 444,
        "fork": 57, "vfork": 58, "inotify_init": 253,  # older forms
    }),
    "aarch64": (0xC00000B7, {
        "socket": 198, "shmget": 194, "semget": 190, "msgget": 186, "ptrace": 117, "mount": 40, "add_key": 217,
        "request_key": 218, "keyctl": 219, "unshare": 97, "perf_event_open": 241, "setns": 268,
        "process_vm_readv": 270, "process_vm_writev": 271, "memfd_create": 279, "bpf": 280, "userfaultfd": 282,
        "io_uring_setup": 425, "fsopen": 430, "pidfd_getfd": 438, "memfd_secret": 447, "setxattr": 5,
        "lsetxattr": 6, "fsetxattr": 7, "setxattrat": 463, "io_setup": 0, "inotify_init1": 26,
        "fanotify_init": 262, "landlock_create_ruleset": 444,
    }),
}  # fmt: skip
CLONE = {"x86_64": 56, "aarch64": 220}  # which threads need
CLONE3 = 435
CLONE_THREAD, NEW_NAMESPACES = 0x10000, 0x7E020000  # flags of clone: a thread, and any new namespace

_libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Runs the job that stdin has: isolates this process, sets limits, runs the program, exits with its status."""
    job = marshal.loads(b"".join(iter(lambda: os.read(0, 1 << 20), b"")))
    os.environ.pop("LD_LIBRARY_PATH", None)
    if job["isolated"]:
        user = _enter_namespaces(job["visible"], job["parent"])
        _continue_in_child()
        os.chroot(ROOT)
        os.chdir("/tmp")
        _continue_in_child()
        os.setsid()  # a new group, so that a signal to the program's group reaches no other process
        if user is not None:
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
    _set_limits(job["cpu_seconds"], job["memory_mb"] << 20, isolated=job["isolated"])
    if job["isolated"]:
        _drop_privileges()
    _run(**job["program"])


def _enter_namespaces(visible: list[str], parent: int) -> int | None:
    """Enters new namespaces and mounts the visible paths under ROOT; returns the user id to change to, if any."""
    flags = os.CLONE_NEWNS | os.CLONE_NEWPID | os.CLONE_NEWNET | os.CLONE_NEWIPC
    uid, gid, user = os.getuid(), os.getgid(), None
    with open("/proc/self/uid_map") as file:
        all_users = file.read().split() == ["0", "0", "4294967295"]
    if uid == 0 and all_users:
        os.unshare(flags)
        user = FIRST_USER + os.getpid()  # a separate one, since the kernel counts processes by user, and never root's
    else:  # a user namespace gives the privileges and keeps the user
        os.unshare(flags | os.CLONE_NEWUSER)
        for name, text in (("setgroups", "deny"), ("uid_map", f"65534 {uid} 1"), ("gid_map", f"65534 {gid} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    _prctl(PR_SET_PDEATHSIG, SIGKILL)  # not earlier, since new privileges clear it
    if os.getppid() != parent:
        sys.exit("the process that started this one has ended")

    sources = [(path, os.open(path, os.O_PATH)) for path in visible]  # opened before ROOT hides some of them
    _mount(None, "/", None, MS_REC | MS_PRIVATE)
    _mount("tmpfs", ROOT, "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,mode=755")
    os.mkdir(f"{ROOT}/tmp")
    for path, source in sources:
        target = ROOT + path
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if os.path.isdir(f"/proc/self/fd/{source}"):
            os.makedirs(target, exist_ok=True)
        else:
            open(target, "x").close()
        _mount(f"/proc/self/fd/{source}", target, None, MS_BIND | MS_REC)
        os.close(source)
    for target, link in LINKS.items():
        os.symlink(target, ROOT + link)
    attributes = struct.pack("QQQQ", MS_RDONLY | MS_NOSUID, 0, 0, 0)
    _check("mount_setattr", _libc.syscall(MOUNT_SETATTR, AT_FDCWD, ROOT.encode(), AT_RECURSIVE, attributes, 32))
    _mount("tmpfs", f"{ROOT}/tmp", "tmpfs", MS_NOSUID | MS_NODEV, f"size={TMP_BYTES},nr_inodes=4096,mode=1777")
    return user


def _continue_in_child() -> None:
    """Returns in a child process that dies with this one; this one waits for it and exits with its status."""
    alive, held = os.pipe()
    pid = os.fork()
    if pid:
        _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        os._exit(code if code >= 0 else 128 - code)
    os.close(held)
    _prctl(PR_SET_PDEATHSIG, SIGKILL)
    os.set_blocking(alive, False)
    try:
        os.read(alive, 1)
        os._exit(1)  # the pipe is closed, so the parent died before PR_SET_PDEATHSIG was set
    except BlockingIOError:
        os.close(alive)


def _set_limits(seconds: int, memory: int, *, isolated: bool) -> None:
    """Sets a process's limits; some count what is the user's, so they need an `isolated` user."""
    limits = {"CPU": seconds, "AS": memory, "CORE": 0, "FSIZE": MAX_FILE_BYTES, "NOFILE": MAX_OPEN_FILES}
    own = {"NPROC": MAX_PROCESSES, "SIGPENDING": MAX_OPEN_FILES, "MSGQUEUE": 0}  # signals and timers; queues
    for name, value in (limits | (own if isolated else {})).items():
        kind = getattr(resource, f"RLIMIT_{name}")
        _, most = resource.getrlimit(kind)
        value = value if most == resource.RLIM_INFINITY else min(value, most)
        try:
            resource.setrlimit(kind, (value, value))
        except (ValueError, OSError):
            if isolated:  # macOS lacks some limits
                raise


def _drop_privileges() -> None:
    """Drops all capabilities, also those that another program would give, and system calls.

    Those are DENIED_SYSCALLS and new processes, so that the limits of the one process are the program's. Threads are
    allowed. The flags of clone3 are in memory, where no filter sees them; without it the C library uses clone.
    """
    _check("capset", _libc.capset(struct.pack("Ii", 0x20080522, 0), bytes(24)))
    _prctl(PR_SET_NO_NEW_PRIVS, 1)
    machine, denied = DENIED_SYSCALLS[os.uname().machine]
    load, equal, at_least, any_bit, leave = 0x20, 0x15, 0x35, 0x45, 0x06  # classic BPF
    # After a comparison come the numbers of instructions to skip where it holds and where it does not.
    deny, unknown, allow = (leave, 0, 0, 0x00050001), (leave, 0, 0, 0x00050026), (leave, 0, 0, 0x7FFF0000)
    filters = [
        *((load, 0, 0, 4), (equal, 1, 0, machine), deny),
        *((load, 0, 0, 0), (at_least, 0, 1, 1 << 30), deny),  # x32's numbering
        *(line for number in denied.values() for line in ((equal, 0, 1, number), deny)),
        *((equal, 0, 1, CLONE3), unknown),  # ENOSYS
        *((equal, 1, 0, CLONE[os.uname().machine]), allow),
        *((load, 0, 0, 16), (any_bit, 1, 0, CLONE_THREAD), deny, (any_bit, 0, 1, NEW_NAMESPACES), deny, allow),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in filters))
    _prctl(PR_SET_SECCOMP, 2, struct.pack("HxxxxxxQ", len(filters), ctypes.addressof(code)))


def _run(code: str, stdin: str, call: str | None, arguments: list[object]) -> None:
    """Runs the program as `python main.py` with stdin; then, if given, writes the value of `call` to stdout as JSON.

    One byte on stdout marks the start of the program.
    """
    for name, text in (("main.py", code), ("stdin", stdin)):
        with open(name, "wb") as file:
            file.write(text.encode("utf-8", "surrogatepass"))
    os.dup2(os.open("stdin", os.O_RDONLY), 0)
    os.closerange(3, MAX_OPEN_FILES)
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    os.write(1, b"\n")
    answer = -1
    if call is not None:
        answer = os.dup(1)
        os.dup2(nothing, 1)
    os.close(nothing)

    for name in ("exit", "quit"):  # which an interpreter without site lacks
        setattr(builtins, name, _sitebuiltins.Quitter(name, "Ctrl-D"))
    sys.argv = ["main.py"]
    module = type(sys)("__main__" if call is None else "program")
    module.__file__ = "main.py"
    sys.modules[module.__name__] = module
    compiled = compile(code, "main.py", "exec", dont_inherit=True)
    if "cache" in code and sys.version_info < (3, 14):
        _deepen_caches()
    if call is not None:
        _import_used(compiled, module.__dict__)
    exec(compiled, module.__dict__)
    if call is not None:
        expression = compile(call, "call", "eval", dont_inherit=True)
        value = eval(expression, module.__dict__, {"arguments": arguments})
        import json  # here, since it is slow to load

        with os.fdopen(answer, "w") as file:
            json.dump(plain(value), file)


def _deepen_caches() -> None:
    """Makes functools.lru_cache the one in Python: calls of the one in C may be nested only some 500 deep in 3.12."""
    import functools
    import importlib.util

    spec = importlib.util.find_spec("functools")
    if spec is None or spec.loader is None:
        return
    fresh, own = importlib.util.module_from_spec(spec), sys.modules["_functools"]
    sys.modules["_functools"] = None  # type: ignore[assignment]
    try:
        spec.loader.exec_module(fresh)
    finally:
        sys.modules["_functools"] = own
    functools._lru_cache_wrapper = fresh._lru_cache_wrapper


def _import_used(code: types.CodeType, names: dict[str, object]) -> None:
    """Puts what the graders of APPS, TACO and LiveCodeBench import before a function into `names`, where it is used."""
    import importlib

    used, codes = set[str](), [code]
    for each in codes:
        used |= {*each.co_names}
        codes += [constant for constant in each.co_consts if isinstance(constant, type(code))]
    for module, members in IMPORTED.items():
        if wanted := used & {module, *members.split()}:
            found = importlib.import_module(module)
            names |= {name: found if name == module else getattr(found, name) for name in wanted}


def plain(value: object) -> object:
    """Plain data as JSON, where a type that JSON lacks is an object keyed by the type. Raises TypeError for others."""
    if value is None or isinstance(value, bool | str | float):
        return value
    if isinstance(value, int):
        return value if abs(value) < 1 << 53 else {"int": hex(value)}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, tuple):
        return {"tuple": [plain(item) for item in value]}
    if isinstance(value, set | frozenset):
        return {"set": [plain(item) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[plain(key), plain(item)] for key, item in value.items()]}
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    raise TypeError(f"{type(value).__name__} is not plain data")


def _mount(source: str | None, target: str, kind: str | None, flags: int, options: str = "") -> None:
    texts = [text.encode() if text is not None else None for text in (source, target, kind)]
    _check(f"mount {target}", _libc.mount(*texts, ctypes.c_ulong(flags), options.encode()))


def _prctl(option: int, value: int | bytes, more: bytes | int = 0) -> None:
    words = [word if isinstance(word, bytes) else ctypes.c_ulong(word) for word in (value, more, 0, 0)]
    _check("prctl", _libc.prctl(option, *words))


def _check(action: str, result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{action}: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    main()

"""Processes of this server's own, which work for the one that has started them and can be killed without hurting it.

Each is started as ``python -m MODULE END LIFE``. The arguments are the descriptors of two sockets: at the other end of
the first it is asked, that of the second closes when the other process ends. It has no environment but where compiled
kernels are kept and what picks the code of linear algebra, and a process group of its own.
"""

import fcntl
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from socket import socket, socketpair
from typing import Final, NoReturn

import app
from factors.kernels.compile import CACHE_FOLDER

NICENESS: Final = 10  # whoever waits for the server's answers comes first


def start(module: str) -> tuple[subprocess.Popen[bytes], socket, socket]:
    """A process that runs the module, a socket to ask it through, and one that it does not outlive.

    Raises:
        OSError: it could not be started.
    """
    (end, its_end), (life, its_life) = socketpair(), socketpair()
    descriptors = [its_end.fileno(), its_life.fileno()]
    with its_end, its_life:
        try:
            process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-m", module, *map(str, descriptors)],
                cwd=Path(app.__file__).parents[1],  # so that its modules are this process's
                env={"NUMBA_CACHE_DIR": CACHE_FOLDER, **_machine_code()},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=descriptors,
                start_new_session=True,
            )
        except OSError:
            end.close()
            life.close()
            raise
    return process, end, life


def kill(process: subprocess.Popen[bytes], *ends: socket) -> None:
    """End a process with its group, wait for it, and close what led to it."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for end in ends:
        end.close()


def epitaph(process: subprocess.Popen[bytes]) -> str:
    """How a process ended that has ended."""
    status = process.returncode
    how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
    return f"the process that worked on it {how}"


def end_with(life: socket) -> None:
    """Have the system end this process when the other end of a socket is closed, on which nothing is ever sent.

    A thread that waits for it would wait for the interpreter too, which hung or stopped code does not give back.
    """
    fcntl.fcntl(life, fcntl.F_SETOWN, os.getpid())
    if hasattr(fcntl, "F_SETSIG"):
        fcntl.fcntl(life, fcntl.F_SETSIG, signal.SIGKILL)  # elsewhere it is SIGIO, which is heeded less
    fcntl.fcntl(life, fcntl.F_SETFL, fcntl.fcntl(life, fcntl.F_GETFL) | os.O_ASYNC)
    life.setblocking(False)
    with suppress(BlockingIOError):
        life.recv(1)  # it was closed before
        leave()


def give_way() -> None:
    """Let whoever waits for the server come first, and where the machine's memory is short let this process go."""
    os.nice(NICENESS)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def leave() -> NoReturn:
    """End this process at once: libraries would tell at length what they had not cleared away."""
    os._exit(0)


def _machine_code() -> dict[str, str]:
    """What this process was told of the machine code of linear algebra: with other code the last digits differ."""
    return {name: value for name, value in os.environ.items() if name.startswith("OPENBLAS_")}

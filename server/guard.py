"""Runs as `python guard.py PARENT_PID PROGRAM ARGUMENT...`: becomes PROGRAM, which the kernel kills when its parent
dies, even when that is by kill -9. A program of its own, because code between fork and exec is not safe beside threads.

The kernel's parent is the *thread* that started this process: it must live as long as the program shall.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h

if __name__ == "__main__":
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(sys.argv[1]):  # it died before the kernel was told
        sys.exit(1)
    os.execv(sys.argv[2], sys.argv[2:])

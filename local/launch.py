"""Runs a command that ends with its parent: launch.py PARENT_PID DEATH_SIGNAL USER COMMAND...

An empty USER keeps the current one. Changing the user clears the death signal, so the order counts.
"""

import ctypes
import os
import pwd
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h

parent, death_signal, user = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
command = sys.argv[4:]
prctl = getattr(ctypes.CDLL(None), "prctl", None)  # Linux only
if user:
    account = pwd.getpwnam(user)
    os.initgroups(user, account.pw_gid)
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)
if prctl:
    prctl(PR_SET_PDEATHSIG, death_signal)
if os.getppid() != parent:  # it ended before it was being watched
    sys.exit(1)
try:
    os.execvp(command[0], command)  # noqa: S606 - a fixed list, no shell
except OSError as error:
    sys.exit(f"cannot run {command[0]}: {error.strerror}")

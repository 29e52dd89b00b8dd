"""Becomes a program that dies with its parent: `python -m infra.bound --parent PID ... -- ARGV`.

Theory of operation: the supervisor may be killed with SIGKILL and then cannot stop anything, so
each child asks the kernel for a signal at its parent's death (`PR_SET_PDEATHSIG`, Linux) before
it becomes the program. The request survives `execve`, but not a change of user, so the user is
changed first. Where the kernel has no such request, the next `up` finds the strays in its state
file.
"""

import argparse
import ctypes
import os
import pwd
import sys

PR_SET_PDEATHSIG = 1
"""From linux/prctl.h."""


def become_user(name: str) -> None:
    """Give up root for the named user."""
    entry = pwd.getpwnam(name)
    os.initgroups(name, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)


def die_with(parent_pid: int, death_signal: int) -> bool:
    """Ask for `death_signal` when the parent dies; False when it is already gone."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
    return os.getppid() == parent_pid


def main() -> None:
    """Read the command line, bind to the parent and become the program."""
    parser = argparse.ArgumentParser(prog="infra.bound")
    parser.add_argument("--parent", type=int, required=True, help="pid of the supervisor")
    parser.add_argument("--signal", type=int, required=True, help="signal at its death")
    parser.add_argument("--user", help="run as this user (needs root)")
    parser.add_argument("argv", nargs="+")
    options = parser.parse_args()
    if options.user is not None:
        become_user(options.user)
    if not die_with(options.parent, options.signal):
        raise SystemExit(1)
    os.execv(options.argv[0], options.argv)


if __name__ == "__main__":
    main()

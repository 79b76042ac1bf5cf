"""Memory that a step has freed is there for the next one."""

from __future__ import annotations

import ctypes


def keep_memory():
    """Let this process keep the memory that it frees, so that each step finds it where the last one left it.

    Linux's C library gives a step's memory back to the system, and the next step fetches it again, page by
    cleared page, a fifth to almost half of the time. That is for a program to change, not for a
    library: call it once, before you train. It then keeps about 1 GB. Without glibc it does nothing.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    trim_threshold, mmap_threshold = -1, -3  # malloc.h
    mallopt(trim_threshold, 2**30)
    mallopt(mmap_threshold, 2**30) or mallopt(mmap_threshold, 2**25)  # an older glibc's largest

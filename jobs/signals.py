"""SIGTERM, as `ray job stop` and service managers send it, ends a command in good order."""

from __future__ import annotations

import signal
import threading


def take_sigterm_for_ctrl_c() -> None:
    """Let SIGTERM raise KeyboardInterrupt in the main thread, from now on."""
    if threading.current_thread() is threading.main_thread():  # others cannot set handlers
        signal.signal(signal.SIGTERM, signal.default_int_handler)

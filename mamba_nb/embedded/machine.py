"""What this machine can give to an engine: memory and processors, as far as it says.

The answers are bytes and counts, or None where the system does not tell. A container's limits count: a notebook
server of 2 GB on a host of 64 GB has 2 GB. `psutil` is used where it is installed; Linux needs nothing.
"""

from __future__ import annotations

import math
import os
from importlib import import_module
from pathlib import Path
from typing import Any

CGROUP = Path("/sys/fs/cgroup")


def available_memory_bytes() -> int | None:
    """Memory that a new process can have without swapping, in bytes; None where the system does not tell."""
    known = [size for size in (_system_available(), cgroup_available_bytes(CGROUP, _own_cgroup())) if size is not None]
    return min(known) if known else None


def usable_cpus() -> int | None:
    """How many processors this process may use, or None where nothing limits it to fewer than the machine has."""
    total = os.cpu_count() or 1
    limits = [total]
    if hasattr(os, "sched_getaffinity"):
        limits.append(len(os.sched_getaffinity(0)))
    quota = cgroup_cpus(CGROUP, _own_cgroup())
    if quota is not None:
        limits.append(max(1, math.ceil(quota)))
    return min(limits) if min(limits) < total else None


def process_memory_bytes(pid: int) -> int | None:
    """Resident memory of a process, in bytes, its mapped weights included; None where it cannot be read."""
    psutil = _psutil()
    if psutil is None:
        return _kilobytes(Path(f"/proc/{pid}/status"), "VmRSS")
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return None


def cgroup_available_bytes(root: Path, group: str) -> int | None:
    """What the control groups from `group` up to the root leave, in bytes; None where none sets a limit.

    Both layouts are read: version 2 (`memory.max`) and version 1 (`memory/memory.limit_in_bytes`). Cached files that
    the kernel can drop at once do not count as used.
    """
    left = []
    for folder in _upwards(root, group):
        limit, used = _number(folder / "memory.max"), _number(folder / "memory.current")
        if limit is not None and used is not None:
            left.append(limit - used + _stat(folder / "memory.stat", "inactive_file"))
    old = root / "memory"
    limit, used = _number(old / "memory.limit_in_bytes"), _number(old / "memory.usage_in_bytes")
    if limit is not None and used is not None and limit < 2**60:  # version 1 writes "no limit" as a huge number
        left.append(limit - used + _stat(old / "memory.stat", "total_inactive_file"))
    return max(0, min(left)) if left else None


def cgroup_cpus(root: Path, group: str) -> float | None:
    """Processors' worth of time that the control groups allow; None where none sets a quota."""
    quotas = []
    for folder in _upwards(root, group):
        words = _text(folder / "cpu.max").split()
        if len(words) == 2 and words[0] != "max":
            quotas.append(int(words[0]) / int(words[1]))
    quota, period = _number(root / "cpu/cpu.cfs_quota_us"), _number(root / "cpu/cpu.cfs_period_us")
    if quota is not None and period and quota > 0:
        quotas.append(quota / period)
    return min(quotas) if quotas else None


def _system_available() -> int | None:
    psutil = _psutil()
    if psutil is None:
        return _kilobytes(Path("/proc/meminfo"), "MemAvailable")
    return int(psutil.virtual_memory().available)


def _psutil() -> Any:
    try:
        return import_module("psutil")
    except ImportError:
        return None


def _own_cgroup() -> str:
    for line in _text(Path("/proc/self/cgroup")).splitlines():
        if line.startswith("0::"):
            return line[3:]
    return "/"


def _upwards(root: Path, group: str) -> list[Path]:
    folder = root / group.strip("/")
    return [folder, *(parent for parent in folder.parents if parent == root or root in parent.parents)]


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.lstrip("-").isdigit() else None


def _stat(path: Path, name: str) -> int:
    for line in _text(path).splitlines():
        words = line.split()
        if len(words) == 2 and words[0] == name:
            return int(words[1])
    return 0


def _kilobytes(path: Path, name: str) -> int | None:
    for line in _text(path).splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return None

"""What machine this is: everything that a reader needs to judge figures, as the kernel tells it."""
import glob
import os
import platform
import re
import subprocess
import time


def _read(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return None


def _output(*command, cwd=None):
    try:
        done = subprocess.run(command, cwd=cwd, text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def cpu_list(text):
    """The CPUs of a list such as "0-3,8"; [] of nothing."""
    cpus = []
    for piece in (text or "").split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", piece.strip())
        if match:
            cpus += range(int(match[1]), int(match[2] or match[1]) + 1)
    return cpus


def _cpu():
    info = _read("/proc/cpuinfo") or ""
    found = re.search(r"^model name\s*:\s*(.*)$", info, re.M)
    caches = {}
    for index in sorted(glob.glob("/sys/devices/system/cpu/cpu0/cache/index*")):
        kind = _read(index + "/type")
        name = f"L{_read(index + '/level')} {kind.lower() if kind else ''}".strip()
        caches[name] = {"size": _read(index + "/size"), "shared_by_cpus": _read(index + "/shared_cpu_list")}
    lscpu = _output("lscpu") or ""

    def field(name):
        match = re.search(rf"^\s*{re.escape(name)}:\s*(.*)$", lscpu, re.M)
        return match[1] if match else None

    return {
        "model": found[1] if found else platform.processor(),
        "cpus": os.cpu_count(),
        "allowed": sorted(os.sched_getaffinity(0)),
        "threads_per_core": field("Thread(s) per core"),
        "sockets": field("Socket(s)"),
        "caches": caches,
        "numa_nodes": len(glob.glob("/sys/devices/system/node/node[0-9]*")) or 1,
        "hypervisor": field("Hypervisor vendor") or "none seen",
    }


def _frequency():
    base = "/sys/devices/system/cpu/cpu0/cpufreq/"
    return {
        "governor": _read(base + "scaling_governor") or "none: the kernel does not steer the frequency here",
        "driver": _read(base + "scaling_driver"),
        "max_khz": _read(base + "scaling_max_freq"),
        "no_turbo": _read("/sys/devices/system/cpu/intel_pstate/no_turbo"),
    }


def _isolation():
    line = _read("/proc/cmdline") or ""
    options = {}
    for name in ("isolcpus", "nohz_full", "rcu_nocbs", "irqaffinity", "mitigations", "idle", "intel_idle.max_cstate"):
        match = re.search(rf"(?:^|\s){re.escape(name)}=(\S+)", line)
        options[name] = match[1] if match else None
    isolated = _read("/sys/devices/system/cpu/isolated")
    return {"isolated_cpus": cpu_list(isolated), "command_line": options}


def _hugepages():
    pools = []
    for path in sorted(glob.glob("/sys/kernel/mm/hugepages/hugepages-*kB")):
        pools.append({"kib": int(re.search(r"-(\d+)kB", path)[1]),
                      "total": _read(path + "/nr_hugepages"), "free": _read(path + "/free_hugepages")})
    return {"pools": pools, "transparent": _read("/sys/kernel/mm/transparent_hugepage/enabled")}


def _mitigations():
    return {os.path.basename(path): _read(path)
            for path in sorted(glob.glob("/sys/devices/system/cpu/vulnerabilities/*"))}


def load_average():
    return list(os.getloadavg())


def revision(root):
    """The tree's git revision and whether it differs from it; None where that is not known."""
    commit = _output("git", "-C", root, "rev-parse", "HEAD")
    changed = _output("git", "-C", root, "status", "--porcelain") if commit else None
    return {"commit": commit, "dirty": None if changed is None else changed != ""}


def describe(root):
    memory = re.search(r"^MemTotal:\s*(\d+) kB", _read("/proc/meminfo") or "", re.M)
    compiler = _output("g++", "--version")
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "cpu": _cpu(),
        "frequency": _frequency(),
        "isolation": _isolation(),
        "memory_mib": int(memory[1]) // 1024 if memory else None,
        "hugepages": _hugepages(),
        "kernel": platform.release(),
        "clocksource": _read("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        "preemption": _read("/sys/kernel/debug/sched/preempt"),
        "mitigations": _mitigations(),
        "compiler": compiler.splitlines()[0] if compiler else None,
        "libc": " ".join(platform.libc_ver()),
        "load_average": load_average(),
        "user_is_root": os.geteuid() == 0,
        "sanpoll": revision(root),
    }


def remarks(machine):
    """What a reader has to know before believing figures of this machine."""
    said = []
    if len(machine["cpu"]["allowed"]) < 2:
        said.append("There is one CPU: everything that takes two was not measured, or shows the scheduler.")
    if machine["cpu"]["hypervisor"] != "none seen":
        said.append("The machine is virtual: its host may move or stop its CPUs at any moment. Samples lie between "
                    "sentinels for that reason; p99.9 and beyond are the host's.")
    if not machine["isolation"]["isolated_cpus"]:
        said.append("No CPU is isolated: the kernel's own work interrupts the measured threads.")
    if machine["frequency"]["governor"] not in ("performance",) and "none" not in machine["frequency"]["governor"]:
        said.append(f"The frequency governor is `{machine['frequency']['governor']}`, not `performance`.")
    if machine["load_average"][0] > 0.5:
        said.append(f"The load average was {machine['load_average'][0]:.2f} before the start: other work was going on.")
    if machine["sanpoll"]["dirty"]:
        said.append("The source tree differs from its revision: the figures cannot be reproduced from git alone.")
    return said

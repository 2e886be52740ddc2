"""What sanpoll is compared with: which versions are installed here, and where they are not, that."""
import subprocess

# Peer -> Debian package that brings it (scripts/setup --peers), pkg-config module.
PACKAGES = (
    ("UCX", "libucx0", "ucx"),
    ("UCX's ucx_perftest", "ucx-utils", None),
    ("libfabric", "libfabric1", "libfabric"),
    ("liburing (io_uring)", "liburing2", "liburing"),
    ("DPDK (rte_ring)", "libdpdk-dev", "libdpdk"),
    ("Boost (lockfree::spsc_queue)", "libboost-dev", None),
    ("moodycamel::ReaderWriterQueue", "libreaderwriterqueue-dev", None),
    ("Concurrency Kit (ck_ring)", "libck-dev", "ck"),
    ("Google Benchmark", "libbenchmark-dev", "benchmark"),
    ("Valgrind (callgrind)", "valgrind", None),
)


def _output(*command):
    try:
        done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def installed():
    """[{"name", "version" or None, "source"}]"""
    peers = []
    for name, package, module in PACKAGES:
        status, _, version = _output("dpkg-query", "-W", "-f", "${db:Status-Status} ${Version}", package).partition(" ")
        source = f"package {package}"
        if status != "installed":
            version = _output("pkg-config", "--modversion", module) if module else ""
            source = f"pkg-config {module}" if version else None
        peers.append({"name": name, "version": version or None, "source": source})
    return peers

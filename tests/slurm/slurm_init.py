"""The first process of a test cluster: it makes the namespaces a place of their own and ends everything in them.

Started by `unshare` in new mount, process and network namespaces. As process 1 it reaps what others leave behind; when
its standard input is closed, also because the tests were killed, it ends, and the kernel ends all of the cluster.
"""

import fcntl
import os
import socket
import struct
import subprocess
import sys
import threading
import time

SET_ADDRESS, SET_FLAGS, UP = 0x8916, 0x8914, 0x1
"""ioctl's SIOCSIFADDR, SIOCSIFFLAGS and IFF_UP."""


def main() -> None:
    """Put the cluster's config where SLURM looks for it, open the loopback network, and wait."""
    subprocess.run(["mount", "--bind", sys.argv[1], "/etc/slurm"], check=True)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as network:
        fcntl.ioctl(network, SET_FLAGS, struct.pack("16sh", b"lo", UP))
        # With no address but 127.0.0.1 the resolver believes that there is no network and names nothing.
        address = struct.pack("16sHH4s8x", b"lo:1", socket.AF_INET, 0, socket.inet_aton("127.0.0.2"))
        fcntl.ioctl(network, SET_ADDRESS, address)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    threading.Thread(target=_reap, daemon=True).start()
    sys.stdin.read()


def _reap() -> None:
    while True:
        try:
            os.wait()
        except ChildProcessError:
            time.sleep(0.1)


if __name__ == "__main__":
    main()

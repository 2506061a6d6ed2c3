"""The process of a contestant, in the contestant's environment: Python and numpy only.

    python -m benchmarks.peers.worker REGISTRY CONTESTANT CORES

``REGISTRY`` is ``module:attribute`` of a dict of contestants, ``CORES`` the CPUs to run on (``0,1``). Its commands
are the methods of ``benchmarks.peers.server.Server``; how it is asked is ``benchmarks.kit.serving``'s.
"""

import os
import sys

from benchmarks.kit.serving import serve


def main(registry: str, name: str, cores: str) -> None:
    """Answer commands until stdin ends."""
    os.sched_setaffinity(0, {int(core) for core in cores.split(",")})  # before any library starts threads

    def server() -> object:
        from benchmarks.peers.server import Server

        return Server(registry, name)

    serve(server)


if __name__ == "__main__":
    main(*sys.argv[1:])

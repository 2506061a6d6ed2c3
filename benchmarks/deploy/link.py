"""A network link on one machine: a TCP relay that limits the rate, adds delay, and counts the bytes.

    python -m benchmarks.deploy.link PORT [RATE] [DELAY]

relays connections to 127.0.0.1:PORT, at RATE bit/s in each direction (0: as fast as it goes), each way DELAY
seconds long. It says its own port on stdout. For each line on stdin it answers one JSON line with the bytes
since the last: ``sent`` towards PORT, and ``received`` from there. They are what TCP carries, SSH's own
bytes among them; TCP's and IP's headers are not counted. EOF on stdin ends it.
"""

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
from types import TracebackType
from typing import Self

BITS = 8
_BURST_S = 0.02  # what an idle link may pass at once, as seconds of its rate: one tick of a coarse clock
_SLICE_S = 0.005  # a limited link forwards pieces this long, so that connections share it
_PIECE = 65_536  # bytes; what an unlimited one forwards at once
_BUFFER = 65_536  # a limited link's socket buffers: what a small router holds, not the megabytes of loopback
_QUEUE = 4096  # pieces under way on a link with delay


class Bucket:
    """A token bucket as virtual scheduling (ITU-T I.371, generic cell rate algorithm).

    Args:
        rate: Bytes a second; None lets everything pass at once.
        burst: Bytes that may pass at once after the link was idle.
    """

    def __init__(self, rate: float | None, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._idle_from: float | None = None

    def take(self, size: int, now: float) -> float:
        """Seconds from ``now`` until the last of ``size`` more bytes has passed."""
        if self._rate is None:
            return 0.0
        earliest = now - self._burst / self._rate
        start = earliest if self._idle_from is None else max(self._idle_from, earliest)
        self._idle_from = start + size / self._rate
        return max(0.0, self._idle_from - now)


class Direction:
    """One direction of the link, shared by all its connections."""

    def __init__(self, rate: float | None, delay_s: float) -> None:
        self.passed = 0
        self.piece = _PIECE if rate is None else max(512, int(rate * _SLICE_S))
        self._bucket = Bucket(rate, 0.0 if rate is None else rate * _BURST_S)
        self._delay_s = delay_s

    async def relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass everything on until the reader ends; then the writer is ended too."""
        flying: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_QUEUE)
        landing = asyncio.create_task(_land(flying, writer))
        loop = asyncio.get_running_loop()
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(self.piece):
                await asyncio.sleep(self._bucket.take(len(piece), loop.time()))
                self.passed += len(piece)
                await flying.put((loop.time() + self._delay_s, piece))
        await flying.put((loop.time() + self._delay_s, b""))
        await landing


async def _land(flying: "asyncio.Queue[tuple[float, bytes]]", writer: asyncio.StreamWriter) -> None:
    """Write each piece when it is due; an empty one ends the connection in this direction."""
    loop = asyncio.get_running_loop()
    gone = False
    while True:
        due, piece = await flying.get()
        await asyncio.sleep(due - loop.time())
        try:
            if not piece:
                writer.write_eof()
                return
            if not gone:
                writer.write(piece)
                await writer.drain()
        except OSError:  # whoever should read it is gone; what still comes is dropped, as on a wire
            if not piece:
                return
            gone = True


class Relay:
    """The link: a listening socket, and its two directions."""

    def __init__(self, port: int, rate: float | None = None, delay_s: float = 0.0) -> None:
        self.there = Direction(rate, delay_s)
        self.back = Direction(rate, delay_s)
        self._upstream = port
        self._limited = rate is not None

    async def serve(self) -> asyncio.Server:
        """Listen on a port of its own of 127.0.0.1."""
        listening = socket.socket()
        self._shrink(listening)  # before listen(): accepted sockets inherit it
        listening.bind(("127.0.0.1", 0))
        return await asyncio.start_server(self._connected, sock=listening, limit=self.there.piece)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream = socket.socket()
        self._shrink(upstream)
        upstream.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(upstream, ("127.0.0.1", self._upstream))
            far_reader, far_writer = await asyncio.open_connection(sock=upstream, limit=self.back.piece)
        except OSError:
            upstream.close()
            writer.close()  # refused, as the other end would
            return
        try:
            await asyncio.gather(self.there.relay(reader, far_writer), self.back.relay(far_reader, writer))
        finally:
            for end in (far_writer, writer):
                end.close()

    def _shrink(self, end: socket.socket) -> None:
        if self._limited:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)

    def count(self) -> dict[str, int]:
        """Bytes in each direction since the last count."""
        counted = {"sent": self.there.passed, "received": self.back.passed}
        self.there.passed = self.back.passed = 0
        return counted


class Link:
    """A ``Relay`` in a process of its own, so that it takes no turns with whoever is timed."""

    def __init__(self, port: int, mbit: float | None = None, delay_ms: float = 0.0) -> None:
        self._argv = [str(port), str((mbit or 0) * 1e6), str(delay_ms / 1000)]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, *self._argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.port = int(self._process.stdout.readline())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def count(self) -> dict[str, int]:
        """Bytes ``sent`` to the board and ``received`` from it since the last count."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


async def main(port: int, bits_per_s: float, delay_s: float) -> None:
    """Relay until stdin ends."""
    relay = Relay(port, bits_per_s / BITS or None, delay_s)
    server = await relay.serve()
    print(server.sockets[0].getsockname()[1], flush=True)
    loop = asyncio.get_running_loop()
    while await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps(relay.count()), flush=True)
    server.close()


if __name__ == "__main__":
    values = [float(word) for word in sys.argv[1:]] + [0.0, 0.0]
    asyncio.run(main(int(values[0]), values[1], values[2]))

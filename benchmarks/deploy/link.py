"""A network link on one machine: a TCP relay that limits the rate, adds delay, and counts the bytes.

    python -m benchmarks.deploy.link PORT [RATE] [DELAY]

relays connections to 127.0.0.1:PORT, at RATE bit/s in each direction (0: unlimited), with DELAY seconds
each way. It is a worker (``benchmarks.kit.serving``) with two commands: ``port`` returns its port; ``count`` returns the
bytes since the last count: ``sent`` to PORT, and ``received`` from it. This is TCP payload, including SSH's
overhead; TCP and IP headers are not counted.
"""

import asyncio
import contextlib
import json
import math
import socket
import sys

from benchmarks.kit.processes import WorkerProcess
from benchmarks.kit.serving import pipes

BITS = 8
_ANSWER_S = 60
_BURST_S = 0.02  # burst of an idle link, in seconds of its rate: one tick of a coarse clock
_SLICE_S = 0.005  # a limited link forwards pieces of this duration, so that connections share it
_PIECE = 65_536  # bytes that an unlimited link forwards at once
_BUFFER = 65_536  # socket buffers of a limited link: as in a small router, not the megabytes of loopback
_QUEUE = 4096  # pieces in flight on a link with delay


class Bucket:
    """A token bucket as virtual scheduling (ITU-T I.371, generic cell rate algorithm).

    ``rate`` is in bytes per second; None is unlimited. Up to ``burst`` bytes may pass at once after
    the link was idle.
    """

    def __init__(self, rate: float | None, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._idle_from = -math.inf

    def take(self, size: int, now: float) -> float:
        """Return seconds from ``now`` until the last of ``size`` more bytes has passed."""
        if self._rate is None:
            return 0.0
        self._idle_from = max(self._idle_from, now - self._burst / self._rate) + size / self._rate
        return max(0.0, self._idle_from - now)


class Direction:
    """One direction of the link, shared by all its connections."""

    def __init__(self, rate: float | None, delay_s: float) -> None:
        self.passed = 0
        self.piece = _PIECE if rate is None else max(512, int(rate * _SLICE_S))
        self._bucket = Bucket(rate, 0.0 if rate is None else rate * _BURST_S)
        self._delay_s = delay_s

    async def relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward all data until the reader ends; then close the writer."""
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
    """Write each piece when it is due; an empty one closes the connection in this direction."""
    loop = asyncio.get_running_loop()
    ended = False
    while not ended:
        due, piece = await flying.get()
        ended = not piece
        await asyncio.sleep(due - loop.time())
        # If the receiver is gone, further data is dropped, as on a wire.
        with contextlib.suppress(OSError):
            if ended:
                writer.write_eof()
            elif not writer.is_closing():
                writer.write(piece)
                await writer.drain()


class Relay:
    """The link: a listening socket and two directions."""

    def __init__(self, port: int, rate: float | None = None, delay_s: float = 0.0) -> None:
        self.there = Direction(rate, delay_s)
        self.back = Direction(rate, delay_s)
        self._upstream = port
        self._limited = rate is not None

    async def serve(self) -> asyncio.Server:
        """Listen on a free port of 127.0.0.1."""
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
            writer.close()  # refused, as by the other end
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
        """Return bytes in each direction since the last count."""
        counted = {"sent": self.there.passed, "received": self.back.passed}
        self.there.passed = self.back.passed = 0
        return counted


class Link(WorkerProcess):
    """A ``Relay`` in a separate process, so that it does not delay the timed process."""

    def __init__(self, port: int, mbit: float | None = None, delay_ms: float = 0.0) -> None:
        super().__init__(
            [sys.executable, "-m", __name__, str(port), str((mbit or 0) * 1e6), str(delay_ms / 1000)]
        )
        self.port: int = self.ask("port", _ANSWER_S)

    def count(self) -> dict[str, int]:
        """Return bytes ``sent`` to the board and ``received`` from it since the last count."""
        return self.ask("count", _ANSWER_S)


async def main(port: int, bits_per_s: float = 0.0, delay_s: float = 0.0) -> None:
    """Relay until stdin ends."""
    commands, answers = pipes()
    relay = Relay(port, bits_per_s / BITS or None, delay_s)
    server = await relay.serve()
    own_port = server.sockets[0].getsockname()[1]
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, commands.readline):
        answer = own_port if json.loads(line)["do"] == "port" else relay.count()
        answers.write(json.dumps({"ok": answer}) + "\n")
    server.close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), *map(float, sys.argv[2:])))

"""The host's end of the byte port, as a cocotb driver."""

import random
from itertools import repeat

from cocotb.clock import Clock
from cocotb.triggers import RisingEdge

__all__ = ["PERIOD_NS", "ByteHost"]

PERIOD_NS = 10


def _pauses(seed):
    """Cycles to hold back each byte, without end: some alone, others in stretches at full rate."""
    rng = random.Random(seed)
    while True:
        yield rng.randint(1, 6)
        yield from repeat(0, rng.choice((0, 0, 1, 7, 63)))


class ByteHost:
    """Sends commands to an accelerator's ``rx`` and collects the replies from its ``tx``.

    stalls: "rx" or "tx" -> seed of random pauses there. A stream without one is at full rate.
    """

    def __init__(self, dut, stalls=None):
        self.dut = dut
        self._pauses = {stream: _pauses(seed) for stream, seed in (stalls or {}).items()}

    async def start(self):
        """Clock and reset."""
        dut = self.dut
        dut.rx__valid.value = 0
        dut.rx__payload.value = 0
        dut.tx__ready.value = 0
        dut.rst.value = 1
        Clock(dut.clk, PERIOD_NS, unit="ns").start()
        for _ in range(4):
            await RisingEdge(dut.clk)
        dut.rst.value = 0
        await RisingEdge(dut.clk)

    async def _pause(self, stream):
        if stream in self._pauses:
            for _ in range(next(self._pauses[stream])):
                await RisingEdge(self.dut.clk)

    async def send(self, data):
        dut = self.dut
        for byte in data:
            if "rx" in self._pauses:
                # Not valid yet: nobody may take it.
                dut.rx__payload.value = ~byte & 0xFF
            await self._pause("rx")
            dut.rx__payload.value = byte
            dut.rx__valid.value = 1
            await RisingEdge(dut.clk)
            while not dut.rx__ready.value:
                await RisingEdge(dut.clk)
            dut.rx__valid.value = 0

    async def receive(self, count, timeout=1000):
        """``count`` bytes; fails if one takes more than ``timeout`` cycles."""
        dut = self.dut
        data = bytearray()
        for _ in range(count):
            await self._pause("tx")
            dut.tx__ready.value = 1
            for _ in range(timeout):
                await RisingEdge(dut.clk)
                if dut.tx__valid.value:
                    break
            else:
                raise TimeoutError(f"no byte for {timeout} cycles after {len(data)} of {count}")
            data.append(int(dut.tx__payload.value))
            dut.tx__ready.value = 0
        return bytes(data)

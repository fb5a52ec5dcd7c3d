"""The host's end of the byte port, as a cocotb driver."""

from cocotb.clock import Clock
from cocotb.triggers import RisingEdge

__all__ = ["PERIOD_NS", "ByteHost"]

PERIOD_NS = 10


class ByteHost:
    """Sends commands to an accelerator's ``rx`` and collects the replies from its ``tx``.

    stall(n): called for every byte in either direction; the number of cycles to hold back before
    byte n. None keeps both streams at full rate.
    """

    def __init__(self, dut, stall=None):
        self.dut, self.stall = dut, stall
        self.count = 0

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

    async def _hold(self):
        if self.stall:
            for _ in range(self.stall(self.count)):
                await RisingEdge(self.dut.clk)
        self.count += 1

    async def send(self, data):
        dut = self.dut
        for byte in data:
            await self._hold()
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
            await self._hold()
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

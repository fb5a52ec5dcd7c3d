"""Errors between the serial line and the command port, and of booting."""

from tests.mutants.mutation import mutations_of

__all__ = ["LINE"]

LINE = [
    *mutations_of(
        "hw/port.py",
        (
            "in_range.eq((counter < limit)", "in_range.eq((counter <= limit)",
            "a word behind the end of a memory is written",
        ),
        (
            "(counter < limit) & (address[top:] == 0)", "(counter < limit)",
            "addresses beyond all memories wrap around",
        ),
        (
            "address[:end] + words[:end] > sizes[Region.SPIKES]",
            "address[:end] + words[:end] >= sizes[Region.SPIKES]",
            "the last word cannot be read",
        ),
        (
            "self.first + self.count > engine.layer_depth",
            "self.first + self.count >= engine.layer_depth",
            "the last layer cannot be run",
        ),
        (
            "self.write.enable.eq(in_range & (status == Status.OK))",
            "self.write.enable.eq(in_range)",
            "words far behind the end of a memory wrap around",
        ),
        ("m.d.sync += cycles.eq(0)\n", "pass\n", "the cycles of all runs add up"),
        (
            "ran.eq(check.again)", "ran.eq(0)",
            "a run that comes again is run again",
            ("tests/hw/test_link.py",),
        ),
        (
            "                with m.If(check.drop):\n                    m.d.sync += place.eq(0)\n",
            "",
            "half a command is kept when the line falls silent",
            ("tests/hw/test_link.py",),
        ),
    ),
    *mutations_of(
        "hw/link.py",
        (
            "opened & ~opening & (following == expected)", "opened & (following == expected)",
            "a session that begins with the last number does not run",
        ),
        (
            "(opened & (sequence[:7] == expected))", "(sequence[:7] == expected)",
            "number 0 is taken after a reset",
        ),
        (
            "m.d.sync += differs.eq(1)", "m.d.sync += differs.eq(~differs)",
            "two errors in a sum make it right",
        ),
        ("                        differs.eq(0),\n", "", "one damaged frame refuses all others"),
        (
            "check.intact.eq(admitted | in_order)", "check.intact.eq(in_order)",
            "data might be out of order where their command was not",
            (),
            (
                "a command that is admitted opens the session and sets expected to the number "
                "behind its own: from then on it counts as again, or as opening, and is in order"
            ),
        ),
        (
            "(round(float(clock_hz) * QUIET_SECONDS) - 1).bit_length()",
            "round(float(clock_hz) * QUIET_SECONDS).bit_length()",
            "a clock that divides evenly waits twice as long",
            (
                "tests/hw/test_link.py::test_quiet_is_ten_milliseconds_at_least_and_less_than_twice_that",
            ),
        ),
        (
            "begins.eq(0), silence.eq(0)]", "begins.eq(0)]",
            "the line falls silent amid a frame",
            ("tests/hw/test_link.py::test_a_frame_after_a_quiet_line_may_have_gaps",),
        ),
        ("octet[0] ^ check.awaits)", "octet[0])", "a sum is not complemented"),
        (
            "Signal(init=1), Signal(init=1), Signal()", "Signal(init=1), Signal(), Signal()",
            "the first sum after a reset does not start anew",
            (),
            "the register of the CRC comes up as a start leaves it",
        ),
    ),
    *mutations_of(
        "hw/uart.py",
        (
            "timer.eq(self.divisor // 2 - 1)", "timer.eq(self.divisor - 1)",
            "bits are sampled at their end",
        ),
        (
            "level & (~self.o.valid | self.o.ready)", "level & ~self.o.valid",
            "a byte is lost that comes as the one before is taken",
        ),
        ("self.broken.eq(shift == 0)", "self.broken.eq(1)", "a bad stop bit is a break"),
        (
            "FFSynchronizer(\n            self.line, level, init=1,",
            "FFSynchronizer(\n            self.line, level, init=0,",
            "a reset is taken for a start bit",
        ),
        (
            "                    with m.If(~level):\n                        m.next = \"Break\"\n",
            "",
            "a break is a row of bytes",
        ),
        (
            (
                "                with m.If(level):\n                    "
                "m.next = \"Idle\"\n            "
                "with m.State(\"Bits\")"
            ),
            "            with m.State(\"Bits\")",
            "a glitch is a start bit",
        ),
        (
            "abs(clock_hz / (divisor * baud) - 1)", "(clock_hz / (divisor * baud) - 1)",
            "a rate may be too slow by any amount",
        ),
    ),
    *mutations_of(
        "hw/boot.py",
        (
            "with m.If((size == 0) | size[SIZE_BITS:].any())", "with m.If(size[SIZE_BITS:].any())",
            "a blob of no bytes is played for 2**24",
        ),
        (
            "size[SIZE_BITS:].any())", "size[SIZE_BITS + 1 :].any())",
            "a blob twice as long as any is played",
        ),
        (
            (
                "                with m.If(step == 0):\n                    "
                "m.next = \"Pause\"\n                "
                "with m.Elif(step < len(sent))"
            ),
            "                with m.If(step < len(sent))",
            "the flash is read before it has woken",
        ),
    ),
    *mutations_of(
        "hw/device.py",
        (
            "m.d.sync += reset.eq(uart.broken & ~boot.busy)", "m.d.sync += reset.eq(uart.broken)",
            "a break amid booting leaves half a network",
            ("tests/hw/test_boot.py",),
        ),
        (
            "m.d.comb += [endpoint.tx.ready.eq(1), uart.rx.ready.eq(1)]",
            "m.d.comb += endpoint.tx.ready.eq(1)",
            "a byte that comes while it boots is heard later",
            ("tests/hw/test_boot.py",),
        ),
        (
            (
                "        with m.If(uart.broken):\n            "
                "m.d.sync += self.lost.eq(0)\n        "
                "with m.Elif(uart.error)"
            ),
            "        with m.If(uart.error)",
            "a byte lost shows for ever",
        ),
    ),
    *mutations_of(
        "hw/top.py",
        (
            "sync.rst.eq(clock.reset)", "sync.rst.eq(0)",
            "the clock's reset does not reach the device",
        ),
        ("led_buffer.o.eq(device.lost)", "led_buffer.o.eq(~device.lost)", "the LED is inverted"),
        ("m.d.comb += flash.cipo.eq(buffer.i)\n", "", "nothing comes from the flash"),
    ),
]

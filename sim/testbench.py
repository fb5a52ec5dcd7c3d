"""cocotb test of the whole accelerator: every layer boundary of every frame, and every cycle.

The plan (``sim.plan``) says what to load and what must come back. Results go to a JSON file that
``sim.run`` reads: cocotb passes only on full equality.
"""

import json
import os
from pathlib import Path

import cocotb
import numpy as np
from cocotb.triggers import Timer
from cocotb.utils import get_sim_time

from sim.driver import PERIOD_NS, ByteHost
from sim.plan import Plan
from sw import protocol

#: A run ends this many cycles after its last layer, at most, before the port answers.
MARGIN = 100


async def ask(host, command, cycles=0):
    """The reply to a command; sleeps through most of the expected ``cycles``."""
    await host.send(command)
    await Timer(max(cycles - 2, 1) * PERIOD_NS, unit="ns")
    return await host.receive(protocol.reply_bytes(command), timeout=MARGIN)


async def run(host, command, cycles):
    """A run's cycle counter, and the words that it sends."""
    return protocol.decode_run(await ask(host, command, cycles))


async def read(host, address, words):
    return protocol.decode_words(await ask(host, protocol.encode_read(address, words)))


async def write(host, region, words, address=0):
    for command in protocol.encode_writes(region, address, words):
        protocol.check_status(await ask(host, command))


def difference(name, expected, got):
    """None if equal, else one line that says where they part."""
    if np.array_equal(expected, got):
        return None
    wrong = np.argwhere(expected != got)
    place = tuple(int(i) for i in wrong[0])
    return (
        f"{name}: {len(wrong)} of {expected.size} values differ, first at {place}: golden"
        f" {expected[place]}, hardware {got[place]}"
    )


@cocotb.test()
async def network_equals_golden(dut):
    plan = Plan.load(Path(os.environ["PLAN"]))
    program = plan.program
    network = program.network
    host = ByteHost(dut, plan.stalls)
    await host.start()

    engine = protocol.decode_info(await ask(host, protocol.INFO))
    assert engine == program.engine, f"the hardware reports {engine}"
    for region, words in program.regions.items():
        await write(host, region, words)

    result = {"frames": 0, "differences": [], "cycles_per_frame": None, "logits": []}

    async def load(number):
        words = program.pack_frame(plan.frames[number])
        await write(host, program.frame_region, words, program.frame_address)

    async def run_and_compare(name, command, expected):
        cycles, words = await run(host, command, expected)
        if cycles != expected:
            result["differences"].append(
                f"{name}: {cycles} cycles, the cycle model says {expected}"
            )
        return cycles, words

    async def compare(name, index, number, side, words=None):
        """What a layer made of frame ``number``, read unless ``words`` are it."""
        if words is None:
            words = await read(host, *program.boundary_words(index, side))
        got = program.unpack_boundary(index, words, side)
        wrong = difference(name, plan.boundaries[index][number], got)
        if wrong:
            result["differences"].append(wrong)
        return got

    last = len(plan.cycles) - 1
    for number in range(len(plan.frames)):
        side = number % 2 if program.ahead else 0
        await load(number)
        # Layer by layer, to see what each one wrote before the next one writes over it.
        for index, expected in enumerate(plan.cycles):
            name = f"frame {number} {network.layer_name(index)}"
            if index or not network.coded:
                await run_and_compare(name, program.run_layer(index, side), expected)
            got = await compare(name, index, number, side)
        result["logits"].append(got.tolist())
        result["frames"] = number + 1
        with Path(os.environ["PROGRESS"]).open("a") as progress:
            progress.write(".")

    # And in one go, as a user runs it: a stem core is always a frame ahead of the others.
    count = min(len(plan.frames), 3)
    if program.has_stem_core:
        await load(0)
        await run(host, program.run_layer(0), plan.cycles[0])
    for number in range(count):
        name, side = f"frame {number} in one go", number % 2 if program.ahead else 0
        following = (number + 1) % count
        if not program.has_stem_core:
            await load(number)
        elif program.ahead:
            await load(following)
        elif number:
            await load(number)
            await run(host, program.run_layer(0), plan.cycles[0])
        expected = plan.frame_cycles
        if program.has_stem_core and not program.ahead:
            expected -= plan.cycles[0]
        cycles, words = await run_and_compare(name, program.run_network(side), expected)
        result["cycles_per_frame"] = plan.frame_cycles - expected + cycles
        await compare(name, last, number, side, words)
        if program.ahead:
            await compare(f"{name}: the next frame's stem", 0, following, 1 - side)
    # Of the whole session: what the host and its stalls took, too.
    result["cycles"] = round(get_sim_time("ns") / PERIOD_NS)
    # Written only at the end: no file means that the simulation broke off.
    Path(os.environ["RESULT"]).write_text(json.dumps(result))
    assert not result["differences"], result["differences"][0]

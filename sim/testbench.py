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

from sim.driver import PERIOD_NS, ByteHost
from sim.plan import Plan
from sw import protocol

#: A run ends this many cycles after its last layer, at most, before the port answers.
MARGIN = 100


async def run_layers(host, first, count, cycles):
    """Run layers and return the cycle counter; sleep through most of the expected ``cycles``."""
    await host.send(protocol.encode_run(first, count))
    await Timer(max(cycles - 2, 1) * PERIOD_NS, unit="ns")
    return protocol.decode_cycles(await host.receive(5, timeout=MARGIN))


async def read(host, address, words):
    await host.send(protocol.encode_read(address, words))
    return protocol.decode_words(await host.receive(1 + 2 * words))


async def write(host, region, words):
    await host.send(protocol.encode_write(region, 0, words))
    protocol.check_status(await host.receive(1))


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
    host = ByteHost(dut)
    await host.start()

    await host.send(bytes([protocol.Opcode.INFO]))
    engine = protocol.decode_info(await host.receive(1 + protocol.INFO_BYTES))
    assert engine == program.engine, f"the hardware reports {engine}"
    for region, words in program.regions.items():
        await write(host, region, words)

    result = {"frames": 0, "differences": [], "cycles_per_frame": None, "logits": []}
    for number, frame in enumerate(plan.frames):
        await write(host, 0, program.pack_frame(frame))
        # Layer by layer, to see what each one wrote before the next one writes over it.
        for index, expected in enumerate(plan.cycles):
            name = f"frame {number} {network.layer_name(index)}"
            cycles = await run_layers(host, index, 1, expected)
            if cycles != expected:
                result["differences"].append(
                    f"{name}: {cycles} cycles, the cycle model says {expected}"
                )
            words = await read(host, *program.boundary_words(index))
            got = program.unpack_boundary(index, words)
            wrong = difference(name, plan.boundaries[index][number], got)
            if wrong:
                result["differences"].append(wrong)
        result["logits"].append(got.tolist())
        if number == 0:
            # And in one go, as a user runs it.
            await write(host, 0, program.pack_frame(frame))
            cycles = await run_layers(host, 0, len(plan.cycles), sum(plan.cycles))
            again = program.unpack_boundary(
                index, await read(host, *program.boundary_words(index))
            )
            result["cycles_per_frame"] = cycles
            if cycles != sum(plan.cycles):
                result["differences"].append(
                    f"whole network: {cycles} cycles, the cycle model says {sum(plan.cycles)}"
                )
            wrong = difference("whole network logits", got, again)
            if wrong:
                result["differences"].append(wrong)
        result["frames"] = number + 1
        with Path(os.environ["PROGRESS"]).open("a") as progress:
            progress.write(".")
    # Written only at the end: no file means that the simulation broke off.
    Path(os.environ["RESULT"]).write_text(json.dumps(result))
    assert not result["differences"], result["differences"][0]

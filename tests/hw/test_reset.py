"""A reset in the middle of a run or of a command: memories stay as loaded, and all else is new."""

import random

import pytest
from amaranth.hdl import ResetInserter, Signal

from hw.accelerator import Accelerator
from sw import protocol
from sw.cycles import cycles_per_frame
from sw.program import Region, compile_program
from tests.hw.support import simulate
from tests.hw.test_memory import ENGINE, NETWORK, golden
from tests.support import random_frames, random_image

FRAMES = 6


def session(resets):
    """(logits, cycles) of each frame; before each, a run or a write is broken off by a reset.

    resets: False leaves the reset out. Fails if there is no reply, or another command's.
    """
    program = compile_program(random_image(NETWORK), ENGINE)
    frames = [program.pack_frame(frame) for frame in random_frames(NETWORK, FRAMES).numpy()]
    total, rng = cycles_per_frame(NETWORK, ENGINE), random.Random(0)
    inner, reset, found = Accelerator(ENGINE), Signal(), []

    async def testbench(ctx):
        async def send(octets):
            ctx.set(inner.rx.valid, 1)
            for octet in octets:
                ctx.set(inner.rx.payload, octet)
                for _ in range(2 * total):
                    if (await ctx.tick().sample(inner.rx.ready))[2]:
                        break
                else:
                    raise TimeoutError("the port takes no byte")
            ctx.set(inner.rx.valid, 0)

        async def ask(command):
            reply = bytearray()
            await send(command)
            ctx.set(inner.tx.ready, 1)
            for _ in range(2 * total):
                _, _, valid, octet = await ctx.tick().sample(inner.tx.valid, inner.tx.payload)
                if valid:
                    reply.append(octet)
                if len(reply) == protocol.reply_bytes(command):
                    ctx.set(inner.tx.ready, 0)
                    return bytes(reply)
            raise TimeoutError(f"{len(reply)} of {protocol.reply_bytes(command)} bytes")

        for region, words in program.regions.items():
            protocol.check_status(await ask(protocol.encode_write(region, 0, words)))
        for number, frame in enumerate(frames):
            write = protocol.encode_write(Region.FRAME, 0, frame)
            if number % 3 == 2:
                await send(write[: rng.randrange(1, len(write))])
            else:
                await send(program.run_network())
                await ctx.tick().repeat(rng.randrange(total))
            ctx.set(reset, resets)
            await ctx.tick()
            ctx.set(reset, 0)
            protocol.check_status(await ask(write))
            cycles, words = protocol.decode_run(await ask(program.run_network()))
            logits = program.unpack_boundary(len(NETWORK.layers) - 1, words, 0)
            found.append((logits.tolist(), cycles))

    simulate(ResetInserter(reset)(inner), testbench)
    return found


def test_frames_after_a_reset_equal_golden():
    cycles = cycles_per_frame(NETWORK, ENGINE)
    assert session(True) == [(logits, cycles) for logits in golden(NETWORK, FRAMES)]


def test_without_the_reset_the_port_is_not_ready_for_a_command():
    with pytest.raises((TimeoutError, protocol.ProtocolError)):
        session(False)

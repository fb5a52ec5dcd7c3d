"""The driver on a line that errs and a board that is reset: right answers or an error."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch

from sw import framing, protocol
from sw.cycles import cycles_per_frame
from sw.framing import Receiver
from sw.host import link
from sw.host.accelerator import Accelerator
from sw.host.link import Link, LinkError, LostSession
from sw.layers import Conv, Events, Network, Readout, Shape
from sw.protocol import ProtocolError
from tests.support import random_frames, random_image
from tests.sw.host_device import Board, FaultyPort
from tests.sw.test_stem_core import ALONE, CORES, NETWORK, with_stem

EVENTS = Network("events", Shape(2, 6, 5), [Events(), Conv(8), Readout(4)], T=3)
#: No room for the next frame's map.
NOT_AHEAD = with_stem(replace(ALONE, spike_depth=64))
ENGINES = {"alone": ALONE, "ahead": CORES, "stem, not ahead": NOT_AHEAD}

IMAGE = random_image(NETWORK)
FRAMES = random_frames(NETWORK, 40).numpy()


def connect(monkeypatch, board, **faults):
    port = FaultyPort(board, **faults)
    monkeypatch.setattr(link, "monotonic", lambda: port.now)
    line = Link(port)
    return Accelerator(line, line.open())


def logits_of(image, frames):
    return Board(ALONE, image).golden(torch.as_tensor(frames)).tolist()


def served(accelerator, frames, wanted, errors=LinkError):
    """How many of the frames are right, wrong, and end in one of the ``errors``."""
    outcome, done = {"right": 0, "wrong": 0, "error": 0}, 0
    cycles = cycles_per_frame(NETWORK, accelerator.engine, ahead=accelerator.engine == CORES)
    while done < len(frames):
        try:
            if accelerator.program is None:
                accelerator.load(IMAGE)
            for result in accelerator.stream(frames[done:]):
                right = (result.logits.tolist(), result.cycles) == (wanted[done], cycles)
                outcome["right" if right else "wrong"] += 1
                done += 1
        except errors:
            outcome["error"] += 1
            done += 1
    return outcome


@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
def test_a_line_without_faults(monkeypatch, engine):
    """Every command goes out once, and every frame is run once."""
    board = Board(engine, IMAGE)
    accelerator = connect(monkeypatch, board)
    assert accelerator.program is None
    assert accelerator.load(IMAGE)
    assert accelerator.program.ahead == (engine is CORES)
    before = board.runs
    results = list(accelerator.stream(FRAMES))
    assert [result.logits.tolist() for result in results] == logits_of(IMAGE, FRAMES)
    extra = {"alone": 0, "ahead": 1, "stem, not ahead": len(FRAMES)}
    assert board.runs - before == len(FRAMES) + extra[
        next(name for name, known in ENGINES.items() if known == engine)
    ]
    counts = accelerator.link.counts
    assert counts["commands"] > 0
    assert counts["retries"] == counts["timeouts"] == counts["damaged"] == 0


@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
def test_two_thousand_frames_over_a_line_with_faults(monkeypatch, engine):
    board = Board(engine, IMAGE)
    accelerator = connect(monkeypatch, board, faults=0.1, resets=0.001, seed=1)
    frames = np.tile(FRAMES, (50, 1, 1, 1))
    outcome = served(accelerator, frames, 50 * logits_of(IMAGE, FRAMES))
    assert outcome["wrong"] == 0
    assert outcome["right"] > 1900
    assert accelerator.link.port.happened == {
        "to", "from", "late", "flip", "noise", "lose", "cut", "double", "swap", "vanish", "twice",
    }
    counts = accelerator.link.counts
    assert min(counts["retries"], counts["timeouts"], counts["damaged"]) > 100


def unchecked(_, octets):
    if len(octets) < 6:
        raise framing.FramingError("short")
    return octets[1:-4]


@pytest.mark.parametrize("protection", ["reply", "command", "again"])
def test_without_a_protection_wrong_answers_come_through(monkeypatch, protection):
    """The control of the test above. Of "again": a RUN that is repeated runs again."""
    if protection == "reply":
        monkeypatch.setattr(link, "unframe_reply", unchecked)
    elif protection == "command":
        monkeypatch.setattr(Receiver, "_intact", lambda receiver, octets: True)
    else:
        monkeypatch.setattr(Receiver, "again", property(lambda _: False, lambda *_: None),
            raising=False)
    board = Board(CORES, IMAGE)
    accelerator = connect(monkeypatch, board)
    accelerator.load(IMAGE)
    accelerator.link.port.faults = 0.1
    frames, errors = np.tile(FRAMES, (10, 1, 1, 1)), (LinkError, ProtocolError, ValueError)
    outcome = served(accelerator, frames, 10 * logits_of(IMAGE, FRAMES), errors)
    assert outcome["wrong"] > 0


@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
@pytest.mark.parametrize("when", range(6))
def test_a_reset_amid_a_stream_is_made_good(monkeypatch, engine, when):
    """The network is written again, and the frame begun again, whichever command met the reset."""
    board = Board(engine, IMAGE)
    accelerator = connect(monkeypatch, board)
    accelerator.load(IMAGE)
    stream = accelerator.stream(FRAMES[:6])
    results = list(islice(stream, 2))
    take, left = board.take, [when]

    def reset_once(octets):
        if octets != [None]:
            left[0] -= 1
            if left[0] == -1:
                board.reset()
        return take(octets)

    monkeypatch.setattr(board, "take", reset_once)
    writes = board.writes
    results += stream
    assert left[0] < 0
    assert board.writes - writes > len(accelerator.program.regions)
    assert [result.logits.tolist() for result in results] == logits_of(IMAGE, FRAMES[:6])


def test_without_loading_again_a_reset_shows(monkeypatch):
    board = Board(ALONE, IMAGE)
    accelerator = connect(monkeypatch, board)
    accelerator.load(IMAGE)
    monkeypatch.setattr(Accelerator, "_holds", lambda *_: True)
    board.reset()
    results = [result.logits.tolist() for result in accelerator.stream(FRAMES[:2])]
    assert all(got != right for got, right in zip(results, logits_of(IMAGE, FRAMES[:2]),
        strict=True))


def test_a_board_that_resets_without_end(monkeypatch):
    board = Board(ALONE, IMAGE)
    accelerator = connect(monkeypatch, board)
    accelerator.load(IMAGE)
    accelerator.link.port.resets = 1.0
    with pytest.raises(LinkError, match=r"^the device was reset 4 times in a row"):
        accelerator.infer(FRAMES[0])


def test_another_bitstream_after_a_reset(monkeypatch):
    board = Board(ALONE, IMAGE)
    accelerator = connect(monkeypatch, board)
    accelerator.load(IMAGE)
    board.engine = replace(ALONE, weight_depth=1024)
    board.reset()
    with pytest.raises(LinkError, match="another bitstream"):
        accelerator.infer(FRAMES[0])


@pytest.mark.parametrize("commands", [1, 2, 5])
def test_a_host_that_dies_while_it_loads(monkeypatch, commands):
    """Whoever comes next finds no stamp, loads, and is right; with the stamp nothing is written."""
    board = Board(ALONE, IMAGE)
    connect(monkeypatch, board).load(IMAGE)
    other = random_image(NETWORK, seed=7)
    victim, port = connect(monkeypatch, board), FaultyPort(board)
    victim.link.port, port.timeout, left = port, 0.03, [commands]
    write = port.write

    def write_some(octets):
        left[0] -= 1
        if left[0] < 0:
            # The read of the stamp and its erasure have come through; half of a frame follows.
            write(octets[: len(octets) // 2])
            raise KeyboardInterrupt
        return write(octets)

    port.write = write_some
    with pytest.raises(KeyboardInterrupt):
        victim.load(other)
    accelerator = connect(monkeypatch, board)
    assert accelerator.loaded(IMAGE) == (commands == 1)
    assert not accelerator.loaded(other)
    assert accelerator.load(IMAGE) == (commands != 1)
    assert accelerator.loaded(IMAGE)
    assert [r.logits.tolist() for r in accelerator.stream(FRAMES[:3])] == logits_of(
        IMAGE, FRAMES[:3]
    )
    writes = board.writes
    assert not accelerator.load(IMAGE)
    assert board.writes == writes
    assert accelerator.load(IMAGE, force=True)
    assert board.writes > writes


def test_memory_that_does_not_keep_the_stamp(monkeypatch):
    accelerator = connect(monkeypatch, Board(ALONE, IMAGE))
    monkeypatch.setattr(Accelerator, "_holds", lambda *_: False)
    with pytest.raises(LinkError, match="does not keep"):
        accelerator.load(IMAGE)
    with pytest.raises(LinkError, match="load one first"):
        accelerator.infer(FRAMES[0])


@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
def test_streams_that_take_turns(monkeypatch, engine):
    """What one has staged for its next frame, another uses up; a buffer may be used again."""
    accelerator = connect(monkeypatch, Board(engine, IMAGE))
    accelerator.load(IMAGE)
    buffer = np.empty_like(FRAMES[0])

    def camera():
        for frame in FRAMES[:6]:
            buffer[:] = frame
            yield buffer

    first, second = accelerator.stream(camera()), accelerator.stream(FRAMES[6:12])
    results = [[], []]
    for number in range(6):
        results[0].append(next(first).logits.tolist())
        if number % 2:
            results[1] += [result.logits.tolist() for result in islice(second, 2)]
        if number == 3:
            accelerator.trace(FRAMES[0])
            assert accelerator.infer(FRAMES[20]).logits.tolist() == logits_of(
                IMAGE, FRAMES[20:21]
            )[0]
    wanted = logits_of(IMAGE, FRAMES[:12])
    assert results == [wanted[:6], wanted[6:]]
    assert next(first, None) is None


def test_the_next_frame_is_taken_late(monkeypatch):
    """A frame is asked for when the last result has been taken: nothing piles up."""
    for engine, early in ((ALONE, 0), (NOT_AHEAD, 0), (CORES, 1)):
        accelerator = connect(monkeypatch, Board(engine, IMAGE))
        accelerator.load(IMAGE)
        taken = []
        stream = accelerator.stream(taken.append(i) or frame for i, frame in enumerate(FRAMES))
        for number in range(5):
            next(stream)
            assert len(taken) == number + 1 + early


def test_a_session_that_broke_off_is_opened_again(monkeypatch):
    """Under the number that had no answer, the device would not run another command."""
    board = Board(CORES, IMAGE)
    accelerator = connect(monkeypatch, board)
    accelerator.load(IMAGE)
    wanted = logits_of(IMAGE, FRAMES[:2])
    port, read = accelerator.link.port, accelerator.link.port.read
    accelerator.write(FRAMES[0])

    def deaf(count):
        read(count)
        port.arrived = b""
        return b""

    port.read = deaf
    with pytest.raises(LinkError, match=r"^no intact reply in 5 attempts"):
        accelerator.write(FRAMES[1])
    port.read = read
    with pytest.raises(LostSession):
        accelerator.run()
    assert [result.logits.tolist() for result in accelerator.stream(FRAMES[:2])] == wanted


def test_errors_of_the_protocol_pass_through(monkeypatch):
    accelerator = connect(monkeypatch, Board(ALONE, IMAGE))
    ask = accelerator.link.ask
    with pytest.raises(ProtocolError, match="RANGE"):
        protocol.decode_words(ask(protocol.encode_read(1 << 20, 1)))
    with pytest.raises(ProtocolError, match="UNKNOWN"):
        protocol.check_status(ask(bytes([9, *protocol.INFO[1:]])))
    with pytest.raises(ProtocolError, match="at most"):
        protocol.encode_read(0, 1 << 16)
    # And the session goes on.
    assert accelerator.link.counts["retries"] == 0
    assert accelerator.load(IMAGE)


def test_events_are_sent_as_spikes(monkeypatch):
    """Compared are the spikes that arrive: the board's golden model has no frame of them."""
    image = random_image(EVENTS)
    board = Board(ALONE, image)
    accelerator = connect(monkeypatch, board)
    accelerator.load(image)
    frames = random_frames(EVENTS, 4).numpy()
    for frame in frames:
        traces, result = accelerator.trace(frame)
        assert np.array_equal(traces[0].spikes, frame > 0)
        assert traces[0].cycles == 0
        assert result.logits.tolist() == logits_of(image, (frame > 0)[None].astype(np.uint8))[0]


def test_too_short_a_timeout_is_refused():
    with pytest.raises(LinkError, match="too short"):
        Link(FaultyPort(None), timeout=2 * framing.QUIET_SECONDS)


def test_a_port_that_is_never_quiet(monkeypatch):
    port = FaultyPort(None)
    monkeypatch.setattr(link, "monotonic", lambda: port.now)

    def babble(count):
        port.now += 0.001
        return bytes(count)

    port.read = babble
    with pytest.raises(LinkError, match="never quiet"):
        Link(port).open()

"""Baked bitstreams: what the tools put into block RAM is what a build of the network has there.

Memories alone stand in for the accelerator, so that they place and route in seconds.
tests.hw.baked_equality does it with an accelerator, for results/.
"""

import json
from dataclasses import replace
from functools import partial, reduce
from operator import xor

import pytest
from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

import hw.bake
import hw.device
from hw import boot
from hw.bake import PLACED, ROWS, bake, columns, main, placeholder
from hw.boards import BOARDS
from hw.build import prepare
from hw.contents import Contents
from hw.memory import HostMemory
from hw.spikes import SpikeMemory
from hw.tools import BuildError
from sw import image as network_image
from sw.program import Region, compile_program, region_words
from tests.hw.baked_equality import OTHER, differing, rebuild, small_boards
from tests.hw.support import TWO
from tests.hw.test_build import Echo
from tests.hw.test_device import IMAGE

#: Two cores, whose memories fit the 32 block RAMs of the smaller part.
_MAIN = replace(TWO, stem=None, weight_depth=256, spike_depth=256)
ENGINE = replace(_MAIN, stem=_MAIN.stem_core(**TWO.stem.sizes))


ICE40, ECP5 = small_boards(ENGINE)
UP5K = BOARDS["icebreaker"]


xored = partial(reduce, xor)


class Memories(wiring.Component):
    """Stands in for an Endpoint: all memories of an engine, which bytes write and read."""

    rx: In(stream.Signature(8))
    tx: Out(stream.Signature(8))

    def __init__(self, engine, quiet_bits):
        self.engine = engine
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        engine, heard, sums = self.engine, Signal(48), []
        widths = {
            Region.WEIGHTS: engine.pe * engine.simd, Region.SIGMOID: 8, Region.CHANNELS: 64,
            Region.STEM_WEIGHTS: 8 * engine.stem.pe, Region.STEM_CHANNELS: 64,
        }
        memories = [SpikeMemory(engine.simd * engine.lanes, engine.spike_depth)]
        for region, words in region_words(engine).items():
            width = widths.get(region, 16)
            if region != Region.SPIKES:
                memories.append(HostMemory(region, width, words * 16 // max(width, 16)))
        with m.If(self.rx.valid):
            m.d.sync += heard.eq(Cat(self.rx.payload, heard))
        for memory in memories:
            m.submodules += memory
            m.d.comb += [
                memory.host.enable.eq(self.rx.valid),
                memory.host.region.eq(heard[:4]),
                memory.host.address.eq(heard[4:28]),
                memory.host.data.eq(heard[28:44]),
                memory.address.eq(heard[4:]),
                memory.enable.eq(heard[47]),
            ]
            seen = Signal(8)
            m.d.sync += seen.eq(xored([memory.data[n : n + 8] for n in range(0, memory.width, 8)]))
            sums.append(seen)
        m.d.comb += [
            self.rx.ready.eq(self.tx.ready), self.tx.valid.eq(self.rx.valid),
            self.tx.payload.eq(xored(sums)),
        ]
        return m


@pytest.fixture
def memories(monkeypatch):
    monkeypatch.setattr(hw.device, "Endpoint", Memories)


@pytest.mark.parametrize("board", [ICE40, ECP5], ids=lambda board: board.family)
def test_a_patched_bitstream_equals_a_rebuilt_one(board, memories, monkeypatch, tmp_path):
    """Word by word, in every block RAM of the part; and no network is taken for another."""
    first = bake(board, OTHER, out=tmp_path, quiet=True)
    folder = tmp_path / f"{board.name}-baked"
    old = (folder / first["bitstream"]).read_bytes()
    rebuilt = rebuild(board, IMAGE, tmp_path / "rebuilt")
    # Of another network, and of none.
    assert differing(board, folder, rebuilt)
    assert differing(board, folder / PLACED, rebuilt)

    def never(*arguments):
        raise AssertionError("placed and routed again")

    monkeypatch.setattr(hw.bake, "place_and_route", never)
    second = bake(board, IMAGE, out=tmp_path, quiet=True)
    assert (folder / first["bitstream"]).read_bytes() != old
    assert differing(board, folder, rebuilt) == []
    assert (folder / "report.json").read_text() == json.dumps(second, indent=2) + "\n"
    assert second["design"] == first["design"]
    assert second["model_checksum"] == IMAGE.checksum != first["model_checksum"]


def test_what_is_not_in_block_ram_is_told(memories, monkeypatch, tmp_path):
    """As if the contents of one memory had been put elsewhere, or had been left out."""
    contents = Contents({Region.SIGMOID: [1, 2]})
    contents.memories.append((HostMemory(Region.SIGMOID, 8, 512), slice(None)))
    folder = tmp_path / PLACED
    folder.mkdir()
    rows = columns(contents.tables(placeholder(ENGINE)), ROWS["ecp5"])
    config = ".device LFE5U-85F\n\n.bram_init 1\n" + "000 " * 2048 + "\n"
    (folder / "top.config").write_text(config)
    with pytest.raises(BuildError, match=f"0 of {rows.size} bits of the memories are in block RAM"):
        hw.bake._check(ECP5, tmp_path, contents.tables(placeholder(ENGINE)))


def fake_routing(monkeypatch):
    """Place-and-route leaves a file as long as a UP5K bitstream; the designs that it routed."""
    designs = []

    def route(board, clock_generator, plan, folder, quiet):
        designs.append(plan.digest())
        (folder / "top.bin").write_bytes(bytes([len(designs)]) * 104_090)
        used = {"used": 1, "available": 2}
        return {"fmax_mhz": 30.0, "occupancy": {"bram": used}}

    monkeypatch.setattr(hw.bake, "place_and_route", route)
    return designs


def test_the_flash_of_a_up5k_holds_bitstream_and_network(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(hw.device, "Endpoint", Echo)
    routed = fake_routing(monkeypatch)
    file = tmp_path / "icebreaker-baked" / "top.bin"
    arguments = ["icebreaker", "--out", f"{tmp_path}", "--model"]
    for name in ("digits", "fashion-mnist"):
        assert main([*arguments, f"models/{name}.bsnn"]) == 0
        program = compile_program(network_image.load(f"models/{name}.bsnn"), UP5K.engine)
        assert file.read_bytes() == boot.append(b"\1" * 104_090, program)
        report = json.loads((file.parent / "report.json").read_text())
        assert report["model"] == name
    assert len(routed) == 1
    assert "top.bin: 1 of 2 bram" in capsys.readouterr().out
    # Another design is routed again, and an unfinished one leaves the old.
    assert main([*arguments, "models/digits.bsnn", "--seed", "2"]) == 0
    assert file.read_bytes()[:1] == b"\2" and len(routed) == 2
    before = file.read_bytes()
    monkeypatch.setattr(hw.bake.boot, "append", broken)
    assert main([*arguments, "models/fashion-mnist.bsnn", "--seed", "3"]) == 2
    assert "error: no more" in capsys.readouterr().err
    assert file.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "icebreaker-baked", "icebreaker-baked.failed"
    ]


def broken(*arguments):
    raise BuildError("no more")


def test_bad_arguments_are_one_line(tmp_path, capsys):
    for words, message in (
        (["nosuch"], "unknown board 'nosuch'"),
        (["ulx3s-85f", "--model", "nosuch.bsnn"], "nosuch.bsnn: no such image"),
        (["icebreaker", "--model", "models/cnv.bsnn"], "cnv does not fit"),
    ):
        assert main([*words, "--out", f"{tmp_path / 'out'}"]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("rows", ROWS.values())
def test_placeholders_can_be_told_apart(rows, memories):
    """No two columns are the same, none is empty, and they are those of the words."""
    words = placeholder(ENGINE)
    contents = Contents(words)
    prepare(ECP5, ECP5.clock_generator(ECP5.clock_hz), 1, contents)
    bits = columns(contents.tables(words), rows)
    assert len({column.tobytes() for column in bits.T}) == bits.shape[1]
    assert bits.any(axis=0).all()
    assert bits.sum() == sum(
        int(word).bit_count() for region, values in words.items() for word in (
            values & 0xFF if region == Region.SIGMOID else values
        )
    )

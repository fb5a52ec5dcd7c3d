"""Pins and clocks of the boards, all of which go into the constraints. No board was at hand."""

import re

import pytest

import hw.device
from hw.boards import BOARDS
from hw.build import prepare
from hw.clock import ClockError
from hw.memory import has_spram
from sw.engine import ENGINES
from tests.hw.test_build import Echo

#: By board: the pins of clock, UART receiver, UART transmitter and LED, and the crystal in MHz. As
#: of amaranth-boards 0.0.21, and of headers where a board has no UART of its own.
PINS = {
    "icebreaker": ("35", "6", "9", "11", 12),
    "icebreaker-t1": ("35", "6", "9", "11", 12),
    "upduino-v3": ("20", "45", "47", "41", 12),
    "icesugar": ("35", "4", "6", "40", 12),
    "hx8k-evn": ("J3", "B10", "B12", "C3", 12),
    "tang-nano-9k": ("52", "18", "17", "10", 27),
    "ulx3s-25f": ("G2", "M1", "L4", "B2", 25),
    "orangecrab": ("A9", "N17", "M18", "K4", 48),
    "colorlight-5a-75b": ("P6", "M13", "P11", None, 25),
    "ulx3s-85f": ("G2", "M1", "L4", "B2", 25),
    "ulx3s-85f-wide": ("G2", "M1", "L4", "B2", 25),
    "ulx3s-85f-residual": ("G2", "M1", "L4", "B2", 25),
    "ecpix5": ("K23", "R26", "R24", "T23", 100),
}

#: A pin's place in the constraints of nextpnr-ice40, -ecp5 and -himbaechel-gowin.
PLACES = {
    ".pcf": r"^set_io (\S+) (\S+)$",
    ".lpf": r'^LOCATE COMP "(\S+)" SITE "(\S+)";$',
    ".cst": r'^IO_LOC "(\S+)" (\S+);$',
}


def plan_of(board):
    return prepare(board, board.clock_generator(board.clock_hz), board.seed)


def placed(plan):
    """Port -> pin of a plan's constraints."""
    (found,) = (
        re.findall(place, plan.files[f"top{suffix}"], re.M)
        for suffix, place in PLACES.items() if f"top{suffix}" in plan.files
    )
    return {port.removesuffix("__io"): pin for port, pin in found}


@pytest.mark.parametrize("name", BOARDS)
def test_pins_are_those_of_the_board(name, monkeypatch):
    monkeypatch.setattr(hw.device, "Endpoint", Echo)
    board, (clock, rx, tx, led, _) = BOARDS[name], PINS[name]
    pins = placed(plan_of(board))
    expected = {f"{board.clock}_0": clock, "uart_0__rx": rx, "uart_0__tx": tx}
    if board.led:
        resource, *colour = board.led
        expected["__".join((f"{resource}_0", *colour))] = led
    assert pins == expected
    assert len({*pins.values()}) == len(pins) == (3 if led is None else 4)
    # Negative control: a board with its lines swapped.
    assert pins != {**expected, "uart_0__rx": tx, "uart_0__tx": rx}


@pytest.mark.parametrize(
    "name", [name for name, board in BOARDS.items() if has_spram(board.platform)]
)
def test_pins_of_the_flash_that_a_device_boots_from(name, monkeypatch):
    """The iCE40 UltraPlus data sheet's SPI_SS, SPI_SCK, SPI_SO and SPI_SI in the SG48."""
    monkeypatch.setattr(hw.device, "Endpoint", Echo)
    board = BOARDS[name]
    plan = prepare(board, board.clock_generator(board.clock_hz), board.seed, boot=True)
    pins, before = placed(plan), placed(plan_of(board))
    assert {port: pin for port, pin in pins.items() if port not in before} == {
        "boot_flash_0__cs": "16", "boot_flash_0__clk": "15", "boot_flash_0__copi": "14",
        "boot_flash_0__cipo": "17",
    }
    assert len({*pins.values()}) == len(pins) == len(before) + 4


@pytest.mark.parametrize("name", BOARDS)
def test_clock_is_the_crystals(name):
    board = BOARDS[name]
    assert board.crystal_hz == PINS[name][-1] * 1e6
    resource = board.new_platform().lookup(board.clock)
    assert resource.clock.frequency == board.crystal_hz
    generator = board.clock_generator(board.clock_hz)
    assert generator.frequency_hz == board.clock_hz
    assert (generator.pll is None) == (board.clock_hz == board.crystal_hz)


def test_a_board_without_a_pll_has_one_clock(capsys):
    with pytest.raises(ClockError, match="the tang-nano-9k runs at 27 MHz only"):
        BOARDS["tang-nano-9k"].clock_generator(30_000_000)


def test_the_crystal_of_gowin_is_told_to_nextpnr(monkeypatch):
    """Without a clock, nextpnr would compare with one of its own."""
    monkeypatch.setattr(hw.device, "Endpoint", Echo)
    plan = plan_of(BOARDS["tang-nano-9k"])
    assert '"--freq", "27.0"' in plan.files["build_top.json"]
    assert '"--freq"' not in plan_of(BOARDS["hx8k-evn"]).files["build_top.json"]


def test_every_board_has_an_engine():
    assert BOARDS.keys() == ENGINES.keys()


def test_every_board_says_how_it_is_programmed():
    for board in BOARDS.values():
        assert bool(board.loader) != bool(board.by_hand)


def test_boards_of_the_same_part_share_an_engine():
    for names in (
        ("icebreaker", "upduino-v3", "icesugar"), ("ulx3s-25f", "orangecrab", "colorlight-5a-75b"),
        ("ulx3s-85f", "ecpix5"),
    ):
        assert len({id(ENGINES[name]) for name in names}) == 1

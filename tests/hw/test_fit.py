"""The engine found for a network: it fits, nothing faster does, no memory is too large."""

from dataclasses import fields, replace

import pytest

from hw.boards import BOARDS
from hw.estimate import PARTS, estimate
from hw.fit import OCCUPANCY, fit, shortage, sized, with_room
from hw.tools import BuildError
from sw import image
from sw.cycles import cycles_per_frame
from sw.engine import ENGINES, EngineError
from sw.program import compile_program

BOARD = BOARDS["icebreaker"]
LARGE = BOARDS["ulx3s-85f"]


def load(name):
    return image.load(f"models/{name}.bsnn")


@pytest.fixture(scope="module")
def digits():
    return load("digits")


@pytest.mark.parametrize("board, name", [
    (BOARD, "digits"), (BOARD, "tinbinn"), (LARGE, "fashion-mnist"), (LARGE, "resnet20"),
], ids=lambda value: getattr(value, "name", value))
def test_the_choice_fits_and_holds_the_network(board, name):
    model, part = load(name), PARTS[board.platform.device]
    choice = fit(model, board)
    program = compile_program(model, choice.engine)
    assert choice.cycles == cycles_per_frame(
        model.network, choice.engine, model.gain_mode == "exact", program.ahead
    )
    assert choice.takes == estimate(part, choice.engine)
    assert choice.takes["logic"] <= OCCUPANCY * part.logic
    assert all(choice.takes[name] <= getattr(part, name) for name in ("bram", "dsp", "spram"))


def test_nothing_faster_fits(digits):
    """No engine of a board, and nothing that fits with twice the channels at once."""
    choice = fit(digits, LARGE)
    for engine in (ENGINES["ulx3s-85f-wide"], ENGINES["ulx3s-85f"]):
        program = compile_program(digits, engine)
        assert choice.cycles <= cycles_per_frame(digits.network, engine, True, program.ahead)
    small, part = fit(digits, BOARD), PARTS[BOARD.platform.device]
    wider = replace(small.engine, simd=2 * small.engine.simd)
    assert cycles_per_frame(digits.network, wider) < small.cycles
    assert shortage(part, estimate(part, wider)) and not shortage(part, small.takes)


def test_enough_frames_with_the_fewest_luts(digits):
    fastest = fit(digits, LARGE)
    enough = fit(digits, LARGE, fps=500)
    more = fit(digits, LARGE, fps=5000)
    luts = [choice.takes["lut4"] for choice in (enough, more, fastest)]
    assert luts == sorted(luts) and luts[0] < luts[2]
    assert LARGE.clock_hz / enough.cycles >= 500 and LARGE.clock_hz / more.cycles >= 5000
    # At half the clock it takes twice as fast an engine.
    slower = fit(digits, LARGE, clock_hz=LARGE.clock_hz // 2, fps=5000)
    assert slower.cycles <= LARGE.clock_hz / 2 / 5000 < more.cycles


def test_block_ram_may_be_full_if_nothing_else_fits():
    model, part = load("tinbinn"), PARTS[BOARD.platform.device]
    takes = fit(model, BOARD).takes
    assert takes["bram"] > OCCUPANCY * part.bram
    assert shortage(part, takes) == [
        f"{takes['bram']} block RAMs of {part.bram}, 85% of which may be used"
    ]
    assert shortage(part, {**takes, "dsp": 9}, 1) == ["9 multipliers of 8"]
    assert not shortage(part, takes, 1)


@pytest.mark.parametrize("name, engine", [
    ("digits", ENGINES["icebreaker"]), ("digits", ENGINES["ulx3s-85f"]),
    ("resnet20", ENGINES["ulx3s-85f-residual"]), ("tinbinn", ENGINES["icebreaker-t1"]),
    ("digit-saccades", ENGINES["icebreaker"]),
])
def test_no_memory_is_larger_than_it_must_be(name, engine):
    model, part = load(name), PARTS["LFE5U-85F"]
    engine = sized(model, with_room(engine), part)
    ahead = compile_program(model, engine).ahead
    assert ahead == (engine.stem is not None)
    for core, rebuilt in (
        (engine, lambda **depth: replace(engine, **depth)),
        (engine.stem, lambda **depth: replace(
            engine, stem=engine.stem_core(**engine.stem.sizes | depth)
        )),
    ):
        names = [field.name for field in fields(core or engine) if field.name.endswith("_depth")]
        for depth in names if core is engine else core.sizes if core else []:
            least = getattr(core, depth)
            if not depth.endswith("_depth"):
                continue
            step = core.units if depth in ("channel_depth", "mean_depth") else 1
            smaller = least // 2 if depth == "spike_depth" and engine.stem else least - step
            try:
                candidate = rebuilt(**{depth: smaller})
            except EngineError:
                continue  # no memory is smaller
            try:
                assert not compile_program(model, candidate).ahead and engine.stem, depth
            except EngineError:
                continue


@pytest.mark.parametrize("board, name, fps, message", [
    (BOARD, "cnv", None, "cnv does not fit the icebreaker: its weights are "),
    (BOARD, "digits", 1e6, "digits does not reach 1e+06 frames/s on the icebreaker: the fastest"),
    (BOARD, "resnet20", None, "resnet20 does not fit the icebreaker: it needs "),
], ids=["size", "speed", "shortcuts"])
def test_what_does_not_fit_is_one_line(board, name, fps, message):
    with pytest.raises(BuildError) as caught:
        fit(load(name), board, fps=fps)
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)

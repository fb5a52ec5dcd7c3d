"""The driver against the simulated accelerator: as a user has it, and with faults of all kinds."""

import json
import signal
import subprocess
import sys

import pytest

from sim import emulate
from sim.emulate import Emulator
from sw import image
from sw.engine import ENGINES
from sw.golden import IntegerNetwork
from sw.host import __main__ as host
from sw.host import link
from sw.host.accelerator import Accelerator
from tests.faults import FAULTS
from tests.hw.support import SMALL, TWO
from tests.sim import link_faults
from tests.sim.test_accelerator import PLAIN
from tests.support import random_frames, random_image

#: Longer than a loaded machine needs for a reply.
TIMEOUT = 2.0


@pytest.mark.parametrize("engine", [SMALL, TWO], ids=["one core", "a stem ahead"])
def test_a_stream_of_frames_equals_golden(engine):
    model, frames = random_image(PLAIN), random_frames(PLAIN, 5)
    golden = IntegerNetwork(model)(frames).tolist()
    with Emulator(engine) as emulator, Accelerator.open(emulator.port, timeout=TIMEOUT) as device:
        assert device.engine == engine
        assert device.load(model)
        assert not device.load(model), "it was there"
        assert [result.logits.tolist() for result in device.stream(frames.numpy())] == golden
        traces, result = device.trace(frames[2].numpy())
        assert result.logits.tolist() == golden[2]
        assert len(traces) == len(PLAIN.layers) - 1
        assert device.infer(frames[4].numpy()).logits.tolist() == golden[4]
    assert len({tuple(logits) for logits in golden}) > 1


@pytest.mark.parametrize("engine", [SMALL, TWO], ids=["one core", "a stem ahead"])
def test_a_reset_in_the_middle_of_a_stream(engine):
    """All memories are lost; the driver loads the network again and no answer is wrong."""
    model, frames = random_image(PLAIN), random_frames(PLAIN, 6)
    golden = IntegerNetwork(model)(frames).tolist()
    with Emulator(engine) as emulator, Accelerator.open(emulator.port, timeout=TIMEOUT) as device:
        device.load(model)
        got = []
        for result in device.stream(frames.numpy()):
            got.append(result.logits.tolist())
            if len(got) in (2, 4):
                emulator.reset()
        assert got == golden
        assert device.loaded(model)
        emulator.reset()
        assert device.infer(frames[0].numpy()).logits.tolist() == golden[0]


@pytest.mark.parametrize("engine", [SMALL, TWO], ids=["one core", "a stem ahead"])
def test_a_baked_network_needs_no_load(engine, monkeypatch):
    """After power-up, and after a reset; another network is not taken to be there."""
    model, other, frames = random_image(PLAIN), random_image(PLAIN, seed=5), random_frames(PLAIN, 2)
    golden = IntegerNetwork(model)(frames).tolist()
    with Emulator(engine, baked=model) as emulator:
        with Accelerator.open(emulator.port, timeout=TIMEOUT) as device:
            assert not device.loaded(other)
            monkeypatch.setattr(device, "_write_program", None)
            assert not device.load(model), "it was there"
            for frame, logits in zip(frames.numpy(), golden, strict=True):
                assert device.infer(frame).logits.tolist() == logits
                emulator.reset()
            monkeypatch.undo()
            assert device.load(other)
            assert not device.loaded(model)
            wanted = IntegerNetwork(other)(frames[:1]).tolist()[0]
            assert device.infer(frames[0].numpy()).logits.tolist() == wanted != golden[0]


def test_a_host_killed_while_it_loads():
    """The next one finds no whole network, and loads it."""
    script = (
        "import sys, os; from sw import image; from sw.host import accelerator\n"
        "device = accelerator.Accelerator.open(sys.argv[1], timeout=2)\n"
        "ask, left = device.link.ask, [12]\n"
        "def dying(command):\n"
        "    left[0] -= 1\n"
        "    if not left[0]:\n"
        "        device.link.port.write(b'\\x05\\x02\\x01')\n"
        "        os.kill(os.getpid(), 9)\n"
        "    return ask(command)\n"
        "device.link.ask = dying\n"
        "device.load(image.load('models/digits.bsnn'), force=True)\n"
    )
    model = image.load("models/digits.bsnn")
    engine = ENGINES["icebreaker"]
    with Emulator(engine) as emulator:
        with Accelerator.open(emulator.port, timeout=TIMEOUT) as device:
            device.load(model)
            assert device.loaded(model)
        killed = subprocess.run([sys.executable, "-c", script, emulator.port], check=False)
        assert killed.returncode == -9
        with Accelerator.open(emulator.port, timeout=TIMEOUT) as device:
            assert not device.loaded(model)
            assert device.load(model)


def test_a_picture_as_a_new_user_would(capsys):
    arguments = ["infer", "models/digits.bsnn", "docs/pictures/digit.png", "--json"]
    with Emulator(ENGINES["icebreaker"]) as emulator:
        assert host.main([*arguments, "--port", emulator.port, "--timeout", f"{TIMEOUT}"]) == 0
    assert json.loads(capsys.readouterr().out)["class"] == 7


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_the_command_says_where_it_is(ending, tmp_path):
    name = tmp_path / "agamemnon"
    process = subprocess.Popen(
        [sys.executable, "-m", "sim.emulate", "--port", name], stdout=subprocess.PIPE, text=True
    )
    try:
        assert str(name) in process.stdout.readline()
        with Accelerator.open(str(name), timeout=TIMEOUT) as device:
            assert device.engine == ENGINES["icebreaker"]
    finally:
        process.send_signal(ending)
        assert process.wait(10) == 0
        process.stdout.close()
    assert not name.exists()


def test_a_name_that_is_taken_is_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    taken = tmp_path / "taken"
    taken.write_text("mine")
    assert emulate.main(["--port", str(taken)]) == 2
    error = capsys.readouterr().err
    assert error == f"error: {taken}: File exists\n" and taken.read_text() == "mine"


def test_ten_thousand_frames_over_a_bad_line():
    report = link_faults.run(10_000, seed=2)
    assert report["wrong"] == []
    assert report["frames"] >= 10_000
    assert set(report["faults"]) == set(FAULTS)
    assert report["retries"] >= 50


def test_without_sums_wrong_answers_are_taken_for_right(monkeypatch):
    """The control: of the same test, and of the sums."""
    monkeypatch.setattr(link, "unframe_reply", lambda number, octets: octets[1:-4])
    assert link_faults.run(1_000, seed=2, rate=0.1)["wrong"]

"""The command line, over a pseudo terminal with a board behind it."""

import json
import os
import pty
import subprocess
import sys
import time
import tty
from dataclasses import replace

import numpy as np
import pytest
import serial
import torch
from PIL import Image

from sw.cycles import cycles_per_frame, layer_cycles
from sw.engine import ENGINES, boards_of
from sw.frames import read_picture
from sw.framing import BAUDS
from sw.golden import IntegerNetwork
from sw.host import __main__ as host
from sw.host import link
from sw.host.accelerator import Accelerator
from sw.host.link import LinkError
from sw.image import save
from sw.layers import Conv, Events, Network, Readout, Shape, Stem
from sw.program import Region
from sw.protocol import Opcode, encode_write
from tests.support import random_frames, random_image
from tests.sw.host_device import Board, on_a_pty
from tests.sw.test_stem_core import ALONE, CORES, NETWORK

GRAY = Network("gray", Shape(1, 8, 8), [Stem(8), Conv(16, pool=2), Readout(10)], T=4)
EVENTS = Network("events", Shape(2, 6, 5), [Events(), Conv(8), Readout(4)], T=3)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Network -> (image, its file)."""
    folder, made = tmp_path_factory.mktemp("models"), {}
    for network in (NETWORK, GRAY, EVENTS):
        image = random_image(network)
        save(image, folder / f"{network.name}.bsnn")
        made[network] = image, str(folder / f"{network.name}.bsnn")
    return made


@pytest.fixture
def talk(models, capsys):
    """talk(network, engine, command, arguments): exit status, stdout and stderr of one command."""
    def run(network, engine, command, *arguments):
        image, path = models[network]
        with on_a_pty(Board(engine, image)) as port:
            files = [] if command == "info" else [path]
            # Time enough for a busy machine.
            status = host.main([
                command, *files, "--port", port, "--timeout", "0.5", *arguments,
            ])
        return status, *capsys.readouterr()

    return run


def fails(talked):
    """The one line on stderr of a command that fails."""
    status, out, err = talked
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err


@pytest.fixture
def picture(tmp_path):
    """A file of light and dark, and its bytes."""
    pixels = np.random.default_rng(5).integers(0, 256, (8, 8), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    return str(tmp_path / "picture.png"), pixels


@pytest.mark.parametrize("name", ["icebreaker", "ulx3s-85f"])
def test_info(models, talk, name):
    status, out, err = talk(NETWORK, ENGINES[name], "info")
    assert (status, err) == (0, "")
    # A pseudo terminal takes any rate: the first is tried first.
    boards = boards_of(ENGINES[name])
    assert name in boards and len(boards) > 1
    assert f"at {BAUDS[0]} baud: engine of {', '.join(boards)}\n" in out
    status, out, _ = talk(NETWORK, ENGINES[name], "info", "--json", "--baud", "115200")
    told = json.loads(out)
    assert (told["baud"], told["boards"]) == (115200, boards)
    assert told["engine"] == json.loads(json.dumps(ENGINES[name].to_dict()))


def test_info_of_an_engine_of_no_board(talk):
    assert "engine of no known board" in talk(NETWORK, ALONE, "info")[1]


def test_load_once(models, capsys):
    image, path = models[GRAY]
    written = []
    with on_a_pty(Board(ALONE, image)) as port:
        for extra in ([], [], ["--force"]):
            assert host.main(["load", path, "--port", port, "--json", *extra]) == 0
            written.append(json.loads(capsys.readouterr().out)["written"])
        assert host.main(["load", path, "--port", port]) == 0
        assert "was there already" in capsys.readouterr().out
    assert written == [True, False, True]


def test_infer_a_picture(talk, models, picture):
    path, pixels = picture
    image = models[GRAY][0]
    logits, boundaries = IntegerNetwork(image)(torch.as_tensor(pixels)[None, None], record=True)
    status, out, _ = talk(GRAY, ALONE, "infer", path, "--json")
    told = json.loads(out)
    assert status == 0
    assert told["logits"] == logits[0].tolist()
    assert told["class"] == int(logits[0].argmax())
    assert told["cycles"] == cycles_per_frame(GRAY, ALONE)
    assert "layers" not in told

    status, out, _ = talk(GRAY, ALONE, "infer", path, "--json", "--spikes")
    assert {**json.loads(out), "layers": None} == {**told, "layers": None}
    assert json.loads(out)["layers"] == [
        {
            "name": GRAY.layer_name(index), "spikes": int(boundary.spikes.sum()),
            "firing_rate": pytest.approx(boundary.spikes.double().mean().item()),
            "cycles": layer_cycles(GRAY, index, ALONE),
        }
        for index, boundary in enumerate(boundaries)
    ]
    _, out, _ = talk(GRAY, ALONE, "infer", path, "--spikes")
    lines = out.splitlines()
    assert lines[0] == f"class {told['class']}, {told['cycles']} cycles"
    assert lines[2].split() == ["layer", "spikes", "rate", "cycles"]
    assert lines[3].split()[:2] == ["stem0", str(int(boundaries[0].spikes.sum()))]


def test_a_picture_in_the_shape_of_the_network(tmp_path):
    path, random = tmp_path / "colour.png", np.random.default_rng(2)
    Image.fromarray(random.integers(0, 256, (7, 5, 3), np.uint8)).save(path)
    frame = read_picture(path, NETWORK)
    assert (frame.shape, frame.dtype) == ((3, 7, 5), np.uint8)
    assert np.array_equal(frame.transpose(1, 2, 0), np.asarray(Image.open(path)))
    # Another size is scaled: what is light stays where it is, and light.
    half = np.zeros((30, 16), np.uint8)
    half[:15] = 250
    Image.fromarray(half).save(path)
    frame = read_picture(path, GRAY)
    assert frame.shape == (1, 8, 8)
    assert frame[0, :3].min() == 250
    assert frame[0, 5:].max() == 0


def test_pictures_that_cannot_be_used(talk, tmp_path, picture):
    assert "no such file" in fails(talk(GRAY, ALONE, "infer", str(tmp_path / "none.png")))
    (tmp_path / "text.png").write_text("no picture")
    assert "not a readable picture" in fails(
        talk(GRAY, ALONE, "infer", str(tmp_path / "text.png"))
    )
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(tmp_path / "deep.png")
    assert "save it with 8" in fails(talk(GRAY, ALONE, "infer", str(tmp_path / "deep.png")))
    assert "events takes no pictures" in fails(talk(EVENTS, ALONE, "infer", picture[0]))


@pytest.mark.parametrize("engine", [ALONE, CORES], ids=["one core", "ahead"])
@pytest.mark.parametrize("network", [NETWORK, EVENTS], ids=["pixels", "events"])
def test_selftest(talk, network, engine):
    status, out, _ = talk(network, engine, "selftest", "-n", "3")
    assert out.startswith("3 frames: equal to the golden model and the cycle model; ")
    assert status == 0


@pytest.mark.parametrize("fault", ["spike", "logit", "layer cycles", "cycles"])
def test_a_selftest_finds(monkeypatch, talk, fault):
    run, held = Board._run, []

    def wrong(board, first, count, flags):
        cycles = run(board, first, count, flags)
        memory = board.memory[Region.SPIKES]
        if fault == "spike" and (first, count) == (1, 1):
            memory[board.program.boundary_words(1)[0]] ^= 1
        if fault == "logit" and count == 4:
            memory[board.program.boundary_words(3)[0]] ^= 1
        held.append(count)
        return cycles + (fault == "layer cycles" and (first, count) == (2, 1)) + (
            fault == "cycles" and count == 4
        )

    monkeypatch.setattr(Board, "_run", wrong)
    status, out, _ = talk(NETWORK, ALONE, "selftest", "-n", "2", "--json")
    assert status == 1
    told = json.loads(out)["differences"]
    where = {
        "spike": "conv1: 1 of", "logit": "in a stream: 1 of 6 values differ",
        "layer cycles": "conv2: ", "cycles": "in a stream: ",
    }[fault]
    assert any(f"frame {number} {where}" in line for line in told for number in range(2))
    status, out, _ = talk(NETWORK, ALONE, "selftest", "-n", "2")
    assert (status, out.splitlines()[-1].split(";")[0]) == (
        1, "2 frames: DIFFERENT from the golden model and the cycle model"
    )
    assert out.startswith("differs: frame 0 ")


def test_spikes_where_none_can_be(monkeypatch, talk):
    """In what fills up the channels of a word."""
    run = Board._run

    def wrong(board, first, count, flags):
        cycles = run(board, first, count, flags)
        board.memory[Region.SPIKES][board.program.boundary_words(0)[0] + 3] |= 1 << 15
        return cycles

    monkeypatch.setattr(Board, "_run", wrong)
    status, out, _ = talk(NETWORK, ALONE, "selftest", "-n", "1", "--json")
    assert status == 1
    assert json.loads(out)["differences"] == ["frame 0: 1 spikes where layer 0 has none"]


@pytest.mark.parametrize("engine", [ALONE, CORES], ids=["one core", "ahead"])
def test_bench(talk, engine):
    status, out, _ = talk(NETWORK, engine, "bench", "-n", "4", "--json")
    told = json.loads(out)
    assert (status, told["frames"], told["bound"] in ("link", "compute")) == (0, 4, True)
    assert told["frames_per_s"] == pytest.approx(4 / told["seconds"])
    assert 0 < told["link_share"] < 1
    status, out, _ = talk(NETWORK, engine, "bench", "-n", "2")
    assert "frames/s end to end" in out


@pytest.mark.parametrize("slow, bound", [(Opcode.WRITE, "link"), (Opcode.RUN, "compute")])
def test_what_a_bench_is_bound_by(monkeypatch, talk, slow, bound):
    answer = Board._answer

    def wait(board, command, again):
        time.sleep(0.02 * (command[0] == slow))
        return answer(board, command, again)

    monkeypatch.setattr(Board, "_answer", wait)
    assert f" {bound}-bound" in talk(NETWORK, ALONE, "bench", "-n", "4")[1]


def test_arguments_that_cannot_be_used(talk):
    assert "--images must be at least 1" in fails(talk(GRAY, ALONE, "bench", "-n", "0"))
    assert "unknown data 'nothing'" in fails(talk(GRAY, ALONE, "selftest", "--data", "nothing"))
    assert "too short" in fails(talk(GRAY, ALONE, "info", "--timeout", "0.01"))


def test_a_network_that_is_too_large(models, capsys):
    """Nothing is written, and what was loaded stays."""
    image, path = models[NETWORK]
    board = Board(ALONE, image)
    with on_a_pty(board) as port:
        assert host.main(["load", path, "--port", port]) == 0
        capsys.readouterr()
        board.engine, writes = replace(ALONE, weight_depth=64), board.writes
        line = fails((host.main(["load", path, "--port", port]), *capsys.readouterr()))
    assert line == "error: tiny does not fit: 83 words of weights, the engine has 64\n"
    assert board.writes == writes


def test_ports_that_cannot_be_used(models, tmp_path, capsys, monkeypatch):
    def failing(*arguments):
        status = host.main([*arguments])
        return fails((status, *capsys.readouterr()))

    missing = str(tmp_path / "ttyUSB9")
    assert f"{missing}: no such port" in failing("info", "--port", missing)
    assert "cannot be opened" in failing("info", "--port", __file__)
    with on_a_pty(Board(ALONE, models[GRAY][0])) as port:
        assert host.main(["info", "--port", port]) == 0
        capsys.readouterr()
        with serial.Serial(port, exclusive=True):
            assert f"{port}: in use: end the other program" in failing("info", "--port", port)
        assert host.main(["info", "--port", port]) == 0
        capsys.readouterr()

        class Found:
            device = port

        monkeypatch.setattr(link.list_ports, "comports", lambda: [Found])
        assert host.main(["info"]) == 0
        capsys.readouterr()
        monkeypatch.setattr(link.list_ports, "comports", lambda: [Found, Found])
        assert f"choose one with --port: {port}, {port}" in failing("info")
    monkeypatch.setattr(link.list_ports, "comports", list)
    assert "no serial port found" in failing("info")
    assert "no such image" in failing("load", missing)


def test_a_port_without_an_accelerator():
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    start = time.monotonic()
    with pytest.raises(LinkError, match=r"no accelerator answers at 3000000, 2000000, .* baud"):
        Accelerator.open(os.ttyname(theirs))
    assert time.monotonic() - start < 5
    os.close(ours)
    os.close(theirs)


def test_the_baud_rate_is_found(models, monkeypatch):
    """The board hears noise at every rate but its own."""
    board = Board(ALONE, models[GRAY][0])
    take, port = board.take, []
    opened = link._open_port

    def remember(*arguments):
        port.append(opened(*arguments))
        return port[0]

    def listen(octets):
        right = port and port[0].baudrate == BAUDS[3]
        return take(octets if right or octets == [None] else bytes(x ^ 0x55 for x in octets))

    monkeypatch.setattr(link, "_open_port", remember)
    monkeypatch.setattr(board, "take", listen)
    with on_a_pty(board) as name, Accelerator.open(name) as accelerator:
        assert accelerator.engine == ALONE
        assert accelerator.link.port.baudrate == BAUDS[3]


def test_a_port_that_goes_away(models):
    image = models[GRAY][0]
    with on_a_pty(Board(ALONE, image)) as port:
        accelerator = Accelerator.open(port)
        accelerator.load(image)
    with pytest.raises(LinkError, match=r"^the port is gone: plug the board in again") as raised:
        accelerator.infer(random_frames(GRAY, 1)[0].numpy())
    assert "\n" not in str(raised.value)
    accelerator.close()


def test_a_port_that_takes_nothing(models):
    """What nobody reads fills the system's buffer up."""
    image = models[GRAY][0]
    with on_a_pty(Board(ALONE, image)) as port:
        accelerator = Accelerator.open(port)
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    accelerator.close()
    accelerator.link.port = serial.Serial(os.ttyname(theirs), BAUDS[0], timeout=0.03)
    accelerator.link._in_session = True
    with pytest.raises(LinkError, match="takes no bytes"):
        accelerator.link.ask(encode_write(Region.WEIGHTS, 0, np.zeros(60_000, np.uint16)))
    accelerator.close()
    os.close(ours)
    os.close(theirs)


def test_a_process_killed_while_it_loads(models, capsys):
    """The port is free again, the stamp is gone, and the next one loads and is right."""
    image, path = models[GRAY]
    board = Board(ALONE, image)
    with on_a_pty(board, delay=0.01) as port:
        assert host.main(["load", path, "--port", port]) == 0
        other = random_image(GRAY, seed=3)
        save(other, f"{path}.other")
        before = board.writes
        victim = subprocess.Popen(
            [sys.executable, "-m", "sw.host", "load", f"{path}.other", "--port", port],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 60
        while board.writes < before + 2 and time.monotonic() < deadline:
            time.sleep(0.001)
        victim.kill()
        assert victim.wait() < 0
        assert board.writes - before >= 2
        with Accelerator.open(port) as accelerator:
            assert not accelerator.loaded(other)
            assert not accelerator.loaded(image)
            assert accelerator.load(image)
            frames = random_frames(GRAY, 4).numpy()
            logits = [result.logits.tolist() for result in accelerator.stream(frames)]
    assert logits == IntegerNetwork(image)(torch.as_tensor(frames)).tolist()
    capsys.readouterr()


def test_stopped_by_the_user(monkeypatch, talk):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(Accelerator, "load", stop)
    assert talk(GRAY, ALONE, "load") == (130, "", "\nhost: stopped\n")


@pytest.mark.parametrize("command", ["", "info", "load", "infer", "bench", "selftest"])
def test_help(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        host.main([*command.split(), "--help"])
    out = capsys.readouterr().out
    assert stopped.value.code == 0
    assert ("--timeout" in out) == bool(command)
    assert ("examples:" in out) == (not command)

"""What openFPGALoader is called with; no board was at hand."""

import pytest

from hw.boards import BOARDS
from hw.flash import LOADER, main


@pytest.fixture
def built(tmp_path, monkeypatch):
    """A folder with a bitstream of every board, and an openFPGALoader that notes its arguments."""
    for board in BOARDS.values():
        (tmp_path / board.name).mkdir()
        (tmp_path / board.name / f"top{board.bitstream}").write_bytes(b"bits")
    tools = tmp_path / "tools"
    tools.mkdir()
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    set_loader(tmp_path, 0)
    return tmp_path


def set_loader(folder, status):
    loader = folder / "tools" / LOADER
    loader.write_text(f"#!/bin/sh\necho \"$@\" > {folder}/called\nexit {status}\n")
    loader.chmod(0o755)


@pytest.mark.parametrize("name, board, flag", [
    ("icebreaker", "ice40_generic", "--write-flash"),
    ("upduino-v3", "ice40_generic --cable ft232", "--write-flash"),
    ("ulx3s-85f", "ulx3s", "--write-flash"),
    ("ulx3s-85f-wide", "ulx3s", "--write-sram"),
    ("colorlight-5a-75b", "colorlight --cable ft232", "--write-sram"),
    ("orangecrab", "orangeCrab", "--write-flash"),
    ("ecpix5", "ecpix5", "--write-flash"),
    ("tang-nano-9k", "tangnano9k", "--write-flash"),
])
def test_the_bitstream_goes_to_its_board(built, name, board, flag):
    words = ["--volatile"] if flag == "--write-sram" else []
    assert main([name, "--out", f"{built}", *words]) == 0
    path = built / name / f"top{BOARDS[name].bitstream}"
    assert (built / "called").read_text() == f"--board {board} {flag} {path}\n"


def test_a_baked_bitstream_goes_to_its_board(built, capfd):
    assert "make bake BOARD=ulx3s-85f" in failure(
        ["ulx3s-85f", "--out", f"{built}", "--baked"], capfd
    )
    for name, words, flag in (
        ("ulx3s-85f", [], "ulx3s --write-flash"), ("icebreaker", [], "ice40_generic --write-flash"),
        ("ulx3s-85f", ["--volatile"], "ulx3s --write-sram"),
    ):
        path = built / f"{name}-baked" / f"top{BOARDS[name].bitstream}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"bits")
        assert main([name, "--out", f"{built}", "--baked", *words]) == 0
        assert (built / "called").read_text() == f"--board {flag} {path}\n"
    error = failure(["icebreaker", "--out", f"{built}", "--baked", "--volatile"], capfd)
    assert "boots its network from the flash" in error


def test_every_board_can_be_flashed_or_says_how(built, capfd):
    for name, board in BOARDS.items():
        if board.loader:
            assert main([name, "--out", f"{built}"]) == 0
        else:
            assert board.by_hand in failure([name, "--out", f"{built}"], capfd)


def test_a_board_that_is_a_drive(built, capfd):
    error = failure(["icesugar", "--out", f"{built}"], capfd)
    assert error == (
        f"error: openFPGALoader does not know the icesugar: copy {built}/icesugar/top.bin to the"
        " drive that its iCELink shows\n"
    )
    assert not (built / "called").exists()


def failure(words, capfd):
    assert main(words) == 2
    error = capfd.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    return error


def test_what_goes_wrong_is_one_line(built, capfd, monkeypatch):
    out = ["--out", f"{built}"]
    assert "unknown board 'x'" in failure(["x", *out], capfd)
    set_loader(built, 1)
    assert "ended with status 1: is the icebreaker plugged in" in failure(
        ["icebreaker", *out], capfd
    )
    (built / "icebreaker" / "top.bin").unlink()
    assert "make bitstream BOARD=icebreaker" in failure(["icebreaker", *out], capfd)
    monkeypatch.setenv("PATH", "/nowhere")
    assert "openFPGALoader is not installed" in failure(["ulx3s-85f", *out], capfd)

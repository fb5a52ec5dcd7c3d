"""The Verilog of the accelerator: the same every time, with the ports that others connect to."""

import os
import re
import subprocess
import sys

import pytest

from hw.verilog import accelerator_verilog, main
from sw.engine import ENGINES

PORTS = {
    "clk": "input", "rst": "input",
    "rx__payload": "input", "rx__valid": "input", "rx__ready": "output",
    "tx__payload": "output", "tx__valid": "output", "tx__ready": "input",
}


def test_ports():
    text = accelerator_verilog(ENGINES["icebreaker"])
    top = re.search(r"^module accelerator\(.*?^endmodule", text, re.M | re.S)[0]
    ports = re.findall(r"^  (input|output) (?:\[\d+:0\] )?(\w+);", top, re.M)
    assert {name: direction for direction, name in ports} == PORTS


def test_same_text_in_another_process(tmp_path):
    file = tmp_path / "accelerator.v"
    subprocess.run(
        [sys.executable, "-m", "hw.verilog", "icebreaker", "-o", file],
        env={**os.environ, "PYTHONHASHSEED": "7"}, check=True,
    )
    assert file.read_text() == accelerator_verilog(ENGINES["icebreaker"])
    assert list(tmp_path.iterdir()) == [file]


def test_standard_output(capsys):
    assert main(["icebreaker"]) == 0
    assert "module accelerator(" in capsys.readouterr().out


@pytest.mark.parametrize("arguments, message", [
    (["nosuch"], "error: unknown board 'nosuch': one of icebreaker, icebreaker-t1, upduino-v3"),
    (["icebreaker", "-o", "/nosuch/file.v"], "error: /nosuch/file.v: cannot be written ("),
])
def test_failures_are_one_line(arguments, message, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(message)
    assert error.count("\n") == 1

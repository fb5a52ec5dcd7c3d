"""Training by two processes is training by one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]


def run(*command, processes=2):
    """What a Python program prints, on stdout and stderr, under torchrun if there are processes."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return subprocess.run(
        [sys.executable, *(launcher if processes > 1 else []), *command],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": f"{ROOT}", "OMP_NUM_THREADS": "1"},
    )


def result(folder, *options, processes):
    target = folder / "result.safetensors"
    done = run("tests/sw/share_of_training.py", f"{target}", *options, processes=processes)
    assert done.returncode == 0, done.stderr
    return load_file(target)


def differs(a, b):
    assert a.keys() == b.keys()
    return [name for name in a if not torch.allclose(a[name], b[name], rtol=1e-6, atol=1e-6)]


def test_two_processes_learn_what_one_learns(tmp_path):
    single = result(tmp_path, processes=1)
    assert differs(single, result(tmp_path, processes=2)) == []
    apart = differs(single, result(tmp_path, "apart", processes=2))
    assert "numbers" in apart and "layers.1.conv.weight" in apart


def test_the_trainer_runs_as_two_processes(tmp_path):
    options = ["--epochs", "1", "--batch", "96", "--precision", "bf16", "--json"]
    options += ["--out", f"{tmp_path / 'run'}"]
    done = run("sw/train.py", *options)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    # One of them talks.
    (line,) = done.stdout.splitlines()
    (entry,) = map(json.loads, (tmp_path / "run" / "log.jsonl").read_text().splitlines())
    assert json.loads(line)["loss"] == entry["loss"]
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "checkpoint.safetensors", "curves.png", "log.jsonl"
    ]


def test_a_batch_that_cannot_be_shared_is_refused(tmp_path):
    done = run("sw/train.py", "--out", f"{tmp_path / 'run'}", "--batch", "95")
    assert done.returncode
    assert "error: --batch 95 cannot be shared by 2 processes" in done.stderr.splitlines()
    assert not (tmp_path / "run").exists()

"""Malformed images at random: three thousand, and loaders that leave out a check."""

import multiprocessing
import warnings
from concurrent.futures import ProcessPoolExecutor

import pytest

from sw import image
from tests.support import loaded_modules
from tests.sw import fuzz_image


def last_of(reports):
    *_, report = reports
    return report


def test_three_thousand_malformed_images():
    report = last_of(fuzz_image.run(3000, seed=2, jobs=0))
    assert report["failures"] == []
    assert sum(report["outcomes"].values()) == report["cases"] == 3000
    assert set(report["mutations"]) == set(fuzz_image.MUTATIONS)
    outcomes = report["outcomes"]
    assert len(outcomes) > 50 and outcomes["loaded, and runs"] > 200
    assert outcomes["loaded, and refused by the bounds"] > 10


def slow(path):
    while True:
        pass


def warn(path, load=image.load):
    warnings.warn("odd", stacklevel=1)
    return load(path)


def several_lines(path):
    raise image.ImageError(f"{path}: two\nlines")


@pytest.mark.parametrize("name, broken, wrong", [
    ("_check_tables", lambda image: None, "is not of its weights"),
    ("_once", dict, "stands twice"),
    ("_one_line", str, "not one line"),
    ("_text", lambda header: "", "is not what the file says"),
    ("load", slow, "takes more than"), ("load", warn, "UserWarning: odd"),
    ("load", several_lines, "not one line"),
], ids=["tables", "twice", "one line", "header", "hang", "warning", "lines"])
def test_a_loader_that_leaves_out_a_check_is_caught(monkeypatch, name, broken, wrong):
    monkeypatch.setattr(image, name, broken)
    monkeypatch.setattr(fuzz_image, "PATIENCE_S", 0.05 if broken is slow else 5)
    cases = 5 if name == "load" else 2500
    for report in fuzz_image.run(cases, seed=2, jobs=0):
        if any(wrong in failure["what"] for failure in report["failures"]):
            return
    pytest.fail(f"not caught: {report['failures']}")


def test_memory_is_limited():
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, fuzz_image._limit_memory) as pool:
        assert len(pool.submit(bytes, fuzz_image.MEMORY // 4).result()) == fuzz_image.MEMORY // 4
        with pytest.raises(MemoryError):
            pool.submit(bytes, 2 * fuzz_image.MEMORY).result()


def test_a_run_goes_on_where_it_was_stopped():
    whole = last_of(fuzz_image.run(1000, seed=4, jobs=0))
    half = last_of(fuzz_image.run(500, seed=4, jobs=0))
    again = last_of(fuzz_image.run(1000, seed=4, jobs=0, before=half))

    def found(report):
        # Of several faults of one header, safetensors tells any.
        outcomes = report["outcomes"]
        loaded = [outcomes[name] for name in sorted(outcomes) if name.startswith("loaded")]
        return report["cases"], report["mutations"], loaded, sum(outcomes.values())

    assert found(again) == found(whole) != found(half)


def test_the_digest_covers_all_that_loads_an_image():
    assert set(loaded_modules("sw.image")) == {module.__name__ for module in fuzz_image.LOADING}

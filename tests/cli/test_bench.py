"""`hotpath bench` is the checkout's benchmarks, and says so where there are none."""

import subprocess

import pytest

import hotpath.cli.bench
from hotpath.cli import cli
from tests.cli.service import HOTPATH


def test_it_is_the_same_as_the_module(tmp_path):
    ours = subprocess.run(
        [*HOTPATH, "bench", "throughput", "--help"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip

    assert "--fan-out" in ours.stdout


def test_its_exit_code_is_that_of_the_benchmarks(tmp_path):
    wrong = subprocess.run(
        [*HOTPATH, "bench", "throughput", "--fan-out", "none"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert wrong.returncode == 2
    assert "expected numbers" in wrong.stderr


def test_an_installed_package_says_where_they_are(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(hotpath.cli.bench, "_CHECKOUT", tmp_path)

    with pytest.raises(SystemExit) as ended:
        cli.main(["bench"], prog_name="hotpath")

    assert ended.value.code == 1
    assert "checkout" in capsys.readouterr().err

"""The wheel and the sdist: they build, hold what is needed, and what is installed from them runs."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def run(*command, **options):
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=240, check=False, **options
    )
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    return result.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The sdist of this tree, and the wheel made of that sdist."""
    target = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", str(target), str(ROOT))
    (sdist,) = target.glob("*.tar.gz")
    (wheel,) = target.glob("*.whl")
    return sdist, wheel


def tracked(*folders):
    listed = subprocess.run(
        ["git", "ls-files", *folders], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("this is no git checkout: what belongs into the wheel is not known")
    return set(listed.stdout.split())


def test_the_wheel_holds_all_of_the_service_and_nothing_else(built):
    names = set(zipfile.ZipFile(built[1]).namelist())
    folders = {name.partition("/")[0] for name in names}

    assert tracked("hotpath", "qel") <= names | {
        name for name in tracked("hotpath", "qel") if name.endswith((".c", ".h"))
    }
    assert {each for each in folders if not each.endswith(".dist-info")} <= {"hotpath", "qel"} | {
        each for each in folders if each.endswith((".so", ".pyd"))
    }


def test_the_sdist_can_build_the_wheel_anew(built):
    with tarfile.open(built[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}

    assert {"pyproject.toml", "README.md", "LICENSE"} <= names
    assert {name for name in tracked("hotpath", "qel") if name.endswith((".c", ".h"))} <= names


def test_what_is_installed_from_the_wheel_runs(built, tmp_path):
    target = tmp_path / "site"
    run(
        *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"),
        *("--disable-pip-version-check", "--target", str(target), str(built[1])),
    )
    environment = {**os.environ, "PYTHONPATH": str(target)}

    said = run(
        *(sys.executable, "-P", "-c", "import hotpath; print(hotpath.__file__)"),
        cwd=tmp_path,
        env=environment,
    )
    version = run(str(target / "bin" / "hotpath"), "--version", cwd=tmp_path, env=environment)
    checked = run(
        *(sys.executable, "-P", "-m", "qel", "check", "--type", "variables", "value > 1"),
        cwd=tmp_path,
        env=environment,
    )

    assert Path(said.strip()).is_relative_to(target)
    assert version.startswith("hotpath ")
    assert checked.strip() == "value > 1"

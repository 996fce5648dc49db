"""Wheel and sdist: what they contain, and that the commands run where nothing but the wheel is installed."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PACKAGES = ("corpus", "pipeline", "model", "trainer")
BUILD = "import sys; from setuptools.build_meta import build_sdist, build_wheel; {}(sys.argv[1])"


def setuptools_version() -> int:
    try:
        return int(version("setuptools").partition(".")[0])
    except PackageNotFoundError:
        return 0


pytestmark = [
    pytest.mark.slow,  # builds packages
    pytest.mark.skipif(setuptools_version() < 77, reason="setuptools 77 or later, the build backend, is not installed"),
    pytest.mark.skipif(shutil.which("uv") is None, reason="uv is not installed"),
]


def sources() -> set[str]:
    """Files of the packages that a program needs."""
    files = {path for package in PACKAGES for path in (REPOSITORY / package).rglob("*") if path.is_file()}
    kept = {path for path in files if "__pycache__" not in path.parts and path.name != "README.md"}
    return {path.relative_to(REPOSITORY).as_posix() for path in kept}


def run(*command: object, cwd: Path) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run([*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, of a copy: setuptools writes into the folder that it builds."""
    folder = tmp_path_factory.mktemp("sdist")
    for name in (*PACKAGES, "manifests"):
        shutil.copytree(REPOSITORY / name, folder / "clone" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, folder / "clone" / name)
    built = run(sys.executable, "-c", BUILD.format("build_sdist"), folder, cwd=folder / "clone")
    assert built.returncode == 0, built.stderr
    (found,) = folder.glob("*.tar.gz")
    return found


@pytest.fixture(scope="module")
def wheel(sdist: Path) -> Path:
    """The wheel that is built from the source distribution."""
    with tarfile.open(sdist) as archive:
        archive.extractall(sdist.parent)  # made by the fixture before; Python 3.11.2 has no `filter`
    clone = sdist.parent / sdist.name.removesuffix(".tar.gz")
    built = run(sys.executable, "-c", BUILD.format("build_wheel"), sdist.parent, cwd=clone)
    assert built.returncode == 0, built.stderr
    (found,) = sdist.parent.glob("*.whl")
    return found


def test_wheel_of_the_sdist_has_every_file_of_the_packages_and_the_manifests(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    data = f"{'-'.join(wheel.name.split('-')[:2])}.data/data/share/millrace/manifests"
    manifests = {f"{data}/{path.name}" for path in (REPOSITORY / "manifests").glob("*.yaml")}
    assert names >= sources() | manifests
    others = {name for name in names - sources() - manifests if ".dist-info/" not in name}
    assert others == set()
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_commands_of_the_installed_wheel_run_in_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    venv, empty = tmp_path / "venv", tmp_path / "empty"
    empty.mkdir()
    for command in (("venv", "-q", "--python", sys.executable, venv), ("pip", "install", "-q", "--no-deps", wheel)):
        options = ("--python", venv / "bin/python", "--offline") if command[0] == "pip" else ("--offline",)
        assert (done := run("uv", *command, *options, cwd=empty)).returncode == 0, done.stderr
    (place,) = venv.glob("lib/python*/site-packages")
    (place / "dependencies.pth").write_text(sysconfig.get_path("purelib"))  # those of the packages, not the packages
    listed = run(venv / "bin/millrace", cwd=empty)
    assert f"Manifests to begin with are in {venv}/share/millrace/manifests" in listed.stdout
    assert "build" in listed.stdout
    described = run(venv / "bin/millrace", "build", "--help", cwd=empty)
    assert "Usage: millrace build" in described.stdout, described.stderr
    missing = run(venv / "bin/millrace", "build", "manifests/mix.yaml", cwd=empty)
    expected = f"the one that comes with Millrace is {venv}/share/millrace/manifests/mix.yaml"
    assert (missing.returncode, expected in missing.stderr) == (2, True)
    code = "from importlib.util import find_spec; print(*(find_spec(name).origin for name in sys.argv[1:]))"
    found = run(venv / "bin/python", "-c", f"import sys; {code}", *PACKAGES, cwd=empty)
    assert found.stdout.count(str(place)) == len(PACKAGES)

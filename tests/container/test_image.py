"""The image as a cluster would run it: no root, a read-only root file system, no network, no capabilities."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from assay import __version__

pytestmark = [pytest.mark.container]
IMAGE = os.environ.get("IMAGE", f"localhost/assay-python:{__version__}")
LIMITS = (
    "--rm --network none --memory 4g --cpus 2 --pids-limit 400 --read-only --tmpfs /tmp:rw,size=512m "
    "--user 10001:10001 --cap-drop all --security-opt no-new-privileges"
)


def answers(command: list[str]) -> str:
    """Why a command does not answer, or an empty string."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["no reason given"])[-1]


@pytest.fixture(scope="module")
def engine() -> list[str]:
    """The command of an engine that has the image, or a skip that says why there is none."""
    given = os.environ.get("ENGINE")
    reasons = []
    for command in [shlex.split(given)] if given else [["podman"], ["docker"]]:
        reason = answers([*command, "info"]) or answers([*command, "image", "inspect", IMAGE])
        if not reason:
            return command
        reasons.append(f"{command[0]}: {reason}")
    pytest.skip(f"no engine with {IMAGE} ({'; '.join(reasons)}); make image")


def inside(engine: list[str], *arguments: str, home: Path | None = None) -> subprocess.CompletedProcess[str]:
    mount = ["--volume", f"{home}:/work", "--env", "ASSAY_HOME=/work/.assay", "--workdir", "/work"] if home else []
    command = [*engine, "run", *shlex.split(LIMITS), *mount, IMAGE, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=550, check=False)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder that the image's user may write, as a volume is."""
    folder = tmp_path / "volume"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    return folder


def test_the_user_is_numeric_and_not_root(engine: list[str]) -> None:
    done = subprocess.run([*engine, "image", "inspect", IMAGE], capture_output=True, text=True, check=True)
    (image,) = json.loads(done.stdout)
    assert image["Config"]["User"] == "10001:10001"
    assert inside(engine, "sh", "-c", "id -u; touch /opt/assay/x || echo refused").stdout.split() == [
        "10001",
        "refused",
    ]


def test_it_knows_which_image_it_is(engine: list[str]) -> None:
    done = inside(engine, "python3", "-c", "from assay import versions; print(versions.image())")
    assert done.stdout.strip() == IMAGE


def test_nothing_is_missing_in_it(engine: list[str], home: Path) -> None:
    done = inside(engine, "assay", "doctor", "--json", home=home)
    checks: dict[str, Any] = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert checks["packages"]["state"] == checks["home"]["state"] == checks["ledger"]["state"] == "ok"


def test_no_settings_of_the_builder_stay_in_it(engine: list[str]) -> None:
    look = "ls -A /run/secrets /root 2>/dev/null; cat /etc/pip.conf 2>/dev/null; env | grep -i index"
    assert not [line for line in inside(engine, "sh", "-c", look).stdout.splitlines() if "pip" in line or "://" in line]


def test_the_steps_of_the_example_run_inside(engine: list[str], home: Path) -> None:
    """Every step through KFP's own executor, each in a process of its own, as in a pod."""
    done = inside(engine, "assay", "run", "--example", "tiny", "--json", home=home)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["decision"] == "promote"
    steps = [line.split()[1] for line in done.stderr.splitlines() if line.startswith("ok")]
    assert set(steps) == {"ingest", "sanitize", "filter-poison", "train", "evaluate", "gate", "promote", "report"}

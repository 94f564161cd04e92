# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytestmark = pytest.mark.qgis

HELLO = "say('hello', protocol=1, version='0.1.0', pid=os.getpid())\n"
Make = Callable[[str], Path]


@pytest.fixture
def client(package: ModuleType) -> ModuleType:
    from dehaze.processing_algorithms import engine_client

    return engine_client


@pytest.fixture
def feedback(qgis_app: Any) -> Any:
    """A feedback that remembers in `heard` what it was told."""
    from qgis.core import QgsProcessingFeedback

    class Listening(QgsProcessingFeedback):
        def __init__(self) -> None:
            super().__init__(False)
            self.heard: list[tuple[str, str]] = []

        def setProgressText(self, text: str) -> None:
            self.heard.append(("text", text))

        def pushInfo(self, text: str) -> None:
            self.heard.append(("info", text))

        def pushWarning(self, text: str) -> None:
            self.heard.append(("warning", text))

    return Listening()


def is_alive(pid: int) -> bool:
    """Zombies count as dead: not every init of a container reaps."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def test_the_job_arrives_and_the_result_comes_back(
    client: ModuleType, make_engine: Make, feedback: Any
) -> None:
    python = make_engine(HELLO + "say('result', values=json.load(open(job)))")

    values = client.run_task(python, "run", {"source": "ä b.tif"}, feedback)

    assert values == {"protocol": 1, "task": "run", "parameters": {"source": "ä b.tif"}}


def test_progress_log_and_warnings_reach_the_feedback(
    client: ModuleType, make_engine: Make, feedback: Any
) -> None:
    python = make_engine(
        HELLO + "say('progress', value=40, text='Pass A')\n"
        "say('log', message='on the CPU')\nsay('warning', message='little memory')\n"
        "say('result', values={})"
    )

    client.run_task(python, "run", {}, feedback)

    assert feedback.progress() == 40
    assert feedback.heard == [
        ("text", "Pass A"), ("info", "on the CPU"), ("warning", "little memory"),
    ]  # fmt: skip


def test_foreign_lines_do_not_disturb(client: ModuleType, make_engine: Make, feedback: Any) -> None:
    python = make_engine(
        HELLO + "print('{broken')\nos.write(1, b'\\xff\\xfe\\n')\nprint('x' * 200_000)\n"
        "sys.stderr.write('y' * 200_000)\nsay('result', values={'a': 1})"
    )

    assert client.run_task(python, "run", {}, feedback) == {"a": 1}


def test_an_understood_error_keeps_its_parts(
    client: ModuleType, make_engine: Make, feedback: Any
) -> None:
    python = make_engine(
        HELLO + "say('error', code='INPUT', message='No such file.', hint='Look.')\nsys.exit(3)"
    )

    with pytest.raises(client.EngineFailedError) as caught:
        client.run_task(python, "run", {}, feedback)

    assert str(caught.value) == "No such file. Look. [INPUT]"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", ["SIGKILL", "out of memory"]),
        ("os.kill(os.getpid(), signal.SIGSEGV)", ["SIGSEGV", "QGIS is not affected"]),
        ("sys.stderr.write('last words'); sys.exit(9)", ["exit status 9", "last words"]),
        ("sys.exit(0)", ["without a result"]),
    ],
)
def test_a_crash_is_explained(
    client: ModuleType, make_engine: Make, feedback: Any, code: str, expected: list[str]
) -> None:
    python = make_engine(HELLO + code)

    with pytest.raises(client.EngineFailedError) as caught:
        client.run_task(python, "run", {}, feedback)

    assert [text for text in expected if text not in str(caught.value)] == []


@pytest.mark.parametrize(("protocol", "older"), [(0, "engine"), (2, "plugin")])
def test_another_protocol_says_which_side_to_update(
    client: ModuleType, make_engine: Make, feedback: Any, protocol: int, older: str
) -> None:
    python = make_engine(f"say('hello', protocol={protocol}, version='9', pid=1); time.sleep(600)")

    with pytest.raises(client.EngineFailedError, match=f"Update the {older}"):
        client.run_task(python, "run", {}, feedback)


def test_a_python_without_the_engine_is_named(client: ModuleType, feedback: Any) -> None:
    with pytest.raises(client.EngineFailedError, match="does not hold the engine"):
        client.run_task(Path("/usr/bin/python3"), "run", {}, feedback)


def test_a_python_that_cannot_start_is_named(
    client: ModuleType, feedback: Any, tmp_path: Path
) -> None:
    with pytest.raises(client.EngineFailedError, match="cannot be started"):
        client.run_task(tmp_path / "gone", "run", {}, feedback)


@pytest.mark.parametrize("manners", ["", "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"])
def test_cancel_leaves_no_process(
    client: ModuleType, make_engine: Make, tmp_path: Path, qgis_app: Any, manners: str
) -> None:
    from qgis.core import QgsProcessingFeedback

    class Cancelling(QgsProcessingFeedback):
        def setProgressText(self, text: str) -> None:
            self.cancel()

    python = make_engine(
        manners + HELLO + "child = os.fork()\n"
        f"open({str(tmp_path)!r} + '/pid' + str(os.getpid()), 'w').close()\n"
        "time.sleep(0.2)\nsay('progress', value=1, text='busy')\ntime.sleep(600)"
    )

    with pytest.raises(client.EngineCancelledError):
        client.run_task(python, "run", {}, Cancelling(False))

    pids = [int(path.name[3:]) for path in tmp_path.glob("pid*")]
    assert len(pids) == 2
    assert wait_until(lambda: not any(map(is_alive, pids)))


def test_an_orphaned_grandchild_does_not_keep_the_task_waiting(
    client: ModuleType, make_engine: Make, feedback: Any, tmp_path: Path
) -> None:
    python = make_engine(
        HELLO + "say('result', values={'a': 1})\n"
        "child = os.fork()\n"
        "if not child:\n    time.sleep(600)\n"
        f"open({str(tmp_path / 'child')!r}, 'w').write(str(child))"
    )

    assert client.run_task(python, "run", {}, feedback) == {"a": 1}
    assert wait_until(lambda: not is_alive(int((tmp_path / "child").read_text())))


def test_the_environment_of_qgis_stays_behind(package: ModuleType) -> None:
    from dehaze.processing_algorithms.engine_process import scrubbed_environment

    dropped = (
        "PYTHONPATH PYTHONHOME PROJ_LIB PROJ_DATA GDAL_DATA GDAL_DRIVER_PATH LD_LIBRARY_PATH "
        "DYLD_LIBRARY_PATH QT_PLUGIN_PATH QGIS_PREFIX_PATH OSGEO4W_ROOT VIRTUAL_ENV LD_PRELOAD"
    )
    kept = {"HOME": "/home/me", "CUDA_VISIBLE_DEVICES": "0", "GDAL_HTTP_PROXY": "p", "LANG": "C"}
    root = os.path.join(os.sep, "opt", "qgis")
    path = [os.path.join(root, "bin"), root, os.path.join(os.sep, "opt", "qgis2"), "/usr/bin"]
    environment = {**dict.fromkeys(dropped.split(), "x"), **kept, "PATH": os.pathsep.join(path)}
    environment["OSGEO4W_ROOT"] = root

    clean = scrubbed_environment(environment)

    assert clean == {**kept, "PATH": os.pathsep.join(path[2:])}


def test_the_environment_of_this_process_is_not_touched(
    client: ModuleType, make_engine: Make, feedback: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROJ_LIB", "/somewhere")
    python = make_engine(HELLO + "say('result', values=dict(os.environ))")

    values = client.run_task(python, "run", {}, feedback)

    assert "PROJ_LIB" not in values
    assert os.environ["PROJ_LIB"] == "/somewhere"


def test_windows_crashes_have_names(package: ModuleType) -> None:
    from dehaze.processing_algorithms.engine_process import explain_exit

    assert "access violation" in explain_exit(0xC0000005)[0]
    assert "SIGKILL" in explain_exit(-signal.SIGKILL)[0]


def wait_until(condition: Callable[[], bool]) -> bool:
    """Whether the condition comes true; killed processes take a moment to go."""
    for _ in range(100):
        if condition():
            return True
        time.sleep(0.05)
    return False

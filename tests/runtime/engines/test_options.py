from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_prompt.base.errors import InputError
from edge_prompt_runtime import Runtime
from edge_prompt_runtime.engines.cores import CAN_CHOOSE, available_cores, running_on
from edge_prompt_runtime.engines.options import MEMORY_ARENAS, EngineOptions

CORES = sorted(available_cores())
LAST = CORES[-1]
several_cores = pytest.mark.skipif(not CAN_CHOOSE or len(CORES) < 2, reason="there is nothing to choose from")

WATCH = """
import json, sys
from pathlib import Path
from threading import Event, Thread
import numpy as np
from edge_prompt import read_bundle
from edge_prompt_runtime.engines.base import open_graph
from edge_prompt_runtime.engines.options import EngineOptions
from edge_prompt_runtime.execution.network import GraphNetwork, arrays_of
from edge_prompt_runtime.inputs.requests import open_requests
from edge_prompt_runtime.tasks.task import base_task

def tasks():
    found = {}
    for folder in Path("/proc/self/task").iterdir():
        lines = (folder / "status").read_text().splitlines()
        cores = next(line.split(":")[1].strip() for line in lines if line.startswith("Cpus_allowed_list"))
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
        found[int(folder.name)] = (cores, int(fields[11]) + int(fields[12]))
    return found

bundle, name = read_bundle(Path(sys.argv[1])), sys.argv[2]
threads, cores, together = json.loads(sys.argv[3])
outside = tasks()
engine = open_graph(bundle, bundle.graph(name), EngineOptions(threads, cores=cores and tuple(cores)))
request = open_requests(bundle).read({"input_ids": np.full((64, 40), 7)}, base_task(bundle.manifest))
network = GraphNetwork(engine, bundle.graph(name).inputs, masked=True)
feeds = network.feeds(arrays_of(request, range(64)), request.tasks)
stop, ready = Event(), []

def ask():
    while not stop.is_set():
        engine.run(feeds, ("features",))
        ready.append(1)

askers = [Thread(target=ask) for _ in range(together)]
for asker in askers:
    asker.start()
while len(ready) < 3 * together:
    pass
before, seen = tasks(), {}
while len(ready) < 40 * together:
    for number, (allowed, _) in tasks().items():
        seen.setdefault(number, set()).add(allowed)
after = tasks()
stop.set()
for asker in askers:
    asker.join()
main, asking = min(outside), {asker.native_id for asker in askers}
own = [n for n in after if n not in outside and n not in asking and n != main]
print(json.dumps({
    "asking": [sorted(seen[n]) for n in asking],
    "engine": [sorted(seen[n]) for n in own if n in seen and after[n][1] > before.get(n, (0, 0))[1]],
    "main": after[main][0],
}))
"""
"""Opens a graph, runs it on threads, and prints the cores that each thread was allowed to use."""


def cores_seen(bundle: Path, engine: str, threads: int | None, cores: list[int] | None, together: int = 1) -> Any:
    given = [sys.executable, "-c", WATCH, str(bundle), engine, json.dumps([threads, cores, together])]
    result = subprocess.run(given, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@several_cores
def test_a_network_is_computed_on_its_cores_alone(tiny_bundle: Path, engine: str) -> None:
    seen = cores_seen(tiny_bundle, engine, None, [LAST])
    assert all(str(LAST) in cores for cores in seen["asking"])
    assert all(cores == [str(LAST)] for cores in seen["engine"])
    assert seen["main"] != str(LAST)


@several_cores
def test_the_threads_of_the_engine_are_kept_on_cores_too(tiny_bundle: Path) -> None:
    seen = cores_seen(tiny_bundle, "onnxruntime", 2, [LAST])  # more threads than cores, so that the engine has its own
    assert seen["engine"] == [[str(LAST)]]
    assert all(str(LAST) in cores for cores in seen["asking"])


@several_cores
def test_nothing_is_pinned_unless_it_is_asked_for(tiny_bundle: Path, engine: str) -> None:
    everywhere = f"{CORES[0]}-{LAST}"
    if list(range(CORES[0], LAST + 1)) != CORES:
        pytest.skip("the cores have gaps")
    seen = cores_seen(tiny_bundle, engine, 1, None, together=2)
    assert seen["asking"] == [[everywhere], [everywhere]]


@several_cores
def test_a_thread_is_where_it_was_afterwards() -> None:
    with running_on((LAST,)):
        assert available_cores() == {LAST}
        with running_on(None):
            assert available_cores() == {LAST}
    assert sorted(available_cores()) == CORES
    with pytest.raises(ZeroDivisionError), running_on((LAST,)):
        1 / 0  # noqa: B018
    assert sorted(available_cores()) == CORES


@several_cores
def test_openvino_has_one_choice_of_cores_a_process(tiny_bundle: Path) -> None:
    code = f"""
import sys
from edge_prompt.base.errors import InputError
from edge_prompt_runtime import Runtime
Runtime({str(tiny_bundle)!r}, "openvino", cores=[{LAST}])
Runtime({str(tiny_bundle)!r}, "openvino", cores=[{LAST}]).embed("w1")
Runtime({str(tiny_bundle)!r}, "onnxruntime", cores=[{CORES[0]}]).embed("w1")
try:
    Runtime({str(tiny_bundle)!r}, "openvino", cores=[{CORES[0]}])
except InputError as error:
    print(error)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"in this process it has the cores {LAST} since" in result.stdout, result.stderr


@several_cores
def test_answers_are_the_same_on_any_cores_with_any_memory(tiny_bundle: Path, tiny_language_bundle: Path) -> None:
    for bundle, feeds in (
        (tiny_bundle, {"input_ids": np.array([[2, 7, 3]])}),
        (tiny_language_bundle, {"input_ids": np.array([[5, 6, 7]])}),
    ):
        wanted = Runtime(bundle, "onnxruntime", threads=1).infer(feeds)
        for memory_arena in MEMORY_ARENAS:
            runtime = Runtime(bundle, "onnxruntime", cores=[LAST], memory_arena=memory_arena, spinning=False)
            for name, array in runtime.infer(feeds).items():
                np.testing.assert_allclose(array, wanted[name], atol=1e-5)
    generated = [
        Runtime(tiny_language_bundle, "onnxruntime", **settings).generate(feeds, max_new_tokens=5)
        for settings in ({"threads": 1}, {"cores": [LAST], "memory_arena": "shrunk"})
    ]
    assert generated[0] == generated[1]


MEMORY = """
import sys
import numpy as np
from edge_prompt_runtime import Runtime
runtime = Runtime(sys.argv[1], "onnxruntime", threads=1, memory_arena=sys.argv[2])
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
small, big = ({"input_ids": np.full(shape, 7)} for shape in ((1, 8), (256, 48)))
runtime.infer(small)
before = resident()
for _ in range(3):
    runtime.infer(big)
runtime.infer(small)
print(resident() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the system does not say how much memory it gave")
def test_memory_of_a_large_request_is_given_back_if_that_is_asked_for(tiny_bundle: Path) -> None:
    grown = {}
    for memory_arena in MEMORY_ARENAS:
        given = [sys.executable, "-c", MEMORY, str(tiny_bundle), memory_arena]
        grown[memory_arena] = int(subprocess.run(given, capture_output=True, text=True, check=True).stdout)
    assert grown["shrunk"] < 0.6 * grown["kept"]
    assert grown["none"] < 0.6 * grown["kept"]


@pytest.mark.parametrize(
    ("spinning", "entry", "value"),
    [
        (None, "session.force_spinning_stop", "1"),
        (True, "session.intra_op.allow_spinning", "1"),
        (False, "session.intra_op.allow_spinning", "0"),
    ],
)
def test_spinning_reaches_the_session(tiny_bundle: Path, spinning: bool | None, entry: str, value: str) -> None:
    runtime = Runtime(tiny_bundle, "onnxruntime", threads=1, spinning=spinning)
    session: Any = runtime.network.engine
    assert session._session.get_session_options().get_session_config_entry(entry) == value


@pytest.mark.parametrize("asked", [{"spinning": True}, {"spinning": False}, {"memory_arena": "kept"}])
def test_openvino_refuses_what_it_does_not_have(tiny_bundle: Path, asked: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="but the engine openvino has no such setting"):
        Runtime(tiny_bundle, "openvino", **asked)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"threads": 0}, "threads=0; expected an integer of at least 1"),
        ({"threads": True}, "threads=True; expected an integer"),
        ({"threads": 1.5}, "threads=1.5; expected an integer"),
        (
            {"threads": 2, "cores": [LAST]},
            "threads=2 was set for 1 core(s); expected an integer of at least 1 and at most 1",
        ),
        ({"cores": []}, "cannot use the cores []; expected one or more of"),
        ({"cores": 1}, "cores=1 is not a list; expected a list of numbers"),
        ({"cores": [-1]}, "cannot use the cores [-1]; expected one or more of"),
        ({"cores": [LAST, 4096]}, "this process cannot use the cores"),
        ({"cores": [0.0]}, "cannot use the cores [0.0]; expected one or more of"),
        ({"memory_arena": "large"}, "the memory arena 'large' is unknown; expected one of kept, shrunk, none"),
        ({"memory_arena": True}, "the memory arena True is unknown; expected one of kept"),
        ({"spinning": 1}, "spinning 1 is unknown; expected one of True, False"),
        ({"spinning": "yes"}, "spinning 'yes' is unknown; expected one of True, False"),
    ],
)
def test_a_setting_that_is_none_is_refused_in_one_sentence(
    tiny_bundle: Path, engine: str, asked: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError) as raised:
        Runtime(tiny_bundle, engine, **asked)
    assert said in str(raised.value)


def test_a_system_without_a_choice_of_cores_says_so(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_prompt_runtime.engines.cores.CAN_CHOOSE", False)
    assert available_cores() == set(range(os.cpu_count() or 1))
    with pytest.raises(InputError, match="expected Linux"):
        Runtime(tiny_bundle, cores=[0])
    with running_on(None):
        Runtime(tiny_bundle, "onnxruntime", threads=1).embed("w1")


def test_nothing_is_asked_of_an_engine_by_default() -> None:
    assert astuple(EngineOptions()) == (None, "f32", None, None, None, None, None)

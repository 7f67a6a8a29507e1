"""A real SLURM on one machine: the literal command from clips to the report, and what clusters do to it.

Each scenario has a cluster and a checkout of its own, and several run at once: most of their time is waiting. All end
with the bytes of a run on this machine without SLURM.
"""

from __future__ import annotations

import runpy
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from slurm import slurm_faults as faults
from slurm.slurm_cluster import Cluster
from slurm.slurm_material import SECONDS, TARGETS, Run, make_checkout, record_of, repeat, starts, weights
from tiny_material import ROOT

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(1800)]
REPRODUCE = runpy.run_path(str(ROOT / "workflow" / "scripts" / "reproduce.py"))
AT_ONCE = 4
QUEUED = {
    "prepare_manifest",
    "cache_latents",
    "train_stage1",
    "train_stage2",
    "train_stage3",
    "reconstruct_clips",
    "reconstruct_baselines",
    "evaluate_clips",
    "evaluate_baselines",
    "prepare_clips",
    "reconstruct_rival",
    "evaluate_rival",
}
Scenario = Callable[[Path, Path], None]


def the_whole_workflow_as_typed(reference: Path, folder: Path) -> None:
    """`snakemake --profile slurm results/metrics.csv reports/report.html` in a fresh checkout: a local run's bytes."""
    make_checkout(folder)
    # What is fetched is made beforehand: these nodes, and the one that Snakemake runs on, reach no network.
    shutil.copytree(reference / "resources", folder / "resources")
    with Cluster(nodes=4) as cluster:
        run = Run(cluster, folder, *TARGETS)
        assert run.finish() == 0, run.told[-8000:]
    results = REPRODUCE["results_of"](reference)
    assert len(results) > 40
    assert REPRODUCE["differences"](results, REPRODUCE["results_of"](folder)) == []
    assert (folder / "reports" / "report.html").stat().st_size > 100_000
    _stage_3_ran_on_two_nodes(folder)
    _shards_were_arrays_and_small_rules_stayed(folder)


def _stage_3_ran_on_two_nodes(folder: Path) -> None:
    assert record_of(folder, "stage3")["world_size"] == 4
    told = (folder / "logs" / "tiny" / "train_stage3.log").read_text(encoding="utf-8")
    for line in ("srun --nodes=2", "node1: 2 ranks of 1 threads", "node2: 2 ranks of 1 threads", "[rank 3] "):
        assert line in told, told[:6000]


def _shards_were_arrays_and_small_rules_stayed(folder: Path) -> None:
    logs = folder / "logs" / "slurm"
    for rule in ("cache_latents", "reconstruct_baselines", "reconstruct_clips"):
        tasks = {path.stem.split("_")[0]: path for path in (logs / f"rule_{rule}").glob("*_2.log")}
        assert tasks, rule
        assert all((path.parent / f"{job}_1.log").exists() for job, path in tasks.items()), rule
    assert {path.name.removeprefix("rule_") for path in logs.iterdir()} == QUEUED


def one_stage_again(reference: Path, folder: Path) -> None:
    """`-R train_stage2 --until train_stage2` is one job, touches nothing else and trains the same weights."""
    repeat(reference, folder)
    before = {path: path.stat().st_mtime_ns for path in (folder / "results").rglob("*") if path.is_file()}
    with Cluster(nodes=1) as cluster:
        run = Run(cluster, folder, "-R", "train_stage2", "--until", "train_stage2")
        assert run.finish() == 0, run.told[-8000:]
        assert cluster.jobs("COMPLETED") == ["1"]
    assert starts(folder, "stage2") == [0]
    assert weights(folder, "stage2") == weights(reference, "stage2")
    changed = {path for path, when in before.items() if not path.exists() or path.stat().st_mtime_ns != when}
    own = {folder / "results" / "tiny" / "stage2", folder / "results" / "benchmarks" / "tiny"}
    assert changed and all(own & set(path.parents) for path in changed)


SCENARIOS: list[Scenario] = [
    the_whole_workflow_as_typed,
    one_stage_again,
    faults.a_job_is_cancelled_and_the_command_typed_again,
    faults.the_wall_time_nears,
    faults.the_wall_time_is_over,
    faults.a_job_is_preempted,
    faults.a_rank_on_the_second_node_is_killed,
    faults.a_node_goes_down,
    faults.snakemake_is_killed,
    faults.a_site_with_accounting,
]


@pytest.fixture(scope="module")
def outcomes(
    request: pytest.FixtureRequest, reference: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[Scenario, Future[None]]]:
    """The scenarios that were asked for, a few at a time."""
    asked = [item.callspec.params["scenario"] for item in request.session.items if hasattr(item, "callspec")]
    place = tmp_path_factory.mktemp("slurm")

    def play(scenario: Scenario) -> None:
        """Play a scenario in a folder of its own and note how long it took."""
        began = time.monotonic()
        try:
            scenario(reference, place / scenario.__name__)
        finally:
            SECONDS[scenario.__name__] = time.monotonic() - began

    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {scenario: pool.submit(play, scenario) for scenario in asked}
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_on_a_real_slurm(scenario: Scenario, outcomes: dict[Scenario, Future[None]]) -> None:
    outcomes[scenario].result()

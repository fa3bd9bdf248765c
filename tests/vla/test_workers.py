"""`vla.workers`, in processes and on Ray: every job once, results paired with their jobs, one clear error that names the job."""

import os
from importlib.util import find_spec

import pytest

from robot_io import SpecMismatch, UserError
from vla.workers import WorkerError, elsewhere, parallel


def squarer(offset):
    def run(job):
        if job == 13:
            raise ValueError("unlucky")
        if job == 17:
            os._exit(7)
        if job == 19:
            raise SpecMismatch("policy", "made for another robot", "this one", "change it")
        return job * job + offset, os.environ["OMP_NUM_THREADS"], os.getcwd(), elsewhere()

    return run


@pytest.fixture(scope="module", params=["in processes", "on Ray"])
def where(request):
    if request.param == "in processes":
        yield
        return
    if find_spec("ray") is None:
        pytest.skip("ray is not installed")
    from vla.ray_workers import on_ray

    with on_ray("local"):
        assert elsewhere()
        yield
    assert not elsewhere()


def test_every_job_runs_once_on_one_thread_in_this_folder(where):
    results = dict(parallel(squarer, (1,), range(5), workers=2))
    assert results == {job: (job * job + 1, "1", os.getcwd(), False) for job in range(5)}


def test_no_jobs_start_no_workers(where):
    assert list(parallel(squarer, (1,), [], workers=2)) == []


@pytest.mark.parametrize("job, cause", [(13, "unlucky"), (17, "its process died")])
def test_a_failure_names_the_job(where, job, cause):
    with pytest.raises(WorkerError, match=rf"seed {job} failed: [\s\S]*{cause}"):
        list(parallel(squarer, (1,), [job], workers=1, noun="seed"))


def test_a_users_mistake_arrives_unchanged(where):
    with pytest.raises(SpecMismatch, match="made for another robot; expected this one") as caught:
        list(parallel(squarer, (1,), [19], workers=1))
    assert isinstance(caught.value, UserError) and caught.value.remedy == "change it"


def test_trials_are_those_of_this_process(where, tmp_path):
    from vla.evaluate.drivers import find
    from vla.evaluate.evaluate import evaluate
    from vla.evaluate.runner import trial_runner

    drunk = "toy_robot:Drunk"
    there = evaluate(drunk, {"kind": "toy_robot:ToyRobot"}, [4, 2, 9], workers=2, out=tmp_path / "trials.jsonl", execute=4, progress=False)
    run = trial_runner(find(drunk), there.setting, {})
    assert [facts(trial) for trial in there.trials] == [facts(run(seed)) for seed in (2, 4, 9)]


def facts(trial):
    return trial.seed, trial.success, trial.wrong_object, trial.steps, trial.jerk, trial.instruction

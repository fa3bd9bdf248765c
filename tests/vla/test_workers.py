"""`vla.workers`: every job once, results paired with their jobs, one clear error that names the job."""

import os

import pytest

from robot_io import SpecMismatch, UserError
from vla.workers import WorkerError, parallel


def squarer(offset):
    def run(job):
        if job == 13:
            raise ValueError("unlucky")
        if job == 17:
            os._exit(7)
        if job == 19:
            raise SpecMismatch("policy", "made for another robot", "this one", "change it")
        return job * job + offset, os.environ["OMP_NUM_THREADS"]

    return run


def test_every_job_runs_once_on_one_thread():
    results = dict(parallel(squarer, (1,), range(5), workers=2))
    assert results == {job: (job * job + 1, "1") for job in range(5)}


def test_no_jobs_start_no_workers():
    assert list(parallel(squarer, (1,), [], workers=2)) == []


@pytest.mark.parametrize("job, cause", [(13, "unlucky"), (17, "exit code 7")])
def test_a_failure_names_the_job(job, cause):
    with pytest.raises(WorkerError, match=rf"seed {job} failed: [\s\S]*{cause}"):
        list(parallel(squarer, (1,), [job], workers=1, noun="seed"))


def test_a_users_mistake_arrives_unchanged():
    with pytest.raises(SpecMismatch, match="made for another robot; expected this one") as caught:
        list(parallel(squarer, (1,), [19], workers=1))
    assert isinstance(caught.value, UserError) and caught.value.remedy == "change it"

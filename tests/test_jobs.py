"Jobs that are killed, fenced and starved, and what plans, job notebooks and batch scripts say, without a cluster"
import json, os, re, shutil, signal, subprocess, sys, time
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from plans import *

from ecg_arrhythmia.jobs import running as J
from ecg_arrhythmia.jobs.notebooks import check_params, job_notebook, open_data, publish, result_of
from ecg_arrhythmia.jobs.plan import Job, Plan, check_unchanged, make_plan
from ecg_arrhythmia.jobs.running import run_job, run_plan, status
from ecg_arrhythmia.core import ECGError
from ecg_arrhythmia.data.simulated_datasets import simulate_dataset
from ecg_arrhythmia.jobs.slurm import Request, submit

@pytest.fixture(scope='module')
def data(tmp_path_factory):
    "Charts of a few recordings, which nothing here trains on"
    return a_store(tmp_path_factory.mktemp('jobs'), 44, (32, 64))

def test_two_attempts_at_once(small, tmp_path):
    "The newest owns the run; the older ends without a result, whoever comes first"
    import threading
    plan = make_plan(tmp_path/'p', [Job(small, dict(seconds=4.))]); k, = plan.jobs; found = {}
    first = threading.Thread(target=lambda: found.update(first=run_job(plan, k))); first.start()
    wait(lambda: kernel_of(plan.folder(k)), 60, .1); time.sleep(1)
    found['second'] = run_job(plan, k); first.join()
    assert found==dict(first='fenced', second='done') and result_of(plan.folder(k))['attempt'].startswith('2-')

def test_an_orphan_cannot_publish(tmp_path, monkeypatch):
    (tmp_path/'owner').write_text('2-b')
    monkeypatch.setenv('ECG_ATTEMPT', f'{tmp_path}:1-a')
    with pytest.raises(ECGError, match='attempt 2-b owns this run'): publish(tmp_path, x=1)
    monkeypatch.setenv('ECG_ATTEMPT', f'{tmp_path}:2-b')
    publish(tmp_path, x=2); publish(tmp_path, x=3)
    assert result_of(tmp_path)['x']==2, 'published once'

@pytest.mark.parametrize(
    'fail,end,why',
    [
        ('die', 'killed', 'memory'),
        ('raise', 'exception', 'ValueError: as asked'),
        ('silent', 'exception', 'publish'),
    ],
)
def test_ends(small, tmp_path, fail, end, why):
    plan = make_plan(tmp_path / 'p', [Job(small, dict(fail=fail))])
    (k,) = plan.jobs
    assert run_job(plan, k) == end and (row := status(plan).loc[k]).state == end and why in row.why
    table = run_plan(plan)
    assert table.attempts.iloc[0] == (2 if end == 'killed' else 1)

def test_asked_to_stop_and_gone_on(small, tmp_path):
    plan = make_plan(tmp_path / 'p', [Job(small, dict(seconds=s)) for s in (0.1, 30.0)])
    code = 'import sys; from ecg_arrhythmia.jobs import Plan, run_plan; print(run_plan(Plan(sys.argv[1]), 2).state.tolist())'
    command = [sys.executable, '-W', 'ignore', '-c', code, tmp_path / 'p']
    p = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    wait(
        lambda: sum((plan.folder(k) / 'owner').exists() for k in plan.jobs) == 2
        and any(result_of(plan.folder(k)) for k in plan.jobs),
        60,
        0.2,
    )
    p.send_signal(signal.SIGTERM)
    out, _ = p.communicate(timeout=600)
    assert sorted(status(plan).state) == ['done', 'stopped'], out

def test_every_run_of_a_plan_is_checked(small, tmp_path):
    with pytest.raises(ECGError, match="do you mean 'seconds'"):
        make_plan(tmp_path / 'p', [Job(small, dict(seconds=1.0)), Job(small, dict(second=1.0))])
    with pytest.raises(ECGError, match='seconds must be float'):
        make_plan(tmp_path / 'p', [Job(small, dict(seconds=1.0)), Job(small, dict(seconds='1'))])
    assert not (tmp_path / 'p/plan.json').exists()

def test_stages_and_adding_runs(small, tmp_path):
    plan = make_plan(tmp_path / 'p', [Job(small, dict(seconds=0.2), 1), Job(small, dict(seconds=0.1), 0)])
    run_plan(plan, 2)
    folder = {j.stage: plan.folder(k) for k, j in plan.jobs.items()}
    assert (
        J.attempts(folder[1])[0]['begun'] >= (folder[0] / 'DONE').stat().st_mtime - 0.1
    ), 'published, not its process gone, is what the next stage waits for'
    more = make_plan(tmp_path / 'p', [Job(small, dict(seconds=0.3), 2)])
    assert len(more) == 3 and set(plan.jobs) < set(more.jobs) and list(status(more).state).count('done') == 2

def test_the_same_data_elsewhere_is_the_same_run(data, tmp_path):
    shutil.copy(data[0], tmp_path / 'copy.lmdb')
    shutil.copy(data[1], tmp_path / 'copy.json')
    assert (
        Job('train', dict(store=data[0], split=data[1])).id
        == Job('train', dict(store=str(tmp_path / 'copy.lmdb'), split=str(tmp_path / 'copy.json'))).id
        != Job('train', dict(store=data[0], split=data[1], seed=1)).id
    )

def test_a_plan_finds_files_that_were_moved(data, tmp_path):
    "Planned again with the new places, the runs keep their names, their stages and what is done of them"
    (tmp_path/'a').mkdir()
    for f,name in zip(data, ('s.lmdb', 'split.json')): shutil.copy(f, tmp_path/'a'/name)
    def params(folder): return dict(store=str(tmp_path/folder/'s.lmdb'), split=str(tmp_path/folder/'split.json'))
    plan = make_plan(tmp_path/'p', [Job('train', params('a') | dict(seed=s), stage=2) for s in (1, 2)])
    (tmp_path/'a').rename(tmp_path/'b')
    again = make_plan(tmp_path/'p', [Job('train', params('b') | dict(seed=s)) for s in (2, 3)])
    assert list(again.jobs)[:2]==list(plan.jobs) and len(again)==3
    assert [j.params['store'].split('/')[-2] for j in again.jobs.values()]==['a', 'b', 'b']
    assert [j.stage for j in again.jobs.values()]==[2, 2, 0]

@pytest.mark.skipif(os.geteuid() != 0, reason='needs to mount a small disk')
def test_a_full_disk(small, tmp_path):
    (d := tmp_path / 'small_disk').mkdir()
    subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', d], check=True)
    try:
        plan = make_plan(d/'p', [Job(small, {})]); k, = plan.jobs
        (d/'filler').write_bytes(b'x'*(256*1024 - sum(p.stat().st_blocks*512 for p in d.rglob('*')) - 8192))
        try: end = run_job(plan, k)
        except ECGError as e: assert 'cannot be written' in str(e)
        else: assert end != 'done'
        assert result_of(plan.folder(k)) is None
        (d/'filler').unlink(); assert run_job(plan, k)=='done'
    finally: subprocess.run(['umount', '-l', d], check=True)

@pytest.mark.skipif(os.geteuid() != 0, reason='needs to mount')
def test_read_only(small, tmp_path):
    (d := tmp_path/'disk').mkdir(); subprocess.run(['mount', '-t', 'tmpfs', 'tmpfs', d], check=True)
    try:
        plan = make_plan(d/'p', [Job(small, {})]); k, = plan.jobs
        subprocess.run(['mount', '-o', 'remount,ro', d], check=True)
        with pytest.raises(ECGError, match='cannot be written'): run_job(plan, k)
        with pytest.raises(ECGError, match='cannot be written'): make_plan(d/'q', [Job(small, {})])
        assert status(plan).state.iloc[0]=='missing'
    finally: subprocess.run(['umount', '-l', d], check=True)

# The notebooks themselves are run with all others, by `nbdev-test`; here one is run as a job is
PAPERMILL = [sys.executable, '-m', 'ecg_arrhythmia.jobs.notebooks']
QUICK, DEAR = ['train'], ['prepare', 'evaluate', 'embed', 'search', 'retrain', 'explain', 'report', 'peers', 'finish', 'compare']

@pytest.mark.parametrize('name', [*QUICK, *(pytest.param(n, marks=pytest.mark.slow) for n in DEAR)])
def test_job_notebooks(name, tmp_path):
    "Each runs as it is, from another folder"
    r = subprocess.run(
        [*PAPERMILL, str(job_notebook(name)), 'out.ipynb', '--no-progress-bar'],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=3600,
    )
    assert r.returncode == 0, r.stderr[-800:]
    assert result_of(tmp_path / 'runs' / name)

def test_parameters_refused(tmp_path):
    "By papermill itself once, and by what a plan asks"
    command = [*PAPERMILL, job_notebook('train'), 'out.ipynb', '--no-progress-bar', '-p', 'epoch', '3']
    r = subprocess.run(list(map(str, command)), cwd=tmp_path, capture_output=True, text=True, timeout=3600)
    assert r.returncode == 1 and "do you mean 'epochs'" in r.stderr
    with pytest.raises(ECGError, match='epochs must be int'): check_params(job_notebook('train'), dict(epochs='many'))
    with pytest.raises(ECGError, match="do you mean 'results'"): check_params(job_notebook('report'), dict(result='r'))

@pytest.mark.parametrize('name', sorted(p.stem for p in job_notebook('train').parent.glob('[a-z]*.ipynb')))
def test_every_job_refuses(name):
    "Unknown names and other types, without running anything"
    check_params(job_notebook(name), dict(out='x'))
    with pytest.raises(ECGError, match="unknown parameter 'outt', do you mean 'out'"):
        check_params(job_notebook(name), dict(outt='x'))
    with pytest.raises(ECGError, match='out must be str'): check_params(job_notebook(name), dict(out=3))

def test_environment_of_a_node(tmp_path, monkeypatch):
    "As many threads as cores were given, caches on the disk of the node unless they are somewhere already"
    for k in (
        'SLURM_JOB_ID',
        'SLURM_CPUS_PER_TASK',
        'OMP_NUM_THREADS',
        'SLURM_TMPDIR',
        'TMPDIR',
        'MPLCONFIGDIR',
        'TRITON_CACHE_DIR',
    ):
        monkeypatch.delenv(k, raising=False)
    here = J._environment()
    assert (
        here['TQDM_DISABLE'] == '1'
        and 'inline' in here['MPLBACKEND']
        and 'OMP_NUM_THREADS' not in here
        and 'MPLCONFIGDIR' not in here
    )
    for k, v in dict(
        SLURM_JOB_ID='7', SLURM_CPUS_PER_TASK='3', TMPDIR=str(tmp_path), TRITON_CACHE_DIR='mine'
    ).items():
        monkeypatch.setenv(k, v)
    there = J._environment()
    assert (
        there['OMP_NUM_THREADS'] == there['MKL_NUM_THREADS'] == '3'
        and Path(there['MPLCONFIGDIR']).parent.parent == tmp_path
        and Path(there['IPYTHONDIR']).exists()
        and 'TRITON_CACHE_DIR' not in there
    )

def test_a_store_is_copied_to_the_node_when_asked(data, tmp_path, monkeypatch):
    (tmp_path / 'node').mkdir()
    monkeypatch.setenv('SLURM_TMPDIR', str(tmp_path / 'node'))
    monkeypatch.delenv('ECG_COPY', raising=False)
    assert str(open_data(*data, tmp_path)[0].path)==data[0] and not list((tmp_path/'node').iterdir())
    asked = open_data(*data, tmp_path, copy=True)[0]
    assert asked.path.parent==tmp_path/'node' and asked.digest==open_data(*data, tmp_path)[0].digest
    monkeypatch.setenv('ECG_COPY', '1') # as the batch script of `ecg_submit --copy` says
    assert open_data(*data, tmp_path)[0].path==asked.path

def test_what_the_batch_script_says(small, tmp_path):
    plan = make_plan(tmp_path / 'p', [Job(small, dict(n=i)) for i in range(2)])
    said, plain = (
        submit(plan, r, dry_run=True)[0]
        for r in (
            Request(copy=True, cache=str(tmp_path / 'my weights'), account='cardiology', throttle=1),
            Request(),
        )
    )
    assert (
        'export ECG_COPY=1\n' in said
        and f"export TORCH_HOME='{tmp_path}/my weights'\n" in said
        and '#SBATCH --account=cardiology\n' in said
        and '--array=0-1%1\n' in said
    )
    assert (
        'ECG_COPY' not in plain
        and 'TORCH_HOME' not in plain
        and 'account' not in plain
        and subprocess.run(['bash', '-n'], input=said, text=True).returncode == 0
    )

def test_files_of_a_run_are_found_from_the_folder_where_it_was_planned(tmp_path, monkeypatch):
    "A run works in the folder of the plan; weights may also be a word"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'executable', shutil.which('false'))  # nothing is run, only prepared
    Path('w.safetensors').touch()
    plan = make_plan(
        'p',
        [
            Job('search', dict(store='charts.lmdb', weights=w))
            for w in ('w.safetensors', 'imagenet', 'gone.pth')
        ],
    )
    for k in plan.jobs:
        assert run_job(plan, k) == 'exception'
    given = [yaml.safe_load((plan.folder(k) / 'params.yaml').read_text()) for k in plan.jobs]
    assert [g['weights'] for g in given] == [str(tmp_path / 'w.safetensors'), 'imagenet', 'gone.pth'] and {
        g['store'] for g in given
    } == {str(tmp_path / 'charts.lmdb')}

def test_a_dry_run_shows_which_array_waits_for_which(small, tmp_path):
    plan = make_plan(tmp_path/'p', [Job(small, dict(n=i), stage=i//2) for i in range(5)])
    waits = lambda: [re.findall(r'afterany:(\S+)', s) for s in submit(plan, dry_run=True)]
    assert waits()==[[], ['JOB0'], ['JOB1']] and not (plan.path/'slurm').exists()
    for k in list(plan.jobs)[2:4]: publish(plan.folder(k)) # nothing of the second stage is missing
    (plan.path/'slurm/0').mkdir(parents=True)              # and something was submitted before
    assert waits()==[[], ['JOB1']] and 'slurm/2/tasks.txt' in submit(plan, dry_run=True)[1]

@pytest.mark.parametrize('wrong', [-7200, 7200])
def test_a_wrong_clock_judges_nobody(small, tmp_path, monkeypatch, wrong):
    """Two hours early or late, on the node or where one looks: signs of life are compared with a file
    made just now, both by the clock of the file system"""
    plan = make_plan(tmp_path / 'p', [Job(small, dict(n=i)) for i in range(3)])
    alive, dead, quiet = map(plan.folder, plan.jobs)
    for f, ago in ((alive, 20), (dead, 90), (quiet, 90)):
        (f / 'attempts').mkdir(parents=True)
        note = f / 'attempts/001.json'
        note.write_text(
            json.dumps(dict(n=1, token='1-a', host='a', begun=time.time() + wrong))
        )  # by a node whose clock is wrong
        if f != quiet:
            (f / 'alive').touch()
        for p in (note, f / 'alive'):
            if p.exists():
                os.utime(p, (time.time() - ago,) * 2)
    assert status(plan).state.tolist() == ['running', 'lost', 'lost']
    real = time.time
    monkeypatch.setattr(time, 'time', lambda: real() + wrong)
    assert status(plan).state.tolist() == ['running', 'lost', 'lost']

def test_a_space_counts_with_its_content(tmp_path):
    for name, lr in (('a', 0.1), ('b', 0.1), ('c', 0.2)):
        (tmp_path / f'{name}.yaml').write_text(f'bayes: {{space: {{lr: [{lr}]}}}}')
    a, b, c = (Job('search', dict(space=str(tmp_path/f'{n}.yaml'))).id for n in 'abc')
    assert a==b != c

def test_earlier_stages_are_read_once_an_array(tmp_path, monkeypatch):
    import ecg_arrhythmia.jobs.slurm as slurm
    plan = make_plan(tmp_path/'plan', [Job('train', dict(seed=s)) for s in range(3)] + [Job('evaluate', dict(run='a'), 1)])
    early, note, read = [k for k,j in plan.jobs.items() if not j.stage], tmp_path/'before-done', []
    monkeypatch.setattr(slurm, 'result_of', lambda f: read.append(f.name) or result_of(f))
    def done(k): plan.folder(k).mkdir(parents=True); (plan.folder(k)/'DONE').write_text('{}')
    done(early[0])
    assert slurm._not_done(plan, 1, note)==early[1] and not note.exists() and read==early[:2]
    for k in early[1:]: done(k)
    assert slurm._not_done(plan, 1, note) is None and slurm._not_done(plan, 0, note) is None and note.exists()
    read.clear()
    assert slurm._not_done(plan, 1, note) is None and read==[]
    plan = make_plan(tmp_path/'plan', [Job('train', dict(seed=9))]) # a run that came later is asked for
    assert slurm._not_done(plan, 1, note)==Job('train', dict(seed=9)).id


def test_an_edited_notebook_is_another_run(small, tmp_path):
    "An output does not count, code does; the old result stays on disk, and nothing runs with what was not planned"
    plan = make_plan(tmp_path/'p', [Job(small, {})])
    k, = plan.jobs
    assert run_job(plan, k)=='done'
    nb = json.loads(Path(small).read_text())
    nb['cells'][1]['outputs'] = [dict(output_type='stream', name='stdout', text='seen')]
    Path(small).write_text(json.dumps(nb))
    assert Job(small, {}).id==k
    nb['cells'][1]['source'] += '\n# edited'
    Path(small).write_text(json.dumps(nb))
    again = make_plan(tmp_path/'p', [Job(small, {})])
    assert len(again)==1 and k not in again.jobs and status(again).state.tolist()==['missing']
    assert result_of(tmp_path/'p/runs'/k)
    nb['cells'][1]['source'] += ', again'
    Path(small).write_text(json.dumps(nb))
    with pytest.raises(ECGError, match='small.ipynb: changed since'): run_plan(again)

def test_weights_count_with_their_content(tmp_path):
    w = tmp_path/'w.safetensors'
    def id_of(content):
        w.write_bytes(content)
        return Job('train', dict(weights=str(w))).id
    first, second = id_of(b'one'), id_of(b'other')
    (tmp_path/'moved.safetensors').write_bytes(b'one')
    assert first != second and Job('train', dict(weights=str(tmp_path/'moved.safetensors'))).id==first
    assert Job('train', dict(weights='imagenet')).id != Job('train', dict(weights=None)).id

PLANNER = """
import sys
from ecg_arrhythmia.jobs import Job, make_plan
start, n = int(sys.argv[3]), 60
for i in range(start, start+n, 10): make_plan(sys.argv[1], [Job(sys.argv[2], dict(n=k)) for k in range(i, i+10)])"""

def test_weights_of_all_folds_count_with_their_content(tmp_path):
    "A search writes its starting weights to a file for each fold; other weights there are other runs"
    from ecg_arrhythmia.jobs.plan import content_of
    (tmp_path/'start').mkdir()
    for k in (0, 1): (tmp_path/f'start/{k}.safetensors').write_bytes(b'one')
    job = Job('train', dict(weights=str(tmp_path/'start/{fold}.safetensors')))
    first = job.id
    assert make_plan(tmp_path/'plan', [job]).contents[job.params['weights']]==content_of('weights', job.params['weights'])
    (tmp_path/'start/1.safetensors').write_bytes(b'other')
    assert job.id != first
    with pytest.raises(ECGError, match='changed since'): check_unchanged(Plan(tmp_path/'plan'))

def test_recordings_of_a_report_count_with_their_content(tmp_path):
    from ecg_arrhythmia.jobs.plan import content_of
    data = simulate_dataset(tmp_path/'data', counts=dict(SR=1, AFIB=1), seed=1, workers=0, progress=False)
    copy = shutil.copytree(data, tmp_path/'copy')
    assert content_of('data', copy)==content_of('data', data)
    (copy/'Diagnostics.xlsx').unlink()
    assert content_of('data', copy)!=content_of('data', data)

def test_two_that_plan_at_once_lose_nothing(small, tmp_path):
    command = [sys.executable, '-W', 'ignore', '-c', PLANNER, tmp_path/'p', small]
    both = [subprocess.Popen([*command, str(start)]) for start in (0, 60)]
    assert [p.wait(120) for p in both]==[0, 0]
    assert sorted(j.params['n'] for j in Plan(tmp_path/'p').jobs.values())==list(range(120))

def test_kinds_of_plans(data, tmp_path):
    "Every kind, from Python; what is missing is said"
    from dataclasses import replace
    from ecg_arrhythmia.jobs import PlanSettings, grid_jobs, refine_jobs, search_jobs, seed_jobs, study_jobs
    from ecg_arrhythmia.search import TEMPLATE
    (tmp_path/'space.yaml').write_text(TEMPLATE)
    wanted = PlanSettings(*data, n=3)
    seeds = seed_jobs(wanted)
    assert len(seeds)==9 and {j.params['fold'] for j in seeds}=={0, 1, 2} and len({j.params['seed'] for j in seeds})==3
    for kind in (grid_jobs, refine_jobs, search_jobs, study_jobs):
        with pytest.raises(ECGError, match='a search space is needed'): kind(wanted)
    wanted = replace(wanted, space=tmp_path/'space.yaml')
    with pytest.raises(ECGError, match='folder of the search'): study_jobs(wanted)
    recordings = simulate_dataset(tmp_path/'data', counts=dict(SR=1), seed=1, workers=0, progress=False)
    wanted = replace(wanted, search=tmp_path/'search', data=recordings, folds=1, stage=2)
    heads = grid_jobs(wanted)
    assert len(heads)==len({j.id for j in heads}) > 10 and {j.stage for j in heads}=={2}
    assert [j.params['slot'] for j in search_jobs(wanted)]==[0, 1, 2]
    study = study_jobs(wanted)
    assert (
        [j.stage for j in study] == sorted(j.stage for j in study)
        and study[-1].notebook == 'report'
        and study[-2].notebook == 'retrain'
    )
    make_plan(tmp_path/'p', study) # their notebooks take the parameters
    several = study_jobs(replace(wanted, arch='resnet18,resnet50', seeds=2, explain=1, cost='quick'))
    ends = {j.stage: j.notebook for j in several}
    assert [ends[k] for k in sorted(ends)][-4:]==['retrain', 'finish', 'report', 'compare']
    assert len({j.params['search'] for j in several if j.notebook=='finish'})==2, 'each has its own search'
    make_plan(tmp_path/'several', several)
    nothing = study_jobs(replace(wanted, data=tmp_path/'p'))
    with pytest.raises(ECGError, match='no recordings'): make_plan(tmp_path/'q', nothing)

def test_the_next_run_of_a_large_plan_takes_no_look_at_all_others(tmp_path, monkeypatch):
    jobs = {f'{i:04}': SimpleNamespace(stage=i//300) for i in range(600)}
    done = {k for k in jobs if int(k)%2==0} # by an earlier call
    class SomePlan:
        path = tmp_path
        def __init__(self): self.jobs = jobs
        def __len__(self): return len(jobs)
        def folder(self, k): return tmp_path/k
    looks = []
    def state(folder, now):
        looks.append(folder.name)
        return 'done' if folder.name in done else 'missing', 0, ''
    monkeypatch.setattr(J, '_state', state)
    monkeypatch.setattr(J, 'begins', lambda plan, k, said: said=='missing')
    monkeypatch.setattr(J._Queue, 'is_done', lambda self, k: k in done)
    queue, taken = J._Queue(SomePlan()), []
    while (k := queue.take()):
        taken.append(k)
        done.add(k)
        assert queue.end(k)==len(done)
    assert taken==[k for k in jobs if int(k)%2] and len(looks)==len(taken)

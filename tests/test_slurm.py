"Plans on a real Slurm with two nodes (it is skipped where there is none), and jobs that are killed, fenced and starved here"
import json, os, shutil, signal, subprocess, sys, time
from collections import Counter
from pathlib import Path

import pytest

from ecg_arrhythmia import jobs as J
from ecg_arrhythmia.catalogue import catalogue
from ecg_arrhythmia.jobs import *
from ecg_arrhythmia.labels import label, make_split, save_split
from ecg_arrhythmia.recipe import recipe
from ecg_arrhythmia.recordings import ECGError
from ecg_arrhythmia.simulate import simulate_dataset
from ecg_arrhythmia.slurm import Request, batch_script, cluster_status, in_queue, run_task, submit
from ecg_arrhythmia.store import pack

def sh(*c): return subprocess.run(c, capture_output=True, text=True, check=True).stdout
def nodes():
    try: return sum(line.split()[1] in ('idle', 'mixed', 'allocated') for line in sh('sinfo', '-h', '-N', '-o', '%N %T', '-p', 'main').splitlines())
    except (OSError, subprocess.CalledProcessError): return 0
START = Path(os.environ.get('ECG_SLURM', Path(__file__).parents[2]/'shared/hpc/start-slurm.sh'))
cluster = pytest.mark.skipif(nodes() < 2 or not START.exists(), reason='no Slurm with two nodes')

def wait(what, seconds=600, step=1.):
    until = time.time() + seconds
    while time.time() < until:
        got = what()
        if hasattr(got, 'columns') or got: return got # a table has no truth
        time.sleep(step)
    raise TimeoutError(what)

@pytest.fixture(scope='module')
def data(tmp_path_factory):
    d = tmp_path_factory.mktemp('slurm')
    cat = catalogue(simulate_dataset(d/'data', 132, workers=1, progress=False))
    store = pack(cat, d/'s.lmdb', size=(64, 256), limits=None, progress=False)
    save_split(make_split(label(store), n_folds=3), d/'split.json')
    return str(store.path), str(d/'split.json')

def kernel_of(folder):
    "The process of the kernel that works at a run"
    for p in Path('/proc').glob('[0-9]*'):
        try:
            if b'ipykernel' in (p/'cmdline').read_bytes() and f'ECG_ATTEMPT={folder}:'.encode() in (p/'environ').read_bytes(): return int(p.name)
        except OSError: pass

def ends(plan): return Counter(a.get('end', 'none') for k in plan.jobs for a in J._attempts(plan.folder(k)))
def epochs(folder): return [int(l.split()[1]) for l in (folder/'epochs.log').read_text().splitlines()] if (folder/'epochs.log').exists() else []

@cluster
def test_a_grid_survives(data, tmp_path):
    "A node dies while its job lives on, a kernel dies, a task is requeued, preempted, meets its time limit (Slurm warns of it when it likes): every run is done, each epoch trained once"
    study = lambda **kw: recipe('study', scheduler='none', keep='last', **kw)
    long, short = [training_jobs([study(lr=2e-3, epochs=e)], *data)[0] for e in (160, 24, 25)], training_jobs([study(lr=lr, epochs=2) for lr in (1e-4, 1e-3, 1e-2)], *data, folds=range(3), stage=1)
    plan = make_plan(tmp_path/'plan', long + short)
    first, second, third = (plan.folder(j.id) for j in long)
    assert len(plan)==12
    submit(plan, Request(time='2', cpus=2, warn=30))
    assert submit(plan)==[], 'submitting twice submits nothing'
    alive = lambda f, n=2: (a := J._attempts(f)) and 'end' not in a[-1] and sum(l.startswith(a[-1]['token']) for l in ((f/'epochs.log').read_text() if (f/'epochs.log').exists() else '').splitlines()) >= n and a[-1]
    task_of = lambda f: '{array_job_id}_{array_task_id}'.format(**J._attempts(f)[-1]['slurm'])
    lost = wait(lambda: alive(first), 120, .3)['host']
    wait(lambda: alive(second, 1), 120, .3)
    sh('pkill', '-9', '-f', f'slurmd.*-N {lost}') # the node is gone, its job lives on
    os.kill(kernel_of(second), signal.SIGKILL)
    wait(lambda: alive(third, 1), 120, .3); sh('scontrol', 'requeue', task_of(third))
    wait(lambda: len(J._attempts(first)) > 1 or (first/'DONE').exists(), 240) # given up by Slurm, and begun on the other node, unless its orphan was quicker
    wait(lambda: J._attempts(first)[0].get('end') in ('fenced', 'done'), 60)
    sh('sh', str(START)) # the node comes back
    host = wait(lambda: next((a for k in plan.jobs if (a := alive(plan.folder(k), 1))), None), 300, .3)['host']
    sh('sbatch', '--parsable', '-p', 'high', '-c', '2', '-w', host, '-o', '/dev/null', '--wrap', 'sleep 1')
    wait(lambda: (cluster_status(plan).state=='done').all() and all('end' in J._attempts(plan.folder(k))[-1] for k in plan.jobs), 900, 3)
    for k in plan.jobs:
        seen, folder = epochs(plan.folder(k)), plan.folder(k)
        assert sorted(seen)==sorted(set(seen)), f'{k}: an epoch was trained twice: {seen}'
        done, result = json.loads((folder/'DONE').read_text()), json.loads((folder/'run/result.json').read_text())
        assert result['epochs']==plan.jobs[k].params['epochs'] and done['macro_f1']==pytest.approx(result['macro_f1'])
        assert sum(a.get('end')=='done' for a in J._attempts(folder))==1
    found, why = ends(plan), [a.get('why', '')[:7] for k in plan.jobs for a in J._attempts(plan.folder(k)) if a.get('end')=='stopped']
    print(dict(found), why, sum(len(J._attempts(plan.folder(k))) for k in plan.jobs), "attempts")
    assert found['done']==12 and found['killed']==1 and (found['fenced']==1 or len(J._attempts(first))==1) and why.count('SIGTERM') >= 1
    assert len(collect(plan))==12 and submit(plan)==[]

@cluster
def test_a_search_on_two_nodes(data, tmp_path):
    "Two slots, one kernel killed in a trial: exactly the budget, each trial once, nothing left running"
    import optuna
    from ecg_arrhythmia.search import open_study
    from ecg_arrhythmia.space import read_space
    from ecg_arrhythmia.store import ChartStore
    from ecg_arrhythmia.labels import load_split
    (space := tmp_path/'space.yaml').write_text('bayes:\n  trials: 8\n  startup: 3\n  warmup: 1\n  min_trials: 1\n  fixed: {epochs: 3, batch_size: 16, augment: false}\n  space:\n    lr: {log: [1e-4, 1e-2]}\n    optimizer: [adam, sgd]\n')
    plan = make_plan(tmp_path/'plan', [Job('search', dict(space=str(space), store=data[0], split=data[1], study=str(tmp_path/'study'), slot=i)) for i in (0, 1)])
    submit(plan, Request(time='10', cpus=2))
    victim = wait(lambda: next((plan.folder(k) for k in plan.jobs if len(epochs(plan.folder(k))) > 1 and kernel_of(plan.folder(k))), None), 180, .2)
    os.kill(kernel_of(victim), signal.SIGKILL)
    wait(lambda: (cluster_status(plan).state=='done').all(), 600, 2)
    study = open_study(None, ChartStore(data[0]), load_split(data[1]), tmp_path/'study'/'bayes')
    assert [t.number for t in study.trials]==list(range(8)) and all(t.state.is_finished() for t in study.trials) and not any(t.state.name=='FAIL' for t in study.trials)
    assert ends(plan)['killed']==1 and {r['trials'] for r in map(result_of, map(plan.folder, plan.jobs))} <= {7, 8}

@cluster
def test_failures_are_said(data, tmp_path):
    "An exception is not retried, and its last words are in the status"
    plan = make_plan(tmp_path/'plan', [Job('train', dict(store=data[0], split=data[1], arch='resnet', epochs=1))])
    submit(plan, Request(cpus=1))
    table = wait(lambda: (s := cluster_status(plan)).state.iloc[0]=='exception' and s, 120)
    assert "unknown architecture 'resnet'" in table.why.iloc[0] and submit(plan)==[] and table.attempts.iloc[0]==1

@cluster
def test_out_of_memory_is_said(data, tmp_path):
    plan = make_plan(tmp_path/'plan', [Job('train', dict(store=data[0], split=data[1], epochs=50))])
    submit(plan, Request(cpus=1, mem='300M'))
    table = wait(lambda: (s := cluster_status(plan)).why.str.contains('out of memory').all() and s, 120)
    assert table.state.iloc[0]=='killed' and len(submit(plan, Request(cpus=1)))==1, 'with more memory it is done'
    wait(lambda: cluster_status(plan).state.iloc[0]=='done', 180)

# --- without a cluster

NOTE = "out: str = 'run'\nseconds: float = 0.\nfail: str = ''"
BODY = """import os, signal, time
from ecg_arrhythmia.jobs import publish
from ecg_arrhythmia.runs import check_attempt
if fail=='die': os.kill(os.getpid(), signal.SIGKILL)
if fail=='raise': raise ValueError('as asked')
until = time.time() + seconds
while time.time() < until: time.sleep(.1); check_attempt()
if fail != 'silent': publish(out, pid=os.getpid())"""

@pytest.fixture
def small(tmp_path):
    cell = lambda i, s, tags=(): dict(cell_type='code', id=i, metadata=dict(tags=list(tags)), execution_count=None, outputs=[], source=s)
    (p := tmp_path/'small.ipynb').write_text(json.dumps(dict(nbformat=4, nbformat_minor=5, metadata=dict(kernelspec=dict(name='python3', display_name='python3', language='python'), language_info=dict(name='python')), cells=[cell('a', NOTE, ['parameters']), cell('b', BODY)])))
    return str(p)

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

@pytest.mark.parametrize('fail,end,why', [('die', 'killed', 'memory'), ('raise', 'exception', 'ValueError: as asked'), ('silent', 'exception', 'publish')])
def test_ends(small, tmp_path, fail, end, why):
    plan = make_plan(tmp_path/'p', [Job(small, dict(fail=fail))]); k, = plan.jobs
    assert run_job(plan, k)==end and (row := status(plan).loc[k]).state==end and why in row.why
    table = run_plan(plan)
    assert table.attempts.iloc[0]==(2 if end=='killed' else 1)

def test_asked_to_stop_and_gone_on(small, tmp_path):
    plan = make_plan(tmp_path/'p', [Job(small, dict(seconds=s)) for s in (.1, 30.)])
    code = f'from ecg_arrhythmia.jobs import *; print(run_plan(Plan({str(tmp_path/"p")!r}), 2).state.tolist())'
    p = subprocess.Popen([sys.executable, '-W', 'ignore', '-c', code], stdout=subprocess.PIPE, text=True)
    wait(lambda: sum((plan.folder(k)/'owner').exists() for k in plan.jobs)==2 and any(result_of(plan.folder(k)) for k in plan.jobs), 60, .2)
    p.send_signal(signal.SIGTERM); out, _ = p.communicate(timeout=30)
    assert sorted(status(plan).state)==['done', 'stopped'], out

def test_every_run_of_a_plan_is_checked(small, tmp_path):
    with pytest.raises(ECGError, match="do you mean 'seconds'"): make_plan(tmp_path/'p', [Job(small, dict(seconds=1.)), Job(small, dict(second=1.))])
    with pytest.raises(ECGError, match='seconds must be float'): make_plan(tmp_path/'p', [Job(small, dict(seconds=1.)), Job(small, dict(seconds='1'))])
    assert not (tmp_path/'p/plan.json').exists()

def test_stages_and_adding_runs(small, tmp_path):
    plan = make_plan(tmp_path/'p', [Job(small, dict(seconds=.2), 1), Job(small, dict(seconds=.1), 0)])
    run_plan(plan, 2)
    folder = {j.stage: plan.folder(k) for k,j in plan.jobs.items()}
    assert J._attempts(folder[1])[0]['begun'] >= (folder[0]/'DONE').stat().st_mtime - .1, 'published, not its process gone, is what the next stage waits for'
    more = make_plan(tmp_path/'p', [Job(small, dict(seconds=.3), 2)])
    assert len(more)==3 and set(plan.jobs) < set(more.jobs) and list(status(more).state).count('done')==2

def test_the_same_data_elsewhere_is_the_same_run(data, tmp_path):
    shutil.copy(data[0], tmp_path/'copy.lmdb'); shutil.copy(data[1], tmp_path/'copy.json')
    assert Job('train', dict(store=data[0], split=data[1])).id==Job('train', dict(store=str(tmp_path/'copy.lmdb'), split=str(tmp_path/'copy.json'))).id != Job('train', dict(store=data[0], split=data[1], seed=1)).id

@pytest.mark.skipif(os.geteuid() != 0, reason='needs to mount a small disk')
def test_a_full_disk(small, tmp_path):
    (d := tmp_path/'small_disk').mkdir(); subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', d], check=True)
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

@pytest.mark.parametrize('name', ['prepare', 'embed', 'train', 'search', 'retrain', 'evaluate'])
def test_job_notebooks(name, tmp_path):
    "Each runs as it is, from another folder, within a minute"
    r = subprocess.run([sys.executable, '-m', 'papermill', str(job_notebook(name)), 'out.ipynb', '--no-progress-bar'], cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert r.returncode==0, r.stderr[-800:]
    assert result_of(tmp_path/'runs'/name)

def test_parameters_refused(tmp_path):
    for args,says in ((('-p', 'epoch', '3'), "do you mean 'epochs'"), (('-p', 'epochs', 'many'), 'epochs must be int')):
        r = subprocess.run([sys.executable, '-m', 'papermill', str(job_notebook('train')), 'out.ipynb', '--no-progress-bar', *args], cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert r.returncode==1 and says in r.stderr

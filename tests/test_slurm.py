"Plans on a real Slurm with two nodes (it is skipped where there is none), and jobs that are killed, fenced and starved here"
import json, os, re, shutil, signal, subprocess, sys, time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

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
    store = pack(cat, d/'s.lmdb', 'strip', size=(64, 256), limits=None, progress=False)
    save_split(make_split(label(store), n_folds=3), d/'split.json')
    return str(store.path), str(d/'split.json')

def kernel_of(folder):
    "The process of the kernel that works at a run"
    for p in Path('/proc').glob('[0-9]*'):
        try:
            if b'ipykernel' in (p/'cmdline').read_bytes() and f'ECG_ATTEMPT={folder}:'.encode() in (p/'environ').read_bytes(): return int(p.name)
        except OSError: pass

def ends(plan): return Counter(a.get('end', 'none') for k in plan.jobs for a in J._attempts(plan.folder(k)))
def check_record(folder, figures):
    "An executed notebook holds its figures, whatever display the shell asks for, and no bars flood the log"
    shown = [o.get('data', {}) for c in json.loads(max(folder.glob('[0-9]*.ipynb')).read_text())['cells'] for o in c.get('outputs', [])]
    log = ''.join(p.read_text() for p in folder.glob('[0-9]*.log'))
    assert sum('image/png' in o for o in shown)==figures and not any(w in log for w in ('it/s', 's/it', '%|', '\r')) and len(log.splitlines()) < 500
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
    for j in short: check_record(plan.folder(j.id), 3) # curves, confusion, charts

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
    for k in plan.jobs: check_record(plan.folder(k), 1)
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

# --- small jobs, on a cluster and without

NOTE = "out: str = 'run'\nseconds: float = 0.\nfail: str = ''\nn: int = 0"
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

STEPS = """import time
from pathlib import Path
import torch
from ecg_arrhythmia.jobs import publish
from ecg_arrhythmia.runs import check_attempt
log = Path(out)/'steps.log' # a line is a step that is done and saved
while not (Path(out)/'enough').exists():
    time.sleep(.2); check_attempt()
    with open(log, 'a') as f: f.write(f'{len(log.read_text().split())}\\n')
publish(out, steps=len(log.read_text().split()), threads=torch.get_num_threads())"""

@pytest.fixture
def stepping(small):
    p = Path(small).with_name('stepping.ipynb'); p.write_text(Path(small).read_text().replace(json.dumps(BODY), json.dumps(STEPS)))
    return str(p)

@contextmanager
def slurm_conf(line):
    "Another line in Slurm's configuration for a moment"
    conf = Path('/etc/slurm/slurm.conf'); was = conf.read_text()
    conf.write_text(f'{was}{line}\n'); sh('scontrol', 'reconfigure')
    try: yield
    finally: conf.write_text(was); sh('scontrol', 'reconfigure')

@cluster
@pytest.mark.slow # some two minutes of waiting, and CI has 25
def test_arrays_and_preemption(small, stepping, tmp_path):
    "On one node a plan that is larger than an array may be: split, throttled, with an account. On the other a run is preempted twice: told when its grace ends, and told when it begins"
    many = make_plan(tmp_path/'many', [Job(small, dict(n=i, seconds=.5)) for i in range(5)])
    sh('scancel', sh('sbatch', '--parsable', '--hold', '--array=0-3', '-o', '/dev/null', '--wrap', 'true').strip()) # slurmctld holds to the limit of its first array as long as it lives
    with slurm_conf('MaxArraySize=3'): arrays = submit(many, Request(cpus=1, mem='1500M', throttle=1, account='cardiology', more=('--nodelist=node1',)))
    assert len(arrays)==2 and [len((many.path/f'slurm/{i}/tasks.txt').read_text().split()) for i in (0, 1)]==[3, 2]
    of = sh('squeue', '-h', '-r', '-o', '%F %a %i %E', '-j', ','.join(arrays)).splitlines()
    assert len(of)==5 and all(l.split()[1]=='cardiology' for l in of) and all(('afterany:'+arrays[0] in l)==(l.startswith(arrays[1])) for l in of), of

    one = make_plan(tmp_path/'one', [Job(stepping, {})]); k, = one.jobs; folder = one.folder(k)
    submit(one, Request(cpus=2, mem='1500M', time='30', more=('--nodelist=node2',)))
    steps = lambda: (folder/'steps.log').read_text().split() if (folder/'steps.log').exists() else []
    urgent = lambda: sh('sbatch', '--parsable', '-p', 'high', '-c', '2', '-w', 'node2', '-o', '/dev/null', '--wrap', 'true')
    wait(lambda: len(steps()) > 2, 120, .2)
    urgent(); begun = time.time() # as Slurm does by itself: nothing is said to the batch script before the grace is over, then SIGTERM
    wait(lambda: [*folder.glob('stop-1-*')], 60, .1)
    assert time.time() - begun > 8
    wait(lambda: 'end' in J._attempts(folder)[0], 60, .2)
    n = len(steps())
    wait(lambda: len(steps()) > n + 2, 120, .2)
    with slurm_conf('SlurmctldParameters=preempt_send_user_signal'): # the batch script gets its signal when the grace begins; slurmctld holds to that as long as it lives, so this comes second
        urgent(); begun = time.time()
        wait(lambda: [*folder.glob('stop-2-*')], 60, .1)
    assert time.time() - begun < 8, 'well within the grace of 10 s'
    wait(lambda: 'end' in J._attempts(folder)[1], 60, .2)
    (folder/'enough').touch()
    wait(lambda: cluster_status(one).state.iloc[0]=='done' and 'end' in J._attempts(folder)[-1], 120)
    tries = J._attempts(folder)
    assert [a['end'] for a in tries]==['stopped', 'stopped', 'done'] and tries[0]['why'].startswith('SIGTERM') and tries[1]['why'].startswith('SIGUSR1')
    assert steps()==[str(i) for i in range(len(steps()))], 'no step twice, none lost'
    assert [a['slurm']['restart_count'] if 'restart_count' in a['slurm'] else '0' for a in tries]==['0', '1', '2'] and result_of(folder)['threads']==2
    (mine := wait(lambda: (s := cluster_status(many)).state.eq('done').all() and all('end' in J._attempts(many.folder(i))[-1] for i in many.jobs) and s, 120))
    spans = sorted((a['begun'], a['ended']) for i in many.jobs for a in J._attempts(many.folder(i)))
    assert len(spans)==5 and mine.attempts.eq(1).all() and all(b[0] >= a[1] for a,b in zip(spans, spans[1:])), 'one at a time'
    assert submit(many)==[]

# --- without a cluster

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

@pytest.mark.parametrize('name', ['prepare', 'embed', 'train', 'search', 'retrain', 'evaluate', 'explain', 'report'])
def test_job_notebooks(name, tmp_path):
    "Each runs as it is, from another folder, within a minute"
    r = subprocess.run([sys.executable, '-m', 'papermill', str(job_notebook(name)), 'out.ipynb', '--no-progress-bar'], cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert r.returncode==0, r.stderr[-800:]
    assert result_of(tmp_path/'runs'/name)

def test_parameters_refused(tmp_path):
    for name,args,says in (('train', ('-p', 'epoch', '3'), "do you mean 'epochs'"), ('train', ('-p', 'epochs', 'many'), 'epochs must be int'), ('report', ('-p', 'result', 'r'), "do you mean 'results'")):
        r = subprocess.run([sys.executable, '-m', 'papermill', str(job_notebook(name)), 'out.ipynb', '--no-progress-bar', *args], cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert r.returncode==1 and says in r.stderr

@pytest.mark.parametrize('name', sorted(p.stem for p in job_notebook('train').parent.glob('[a-z]*.ipynb')))
def test_every_job_refuses(name):
    "Unknown names and other types, without running anything"
    check_params(job_notebook(name), dict(out='x'))
    with pytest.raises(ECGError, match="unknown parameter 'outt', do you mean 'out'"): check_params(job_notebook(name), dict(outt='x'))
    with pytest.raises(ECGError, match='out must be str'): check_params(job_notebook(name), dict(out=3))

def test_environment_of_a_node(tmp_path, monkeypatch):
    "As many threads as cores were given, caches on the disk of the node unless they are somewhere already"
    for k in ('SLURM_JOB_ID', 'SLURM_CPUS_PER_TASK', 'SLURM_TMPDIR', 'TMPDIR', 'MPLCONFIGDIR', 'TRITON_CACHE_DIR'): monkeypatch.delenv(k, raising=False)
    here = J._environment()
    assert here['TQDM_DISABLE']=='1' and 'inline' in here['MPLBACKEND'] and 'OMP_NUM_THREADS' not in here and 'MPLCONFIGDIR' not in here
    for k,v in dict(SLURM_JOB_ID='7', SLURM_CPUS_PER_TASK='3', TMPDIR=str(tmp_path), TRITON_CACHE_DIR='mine').items(): monkeypatch.setenv(k, v)
    there = J._environment()
    assert there['OMP_NUM_THREADS']==there['MKL_NUM_THREADS']=='3' and Path(there['MPLCONFIGDIR']).parent.parent==tmp_path and Path(there['IPYTHONDIR']).exists() and 'TRITON_CACHE_DIR' not in there

def test_a_store_is_copied_to_the_node_when_asked(data, tmp_path, monkeypatch):
    (tmp_path/'node').mkdir(); monkeypatch.setenv('SLURM_TMPDIR', str(tmp_path/'node')); monkeypatch.delenv('ECG_COPY', raising=False)
    assert str(open_data(*data, tmp_path)[0].path)==data[0] and not list((tmp_path/'node').iterdir())
    asked = open_data(*data, tmp_path, copy=True)[0]
    assert asked.path.parent==tmp_path/'node' and asked.digest==open_data(*data, tmp_path)[0].digest
    monkeypatch.setenv('ECG_COPY', '1') # as the batch script of `ecg_submit --copy` says
    assert open_data(*data, tmp_path)[0].path==asked.path

def test_what_the_batch_script_says(small, tmp_path):
    plan = make_plan(tmp_path/'p', [Job(small, dict(n=i)) for i in range(2)])
    said, plain = (submit(plan, r, dry_run=True)[0] for r in (Request(copy=True, cache=str(tmp_path/'my weights'), account='cardiology', throttle=1), Request()))
    assert 'export ECG_COPY=1\n' in said and f"export TORCH_HOME='{tmp_path}/my weights'\n" in said and '#SBATCH --account=cardiology\n' in said and '--array=0-1%1\n' in said
    assert 'ECG_COPY' not in plain and 'TORCH_HOME' not in plain and 'account' not in plain and subprocess.run(['bash', '-n'], input=said, text=True).returncode==0

def test_files_of_a_run_are_found_from_the_folder_where_it_was_planned(tmp_path, monkeypatch):
    "A run works in the folder of the plan; weights may also be a word"
    monkeypatch.chdir(tmp_path); monkeypatch.setattr(sys, 'executable', shutil.which('false')) # nothing is run, only prepared
    Path('w.safetensors').touch()
    plan = make_plan('p', [Job('search', dict(store='charts.lmdb', weights=w)) for w in ('w.safetensors', 'imagenet', 'gone.pth')])
    for k in plan.jobs: assert run_job(plan, k)=='exception'
    given = [yaml.safe_load((plan.folder(k)/'params.yaml').read_text()) for k in plan.jobs]
    assert [g['weights'] for g in given]==[str(tmp_path/'w.safetensors'), 'imagenet', 'gone.pth'] and {g['store'] for g in given}=={str(tmp_path/'charts.lmdb')}

def test_a_dry_run_shows_which_array_waits_for_which(small, tmp_path):
    plan = make_plan(tmp_path/'p', [Job(small, dict(n=i), stage=i//2) for i in range(5)])
    waits = lambda: [re.findall(r'afterany:(\S+)', s) for s in submit(plan, dry_run=True)]
    assert waits()==[[], ['JOB0'], ['JOB1']] and not (plan.path/'slurm').exists()
    for k in list(plan.jobs)[2:4]: publish(plan.folder(k)) # nothing of the second stage is missing
    (plan.path/'slurm/0').mkdir(parents=True)              # and something was submitted before
    assert waits()==[[], ['JOB1']] and 'slurm/2/tasks.txt' in submit(plan, dry_run=True)[1]

@pytest.mark.parametrize('wrong', [-7200, 7200])
def test_a_wrong_clock_judges_nobody(small, tmp_path, monkeypatch, wrong):
    "Two hours early or late, on the node or where one looks: signs of life are compared with a file made just now, both by the clock of the file system"
    plan = make_plan(tmp_path/'p', [Job(small, dict(n=i)) for i in range(3)]); alive, dead, quiet = map(plan.folder, plan.jobs)
    for f,ago in ((alive, 20), (dead, 90), (quiet, 90)):
        (f/'attempts').mkdir(parents=True); note = f/'attempts/001.json'
        note.write_text(json.dumps(dict(n=1, token='1-a', host='a', begun=time.time()+wrong))) # by a node whose clock is wrong
        if f != quiet: (f/'alive').touch()
        for p in (note, f/'alive'):
            if p.exists(): os.utime(p, (time.time()-ago,)*2)
    assert status(plan).state.tolist()==['running', 'lost', 'lost']
    real = time.time; monkeypatch.setattr(time, 'time', lambda: real() + wrong)
    assert status(plan).state.tolist()==['running', 'lost', 'lost']

def test_a_space_counts_with_its_content(tmp_path):
    for name,lr in (('a', .1), ('b', .1), ('c', .2)): (tmp_path/f'{name}.yaml').write_text(f'bayes: {{space: {{lr: [{lr}]}}}}')
    a, b, c = (Job('search', dict(space=str(tmp_path/f'{n}.yaml'))).id for n in 'abc')
    assert a==b != c

def test_earlier_stages_are_read_once_an_array(tmp_path, monkeypatch):
    import ecg_arrhythmia.slurm as slurm
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

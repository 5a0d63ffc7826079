"Plans on a real Slurm with two nodes; skipped where there is none"
import json, os, signal, subprocess, time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest
from plans import *

from ecg_arrhythmia.jobs import running as J
from ecg_arrhythmia.jobs.notebooks import result_of
from ecg_arrhythmia.jobs.plan import Job, make_plan
from ecg_arrhythmia.jobs.running import collect
from ecg_arrhythmia.jobs.kinds import training_jobs
from ecg_arrhythmia.training.recipes import recipe
from ecg_arrhythmia.jobs.slurm import Request, cluster_status, submit

def sh(*c): return subprocess.run(c, capture_output=True, text=True, check=True).stdout
def nodes():
    try:
        return sum(
            line.split()[1] in ('idle', 'mixed', 'allocated')
            for line in sh('sinfo', '-h', '-N', '-o', '%N %T', '-p', 'main').splitlines()
        )
    except (OSError, subprocess.CalledProcessError):
        return 0
START = Path(os.environ.get('ECG_SLURM', Path(__file__).parents[2]/'shared/hpc/start-slurm.sh'))
cluster = pytest.mark.skipif(nodes() < 2 or not START.exists(), reason='no Slurm with two nodes')

def ends(plan): return Counter(a.get('end', 'none') for k in plan.jobs for a in J.attempts(plan.folder(k)))
def check_record(folder, figures):
    "An executed notebook holds its figures, whatever display the shell asks for, and no bars flood the log"
    shown = [
        o.get('data', {})
        for c in json.loads(max(folder.glob('[0-9]*.ipynb')).read_text())['cells']
        for o in c.get('outputs', [])
    ]
    log = ''.join(p.read_text() for p in folder.glob('[0-9]*.log'))
    assert (
        sum('image/png' in o for o in shown) == figures
        and not any(w in log for w in ('it/s', 's/it', '%|', '\r'))
        and len(log.splitlines()) < 500
    )
def epochs(folder):
    return (
        [int(l.split()[1]) for l in (folder / 'epochs.log').read_text().splitlines()]
        if (folder / 'epochs.log').exists()
        else []
    )

@cluster
@pytest.mark.slow # five to nine minutes, most of them waiting
def test_a_grid_survives(data, tmp_path):
    """A node dies while its job lives on, a kernel dies, a task is requeued, preempted, meets its time
    limit (Slurm warns of it when it likes): every run is done, each epoch trained once"""
    study = lambda **kw: recipe('study', scheduler='none', keep='last', **kw)
    long, short = [training_jobs([study(lr=2e-3, epochs=e)], *data)[0] for e in (110, 24, 25)], training_jobs(
        [study(lr=lr, epochs=2) for lr in (1e-3, 1e-2)], *data, folds=range(2), stage=1
    )
    plan = make_plan(tmp_path / 'plan', long + short)
    first, second, third = (plan.folder(j.id) for j in long)
    assert len(plan) == 7
    submit(plan, Request(time='2', cpus=2, warn=30))
    assert submit(plan) == [], 'submitting twice submits nothing'
    alive = (
        lambda f, n=2: (a := J.attempts(f))
        and 'end' not in a[-1]
        and sum(
            l.startswith(a[-1]['token'])
            for l in ((f / 'epochs.log').read_text() if (f / 'epochs.log').exists() else '').splitlines()
        )
        >= n
        and a[-1]
    )
    task_of = lambda f: '{array_job_id}_{array_task_id}'.format(**J.attempts(f)[-1]['slurm'])
    lost = wait(lambda: alive(first), 120, 0.3)['host']
    wait(lambda: alive(second, 1), 120, 0.3)
    sh('pkill', '-9', '-f', f'slurmd.*-N {lost}')  # the node is gone, its job lives on
    Path(f'/run/slurmd.{lost}.pid').unlink(missing_ok=True)  # nobody may take what is left of it for the daemon
    os.kill(kernel_of(second), signal.SIGKILL)
    wait(lambda: alive(third, 1), 120, 0.3)
    sh('scontrol', 'requeue', task_of(third))
    wait(
        lambda: len(J.attempts(first)) > 1 or (first / 'DONE').exists(), 240
    )  # given up by Slurm, and begun on the other node, unless its orphan was quicker
    wait(lambda: J.attempts(first)[0].get('end') in ('fenced', 'done'), 60)
    sh('env', '-u', 'OMP_NUM_THREADS', 'sh', str(START))  # the node comes back, with all processors: `nproc` goes by threads
    host = wait(lambda: next((a for k in plan.jobs if (a := alive(plan.folder(k), 1))), None), 300, 0.3)[
        'host'
    ]
    sh('sbatch', '--parsable', '-p', 'high', '-c', '2', '-w', host, '-o', '/dev/null', '--wrap', 'sleep 1')
    wait(
        lambda: (cluster_status(plan).state == 'done').all()
        and all('end' in J.attempts(plan.folder(k))[-1] for k in plan.jobs),
        900,
        3,
    )
    for k in plan.jobs:
        seen, folder = epochs(plan.folder(k)), plan.folder(k)
        assert sorted(seen) == sorted(set(seen)), f'{k}: an epoch was trained twice: {seen}'
        done, result = json.loads((folder / 'DONE').read_text()), json.loads(
            (folder / 'run/result.json').read_text()
        )
        assert result['epochs'] == plan.jobs[k].params['epochs'] and done['macro_f1'] == pytest.approx(
            result['macro_f1']
        )
        assert sum(a.get('end') == 'done' for a in J.attempts(folder)) == 1
    found, why = ends(plan), [
        a.get('why', '')[:7]
        for k in plan.jobs
        for a in J.attempts(plan.folder(k))
        if a.get('end') == 'stopped'
    ]
    print(dict(found), why, sum(len(J.attempts(plan.folder(k))) for k in plan.jobs), "attempts")
    assert (
        found['done'] == 7
        and found['killed'] == 1
        and (found['fenced'] == 1 or len(J.attempts(first)) == 1)
        and why.count('SIGTERM') + found['none'] >= 1  # on a busy machine Slurm kills before a run has said that it stops
    )
    assert len(collect(plan)) == 7 and submit(plan) == []
    for j in short:
        check_record(plan.folder(j.id), 3)  # curves, confusion, charts

@cluster
def test_a_search_on_two_nodes(data, tmp_path):
    "Two slots, one kernel killed in a trial: exactly the budget, each trial once, nothing left running"
    import optuna
    from ecg_arrhythmia.search.trials import open_study
    from ecg_arrhythmia.search.space import read_space
    from ecg_arrhythmia.charts.store import ChartStore
    from ecg_arrhythmia.data.splits import load_split

    (space := tmp_path / 'space.yaml').write_text(
        'bayes:\n  trials: 8\n  startup: 3\n  warmup: 1\n  min_trials: 1\n  fixed: '
        '{epochs: 3, batch_size: 16, augment: false}\n  space:\n    lr: {log: [1e-4, 1e-2]}\n    optimizer: [adam, sgd]\n'
    )
    plan = make_plan(
        tmp_path / 'plan',
        [
            Job(
                'search',
                dict(space=str(space), store=data[0], split=data[1], study=str(tmp_path / 'study'), slot=i),
            )
            for i in (0, 1)
        ],
    )
    submit(plan, Request(time='10', cpus=2))
    victim = wait(
        lambda: next(
            (
                plan.folder(k)
                for k in plan.jobs
                if len(epochs(plan.folder(k))) > 1 and kernel_of(plan.folder(k))
            ),
            None,
        ),
        180,
        0.2,
    )
    os.kill(kernel_of(victim), signal.SIGKILL)
    wait(lambda: (cluster_status(plan).state == 'done').all(), 600, 2)
    study = open_study(None, ChartStore(data[0]), load_split(data[1]), tmp_path / 'study' / 'bayes')
    assert (
        [t.number for t in study.trials] == list(range(8))
        and all(t.state.is_finished() for t in study.trials)
        and not any(t.state.name == 'FAIL' for t in study.trials)
    )
    for k in plan.jobs:
        check_record(plan.folder(k), 1)
    assert ends(plan)['killed'] == 1 and {
        r['trials'] for r in map(result_of, map(plan.folder, plan.jobs))
    } <= {7, 8}

@cluster
def test_failures_are_said(data, tmp_path):
    "An exception is not retried, and its last words are in the status"
    plan = make_plan(tmp_path/'plan', [Job('train', dict(store=data[0], split=data[1], arch='resnet', epochs=1))])
    submit(plan, Request(cpus=1))
    table = wait(lambda: (s := cluster_status(plan)).state.iloc[0]=='exception' and s, 120)
    assert "unknown architecture 'resnet'" in table.why.iloc[0] and submit(plan)==[] and table.attempts.iloc[0]==1

# --- small jobs, on a cluster and without

STEPS = """import time
from pathlib import Path
import torch
from ecg_arrhythmia.jobs.notebooks import publish
from ecg_arrhythmia.core import check_attempt
log = Path(out)/'steps.log' # a line is a step that is done and saved
while not (Path(out)/'enough').exists():
    time.sleep(.2); check_attempt()
    with open(log, 'a') as f: f.write(f'{len(log.read_text().split())}\\n')
publish(out, steps=len(log.read_text().split()), threads=torch.get_num_threads())"""

HUNGRY = """import time
from pathlib import Path
from ecg_arrhythmia.jobs.notebooks import publish
from ecg_arrhythmia.core import check_attempt
held = b'x'*400_000_000
while not (Path(out)/'enough').exists(): time.sleep(.2); check_attempt()
publish(out)"""

def with_body(small, name, body):
    "The small job with other code"
    p = Path(small).with_name(f'{name}.ipynb')
    p.write_text(Path(small).read_text().replace(json.dumps(BODY), json.dumps(body)))
    return str(p)

@pytest.fixture
def stepping(small): return with_body(small, 'stepping', STEPS)

@pytest.fixture
def hungry(small): return with_body(small, 'hungry', HUNGRY)

@cluster
def test_out_of_memory_is_said(hungry, tmp_path):
    plan = make_plan(tmp_path/'plan', [Job(hungry, {})]); k, = plan.jobs
    submit(plan, Request(cpus=1, mem='300M'))
    table = wait(lambda: (s := cluster_status(plan)).why.str.contains('out of memory').all() and s, 120)
    (plan.folder(k)/'enough').touch()
    assert table.state.iloc[0]=='killed' and len(submit(plan, Request(cpus=1)))==1, 'with more memory it is done'
    wait(lambda: cluster_status(plan).state.iloc[0]=='done', 180)

@contextmanager
def slurm_conf(line):
    "Another line in Slurm's configuration for a moment"
    conf = Path('/etc/slurm/slurm.conf'); was = conf.read_text()
    conf.write_text(f'{was}{line}\n'); sh('scontrol', 'reconfigure')
    try: yield
    finally: conf.write_text(was); sh('scontrol', 'reconfigure')

@cluster
@pytest.mark.slow  # some two minutes of waiting, and CI has 25
def test_arrays_and_preemption(small, stepping, tmp_path):
    """On one node a plan that is larger than an array may be: split, throttled, with an account. On
    the other a run is preempted twice: told when its grace ends, and told when it begins"""
    many = make_plan(tmp_path / 'many', [Job(small, dict(n=i, seconds=0.5)) for i in range(5)])
    sh(
        'scancel',
        sh('sbatch', '--parsable', '--hold', '--array=0-3', '-o', '/dev/null', '--wrap', 'true').strip(),
    )  # slurmctld holds to the limit of its first array as long as it lives
    with slurm_conf('MaxArraySize=3'):
        arrays = submit(
            many, Request(cpus=1, mem='1500M', throttle=1, account='cardiology', more=('--nodelist=node1',))
        )
    assert len(arrays) == 2 and [
        len((many.path / f'slurm/{i}/tasks.txt').read_text().split()) for i in (0, 1)
    ] == [3, 2]
    of = sh('squeue', '-h', '-r', '-o', '%F %a %i %E', '-j', ','.join(arrays)).splitlines()
    assert (
        len(of) == 5
        and all(l.split()[1] == 'cardiology' for l in of)
        and all(('afterany:' + arrays[0] in l) == (l.startswith(arrays[1])) for l in of)
    ), of

    one = make_plan(tmp_path / 'one', [Job(stepping, {})])
    (k,) = one.jobs
    folder = one.folder(k)
    submit(one, Request(cpus=2, mem='1500M', time='30', more=('--nodelist=node2',)))
    steps = lambda: (folder / 'steps.log').read_text().split() if (folder / 'steps.log').exists() else []
    urgent = lambda: sh(
        'sbatch', '--parsable', '-p', 'high', '-c', '2', '-w', 'node2', '-o', '/dev/null', '--wrap', 'true'
    )
    wait(lambda: len(steps()) > 2, 120, 0.2)
    urgent()
    begun = (
        time.time()
    )  # as Slurm does by itself: nothing is said to the batch script before the grace is over, then SIGTERM
    wait(lambda: [*folder.glob('stop-1-*')], 60, 0.1)
    assert time.time() - begun > 8
    wait(lambda: 'end' in J.attempts(folder)[0], 60, 0.2)
    n = len(steps())
    wait(lambda: len(steps()) > n + 2, 120, 0.2)
    with slurm_conf(
        'SlurmctldParameters=preempt_send_user_signal'
    ):  # the batch script gets its signal when the grace begins; slurmctld holds to that as long as it lives, so this comes second
        urgent()
        begun = time.time()
        wait(lambda: [*folder.glob('stop-2-*')], 60, 0.1)
    assert time.time() - begun < 8, 'well within the grace of 10 s'
    wait(lambda: 'end' in J.attempts(folder)[1], 60, 0.2)
    (folder / 'enough').touch()
    wait(lambda: cluster_status(one).state.iloc[0] == 'done' and 'end' in J.attempts(folder)[-1], 120)
    tries = J.attempts(folder)
    assert (
        [a['end'] for a in tries] == ['stopped', 'stopped', 'done']
        and tries[0]['why'].startswith('SIGTERM')
        and tries[1]['why'].startswith('SIGUSR1')
    )
    assert steps() == [str(i) for i in range(len(steps()))], 'no step twice, none lost'
    assert [a['slurm']['restart_count'] if 'restart_count' in a['slurm'] else '0' for a in tries] == [
        '0',
        '1',
        '2',
    ] and result_of(folder)['threads'] == 2
    (
        mine := wait(
            lambda: (s := cluster_status(many)).state.eq('done').all()
            and all('end' in J.attempts(many.folder(i))[-1] for i in many.jobs)
            and s,
            120,
        )
    )
    spans = sorted((a['begun'], a['ended']) for i in many.jobs for a in J.attempts(many.folder(i)))
    assert (
        len(spans) == 5 and mine.attempts.eq(1).all() and all(b[0] >= a[1] for a, b in zip(spans, spans[1:]))
    ), 'one at a time'
    assert submit(many) == []

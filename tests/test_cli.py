"Dense checks of the commands: help that imports little, one clean line for an error, every stage after the other"
import json, os, signal, subprocess, sys, time, zipfile
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

import pandas as pd, pytest

from ecg_arrhythmia.data.datasets import catalogue
from ecg_arrhythmia.data.rhythms import RHYTHMS
from ecg_arrhythmia.data.simulated_datasets import simulate_dataset
from ecg_arrhythmia.charts.store import ChartStore
from ecg_arrhythmia.charts.encoding import store_spec
from ecg_arrhythmia.charts.packing import pack

BIN = Path(sys.executable).parent
COMMANDS = {e.name: e for e in entry_points(group='console_scripts') if e.value.startswith('ecg_arrhythmia')}
ENV = os.environ | dict(OMP_NUM_THREADS='1', PYTHONWARNINGS='')

def command(name, *args, **kw):
    return subprocess.run(
        [BIN / name, *map(str, args)], capture_output=True, text=True, env=ENV, timeout=3600, **kw
    )

# Many commands in one go: a process imports everything once and runs each command in a fork
WARM = """
import io, json, os, runpy, sys
import torch, ecg_arrhythmia.training.loop, ecg_arrhythmia.evaluation.metrics, ecg_arrhythmia.commands.say
import sklearn.model_selection, matplotlib.figure
torch.set_num_threads(1)
for line in sys.stdin:
    script, args, out = json.loads(line)
    if (pid := os.fork()) == 0:
        for fd,name in ((1, 'out'), (2, 'err')): os.dup2(os.open(f'{out}.{name}', os.O_WRONLY | os.O_CREAT | os.O_TRUNC), fd)
        sys.argv, code = [script, *args], 0
        try: runpy.run_path(script, run_name='__main__')
        except SystemExit as e: code = e.code or 0
        except BaseException: sys.excepthook(*sys.exc_info()); code = 1
        if isinstance(code, str): sys.stderr.write(code+'\\n'); code = 1
        sys.stdout.flush(); sys.stderr.flush(); os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""

class Warm:
    def __init__(self, folder):
        self.folder, self.n = folder, 0
        self.p = subprocess.Popen(
            [sys.executable, '-W', 'ignore', '-c', WARM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,
            env=ENV,
        )

    def __call__(self, name, *args):
        out = self.folder / f'log{self.n}'
        self.n += 1
        self.p.stdin.write(json.dumps([str(BIN / name), list(map(str, args)), str(out)]) + '\n')
        self.p.stdin.flush()
        code = int(self.p.stdout.readline())
        return subprocess.CompletedProcess(
            args, code, Path(f'{out}.out').read_text(), Path(f'{out}.err').read_text()
        )

@pytest.fixture(scope='module')
def run(tmp_path_factory):
    w = Warm(tmp_path_factory.mktemp('cli'))
    yield w
    w.p.stdin.close(); w.p.wait(600)

@pytest.fixture(scope='module')
def data(run): return simulate_dataset(run.folder/'data', counts={r: 4 for r in RHYTHMS}, seed=1, workers=1, progress=False)

def good(r):
    assert r.returncode==0 and 'Traceback' not in r.stderr and 'Warning' not in r.stderr, (r.stdout, r.stderr)
    return r.stdout

@pytest.fixture(scope='module')
def split(run, data): good(run('ecg_split', data, 'split.json', '--folds', 2)); return run.folder/'split.json'
@pytest.fixture(scope='module')
def store(run, data):
    return pack(
        catalogue(data), run.folder / 'charts.lmdb', store_spec(['3x4+1', 'rhythm12'], 64), progress=False
    ).path
@pytest.fixture(scope='module')
def trained(run, store, split):
    r = run(
        'ecg_train',
        store,
        split,
        'run',
        '--epochs',
        1,
        '--batch-size',
        16,
        '--device',
        'cpu',
        '--set',
        'augment=False',
    )
    return run.folder/'run', good(r)

# --- help

@cache
def help_of(name):
    "What a command says of itself, and the packages that it loads to do so"
    r = subprocess.run([sys.executable, '-X', 'importtime', BIN/name, '--help'], capture_output=True, text=True, env=ENV)
    times, said = [], []
    for l in r.stderr.splitlines(): (times if l.startswith('import time') else said).append(l)
    r.stderr = '\n'.join(said)
    return good(r), {l.rpartition('|')[2].strip().partition('.')[0] for l in times}

@pytest.mark.parametrize('name', COMMANDS)
def test_help_is_worth_reading(name):
    text, _ = help_of(name)
    assert text.startswith(f'usage: {name}') and len(text.splitlines())>8 and '(default: None)' not in text

@pytest.mark.parametrize('name', COMMANDS)
def test_help_imports_little(name):
    _, loaded = help_of(name)
    assert 'fastcore' in loaded and not {'torch', 'fastai', 'pandas', 'numpy', 'matplotlib', 'sklearn', 'lmdb'} & loaded

def test_help_tells_every_argument():
    import inspect
    for name,e in COMMANDS.items():
        text = ' '.join(help_of(name)[0].split())
        for p in inspect.signature(e.load()).parameters: assert p in text.replace('-', '_'), (name, p)

# --- what goes well

def test_check(run, data):
    out = good(run('ecg_check', data, '--out', 'deep/quality.csv'))
    assert (
        out.startswith('Data: SIMULATED')
        and '44 recordings here, 0 in the metadata without a file' in out
        and 'AFIB' in out
        and "limits 'default'" in out
    )
    q = pd.read_csv(run.folder / 'deep/quality.csv', index_col='name')
    assert q.index.tolist() == list(catalogue(data)) and q.error.isna().all()
    again = good(run('ecg_split', data, 'from_quality.json', '--quality', 'deep/quality.csv', '--folds', 2))
    assert again.replace('from_quality', 'x') == good(
        run('ecg_split', data, 'direct.json', '--folds', 2)
    ).replace('direct', 'x')

def test_check_finds_what_is_wrong(run, tmp_path, data):
    import zipfile

    (tmp_path / 'ECGData').mkdir()
    with zipfile.ZipFile(data / 'ECGData.zip') as z:
        for n in z.namelist()[:5]:
            (tmp_path / n).write_bytes(z.read(n))
    (tmp_path / 'Diagnostics.xlsx').write_bytes((data / 'Diagnostics.xlsx').read_bytes())
    (tmp_path / 'ECGData/SIM_000001.csv').write_text('')
    (tmp_path / 'ECGData/stranger.csv').write_bytes((tmp_path / 'ECGData/SIM_000002.csv').read_bytes())
    out = good(run('ecg_check', tmp_path))
    assert (
        out.startswith('Data: real')
        and '6 recordings here, 39 in the metadata without a file, 1 files without metadata' in out
        and 'unreadable' in out
        and 'SIM_000001.csv: an empty file' in out
    )

def test_split(split):
    d = json.loads(split.read_text())
    assert (
        len(d['folds']) == 2
        and d['info']['origin'] == 'simulated'
        and sum(map(len, d['folds'])) + len(d['test']) == 44 == len(d['labels'])
    )

def test_a_split_replaces_a_split(run, data):
    for folds in (2, 2, 3):
        good(run('ecg_split', data, 'again.json', '--folds', folds))
        assert len(json.loads((run.folder/'again.json').read_text())['folds'])==folds

def test_pack_and_verify(run, store, data, tmp_path):
    out = good(
        run('ecg_pack', data, 'packed.lmdb', '--size', 64, '--layouts', '3x4+1,rhythm12')
    )  # as README.md has it
    assert 'SIMULATED' in out and '44 recordings, 0 skipped' in out
    assert (
        good(run('ecg_pack', data, 'packed.lmdb', '--size', 64, '--layouts', '3x4+1,rhythm12')) == out
    ), 'a finished store is not made again'
    assert ChartStore(run.folder / 'packed.lmdb').digest == ChartStore(store).digest
    assert 'all 44 recordings are as they were packed' in good(run('ecg_pack', store, '--verify'))
    bad, value = bytearray(store.read_bytes()), bytes(ChartStore(store)._get(b'SIM_000007\x00rhythm12'))
    for i in range(bad.count(value)):
        bad[(at := bytes(bad).find(value)) + len(value) // 2] ^= 4
    (tmp_path / 'bad.lmdb').write_bytes(bad)
    r = run('ecg_pack', tmp_path / 'bad.lmdb', '--verify')
    assert (
        r.returncode == 1
        and 'SIM_000007 rhythm12' in r.stdout
        and 'damaged; pack it again' in r.stderr
        and 'Traceback' not in r.stderr
    )

def test_pack_png(run, data):
    good(run('ecg_pack', data, 'small.lmdb', '--size', 32, '--png', 'pictures'))
    assert len(list((run.folder/'pictures').rglob('*.png')))==4*44 # four strips of each

def test_split_of_a_store(run, store, split):
    "A store knows all that a split needs, and gives the same one"
    good(run('ecg_split', store, 'of_store.json', '--folds', 2))
    a, b = (json.loads((run.folder/n).read_text()) for n in ('split.json', 'of_store.json'))
    assert a['digest']==b['digest']

def test_train_and_evaluate(run, trained, data, store, split):
    folder, out = trained
    assert (
        'SIMULATED' in out
        and 'weights: none, a random start' in out
        and 'macro-F1' in out
        and 'Validation:' in out
    )
    assert (
        good(
            run(
                'ecg_train',
                store,
                split,
                'run',
                '--epochs',
                1,
                '--batch-size',
                16,
                '--device',
                'cpu',
                '--set',
                'augment=False',
            )
        )
        == out
    ), 'a finished run is shown again'
    out = good(run('ecg_evaluate', folder, store, split, '--recordings', data, '--device', 'cpu'))
    test = folder / 'test'
    assert (
        'Hold-out:' in out
        and 'SIMULATED' in out
        and {
            'confusion.png',
            'hardest.png',
            'metrics.json',
            'predictions.csv',
            'assessment.json',
            'figures.csv',
            'groups.csv',
            'roc.png',
        }
        <= {p.name for p in test.iterdir()}
    )
    assert json.loads((test / 'metrics.json').read_text())['origin'] == 'simulated' and set(
        pd.read_csv(test / 'predictions.csv')['name']
    ) == set(json.loads(split.read_text())['test'])

def test_evaluate_elsewhere(run, trained, store, split):
    "Recordings of another data set, with names of its own"
    there = run.folder / 'there'
    simulate_dataset(run.folder / 'other', n=33, seed=9, progress=False)
    there.mkdir()
    with zipfile.ZipFile(run.folder / 'other/ECGData.zip') as a, zipfile.ZipFile(
        there / 'ECGData.zip', 'w'
    ) as b:
        for n in a.namelist():
            b.writestr(n.replace('SIM', 'ELSE'), a.read(n))
    d = pd.read_excel(run.folder / 'other/Diagnostics.xlsx')
    d.assign(FileName=d.FileName.str.replace('SIM', 'ELSE')).to_excel(there / 'Diagnostics.xlsx', index=False)
    out = good(
        run('ecg_evaluate', 'run', store, split, '--out', 'away', '--elsewhere', there, '--device', 'cpu')
    )
    assert '33 of 33 recordings have a rhythm' in out and (
        'lost beyond the mix' in out or 'not at home' in out
    )
    assert (
        len(pd.read_csv(run.folder / 'away/elsewhere/predictions.csv')) == 33 * 2
        and (run.folder / 'away/elsewhere/groups.csv').exists()
        and (run.folder / 'away/elsewhere/hardest.png').exists()
    )

def test_compare(run, trained):
    (run.folder/'copy.csv').write_bytes((run.folder/'run/predictions.csv').read_bytes())
    out = good(run('ecg_compare', 'copy.csv', 'run', '--out', 'pairs.csv'))
    assert 'copy → run' in out
    pairs = pd.read_csv(run.folder/'pairs.csv')
    assert pairs.gain[0]==0==pairs.only_first[0] and pairs.p[0]==1
    clean(run('ecg_compare', 'run', 'run'), 'given twice')
    clean(run('ecg_compare', 'run'), 'nothing to compare')
    clean(run('ecg_compare', 'run', 'nowhere'), 'no predictions.csv below it')

def test_train_all_folds_and_eleven_classes(run, data, store):
    good(run('ecg_split', data, 'all.json', '--folds', 2, '--mapping', 'all', '--test-size', 0.25))
    out = good(
        run(
            'ecg_train',
            store,
            'all.json',
            'folds',
            '--epochs',
            1,
            '--batch-size',
            16,
            '--fold',
            'all',
            '--device',
            'cpu',
            '--set',
            'layouts=3x4+1',
        )
    )
    assert {p.name for p in (run.folder / 'folds').iterdir()} == {'fold0', 'fold1'} and len(
        json.loads((run.folder / 'folds/fold1/result.json').read_text())['classes']
    ) == 11
    assert json.loads((run.folder / 'folds/fold0/result.json').read_text())['config']['layouts'] == ['3x4+1']

def test_settings(run, store, split):
    good(
        run(
            'ecg_train',
            store,
            split,
            'set',
            '--epochs',
            1,
            '--device',
            'cpu',
            '--recipe',
            'study',
            '--set',
            'scheduler=none, keep=last,freeze=True,lr=1e-4',
        )
    )
    c = json.loads((run.folder / 'set/result.json').read_text())['config']
    assert (c['scheduler'], c['keep'], c['freeze'], c['lr'], c['optimizer']) == (
        'none',
        'last',
        True,
        1e-4,
        'adam',
    )

# --- what goes wrong

def clean(r, *says, lines=1):
    "Exit status 1 and a short message, no traceback"
    assert r.returncode==1 and 'Traceback' not in r.stderr, r.stderr[-1500:]
    assert 0 < len(r.stderr.strip().splitlines()) <= lines, r.stderr
    for s in says: assert s in r.stderr

def test_errors_of_the_real_thing(tmp_path):
    clean(command('ecg_check', tmp_path/'none'), 'no such file or folder')
    clean(command('ecg_pack', tmp_path/'none.lmdb', '--verify'), 'no store at')

@pytest.mark.parametrize(
    'args,says',
    [
        (['ecg_check', 'none'], 'none: no such file or folder'),
        (['ecg_check', 'empty'], 'no recordings'),
        (['ecg_check', 'cut'], 'cut short'),
        (['ecg_check', 'data', '--mapping', 'mine'], 'merged, all'),
        (['ecg_check', 'data', '--limits', 'strict'], 'default, study'),
        (['ecg_check', 'data', '--metadata', 'none.xlsx'], 'none.xlsx: no such file'),
        (['ecg_check', 'data', '--metadata', 'text.txt'], 'text.txt'),
        (['ecg_check', 'data', '--out', 'text.txt/q.csv'], 'text.txt'),
        (['ecg_split', 'data', 'x.json', '--mapping', 'mine'], 'merged, all'),
        (['ecg_split', 'data', 'x.json', '--unlabelled', 'ignore'], 'drop'),
        (['ecg_split', 'data', 'x.json', '--folds', 1], 'folds'),
        (['ecg_split', 'data', 'x.json', '--folds', 9], '9 folds'),
        (['ecg_split', 'data', 'x.json', '--test-size', 2], '--test-size 2.0: a number from 0'),
        (['ecg_split', 'data', 'x.json', '--limits', 'strict'], 'default, study'),
        (['ecg_split', 'data', 'x.json', '--quality', 'none.csv'], 'none.csv'),
        (['ecg_split', 'data', 'x.json', '--quality', 'text.txt'], 'text.txt'),
        (['ecg_split', 'data', 'text.txt/x.json', '--folds', 2], 'text.txt'),
        (['ecg_split', 'none.lmdb', 'x.json'], 'no store'),
        (['ecg_split', 'text.lmdb', 'x.json'], 'not a chart store'),
        (['ecg_pack', 'data'], 'no store was named'),
        (['ecg_pack', 'data', 'x.lmdb', '--layouts', '3x5'], '3x4, 3x4+1'),
        (['ecg_pack', 'data', 'x.lmdb', '--layouts', '3x4,'], 'layout'),
        (['ecg_pack', 'data', 'x.lmdb', '--style', 'red'], 'paper, grey, leads'),
        (['ecg_pack', 'data', 'x.lmdb', '--paper', 'A4'], 'standard, bare'),
        (['ecg_pack', 'data', 'x.lmdb', '--limits', 'strict'], 'default, study'),
        (['ecg_pack', 'data', 'x.lmdb', '--on-bad', 'ignore'], "'skip' or 'stop'"),
        (['ecg_pack', 'data', 'x.lmdb', '--size', 2], '8 to 4096 pixels'),
        (['ecg_pack', 'data', 'charts.lmdb', '--size', 32], '--overwrite'),
        (['ecg_pack', 'data', 'text.txt/x.lmdb'], 'text.txt'),
        (['ecg_pack', 'text.lmdb', '--verify'], 'not a chart store'),
        (['ecg_train', 'none.lmdb', 'split.json', 'r'], 'no store'),
        (['ecg_train', 'charts.lmdb', 'none.json', 'r'], 'no split'),
        (['ecg_train', 'charts.lmdb', 'text.txt', 'r'], 'not a split'),
        (['ecg_train', 'charts.lmdb', 'split.json', 'r', '--arch', 'resnet'], 'resnet18'),
        (['ecg_train', 'charts.lmdb', 'split.json', 'r', '--recipe', 'best'], 'default, study'),
        (
            ['ecg_train', 'charts.lmdb', 'split.json', 'r', '--set', 'optimiser=adam'],
            "do you mean 'optimizer'",
        ),
        (['ecg_train', 'charts.lmdb', 'split.json', 'r', '--set', 'optimizer=lion'], 'adam, adamw, sgd'),
        (['ecg_train', 'charts.lmdb', 'split.json', 'r', '--set', 'adam'], 'NAME=VALUE'),
        (['ecg_train', 'charts.lmdb', 'split.json', 'r', '--set', 'weight_decay=much'], 'weight_decay'),
        (['ecg_train', 'charts.lmdb', 'split.json', 'r', '--set', 'lr=.1', '--lr', '.2'], 'lr'),
        (['ecg_train', 'charts.lmdb', 'split.json', 'r', '--weights', 'none.pth'], 'none.pth'),
        (['ecg_train', 'charts.lmdb', 'split.json', 'r', '--weights', 'text.txt'], 'text.txt'),
        (['ecg_train', 'charts.lmdb', 'split.json', 'r', '--fold', 9], 'fold 9'),
        (['ecg_train', 'charts.lmdb', 'split.json', 'r', '--fold', 'x'], 'fold'),
        (['ecg_search', 'none.yaml', 'charts.lmdb', 'split.json', 's'], 'ecg_search --template'),
        (['ecg_search', 'text.txt', 'charts.lmdb', 'split.json', 's'], 'text.txt, line 1'),
        (['ecg_search', 'text.txt', '--template'], 'left as it is'),
        (['ecg_retrain', 'data', 'charts.lmdb', 'split.json'], 'no best configuration'),
        (['ecg_run', 'none'], 'no plan there'),
        (['ecg_status', 'data'], 'no plan there'),
        (['ecg_plan', 'p', 'charts.lmdb', 'split.json', '--kind', 'grid'], 'needs a --space'),
        (['ecg_consolidate', 'data'], 'no finished run'),
        (['ecg_seeds', 'data', 'charts.lmdb', 'split.json'], 'no best configuration'),
        (['ecg_train', 'charts.lmdb', 'split.json', 'r', '--lr', -1], 'lr'),
        (['ecg_train', 'charts.lmdb', 'split.json', 'r', '--epochs', 0], 'epochs'),
        (['ecg_train', 'charts.lmdb', 'split.json', 'r', '--device', 'tpux'], 'device'),
        (['ecg_train', 'charts.lmdb', 'split.json', 'text.txt/r', '--epochs', 1], 'text.txt'),
        (['ecg_evaluate', 'none', 'charts.lmdb', 'split.json'], 'no finished run'),
        (['ecg_demo', '--data', 'none', '--out', 'demo'], 'no such file'),
        (['ecg_demo', '--n', 11, '--out', 'demo'], '5 folds'),
    ],
    ids=lambda a: ' '.join(map(str, a)) if isinstance(a, list) else '',
)
def test_errors(run, data, store, split, args, says):
    d = run.folder
    if not (d / 'empty').exists():
        (d / 'empty').mkdir()
        (d / 'text.txt').write_text('hello\nthere\n')
        (d / 'text.lmdb').write_text('hello')
        (d / 'cut').mkdir()
        (d / 'cut/ECGData.zip').write_bytes((data / 'ECGData.zip').read_bytes()[:100_000])
    args = [
        {'x.lmdb': f'x{run.n}.lmdb', 'x.json': f'x{run.n}.json', 'r': f'r{run.n}'}.get(a, a) for a in args
    ]  # each its own
    clean(run(*args), says)
    assert not any((d / str(a)).exists() for a in args if str(a).startswith('x'))

def test_errors_of_runs(run, trained, store, split, data):
    clean(run('ecg_train', store, split, 'run', '--epochs', 2, '--batch-size', 16), 'holds another run', 'epochs')
    good(run('ecg_split', data, 'other.json', '--folds', 2, '--seed', 7))
    clean(run('ecg_evaluate', 'run', store, 'other.json'), 'was trained on split')
    good(run('ecg_pack', data, 'size32.lmdb', '--size', 32, '--layouts', '3x4+1,rhythm12'))
    clean(run('ecg_evaluate', 'run', 'size32.lmdb', split), 'size', 'pack it alike')

def test_what_is_refused_elsewhere_opens_no_hold_out(run, trained, store, split, data):
    "A wrong name, and recordings that were trained on: the hold-out stays shut"
    ledger = split.with_suffix('.openings.jsonl')
    before = ledger.read_text() if ledger.exists() else ''
    clean(run('ecg_evaluate', 'run', store, split, '--out', 'shut', '--elsewhere', 'none'), 'none: no such file')
    clean(run('ecg_evaluate', 'run', store, split, '--out', 'shut', '--elsewhere', data), 'were trained on')
    assert (ledger.read_text() if ledger.exists() else '')==before
    assert not (run.folder/'shut/metrics.json').exists()

def test_metadata_in_disorder(run, data):
    t = pd.read_excel(data / 'Diagnostics.xlsx')
    for name, edit, says in (
        (
            'rhythm',
            lambda t: t.assign(Rhythm=t.Rhythm.where(t.index != 3, 'SVTT')),
            ('SIM_', 'SVTT', 'Known are'),
        ),
        ('absent', lambda t: t.drop(index=3), ('none given', 'SIM_', 'drop')),
        ('twice', lambda t: pd.concat([t, t[3:4]]), ('more than once', 'SIM_')),
        ('column', lambda t: t.drop(columns='Rhythm'), ('no column rhythm',)),
    ):
        edit(t).to_csv(run.folder / f'{name}.csv', index=False)
        clean(run('ecg_split', data, 'x.json', '--folds', 2, '--metadata', f'{name}.csv'), *says)
    good(
        run(
            'ecg_split',
            data,
            'dropped.json',
            '--folds',
            2,
            '--metadata',
            'rhythm.csv',
            '--unlabelled',
            'drop',
        )
    )

def test_usage_errors_are_those_of_argparse(run):
    for args in (
        ['ecg_check'],
        ['ecg_pack', 'data', 'x.lmdb', '--colour', 'red'],
        ['ecg_train', 'a', 'b', 'c', '--epochs', 'many'],
    ):
        r = run(*args)
        assert r.returncode == 2 and r.stderr.startswith('usage:') and 'Traceback' not in r.stderr

def test_interrupted(run, data):
    "Ctrl-C, which goes to the workers too: a line, no traceback; the same command resumes"
    args = [
        BIN / 'ecg_pack',
        data,
        run.folder / 'int.lmdb',
        '--size',
        '64',
        '--layouts',
        '3x4+1,12x1',
        '--workers',
        '2',
    ]
    p = subprocess.Popen(
        list(map(str, args)),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env=ENV,
        start_new_session=True,
    )
    partial = run.folder/'int.lmdb.partial'
    def begun(): # workers are there, where the system says so; the moment is one of progress, not of a clock
        try: groups = [f.read_text().rpartition(')')[2].split()[2] for f in Path('/proc').glob('[0-9]*/stat')]
        except OSError: return False # one of them has ended
        return partial.exists() and (not groups or groups.count(str(p.pid)) >= 3)
    while p.poll() is None and not begun(): time.sleep(.02)
    assert p.poll() is None, p.communicate()
    os.killpg(p.pid, signal.SIGINT)
    err = p.communicate(timeout=600)[1]
    assert (
        p.returncode not in (0, None) and 'Traceback' not in err and 'the same command resumes' in err
    ), err[-2000:]
    assert not (run.folder / 'int.lmdb').exists() and partial.exists()
    assert '44 recordings' in good(run(*[str(a) for a in [Path(args[0]).name, *args[1:]]]))

SPACE = """
bayes:
  trials: 2
  folds: 2
  fixed: {epochs: 1, batch_size: 16, augment: false, layouts: 3x4+1}
  space: {lr: [.001, .01]}
refine: {limit: 1}
"""
def test_search(run, store, split):
    "Template, dry run, search, go on, consolidate, retrain, seeds: each says what it did"
    assert (
        'space to fill in' in good(run('ecg_search', 'study.yaml', '--template'))
        and 'kaiming' in (run.folder / 'study.yaml').read_text()
    )
    (run.folder/'space.yaml').write_text(SPACE)
    dry = good(run('ecg_search', 'space.yaml', store, split, '--dry-run'))
    assert 'SIMULATED' in dry and 'At most' in dry and 'refine' in dry
    assert 'finals' not in dry and 'finals' in good(run('ecg_search', 'space.yaml', store, split, '--dry-run', '--finals', 2))
    first = good(run('ecg_search', 'space.yaml', store, split, 'search', '--device', 'cpu'))
    assert 'trials: 2 of 2' in first and 'refine' in first
    again = good(run('ecg_search', 'space.yaml', store, split, 'search', '--device', 'cpu'))
    assert first.split('architecture')[-1]==again.split('architecture')[-1]
    assert 'Best: highest mean' in good(run('ecg_consolidate', 'search'))
    assert 'opening number' in good(run('ecg_retrain', 'search', store, split, '--device', 'cpu'))
    assert '2 seeds' in good(run('ecg_seeds', 'search', store, split, '--n', 2, '--folds', 1, '--device', 'cpu'))

@pytest.mark.slow
def test_study_as_a_plan(run, store, split):
    "All stages of a search as jobs, in their order, to the tested model; a second run has nothing to do"
    (run.folder / 'plan.yaml').write_text(SPACE)
    out = good(run('ecg_plan', 'whole', store, split, '--kind', 'study', '--space', 'plan.yaml', '--n', 1))
    assert '3 runs' in out
    good(run('ecg_run', 'whole'))
    table = good(run('ecg_collect', 'whole'))
    assert '3 of 3 runs are done' in table
    found = pd.read_csv(run.folder / 'whole/results.csv')
    assert (
        sorted(found.stage.dropna()) == ['bayes', 'refine']
        and found.trials.max() == 2
        and found.macro_f1.notna().sum() == 1
        and found.opened.max() == 1
    )
    assert good(run('ecg_run', 'whole')).count('done') >= 1

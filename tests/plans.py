"What the tests of plans share, on a Slurm or without one: recordings, a small job, and waiting for what must happen"
import json, time
from pathlib import Path

import pytest

from ecg_arrhythmia.data.datasets import catalogue
from ecg_arrhythmia.data.rhythms import label
from ecg_arrhythmia.data.splits import make_split, save_split
from ecg_arrhythmia.data.simulated_datasets import simulate_dataset
from ecg_arrhythmia.charts.encoding import store_spec
from ecg_arrhythmia.charts.packing import pack

__all__ = ['wait', 'a_store', 'data', 'kernel_of', 'NOTE', 'BODY', 'small']

def wait(what, seconds=600, step=1.):
    until = time.time() + 20 * seconds # against a hang; a slow machine may take its time
    while time.time() < until:
        got = what()
        if hasattr(got, 'columns') or got: return got # a table has no truth
        time.sleep(step)
    raise TimeoutError(what)

def a_store(d, n, size):
    "Paths of charts and of a split of them"
    cat = catalogue(simulate_dataset(d/'data', n, workers=1, progress=False))
    store = pack(cat, d/'s.lmdb', store_spec('strip', size=size), limits=None, progress=False)
    save_split(make_split(label(store), n_folds=3), d/'split.json')
    return str(store.path), str(d/'split.json')

@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return a_store(tmp_path_factory.mktemp('slurm'), 132, (64, 256))

def kernel_of(folder):
    "The process of the kernel that works at a run"
    for p in Path('/proc').glob('[0-9]*'):
        try:
            if (
                b'ipykernel' in (p / 'cmdline').read_bytes()
                and f'ECG_ATTEMPT={folder}:'.encode() in (p / 'environ').read_bytes()
            ):
                return int(p.name)
        except OSError:
            pass

NOTE = "out: str = 'run'\nseconds: float = 0.\nfail: str = ''\nn: int = 0"
BODY = """import os, signal, time
from ecg_arrhythmia.jobs.notebooks import publish
from ecg_arrhythmia.core import check_attempt
if fail=='die': os.kill(os.getpid(), signal.SIGKILL)
if fail=='raise': raise ValueError('as asked')
until = time.time() + seconds
while time.time() < until: time.sleep(.1); check_attempt()
if fail != 'silent': publish(out, pid=os.getpid())"""

@pytest.fixture
def small(tmp_path):
    cell = lambda i, s, tags=(): dict(
        cell_type='code', id=i, metadata=dict(tags=list(tags)), execution_count=None, outputs=[], source=s
    )
    (p := tmp_path / 'small.ipynb').write_text(
        json.dumps(
            dict(
                nbformat=4,
                nbformat_minor=5,
                metadata=dict(
                    kernelspec=dict(name='python3', display_name='python3', language='python'),
                    language_info=dict(name='python'),
                ),
                cells=[cell('a', NOTE, ['parameters']), cell('b', BODY)],
            )
        )
    )
    return str(p)

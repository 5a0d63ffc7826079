"""Dense checks of `ecg_arrhythmia.reporting.measurement`, `throughput` and `bench`: every benchmark
runs, its figures can be real, and they say where they are from"""
import json, os, time
from pathlib import Path

import numpy as np, pandas as pd, pytest, torch

from ecg_arrhythmia.reporting import measurement as M
from ecg_arrhythmia.reporting.benchmarks import BENCHMARKS, STUDY_EPOCH, run_benchmark
from ecg_arrhythmia.commands.report import ecg_bench
from ecg_arrhythmia.reporting.measurement import (
    figure, in_fresh_process, interleave, memory_limit, memory_of, threads)
from ecg_arrhythmia.core import ECGError, cores
from ecg_arrhythmia.data.simulated_datasets import simulate_dataset

linux = pytest.mark.skipif(not Path('/proc/self/smaps_rollup').exists(), reason='asks /proc')

@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    "A fresh process finds the functions of tests/fresh.py, and this package"
    monkeypatch.setenv('PYTHONPATH', os.pathsep.join([str(Path(__file__).parent), os.environ.get('PYTHONPATH', '')]))

@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return simulate_dataset(tmp_path_factory.mktemp('sim') / 'data', n=44, seed=1, workers=1, progress=False)

@pytest.fixture(scope='module')
def results(data, tmp_path_factory):
    "Every quick benchmark, once, as the command writes it"
    out, found = tmp_path_factory.mktemp('results'), {}
    def get(name):
        if name not in found:
            ecg_bench(name, json=out/f'{name}.json', data=data, quick=True)
            found[name], = json.loads((out/f'{name}.json').read_text())['results']
        return found[name]
    return get

def table(result, unit=None):
    t = pd.DataFrame(result['figures'])
    return t if unit is None else t[t.unit==unit]

# --- every benchmark

DEAR = ['predict', 'imports', 'store', 'pack', 'charts'] # processes and disks: they take most of the time

@pytest.mark.parametrize(
    'name', [pytest.param(n, marks=pytest.mark.slow) if n in DEAR else n for n in BENCHMARKS]
)
def test_figures_are_finite_positive_and_placed(results, name):
    r = results(name)
    t, m = table(r), r['machine']
    assert (
        r['name'] == name
        and r['quick']
        and r['seconds'] > 0
        and (r['data'] == 'no recordings' if name in ('jobs', 'step') else 'Simulated' in r['data'])
    )
    assert (
        np.isfinite(t[['median', 'low', 'high']]).all(axis=None)
        and (t.low > 0).all()
        and (t.low <= t['median']).all()
        and (t['median'] <= t.high).all()
    )
    assert (t.repeats >= 1).all() and not t.drop(
        columns=['median', 'low', 'high', 'repeats']
    ).duplicated().any(), 'two figures with one description'
    assert (
        m['cores'] == cores()
        and m['torch']
        and m['cpu']
        and m['load'] >= 0
        and m['date'].startswith('20')
    )

def test_charts(results):
    t = table(results('charts'))
    assert set(t['style'])=={'grey', 'paper', 'leads'} and set(t.way)=={'matplotlib', 'rasterise'}
    assert (t.busy[t.threads==1] < 1.2).all(), 'one thread, and more than one core worked'

def test_pack(results):
    t = table(results('pack')).set_index(['what', 'unit'])['median']
    parts = ['inflate', 'parse', 'quality', 'raster', 'encode', 'write']
    ms = t.xs('ms/recording', level='unit')
    assert (
        ms['all'] == pytest.approx(ms[parts].sum())
        and ms['floor'] == pytest.approx(ms['inflate'] + ms['encode'])
        and ms['floor'] < ms['all']
    )
    assert t['all', 'recordings/s']*t['all', 's']==pytest.approx(11)

def test_store(results):
    b = table(results('store'), 'bytes').set_index(['what', 'style'])['median']
    assert all(b['store', s] < b['PNG', s] < b['pickle', s] for s in ('grey', 'paper', 'leads'))
    assert b['pickle', 'grey'] >= 4*3*64*64
    if 'cache' not in (t := table(results('store'))): pytest.skip('no posix_fadvise here')
    t = t.dropna(subset='cache')
    assert set(t.cache)=={'cold', 'warm'} and (t.disk_kb[t.cache=='warm']==0).all()

def test_loading(results):
    t = table(results('loading')).set_index('way')
    assert len(t)==4 and t.images.nunique()==1
    assert {'train, a run of one epoch', 'tensors in memory'} <= set(t.index)

def test_step(results):
    t = table(results('step'))
    assert (
        len(t[t.device == 'cpu']) == 2 * 4
        and set(t.architecture) == {'mobilenet_v3_small'}
        and set(STUDY_EPOCH) <= set(__import__('ecg_arrhythmia.models.architectures').models.ARCHITECTURES)
    )
    s = t.pivot(index=['device', 'channels_last', 'mixed'], columns='unit', values='median')
    assert np.allclose(
        s['s/step'] * s['images/s'],
        t.set_index('device').batch.groupby('device').first().reindex(s.index.get_level_values('device')),
    )

@linux
def test_imports(results):
    t = table(results('imports'))
    workers = t[t.kind=='loaders'].pivot(index='in_memory', columns='what', values='median')
    assert len(workers)==1 and (workers['worker, uss'] <= workers['worker, pss']).all()
    assert t[(t.kind=='import') & (t.unit=='MB')]['median'].between(10, 2000).all()

# --- the means of measuring

def test_turns_are_taken_and_the_warm_up_is_not_counted():
    calls = []
    t = interleave({k: lambda k=k: calls.append(k) for k in 'ab'}, repeat=3, warm_up=2)
    assert calls==list('ab')*5 and all(v.shape==(3, 2) for v in t.values())

def test_a_figure_is_the_median_with_its_spread():
    assert figure('s', [3, 1, 2], a=1)==dict(a=1, unit='s', median=2., low=1., high=3., repeats=3)

def test_threads_are_set_and_given_back():
    before = torch.get_num_threads()
    with pytest.raises(KeyError), threads(2):
        assert torch.get_num_threads()==2
        raise KeyError
    assert torch.get_num_threads()==before

def test_memory_is_of_the_process_asked_for():
    if not memory_of(): pytest.skip('asks /proc')
    out, peak = in_fresh_process('fresh:hold', 80, watch=True)
    assert out==80_000_000 and 80 < peak['parent'] < 200 and peak['worker']==0

@linux
def test_a_worker_counts_for_itself():
    _, peak = in_fresh_process('fresh:worker_holds', 60, watch=True)
    assert 60 < peak['worker'] < 160 and peak['parent'] < 50 < peak['all']

def test_memory_limit_holds():
    with memory_limit(150) as group:
        if group is None: pytest.skip('control groups cannot be made here')
        assert in_fresh_process('fresh:hold', 20, group=group)[0]==20_000_000
        with pytest.raises(ECGError, match='failed'): in_fresh_process('fresh:hold', 400, group=group)
    assert not group.parent.exists()

def test_a_failing_process_says_why():
    with pytest.raises(ECGError, match='ValueError: so'): in_fresh_process('fresh:fail', 'so')

def test_nothing_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(M.tempfile, 'tempdir', str(tmp_path))
    with pytest.raises(KeyError), M.workplace(None, 11) as (tmp, cat):
        assert len(cat)==11 and tmp.parent==tmp_path
        raise KeyError
    assert not list(tmp_path.iterdir())

def test_unknown_names_and_missing_data_are_said():
    with pytest.raises(ECGError, match='charts.*all'): run_benchmark('chart')
    with pytest.raises(ECGError, match='nowhere'): run_benchmark('charts', data='nowhere', quick=True)

def test_the_command_lists_and_keeps_what_it_had(tmp_path, capsys, monkeypatch):
    ecg_bench()
    said = capsys.readouterr().out.splitlines()
    assert {l.split()[0] for l in said}=={*BENCHMARKS, 'gpu'} and all(len(l) > 30 for l in said)
    def interrupted(data, quick): raise KeyboardInterrupt
    monkeypatch.setitem(
        BENCHMARKS,
        'charts',
        lambda data, quick: pd.DataFrame([figure('s', [1.0], way='a'), figure('s', [2.0], size=3)]),
    )
    monkeypatch.setitem(BENCHMARKS, 'pack', interrupted)
    with pytest.raises(KeyboardInterrupt): ecg_bench('all', json=tmp_path/'all.json')
    r, = json.loads((tmp_path/'all.json').read_text())['results']
    assert r['name'] == 'charts' and [
        set(f) - {'unit', 'median', 'low', 'high', 'repeats'} for f in r['figures']
    ] == [{'way'}, {'size'}]

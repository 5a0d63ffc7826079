"Dense checks of ecg_arrhythmia.data.simulation and simulate_dataset: physiology, reproducibility, and what a data set folder may not do"
import json, os, subprocess, sys, threading, zipfile

import numpy as np, pandas as pd, pytest

from ecg_arrhythmia.data import simulated_datasets as sim
from ecg_arrhythmia.data.datasets import catalogue
from ecg_arrhythmia.data.rhythms import RHYTHMS
from ecg_arrhythmia.data.recordings import LEADS
from ecg_arrhythmia.core import ECGError
from ecg_arrhythmia.data.hearts import MODELS
from ecg_arrhythmia.data.simulation import simulate
from ecg_arrhythmia.data.simulated_datasets import DIAGNOSTICS, simulate_dataset, spread

SEEDS = range(12)
each = pytest.mark.parametrize('rhythm', MODELS)

def rr(rec): return np.diff(rec.truth['beats'])

def test_all_labels_have_a_model(): assert set(MODELS)==set(RHYTHMS)==set(sim.MIX)

@each
def test_signal(rhythm):
    for seed in SEEDS:
        rec = simulate(rhythm, seed)
        x = rec.signal.astype(float)
        assert rec.signal.shape==(12,5000) and rec.signal.dtype==np.float32 and np.isfinite(x).all()
        i,ii,iii,avr,avl,avf = x[:6]
        assert abs(i+iii-ii).max()<1e-5 and abs(avr+(i+ii)/2).max()<1e-5
        assert abs(avl-(i-iii)/2).max()<1e-5 and abs(avf-(ii+iii)/2).max()<1e-5
        steps = x[[0,1,2,6,7,8,9,10,11]]/.00488
        assert abs(steps-np.rint(steps)).max()<1e-2
        assert .3<np.ptp(x, axis=1).max()<12 and np.ptp(x, axis=1).min()>.05

@each
def test_truth(rhythm):
    for seed in SEEDS:
        t = simulate(rhythm, seed).truth
        b = np.array(t['beats'])
        assert (np.diff(b)>.2).all() and b[0]>=0 and b[-1]<10
        for k in ('p','qrs','t'):
            v = np.array(t[k]).reshape(-1,2)
            assert (v[:,1]>=v[:,0]).all() and (np.diff(v[:,0])>0).all() and v.min(initial=0)>=0 and v.max(initial=0)<=10
        assert len(t['beats'])<=len(t['qrs'])<=len(t['beats'])+2
        assert bool(t['p']) == (rhythm not in ('AFIB','AF','SVT'))
        assert t['f_waves']==(rhythm=='AFIB') and t['flutter']==(rhythm=='AF')
        whole = [o for o in t['qrs'] if 0<o[0] and o[1]<10]
        assert all(any(a<x<e for x in b) for a,e in whole)
        json.dumps(t)

@each
def test_waves_do_not_collide(rhythm):
    for seed in SEEDS:
        t = simulate(rhythm, seed, noise=0).truth
        for (a,b) in t['t']:
            nxt = [q for q,_ in t['qrs'] if q>a]
            assert not nxt or b<=nxt[0]+1e-6
        if rhythm in ('SR','SB','ST','SI','SAAWR'):
            for (a,b) in t['t']:
                nxt = [q for q,_ in t['p'] if q>a]
                assert not nxt or b<=nxt[0]+.0501

@each
def test_r_peaks_are_where_the_truth_says(rhythm):
    for seed in SEEDS:
        rec = simulate(rhythm, seed, noise=0)
        slope = abs(np.diff(rec.signal, axis=1)).sum(0)
        for b in rec.truth['beats']:
            if .1<b<9.9:
                k = round(b*500)
                assert slope[k-15:k+20].max() > 2*np.median(slope)

@each
def test_reproducible(rhythm):
    a,b = simulate(rhythm, 7),simulate(rhythm, 7)
    assert a.signal.tobytes()==b.signal.tobytes() and a.truth==b.truth and a.meta==b.meta
    assert not np.array_equal(a.signal, simulate(rhythm, 8).signal)
    assert simulate(rhythm, 7, noise=0).truth==a.truth                  # noise leaves the heart alone
    assert simulate(rhythm, 7, fs=250).truth==a.truth                   # so does the sampling rate
    assert simulate(rhythm, np.int64(7)).signal.tobytes()==a.signal.tobytes()

@each
def test_other_lengths_and_rates(rhythm):
    with np.errstate(all='raise', under='ignore'):
        for seed in range(6): assert simulate(rhythm, seed, seconds=1).signal.shape==(12,500)
        rec = simulate(rhythm, 1, seconds=60, fs=250)
    assert rec.signal.shape==(12,15000) and rec.truth['beats'][-1]>57

def test_rates():
    for k, (lo, hi) in dict(
        SR=(59, 101),
        SB=(35, 61.5),
        ST=(98.5, 161),
        SVT=(148, 222),
        AVNRT=(148, 218),
        AVRT=(148, 222),
        SAAWR=(48, 102),
    ).items():
        assert all(lo <= simulate(k, s, noise=0).truth['rate'] <= hi for s in range(30)), k
    for s in range(30):
        t = simulate('AF', s, noise=0).truth
        assert 240<=t['atrial_rate']<=340
        if t['conduction']!='variable': assert abs(t['atrial_rate']/t['rate']-int(t['conduction'][0]))<.1
        t = simulate('AT', s, noise=0).truth
        assert 100<=t['atrial_rate']<=220 and abs(t['atrial_rate']/t['rate']-int(t['conduction'][0]))<.1

def test_rr_variation():
    for s in range(40):
        assert np.ptp(rr(simulate('SI', s, noise=0)))>.12 and np.ptp(rr(simulate('SR', s, noise=0)))<.13
        for k in ('SVT','AVNRT','AVRT'):
            r = rr(simulate(k, s, noise=0))
            assert r.std()/r.mean()<.02
    cv,serial = [],[]
    for s in range(80):
        r = rr(simulate('AFIB', s, noise=0))
        d = r-r.mean()
        cv.append(r.std()/r.mean()); serial.append((d[1:]*d[:-1]).sum()/(d**2).sum())
    assert .15<np.median(cv)<.30 and -.25<np.mean(serial)<.1

def test_p_morphology():
    ii = lambda rec, a, b: rec.lead('II')[int(a*500):int(b*500)]
    for s in SEEDS:
        rec = simulate('SR', s, noise=0)
        p = [o for o in rec.truth['p'] if o[0]>0 and o[1]<10]
        pr = np.mean([q-a for (a,_),q in ((o, min((x for x,_ in rec.truth['qrs'] if x>o[0]), default=np.nan)) for o in p)])
        assert .10<=pr<=.22 and abs(pr-rec.truth['pr'])<.01
        assert np.median([ii(rec,*o).max()-ii(rec,*o)[0] for o in p])>.03   # upright in II
    for s in SEEDS:  # RP of AVRT beyond that of AVNRT
        rp = {
            k: np.median(
                [min(a - r for r in t['beats'] if a > r - 0.02) for a, _ in t['p'] if a > t['beats'][0]]
            )
            for k in ('AVNRT', 'AVRT')
            for t in [simulate(k, s, noise=0).truth]
        }
        assert rp['AVNRT'] < 0.03 and 0.069 < rp['AVRT'] < 0.121

def test_alias():
    a,b = simulate('SA', 3),simulate('SI', 3)
    assert a.signal.tobytes()==b.signal.tobytes() and a.meta['rhythm']=='SI'

@pytest.mark.parametrize(
    'kw,what',
    [
        (dict(rhythm='VT'), 'SAAWR'),
        (dict(rhythm=''), 'known are'),
        (dict(rhythm=None), 'known are'),
        (dict(rhythm='sr'), 'known are'),
        (dict(seed=-1), 'seed'),
        (dict(seed=1.5), 'seed'),
        (dict(seed='1'), 'seed'),
        (dict(seed=True), 'seed'),
        (dict(seconds=0), 'seconds'),
        (dict(seconds=1e9), 'seconds'),
        (dict(fs=0), 'fs'),
        (dict(fs=float('nan')), 'fs'),
        (dict(fs='500'), 'fs'),
        (dict(noise=-1), 'noise'),
        (dict(noise=float('inf')), 'noise'),
    ],
)
def test_bad_arguments(kw, what):
    with pytest.raises(ECGError, match=what): simulate(**{'rhythm':'SR', **kw})

def test_spread():
    for n in (11, 12, 22, 100, 440, 1003):
        got = spread(n)
        assert sum(got.values())==n and set(got)==set(MODELS) and min(got.values())>=1
    got = spread(440)
    groups = [
        sum(got[k] for k in g)
        for g in (('AFIB', 'AF'), ('SB',), ('SR', 'SI'), ('ST', 'SVT', 'AT', 'AVNRT', 'AVRT', 'SAAWR'))
    ]
    assert max(groups)-min(groups)<=8
    for bad in (10, 0, -1, 11.5, None):
        with pytest.raises(ECGError, match='n must be'): spread(bad)

@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return simulate_dataset(tmp_path_factory.mktemp('d') / 'ecg', n=22, seed=4, workers=1, progress=False)

def test_layout(data):
    assert sorted(o.name for o in data.iterdir())==['Diagnostics.xlsx','ECGData.zip','RhythmNames.xlsx','simulation.json']
    d = pd.read_excel(data/'Diagnostics.xlsx')
    assert list(d)==DIAGNOSTICS and len(d)==22 and not d.FileName.str.contains('|'.join(['AFIB','SVT','AVN'])).any()
    assert set(d.Rhythm)==set(MODELS)-{'SI'}|{'SA'} and set(d.Gender)<={'MALE','FEMALE'}
    with zipfile.ZipFile(data/'ECGData.zip') as z:
        assert z.testzip() is None and [i.filename for i in z.infolist()]==[f'ECGData/{n}.csv' for n in d.FileName]
        assert {i.compress_type for i in z.infolist()}=={zipfile.ZIP_DEFLATED}
        raw = z.read(z.namelist()[0])
    lines = raw.decode('utf-8-sig').split('\n')
    assert raw.startswith(b'\xef\xbb\xbfI,II,III,') and lines[0]==','.join(LEADS) and len(lines)==5002 and lines[-1]==''
    assert not (data/'ECGData.zip').stat().st_mode & 0o111

def test_catalogue_round_trip(data):
    cat = catalogue(data)
    info = json.loads((data/'simulation.json').read_text())
    assert (
        cat.origin == 'simulated'
        and len(cat) == 22
        and info['origin'] == 'simulated'
        and list(info['recordings']) == sorted(cat.table.index)
    )
    for name,e in list(info['recordings'].items())[:6]:
        assert cat.table.rhythm[name]==e['rhythm']
        again = simulate(e['rhythm'], e['seed'])
        assert abs(cat.read(name).signal-again.signal).max()<.00245
        assert np.allclose(e['truth']['beats'], again.truth['beats'], atol=6e-4)

def test_same_seed_same_bytes(data, tmp_path):
    other = simulate_dataset(tmp_path/'x', n=22, seed=4, workers=3, progress=False)
    for f in data.iterdir(): assert f.read_bytes()==(other/f.name).read_bytes(), f.name
    third = simulate_dataset(tmp_path/'y', n=22, seed=5, progress=False)
    assert (third/'ECGData.zip').read_bytes()!=(data/'ECGData.zip').read_bytes()

def test_counts(tmp_path):
    p = simulate_dataset(tmp_path/'c', counts=dict(SA=2, SVT=1, AF=0), seed=1, workers=0)
    assert json.loads((p/'simulation.json').read_text())['counts']=={'SI':2,'SVT':1}
    for bad in (dict(VT=1), dict(SR=-1), dict(SR=1.5), dict(SR=0), {}):
        with pytest.raises(ECGError): simulate_dataset(tmp_path/'d', counts=bad)
    assert [o.name for o in tmp_path.iterdir()]==['c']

def test_existing_folder(tmp_path):
    kw = dict(counts=dict(SR=2), workers=0)
    p = tmp_path/'e'; p.mkdir()
    assert simulate_dataset(p, seed=1, **kw)==p                     # an empty folder is filled
    was = (p/'ECGData.zip').stat().st_mtime_ns
    simulate_dataset(p, seed=1, **kw)
    assert (p/'ECGData.zip').stat().st_mtime_ns==was                # nothing to do
    with pytest.raises(ECGError, match='seed 1, asked for 2'): simulate_dataset(p, seed=2, **kw)
    with pytest.raises(ECGError, match='noise'): simulate_dataset(p, seed=1, noise=2, **kw)
    simulate_dataset(p, seed=2, overwrite=True, **kw)
    assert json.loads((p/'simulation.json').read_text())['seed']==2
    (p/'ECGData.zip').write_bytes(b'cut')
    with pytest.raises(ECGError, match='changed'): simulate_dataset(p, seed=2, **kw)
    (p/'simulation.json').write_text('{"orig')
    with pytest.raises(ECGError, match='incomplete'): simulate_dataset(p, seed=2, **kw)
    simulate_dataset(p, seed=2, overwrite=True, **kw)
    assert [o.name for o in tmp_path.iterdir()]==['e']

def test_never_removes_other_things(tmp_path):
    kw = dict(counts=dict(SR=1), workers=0, overwrite=True)
    real = tmp_path/'real'; real.mkdir()
    for n in ('ECGData.zip','Diagnostics.xlsx','RhythmNames.xlsx'): (real/n).write_text('real')   # the database itself
    with pytest.raises(ECGError, match='not a simulated'): simulate_dataset(real, **kw)
    mine = simulate_dataset(tmp_path/'mine', counts=dict(SR=1), workers=0)
    (mine/'notes.txt').write_text('keep')
    with pytest.raises(ECGError, match='other files'): simulate_dataset(mine, seed=9, **kw)
    f = tmp_path/'file'; f.write_text('x')
    with pytest.raises(ECGError): simulate_dataset(f, **kw)
    assert (real/'ECGData.zip').read_text()==f.read_text()*0+'real' and (mine/'notes.txt').read_text()=='keep'

@pytest.mark.parametrize('error', [KeyboardInterrupt, OSError(28, 'No space left on device'), RuntimeError])
def test_nothing_is_left_after_a_failure(tmp_path, monkeypatch, error):
    made = []
    def make(job, make=sim._make):
        if len(made)==2: raise error
        made.append(job)
        return make(job)
    monkeypatch.setattr(sim, '_make', make)
    with pytest.raises((KeyboardInterrupt, RuntimeError, ECGError)):
        simulate_dataset(tmp_path / 'z', counts=dict(SR=4), workers=0)
    assert not list(tmp_path.iterdir())

def test_two_at_once(tmp_path):
    errors = []
    def go():
        try: simulate_dataset(tmp_path/'t', counts=dict(SR=3), workers=0, progress=False)
        except Exception as e: errors.append(e)
    ts = [threading.Thread(target=go) for _ in range(3)]
    for t in ts: t.start()
    for t in ts: t.join()
    assert not errors and [o.name for o in tmp_path.iterdir()]==['t'] and len(catalogue(tmp_path/'t'))==3

@pytest.mark.skipif(not hasattr(os, 'geteuid') or os.geteuid()==0, reason='root may write anywhere')
def test_unwritable(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ECGError, match='cannot write'): simulate_dataset(tmp_path/'a'/'b', counts=dict(SR=1), workers=0)

def test_a_file_in_the_way(tmp_path):
    (tmp_path / 'f').write_text('')
    with pytest.raises(ECGError, match='cannot write|not a simulated'):
        simulate_dataset(tmp_path / 'f' / 'x', counts=dict(SR=1), workers=0)

def test_light_import():
    heavy = ('torch','fastai','matplotlib','sklearn','scipy','wfdb','openpyxl')
    out = subprocess.run(
        [
            sys.executable,
            '-c',
            f'import sys, ecg_arrhythmia.data.simulated_datasets; print([m for m in {heavy} if m in sys.modules])',
        ],
        capture_output=True,
        text=True,
    )
    assert out.stdout.strip()=='[]', out

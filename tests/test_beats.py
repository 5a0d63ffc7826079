"Dense checks of `ecg_arrhythmia.signals`: beats in hard signals, refusals, leads that were mixed up"
import dataclasses

import numpy as np, pytest

from ecg_arrhythmia.signals.beats import align, changed_beats, find_beats, odd_width
from ecg_arrhythmia.signals.checks import check_signal, heart, strip_findings
from ecg_arrhythmia.signals.printed_beats import columns_of_print, strip_against_columns
from ecg_arrhythmia.core import ECGError
from ecg_arrhythmia.data.recordings import LEADS, Recording
from ecg_arrhythmia.data.hearts import MODELS
from ecg_arrhythmia.data.simulation import simulate

pytestmark = pytest.mark.filterwarnings('error::RuntimeWarning')

def errors(beats, rec, true=None, tolerance=.075, edge=.15):
    "False and missed beats, but for those at the ends"
    found, true = np.asarray(beats)/rec.fs, np.array(rec.truth['beats'] if true is None else true)
    far = lambda a,b: sum(edge<t<rec.seconds-edge and (not len(b) or abs(b-t).min()>tolerance) for t in a)
    return far(found, true), far(true, found)

@pytest.mark.parametrize('rhythm', MODELS)
def test_beats_of_every_rhythm(rhythm):
    for seed in range(100, 104):
        rec = simulate(rhythm, seed)
        assert errors(find_beats(rec), rec)==(0, 0), seed

HARD = dict(
    inverted=lambda x: -x,
    small=lambda x: 0.15 * x,
    tall=lambda x: 4 * x,
    offset=lambda x: x + 3.0,
    flat_lead=lambda x: np.where(np.arange(12)[:, None] == 1, 0, x),
    wander=lambda x: x + 1.5 * np.sin(2 * np.pi * 0.3 * np.arange(x.shape[1]) / 500),
    mains=lambda x: x + 0.2 * np.sin(2 * np.pi * 50 * np.arange(x.shape[1]) / 500),
    step=lambda x: x + 2 * (np.arange(x.shape[1]) > 2300) * (np.arange(12)[:, None] == 8),
)

@pytest.mark.parametrize('how', HARD)
def test_beats_in_hard_signals(how):
    for rhythm in ('SB', 'AFIB', 'SVT'):
        rec = simulate(rhythm, 5)
        changed = Recording(HARD[how](rec.signal.astype(float)), name=how, truth=rec.truth)
        false, missed = errors(find_beats(changed), changed)
        assert missed==0 and false<=(how=='step'), (rhythm, false, missed)

@pytest.mark.parametrize('kw', [dict(fs=100), dict(fs=250), dict(fs=360), dict(fs=1000), dict(seconds=4), dict(seconds=30)])
def test_other_rates_and_lengths(kw):
    for rhythm,seed in (('SR', 3), ('AFIB', 2)):
        rec = simulate(rhythm, seed, **kw)
        assert errors(find_beats(rec), rec)==(0, 0), rhythm

def test_align_is_exact_but_for_a_constant():
    for rhythm in ('SR', 'AFIB'):
        rec = simulate(rhythm, 7, noise=0)
        found = find_beats(rec)
        r = align(rec.signal.astype(float), found+np.arange(len(found))%9-4, rec.fs)/rec.fs
        off = [t-min(rec.truth['beats'], key=lambda b: abs(b-t)) for t in r if .2<t<9.8]
        assert np.ptp(off)<=.006

def test_a_rate_that_is_too_low():
    with pytest.raises(ECGError, match='slow.*sampled at 50 Hz'):
        find_beats(Recording(simulate('SR', 1).signal, 50, name='slow'))


def test_a_beat_at_the_very_end_is_no_error():
    "Where QRS begins after the last sample there is nothing to bridge"
    from types import SimpleNamespace
    from ecg_arrhythmia.signals.measurements import _bridge
    y = np.ones((2, 5000))
    at_the_end = SimpleNamespace(r=np.array([20, 4990]), at=100, on=160, off=170, fs=500)
    assert (_bridge(y, at_the_end)==y).all()

@pytest.mark.parametrize('strip', [1, 2, 6])
@pytest.mark.parametrize('rhythm', ['SR', 'SB', 'ST', 'AFIB'])
def test_a_print_with_a_strip_of_any_lead_has_the_rate_of_its_recording(rhythm, strip):
    from dataclasses import replace
    from ecg_arrhythmia.signals.checks import heart
    rec = simulate(rhythm, 7)
    column = np.arange(12)[:,None]//3==np.arange(rec.signal.shape[1])//1250
    shown = np.where(column|(np.arange(12)==strip)[:,None], rec.signal, np.nan)
    shown[:, 700:720] = np.nan # a gap in all of them, as of a crease
    page = heart(replace(rec, signal=shown, check=False))
    assert abs(page['rate']/heart(rec)['rate']-1)<.1

# ---- electrodes and leads that were mixed up

def moved(x, *names):
    "Samples with the leads in a circle: each name gets the samples of the next"
    x = x.copy()
    at = [LEADS.index(n) for n in names]
    x[at] = x[at[1:]+at[:1]]
    return x

def exchanged_arms(x):
    y = moved(moved(x, 'II', 'III'), 'aVR', 'aVL')
    y[0] = -x[0]
    return y

@pytest.mark.parametrize('rhythm', ['SR', 'SVT'])
@pytest.mark.parametrize('fault,code', [
    (lambda x: x, ''), (lambda x: x+4.5, ''), (lambda x: moved(x, 'V1', 'V6'), 'electrodes'), (exchanged_arms, 'electrodes'),
    (lambda x: moved(x, 'V2', 'V5'), 'electrodes'), (lambda x: x.clip(-.4, .4), 'clipped'),
    (lambda x: np.concatenate([x[:7], x[6:7]+1, x[8:]]), 'copied'), (lambda x: np.concatenate([x[:11], -x[1:2]]), 'copied')])
def test_mixed_up_leads_are_doubted(rhythm, fault, code):
    rec = simulate(rhythm, seed=3)
    found = check_signal(dataclasses.replace(rec, signal=fault(rec.signal).astype(np.float32)))[0]
    assert all(f.level=='doubt' for f in found) and (code in {f.code for f in found} if code else not found)

def test_parts_of_a_print_are_not_compared():
    rec = simulate('SR', seed=3)
    x = moved(rec.signal, 'V1', 'V6')
    x[6:,:2500] = np.nan
    assert not {'electrodes'} & {f.code for f in check_signal(dataclasses.replace(rec, signal=x, check=False))[0]}

# ---- leads that cannot be those of one heart

def scaled(x, name, k): return x*np.where(np.array(LEADS)==name, k, 1)[:,None]

@pytest.mark.parametrize('name', ['I', 'III', 'aVL'])
@pytest.mark.parametrize('k', [2, .5, -1])
def test_a_limb_lead_of_another_scale(name, k):
    "Also the smallest of them, which adds little to the error of the sums"
    from ecg_arrhythmia.data.leads import scaled_limb_lead
    x = simulate('SR', seed=3).signal.astype(float)
    x[0] *= .5 # a small lead I
    x[2:6] = np.stack([x[1]-x[0], -(x[0]+x[1])/2, x[0]-x[1]/2, x[1]-x[0]/2])
    assert scaled_limb_lead(x)==(None, 1)
    found, by = scaled_limb_lead(scaled(x, name, k))
    assert found==name and abs(by/k-1)<.01

@pytest.mark.parametrize('rhythm', ['SR', 'AFIB', 'SB', 'SVT'])
@pytest.mark.parametrize('fault,code', [
    *[(lambda x, l=l: scaled(x, l, -1), 'electrodes') for l in LEADS[6:]],
    (lambda x: x[[*range(6), *range(11, 5, -1)]], 'electrodes'),
    (lambda x: scaled(x, 'V3', .05), 'electrodes'), (lambda x: -x, 'electrodes'), (lambda x: scaled(x, 'I', 2), 'limb_leads'),
    (lambda x: np.hstack([x[:,:2000], 0*x[:,2000:2150], x[:,2150:]]), 'gap')])
def test_what_contradicts_the_other_leads_is_doubted(rhythm, fault, code):
    rec = simulate(rhythm, seed=3)
    def codes(x): return {f.code for f in check_signal(dataclasses.replace(rec, signal=x.astype(np.float32)))[0]}
    assert not codes(rec.signal) & {'electrodes', 'limb_leads', 'gap', 'halves', 'width'} and code in codes(fault(rec.signal))

def test_two_patients_in_one_file():
    one, other = simulate('SR', seed=4), simulate('SR', seed=14)
    assert not changed_beats(one) and not changed_beats(other)
    joined = dataclasses.replace(one, signal=np.hstack([one.signal[:,:2500], other.signal[:,2500:]]))
    assert [f.code for f in check_signal(joined)[0]].count('halves')==1

@pytest.mark.parametrize('rhythm,seed,fs', [('SR', 12, 1000), ('AFIB', 7, 1000), ('SB', 7, 250)])
def test_a_rate_that_is_wrong_by_two_changes_the_width_of_qrs(rhythm, seed, fs):
    rec = simulate(rhythm, seed)
    assert not odd_width(rec) and odd_width(dataclasses.replace(rec, fs=fs))

def as_print(rec, strip=None):
    "Four columns of three leads, and one lead below them"
    column = np.arange(12)[:,None]//3 == np.arange(rec.signal.shape[1])//(rec.signal.shape[1]//4)
    x = np.where(column, rec.signal, np.nan)
    if strip is not None: x[strip] = rec.signal[strip]
    return dataclasses.replace(rec, signal=x, check=False)

def with_edges(page, at):
    "The same with what is no beat, in the three leads of the second column"
    x = page.signal.copy()
    x[3:6, at:at+15] += .5
    return dataclasses.replace(page, signal=x, check=False)

@pytest.mark.parametrize('seed', range(6))
def test_a_false_beat_in_the_columns(seed):
    "Where strip and columns share even beats, their rate counts; the answer is doubted, with a strip or without"
    rec = simulate('SB', seed=seed)
    r = find_beats(rec)
    inside = r[(r > 1300) & (r < 1900)]
    at = int(inside[0] + np.diff(r).mean()/2)
    true = heart(rec)['rate']
    for strip in (1, None):
        page = as_print(rec, strip)
        edged = with_edges(page, at)
        assert heart(page)['rate'] == pytest.approx(true, rel=.02) and not strip_findings(page)
        assert [f.code for f in strip_findings(edged)] == ['extra_beat']
    alone, shared = strip_against_columns(with_edges(as_print(rec, 1), at))[1], heart(with_edges(as_print(rec, 1), at))['rate']
    assert not alone or shared == pytest.approx(true, rel=.02)

@pytest.mark.parametrize('seed', range(4))
def test_a_gap_in_a_lead_leaves_its_column(seed):
    "What could not be read of one lead takes no other lead of the column away; the rate stays, or is doubted"
    rec = simulate('SB', seed=seed)
    page = as_print(rec)
    x = page.signal.copy()
    for column,a in enumerate((500, 1800, 3000, 4200)): x[3*column, a:a+300] = np.nan
    torn = columns_of_print(x, rec.fs)
    assert [(a, b) for a,b,_ in torn] == [(1250*k, 1250*k+1250) for k in range(4)] and all(len(leads)==2 for *_,leads in torn)
    torn = dataclasses.replace(page, signal=x, check=False)
    assert heart(torn)['rate'] == pytest.approx(heart(rec)['rate'], rel=.02) or strip_findings(torn)

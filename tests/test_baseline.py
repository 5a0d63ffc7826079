"Dense checks of `ecg_arrhythmia.signals.measurements` and `baseline`: numbers against what is known, refusals"
import numpy as np, pandas as pd, pytest

from ecg_arrhythmia.signals.baseline import cross_validate_features
from ecg_arrhythmia.signals.measurements import (
    FEATURES, GROUPS, _slow, alike, columns_of, feature_table, features, rhythm_features)
from ecg_arrhythmia.data.datasets import catalogue, sample_data
from ecg_arrhythmia.evaluation.metrics import evaluate
from ecg_arrhythmia.data.splits import Split, make_split
from ecg_arrhythmia.data.rhythms import label
from ecg_arrhythmia.evaluation.tables import average_views, check_predictions
from ecg_arrhythmia.core import ECGError
from ecg_arrhythmia.data.recordings import Recording
from ecg_arrhythmia.data.simulation import simulate
from ecg_arrhythmia.data.simulated_datasets import simulate_dataset

pytestmark = pytest.mark.filterwarnings('error::RuntimeWarning')

def fails(*says): return pytest.raises(ECGError, match='(?s)'+'.*'.join(says))

# --- signals of all kinds

@pytest.mark.parametrize('fs', [100, 250, 360, 1000])
def test_features_at_other_rates(fs):
    f, g = features(simulate('SR', 3, fs=fs)), features(simulate('SR', 3, noise=0))
    assert f.keys()==FEATURES.keys() and np.isfinite(list(f.values())).all()
    assert abs(f['rate']-g['rate'])<1 and abs(f['qrs_ms']-g['qrs_ms'])<=25 and abs(f['axis']-g['axis'])<12

@pytest.mark.parametrize('seconds', [4, 30])
def test_other_lengths(seconds): assert features(simulate('AFIB', 2, seconds=seconds)).keys()==FEATURES.keys()

# --- what cannot be measured

def test_refusals():
    x = simulate('SR', 1).signal
    with fails('short.*2 s are too short'): features(Recording(x[:,:1000], name='short'))
    holes = x.copy(); holes[3,7] = np.nan
    with fails('holes.*missing values.*quality.judge'): features(Recording(holes, name='holes', check=False))

def test_nothing_to_find_is_nan():
    for rec in (Recording(np.zeros((12,5000))), Recording(np.full((12,5000), .7))):
        f = features(rec)
        assert f.keys()==FEATURES.keys() and f.pop('beats')==0 and np.isnan(list(f.values())).all()

def test_one_and_two_beats_are_nan_not_an_error():
    x = simulate('SB', 3, noise=0)
    for k in (1, 2):
        y = x.signal.copy(); y[:, round(500*(x.truth['beats'][k]-.4)):] = 0
        f = features(Recording(y))
        assert f['beats']<=k+1 and np.isnan(f['rate']) and f.keys()==FEATURES.keys()

def test_noise_alone_gives_numbers_or_nan():
    f = features(Recording(np.random.default_rng(0).normal(0, .1, (12,5000))))
    assert f.keys()==FEATURES.keys() and not np.isinf(list(f.values())).any() and abs(f['p_alike'])<.3

# --- numbers

def test_rhythm_numbers_by_hand():
    f = rhythm_features(np.cumsum([0, 400, 500, 400, 500, 400, 500]), 500) # 800 and 1000 ms in turns
    assert (
        f['rate'] == pytest.approx(60000 / 900)
        and f['rr_sd'] == pytest.approx(100)
        and f['rmssd'] == pytest.approx(200)
        and f['pnn50'] == 1
        and f['rr_turns'] == 1
    )
    assert (
        f['rr_lag1'] == pytest.approx(-5 / 6)
        and f['rr_lag2'] == pytest.approx(4 / 6)
        and f['rr_ratio'] == 1.25
        and f['rr_entropy'] == pytest.approx(-(0.6 * np.log2(0.6) + 0.4 * np.log2(0.4)))
    )
    assert rhythm_features(np.array([1, 500, 900]), 500)=={'beats': 3}
    even = rhythm_features(np.arange(10)*400, 500)
    assert even['rr_sd']==even['rmssd']==even['rr_entropy']==0 and np.isnan([even['rr_lag1'], even['rr_slow']]).all()

def test_slow_share_tells_breathing_from_chance():
    t = np.arange(14)*850.
    assert _slow(850+60*np.sin(2*np.pi*.2*t/1000))>.9
    by_chance = [_slow(850+60*np.random.default_rng(s).standard_normal(14)) for s in range(50)]
    assert np.mean(by_chance)<.55

def test_alike_is_the_mean_of_pairs_and_zero_for_noise():
    rng = np.random.default_rng(1)
    w = rng.standard_normal((7, 3, 20)); c = np.corrcoef(w.reshape(7, -1))
    assert (
        alike(w) == pytest.approx((c.sum() - 7) / 42)
        and alike(np.repeat(w[:1], 5, 0)) == pytest.approx(1)
        and np.isnan(alike(w[:1]))
    )
    assert abs(np.mean([alike(rng.standard_normal((5,40))) for _ in range(400)]))<.02

def test_numbers_tell_what_the_simulator_did():
    sr, af, fl = [pd.DataFrame([features(simulate(k, s)) for s in range(200, 212)]) for k in ('SR', 'AFIB', 'AF')]
    assert sr.p_alike.min()>.6>.4>af.p_alike.max() and sr.p_II.gt(0).all() and sr.p_time.between(-220, -60).all()
    assert sr.rr_cv.max()<.1<af.rr_cv.min() and (af.rest_rms_V1>sr.rest_rms_V1.median()).mean()>.7
    true = np.array([simulate('AF', s).truth['atrial_rate']/60 for s in range(200, 212)])
    assert (abs(fl.f_hz_V1-true)<.5).mean()>.5 # else a harmonic, or the beats themselves

def test_scaling_and_polarity():
    rec = simulate('SR', 4, noise=.2)
    f, big, upside = [features(Recording(rec.signal*k)) for k in (1, 2, -1)]
    assert big['p_II']==pytest.approx(2*f['p_II'], rel=1e-3) and upside['p_II']==pytest.approx(-f['p_II'], rel=1e-3)
    for k in ('rate', 'p_alike', 'qrs_ms', 'f_peak_II'):
        assert big[k] == pytest.approx(f[k], rel=1e-3) == pytest.approx(upside[k], rel=1e-3)

def test_every_feature_is_documented():
    assert all(g in GROUPS and what and u in ('', 'ms', 'µV', '1/min', 'bit', '°', 'Hz') for g,u,what in FEATURES.values())
    assert columns_of()==list(FEATURES) and sum(len(columns_of([g])) for g in GROUPS)==len(FEATURES)
    assert len({w for _,_,w in FEATURES.values()})==len(FEATURES)

# --- tables and folds

@pytest.fixture(scope='module')
def sim(tmp_path_factory):
    cat = catalogue(simulate_dataset(tmp_path_factory.mktemp('base')/'sim', n=66, seed=3, progress=False))
    return cat, feature_table(cat, progress=False), make_split(label(cat), test_size=.2, n_folds=2)

def test_table_is_the_features_of_each(sim):
    cat, table, _ = sim
    assert list(table.index)==list(cat) and list(table)==list(FEATURES)
    name = table.index[40]
    assert table.loc[name].to_dict()==pytest.approx(features(cat.read(name)), nan_ok=True)
    some = feature_table(cat, [name, table.index[2]], progress=False)
    pd.testing.assert_frame_equal(some, table.loc[[name, table.index[2]]])

def test_a_bad_recording_is_named(sim):
    with fails("'nobody'.*not in this catalogue"): feature_table(sim[0], ['nobody'])

@pytest.mark.slow
def test_cross_validate_predicts_each_training_recording_once_a_seed(sim):
    _, table, split = sim
    p = cross_validate_features(table, split, seeds=(0, 3), groups=['rhythm', 'P'], progress=False)
    check_predictions(p)
    assert sorted(p.name)==sorted(2*split.train) and set(p.view)=={'seed 0', 'seed 3'} and not set(p.name)&set(split.test)
    for k in (0, 1): assert set(p.name[p.fold==k])==set(split.folds[k])
    assert evaluate(p)['n']==len(split.train) and set(average_views(p).view)=={'average'}
    again = cross_validate_features(table, split, seeds=(3,), groups=['rhythm', 'P'], progress=False)
    pd.testing.assert_frame_equal(again, p[p.view=='seed 3'].reset_index(drop=True))
    shuffled = table.sample(frac=1, random_state=0)[list(table)[::-1]]
    pd.testing.assert_frame_equal(
        cross_validate_features(shuffled, split, seeds=(3,), groups=['rhythm', 'P'], progress=False), again
    )

@pytest.mark.slow
def test_no_peeking(sim):
    "Labels of a fold do not reach its own predictions"
    _, table, split = sim
    other = dict(split.labels) | {n: split.classes[(split.classes.index(split.labels[n])+1)%4] for n in split.folds[0]}
    a, b = [
        cross_validate_features(table, s, seeds=(0,), progress=False)
        for s in (split, Split(split.test, split.folds, other))
    ]
    assert a[a.fold == 0].filter(like='p_').equals(b[b.fold == 0].filter(like='p_')) and not a[
        a.fold == 1
    ].filter(like='p_').equals(b[b.fold == 1].filter(like='p_'))

def test_wrong_tables(sim):
    _, table, split = sim
    with fails('no features of 1 recordings', split.train[0]): cross_validate_features(table.drop(split.train[0]), split)
    with fails('lacks the features rate'): cross_validate_features(table.drop(columns='rate'), split)
    with fails('twice'): cross_validate_features(pd.concat([table, table[:1]]), split)
    with fails("unknown group of features 'all'.*rhythm, P, beat, atria"):
        cross_validate_features(table, split, groups=['all'])
    parts = [[n for n in split.train if (split.labels[n]=='SB')==sb] for sb in (False, True)]
    with fails('fold 0.*only the classes SB, not AFIB, GSVT, SB, SR'):
        cross_validate_features(table, Split((), parts, split.labels), seeds=(0,), groups=['rhythm'])

# --- real recordings

@pytest.mark.slow
@pytest.mark.skipif(not sample_data(), reason='no real recordings here')
def test_rate_of_real_recordings():
    cat = catalogue(sample_data()/'chapman')
    names = list(cat)[::20]
    rate = np.array([features(cat.read(n))['rate'] for n in names])
    off = abs(rate/cat.table.ventricular_rate[names]-1)
    assert (off<.05).mean()>.93 and np.median(off)<.01

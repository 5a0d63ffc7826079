"Checks of curves, calibration, groups and comparisons: against sklearn and brute force, ties, missing classes"
import numpy as np, pandas as pd, pytest

from ecg_arrhythmia.evaluation.certainty import (
    across_folds, aurc, calibration, ece, fit_temperature, plot_reliability, plot_risk_coverage,
    reliability, risk_coverage, temperature_note, with_temperature)
from ecg_arrhythmia.evaluation.compare import compare_all, ensemble, mcnemar, over_seeds
from ecg_arrhythmia.evaluation.margins import draws, holm
from ecg_arrhythmia.evaluation.metrics import evaluate
from ecg_arrhythmia.evaluation.curves import (
    FIGURES, auroc, average_precision, confusion_intervals, class_curve, intervals, plot_curves)
from ecg_arrhythmia.evaluation.tables import predictions, scored
from ecg_arrhythmia.core import ECGError
from ecg_arrhythmia.evaluation.groups import age_groups, differs, elsewhere, newcombe, subgroups, with_mix

CL = ['AFIB', 'GSVT', 'SB', 'SR']
pytestmark = pytest.mark.filterwarnings('error')

def made(n=200, k=4, seed=0, sharp=2., digits=None):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, k, n)
    z = sharp*np.eye(k)[y] + rng.normal(0, 1, (n, k))
    p = np.exp(z)/np.exp(z).sum(1, keepdims=True)
    if digits is not None: p = (np.floor(p*10**digits)+1e-3); p /= p.sum(1, keepdims=True) # many ties
    return y, p

def table(y, p, **kw): return predictions([f'r{i:04}' for i in range(len(y))], p, CL[:p.shape[1]], labels=y, **kw)

@pytest.mark.parametrize('digits', [None, 1, 0])
def test_weighted_curves_are_sklearns(digits):
    "With and without ties, and with weights as if recordings were repeated"
    from sklearn.metrics import average_precision_score, roc_auc_score
    y, p = made(digits=digits)
    w = draws(len(y), 5, np.random.default_rng(1))
    for c in range(4):
        for row,a,ap in zip(w, auroc(y==c, p[:,c], w), average_precision(y==c, p[:,c], w)):
            i = np.repeat(np.arange(len(y)), row.astype(int))
            assert a==pytest.approx(roc_auc_score(y[i]==c, p[i,c]))
            assert ap==pytest.approx(average_precision_score(y[i]==c, p[i,c]))

def test_curve_points_are_sklearns():
    from sklearn.metrics import precision_recall_curve, roc_curve
    y, p = made(digits=1)
    once = np.ones((1, len(y)))
    fpr, tpr, _ = roc_curve(y==0, p[:,0], drop_intermediate=False)
    assert np.allclose(class_curve(y==0, p[:,0], once, 'roc', fpr)[0], [tpr[fpr==f].max() for f in fpr])
    precision, recall, _ = precision_recall_curve(y==0, p[:,0])
    for r in np.unique(recall[recall>0]):
        assert class_curve(y==0, p[:,0], once, 'pr', [r])[0,0]==pytest.approx(precision[recall==r].max())
    with pytest.raises(ECGError, match="'roc' or 'pr'"): class_curve(y==0, p[:,0], once, 'det', fpr)

def test_intervals_are_those_of_recordings():
    "The matrix way gives what resampling tables gives"
    y, p = made(150)
    df, rng = table(y, p), np.random.default_rng(5)
    brute = []
    for _ in range(150):
        i = rng.integers(0, len(y), len(y))
        brute.append(intervals(table(y[i], p[i]), n_boot=1).value)
    brute, found = pd.concat(brute, axis=1).quantile([.1, .9], axis=1).T, intervals(df, level=.8, n_boot=3000)
    assert abs(brute[.1]-found.low).max() < .03 and abs(brute[.9]-found.high).max() < .03
    assert ((found.low<=found.value)&(found.value<=found.high)).all()

def test_missing_and_silent_class():
    y, p = made(120)
    found = intervals(table(y[y!=3], p[y!=3]), n_boot=50)
    assert found.loc['SR'].isna().to_numpy().all()
    assert found.value['macro', 'f1']==pytest.approx(found.value[:, 'f1'][CL[:3]].mean())
    silent = p.copy(); silent[:,0] = 0; silent /= silent.sum(1, keepdims=True)
    found = intervals(table(y, silent), n_boot=50)
    assert np.isnan(found.value['AFIB', 'precision']) and found.value['AFIB', 'recall']==0==found.value['AFIB', 'f1']
    assert found.value['macro', 'precision']==pytest.approx(found.value[:, 'precision'][CL[1:]].sum()/4)
    assert len(plot_curves(table(y[y==1], p[y==1])).axes)==1 # nothing to draw, and no crash
    assert list(found.index.get_level_values('figure')[:5])==list(FIGURES)

def test_a_class_without_recordings_is_treated_alike_everywhere():
    "It does not enter the mean, in the history of a run, in the metrics and in the intervals, also if it is predicted"
    from ecg_arrhythmia.training.runs import scores_of
    y, p = made(120)
    y, p = y[y!=3], p[y!=3]
    assert (p.argmax(1)==3).any()
    m = evaluate(table(y, p))['macro_f1']
    assert scores_of(p, y, 1)['macro_f1'] == pytest.approx(m) and intervals(table(y, p), n_boot=2).value[
        'macro', 'f1'
    ] == pytest.approx(m)
    assert over_seeds([table(y, p)], n_boot=2)['macro_f1']==pytest.approx(m)

def test_confusion_intervals():
    y, p = made(100)
    c = confusion_intervals(table(y, p), n_boot=200)
    assert np.allclose(c.value.unstack().sum(axis=1), 1) and c['count'].sum()==100
    assert ((c.low<=c.value+1e-9)&(c.value<=c.high+1e-9)).all()

def test_intervals_in_little_memory():
    import tracemalloc
    y, p = made(40_000)
    tracemalloc.start()
    intervals(table(y, p), n_boot=200)
    assert tracemalloc.get_traced_memory()[1] < 500e6
    tracemalloc.stop()

# --- calibration

def test_ece_by_hand():
    p, y = np.array([[.95,.05],[.85,.15],[.6,.4],[.62,.38]]), np.array([0,1,0,0])
    by_hand = abs(.05)/4 + abs(0-.85)/4 + 2/4*abs(1-.61) # groups of a fifteenth: .6 and .62 are together
    assert ece(p, y)[0]==pytest.approx(by_hand) and ece(p, y, weights=np.array([[0,1,0,0]]))[0]==pytest.approx(.85)

@pytest.mark.parametrize('t', [.5, 1, 3])
def test_temperature_is_found(t):
    rng = np.random.default_rng(0)
    z = rng.normal(0, 2, (20_000, 4))
    p = np.exp(z)/np.exp(z).sum(1, keepdims=True)
    y = (p.cumsum(1) > rng.random((len(p), 1))).argmax(1)
    claimed = p**t/(p**t).sum(1, keepdims=True)
    found = fit_temperature(table(y, claimed))
    assert found==pytest.approx(t, rel=.05)
    cooled = with_temperature(table(y, claimed), found)
    assert abs(scored(cooled)[2]-p).max() < .02 and calibration(cooled, n_boot=2).value['ece'] < .02

def test_temperature_survives_zeros_and_views():
    y, p = made(100, sharp=4)
    hard = p.copy(); hard[hard<.01] = 0; hard /= hard.sum(1, keepdims=True)
    assert np.isfinite(fit_temperature(table(y, hard)))
    two = pd.concat([table(y, p, views='a'), table(y, made(100, seed=0)[1], views='b')])
    t = fit_temperature(two)
    out = with_temperature(two, t)
    assert len(out)==100 and out.view.unique().tolist()==['average']
    assert np.allclose(out.filter(like='p_').sum(axis=1), 1)

def test_temperature_refuses():
    y, p = made(50)
    with pytest.raises(ECGError, match='hold-out'): fit_temperature(table(y, p, folds='test'))
    with pytest.raises(ECGError, match='every prediction is right'): fit_temperature(table(y, np.eye(4)[y]*.9+.025))
    with pytest.raises(ECGError, match='above 0'): with_temperature(table(y, p), 0)
    with pytest.raises(ECGError, match='two folds'): across_folds(table(y, p))

def test_temperature_at_the_end_of_its_range_is_said():
    "Validation data that determine no temperature: a warning, and a note for a report"
    df = predictions(['a', 'b', 'c'], [[.51,.49], [.51,.49], [.501,.499]], ['X', 'Y'], labels=[0, 0, 1], folds=0)
    with pytest.warns(UserWarning, match='end of its range'): t = fit_temperature(df)
    assert 'do not determine' in temperature_note(t) and temperature_note(1.3)==temperature_note(None)==''

def test_folds_do_not_calibrate_themselves():
    y, p = made(300)
    p[:100] = p[:100]**3/(p[:100]**3).sum(1, keepdims=True) # the first fold alone is too sure
    _, ts = across_folds(table(y, p, folds=np.arange(300)//100))
    assert ts[0] < ts[1] and ts[0] < ts[2]

def test_reliability_and_coverage():
    y, p = made(103)
    r = reliability(table(y, p), 10)
    assert r.n.sum()==103 and r.n.max()-r.n.min()<=1 and r.confidence.is_monotonic_increasing
    assert ((r.low<=r.accuracy)&(r.accuracy<=r.high)).all()
    assert len(reliability(table(y[:3], p[:3]), 10))==3
    c = risk_coverage(table(y, p))
    assert c.accuracy[1.]==pytest.approx((p.argmax(1)==y).mean()) and c.n[1.]==103
    sure = p.max(1)>=c.threshold[.5]
    assert sure.sum()==c.n[.5] and (p.argmax(1)==y)[sure].mean()==pytest.approx(c.accuracy[.5])
    assert 0 < aurc(table(y, p)) < 1-c.accuracy[1.]
    for bad in (0, 1.2):
        with pytest.raises(ECGError, match='coverage'): risk_coverage(table(y, p), [bad])

# --- groups and elsewhere

def test_more_tables_than_colours_are_all_drawn():
    y, p = made(); tables = {f'method {i}': table(y, p) for i in range(8)}
    for fig in (plot_reliability(tables), plot_risk_coverage(tables, n_boot=5)):
        assert len(fig.axes[-1].get_legend().get_texts())==8

def test_no_chart_to_show():
    from ecg_arrhythmia.evaluation.assessment import chart_page
    y, p = made(20)
    with pytest.raises(ECGError, match='no chart to show'): chart_page(table(y, p), None, n=0)

def test_subgroups_by_brute_force():
    y, p = made(200)
    g = pd.Series(np.where(np.arange(200)<60, 'few', 'many'), index=[f'r{i:04}' for i in range(200)])
    s, right = subgroups(table(y, p), g), p.argmax(1)==y
    assert s.n.tolist()==[60,140] and s.accuracy['few']==pytest.approx(right[:60].mean())
    assert s.gap['few']==pytest.approx(right[:60].mean()-right[60:].mean())
    assert s.gap['many']==pytest.approx(-s.gap['few']) and s.gap_low['few']<s.gap['few']<s.gap_high['few']
    only = subgroups(table(y, p), pd.Series('all', index=g.index))
    assert np.isnan(only.gap['all']) and only.accuracy['all']==pytest.approx(right.mean())
    with pytest.raises(ECGError, match='have no group, r0060'): subgroups(table(y, p), g[:60])

def null_page(seed, n=200):
    "Made-up predictions that are right as often in every group"
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 4, n)
    said = np.where(rng.random(n)<.95, y, (y+1)%4)
    names = [f'r{i:04}' for i in range(n)]
    groups = dict(sex=rng.choice(['F', 'M'], n), rhythm=rng.choice(list('abcdefgh'), n, p=[.4,.2,.1,.1,.08,.06,.04,.02]))
    return table(y, np.eye(4)[said]*.8+.05), {k: pd.Series(g, names) for k,g in groups.items()}

def test_groups_that_do_not_differ_are_seldom_marked():
    "Fewer than one page in twenty in the long run; a group that is served worse is marked"
    marked = 0
    for seed in range(20):
        df, groups = null_page(seed)
        marked += differs({k: subgroups(df, g) for k,g in groups.items()}).any()
    assert marked <= 3
    worse = df.copy()
    worse.loc[groups['sex'].to_numpy()=='F', ['label']] = 'SR'
    assert differs({'sex': subgroups(worse, groups['sex'])}).all()
    few = groups['rhythm'].replace(list('bcdefg'), 'a')
    assert not differs({'rhythm': subgroups(worse, few)})['rhythm', 'h'], 'a group of four tells nothing'

def test_newcombe_against_his_paper():
    assert np.allclose(newcombe((56, 48), (70, 80)), (.0524, .3339), atol=1e-4)
    assert np.allclose(newcombe((9, 3), (10, 10)), (.1705, .8090), atol=1e-4)
    low, high = newcombe((10, 5), (10, 10))
    assert low < .5 < high <= 1 and newcombe((0, 0), (10, 10))==pytest.approx((-.2775, .2775), abs=1e-3)

def test_patients_are_drawn_with_all_their_recordings():
    "Each recording four times is no new evidence: the intervals stay those of a quarter of the recordings"
    y, p = made(60)
    whose = [f'p{i}' for i in range(60)]
    four_y, four_p, four = np.tile(y, 4), np.tile(p, (4, 1)), whose*4
    known = table(four_y, four_p, patients=dict(zip([f'r{i:04}' for i in range(240)], four)))
    once, copied = intervals(table(y, p), n_boot=2000), intervals(known, n_boot=2000)
    naive = intervals(table(four_y, four_p), n_boot=2000)
    width = lambda t: (t.high-t.low)['macro', 'f1']
    assert np.allclose(once.value, copied.value) and width(copied)==pytest.approx(width(once), rel=.1)
    assert width(naive) < .6*width(once)
    m, n = evaluate(known), evaluate(table(y, p))
    assert (
        np.diff(m['accuracy_ci']) == pytest.approx(np.diff(n['accuracy_ci']), rel=0.25)
        and 'of 60 patients' in m['notes'][-1]
    )
    g = pd.Series(np.where(np.arange(240)%60<30, 'a', 'b'), known.name)
    s, alone = subgroups(known, g), subgroups(table(y, p), pd.Series(list('a'*30+'b'*30), [f'r{i:04}' for i in range(60)]))
    assert (s.high-s.low)['a']==pytest.approx((alone.high-alone.low)['a'], rel=.15) and s.n['a']==120
    for f in (calibration, risk_coverage):
        assert (f(known).high - f(known).low).iloc[0] > 1.6 * (
            f(table(four_y, four_p)).high - f(table(four_y, four_p)).low
        ).iloc[0]
    assert over_seeds([known])['high'] - over_seeds([known])['low'] > 1.6 * (lambda o: o['high'] - o['low'])(
        over_seeds([table(four_y, four_p)])
    )

def test_age_groups():
    assert age_groups([0, 17.99, 18, 39, 40, 60, 80, 119,
        np.nan]).tolist()==['0-17','0-17','18-39','18-39','40-59','60-79','80 and older','80 and older','unknown']

def test_mix():
    from sklearn.metrics import f1_score
    c = np.array([[8,2,0],[1,8,1],[0,5,5]])
    assert with_mix(c, c.sum(1))['accuracy']==pytest.approx(21/30)
    big = c*np.array([[1],[10],[3]]) # the same answers, other frequencies
    y, q = np.repeat(np.repeat(range(3), 3), big.ravel()), np.repeat(np.tile(range(3), 3), big.ravel())
    m = with_mix(c, big.sum(1))
    assert m['accuracy']==pytest.approx((y==q).mean()) and m['macro_f1']==pytest.approx(f1_score(y, q, average='macro'))
    assert np.isnan(with_mix([[5,5],[0,0]], [.5,.5])['accuracy']) and with_mix([[5,5],[0,0]], [1,0])['accuracy']==.5

def test_elsewhere_sees_a_real_loss():
    y, p = made(600, sharp=3)
    y2, p2 = made(600, seed=1, sharp=1)
    found = elsewhere(table(y, p), table(y2, p2), n_boot=300)
    assert found.loc['lost beyond the mix'].accuracy_low > .1
    assert found.loc['home'].accuracy==pytest.approx((p.argmax(1)==y).mean())
    with pytest.raises(ECGError, match='SR: occurs elsewhere and not at home'):
        elsewhere(table(y[y<3], p[y<3]), table(y2, p2))
    with pytest.raises(ECGError, match='different classes'):
        elsewhere(table(y, p), predictions(['a'], [[.5,.5]], ['X','Y'], labels=[0]))

# --- comparisons

def test_mcnemar_and_holm_against_references():
    from scipy.stats import binomtest
    y, p = made(300)
    _, q = made(300, seed=0, sharp=3)
    t = mcnemar(table(y, p), table(y, q))
    assert t['only_a']+t['only_b']+t['both']+t['neither']==300
    assert t['p']==pytest.approx(binomtest(t['only_a'], t['only_a']+t['only_b']).pvalue)
    raw = np.array([.001, .02, .03, .5, .02])
    by_hand = [.005, .08, .08, .5, .08]
    assert np.allclose(holm(raw), by_hand) and (holm(raw)>=raw).all() and len(holm([]))==0

def test_recordings_of_one_patient_are_not_independent():
    "Each recording ten times: the counts grow, what they prove does not"
    y, p = made(80)
    q = made(80, seed=0, sharp=3)[1]
    one, two = table(y, p), table(y, q)
    def tenfold(df):
        copies = [df.assign(name=[f'{n}-{i}' for n in df.name], patient=df.name.tolist()) for i in range(10)]
        return pd.concat(copies, ignore_index=True)
    many = mcnemar(tenfold(one), tenfold(two))
    alone = mcnemar(tenfold(one).drop(columns='patient'), tenfold(two).drop(columns='patient'))
    assert many['only_b']==10*mcnemar(one, two)['only_b']
    assert many['p']==pytest.approx(mcnemar(one, two)['p']) and alone['p'] < many['p']/10
    def width(r): return (r.high-r.low).mean()
    few, more = reliability(one, 4), reliability(tenfold(one), 4)
    assert np.allclose(few.accuracy, more.accuracy) and width(more) > .9*width(few)

def test_a_temperature_is_not_fitted_on_what_was_trained_on():
    y, p = made(100)
    with pytest.raises(ECGError, match='were trained on'): fit_temperature(table(y, p, folds='train'))

def test_ensemble_and_pairs():
    y, p = made(100)
    q = made(100, seed=2)[1]
    e = ensemble([table(y, p, folds='a'), table(y, q, folds='b')])
    assert np.allclose(scored(e)[2], (p+q)/2) and len(e)==100
    other = table(y, q).iloc[::-1]
    assert np.allclose(ensemble([table(y, p),
        other]).set_index('name').loc['r0007'].filter(like='p_').astype(float), (p+q)[7]/2)
    with pytest.raises(ECGError, match='different recordings'): ensemble([table(y, p), table(y[:50], q[:50])])
    pairs = compare_all(dict(a=[table(y, p)], b=[table(y, p)], c=[table(y, np.eye(4)[y]*.9+.025)]), n_boot=200)
    assert pairs.gain['a → b']==0 and pairs.mcnemar_p['a → b']==1==pairs.p['a → b']
    assert pairs.low['a → c']>0 and pairs.mcnemar_p['b → c']<.05
    with pytest.raises(ECGError, match='nothing to compare'): compare_all(dict(a=[table(y, p)]))

"Checks of predictions and metrics: against sklearn and brute force, undefined figures, damaged files"
import json, subprocess, sys, warnings

import numpy as np, pandas as pd, pytest

from ecg_arrhythmia.evaluation.margins import wilson
from ecg_arrhythmia.evaluation.metrics import (
    collapsed, confusion, evaluate, f1_interval, f1_scores, hardest, metrics, metrics_json,
    plot_confusion, report)
from ecg_arrhythmia.evaluation.tables import (
    average_views, check_predictions, load_predictions, predictions, save_predictions)
from ecg_arrhythmia.core import ECGError

CL = ['AFIB', 'GSVT', 'SB', 'SR']
pytestmark = pytest.mark.filterwarnings('error')

def made(n=300, k=4, seed=0, sharp=2.):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, k, n)
    z = sharp*np.eye(k)[y] + rng.normal(0, 1, (n, k))
    return y, np.exp(z)/np.exp(z).sum(1, keepdims=True)

def table(n=60, seed=0, views=('a', 'b'), **kw):
    y, _ = made(n, seed=seed)
    one = lambda i,v: predictions([f'r{j:03}' for j in range(n)],
        made(n, seed=seed)[1] if not i else made_again(y, i), CL, labels=y, views=v, folds=np.arange(n)%5, **kw)
    return pd.concat([one(i, v) for i,v in enumerate(views)], ignore_index=True)

def made_again(y, seed):
    z = 2*np.eye(4)[y] + np.random.default_rng(99+seed).normal(0, 1, (len(y), 4))
    return np.exp(z)/np.exp(z).sum(1, keepdims=True)

# --- metrics

@pytest.mark.parametrize('k', [2, 4, 11])
def test_agrees_with_sklearn(k):
    from sklearn import metrics as S
    y, p = made(500, k)
    m, pred = metrics(y, p, list(map(str, range(k)))), p.argmax(1)
    assert m['macro_f1']==pytest.approx(S.f1_score(y, pred, average='macro'))
    assert m['precision']==pytest.approx(S.precision_score(y, pred, average='macro'))
    assert m['recall']==pytest.approx(S.balanced_accuracy_score(y, pred))
    auroc = S.roc_auc_score(y, p[:,1]) if k==2 else S.roc_auc_score(y, p, multi_class='ovr')
    assert m['accuracy']==S.accuracy_score(y, pred) and m['auroc']==pytest.approx(auroc)
    assert m['per_class']['support'].sum()==500==m['confusion'].to_numpy().sum() and m['notes']==[]
    assert np.allclose(f1_scores(m['confusion']), m['per_class']['f1'])
    assert m['macro_f1_ci'][0]<m['macro_f1']<m['macro_f1_ci'][1]
    assert m['accuracy_ci'][0]<m['accuracy']<m['accuracy_ci'][1]

def test_bootstrap_is_that_of_recordings():
    "Drawing confusion matrices gives what drawing recordings gives"
    from sklearn.metrics import f1_score
    y, p = made(200); pred = p.argmax(1); rng = np.random.default_rng(1)
    draws = [f1_score(y[i], pred[i], average='macro') for i in (rng.integers(0, 200, 200) for _ in range(600))]
    assert np.allclose(np.quantile(draws, [.025, .975]), f1_interval(confusion(y, pred, CL), n_boot=5000), atol=.012)

def test_interval_is_seeded_and_quick():
    y, p = made(10_000, 11)
    c = confusion(y, p.argmax(1), range(11))
    a = f1_interval(c, n_boot=1000, seed=3)
    assert a==f1_interval(c, n_boot=1000, seed=3)!=f1_interval(c, n_boot=1000, seed=4)

def test_interval_covers():
    "Of 200 samples of 300 from a known confusion, about 95 % of the intervals hold the truth"
    truth = np.full((4, 4), .25*.05) + np.eye(4)*.25*.8
    rng, f1 = np.random.default_rng(0), np.nanmean(f1_scores(truth))
    ins = [lo<=f1<=hi for lo,hi in (f1_interval(rng.multinomial(300, truth.ravel()).reshape(4, 4),
        n_boot=300) for _ in range(200))]
    assert .9<=np.mean(ins)<=.99

@pytest.mark.parametrize('k,n,lo,hi', [(0, 10, 0, .2775), (10, 10, .7225, 1), (1, 1, .2065, 1),
    (81, 263, .2553, .3662)])
def test_wilson(k, n, lo, hi): assert wilson(k, n)==pytest.approx((lo, hi), abs=1e-4) # last: Newcombe 1998, table I
@pytest.mark.parametrize('a', [(3, 2), (-1, 2), (0, 0), (1, 2, 1.5)])
def test_wilson_bad(a):
    with pytest.raises(ECGError): wilson(*a)

def test_study_collapse():
    "A run of the study that gives everything the same class has F1 .134"
    y = np.repeat(range(4), [444, 452, 778, 444])
    m = metrics(y, np.tile([.1, .1, .7, .1], (2118, 1)), CL)
    assert round(m['macro_f1'], 3)==.134 and m['precision']==pytest.approx(778/2118/4)
    assert m['notes'][0]=='collapsed: every prediction is SB'
    assert m['per_class']['precision'].isna().tolist()==[True, True, False, True] and m['auroc']==.5

def test_absent_class():
    y, p = made(300)
    m = metrics(y[y!=3], p[y!=3], CL)
    assert m['per_class'].loc['SR', ['precision', 'recall', 'f1', 'auroc']].isna().all()
    assert m['per_class'].loc['SR', 'predicted']>0
    assert m['macro_f1']==pytest.approx(m['per_class']['f1'][:3].mean()) and 'no recordings of SR' in m['notes'][0]
    assert np.isfinite([*m['macro_f1_ci'], m['auroc']]).all()

def test_one_class_and_one_row():
    m = metrics([2, 2], [[0, 0, 1, 0], [0, .9, .1, 0]], CL)
    assert np.isnan(m['auroc']) and m['recall']==.5 and any('only one class' in s for s in m['notes'])
    assert not any('collapsed' in s for s in m['notes'])
    assert metrics([0], [[1, 0]], 'ab')['accuracy']==1
    assert json.loads(json.dumps(metrics_json(m), allow_nan=False))['auroc'] is None

@pytest.mark.parametrize('y,p,c,msg', [
    ([0, 1], [[1, 0]], 'ab', 'shape'), ([0, 1], [[1, 0, 0]]*2, 'ab', 'shape'),
    ([0, 2], [[1, 0]]*2, 'ab', '0..1; found 0..2'), ([0, -1], [[1, 0]]*2, 'ab', 'found -1'),
    ([0, 1], [[1, 0], [np.nan, 1]], 'ab', 'row 1 are NaN'), ([0, 1], [[1, 0], [np.inf, 1]], 'ab', 'infinite'),
    ([0, 1], [[1, 0], [3, -2]], 'ab', 'softmax'),
    ([0, 1], [[.4, .4]]*2, 'ab', 'not summing'), ([], np.zeros((0, 2)), 'ab', 'no predictions'),
    ([.5, 1], [[1, 0]]*2, 'ab', 'class numbers'),
    (['a', 'b'], [[1, 0]]*2, 'ab', 'class numbers'), ([0, 1], [[1, 0]]*2, 'aa', 'twice')])
def test_bad_metrics(y, p, c, msg):
    with pytest.raises(ECGError, match=msg): metrics(y, p, c)

# --- tables

def test_views_and_folds():
    df = table()
    av = average_views(df)
    assert len(av)==60 and (av['view']=='average').all() and list(av)==list(df) and check_predictions(av)==CL
    r5 = df[df['name']=='r005'].filter(like='p_').to_numpy().mean(0)
    assert np.allclose(av.loc[av['name']=='r005'].filter(like='p_').to_numpy()[0], r5)
    assert av['fold'].tolist()==(np.arange(60)%5).tolist()
    rep = report(df)
    assert rep.index.tolist()==['a', 'b', 'average'] and (rep['n']==60).all()
    assert rep.loc['average', 'macro_f1']==evaluate(df)['macro_f1']
    by_fold = report(df, 'fold')
    assert by_fold.index.tolist()==[0, 1, 2, 3, 4, 'all'] and by_fold['n'].tolist()==[12]*5+[60]
    assert report(df[df['view']=='a']).index.tolist()==['a']
    with pytest.raises(ECGError, match="'view' or by 'fold'"): report(df, 'name')
    shuffled = average_views(df.sample(frac=1, random_state=1)).sort_values('name', ignore_index=True)
    assert np.allclose(shuffled.filter(like='p_'), av.filter(like='p_')) and (shuffled['pred']==av['pred']).all()

def test_views_disagree():
    df = table(); df.loc[3, 'label'] = 'SB' if df.loc[3, 'label']!='SB' else 'SR'
    with pytest.raises(ECGError, match='r003: its views disagree about the label'): average_views(df)

def test_unlabelled():
    y, p = made(20)
    df = predictions(range(20), p, CL, labels=np.where(np.arange(20)<5, -1, y))
    m = evaluate(df)
    assert m['n']==15 and '5 of 20 recordings have no label' in m['notes'][-1] and (hardest(df, 99)['label']!='').all()
    with pytest.raises(ECGError, match='no recording has a label'): evaluate(predictions(range(20), p, CL))

def test_hardest():
    df = table(); h, av = hardest(df, 1000), average_views(df)
    wrong = av[av['pred']!=av['label']]
    assert len(h)==len(wrong)>0 and h['confidence'].is_monotonic_decreasing and (h['confidence']>=h['p_label']).all()
    assert len(hardest(df, 2))==2 and len(hardest(av[av['pred']==av['label']]))==0

def test_collapsed():
    df = table(views=('a',))
    assert collapsed(df) is None and collapsed(df[df['pred']=='SB'])=='SB'
    assert collapsed(df[(df['pred']=='SB')&(df['label']=='SB')]) is None

def test_names_of_classes_as_labels():
    assert predictions('ab', [[1, 0], [0, 1]], ['SB', 'SR'], labels=['SR', ''])['label'].tolist()==['SR', '']

@pytest.mark.parametrize('kw,msg', [
    (dict(probs=[[1, 0]]), 'shape'), (dict(labels=[0]), 'labels of shape'), (dict(labels=[0, 5]), '0..1'),
    (dict(labels=['SB', 'XX']), 'not one of the classes .SB, SR; 1 such'),
    (dict(labels=[0., 1.]), 'not one of the classes'), (dict(names='aa'), 'a .row 2. comes twice'),
    (dict(probs=[[1, 0], [np.nan]*2]), 'b .row 2. are NaN'), (dict(classes=['SB', 'SB']), 'named twice'),
    (dict(names=[], probs=np.zeros((0, 2))), 'no rows')])
def test_bad_tables(kw, msg):
    with pytest.raises(ECGError, match=msg):
        predictions(**(dict(names='ab', probs=[[1, 0], [.5, .5]], classes=['SB', 'SR']) | kw))

# --- files

def test_roundtrip(tmp_path):
    y, p = made(50, sharp=12)
    names = ['007', 'NA', 'null', '1e5', 'a,b', 'quo"te', 'ünï', *map(str, range(43))]
    df = predictions(names, p, CL, labels=y, folds=3)
    back = load_predictions(save_predictions(df, tmp_path/'new'/'p.csv'), CL)
    assert back['name'].tolist()==names and (back['fold']==3).all()
    assert np.allclose(back.filter(like='p_'), df.filter(like='p_'), rtol=1e-5, atol=0)
    assert evaluate(back)['macro_f1']==evaluate(df)['macro_f1']
    save_predictions(back, tmp_path/'again.csv')
    assert (tmp_path/'again.csv').read_bytes()==(tmp_path/'new/p.csv').read_bytes(), 'saving what was loaded changes it'
    assert [f.name for f in (tmp_path/'new').iterdir()]==['p.csv']

def test_half_precision(tmp_path):
    y, p = made(200, 11)
    load_predictions(save_predictions(predictions(range(200), p.astype(np.float16), range(11)), tmp_path/'p.csv'))

def test_failed_save_keeps_old(tmp_path, monkeypatch):
    df = table(); f = save_predictions(df, tmp_path/'p.csv'); old = f.read_bytes()
    with pytest.raises(ECGError): save_predictions(pd.concat([df, df]), f)
    def fail(self, file, **k): file.write_text('name,vi'); raise OSError('disk full')
    monkeypatch.setattr(pd.DataFrame, 'to_csv', fail)
    with pytest.raises(ECGError, match='p.csv: cannot be written .disk full'): save_predictions(df, f)
    assert f.read_bytes()==old and len(list(tmp_path.iterdir()))==1

@pytest.mark.parametrize('edit,msg', [
    (lambda s: '', 'not a table'), (lambda s: s.split('\n')[0], 'no rows'),
    (lambda s: s.replace('label', 'labl'), 'lacks the columns label'),
    (lambda s: s.replace('p_', 'q_'), 'lacks the columns p_CLASS'),
    (lambda s: s+s.split('\n')[3]+'\n', 'comes twice'), (lambda s: s[:-9], 'line 121|not summing|found'),
    (lambda s: s.replace('\nr002,a,2,', '\nr002,a,2,XX').replace('XX', 'X'), 'not one of the classes'),
    (lambda s: s.replace('0.', '0,'), '.'), (lambda s: '\x00'*50, '.')])
def test_damaged_files(tmp_path, edit, msg):
    f = save_predictions(table(), tmp_path/'p.csv'); f.write_text(edit(f.read_text()))
    with pytest.raises(ECGError, match=msg) as e: load_predictions(f)
    assert str(f) in str(e.value)

def test_text_in_a_cell(tmp_path):
    f = save_predictions(table(), tmp_path/'p.csv'); rows = f.read_text().split('\n')
    rows[4] = rows[4].rpartition(',')[0]+',oops'; f.write_text('\n'.join(rows))
    with pytest.raises(ECGError, match="line 5, column p_SR: expected a probability, found 'oops'"): load_predictions(f)

def test_wrong_prediction_column(tmp_path):
    df = table(); i = df.index[df['pred']=='SB'][0]; df.loc[i, 'pred'] = 'SR'
    with pytest.raises(ECGError, match=f'{df["name"][i]} .row {i+1}. does not predict'): check_predictions(df)

def test_missing_and_other_files(tmp_path):
    with pytest.raises(ECGError, match='no such file'): load_predictions(tmp_path/'none.csv')
    with pytest.raises(ECGError, match='not a table'): load_predictions(tmp_path)
    (tmp_path/'x.png').write_bytes(bytes(range(256)))
    with pytest.raises(ECGError): load_predictions(tmp_path/'x.png')
    with pytest.raises(ECGError, match='has the classes AFIB, GSVT, SB, SR, not SB'):
        load_predictions(save_predictions(table(), tmp_path/'p.csv'), ['SB'])

# --- figures

@pytest.mark.filterwarnings('default')
@pytest.mark.parametrize('k', [2, 4, 11])
def test_plot(k, tmp_path):
    y, p = made(5000, k)
    y[y==1] = 0
    fig = plot_confusion(confusion(y, p.argmax(1), [f'C{i}' for i in range(k)]), 'title')
    fig.savefig(tmp_path/'c.png', dpi=80)
    cell = fig.axes[0].get_window_extent().width/k
    assert max(t.get_window_extent().width for t in fig.axes[0].texts)<=cell*1.05, 'text wider than its cell'

def test_imports_are_light():
    code = ("import sys, ecg_arrhythmia.evaluation.metrics; assert not "
            "{'fastai', 'torch', 'sklearn', 'scipy', 'matplotlib'} & set(sys.modules)")
    subprocess.run([sys.executable, '-c', code], check=True)

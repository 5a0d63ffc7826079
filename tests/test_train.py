"""Dense checks of `ecg_arrhythmia.training.recipes`, `runs` and `train`: killed and resumed bit for
bit, frozen, scheduled, stopped, scored and refused"""
import json, math, os, random, resource, shutil, signal, subprocess, sys, time, warnings
from dataclasses import replace
from pathlib import Path

import numpy as np, pandas as pd, pytest, torch
from networks import *
from safetensors.torch import load_file

from ecg_arrhythmia.training import callbacks
from ecg_arrhythmia.training import loop as T
from ecg_arrhythmia.data.datasets import catalogue
from ecg_arrhythmia.data.rhythms import RHYTHMS, label
from ecg_arrhythmia.data.splits import make_split
from ecg_arrhythmia.training.loaders import Feed, dataloaders, items
from ecg_arrhythmia.models.architectures import architecture
from ecg_arrhythmia.models.weights import create_model
from ecg_arrhythmia.evaluation.tables import average_views
from ecg_arrhythmia.training.recipes import (
    Config, class_weights, is_over, lr_at, momentum_at, recipe, reductions, since_best)
from ecg_arrhythmia.core import ECGError
from ecg_arrhythmia.training.runs import load_checkpoint, load_run
from ecg_arrhythmia.training.runs import check_start, only_run, scores_of, seen_by_weights
from ecg_arrhythmia.data.simulated_datasets import simulate_dataset
from ecg_arrhythmia.charts.store import ChartStore
from ecg_arrhythmia.charts.encoding import store_spec
from ecg_arrhythmia.charts.packing import pack
from ecg_arrhythmia.training.loop import cross_validate, retrain, train
from ecg_arrhythmia.training.holdout import predict_elsewhere, predict_run
from ecg_arrhythmia.models.transfer import set_bn_momentum

pytestmark = pytest.mark.filterwarnings('ignore::FutureWarning')
KW = dict(device='cpu', progress=False)
FILES = 'model.safetensors', 'predictions.csv', 'history.csv'

def fails(*says): return pytest.raises(ECGError, match='(?s)'+'.*'.join(says))
def tiny(name='default', **kw):
    return recipe(
        name, **dict(arch='tiny', layouts=['3x4+1'], batch_size=32, epochs=2, augment=False, scheduler='none') | kw
    )
def same(a, b, files=FILES): return all((Path(a)/f).read_bytes()==(Path(b)/f).read_bytes() for f in files)

@pytest.fixture(scope='module', autouse=True)
def one_thread():
    "Sums in another order are other sums"
    n = torch.get_num_threads(); torch.set_num_threads(1)
    yield
    torch.set_num_threads(n)

@pytest.fixture(scope='module')
def store(tmp_path_factory):
    d = tmp_path_factory.mktemp('train')
    cat = catalogue(simulate_dataset(d/'data', counts={r: 4 for r in RHYTHMS}, seed=1, workers=1, progress=False))
    return pack(cat, d/'s.lmdb', store_spec(['3x4+1', 'rhythm12'], 32), limits=None, progress=False)

@pytest.fixture(scope='module')
def split(store): return make_split(label(store), n_folds=2)

HARD = dict(
    layouts=None,
    epochs=3,
    augment='scan',
    scheduler='onecycle',
    keep='best',
    label_smoothing=0.1,
    class_balance=0.5,
    average=0.9,
    batch_size=8,
)  # one of two views, dropout, jitter and more, momentum, average: all that a resumed run must find again

@pytest.fixture(scope='module')
def calm(store, split, tmp_path_factory):
    "An undisturbed run"
    return train(tiny(**HARD), store, split, tmp_path_factory.mktemp('calm')/'run', **KW)

LARGE = HARD | dict(arch='mobilenet_v3_small') # its checkpoints are of 19 MB

@pytest.fixture(scope='module')
def calm_large(store, split, tmp_path_factory):
    "An undisturbed run of a network of the package"
    return train(tiny(**LARGE), store, split, tmp_path_factory.mktemp('large')/'run', **KW)

# --- recipes and configurations

def test_recipe_of_the_study():
    c = recipe('study')
    assert (
        c.optimizer,
        c.scheduler,
        c.pct_start,
        c.epochs,
        c.seed,
        c.keep,
        c.augment,
        c.label_smoothing,
        c.freeze,
        c.stop_patience,
        c.bn_momentum,
    ) == ('adam', 'onecycle', 0.3, 50, 42, 'best', False, 0.0, False, None, None)
    assert (
        c.batch_size in (32, 64)
        and 1e-5 <= c.lr <= 1e-2
        and 1e-7 <= c.weight_decay <= 1e-2
        and c.momentum == 0.9
        and c.arch == 'mobilenet_v3_small'
        and c.weights is None
    )
    assert recipe()==recipe('default') and recipe(recipe('study'), lr=.1)==recipe('study', lr=.1)

@pytest.mark.parametrize(
    'kw,says',
    [
        (dict(name='studi'), 'unknown recipe .studi.; there are default, study'),
        (dict(epoch=3), "unknown setting 'epoch', do you mean 'epochs'"),
        (dict(zzz=3), "unknown setting 'zzz'; there are arch, weights"),
        (dict(arch='resnet'), 'resnet18'),
        (dict(optimizer='lion'), "unknown optimizer 'lion'; there are adam, adamw, sgd"),
        (dict(scheduler='cosine'), 'there are none, step, plateau, onecycle'),
        (dict(head_init='ones'), 'unknown head_init .ones'),
        (dict(keep='first'), 'there are last, best'),
        (dict(lr=0), 'lr must be positive'),
        (dict(lr=-1.0), 'lr must'),
        (dict(lr=math.nan), 'lr must'),
        (dict(epochs=0), 'epochs must'),
        (dict(batch_size=0), 'batch_size must'),
        (dict(stop_patience=3), 'onecycle anneals'),
        (dict(lr='fast'), 'lr'),
        (dict(epochs=2.5), 'epochs'),
        (dict(batch_size=8.5), 'batch_size'),
        (dict(epochs='3'), 'epochs'),
        (dict(lr=math.inf), 'lr'),
        (dict(weight_decay=-1.0), 'weight_decay'),
        (dict(scheduler='step', step_size=0), 'step_size'),
        (dict(pct_start=1.5), 'pct_start'),
        (dict(label_smoothing=2.0), 'label_smoothing'),
        (dict(average=1.0), 'average must be a number from 0 to below 1'),
        (dict(class_balance=-1.0), 'class_balance must be a number from 0 to 1'),
        (dict(bn_momentum=2.0), ''),
    ],
)
def test_wrong_settings(kw, says):
    with fails(says):
        c = recipe(**kw)
        if 'bn_momentum' in kw: set_bn_momentum(create_model(c.arch), c.bn_momentum)

def test_class_weights():
    n = np.array([235, 216, 405, 58, 0])
    assert (class_weights(n, 0.)[:4]==1).all() and class_weights(n, 1.)[4]==0
    for b in (0., .3, 1.):
        w = class_weights(n, b)
        assert (w*n).sum()==pytest.approx(n.sum()) and w[3]/w[2]==pytest.approx((405/58)**b)

# --- schedulers, as functions

def test_one_layout_is_not_five_letters(): assert recipe(layouts='3x4+1').layouts==('3x4+1',)
def test_a_set_of_views_is_spelt_out():
    assert recipe(layouts=['strips', '6x2']).layouts == ('strip', 'strip-I', 'strip-III', 'strip-aVR', '6x2')

def rates(c, n=20): return np.array([lr_at(c, i/n) for i in range(c.epochs*n)])

def test_schedule_none(): assert set(rates(recipe(scheduler='none', lr=.5)))=={.5}

@pytest.mark.parametrize('lr,epochs,up', [(1e-3, 12, .3), (.1, 5, .5), (1., 1, .25)])
def test_schedule_onecycle(lr, epochs, up):
    c = recipe(lr=lr, epochs=epochs, pct_start=up)
    r, top = rates(c, 100), round(up*epochs*100)
    assert (
        r[0] == pytest.approx(lr / 25)
        and r.argmax() == top
        and r.max() == pytest.approx(lr)
        and (np.diff(r[:top]) > 0).all()
        and (np.diff(r[top:]) < 0).all()
    )
    assert lr_at(c, epochs)==pytest.approx(lr/1e5), 'annealed at the very end'
    assert lr_at(c, up*epochs/2)==pytest.approx(lr*(1+1/25)/2) and lr_at(c, 3.3, [.1, .9])==lr_at(c, 3.3)

def test_schedule_step_is_that_of_torch():
    c = recipe(scheduler='step', lr=.3, step_size=3, gamma=.2, epochs=11)
    opt = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=.3); sch = torch.optim.lr_scheduler.StepLR(opt, 3, .2)
    for e in range(11):
        for part in (0, .5, .999): assert lr_at(c, e+part)==pytest.approx(opt.param_groups[0]['lr'])
        opt.step(); sch.step()

@pytest.mark.parametrize('patience,delta', [(0, 0.), (2, 0.), (3, .05), (1, .2)])
def test_schedule_plateau_is_that_of_torch(patience, delta):
    c = recipe(scheduler='plateau', lr=.3, factor=.1, lr_patience=patience, min_delta=delta, epochs=60)
    opt = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=.3)
    sch = torch.optim.lr_scheduler.ReduceLROnPlateau(opt, 'max', .1, patience, threshold=delta, threshold_mode='abs', eps=0)
    scores = np.random.default_rng(0).random(60).round(1).cumsum()**.3/5
    scores[20:] = np.random.default_rng(1).random(40)
    for i,s in enumerate(scores):
        assert lr_at(c, i, scores[:i])==pytest.approx(opt.param_groups[0]['lr'])
        opt.step(); sch.step(s)

def test_since_best():
    assert [since_best(s) for s in ([], [.1], [.1, .1], [.1, .2, .2, .1], [.3, .2, .4])]==[0, 0, 1, 2, 0]
    assert since_best([.1, .14, .18], .05)==0 and since_best([.1, .14, .15], .05)==2 and reductions([.5]*7, 2)==2

def test_rates_of_a_run(calm, store, split):
    c = calm.config
    n = len(dataloaders(store, *split.fold(0), split.labels, config=replace(c, augment=False), device='cpu').train)
    assert calm.history.lr.tolist()==pytest.approx([lr_at(c, e+(n-1)/n) for e in range(3)])

@pytest.mark.parametrize('keep', ['last', 'best'])
def test_a_run_leaves_the_average_of_its_weights(store, split, tmp_path, keep):
    "Which is what it was validated with, and not what the optimizer went on from"
    from ecg_arrhythmia.models.transfer import WeightAverage
    seen, update = [], WeightAverage.update
    def note(self):
        update(self)
        seen.append(
            ({k: v.clone() for k, v in self.live.items()}, {k: v.clone() for k, v in self.mean.items()})
        )
    with pytest.MonkeyPatch.context() as m:
        m.setattr(WeightAverage, 'update', note)
        run = train(tiny(average=.8, keep=keep, epochs=3), store, split, tmp_path/'run', **KW)
    plain = train(tiny(keep=keep, epochs=3), store, split, tmp_path/'plain', **KW)
    left, per = run.model().state_dict(), len(seen)//3
    live, mean = seen[(3 if keep=='last' else run.result['best_epoch']+1)*per-1]
    assert all(torch.equal(left[k], mean[k]) for k in mean) and any(not torch.equal(mean[k], live[k]) for k in mean)
    if keep == 'last':
        assert all(
            torch.equal(plain.model().state_dict()[k], live[k]) for k in live
        ), 'the weights themselves go the way they would have gone'
    p, again = run.predictions, predict_run(run, store, split.folds[0], labels=split.labels, **KW)
    a, b = (t.set_index(['name', 'view']).sort_index().filter(like='p_') for t in (p, again))
    assert np.allclose(a, b, atol=1e-5)

@pytest.mark.parametrize('how', [dict(in_memory=True), dict(in_memory=False, workers=2)])
def test_one_view_of_each_recording_an_epoch(store, split, how):
    from ecg_arrhythmia.training.loaders import seed_epoch
    one_view = Config(batch_size=4, views='one')
    dls = dataloaders(store, *split.fold(0), split.labels, config=one_view, feed=Feed(**how), device='cpu')
    rows, names, seen = dls.train_ds.items, sorted(split.fold(0)[0]), set()
    for epoch in range(9):
        seed_epoch(dls, 1, epoch); at = dls.train.get_idxs()
        assert sorted(rows['name'].iloc[at])==names and len(dls.train)==len(names)//4
        seen |= {tuple(r) for r in rows[['name', 'view']].iloc[at].to_numpy()}
        seed_epoch(dls, 1, epoch); assert dls.train.get_idxs()==at
    assert len(seen) > 1.9*len(names) and len(dls.valid_ds)==2*len(split.fold(0)[1])
    seed_epoch(dls, 1, 0); shown = [x for b,_ in dls.train for x in b]
    assert len(shown)==len(names)//4*4
    alike = dataloaders(store, *split.fold(0), split.labels, config=one_view, device='cpu')
    seed_epoch(alike, 1, 0); assert all(torch.equal(a, b) for a,b in zip(shown, [x for b,_ in alike.train for x in b]))
    with fails("unknown views 'two'"): Config(views='two')
    one = dataloaders(store, *split.fold(0), split.labels, config=replace(one_view, layouts='3x4+1'), device='cpu')
    assert sorted(one.train.get_idxs())==list(range(len(names)))

# --- a run and what it leaves

def test_what_a_run_leaves(calm, store, split):
    assert sorted(p.name for p in calm.path.iterdir()) == [
        'config.json',
        'history.csv',
        'model.safetensors',
        'predictions.csv',
        'result.json',
        'train_fingerprints.txt',
        'train_names.txt',
        'train_samples.txt',
    ]
    r = calm.result
    assert (
        r['classes'] == ['AFIB', 'GSVT', 'SB', 'SR']
        and r['origin'] == 'simulated'
        and r['store'] == store.digest
        and r['split'] == split.digest
        and r['weights_source'] == 'random'
        and r['epochs'] == 3
        and r['status'] in ('done', 'collapsed')
    )
    assert (
        calm.history.epoch.tolist() == [0, 1, 2]
        and set(calm.predictions['name']) == set(split.folds[0])
        and (calm.predictions.fold.astype(str) == '0').all()
    )
    assert (calm.path/'train_names.txt').read_text().split('\n')==list(split.fold(0)[0])
    assert repr(load_run(calm.path))==repr(calm) and load_run(calm.path).config==calm.config

def test_two_views_are_averaged(calm, store, split):
    "The scores of a run are of recordings, views averaged"
    from sklearn.metrics import f1_score
    p, best = calm.predictions, calm.result['best_epoch']
    assert sorted(p.groupby('name').view.apply(tuple).unique())==[('3x4+1', 'rhythm12')] and len(p)==2*len(split.folds[0])
    avg = average_views(p)
    mean = p.groupby('name')[[f'p_{c}' for c in calm.classes]].mean()
    assert np.allclose(avg.set_index('name')[mean.columns].loc[mean.index], mean, atol=1e-5)
    row = calm.history.iloc[best]
    assert (
        row.accuracy == pytest.approx((avg.label == avg.pred).mean())
        and row.macro_f1
        == pytest.approx(
            f1_score(avg.label, avg.pred, average='macro', labels=list(calm.classes), zero_division=0)
        )
        and calm.result['macro_f1'] == pytest.approx(row.macro_f1)
    )
    scores = scores_of(np.array([[.9, .1], [.2, .8], [.4, .6], [.45, .55]]), np.array([0, 0, 1, 1]), 2)
    assert scores['accuracy']==1. and scores['macro_f1']==1.

def test_predict_gives_the_predictions_of_the_run(calm, store, split):
    "Which also says that the weights kept are those of the best epoch"
    again = predict_run(calm, store, split.folds[0], labels=split.labels, **KW)
    p = calm.predictions.set_index(['name', 'view']).loc[list(zip(again['name'], again['view']))]
    cols = [f'p_{c}' for c in calm.classes]
    assert (
        np.allclose(again[cols], p[cols], atol=2e-5)
        and again.label.tolist() == p.label.tolist()
        and (again.fold == 'test').all()
    )
    assert (predict_run(calm, store, split.test, **KW).label == '').all() and len(
        predict_run(calm, store, split.test, **KW)
    ) == 2 * len(split.test)

def test_leak_is_refused(calm, store, split):
    for names in (split.folds[1][:1], [*split.test, split.folds[1][3]]):
        with fails('recordings were trained on', split.folds[1][0 if len(names) == 1 else 3], 'others'):
            predict_run(calm, store, names, **KW)

def test_other_charts_are_refused(calm, store, split, tmp_path):
    cat = catalogue(store.path.parent/'data')
    other = pack(cat, tmp_path/'o.lmdb', store_spec(['3x4+1', 'rhythm12'], 48), names=split.test[:2], limits=None)
    with fails('o.lmdb holds charts that differ.*size.*pack it alike'): predict_run(calm, other, split.test[:2], **KW)
    other = pack(cat, tmp_path/'v.lmdb', store_spec(['3x4+1'], 32), names=split.test[:2], limits=None)
    with fails('holds the layouts 3x4.1, not rhythm12'): predict_run(calm, other, split.test[:2], **KW)
    with fails("no recording 'x'"): predict_run(calm, store, ['x'], **KW)

def test_same_seed_same_result(calm, store, split, tmp_path):
    torch.manual_seed(99); np.random.seed(99) # of no account
    again = train(tiny(**HARD), store, split, tmp_path/'again', **KW)
    assert same(calm.path, again.path) and again.result==calm.result
    other = train(tiny(**HARD | dict(epochs=1, seed=7)), store, split, tmp_path/'other', **KW)
    assert not same(calm.path, other.path, FILES[:1])

def test_where_charts_are_kept_does_not_matter(store, split, tmp_path):
    first, *rest = (
        train(tiny(epochs=1, augment=True), store, split, tmp_path/f'{w}{m}', feed=Feed(w, m), **KW)
        for w, m in ((0, True), (0, False), (2, False), (2, None), (0, 'device'))
    )
    assert all(same(first.path, r.path) for r in rest)
    with fails("in_memory must be True, False, 'device' or None, not 'disk'"):
        train(tiny(), store, split, tmp_path/'x', feed=Feed(in_memory='disk'), **KW)

def test_finished_run_is_not_run_again(calm, store, split, monkeypatch):
    monkeypatch.setattr(T, 'dataloaders', None)
    before = [(calm.path/f).stat().st_mtime_ns for f in FILES]
    assert train(tiny(**HARD), store, split, calm.path, **KW).result == calm.result and before == [
        (calm.path / f).stat().st_mtime_ns for f in FILES
    ]

def test_another_run_is_refused(calm, store, split):
    for change, says in (
        (dict(lr=0.5), 'differs in lr'),
        (dict(lr=0.5, seed=1), 'lr, seed'),
        (dict(layouts=['3x4+1']), 'layouts'),
    ):
        with fails('holds another run', says, 'another folder'):
            train(tiny(**HARD | change), store, split, calm.path, **KW)
    with fails('differs in fold'): train(tiny(**HARD), store, split, calm.path, fold=1, **KW)
    with fails('differs in split'): train(tiny(**HARD), store, make_split(label(store), n_folds=2, seed=1), calm.path, **KW)

@pytest.mark.parametrize('wrong', ['fold', 'weights', 'layouts', 'split'])
def test_a_run_that_could_not_begin_leaves_the_folder_free(store, split, tmp_path, wrong):
    "Mend what was wrong, and the same folder will do"
    other = make_split(pd.Series({f'{c}{i}': c for c in ('AFIB', 'SR') for i in range(9)}), n_folds=2)
    with fails(''):
        train(
            (
                tiny(weights=str(tmp_path / 'none.pth'))
                if wrong == 'weights'
                else tiny(layouts=['6x2']) if wrong == 'layouts' else tiny()
            ),
            store,
            other if wrong == 'split' else split,
            tmp_path / 'run',
            fold=7 if wrong == 'fold' else 0,
            **KW
        )
    assert train(tiny(epochs=1), store, split, tmp_path/'run', **KW).result['epochs']==1

def test_unfinished_and_absent_runs(tmp_path):
    with fails('no finished run', 'ecg_train'): load_run(tmp_path)
    (tmp_path/'config.json').write_text('{}')
    with fails('this one was begun: run it again'): load_run(tmp_path)
    (tmp_path/'result.json').write_text('{"config": {')
    with fails('result.json'): load_run(tmp_path)

@pytest.mark.parametrize('damage', [lambda f: f.unlink(), lambda f: f.write_bytes(f.read_bytes()[:5000])])
def test_damaged_weights(calm, tmp_path, damage):
    shutil.copytree(calm.path, tmp_path/'run'); damage(tmp_path/'run/model.safetensors')
    with fails('model.safetensors'): load_run(tmp_path/'run').model()

# --- killed

KILLS = """
import os, signal, sys, torch
import networks
networks.add_tiny()
torch.set_num_threads(1)
from ecg_arrhythmia.training import runs
from ecg_arrhythmia.training import loop as T
from ecg_arrhythmia.data.splits import load_split
from ecg_arrhythmia.training.recipes import recipe
from ecg_arrhythmia.charts.store import ChartStore
die = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)
kw = eval(sys.argv[3])

def in_batch(): # in the third epoch
    old, n = T.RecordEpochs.after_batch, [0]
    def f(self):
        old(self); n[0] += 1
        if self.now==2 and self.training and self.iter==1: die()
    T.RecordEpochs.after_batch = f
def in_checkpoint(): # half a file of the second epoch
    old, n = torch.save, [0]
    def f(state, p):
        n[0] += 1
        if n[0]<2: return old(state, p)
        p.write(b'half'); p.flush(); die()
    torch.save = f
def between_renames():
    old, n = os.replace, [0]
    def f(a, b):
        old(a, b)
        if str(b).endswith('checkpoint-1.pt'): die()
    os.replace = f
def in_publish(): runs.save_predictions = die

for moment in sys.argv[4:]:
    if (pid := os.fork()) == 0:
        try:
            eval(moment)()
            T.train(recipe('default', **kw), ChartStore(sys.argv[1]), load_split(sys.argv[2]), moment, device='cpu', progress=False)
        finally: os._exit(1)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1])==signal.SIGKILL, moment
"""
MOMENTS = 'in_batch', 'in_checkpoint', 'between_renames', 'in_publish'

@pytest.fixture(scope='module')
def killed(store, split, tmp_path_factory):
    "Folders of runs that were killed (-9) at several moments"
    from ecg_arrhythmia.data.splits import save_split
    d = tmp_path_factory.mktemp('killed'); save_split(split, d/'split.json')
    subprocess.run(
        [
            sys.executable,
            '-W',
            'ignore',
            '-c',
            KILLS,
            str(store.path),
            'split.json',
            repr(dict(arch='tiny', batch_size=32) | HARD),
            *MOMENTS,
        ],
        cwd=d,
        env=WITH_TESTS,
        check=True,
    )
    return d

@pytest.mark.parametrize('moment', MOMENTS)
def test_killed_and_resumed(killed, calm, store, split, tmp_path, moment):
    "... is the undisturbed run, bit for bit"
    run = shutil.copytree(killed/moment, tmp_path/'run')
    assert not (run/'result.json').exists()
    with fails('this one was begun'): load_run(run)
    again = train(tiny(**HARD), store, split, run, **KW)
    assert (
        same(calm.path, again.path)
        and again.result == calm.result
        and sorted(p.name for p in run.iterdir() if p.name[0] != '.')
        == sorted(p.name for p in calm.path.iterdir())
    )

def test_resuming_does_not_start_over(killed, store, split, tmp_path, monkeypatch):
    begun, old = [], callbacks.seed_epoch
    monkeypatch.setattr(callbacks, 'seed_epoch', lambda dls, seed, epoch: begun.append(epoch) or old(dls, seed, epoch))
    for moment in ('in_batch', 'in_checkpoint'):
        train(tiny(**HARD), store, split, shutil.copytree(killed / moment, tmp_path / moment), **KW)
    assert begun==[2, 1, 2]

def flipped(content):
    "A bit in each hundred bytes is another one: some are numbers, and not what fills a file up"
    content = bytearray(content)
    for i in range(0, len(content), 100): content[i] ^= 4
    return bytes(content)

@pytest.mark.parametrize('damage', [lambda b: b[:len(b)//2], lambda b: b'', flipped])
def test_damaged_checkpoint(killed, calm, store, split, tmp_path, damage):
    "The one before is as good"
    run = shutil.copytree(killed/'in_batch', tmp_path/'run'); f = run/'checkpoint.pt'
    f.write_bytes(damage(f.read_bytes()))
    with pytest.warns(UserWarning, match='checkpoint.pt cannot be read.*the one before'): state = load_checkpoint(run)
    assert len(state['history'])==1
    with pytest.warns(UserWarning, match='checkpoint.pt cannot be read'):
        assert same(calm.path, train(tiny(**HARD), store, split, run, **KW).path)

def test_both_checkpoints_damaged(killed, calm, store, split, tmp_path):
    run = shutil.copytree(killed/'in_batch', tmp_path/'run')
    for n in ('checkpoint.pt', 'checkpoint-1.pt'): (run/n).write_bytes(b'x')
    with pytest.warns(UserWarning, match='cannot be read'):
        assert same(calm.path, train(tiny(**HARD), store, split, run, **KW).path)

def test_damaged_best_weights(killed, calm, store, split, tmp_path):
    "A damaged file is an error that names it, or is not needed"
    run = shutil.copytree(killed/'in_publish', tmp_path/'run')
    (run/'best.safetensors').write_bytes(b'x')
    try: again = train(tiny(**HARD), store, split, run, **KW)
    except ECGError as e: assert 'best.safetensors' in str(e)
    else: assert same(calm.path, again.path)

def test_checkpoints_run_no_code(killed, tmp_path):
    class Evil:
        def __reduce__(self): return Path.touch, (tmp_path/'ran',)
    torch.save(dict(history=Evil()), tmp_path/'checkpoint.pt')
    with pytest.warns(UserWarning): assert load_checkpoint(tmp_path) is None
    assert not (tmp_path/'ran').exists()

RANDOM = """
import os, random, signal, sys, time, torch
import networks
networks.add_tiny()
torch.set_num_threads(1)
from pathlib import Path
from ecg_arrhythmia.training import loop as T
from ecg_arrhythmia.data.splits import load_split
from ecg_arrhythmia.training.recipes import recipe
from ecg_arrhythmia.charts.store import ChartStore
store, split, config = ChartStore(sys.argv[1]), load_split(sys.argv[2]), recipe('default', **eval(sys.argv[3]))

class Slow: # a disk on which a checkpoint takes as long as an epoch
    def __init__(self, f): self.f = f
    def write(self, b): time.sleep(.002); return self.f.write(b)
    def flush(self): self.f.flush()

def child(out, slow):
    if (pid := os.fork()): return pid
    try:
        if slow: save = torch.save; torch.save = lambda state, f: save(state, Slow(f))
        T.train(config, store, split, out, device='cpu', progress=False); os._exit(0)
    finally: os._exit(1)

def seconds(slow):
    start = time.time(); assert os.waitpid(child(f'calm{slow:d}', slow), 0)[1]==0
    return time.time() - start

rng, whole, killed, writing = random.Random(0), {s: seconds(s) for s in (False, True)}, 0, 0
for i in range(20):
    out, slow = Path(f'run{i}'), i%2==1
    pid = child(out, slow)
    time.sleep(whole[slow]*(i + rng.random())/20)
    os.kill(pid, signal.SIGKILL)
    died = os.WIFSIGNALED(os.waitpid(pid, 0)[1])
    killed += died
    writing += died and any(out.glob('.checkpoint.pt.*'))
    assert os.waitpid(child(out, False), 0)[1]==0, out
    print(i, slow, died, [p.name for p in out.glob('.*')])
print(killed, writing)
"""

@pytest.mark.slow
def test_killed_at_random_moments(store, split, calm, tmp_path):
    "Twenty runs killed (-9) anywhere, also while a checkpoint is written, and resumed: the same weights bit for bit, and no half files"
    from ecg_arrhythmia.data.splits import save_split
    save_split(split, tmp_path/'split.json')
    out = subprocess.run(
        [
            sys.executable,
            '-W',
            'ignore',
            '-c',
            RANDOM,
            str(store.path),
            'split.json',
            repr(dict(arch='tiny', batch_size=32) | HARD),
        ],
        cwd=tmp_path,
        env=WITH_TESTS,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    killed, writing = map(int, out.splitlines()[-1].split())
    assert killed>=15 and writing>=2, out
    for i in range(20): assert same(calm.path, tmp_path/f'run{i}') and not list((tmp_path/f'run{i}').glob('.*')), i

# --- damaged, full, read-only, deleted, interrupted, twice

def test_any_damage_to_a_checkpoint_is_noticed(tmp_path):
    "300 bits flipped, 40 cut short: refused with a warning that names the file, or of no consequence"
    rng, f = random.Random(0), tmp_path/'checkpoint.pt'
    torch.manual_seed(0)
    good = dict(
        model={k: torch.randn(n) for k, n in (('a', 5000), ('b', 70), ('c', 1))}, history=[dict(macro_f1=0.5)]
    )
    torch.save(good, f); whole = f.read_bytes(); refused = 0
    for i in range(340):
        at = rng.randrange(len(whole))
        f.write_bytes(whole[:at] if i>=300 else whole[:at] + bytes([whole[at] ^ 1<<rng.randrange(8)]) + whole[at+1:])
        with pytest.warns(UserWarning) as w:
            warnings.warn('so that there is one'); state = load_checkpoint(tmp_path)
        if state is None:
            refused += 1
            assert any('checkpoint.pt cannot be read' in str(o.message) for o in w)
        else:
            assert (
                i < 300
                and state['history'] == good['history']
                and all(torch.equal(v, state['model'][k]) for k, v in good['model'].items())
            ), at
    assert refused>280

@pytest.fixture
def disk(tmp_path):
    "A small disk, and how to mount it anew"
    d = tmp_path/'disk'; d.mkdir()
    mount = lambda o: subprocess.run(['mount', '-t', 'tmpfs', '-o', o, 'tmpfs', str(d)], capture_output=True).returncode
    if mount('size=40m'): pytest.skip('no right to mount a small disk here')
    yield d, lambda o: mount('remount,'+o)
    subprocess.run(['umount', '-l', str(d)])

def test_full_disk(disk, calm_large, store, split):
    "... in the second epoch: said, nothing lost, and with more room it goes on"
    d, remount = disk
    with fails('cannot be written', 'Make room, and train again'): train(tiny(**LARGE), store, split, d/'run', **KW)
    assert len(load_checkpoint(d/'run')['history'])==1 and not list((d/'run').glob('.*'))
    with fails('Make room'): train(tiny(**LARGE), store, split, d/'run', **KW)
    assert len(load_checkpoint(d/'run')['history'])==1 and remount('size=200m')==0
    assert same(calm_large.path, train(tiny(**LARGE), store, split, d/'run', **KW).path)

def test_file_too_large(calm_large, store, split, tmp_path):
    "The same without rights: a limit on the size of files"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8_000_000, hard))
    try:
        with fails('checkpoint.pt: cannot be written', 'Make room'): train(tiny(**LARGE), store, split, tmp_path/'run', **KW)
    finally: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert same(calm_large.path, train(tiny(**LARGE), store, split, tmp_path/'run', **KW).path)

def test_read_only_folder(disk, store, split):
    d, remount = disk; remount('ro')
    with fails('run', 'cannot be written', 'Read-only'): train(tiny(), store, split, d/'run', **KW)

def at_epoch(monkeypatch, n, do):
    old = callbacks.seed_epoch
    monkeypatch.setattr(callbacks, 'seed_epoch', lambda dls, seed, epoch: old(dls, seed, epoch) or (do() if epoch==n else None))

@pytest.mark.parametrize(
    'how,workers,says',
    [
        ('deleted', 0, None),
        ('replaced', 0, None),
        ('deleted', 1, 'the store is gone'),
        ('replaced', 1, 'the store was replaced'),
    ],
)
def test_store_goes_away(how, workers, says, calm, store, split, tmp_path, monkeypatch):
    "A process that has it open goes on; one that opens it anew says so; with the store back, the run goes on"
    mine, other = shutil.copy(store.path, tmp_path/'m.lmdb'), shutil.copy(store.path, tmp_path/'o.lmdb')
    feed = Feed(workers, in_memory=False)
    run = lambda: train(tiny(**HARD), ChartStore(mine), split, tmp_path/'run', feed=feed, **KW)
    with monkeypatch.context() as m:
        at_epoch(m, 1, lambda: mine.unlink() if how=='deleted' else os.replace(other, mine))
        if says is not None:
            with fails('m.lmdb', says) as e: run()
            assert 'Traceback' not in str(e.value)
        else: run()
    if how=='deleted': os.replace(other, mine)
    assert same(calm.path, run().path)

@pytest.mark.parametrize('sig', [signal.SIGINT, signal.SIGTERM])
def test_signals(sig, calm, store, split, tmp_path, monkeypatch):
    "End the run with a word on how to go on; the handler is as it was"
    before = signal.getsignal(sig)
    with monkeypatch.context() as m:
        at_epoch(m, 1, lambda: os.kill(os.getpid(), sig))
        with pytest.raises(KeyboardInterrupt, match='run: .*Nothing is lost: train again'):
            train(tiny(**HARD), store, split, tmp_path / 'run', **KW)
    assert (
        signal.getsignal(sig) == before
        and not (tmp_path / 'run/.lock').exists()
        and len(load_checkpoint(tmp_path / 'run')['history']) == 1
    )
    assert same(calm.path, train(tiny(**HARD), store, split, tmp_path/'run', **KW).path)

def test_two_trainings_in_one_folder(store, split, tmp_path):
    with only_run(tmp_path/'run'):
        with fails('run: another process is training this run'): train(tiny(epochs=1), store, split, tmp_path/'run', **KW)
    end, lost = os.pipe()
    def one(): # the winner waits for seven losers
        try:
            n = 0
            with only_run(tmp_path/'race'):
                while n<7: n += len(os.read(end, 7))
            os._exit(0)
        except ECGError: os.write(lost, b'x'); os._exit(7)
    pids = [os.fork() or one() for _ in range(8)]
    assert sorted(os.waitstatus_to_exitcode(os.waitpid(p, 0)[1]) for p in pids)==[0] + [7]*7
    assert train(tiny(epochs=1), store, split, tmp_path/'race', **KW).result['epochs']==1

@pytest.mark.parametrize('amp', ['bf16', 'fp16'])
def test_mixed_precision_resumes(amp, store, split, tmp_path, monkeypatch):
    "Bit for bit; with fp16 the factor of the loss goes on too"
    c = tiny(amp=amp, epochs=2); whole = train(c, store, split, tmp_path/'a', **KW)
    with monkeypatch.context() as m:
        at_epoch(m, 1, lambda: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt): train(c, store, split, tmp_path/'b', **KW)
    assert (load_checkpoint(tmp_path/'b').get('scaler', {}).get('scale', 0)>0)==(amp=='fp16')
    assert same(whole.path, train(c, store, split, tmp_path/'b', **KW).path) and whole.result['precision']==amp
    assert not same(whole.path, train(tiny(epochs=2), store, split, tmp_path/'c', **KW).path, FILES[:1])

def test_settings_that_an_older_run_did_not_know(calm, store, split, tmp_path):
    run = shutil.copytree(calm.path, tmp_path/'run')
    for n in ('config.json', 'result.json'):
        d = json.loads((run / n).read_text())
        del d['config']['amp'], d['config']['compile']
        (run / n).write_text(json.dumps(d))
    assert train(tiny(**HARD), store, split, run, **KW).config==calm.config
    with fails('differs in amp'): train(tiny(**HARD, amp='bf16'), store, split, run, **KW)
    (run/'result.json').write_text('{')
    with fails('result.json: damaged'): train(tiny(**HARD), store, split, run, **KW)

# --- frozen, stopped, kept

@pytest.mark.parametrize('kw', [dict(), dict(head_init='zeros', optimizer='sgd', weight_decay=.1)])
def test_frozen_run(store, split, tmp_path, kw):
    "Backbone and BatchNorm statistics are as they were, the head is not"
    c = tiny(freeze=True, lr=.1, epochs=1, bn_momentum=.3, **kw)
    after = load_file(train(c, store, split, tmp_path/'run', **KW).path/'model.safetensors')
    torch.manual_seed(c.seed); before = create_model(c.arch, 4, None, head_init=c.head_init).state_dict()
    moved = {k for k,v in after.items() if not torch.equal(v, before[k])}
    assert after.keys()==before.keys() and moved and all(k.startswith(architecture(c.arch).head+'.') for k in moved)

def test_unfrozen_run_moves_everything(store, split, tmp_path):
    c = tiny(epochs=1)
    after = load_file(train(c, store, split, tmp_path/'run', **KW).path/'model.safetensors')
    torch.manual_seed(c.seed); before = create_model(c.arch, 4).state_dict()
    assert all(
        not torch.equal(v, before[k]) for k, v in after.items() if v.is_floating_point() and v.ndim > 1
    ) and any(not torch.equal(v, before[k]) for k, v in after.items() if k.endswith('running_mean'))

@pytest.mark.parametrize(
    'patience,after,epochs,scores',
    [
        (3, 0, 4, [0.5] * 20),
        (2, 6, 6, [0.5] * 20),
        (2, 0, 5, [0.1, 0.2, 0.3, 0.3, 0.3, 0.4]),
        (2, 0, 9, [0.1, 0.2, 0.1, 0.3, 0.1, 0.4, 0.5, 0.2, 0.2, 0.9]),
        (1, 1, 2, [0.5, 0.4, 0.9]),
        (5, 0, 6, [0.1, 0.2, 0.3, 0.2, 0.3, 0.3]),
    ],
)
def test_early_stopping(patience, after, epochs, scores):
    c = recipe(scheduler='none', stop_patience=patience, stop_after=after, epochs=20)
    due = [is_over(c, [dict(macro_f1=s) for s in scores[:n]]) for n in range(1, len(scores)+1)]
    assert (due.index(True)+1 if True in due else len(scores))==epochs
    assert not is_over(recipe(epochs=100), [dict(macro_f1=.5)]*99)

def test_a_run_stops_early(store, split, tmp_path):
    r = train(tiny(freeze=True, lr=1e-12, epochs=9, stop_patience=2, stop_after=2), store, split, tmp_path/'run', **KW)
    assert r.result['epochs']==len(r.history)==3 and train(r.config, store, split, tmp_path/'run', **KW).result==r.result


def faked(monkeypatch, f1):
    f1 = iter(f1)
    monkeypatch.setattr(callbacks, 'scores_of', lambda *a: scores_of(*a) | dict(macro_f1=next(f1), top_share=.5))

def test_keep_best(store, split, tmp_path, monkeypatch):
    "The best of three epochs is the last of two"
    faked(monkeypatch, [.1, .9, .2]); best = train(tiny(epochs=3, keep='best'), store, split, tmp_path/'a', **KW)
    faked(monkeypatch, [.1, .9]); two = train(tiny(epochs=2), store, split, tmp_path/'b', **KW)
    assert (
        best.result['best_epoch'] == 1
        and best.result['macro_f1'] == 0.9
        and best.result['epochs'] == 3
        and two.result['best_epoch'] is None
        and same(best.path, two.path, FILES[:2])
    )
    faked(monkeypatch, [.1, .9, .2]); last = train(tiny(epochs=3), store, split, tmp_path/'c', **KW)
    assert last.result['macro_f1']==.2 and not same(last.path, two.path, FILES[:1])

def test_first_of_equals_is_best(store, split, tmp_path, monkeypatch):
    faked(monkeypatch, [.5, .5]); r = train(tiny(epochs=2, keep='best', min_delta=.1), store, split, tmp_path/'a', **KW)
    faked(monkeypatch, [.5]); one = train(tiny(epochs=1), store, split, tmp_path/'b', **KW)
    assert r.result['best_epoch']==0 and same(r.path, one.path, FILES[:2])

def test_small_improvements_and_the_best_epoch(store, split, tmp_path, monkeypatch):
    "`min_delta` decides when to stop; the weights kept are those of the score reported"
    faked(monkeypatch, [.5, .55]); r = train(tiny(epochs=2, keep='best', min_delta=.1), store, split, tmp_path/'a', **KW)
    faked(monkeypatch, [.5, .55]); both = train(tiny(epochs=2), store, split, tmp_path/'b', **KW)
    assert r.result['best_epoch']==1 and r.result['macro_f1']==.55 and same(r.path, both.path, FILES[:2])

def test_collapsed(store, split, tmp_path):
    r = train(tiny(freeze=True, head_init='zeros', lr=1e-12, epochs=1), store, split, tmp_path/'run', **KW)
    assert r.result['status']=='collapsed' and 'collapsed' in repr(r)

def test_diverged(store, split, tmp_path):
    "Is said, ends the run, and leaves a run that can be looked at"
    r = train(tiny(optimizer='sgd', lr=1e25, epochs=3), store, split, tmp_path/'run', **KW)
    assert (
        r.result['status'] == 'diverged'
        and r.result['epochs'] < 3
        and 'diverged' in repr(r)
        and len(r.history) == r.result['epochs']
    )
    assert train(r.config, store, split, tmp_path/'run', **KW).result['status']=='diverged'
    if not r.result['epochs']:
        with fails('diverged|predictions.csv'): r.predictions

def test_diverged_after_a_good_epoch(store, split, tmp_path, monkeypatch):
    real = callbacks.lr_at
    monkeypatch.setattr(callbacks, 'lr_at', lambda c, at, scores=(): real(c, at, scores) if at<1 else 1e25)
    r = train(tiny(optimizer='sgd', epochs=3, keep='best'), store, split, tmp_path/'run', **KW)
    assert (
        r.result['status'] == 'diverged'
        and r.result['epochs'] >= 1
        and len(r.predictions) == len(split.folds[0])
        and all(torch.isfinite(v).all() for v in r.model().state_dict().values())
    )

# --- what identifies a run, and what it knows of its data

def test_weights_count_by_content(store, split, tmp_path, monkeypatch):
    a, b = tmp_path/'a.pth', tmp_path/'b.pth'
    def saved(file, seed):
        torch.manual_seed(seed)
        torch.save(create_model('tiny', 4).state_dict(), file)
    saved(a, 0)
    run = train(tiny(weights=str(a), epochs=1), store, split, tmp_path/'run', **KW)
    shutil.copy(a, b)
    with monkeypatch.context() as m:
        m.setattr(T, 'dataloaders', None)
        assert (
            train(tiny(weights=str(b), epochs=1), store, split, tmp_path / 'run', **KW).result == run.result
        ), 'the same weights at another path'
    saved(a, 1)
    with fails('differs in weights'): train(tiny(weights=str(a), epochs=1), store, split, tmp_path/'run', **KW)

def with_samples(store, digests):
    other = ChartStore(store.path)
    other.table = other.table.drop(columns='fingerprint').assign(samples=digests)
    return other

def test_the_same_samples_are_refused_under_any_name(store, split, tmp_path):
    own = with_samples(store, [f'd{i}' for i in range(len(store))])
    run = train(tiny(epochs=1), own, split, tmp_path/'run', **KW)
    trained, held = split.fold(0)[0], split.test
    assert len(predict_run(run, own, held, **KW))==len(held)
    twin = own.table.samples.copy()
    twin[held[0]] = twin[trained[0]]
    with fails('1 recordings were trained on', held[0]): predict_run(run, with_samples(store, twin), held, **KW)
    others = with_samples(store, [f'e{i}' for i in range(len(store))])
    assert len(predict_run(run, others, trained, **KW))==len(trained), 'another ECG of the same name is no leak'

def test_an_edition_that_was_resampled_and_rescaled_is_refused(calm, store, split):
    "Other samples, other names, another rate and gain: the same ECGs, in the run and in what starts from it"
    from scipy.signal import resample_poly
    from ecg_arrhythmia.data.quality import fingerprint
    cat = catalogue(store.path.parent/'data')
    names, trained = list(split.test), split.fold(0)[0]
    away = with_samples(store, [f'e{i}' for i in range(len(store))])
    prints = pd.Series('', store.table.index)
    for name,other in zip(names, trained):
        prints[name] = fingerprint(resample_poly(cat.read(other).signal, 1, 2, axis=1)*1000, 250)
    away.table = away.table.assign(fingerprint=prints)
    with fails(f'{len(names)} recordings were trained on, in this edition or another'): predict_run(calm, away, names, **KW)
    own = {name: fingerprint(cat.read(name).signal*10) for name in names}
    away.table = away.table.assign(fingerprint=pd.Series(own).reindex(store.table.index).fillna(''))
    assert len(predict_run(calm, away, names, **KW)), 'the hold-out itself was not trained on'
    away.table = store.table.assign(samples=[f'e{i}' for i in range(len(store))])
    with fails('were trained on by the weights'):
        check_start(tiny(weights=str(calm.path/'model.safetensors')), away, replace(split, folds=split.folds[::-1]), 0)

def test_weights_bring_along_what_they_were_trained_on(store, split, tmp_path):
    own = with_samples(store, [f'd{i}' for i in range(len(store))])
    first = train(tiny(epochs=1), own, split, tmp_path/'first', **KW)
    again = tiny(epochs=1, weights=str(first.path/'model.safetensors'))
    seen = seen_by_weights(again.weights, 0).samples
    assert seen=={own.table.samples[n] for n in split.fold(0)[0]}
    same_fold = train(again, own, split, tmp_path/'same', **KW)
    assert seen_by_weights(same_fold.path, 0).samples==seen, 'what it began with counts, and nothing twice'
    with fails('recordings of fold 1 were trained on by the weights', 'other weights'):
        train(again, own, split, tmp_path/'other', fold=1, **KW)
    trained, held = split.fold(0)[0], split.test
    turned = replace(split, test=trained[:4], folds=[held, split.fold(0)[1]])
    other = train(again, own, turned, tmp_path/'turned', fold=1, **KW)
    with fails('4 recordings were trained on'): predict_run(other, own, turned.test, **KW)

def test_the_mapping_belongs_to_the_run(store, tmp_path):
    mapping = {'AFIB': 'irregular', 'AF': 'irregular', 'SR': 'regular', 'SB': 'regular'}
    cat = catalogue(store.path.parent/'data')
    own = make_split(label(store, mapping), n_folds=2, mapping=mapping)
    run = train(tiny(epochs=1), store, own, tmp_path/'run', **KW)
    assert run.mapping==mapping and run.classes==['irregular', 'regular']
    preds, n = predict_elsewhere(run, cat.subset(list(own.test)), tmp_path/'away', **KW)
    assert dict(zip(preds.name, preds.label))=={k: own.labels[k] for k in own.test}

def test_eleven_rhythms_are_tested_by_eleven_elsewhere(store, tmp_path):
    "Also by a command that is not told so: none of the merged four, whose names are among the eleven"
    cat = catalogue(store.path.parent/'data')
    own = make_split(label(store, 'all'), test_size=.25, n_folds=2, mapping='all')
    run = train(tiny(epochs=1), store, own, tmp_path/'run', **KW)
    preds, n = predict_elsewhere(run, cat.subset(list(own.test)), tmp_path/'away', **KW)
    assert len(run.classes)==11 and n['known']==len(own.test)
    assert dict(zip(preds.name, preds.label))==cat.table.rhythm[list(own.test)].to_dict()

def test_a_mapping_that_gives_the_same_labels_here_makes_another_run(store, tmp_path):
    "Two mappings can agree on the recordings of a split and differ elsewhere"
    from ecg_arrhythmia.data.splits import load_split, save_split
    cat = catalogue(store.path.parent/'data')
    few = {'AFIB': 'irregular', 'SR': 'regular', 'SB': 'regular'}
    own = make_split(label(store, few), n_folds=2, mapping=few)
    more = make_split(label(store, few), n_folds=2, mapping=few | {'VT': 'irregular'})
    assert own.digest==more.digest
    run = train(tiny(epochs=1), store, own, tmp_path/'run', **KW)
    assert train(tiny(epochs=1), store, own, tmp_path/'run', **KW).result==run.result
    with fails('differs in mapping'): train(tiny(epochs=1), store, more, tmp_path/'run', **KW)
    save_split(own, tmp_path/'split.json')
    edited = json.loads((tmp_path/'split.json').read_text())
    edited['info']['mapping']['SR'] = 'irregular'
    (tmp_path/'split.json').write_text(json.dumps(edited))
    with fails('edited or damaged'): load_split(tmp_path/'split.json')

def test_a_mapping_that_an_older_run_did_not_record(calm):
    from ecg_arrhythmia.data.rhythms import MAPPINGS
    old = replace(calm, result={k: v for k,v in calm.result.items() if k!='mapping'})
    assert old.mapping==MAPPINGS['merged']
    with fails('give the mapping'): replace(old, result=old.result | dict(classes=['a', 'b'])).mapping

def test_validation_has_the_precision_of_prediction(store, split, tmp_path):
    run = train(tiny(amp='bf16', epochs=1), store, split, tmp_path/'run', **KW)
    cols = [f'p_{c}' for c in run.classes]
    again = predict_run(run, store, split.folds[0], **KW).set_index('name')[cols]
    assert np.allclose(run.predictions.set_index('name')[cols].loc[again.index], again, atol=2e-5)

def test_a_retrained_run_has_predictions_of_recordings_not_trained_on(store, split, tmp_path):
    runs = cross_validate(tiny(epochs=1), store, split, tmp_path/'cv', **KW)
    final = retrain(tiny(epochs=1), store, split, tmp_path/'final', runs=runs, **KW)
    assert sorted(final.unseen.name)==sorted(split.train) and runs[0].unseen.equals(runs[0].predictions)
    with fails('no fold to validate on'): final.predictions

@pytest.mark.parametrize('optimizer', ['adam', 'sgd'])
def test_momentum_is_cycled(store, split, tmp_path, monkeypatch, optimizer):
    seen, old = [], callbacks.set_momentum
    def note(opt, m):
        old(opt, m)
        seen.append((m, opt.param_groups[0]['betas'][0] if optimizer=='adam' else opt.param_groups[0]['momentum']))
    monkeypatch.setattr(callbacks, 'set_momentum', note)
    train(
        tiny(optimizer=optimizer, scheduler='onecycle', cycle_momentum=True, batch_size=4),
        store,
        split,
        tmp_path / 'run',
        **KW
    )
    set_to, is_now = map(np.array, zip(*seen))
    assert (
        (set_to == is_now).all()
        and set_to[0] == 0.95
        and 0.85 <= set_to.min() < 0.87
        and set_to.argmin() == pytest.approx(0.3 * len(seen), abs=1)
    )

def test_momentum_follows_that_of_torch():
    n = 1000
    c = recipe('study', epochs=10)
    opt = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=.1, momentum=.9)
    schedule = torch.optim.lr_scheduler.OneCycleLR(opt, .1, total_steps=n, pct_start=.3)
    for i in range(n):
        assert momentum_at(c, 10*i/n)==pytest.approx(opt.param_groups[0]['momentum'], abs=1e-3)
        opt.step()
        if i < n-1: schedule.step()

@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_a_gpu_that_is_not_there(store, split, tmp_path):
    with fails('cuda: this machine has no GPU'): train(tiny(), store, split, tmp_path/'run', device='cuda')
    assert not (tmp_path/'run').exists()

# --- eleven classes, folds, loaders

def test_eleven_classes_of_the_same_store(store, tmp_path):
    y = label(store, 'all'); s = make_split(y, n_folds=2, test_size=.25)
    r = train(tiny(epochs=1), store, s, tmp_path/'run', **KW)
    assert (
        r.classes == sorted(RHYTHMS)
        and r.model()(torch.zeros(1, 3, 64, 64)).shape == (1, 11)
        and len(predict_run(r, store, s.test, labels=s.labels, **KW).filter(like='p_').columns) == 11
    )

def test_cross_validation(store, split, tmp_path):
    runs = cross_validate(tiny(epochs=1), store, split, tmp_path/'cv', **KW)
    assert [r.path.name for r in runs] == ['fold0', 'fold1'] and [
        set(r.predictions['name']) for r in runs
    ] == [set(f) for f in split.folds]
    assert [r.path for r in cross_validate(tiny(epochs=1), store, split, tmp_path/'cv', folds=[1], **KW)]==[runs[1].path]

def test_items_refuse(store, split):
    n, y = list(store), split.labels
    with fails(f'{n[1]}.* in training and in validation'): items(store, n[:2], n[1:3], y)
    with fails('1 recordings of the split are not in', 'nobody', 'recordings in the store'):
        items(store, [*n[:2], 'nobody'], n[3:4], y)
    with fails('not 6x2'): items(store, n[:2], n[2:3], y, '6x2')
    t = items(store, n[:2], n[2:3], y)
    assert (
        t['name'].tolist() == [n[0], n[0], n[1], n[1], n[2], n[2]]
        and t.valid.tolist() == [False] * 4 + [True] * 2
        and t['view'].tolist() == ['3x4+1', 'rhythm12'] * 3
    )

def test_views_stay_together(store, split):
    dls = dataloaders(store, *split.fold(0), split.labels, config=Config(batch_size=8), device='cpu')
    assert not set(dls.train_ds.items['name']) & set(dls.valid_ds.items['name']) and len(
        dls.train_ds
    ) == 2 * len(split.fold(0)[0])
    assert list(dls.vocab)==['AFIB', 'GSVT', 'SB', 'SR'] and dls.one_batch()[0].shape==(8, 3, 32, 32)

def test_hidden_files_of_others_stay(tmp_path):
    "Only the halves of files that the package itself left behind are removed from a run's folder"
    from ecg_arrhythmia.training.runs import only_run
    for name in ('.notes.2024', '.model.safetensors.123.half', 'mine.txt'): (tmp_path/name).write_text('x')
    with only_run(tmp_path): pass
    assert sorted(p.name for p in tmp_path.iterdir())==['.notes.2024', 'mine.txt']

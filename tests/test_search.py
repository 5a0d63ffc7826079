"""Dense checks of `space`, `heads`, `search` and `consolidate`: spaces refused to the line, features
that are the backbone's, searches killed and resumed, the best by the rule"""
import json, os, shutil, signal, subprocess, sys, time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np, optuna, pandas as pd, pytest, torch
from networks import *
from optuna.trial import Trial, TrialState

from ecg_arrhythmia.search import results as C
from ecg_arrhythmia.search import heads as H
from ecg_arrhythmia.search import protocol as P
from ecg_arrhythmia.search import refine as G
from ecg_arrhythmia.search import trials as S
from ecg_arrhythmia.data.datasets import catalogue
from ecg_arrhythmia.search.results import (
    best_of, consolidate, find_runs, importances, load_best, plot_learning_curves,
    plot_importances, plot_parallel, plot_search_history, plot_slices, plot_stages, summary)
from ecg_arrhythmia.training.holdout import open_holdout, openings
from ecg_arrhythmia.training.loop import retrain
from ecg_arrhythmia.search.protocol import Seeds, run_seeds, seeds_summary
from ecg_arrhythmia.search.heads import embed, head_grid, head_weights, train_head
from ecg_arrhythmia.data.rhythms import RHYTHMS, label
from ecg_arrhythmia.data.splits import make_split, save_split
from ecg_arrhythmia.models.weights import create_model
from ecg_arrhythmia.training.runs import save_weights
from ecg_arrhythmia.training.recipes import Config, recipe
from ecg_arrhythmia.core import ECGError
from ecg_arrhythmia.search.trials import bayes, open_storage, open_study, trials_table
from ecg_arrhythmia.search.refine import can_win, neighbours, race
from ecg_arrhythmia.search.protocol import estimate
from ecg_arrhythmia.data.simulated_datasets import simulate_dataset
from ecg_arrhythmia.search.space import TEMPLATE, configure, read_space
from ecg_arrhythmia.training.recipes import config_id
from ecg_arrhythmia.charts.encoding import store_spec
from ecg_arrhythmia.charts.packing import pack
from ecg_arrhythmia.charts.store import ChartStore
from ecg_arrhythmia.training.loop import train

pytestmark = pytest.mark.filterwarnings('ignore::FutureWarning', 'ignore::UserWarning')
KW = dict(device='cpu', progress=False)

def fails(*says): return pytest.raises(ECGError, match='(?s)'+'.*'.join(says))

@pytest.fixture(scope='module', autouse=True)
def one_thread():
    n = torch.get_num_threads(); torch.set_num_threads(1)
    yield
    torch.set_num_threads(n)

@pytest.fixture(scope='module')
def store(tmp_path_factory):
    d = tmp_path_factory.mktemp('search')
    cat = catalogue(simulate_dataset(d/'data', counts={r: 4 for r in RHYTHMS}, seed=1, workers=1, progress=False))
    return pack(cat, d/'s.lmdb', store_spec(['3x4+1', 'rhythm12'], 32), limits=None, progress=False)

@pytest.fixture(scope='module')
def split(store): return make_split(label(store), n_folds=2)

@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    "A file with all tensors of a model, so that its last layer alone learns"
    torch.manual_seed(5)
    p = tmp_path_factory.mktemp('weights')/'mobilenet_v3_small.pth'
    torch.save(create_model('mobilenet_v3_small', 10).state_dict(), p)
    return str(p)

def space_of(tmp_path, text, arch='tiny', **kw):
    (p := tmp_path/'space.yaml').write_text(text)
    return read_space(p, arch=arch, **kw)

# --- spaces

@pytest.mark.parametrize(
    'text,says',
    [
        ('', 'empty'),
        ('- a', 'line 1.*stage'),
        ('heads: {}', "line 1: unknown stage 'heads', do you mean 'head'"),
        ('head:', 'line 1: head: empty'),
        ('head:\n  grid:', 'line 2: grid: empty'),
        ('head:\n  fixed: {lr: 1}', 'line 1.*nothing to search'),
        ('head:\n  grid:\n    lr: .1', 'line 3: lr: write a list'),
        ('head:\n  grid:\n    lr: []', 'line 3.*empty'),
        ('head:\n  grid:\n    lr: [.1, .1]', 'line 3.*twice'),
        ('head:\n  grid:\n    lr: [1e-3, -1]', 'line 3: lr must be positive'),
        ('head:\n  grid:\n    lr:\n      - .1\n      - slow', 'line 5: lr must be'),
        ('head:\n  grid:\n    optimizer: [adam, lion]', "line 3: unknown optimizer 'lion'"),
        ('head:\n  grid:\n    lr: [.1]\n  fixed:\n    lr: .1', 'line 3: lr is fixed in line 5'),
        ('head:\n  grid:\n    augment: [true]', 'line 3: augment is not to be set'),
        ('head:\n  fixed:\n    freeze: false\n  grid: {lr: [.1]}', 'line 3: freeze is not to be set'),
        ('head:\n  grid:\n    arch: [resnet18]', 'line 3: arch is not to be searched'),
        ('head:\n  grid:\n    lr: {log: [1e-4, 1e-2]}', 'line 3: lr: write a list'),
        ('head:\n  trials: 5\n  grid: {lr: [.1]}', "line 2: head: unknown 'trials'"),
        ('head:\n  recipe: mine\n  grid: {lr: [.1]}', "line 2: unknown recipe 'mine'"),
        (
            'bayes:\n  trials: many\n  space: {lr: [.1, .2]}',
            'line 2: trials must be a positive whole number',
        ),
        ('bayes:\n  trials: 0\n  space: {lr: [.1, .2]}', 'line 2: trials'),
        ('bayes:\n  space:\n    lr: {log: [1e-2, 1e-5]}', 'line 3: lr: the range must go'),
        ('bayes:\n  space:\n    lr: {log: [0, 1e-5]}', 'line 3.*logarithmic'),
        ('bayes:\n  space:\n    lr: {log: [1e-5]}', 'line 3.*two numbers'),
        ('bayes:\n  space:\n    lr: {lin: [1e-5, 1]}', "line 3: lr: unknown 'lin'"),
        ('bayes:\n  space:\n    lr: {when: {a: 1}}', 'line 3: lr: one of'),
        ('bayes:\n  space:\n    epochs: {int: [1.5, 3]}', 'line 3.*whole numbers'),
        ('bayes:\n  space:\n    momentum: {uniform: [0, 1]}', 'line 3: momentum must be'),
        (
            'bayes:\n  space:\n    gamma: {uniform: [.1, .9], when: {scheduler: step}}\n    scheduler: [none, step]',
            "line 3: gamma: 'scheduler' must be",
        ),
        (
            'bayes:\n  space:\n    scheduler: [none, step]\n    gamma: {uniform: [.1, .9], when: {scheduler: cosine}}',
            "line 4: gamma: scheduler is never 'cosine'",
        ),
        (
            'bayes:\n  space: {lr: [.1]}\n  space: {lr: [.2]}',
            "line 3: 'space' is given twice in what begins in line 2",
        ),
        ('refine:\n  limit: 3', 'line 1.*there is no bayes'),
        ('bayes:\n  space: {lr: [.1, .2]}\nrefine:\n  slack: 2', 'line 4: slack'),
        ('bayes:\n  space: {lr: [.1, .2]', 'line 2: not YAML'),
        ('bayes:\n  space: {batch_size: [32, 6.5]}', 'line 2: batch_size'),
        ('head:\n  grid:\n    lrr: [.1]', "line 3: unknown setting 'lrr', do you mean 'lr'"),
        ('bayes:\n  fixed: {amp: off, epochs: "5"}\n  space: {lr: [.1, .2]}', "line 2: epochs must be"),
        ('bayes:\n  fixed: [1]\n  space: {lr: [.1, .2]}', 'line 2: fixed: empty'),
    ],
)
def test_spaces_refused(tmp_path, text, says):
    with fails('space.yaml', says): space_of(tmp_path, text)

def test_no_file(tmp_path):
    with fails('ecg_search --template'): read_space(tmp_path/'none.yaml')

def test_study_template(tmp_path):
    s = space_of(tmp_path, TEMPLATE, weights='w', arch='resnet18')
    assert len(s.head.configs()) == 32 and all(
        c.freeze and not c.augment and c.arch == 'resnet18' and c.weights == 'w' for c in s.head.configs()
    )
    trial = lambda **p: optuna.trial.FixedTrial(p)
    sgd = s.bayes.suggest(
        trial(
            optimizer='sgd',
            momentum=0.5,
            lr=1e-3,
            weight_decay=1e-4,
            scheduler='step',
            step_size=20,
            gamma=0.3,
            batch_size=64,
        ),
        seed=7,
    )
    assert (
        sgd.momentum,
        sgd.gamma,
        sgd.step_size,
        sgd.stop_patience,
        sgd.stop_after,
        sgd.seed,
        sgd.freeze,
    ) == (0.5, 0.3, 20, 10, 20, 7, False)
    one = s.bayes.suggest(trial(optimizer='adam', lr=1e-3, weight_decay=1e-4, scheduler='onecycle', batch_size=32))
    assert (
        one.stop_patience is None and one.momentum == Config().momentum
    ), 'onecycle anneals to its end, momentum is not asked for'

def test_equal_runs_have_one_id():
    base = recipe('study', scheduler='none')
    assert config_id(configure(base, gamma=0.1)) == config_id(configure(base, gamma=0.2)) and config_id(
        configure(base, lr=0.1)
    ) != config_id(configure(base, lr=0.2))
    assert config_id(configure(base, seed=1))==config_id(configure(base, seed=2))
    assert (
        config_id(recipe(views='all')) == '27bb28b196'
        and len({config_id(recipe(**kw)) for kw in (dict(), dict(average=0.9), dict(class_balance=1.0))}) == 3
    ), 'a setting that came later changes no older id'

def test_a_configuration_is_known_by_the_content_of_its_weights(tmp_path):
    def weights(path, content):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return config_id(recipe(weights=str(path)))
    one = weights(tmp_path/'a'/'w.pth', b'one')
    assert weights(tmp_path/'b'/'w.pth', b'one')==one, 'the same file elsewhere'
    assert weights(tmp_path/'a'/'w.pth', b'two')!=one, 'another file at the same path'
    assert len({config_id(recipe(weights=w)) for w in (None, 'imagenet', 'nowhere/a.pth', 'nowhere/b.pth')})==4

def test_a_foreign_run_names_no_file_outside(tmp_path):
    run = dict(config=vars(recipe()), store='../../evil', split='s', fold=0, status='done', epochs=1,
               macro_f1=.5, accuracy=.5, origin='real', folds=1)
    (tmp_path/'a/refine/x').mkdir(parents=True)
    (tmp_path/'a/refine/x/result.json').write_text(json.dumps(run))
    with pytest.warns(UserWarning, match='is not a digest'), fails('no finished run'): consolidate(tmp_path/'a')
    assert not list(tmp_path.glob('evil*')) and not list(tmp_path.glob('a/*.json'))

def test_weights_of_folds_count_together(tmp_path):
    def of(folder, *contents):
        (tmp_path/folder).mkdir(exist_ok=True)
        for k,content in enumerate(contents): (tmp_path/folder/f'{k}.safetensors').write_bytes(content)
        return config_id(recipe(weights=str(tmp_path/folder/'{fold}.safetensors')))
    first = of('start [1]', b'one', b'two')
    assert of('moved', b'one', b'two')==first
    assert of('moved', b'one', b'other')!=first

# --- heads

HEADS = [
    dict(),
    dict(optimizer='sgd', momentum=0.5, weight_decay=0.1),
    dict(optimizer='adamw', weight_decay=0.1, label_smoothing=0.1),
    dict(scheduler='onecycle'),
    dict(scheduler='step', step_size=2),
    dict(scheduler='plateau', lr_patience=0),
    dict(head_init='zeros', keep='last'),
    dict(layouts=('rhythm12',)),
    dict(stop_patience=1, stop_after=2, epochs=5),
    dict(class_balance=0.5, average=0.8),
    dict(class_balance=1.0, average=0.8, keep='last'),
    dict(layouts=None, views='one'),
]

def test_a_head_begins_with_the_weights_that_are_there_now(store, split, tmp_path):
    "Weights and store replaced in place, by others of the same size, while the process runs"
    def saved(seed):
        torch.manual_seed(seed)
        torch.save(create_model('tiny', 4).state_dict(), tmp_path/'w.pth')
    config = recipe('study', weights=str(tmp_path/'w.pth'), arch='tiny', freeze=True, epochs=1, lr=1e-9,
                    scheduler='none', batch_size=8, layouts=['3x4+1'])
    def head(out):
        feats = embed(config, store, tmp_path/'cache', progress=False)
        return train_head(config, feats, store, split, out=tmp_path/out).predictions.filter(like='p_').to_numpy()
    saved(0)
    first = head('a')
    H._start_head.cache_clear()
    saved(1)
    fresh = head('b')
    saved(0)
    assert np.allclose(head('c'), first, atol=1e-5) and not np.allclose(fresh, first, atol=1e-5)
    copy = shutil.copy(store.path, tmp_path/'s.lmdb')
    old = ChartStore(copy)
    assert H._opened(old.path, old.digest).digest==old.digest
    cat = catalogue(store.path.parent/'data')
    new = pack(cat, copy, store_spec(['3x4+1', 'rhythm12'], 40), limits=None, progress=False, overwrite=True)
    assert H._opened(new.path, new.digest).size==(40, 40)
    with fails('was replaced after it was opened'): H._opened(new.path, 'that of another')

# with a random backbone, and some with a trained one
CASES = [(kw, False) for kw in HEADS] + [(kw, True) for kw in (HEADS[0], HEADS[5], HEADS[-1])]

@pytest.mark.parametrize('kw,full', CASES)
def test_head_is_the_run_through_the_backbone(store, split, weights, tmp_path, kw, full):
    "Same history and probabilities, to the rounding of a backbone that sees other batch sizes"
    c = recipe(
        'study',
        **dict(
            weights=weights if full else None, freeze=True, epochs=3, lr=0.02, scheduler='none', batch_size=8
        )
        | kw
    )
    through = train(c, store, split, tmp_path/'through', **KW)
    run = train_head(c, embed(c, store, tmp_path/'f', **KW), store, split, out=tmp_path/'head')
    assert len(run.history)==len(through.history) and list(run.history)==list(through.history)
    scores = ['macro_f1', 'accuracy'] # of 22 recordings: rounding may decide one of them otherwise
    assert np.allclose(run.history.drop(columns=scores), through.history.drop(columns=scores), atol=2e-3)
    assert np.allclose(run.history[scores], through.history[scores], atol=.1)
    a, b = run.predictions, through.predictions
    assert (
        a[['name', 'view', 'label', 'fold']] == b[['name', 'view', 'label', 'fold']]
    ).all().all() and np.abs(a.filter(like='p_') - b.filter(like='p_')).to_numpy().max() < 2e-3
    assert run.config==through.config
    if run.history[scores].equals(through.history[scores]): assert run.result['best_epoch']==through.result['best_epoch']
    with fails('no model.safetensors'): run.model()

def test_features_are_cached_by_what_they_depend_on(store, weights, tmp_path, monkeypatch):
    c = recipe('study', weights=weights, freeze=True)
    f = embed(c, store, tmp_path, **KW); calls, old = [], H._features
    monkeypatch.setattr(H, '_features', lambda *a: calls.append(len(a[2])) or old(*a))
    assert (
        embed(c, store, tmp_path, **KW) == f
        and embed(replace(c, lr=0.5, seed=9, head_init='zeros'), store, tmp_path, **KW) == f
        and not calls
    )
    state = torch.load(weights, weights_only=True); state['features.0.0.weight'] += 1e-6
    torch.save(state, tmp_path/'mobilenet_v3_small.pth')
    assert embed(
        replace(c, weights=str(tmp_path / 'mobilenet_v3_small.pth')), store, tmp_path, **KW
    ).path != f.path and sum(calls) == 2 * len(store)

def test_a_pass_goes_on_where_it_was_stopped(store, tmp_path, monkeypatch):
    monkeypatch.setattr(H, 'PART', 20)
    c, calls, old = recipe('study', freeze=True), [], H._features
    def some(*a):
        if len(calls)==3: raise KeyboardInterrupt
        calls.append(len(a[2])); return old(*a)
    monkeypatch.setattr(H, '_features', some)
    with pytest.raises(KeyboardInterrupt): embed(c, store, tmp_path/'a', batch_size=20, **KW)
    monkeypatch.setattr(H, '_features', lambda *a: calls.append(len(a[2])) or old(*a))
    f = embed(c, store, tmp_path/'a', batch_size=20, **KW)
    assert sum(calls)==2*len(store)
    whole = f.of(list(store)); part = sorted(f.path.glob('0*.safetensors'))[1]
    part.write_bytes(part.read_bytes()[:100]); H._load_parts.cache_clear()
    calls.clear()
    assert (
        torch.equal(embed(c, store, tmp_path / 'a', batch_size=20, **KW).of(list(store)), whole)
        and sum(calls) == 20
    ), 'a damaged part is made again'

def test_each_fold_has_the_features_of_its_own_weights(store, split, tmp_path):
    for seed,k in enumerate((0, 1, 'all')):
        torch.manual_seed(seed)
        torch.save(create_model('mobilenet_v3_small', 4).state_dict(), tmp_path/f'{k}.pth')
    c = recipe(
        'study',
        weights=str(tmp_path / '{fold}.pth'),
        freeze=True,
        epochs=1,
        layouts=('rhythm12',),
        scheduler='none',
        batch_size=16,
    )
    with fails('differ from fold to fold'): embed(c, store, tmp_path/'f', **KW)
    f = embed(c, store, tmp_path/'f', n_folds=2, **KW)
    assert len({f.path, *dict(f.by_fold).values()})==3
    head = train_head(c, f, store, split, out=tmp_path/'head', fold=1)
    whole = train(c, store, split, tmp_path/'whole', fold=1, **KW)
    assert np.allclose(head.history, whole.history, atol=2e-4)

GRID = """
import os, sys, torch
from ecg_arrhythmia.charts.store import ChartStore
from ecg_arrhythmia.data.splits import load_split
from ecg_arrhythmia.search.heads import embed, head_grid
from ecg_arrhythmia.training.recipes import recipe

def refuse(*a, **k): raise RuntimeError('Cannot re-initialize CUDA in forked subprocess')
def as_torch_does(): torch.optim.Adam.step = refuse

if __name__=='__main__':
    os.register_at_fork(after_in_child=as_torch_does)
    torch.cuda.is_available = lambda: sys.argv[1]=='gpu'
    store, split = ChartStore(sys.argv[2]), load_split('split.json')
    base = recipe('study', epochs=1, scheduler='none', freeze=True, batch_size=16)
    feats = embed(base, store, 'features', device='cpu', progress=False)
    configs = [recipe(base, lr=lr) for lr in (.1, .01)]
    print(len(head_grid(configs, feats, store, split, out=f'grid-{sys.argv[1]}', workers=2, progress=False)))
"""
def grid_of(kind, store, split, tmp_path):
    save_split(split, tmp_path/'split.json')
    (tmp_path/'grid.py').write_text(GRID)
    command = [sys.executable, '-W', 'ignore', 'grid.py', kind, str(store.path)]
    return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

@pytest.mark.slow # three processes that load torch
def test_grid_where_a_forked_process_cannot_train(store, split, tmp_path):
    "As on any machine with a GPU: what torch refuses there is refused here too"
    done = grid_of('gpu', store, split, tmp_path)
    assert done.returncode==0 and done.stdout.split()==['4'], done.stderr

@pytest.mark.slow
def test_the_refusal_of_a_forked_process_is_at_work(store, split, tmp_path):
    assert 'forked subprocess' in grid_of('cpu', store, split, tmp_path).stderr

def test_grid_is_not_run_twice(store, split, tmp_path):
    configs = space_of(
        tmp_path,
        'head:\n  fixed: {epochs: 2, scheduler: none}\n  grid: {lr: [.001, .01], weight_decay: [0, .1]}',
    ).head.configs()
    f = embed(configs[0], store, tmp_path/'f', **KW)
    first = head_grid(configs[:2], f, store, split, out=tmp_path / 'g', progress=False)
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / 'g').rglob('result.json')}
    both = head_grid(configs, f, store, split, out=tmp_path/'g', workers=2, progress=False)
    assert (
        len(first) == 4
        and len(both) == 8
        and all(p.stat().st_mtime_ns == t for p, t in stamps.items())
        and both.status.isin(['done', 'collapsed']).all()
    )

def test_start_weights_leak_nothing(store, split, weights, tmp_path):
    "The head for fold k never saw fold k; the one for all saw all"
    c = recipe('study', weights=weights, freeze=True, epochs=2, lr=.05, scheduler='none', keep='last', batch_size=8)
    f = embed(c, store, tmp_path/'f', **KW); start = head_weights(c, f, store, split, out=tmp_path/'start')
    for k in (0, 1):
        run = train(c, store, split, tmp_path/f'through{k}', fold=k, **KW)
        head = create_model(c.arch, 4, start.replace('{fold}', str(k)))
        assert torch.allclose(
            head.classifier[3].weight, run.model().classifier[3].weight, atol=1e-3
        ) and torch.equal(head.features[0][0].weight, create_model(c.arch, 4, weights).features[0][0].weight)
    stamp = (tmp_path/'start/0.safetensors').stat().st_mtime_ns
    assert (
        head_weights(c, f, store, split, out=tmp_path / 'start') == start
        and (tmp_path / 'start/0.safetensors').stat().st_mtime_ns == stamp
    )
    full = recipe('study', weights=start, epochs=1, scheduler='none', keep='last', lr=1e-12, batch_size=8)
    assert torch.allclose(
        train(full, store, split, tmp_path / 'full', fold=None, **KW).model().classifier[3].weight,
        create_model(c.arch, 4, start.replace('{fold}', 'all')).classifier[3].weight,
    )

# --- a study that lives on

BAYES = '''
bayes:
  recipe: study
  trials: %d
  folds: 2
  startup: 2
  warmup: 1
  min_trials: 1
  fixed: {epochs: 3, batch_size: 16, scheduler: none, bn_momentum: .3, layouts: [rhythm12]}
  space:
    lr: {log: [1e-5, 1e-1]}
    optimizer: [adam, sgd]
    momentum: {uniform: [0, .9], when: {optimizer: sgd}}
refine: {limit: 3, slack: 0}
'''
def asked(study): return [(t.state.name, t.params, t.value, t.intermediate_values) for t in study.trials]

@pytest.fixture(scope='module')
def calm(store, split, tmp_path_factory):
    "An undisturbed search"
    d = tmp_path_factory.mktemp('calm')
    space = space_of(d, BAYES % 6)
    return bayes(space.bayes, store, split, d/'bayes', progress=False, device='cpu'), d/'bayes'

def test_an_undisturbed_search(calm, store, split, tmp_path):
    study, out = calm
    assert len(study.trials)==6 and all(t.state in (TrialState.COMPLETE, TrialState.PRUNED) for t in study.trials)
    for t in study.trials:
        assert ('momentum' in t.params)==(t.params['optimizer']=='sgd')
        runs = [json.loads(p.read_text()) for p in sorted((out/f'trial{t.number:04}').glob('fold*/result.json'))]
        assert {r['config']['seed'] for r in runs}=={42+t.number}, 'each trial has a seed of its own'
        if t.state == TrialState.COMPLETE:
            assert t.value == pytest.approx(np.mean([r['macro_f1'] for r in runs])) and len(runs) == 2
        else:
            assert runs[-1]['status'] == 'pruned' and not list(
                out.glob(f'trial{t.number:04}/fold*/checkpoint*.pt')
            )
    table = trials_table(study, out)
    assert all(Path(p).is_dir() for p in table.path) and table.macro_f1.notna().sum() == sum(
        t.state == TrialState.COMPLETE for t in study.trials
    )
    again = bayes(space_of(tmp_path, BAYES % 6).bayes, store, split, out, progress=False, device='cpu')
    assert asked(again)==asked(study), 'nothing is left to do'

WORKER = """
import os, random, signal, sys, torch
import networks
networks.add_tiny()
torch.set_num_threads(1)
from pathlib import Path
from ecg_arrhythmia.charts.store import ChartStore
from ecg_arrhythmia.data.splits import load_split
from ecg_arrhythmia.search import trials as S
from ecg_arrhythmia.search.space import read_space
store, split, space = ChartStore(sys.argv[1]), load_split('split.json'), read_space('space.yaml', arch='tiny').bayes

def die(*args): os.kill(os.getpid(), signal.SIGKILL)
def die_in_entry(journal, logs): # half an entry is written
    with open(journal._file_path, 'ab') as f: f.write(b'{"op_code": 5, "tri')
    die()

def kill_at(n): # after so many steps, writes and entries: by progress, which is the same on a slow machine, and not by a clock
    done = 0
    def counted(f, last=die):
        def wrapped(*args, **kw):
            nonlocal done
            done += 1
            if done==n: last(*args)
            return f(*args, **kw)
        return wrapped
    torch.Tensor.backward, os.fsync, os.replace = counted(torch.Tensor.backward), counted(os.fsync), counted(os.replace)
    S._Journal.append_logs = counted(S._Journal.append_logs, die_in_entry)

for life in range(int(sys.argv[2])): # one process loads torch, its children live and die
    if (pid := os.fork()) == 0:
        try:
            kill_at(random.Random(int(sys.argv[3])*1000+life).randint(1, 80))
            S.bayes(space, store, split, 'bayes', progress=False, device='cpu')
            os._exit(7)
        except BaseException as e:
            Path('error.txt').write_text(repr(e))
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code==7: break
    assert code==-signal.SIGKILL, code
else: life += 1
print(life)
"""
def workplace(tmp_path, split, trials):
    save_split(split, tmp_path/'split.json'); (tmp_path/'space.yaml').write_text(BAYES % trials)
def worker(tmp_path, store, lives, seed=0, **kw):
    return subprocess.Popen(
        [sys.executable, '-W', 'ignore', '-c', WORKER, str(store.path), str(lives), str(seed)],
        cwd=tmp_path,
        env=WITH_TESTS,
        stdout=subprocess.PIPE,
        text=True,
        **kw
    )

def killed_search(tmp_path, store, split, lives, seed=0):
    workplace(tmp_path, split, 6)
    p = worker(tmp_path, store, lives, seed)
    assert (out := p.communicate()[0]) and p.returncode == 0, (tmp_path / 'error.txt').exists() and (
        tmp_path / 'error.txt'
    ).read_text()
    return int(out), bayes(
        space_of(tmp_path, BAYES % 6).bayes, store, split, tmp_path / 'bayes', progress=False, device='cpu'
    )

def test_killed_and_gone_on(calm, store, split, tmp_path):
    "Killed (-9) after random numbers of steps and writes: the same trials, values and reports as undisturbed"
    died, study = killed_search(tmp_path, store, split, 6)
    assert died >= 3, 'the search is longer than that'
    assert asked(study)==asked(calm[0])

@pytest.mark.slow
@pytest.mark.parametrize('seed', range(1, 5))
def test_killed_often(calm, store, split, tmp_path, seed):
    died, study = killed_search(tmp_path, store, split, 30, seed)
    assert asked(study)==asked(calm[0])

@pytest.mark.slow # two processes that load torch
def test_two_workers_and_a_kill(store, split, tmp_path):
    "Exactly the budget, no trial twice, none left running"
    workplace(tmp_path, split, 6)
    ps = [worker(tmp_path, store, 4, s) for s in (11, 12)]
    for p in ps: p.communicate()
    study = bayes(space_of(tmp_path, BAYES % 6).bayes, store, split, tmp_path/'bayes', progress=False, device='cpu')
    assert [t.number for t in study.trials]==list(range(6)) and all(t.state.is_finished() for t in study.trials)
    for t in study.trials:
        assert (
            list(t.intermediate_values) == sorted(set(t.intermediate_values))
            and len(list((tmp_path / f'bayes/trial{t.number:04}').glob('fold*'))) <= 2
        )

@pytest.mark.slow # as above
def test_workers_option(store, split, tmp_path):
    space = space_of(tmp_path, BAYES % 4, arch='mobilenet_v3_small').bayes # processes of their own know no other
    study = bayes(space, store, split, tmp_path/'b', workers=2, progress=False, device='cpu')
    assert len(study.trials)==4 and all(t.state.is_finished() for t in study.trials)

def test_database(calm, store, split, tmp_path):
    url = f'sqlite:///{tmp_path}/study.db'
    half = bayes(space_of(tmp_path, BAYES % 2).bayes, store, split, tmp_path/'b', storage=url, progress=False, device='cpu')
    assert len(half.trials)==2
    study = bayes(space_of(tmp_path, BAYES % 4).bayes, store, split, tmp_path/'b', storage=url, progress=False, device='cpu')
    assert [(a, b) for a, b, *_ in asked(study)] == [
        (a, b) for a, b, *_ in asked(calm[0])[:4]
    ], 'a larger budget goes on, and where it is kept makes no difference'

WHOLE = BAYES.replace('warmup: 1', 'prune: folds\n  prior: true').replace('[adam, sgd]', '[sgd, adam]')

def by_rate(config, store, split, out, fold=None, watch=None, **kw):
    "In place of a training: a score that the learning rate decides; nothing may watch it"
    assert watch is None
    best = recipe('study').lr
    score = 0.9 - abs(np.log10(config.lr / best))/10 - fold/100
    return SimpleNamespace(result=dict(macro_f1=score, status='done', epochs=config.epochs))

def test_pruning_between_folds_and_a_prior(store, split, tmp_path, monkeypatch):
    "Every fold that begins is trained to its end; the first trial is the recipe; the worse ones end after a fold"
    monkeypatch.setattr('ecg_arrhythmia.search.trials.train', by_rate)
    study = bayes(space_of(tmp_path, WHOLE % 12).bayes, store, split, tmp_path/'b', progress=False)
    study_recipe = recipe('study')
    assert study.trials[0].params == dict(lr=study_recipe.lr, optimizer=study_recipe.optimizer)
    states = [t.state for t in study.trials]
    assert len(states)==12 and states[0]==TrialState.COMPLETE and TrialState.PRUNED in states
    for t in study.trials:
        folds = 1 if t.state==TrialState.PRUNED else 2
        assert sorted(t.intermediate_values)==list(range(folds)) and t.user_attrs['epochs']==3*folds
    assert study.best_trial.number==0
    again = bayes(space_of(tmp_path, WHOLE % 13).bayes, store, split, tmp_path/'b', progress=False)
    priors = [t for t in again.trials if t.params.get('lr')==study_recipe.lr]
    assert len(again.trials)==13 and len(priors)==1, 'the recipe is tried once, whatever is resumed'

def test_a_prior_is_raced_on_all_folds(store, split, tmp_path, monkeypatch):
    "Trials on some folds cannot be called the best; the recipe can, since the refinement begins with it"
    from ecg_arrhythmia.search.protocol import recipe_of
    monkeypatch.setattr('ecg_arrhythmia.search.trials.train', by_rate)
    text = (WHOLE % 4).replace('{limit: 3, slack: 0}', '{limit: 2, fixed: {epochs: 5}}')
    search = space_of(tmp_path, text)
    study = bayes(search.bayes, store, split, tmp_path/'b', progress=False)
    around = neighbours(search.bayes, search.refine, study)
    assert around[0]==recipe_of(search) and around[0].lr==recipe('study').lr and around[0].epochs==5
    assert len({config_id(c) for c in around})==len(around) <= 3

def test_a_prior_that_was_left_waiting(store, split, tmp_path, monkeypatch):
    "A worker that died between the two steps leaves a waiting trial; it is run, and counts once"
    monkeypatch.setattr('ecg_arrhythmia.search.trials.train', by_rate)
    space = space_of(tmp_path, WHOLE % 1).bayes
    open_study(space, store, split, tmp_path/'b').enqueue_trial(space.prior())
    study = bayes(space, store, split, tmp_path/'b', progress=False)
    assert [t.state for t in study.trials]==[TrialState.COMPLETE] and study.trials[0].params['lr']==recipe('study').lr

@pytest.mark.parametrize('change,why', [
    (('prune: folds', 'prune: never'), 'epochs or folds'),
    (('prior: true', 'prior: 1'), 'true or false')])
def test_options_of_pruning(tmp_path, change, why):
    with fails(why): space_of(tmp_path, (WHOLE % 2).replace(*change))

def test_a_prior_outside_the_space(store, split, tmp_path):
    space = space_of(tmp_path, (WHOLE % 2).replace('1e-5, 1e-1', '1e-2, 1e-1')).bayes
    with fails("recipe's lr"): bayes(space, store, split, tmp_path/'b', progress=False)

def test_another_space_is_another_study(calm, store, split, tmp_path):
    with fails('differs in axes'):
        open_study(space_of(tmp_path, (BAYES % 6).replace('1e-5', '1e-4')).bayes, store, split, calm[1])
    with fails('differs in options'):
        open_study(
            space_of(tmp_path, (BAYES % 6).replace('warmup: 1', 'warmup: 2')).bayes, store, split, calm[1]
        )
    with fails('differs in split'):
        open_study(space_of(tmp_path, BAYES % 6).bayes, store, make_split(label(store), n_folds=3), calm[1])

def test_taking_up_a_trial(tmp_path):
    "What is relied on in a constructor that Optuna does not document"
    study = optuna.create_study(storage=open_storage(tmp_path/'j'), study_name='s', direction='maximize')
    t = study.ask(); x = t.suggest_float('x', 0, 1); t.report(.5, 0)
    other = optuna.load_study(storage=open_storage(tmp_path/'j'), study_name='s')
    again = Trial(other, other.trials[0]._trial_id)
    assert again.number==0 and again.suggest_float('x', 0, 1)==x and other.trials[0].intermediate_values=={0: .5}
    other.tell(again, 1.)
    with pytest.raises(ValueError): study.tell(t, 2.)

@pytest.mark.parametrize(
    'damage,lost',
    [
        (lambda b: b + b'{"op_code": 4, "tri', 0),
        (lambda b: b[:-5], 1),
        (lambda b: b + b'{"op_c\n', 0),
        (lambda b: b + b'\0\0\0', 0),
        (lambda b: b'junk\n' + b, 0),
        (lambda b: b + b[b.rindex(b'{"op_code"') : -20] + b[b.rindex(b'{"op_code"') :], 0),
    ],
)
def test_damaged_journal(tmp_path, damage, lost):
    study = optuna.create_study(storage=open_storage(tmp_path/'j'), study_name='s')
    for i in range(3): study.tell(study.ask(), float(i))
    (tmp_path/'j').write_bytes(damage((tmp_path/'j').read_bytes()))
    study = optuna.load_study(storage=open_storage(tmp_path/'j'), study_name='s')
    assert sum(t.state.is_finished() for t in study.trials)==3-lost and len(list(tmp_path.glob('j.2*')))==1
    study.tell(study.ask(), 9.); assert len(optuna.load_study(storage=open_storage(tmp_path/'j'), study_name='s').trials)==4

def test_half_a_line_of_another_process(tmp_path):
    "... is cut off by those who write next, though they opened the journal before"
    study = optuna.create_study(storage=open_storage(tmp_path/'j'), study_name='s')
    study.tell(study.ask(), 1.)
    with open(tmp_path/'j', 'ab') as f: f.write(b'{"op_code": 5, "tria')
    study.tell(study.ask(), 2.)
    assert [t.value for t in optuna.load_study(storage=open_storage(tmp_path/'j'), study_name='s').trials]==[1., 2.]

def test_failures(store, split, tmp_path, monkeypatch):
    "A trial's own error ends it, a full disk ends the worker"
    real = S.train
    def out_of_memory(config, *a, **k):
        if config.optimizer=='sgd': raise RuntimeError('CUDA out of memory')
        return real(config, *a, **k)
    monkeypatch.setattr(S, 'train', out_of_memory)
    study = bayes(space_of(tmp_path, BAYES % 6).bayes, store, split, tmp_path/'a', progress=False, device='cpu')
    assert {t.params['optimizer'] for t in study.trials if t.state == TrialState.FAIL} == {
        'sgd'
    } and 'out of memory' in trials_table(study, tmp_path / 'a').query("state=='FAIL'").error.iloc[0]
    def full(config, *a, **k): raise ECGError('disk full')
    monkeypatch.setattr(S, 'train', full)
    with fails('disk full'): bayes(space_of(tmp_path, BAYES % 2).bayes, store, split, tmp_path/'b', progress=False)
    monkeypatch.setattr(S, 'train', real)
    study = bayes(space_of(tmp_path, BAYES % 2).bayes, store, split, tmp_path/'b', progress=False, device='cpu')
    assert len(study.trials)==2 and all(t.state.is_finished() and t.state!=TrialState.FAIL for t in study.trials)

def lives_of_a_trial(store, split, tmp_path, monkeypatch, place, most=9):
    "How often a trial is taken up whose process always dies at the same place, and the study then"
    def dies(config, store, split, out, *a, **k): # as good as a kill: nothing is told
        out.mkdir(parents=True, exist_ok=True)
        (out/'place').write_text(place)
        raise KeyboardInterrupt
    monkeypatch.setattr(S, 'train', dies)
    space = space_of(tmp_path, BAYES % 1).bayes
    for lives in range(most):
        try: return lives, bayes(space, store, split, tmp_path/'a', progress=False)
        except KeyboardInterrupt: pass
    return most, open_study(None, store, split, tmp_path/'a')

@pytest.mark.parametrize('place', ['0 start', '1 before validation'])
def test_a_trial_short_of_memory(store, split, tmp_path, monkeypatch, place):
    "... is given up after four deaths in the same step that allocates memory, and the search goes on"
    lives, study = lives_of_a_trial(store, split, tmp_path, monkeypatch, place)
    assert lives==4 and study.trials[0].state==TrialState.FAIL and 'four times' in study.trials[0].user_attrs['error']

@pytest.mark.parametrize('place', ['0 training', '1 validating'])
def test_a_trial_that_is_stopped_often(store, split, tmp_path, monkeypatch, place):
    "... in a long epoch is not short of memory"
    lives, study = lives_of_a_trial(store, split, tmp_path, monkeypatch, place)
    assert lives==9 and study.trials[0].state==TrialState.RUNNING

def test_diverged_is_worth_nothing(store, split, tmp_path):
    study = bayes(
        space_of(
            tmp_path,
            (BAYES % 1).replace('lr: {log: [1e-5, 1e-1]}', 'lr: [1e25]').replace('[adam, sgd]', '[sgd]'),
        ).bayes,
        store,
        split,
        tmp_path / 'a',
        progress=False,
        device='cpu',
    )
    assert study.trials[0].value == 0

# --- the grid around

def test_neighbours(calm, tmp_path):
    s = space_of(tmp_path, BAYES % 6)
    around = neighbours(s.bayes, replace(s.refine, options=s.refine.options | dict(limit=99)), calm[0])
    best = calm[0].best_trial.params
    assert (
        around[0].lr == pytest.approx(best['lr'], rel=1e-3)
        and len({config_id(c) for c in around}) == len(around)
        and all(1e-5 <= c.lr <= 1e-1 and c.optimizer == best['optimizer'] for c in around)
    )
    assert len(around)==(9 if 'momentum' in best else 3) and len(neighbours(s.bayes, s.refine, calm[0]))==3
    assert {c.seed for c in around}=={42}

@pytest.mark.parametrize(
    'mine,others,can',
    [
        ({}, [{0: 0.9, 1: 0.9}], True),
        ({0: 0.5}, [{0: 0.9}], True),
        ({0: 0.5}, [{0: 0.9, 1: 0.9}], False),
        ({0: 0.89}, [{0: 0.9, 1: 0.9}], True),
        ({0: 0.87}, [{0: 0.9, 1: 0.9}], False),
        ({0: 0.5}, [{0: 0.9, 1: 0.2}, {0: 0.9, 1: 0.99}], False),
        ({0: 0.9}, [{0: 0.9, 1: 0.99}], True),
        ({0: 1.0, 1: 0.1}, [{0: 0.5, 1: 0.5}], True),
    ],
)
def test_can_win(mine, others, can):
    assert can_win(mine, others, 2, 0.02) == can

def test_race(store, split, tmp_path, monkeypatch):
    base = recipe('study', arch='tiny', epochs=1, layouts=('rhythm12',), scheduler='none', batch_size=16)
    configs, f1 = [replace(base, lr=l) for l in (.1, .2, .3)], {.1: (.8, .8), .2: (.5, .9), .3: (.85, .9)}
    ran = []
    def fake(config, store, split, out, *, fold, **kw):
        if (out/'result.json').exists(): return
        ran.append((config.lr, fold))
        if len(ran)==2: raise KeyboardInterrupt
        out.mkdir(parents=True)
        (out / 'result.json').write_text(json.dumps(dict(fold=fold, macro_f1=f1[config.lr][fold], status='done')))
    monkeypatch.setattr(G, 'train', fake)
    with pytest.raises(KeyboardInterrupt): race(configs, store, split, tmp_path, progress=False)
    table = race(configs, store, split, tmp_path, progress=False)
    assert (
        ran == [(0.1, 0), (0.1, 1), (0.1, 1), (0.2, 0), (0.3, 0), (0.3, 1)]
        and list(table.complete) == [True, True, False]
        and table.index[0] == config_id(configs[2])
    )
    assert json.loads((tmp_path/config_id(configs[1])/'pruned.json').read_text())['folds']=={'0': .5}

# --- consolidation

def rows(*specs):
    "Runs of (config, [F1 by fold], epochs)"
    return pd.DataFrame(
        [
            dict(
                arch='a',
                store='s',
                split='x',
                stage=stage,
                config=c,
                seed=42,
                fold=k,
                status='done',
                epochs=e,
                macro_f1=v,
                folds_of_split=3,
                path=f'{stage}/{c}/fold{k}',
            )
            for stage, c, f1, e in specs
            for k, v in enumerate(f1)
        ]
    )

@pytest.mark.parametrize(
    'specs,best',
    [
        ([('refine', 'p', [0.9, 0.9, 0.9], 5), ('refine', 'q', [0.95, 0.95], 5)], 'p'),  # a fold is missing
        ([('refine', 'p', [0.9, 0.9, 0.9], 5), ('refine', 'q', [0.9, 0.91, 0.91], 5)], 'q'),
        (
            [('refine', 'p', [0.8, 0.9, 1.0], 5), ('refine', 'q', [0.9, 0.9, 0.9003], 9)],
            'q',
        ),  # a tie: smaller sd
        ([('refine', 'p', [0.9, 0.9, 0.9], 5), ('refine', 'q', [0.9, 0.9, 0.9], 4)], 'q'),  # a tie: cheaper
        ([('bayes', 'p', [0.9, 0.9, 0.9], 5), ('refine', 'q', [0.8, 0.8, 0.8], 4)], 'p'),
        ([('head', 'p', [0.9, 0.9, 0.9], 5), ('refine', 'q', [0.8, 0.8, 0.8], 4)], 'q'),
    ],
)
def test_the_rule(specs, best): assert best_of(summary(rows(*specs))).name[4]==best

def test_no_best():
    with fails('none can be called the best'): best_of(summary(rows(('refine', 'p', [.9, .9], 5))))
    assert best_of(summary(rows(('refine', 'p', [.9, .9], 5)), folds=2)).name[4]=='p'
    both = pd.concat([rows(('refine', 'p', [.9]*3, 5)), rows(('refine', 'p', [.9]*3, 5)).assign(store='t')])
    with fails('cannot be compared'): best_of(summary(both))

def test_consolidate_for_real(calm, store, split, tmp_path):
    out = tmp_path/'search'; shutil.copytree(calm[1], out/'bayes')
    (out/'bayes/trial0000/fold0/result.json').write_text('{')
    with pytest.warns(UserWarning, match='trial0000/fold0/result.json: damaged'): table = consolidate(out)
    assert not table.xs('bayes', level='stage').loc[lambda t: t.path.str.contains('trial0000')].complete.any()
    before = {p.name: p.read_bytes() for p in out.glob('*.*')}; consolidate(out)
    assert before=={p.name: p.read_bytes() for p in out.glob('*.*')}
    config, runs = load_best(out); assert len(runs)==2 and all(r.config.lr==config.lr for r in runs)
    with fails('no best configuration'): load_best(out, 'head')
    with fails('no finished run'): find_runs(tmp_path/'nothing')

def test_retrain_and_holdout(store, split, tmp_path):
    c = recipe('study', arch='tiny', epochs=6, layouts=('rhythm12',), scheduler='none', keep='best', batch_size=16)
    runs = [SimpleNamespace(path=tmp_path/'none', result=dict(best_epoch=b, epochs=6)) for b in (1, 3)]
    run = retrain(c, store, split, tmp_path/'r', runs=runs, **KW)
    assert (
        run.result['epochs'] == 3
        and run.result['fold'] is None
        and np.isnan(run.result['macro_f1'])
        and run.history.macro_f1.isna().all()
        and (run.path / 'train_names.txt').read_text().split('\n') == list(split.train)
    )
    with fails('had no fold'): run.predictions
    ledger = tmp_path/'split.openings.jsonl'
    preds, m, n = open_holdout(run, store, split, tmp_path/'t', ledger=ledger, device='cpu')
    assert n==1 and set(preds.name)==set(split.test) and json.loads((tmp_path/'t/metrics.json').read_text())['opened']==1
    assert (
        open_holdout(run, store, split, tmp_path / 't', ledger=ledger, device='cpu')[2] == 1
        and open_holdout(run, store, split, tmp_path / 'u', ledger=ledger, device='cpu')[2] == 2
        and len(openings(ledger)) == 2
    )
    other = create_model(c.arch, len(split.classes))
    kept = (run.path/'model.safetensors').read_bytes()
    save_weights(other, run.path/'model.safetensors')
    other_preds, _, n = open_holdout(run, store, split, tmp_path/'t', ledger=ledger, device='cpu')
    assert n==3 and not other_preds.equals(preds), 'a model that was replaced is tested again'
    (run.path/'model.safetensors').write_bytes(kept)
    stranger = train(replace(c, epochs=1), store, split, tmp_path/'stranger', **KW)
    with fails('the test of another run, which differs in run, fold'):
        open_holdout(stranger, store, split, tmp_path/'t', ledger=ledger, device='cpu')
    assert len(openings(ledger))==3
    with fails('was trained on split'): open_holdout(run, store, make_split(label(store), n_folds=3), tmp_path/'v', ledger=ledger)
    with fails('none to validate on'): train(replace(c, keep='best'), store, split, tmp_path/'w', fold=None, **KW)
    plateau = retrain(replace(c, scheduler='plateau', epochs=1), store, split, tmp_path/'p', runs=runs, **KW)
    assert plateau.result['fold']==0

def test_seeds(store, split, tmp_path):
    c = recipe('study', arch='tiny', epochs=1, layouts=('rhythm12',), scheduler='none', batch_size=16)
    table = run_seeds(Seeds(c, 3), store, split, tmp_path/'s', device='cpu')
    again = run_seeds(Seeds(c, 3), store, split, tmp_path/'s', device='cpu')
    assert list(table.index)==[42, 43, 44] and table.equals(again) and table.runs.eq(2).all()
    s = seeds_summary(table.assign(macro_f1=[.9, .8, .1], collapsed=[0, 0, 2]))
    assert (
        s['mean'] == pytest.approx(0.6)
        and s['collapsed'] == pytest.approx(2 / 6)
        and s['low'] < 0.6 < s['high']
        and s['lowest'] == 0.1
    )
    held = run_seeds(Seeds(replace(c, keep='last'), 2, ledger=tmp_path/'l.jsonl'), store, split, tmp_path/'h', device='cpu')
    assert len(openings(tmp_path/'l.jsonl'))==2 and held.runs.eq(1).all()

def test_no_seeds(store, split, tmp_path):
    with fails('at least one seed'): Seeds(recipe(epochs=1), 0)

def test_pictures(calm):
    study, out = calm
    for f in (plot_search_history, plot_parallel, plot_slices, plot_importances): assert f(study).axes
    assert importances(study).sum()==pytest.approx(1)
    runs = find_runs(out.parent)
    assert plot_learning_curves(out.parent, runs, 'bayes').axes and plot_stages(summary(runs), 0.5).axes

def test_estimate(store, split, tmp_path):
    s = space_of(tmp_path, TEMPLATE, weights=None, layouts=['rhythm12'])
    t = estimate(s, store, split)
    assert (
        list(t.runs) == [64, 50, 64]
        and (t.hours > 0).all()
        and t.loc['bayes', 'epochs'] == 50
        and t.loc['refine', 'epochs'] == 110
    )

def test_estimate_counts_the_stages_asked_for_and_the_finals(store, split, tmp_path, monkeypatch):
    "Two configurations, each with every new seed on every fold, under the budget of the last stage"
    monkeypatch.setattr(P, 'seconds_a_chart', lambda *a: 1.)
    s = space_of(tmp_path, TEMPLATE, weights=None, layouts=['rhythm12'])
    n_folds = len(split.folds)
    t = estimate(s, store, split, stages=['refine'], finals=3)
    assert list(t.index)==['refine', 'finals'] and t.loc['finals', 'runs']==2*3*n_folds
    assert t.loc['finals', 'epochs']==t.loc['refine', 'epochs']
    with pytest.raises(ECGError, match='no bayes stage'): estimate(replace(s, bayes=None), store, split, finals=1)

def test_an_estimate_is_for_the_device_that_a_search_would_take(store, split, tmp_path, monkeypatch):
    asked, timed = [], []
    monkeypatch.setattr(P, 'device_of', lambda name: asked.append(name) or 'the best')
    monkeypatch.setattr(P, 'seconds_a_chart', lambda config, store, device: timed.append(device) or 1.)
    estimate(space_of(tmp_path, TEMPLATE, weights=None, layouts=['rhythm12']), store, split, stages=['refine'])
    assert asked==[None] and timed==['the best']

def test_estimate_of_views(store, split, tmp_path, monkeypatch):
    "An epoch of `one` shows one chart of each recording, one of `all` all"
    monkeypatch.setattr(P, 'seconds_a_chart', lambda *a: 1.)
    two = ', '.join(map(repr, store.layouts[:2]))
    both = (f"bayes: {{trials: 4, fixed: {{views: VIEWS, layouts: [{two}]}}, "
            "space: {lr: {log: [1e-4, 1e-2]}}}")
    one, all_ = (
        estimate(space_of(tmp_path, both.replace('VIEWS', v)), store, split).loc['bayes', 'epoch_s']
        for v in ('one', 'all')
    )
    assert len(store.layouts) > 1 and all_==2*one > 0

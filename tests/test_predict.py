"Dense checks of model folders and predictions: damage, wrong input, what is imported, and that a chart drawn without torch is the same"
import hashlib, json, os, subprocess, sys, zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np, pytest
from networks import *

from ecg_arrhythmia.prediction import model_facts, model_folder
from ecg_arrhythmia.charts.layouts import LAYOUTS, Style, get_layout
from ecg_arrhythmia.charts.raster import canvas
from ecg_arrhythmia.signals.checks import add_spikes, check_signal, heart, spikes
from ecg_arrhythmia.signals.contradictions import disagreements
from ecg_arrhythmia.data.leads import limb_error
from ecg_arrhythmia.data.rhythms import label
from ecg_arrhythmia.data.splits import make_split
from ecg_arrhythmia.evaluation.certainty import tempered, fit_temperature
from ecg_arrhythmia.prediction.model_folder import add_files, read_facts, save_model
from ecg_arrhythmia.evaluation.certainty import conformal_thresholds
from ecg_arrhythmia.prediction.runtime import load_model
from ecg_arrhythmia.evaluation.certainty import softmax
from ecg_arrhythmia.prediction.answer import predict
from ecg_arrhythmia.prediction.windows import cut_windows, open_recording
from ecg_arrhythmia.prediction.many import predict_each, predict_many, predict_rows, predict_table
from ecg_arrhythmia.evaluation.certainty import prediction_set
from ecg_arrhythmia.prediction.pages import page, save_page
from ecg_arrhythmia.data.datasets import catalogue
from ecg_arrhythmia.data.recordings import LEADS, Recording
from ecg_arrhythmia.core import ECGError
from ecg_arrhythmia.data.tables import to_csv_bytes
from ecg_arrhythmia.data.simulation import simulate
from ecg_arrhythmia.data.simulated_datasets import simulate_dataset
from ecg_arrhythmia.charts.encoding import store_spec
from ecg_arrhythmia.charts.packing import pack

def fails(*says): return pytest.raises(ECGError, match='(?s)'+'.*'.join(says))

def made_in(tmp, arch):
    "A run on two views, and its charts"
    import torch
    from ecg_arrhythmia.training.recipes import recipe
    from ecg_arrhythmia.training.loop import train
    torch.set_num_threads(1)
    cat = catalogue(simulate_dataset(tmp/'data', 88, workers=1, progress=False))
    split = make_split(label(cat), n_folds=2, test_size=0)
    store = pack(cat, tmp/'charts.lmdb', store_spec(['strip', 'rhythm'], (32, 160)), progress=False)
    run = train(
        recipe(arch=arch, epochs=4, lr=3e-3, batch_size=8, bn_momentum=0.3, augment=False),
        store,
        split,
        tmp / 'run',
        device='cpu',
        progress=False,
    )
    return tmp, cat, split, store, run

def exported(made):
    "The run as a model folder with ONNX, which answers as the run does"
    from ecg_arrhythmia.prediction.export import export_onnx
    folder = save_model(made[4], made[0]/'model', temperature=1.4)
    found = export_onnx(folder)
    assert max(found['difference'], found['alone']) < 1e-3*found['spread'] and found['same_class']==1
    return folder

@pytest.fixture(scope='module')
def made(tmp_path_factory): return made_in(tmp_path_factory.mktemp('predict'), 'tiny')

@pytest.fixture(scope='module')
def onnx_folder(made): return exported(made)

@pytest.fixture
def folder(onnx_folder, tmp_path):
    import shutil
    return Path(shutil.copytree(onnx_folder, tmp_path/'model'))

@pytest.fixture(scope='module')
def model(onnx_folder): return load_model(onnx_folder)

SR = simulate('SR', seed=3)

# --- a chart without torch

SIGNALS = np.stack(
    [simulate(r, seed=1).signal for r in ('AFIB', 'ST')]
    + [
        SR.signal * 9,
        np.zeros((12, 5000), np.float32),
        np.random.default_rng(0).normal(0, 2, (12, 5000)).astype(np.float32),
    ]
)

@pytest.mark.parametrize('layout', LAYOUTS)
def test_array_draws_the_same_bytes(layout):
    for style, size, paper in (
        ('grey', (97, 131), 'bare'),
        ('leads', (80, 640), 'bare'),
        ('leads', (64, 64), 'standard'),
        ('paper', (112, 150), 'standard'),
        (Style(((0.3, 0.1, 0.0),), grey=True, levels=7), (60, 90), 'fast'),
    ):
        c = canvas(get_layout(layout), size, style, paper=paper)
        assert (c.array(SIGNALS) == c(SIGNALS).numpy()).all(), (style, size, paper)

def test_array_of_other_rates_and_nothing():
    for fs,n in ((100, 1000), (257.3, 2600), (2000, 20000)):
        x = np.random.default_rng(1).normal(0, .5, (2, 12, n)).astype(np.float32)
        c = canvas(get_layout('strip'), (40,200), 'leads', paper='bare', fs=fs)
        assert (c.array(x)==c(x).numpy()).all()
    assert canvas(get_layout('strip'), (40,200)).array(SIGNALS[:0]).shape==(0, 1, 40, 200)

def test_array_refuses_what_the_canvas_refuses():
    c = canvas(get_layout('strip'), (40,200))
    with fails('batch, 12, samples'): c.array(SIGNALS[0])
    with fails('shows 10 s'): c.array(SIGNALS[:,:,:4000])
    with fails('missing'): c.array(np.where(np.arange(5000)==7, np.nan, SIGNALS))

# --- how sure

def test_tempered():
    p = np.array([[.7, .2, .1], [1., 0., 0.]])
    assert np.allclose(tempered(p, 1), p, atol=1e-9) and tempered(p, 3)[0,0] < .7 < tempered(p, .5)[0,0]
    z = np.array([[3., 1., -2.]])
    assert np.allclose(tempered(softmax(z), 2.), softmax(z/2))

@pytest.mark.parametrize('n', [9, 10, 37, 400])
def test_conformal_sets_cover(n):
    "Over many draws the true class is in the set at least as often as promised, and not much more"
    rng = np.random.default_rng(n)
    hit = np.mean([rng.beta(5, 1, 50) >= conformal_thresholds({'a': rng.beta(5, 1, n)})['a'] for _ in range(400)])
    assert .89 < hit < .9 + 1/(n+1) + .01

def test_conformal_with_few():
    assert conformal_thresholds({'a': [.5]*8, 'b': []}) == {'a': 0, 'b': 0}
    with fails('coverage'): conformal_thresholds({'a': [.5]}, 1.)
    assert prediction_set(dict(a=.1, b=.9), dict(a=.2, b=.95)) == (['b'], False)

# --- the folder

def test_a_prediction_is_the_run_s_own(made, model):
    "Charts drawn by numpy, normalised by numpy, run by ONNX Runtime: what the run predicted at validation, tempered"
    _, cat, split, store, run = made
    valid, names = run.predictions, split.folds[0][:5]
    mean = valid.groupby('name')[[f'p_{c}' for c in run.classes]].mean().loc[list(names)].to_numpy()
    ours = model.probabilities(np.stack([cat.read(n).signal for n in names]))
    assert model.runtime=='onnx' and len(model.canvases)==2 and np.allclose(ours, tempered(mean, 1.4), atol=2e-5)
    assert np.allclose(
        ours,
        load_model(model.path, 'torch').probabilities(np.stack([cat.read(n).signal for n in names])),
        atol=1e-5,
    )
    assert np.allclose(model.predict_store(store, names)[[f'p_{c}' for c in run.classes]], ours, atol=1e-6)

def test_thresholds_come_from_the_validation_fold(made, onnx_folder):
    cal, run = read_facts(onnx_folder)['calibration'], made[4]
    avg = run.predictions.groupby('name').agg({'label': 'first', **{f'p_{c}': 'mean' for c in run.classes}})
    for i,c in enumerate(run.classes):
        p = tempered(avg[[f'p_{c}' for c in run.classes]].to_numpy(), 1.4)[(avg.label==c).to_numpy(), i]
        assert np.allclose(cal['p_true'][c], np.sort(p), atol=1e-5)
    assert 'validation fold 0, 44 recordings' in cal['source']

def test_the_card_says_what_must_be_known(onnx_folder):
    text = (onnx_folder / 'README.md').read_text()
    for said in (
        'SIMULATED',
        'not a medical device',
        '44',
        'Hold-out: none',
        'macro-F1',
        '`model.onnx`',
        'split conformal',
    ):
        assert said in text, said

@pytest.mark.parametrize('name', ['model.safetensors', 'model.onnx', 'README.md'])
def test_damaged_files_are_refused(folder, name):
    data = (folder/name).read_bytes()
    for at in (0, len(data)//2, len(data)-1):
        (folder/name).write_bytes(data[:at] + bytes([data[at]^1]) + data[at+1:])
        with fails(name, 'does not match its sum'): load_model(folder)
    for short in (data[:-1], b'', data + b'\0'):
        (folder/name).write_bytes(short)
        with fails(name, 'cut short or replaced'): load_model(folder)
    (folder/name).unlink()
    with fails(name, 'no such file'): load_model(folder)
    (folder/name).mkdir()
    with fails(name, 'special file'): load_model(folder)

@pytest.mark.parametrize('name', ['model.safetensors', 'model.onnx', 'README.md', 'model.json'])
def test_links_are_refused(folder, name, tmp_path):
    (folder/name).rename(tmp_path/name)
    (folder/name).symlink_to(tmp_path/name)
    with fails(name, 'a link'): load_model(folder)
    (folder/name).unlink()
    os.mkfifo(folder/name)
    with fails(name, 'special file'): load_model(folder)

def test_every_flipped_byte_of_the_facts_is_noticed(folder):
    data, rng = (folder/'model.json').read_bytes(), np.random.default_rng(0)
    white = set(np.flatnonzero([b in b' \n' for b in data]))
    for at in sorted(set(rng.choice(len(data), 60, replace=False).tolist()) - white):
        (folder/'model.json').write_bytes(data[:at] + bytes([data[at]^(1 << rng.integers(0, 7))]) + data[at+1:])
        try: facts = read_facts(folder)
        except ECGError: continue
        assert facts==json.loads(data), at # an escaped letter may become another way to write the same
    for n in (0, 1, 100, len(data)-2):
        (folder/'model.json').write_bytes(data[:n])
        with fails('model.json'): read_facts(folder)

def edited(folder, change):
    "The facts changed by somebody who knows how the sum is made"
    f = json.loads((folder/'model.json').read_text())
    change(f)
    f.pop('digest', None)
    (folder/'model.json').write_text(json.dumps(f | dict(digest=model_facts.digest_of(f))))

def _set(*keys):
    *path, last, value = keys
    def change(f):
        for k in path: f = f[k]
        f[last] = value
    return change

@pytest.mark.parametrize(
    'change,says',
    [
        (_set('format', 2), 'newer version'),
        (_set('format', '1'), 'does not describe'),
        (_set('format', True), 'does not describe'),
        (_set('files', '../../secret', dict(bytes=1, sha256='')), 'no model has'),
        (_set('files', '/etc/passwd', dict(bytes=1, sha256='')), 'no model has'),
        (_set('files', 'model.pkl', dict(bytes=1, sha256='')), 'no model has'),
        (_set('files', {}), 'lists no model.safetensors'),
        (_set('files', []), 'lists no model.safetensors'),
        (_set('files', 'model.onnx', 5), 'without size'),
        (_set('classes', ['A']), 'classes'),
        (_set('classes', ['A', 'A', 'B', 'C']), 'classes'),
        (_set('classes', 'ABCD'), 'classes'),
        (_set('classes', ['A', 'B', 'C', 'D']), 'titles'),
        (_set('temperature', 0), 'sensible'),
        (_set('temperature', True), 'sensible'),
        (_set('temperature', '1'), 'sensible'),
        (_set('seconds', 1e9), 'sensible'),
        (_set('fs', -500), 'sensible'),
        (_set('chart', 'size', [80, 641]), 'digest of the chart'),
        (_set('chart', {}), 'digest of the chart'),
        (_set('mean', [0, 0]), 'normalisation'),
        (_set('std', [0, 1, 1]), 'normalisation'),
        (_set('calibration', 'p_true', {}), 'calibration'),
        (_set('calibration', 'p_true', 'AFIB', ['x'] * 9), 'calibration'),
        (_set('titles', None), 'whole model'),
        (_set('training', 'origin', 7), 'origin'),
    ],
)
def test_forged_facts_are_refused(folder, change, says):
    edited(folder, change)
    with fails(says): load_model(folder)

@pytest.mark.parametrize(
    'chart,says',
    [
        (dict(size=[10**6, 10**6]), 'size'),
        (dict(size=[80]), 'size'),
        (dict(size=['a', 'b']), 'size'),
        (dict(layouts={}), 'no layout'),
        (dict(layouts={'x': {}}), 'cannot be drawn'),
        (dict(style={}), 'cannot be drawn|whole model'),
        (dict(paper=dict(speed='fast')), 'cannot be drawn|whole model'),
    ],
)
def test_forged_charts_are_refused(folder, chart, says):
    def change(f):
        f['chart'] |= chart
        f['chart_digest'] = model_facts.digest_of(f['chart'])[:16]
    edited(folder, change)
    with fails(says): predict(SR, load_model(folder))

@pytest.mark.parametrize(
    'text',
    [
        '',
        '{',
        '[]',
        '7',
        'null',
        '{"format": NaN}',
        '{"format": 1}',
        '[' * 100_000,
        '{"format": 1e999}',
        '\ud800'.encode('utf-8', 'surrogatepass').decode('latin1'),
    ],
)
def test_anything_but_facts_is_refused(folder, text):
    (folder/'model.json').write_text(text)
    with fails('model.json'): load_model(folder)

def test_forged_weights_and_networks_are_refused(folder):
    "With sums that fit: other shapes, a pickle, noise"
    import pickle
    from safetensors.numpy import save
    for data in (pickle.dumps(dict(a=1)), b'\x80\x04' + b'x'*100, save({'a': np.zeros(3, np.float32)})):
        add_files(folder, {'model.safetensors': data})
        with fails('weights are not those'): load_model(folder, 'torch')
    for data in (b'', b'junk'*50, pickle.dumps([])):
        add_files(folder, {'model.onnx': data})
        with fails('cannot load'): load_model(folder)

def test_folder_is_whole_or_not_there(made, tmp_path, monkeypatch):
    run = made[4]
    def no_room(*a, **kw): raise ECGError('the disk is full')
    monkeypatch.setattr(model_folder, 'write_json', no_room)
    with fails('disk is full'): save_model(run, tmp_path/'m', 1.)
    assert not list(tmp_path.iterdir())

def test_nothing_is_replaced_unasked(made, tmp_path):
    run, out = made[4], tmp_path/'m'
    first = save_model(run, out, 1.)
    with fails('exists'): save_model(run, out, 2.)
    assert read_facts(first)['temperature']==1
    assert read_facts(save_model(run, out, 2., overwrite=True))['temperature']==2
    (mine := tmp_path/'thesis').mkdir()
    (mine/'text.tex').write_text('years of work')
    with fails('not a model folder'): save_model(run, mine, overwrite=True)
    assert (mine/'text.tex').exists()

def test_a_card_shows_no_figures_of_another_kind_or_model(made, tmp_path):
    "Only predictions for a hold-out, of this model, stand on its card as those of its hold-out"
    import shutil
    from ecg_arrhythmia.evaluation.tables import save_predictions
    from ecg_arrhythmia.prediction.model_facts import tested
    run = replace(made[4], path=Path(shutil.copytree(made[4].path, tmp_path/'run')))
    valid = run.predictions
    for fold in (0, 'train', 'elsewhere'):
        with fails(f"'{fold}' by the column `fold`, not of a hold-out"):
            save_model(run, tmp_path/'m', test=valid.assign(fold=fold))
    seen = valid.assign(fold='test', name=(run.path/'train_names.txt').read_text().split()[:len(valid)//2]*2)
    with fails('were trained on'): save_model(run, tmp_path/'m', test=seen)
    (run.path/'test').mkdir()
    save_predictions(valid.assign(fold='test'), run.path/'test/predictions.csv')
    for model,fits in ((run.digest, True), ('of another', False)):
        (run.path/'test/metrics.json').write_text(json.dumps(dict(what=dict(model=model))))
        if fits: assert len(tested(run, run.path/'test/predictions.csv'))==len(valid)
        else:
            with fails('predictions of another model'): tested(run, run.path/'test/predictions.csv')
            with fails('predictions of another model'): save_model(run, tmp_path/'m')
    assert not (tmp_path/'m').exists()

def test_adding_a_file_is_safe_at_every_step(folder, monkeypatch):
    steps, write = [], model_folder.write_atomic
    def look(*a, **kw):
        out = write(*a, **kw)
        steps.append(load_model(folder, 'torch').runtime) # sound in between
        return out
    monkeypatch.setattr(model_folder, 'write_atomic', look)
    add_files(folder, {'model.onnx': (folder/'model.onnx').read_bytes()}, exports=dict(onnx='again'))
    assert len(steps)==2 and 'again' in (folder/'README.md').read_text() and load_model(folder).runtime=='onnx'

def test_temperature_is_fitted(made, tmp_path):
    run = made[4]
    f = read_facts(save_model(run, tmp_path/'m'))
    assert (
        f['temperature'] == fit_temperature(run.predictions)
        and f['temperature_source'] == 'fitted on validation fold 0, 44 recordings'
    )
    right = run.predictions
    for c in run.classes: right[f'p_{c}'] = (right.label==c).astype(float)
    assert model_facts._fitted(right.assign(pred=right.label), 'x')[0]==1

def test_runs_that_failed_make_no_model(made, tmp_path):
    run = made[4]
    for status in ('diverged', 'collapsed', 'pruned'):
        with fails(status): save_model(replace(run, result=run.result | dict(status=status)), tmp_path/'m')
    for t in (0, -1, float('nan'), float('inf')):
        with fails('temperature'): save_model(run, tmp_path/'m', t)

def test_runtimes(folder, monkeypatch):
    with fails('unknown runtime'): load_model(folder, 'tensorrt')
    with fails('model-int8.onnx'): load_model(folder, 'int8')
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    assert load_model(folder).runtime=='torch'
    with fails('not installed'): load_model(folder, 'onnx')

# --- other charts

def test_other_charts_are_refused(made, model, tmp_path):
    cat = made[1]
    for layouts, size, says in (
        ('strip', (32, 160), 'layout rhythm'),
        (['strip', 'rhythm'], (64, 64), 'size'),
        ('3x4', (32, 160), 'layout strip'),
    ):
        store = pack(cat, tmp_path/f'{says}.lmdb', store_spec(layouts, size), names=list(cat)[:2], progress=False)
        with fails(says): model.predict_store(store)
        with fails(says): model.check_charts(store.spec)
    with fails('takes uint8 charts of 3 x 32 x 160'): model.logits(np.zeros((1, 3, 80, 640), np.uint8))
    with fails('takes uint8'): model.logits(np.zeros((1, 3, 32, 160), np.float32))
    model.check_charts(made[3])

# --- what lies outside

def codes(a, level=None): return [f.code for f in a.findings if level in (None, f.level)]

def test_short_and_long(model):
    for s in (1, 3, 5, 9.4):
        a = predict(simulate('SR', seed=3, seconds=s), model)
        assert (a.rhythm, a.probabilities, a.status)==(None, None, 'refused') and codes(a, 'refuse')==['short']
    assert (predict(simulate('SR', seed=3, seconds=6), model).heart['rate'] or 0) > 40
    padded = predict(simulate('SR', seed=3, seconds=9.8), model)
    assert padded.rhythm and 'padded' in codes(padded) and any('padded' in c for c in padded.changes)
    for s,n in ((10, 1), (10.002, 1), (10.4, 1), (15, 2), (20, 2), (20.9, 2), (31, 4)):
        a = predict(simulate('SR', seed=3, seconds=s), model)
        assert len(a.windows)==n and ('rest' in codes(a))==(s not in (10, 15, 20, 31)), s
    starts = [s for s,_ in cut_windows(simulate('SR', seconds=31), 10)]
    assert starts==[0, 10, 20, 21]

def test_windows_are_predicted_as_if_alone(model):
    parts = [simulate(r, seed=4) for r in ('SB', 'ST', 'AFIB')]
    a = predict(Recording(np.concatenate([p.signal for p in parts], 1)), model)
    for w,p in zip(a.windows, parts): assert w['probabilities']==predict(p, model).probabilities
    assert np.allclose(
        [a.probabilities[c] for c in model.classes],
        np.mean([[w['probabilities'][c] for c in model.classes] for w in a.windows], 0),
    )
    if len({w['rhythm'] for w in a.windows}) > 1: assert 'windows' in codes(a)

def test_a_bad_stretch_does_not_spoil_the_rest(model):
    x = np.concatenate([SR.signal, np.random.default_rng(0).normal(0, .4, (12, 5000)), SR.signal], 1)
    a = predict(Recording(x), model)
    assert (
        a.rhythm
        and [w['rhythm'] for w in a.windows] == [a.rhythm, None, a.rhythm]
        and 'noise' in codes(a, 'doubt')
        and 'in 1 of 3 windows, from 10 s' in a.text()
    )
    assert np.isclose(a.probabilities['SR'], predict(SR, model).probabilities['SR'])

@pytest.mark.parametrize('sd', [.05, .3, 2.])
def test_noise(model, sd):
    for seed in range(5):
        a = predict(Recording(np.random.default_rng(seed).normal(0, sd, (12, 5000))), model)
        assert a.rhythm is None and codes(a, 'refuse')==['noise'] and a.probabilities

def test_hum_and_drift_alone(model):
    t, rng = np.arange(5000)/500, np.random.default_rng(0)
    for hz in (.3, 50, 60):
        x = np.linspace(.5, 1.5, 12)[:,None]*np.sin(2*np.pi*hz*t) + rng.normal(0, .005, (12, 5000))
        assert predict(Recording(x), model).status=='refused', hz

def test_paced(model):
    for r,seed,mv in (('SR', 1, 1.), ('SB', 2, .6), ('ST', 3, 2.)):
        a = predict(add_spikes(simulate(r, seed=seed), mv), model)
        assert a.rhythm is None and 'paced' in codes(a, 'refuse'), (r, seed)
    clean = [simulate(r, seed=s) for r in ('SR', 'SB', 'ST', 'AFIB', 'AVRT') for s in range(4)]
    assert not any('paced' in [f.code for f in check_signal(c)[0]] for c in clean)

def test_a_few_sparks_are_no_pacemaker():
    x = SR.signal.copy()
    x[:,[700, 3100]] += 2
    x[8:,::400] += 2 # one cable
    rec = replace(SR, signal=x)
    assert spikes(rec, heart(SR)['beats'])[0] < .3

def test_loose_leads_and_gaps(model):
    assert set(model.leads)=={'II', 'V1', 'V5'}
    for i,lead in enumerate(LEADS):
        for value,code in ((0., 'flat'), (1.3, 'flat'), (np.nan, 'missing'), (np.inf, 'missing')):
            x = SR.signal.copy()
            x[i] = value
            a = predict(Recording(x, check=False), model)
            drawn = lead in model.leads
            assert (
                (a.rhythm is None) == drawn
                and code in codes(a, 'refuse' if drawn else 'note')
                and any(lead in f.text.replace(',', ' ').split() for f in a.findings)
            ), (lead, value)
            if code=='missing' and drawn: assert a.probabilities is None
    x = SR.signal.copy()
    x[:] = 0
    assert predict(Recording(x), model).rhythm is None

def test_one_missing_sample(model):
    x = SR.signal.copy()
    x[LEADS.index('V5'), 17] = np.nan
    a = predict(Recording(x, check=False), model)
    assert a.rhythm is None and a.probabilities is None and a.quality['missing']==1 and codes(a)[0]=='missing'

@pytest.mark.parametrize('unit,factor', [('mV', 1e-3), ('nV', 1e3), ('V', 1e-6)])
def test_wrong_unit(model, tmp_path, unit, factor):
    "A file in another unit than µV, read as if in µV"
    f = tmp_path/'x.csv'
    f.write_text(
        '\n'.join(
            [
                ','.join(LEADS),
                *(','.join(f'{v:.9f}' for v in row) for row in (SR.signal.T * 1000 * factor).tolist()),
            ]
        )
    )
    a = predict(f, model)
    assert any('unit' in said for said in a.assumed) # a file without a unit: what was taken is said
    if unit == 'nV':
        assert a.rhythm is None and codes(a, 'refuse') == ['unit'] and '--unit' in a.text()
    else:
        assert any(f'unit {unit} ' in said for said in a.assumed) and np.allclose(
            a.recording.signal, SR.signal, atol=1e-5
        )
    b = predict(f, model, unit=unit)
    assert b.rhythm and np.allclose(b.recording.signal, SR.signal, atol=1e-5)

def test_any_sampling_rate(model):
    for fs in (100, 250, 360, 1000):
        rec = simulate('SB', seed=7, fs=fs)
        a = predict(rec, model)
        assert (
            a.fs == fs
            and len(a.windows) == 1
            and abs(a.heart['rate'] - rec.truth['rate']) < 2
            and any('resampled' in c for c in a.changes)
        )

def test_limb_leads():
    assert limb_error(SR.signal) < .05
    for order in ([1,0,2,3,4,5], [0,1,2,3,5,4], [0,2,1,3,4,5]): assert limb_error(SR.signal[order]) > .3
    assert 'limb_leads' in [f.code for f in check_signal(replace(SR, signal=SR.signal[[1,0,*range(2,12)]]))[0]]

@pytest.mark.parametrize(
    'rhythm,rate,cv,code',
    [
        ('SB', 95, 0.02, 'rate'),
        ('SB', 55, 0.02, ''),
        ('SB', 55, 0.3, 'irregular'),
        ('GSVT', 70, 0.02, 'rate'),
        ('GSVT', 150, 0.02, ''),
        ('SR', 120, 0.02, 'rate'),
        ('SR', 40, 0.02, 'rate'),
        ('SR', 70, 0.02, ''),
        ('SVT', 70, 0.02, 'rate'),
        ('SI', 70, 0.1, ''),
        ('AFIB', 150, 0.2, ''),
        ('AFIB', 150, 0.02, 'regular'),
        ('AF', 150, 0.02, ''),
        ('something', 300, 0.5, ''),
        ('SB', None, None, ''),
    ],
)
def test_plausibility(rhythm, rate, cv, code):
    assert [f.code for f in disagreements(rhythm, dict(rate=rate, rr_cv=cv))] == [code] * bool(code)

def test_plausibility_is_said(model, monkeypatch):
    monkeypatch.setattr(type(model), 'views', lambda self, x: np.tile([[[.01, .01, .97, .01]]], (1, len(x), 1)))
    a = predict(simulate('ST', seed=4), model)
    assert a.rhythm=='SB' and a.status=='doubtful' and 'SB is predicted, but the heart beats' in a.text()

def test_unlike_anything(model, monkeypatch):
    monkeypatch.setitem(model.facts['calibration'], 'p_true', {c: [.9]*20 for c in model.classes})
    monkeypatch.setattr(type(model), 'views', lambda self, x: np.full((1, len(x), 4), .25))
    assert 'unusual' in codes(predict(SR, model), 'doubt')

def test_without_calibration(model, monkeypatch):
    monkeypatch.setitem(model.facts, 'calibration', None)
    a = predict(SR, model)
    assert a.rhythm and a.rhythms is None and 'no_set' in codes(a) and a.to_dict()['rhythms'] is None

# --- answers

SCHEMA = {
    'format',
    'name',
    'status',
    'rhythm',
    'title',
    'probabilities',
    'rhythms',
    'coverage',
    'margin',
    'agreement',
    'second',
    'seconds',
    'fs',
    'heart',
    'quality',
    'windows',
    'assumed',
    'changes',
    'model',
    'findings',
}

@pytest.mark.parametrize(
    'rec',
    [
        SR,
        simulate('SR', seconds=2),
        simulate('AFIB', seconds=25),
        Recording(np.zeros((12, 5000))),
        Recording(np.full((12, 5000), np.nan), check=False),
        Recording(SR.signal / 1e3, check=False),
    ],
    ids=lambda r: f'{r.name} {r.seconds:g}',
)
def test_json_is_stable(model, rec):
    d = predict(rec, model).to_dict()
    assert set(d)==SCHEMA and d==json.loads(json.dumps(d, allow_nan=False)) and d['format']==2
    assert set(d['heart']) == {
        'beats',
        'rr',
        'rate',
        'rr_mean',
        'rr_sd',
        'rr_min',
        'rr_max',
        'rmssd',
        'rr_cv',
        'alike',
        'clear',
    }
    assert set(d['quality']) == {
        'seconds',
        'missing',
        'flat_run',
        'flat_lead',
        'zero_run',
        'zeros',
        'peak',
        'weakest',
        'typical',
        'limb_error',
        'broken',
    }
    assert all(
        set(w) == {'start', 'rhythm', 'probabilities', 'rhythms', 'rate', 'findings'} for w in d['windows']
    ) and all(set(f) == {'level', 'code', 'text'} for f in d['findings'])
    if d['probabilities']:
        assert (
            set(d['probabilities']) == set(model.classes) and abs(sum(d['probabilities'].values()) - 1) < 1e-4
        )
    assert (d['rhythm'] is None)==(d['status']=='refused')

def test_text_and_page(model, tmp_path):
    for rec in (
        SR,
        simulate('SR', seconds=2),
        simulate('AFIB', seconds=25),
        Recording(np.full((12, 5000), np.nan), check=False),
    ):
        a = predict(rec, model)
        html = save_page(a, tmp_path/'x.html').read_text()
        assert (
            'Not a medical device' in a.text()
            and 'SIMULATED' in a.text()
            and 'not a medical device' in html
            and 'SIMULATED' in html
        )
        assert html.count('<svg') == 1 and not any(
            s in html for s in ('http:', 'https:', '<script', '<link', 'url(', 'src=', 'href=')
        )
        for f in a.findings: assert f.text.replace("'", '&#x27;') in html

def test_names_are_escaped(model):
    html = page(predict(replace(SR, name='<img src=x onerror=alert(1)>'), model))
    assert '<img src=x' not in html and '&lt;img src=x' in html

# --- many

def test_a_folder_with_everything_in_it(model, tmp_path):
    data = tmp_path/'data'
    (data/'deep').mkdir(parents=True)
    good = {'a.csv': simulate('SB', seed=1), 'b.csv': simulate('ST', seed=2), 'deep/c.csv': simulate('AFIB', seed=3)}
    for n,r in good.items(): (data/n).write_bytes(to_csv_bytes(r))
    text = to_csv_bytes(SR)
    (data/'torn.csv').write_bytes(text[:3000] + b',,what')
    (data/'empty.csv').write_bytes(b'')
    (data/'short.csv').write_bytes(b'\n'.join(text.split(b'\n')[:1000]))
    lines = text.decode('utf-8-sig').split('\n')
    lines[50] = ',' + lines[50].partition(',')[2]
    (data/'gap.csv').write_text('\n'.join(lines)) # lead I, which the model is not shown
    (data/'bad.hea').write_text('bad 12 500 5000\n')
    (data/'Diagnostics.csv').write_text('FileName,Rhythm\na,SB\n')
    t = predict_many(data, model, progress=False).set_index('file')
    assert set(t.index) >= {'a.csv', 'b.csv', 'deep/c.csv', 'torn.csv', 'empty.csv', 'short.csv', 'gap.csv', 'bad.hea'}
    assert (
        t.status[['torn.csv', 'empty.csv', 'bad.hea', 'Diagnostics.csv']].isin(['unreadable', 'no ECG']).all()
        and (t.error[['torn.csv', 'empty.csv', 'bad.hea']] != '').all()
        and t.status['torn.csv'] == 'unreadable'
    )
    assert (
        t.status['short.csv'] == 'refused'
        and 'short' in t.findings['short.csv']
        and t.rhythm['gap.csv']
        and 'missing' in t.findings['gap.csv']
    )
    for n in good:
        one = predict(data/n, model)
        assert t.rhythm[n]==one.rhythm and np.isclose(t.loc[n, f'p_{one.rhythm}'], one.probabilities[one.rhythm])
    with zipfile.ZipFile(tmp_path/'all.zip', 'w') as z:
        for p in sorted(data.rglob('*.*')): z.write(p, p.relative_to(data).as_posix())
    zipped = predict_many(tmp_path/'all.zip', model, progress=False).set_index('file')
    shared = list(set(t.index) & set(zipped.index))
    assert (
        len(shared) >= 8
        and (zipped.rhythm[shared] == t.rhythm[shared]).all()
        and (zipped.status[shared] == t.status[shared]).all()
    )

def test_it_streams(model, tmp_path):
    "An answer comes before the next file is read"
    for i in range(3): (tmp_path/f'{i}.csv').write_bytes(to_csv_bytes(simulate('SR', seed=i)))
    each = predict_each(tmp_path, model, progress=False)
    assert next(each)[1].rhythm
    (tmp_path/'1.csv').write_bytes(to_csv_bytes(SR)[:3000] + b',,what')
    assert isinstance(next(each)[1], ECGError) and next(each)[1].rhythm

def test_a_table_that_goes_on_makes_rows_of_changed_files_again(model, tmp_path, monkeypatch):
    import pandas as pd
    from ecg_arrhythmia.prediction import many as m
    data, out, each = tmp_path/'data', tmp_path/'t.csv', m.predict
    data.mkdir()
    for name in 'ab': (data/f'{name}.csv').write_bytes(to_csv_bytes(simulate('SR', seed=3)))
    def stops(rec, *a, **kw):
        if rec.name=='b': raise KeyboardInterrupt
        return each(rec, *a, **kw)
    monkeypatch.setattr(m, 'predict', stops)
    with pytest.raises(KeyboardInterrupt): predict_table(data, model, out, progress=False)
    assert (tmp_path/'t.csv.partial').read_bytes().count(b'\n')==2, 'what it is about, and the row of a'
    slower = replace(simulate('SB', seed=3), name='a')
    (data/'a.csv').write_bytes(to_csv_bytes(slower))
    monkeypatch.setattr(m, 'predict', each)
    table = pd.read_csv(predict_table(data, model, out, progress=False)).set_index('file')
    assert sorted(table.index)==['a.csv', 'b.csv'] and table.rate['a.csv'] < table.rate['b.csv']

def test_no_cell_of_a_table_is_a_formula(model, tmp_path):
    (tmp_path/'=1+1.csv').write_bytes(to_csv_bytes(simulate('SR', seed=3)))
    out = predict_table(tmp_path, model, tmp_path.parent/'formula.csv', progress=False)
    assert out.read_text().splitlines()[1].startswith("'=1+1.csv,")

def test_a_table_goes_on(model, tmp_path, monkeypatch):
    "Cut anywhere, its journal gives the same table, and whole rows are not computed again"
    import pandas as pd
    from ecg_arrhythmia.prediction import many as m
    data, out, seen, each = tmp_path/'data', tmp_path/'new'/'t.csv', [], m.predict
    (data/'deep').mkdir(parents=True)
    for i, n in enumerate(('a.csv', 'b.csv', 'deep/c.csv', 'new\nline.csv')):
        (data / n).write_bytes(to_csv_bytes(simulate('SR', seed=i)))
    (data/'torn.csv').write_bytes(to_csv_bytes(SR)[:3000] + b',,what')
    (data/'notes.pdf').write_bytes(b'%PDF')
    with zipfile.ZipFile(data/'z.zip', 'w') as z: z.write(data/'a.csv', 'in/a.csv'); z.write(data/'b.csv', 'in/b.csv')
    def once(rec, *a, **kw): seen.append(rec.name); return each(rec, *a, **kw)
    monkeypatch.setattr(m, 'predict', once)
    whole, partial = predict_many(data, model, progress=False), tmp_path/'new'/'t.csv.partial'
    table = lambda: predict_table(data, model, out, progress=False).read_bytes()
    first = table()
    assert (
        pd.read_csv(out, keep_default_na=False, na_values={c: [''] for c in whole.select_dtypes('number')})[
            whole.columns
        ].equals(whole)
        and len(whole) == 8
        and not partial.exists()
    )
    keep, unlink = [], Path.unlink
    monkeypatch.setattr(
        Path,
        'unlink',
        lambda self, **kw: (
            keep.append(self.read_bytes()) if self == partial and not keep else unlink(self, **kw)
        ),
    )
    table()
    journal = keep[0]
    assert journal.count(b'\n')==9
    for cut in (0, 5, 40, journal.index(b'\n')+1, len(journal)//2, len(journal)//2+1, len(journal)-1, len(journal)):
        out.unlink(missing_ok=True); partial.write_bytes(journal[:cut]); seen.clear()
        assert table()==first and not partial.exists()
        rows = [json.loads(l) for l in journal[:cut].split(b'\n')[1:-1]]
        assert len(seen)==6-sum(r['status'] not in ('unreadable', 'no ECG') for r in rows), cut
    broken = journal.split(b'\n'); broken[3] = broken[3][:20]
    partial.write_bytes(b'\n'.join(broken))
    assert table()==first # made again from the damaged row on
    partial.write_bytes(journal); before = out.read_bytes()
    for kw,says in ((dict(coverage=.8), 'coverage'), (dict(fs=250.), 'fs'), (dict(unit='mV'), 'unit')):
        with fails('partial', 'another '+says): predict_table(data, model, out, progress=False, **kw)
    with fails('another recordings'): predict_table(data/'deep', model, out, progress=False)
    with fails('another runtime'): predict_table(data, load_model(model.path, 'torch'), out, progress=False)
    assert partial.read_bytes()==journal and out.read_bytes()==before
    f, _ = m._journal(partial, json.loads(journal.split(b'\n')[0]), {})
    with fails('another process'): table()
    f.close()
    partial.write_text('my thesis')
    with fails('not a journal'): table()
    assert partial.read_text()=='my thesis'
    partial.unlink()
    (tmp_path/'none').mkdir()
    with fails('holds no files|no files'): predict_table(tmp_path/'none', model, out, progress=False)
    assert not partial.exists()

def test_nothing_there(model, tmp_path):
    with fails('no such file'): predict(tmp_path/'x.csv', model)
    with fails('no such file'): predict_many(tmp_path/'nowhere.zip', model)
    with fails('no such file'): predict(SR, tmp_path)
    (tmp_path/'fake.zip').write_bytes(b'no zip')
    assert predict_many(tmp_path/'fake.zip', model).status.tolist()==['unreadable']
    (tmp_path/'empty').mkdir()
    with fails('no files'): predict_many(tmp_path/'empty', model)

def test_a_damaged_wfdb_is_refused(tmp_path, model):
    wfdb = pytest.importorskip('wfdb')
    wfdb.wrsamp('r', 500, ['mV']*12, list(LEADS), SR.signal.T.astype(float), fmt=['16']*12, write_dir=str(tmp_path))
    assert predict(tmp_path/'r.hea', model).rhythm
    data = bytearray((tmp_path/'r.dat').read_bytes())
    data[1000] ^= 1
    (tmp_path/'r.dat').write_bytes(data)
    with fails('checksum'): predict(tmp_path/'r.hea', model)

def test_other_formats(tmp_path, model):
    "The same heart in every format gives the same answer"
    from ecg_arrhythmia.data.convert import to_aecg, to_dicom, to_muse
    made = {'a.xml': to_aecg(SR), 'b.xml': to_muse(SR), 'c.dcm': to_dicom(SR)}
    for n,data in made.items(): (tmp_path/n).write_bytes(data)
    table = predict_many(tmp_path, model, progress=False).set_index('file')
    assert set(table.index)==set(made) and (table.status!='unreadable').all()
    for n in made:
        assert (
            np.isclose(table.loc[n, 'p_SR'], predict(SR, model).probabilities['SR'], atol=0.02)
            and predict(tmp_path / n, model).rhythm == table.rhythm[n]
        )

def test_explanation(model):
    from ecg_arrhythmia.prediction.pages import explain_html
    a = predict(SR, model)
    html = page(a, explain_html(a, model))
    assert html.count('<svg')==2 and 'Orange spoke for the answer' in html
    html = page(a, explain_html(a, model, 'integrated_gradients'))
    assert html.count('data:image/png')==2 and 'integrated gradients' in html # two views
    assert explain_html(predict(simulate('SR', seconds=3), model), model)==''
    with fails('unknown method'): explain_html(a, model, 'tea leaves')

# --- imports and the command

def fresh(code, *args):
    return subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', code, *map(str, args)],
        capture_output=True,
        text=True,
        env=WITH_TESTS | dict(OMP_NUM_THREADS='1'),
        timeout=120,
    )

def test_a_prediction_loads_neither_torch_nor_matplotlib(onnx_folder, tmp_path):
    (f := tmp_path/'x.csv').write_bytes(to_csv_bytes(SR))
    r = fresh("""
import sys
from ecg_arrhythmia.commands.prediction import ecg_predict
from pathlib import Path
ecg_predict(Path(sys.argv[1]), Path(sys.argv[2]), json=True)
heavy = {'torch', 'torchvision', 'fastai', 'matplotlib', 'sklearn', 'onnx', 'IPython'}
sys.stderr.write(' '.join(sorted(heavy & set(sys.modules))))""", f, onnx_folder)
    assert r.returncode==0 and r.stderr=='' and json.loads(r.stdout)['model']['runtime']=='onnx', r.stderr

def test_with_torch_no_fastai(onnx_folder, tmp_path):
    (f := tmp_path/'x.csv').write_bytes(to_csv_bytes(SR))
    r = fresh("""
import sys
import networks
networks.add_tiny()
from ecg_arrhythmia.prediction.answer import predict
from ecg_arrhythmia.prediction.runtime import load_model
answer = predict(sys.argv[1], load_model(sys.argv[2], 'torch'))
print(answer.model['runtime'], *sorted({'fastai', 'matplotlib', 'sklearn', 'onnxruntime'} & set(sys.modules)))""", f, onnx_folder)
    assert r.stdout.strip()=='torch', (r.stdout, r.stderr)

def test_commands(made, tmp_path, capsys, monkeypatch):
    from fastcore.script import CliError
    from ecg_arrhythmia.commands.prediction import ecg_export, ecg_predict
    run = made[4]
    ecg_export(run.path, tmp_path/'m', temperature=1.2)
    assert 'SIMULATED' in capsys.readouterr().out
    (f := tmp_path/'x.csv').write_bytes(to_csv_bytes(SR))
    ecg_predict(f, tmp_path/'m', html=tmp_path/'x.html', out=tmp_path/'x.table.csv')
    said = capsys.readouterr().out
    assert (
        'Rhythm: ' in said
        and (tmp_path / 'x.html').stat().st_size > 10_000
        and 'status' in (tmp_path / 'x.table.csv').read_text()
    )
    ecg_predict(f, tmp_path/'m', json=True, html=tmp_path/'x.html')
    assert set(json.loads(capsys.readouterr().out))==SCHEMA
    for kw,says in ((dict(explain=True), '--html'), (dict(runtime='onnx'), 'ecg_export'), (dict(coverage=2.), 'coverage')):
        with pytest.raises((CliError, ECGError), match=says): ecg_predict(f, **{'model': tmp_path/'m', **kw})
    with pytest.raises(CliError, match='one recording'): ecg_predict(tmp_path, tmp_path/'m', json=True)
    with pytest.raises(CliError, match='--split'): ecg_export(run.path, tmp_path/'n', int8=tmp_path/'s')

# --- the local page

@pytest.fixture(scope='module')
def server(onnx_folder):
    import threading
    from ecg_arrhythmia.prediction.server import serve
    s = serve(onnx_folder, 0)
    threading.Thread(target=s.serve_forever, daemon=True).start()
    yield s
    s.shutdown(); s.server_close()

def ask(server, method='POST', path='predict', body=b'{}', token=None, **headers):
    import http.client
    c = http.client.HTTPConnection('127.0.0.1', server.server_address[1], timeout=30)
    c.request(method, f'/{server.token if token is None else token}/{path}', body, headers)
    r = c.getresponse()
    return r.status, r.read().decode(), r.headers

def files_of(**files):
    import base64
    return json.dumps(dict(files={n.replace('__', '.'): base64.b64encode(b).decode() for n,b in files.items()})).encode()

OURS = {'X-ECG': '1'}

def test_the_page_is_for_this_computer_only(server):
    assert server.server_address[0]=='127.0.0.1' and len(server.token) >= 20
    status, html, headers = ask(server, 'GET', '', None)
    assert (
        status == 200
        and "default-src 'none'" in headers['Content-Security-Policy']
        and "script-src 'self';" in headers['Content-Security-Policy']
    )
    for name in ('', 'style.css', 'app.js'):
        status, text, headers = ask(server, 'GET', name, None)
        assert status == 200 and not any(
            s in text.replace('http://www.w3.org/', '') for s in ('http:', 'https:', 'url(', '@import')
        ), name
        assert headers['X-Content-Type-Options']=='nosniff' and headers['Referrer-Policy']=='no-referrer'
    assert 'SIMULATED' in ask(server, 'GET', 'about', None, **OURS)[1]

def test_the_page_wants_host_secret_and_header(server):
    for host in ('evil.example', 'evil.example:80', f'127.0.0.1:{server.server_address[1]+1}'):
        assert ask(server, 'GET', '', None, Host=host)[0]==404 and ask(server, **OURS, Host=host)[0]==403
    for token in ('', 'wrong', server.token[:-1], server.token+'x', server.token.swapcase()):
        assert ask(server, 'GET', '', None, token=token)[0]==404 and ask(server, token=token, **OURS)[0]==403, token
    for path in ('../../etc/passwd', 'nothing', 'answers/x/other', 'web/app.js', '..%2fapp.js'):
        assert ask(server, 'GET', path, None, **OURS)[0] in (400, 404)
    for kw in ({}, {'X-ECG': '0'}): assert ask(server, **kw)[0]==403 and ask(server, 'GET', 'about', None, **kw)[0]==403
    assert ask(server, path='other', **OURS)[0]==404

def test_the_page_answers(server, model):
    status, text, _ = ask(server, body=files_of(mine__csv=to_csv_bytes(SR)), **OURS)
    a, = json.loads(text)['answers']
    want = predict(SR, model)
    assert (
        status == 200
        and a['rhythm'] == want.rhythm
        and a['certainty'] == pytest.approx(want.probabilities[want.rhythm], abs=0.02)
    )
    base = f"answers/{a['id']}"
    for layout in ('3x4+1', '6x2', '12x1'):
        assert ask(
            server, 'GET', f'{base}/chart.svg?layout={layout.replace("+", "%2B")}&why=1', None, **OURS
        )[1].startswith('<svg')
    assert (
        '<svg' in ask(server, 'GET', f'{base}/page.html', None)[1]
        and json.loads(ask(server, 'GET', f'{base}/answer.json', None)[1])['format'] == 2
    )
    samples = np.genfromtxt(ask(server, 'GET', f'{base}/samples.csv', None)[1].splitlines(), delimiter=',', skip_header=1)
    assert samples.shape==(5000, 13) and np.allclose(samples[:,1:].T, SR.signal, atol=.006)
    assert 'mine' in ask(server, 'GET', 'table.csv', None)[1]
    for ids,rows in ((a['id'], 1), ('other', 0), (f"other,{a['id']}", 1)): # of one tab
        assert ask(server, 'GET', f'table.csv?ids={ids}', None)[1].count('\n')==rows+1
    assert not a['picture'] and 'no longer kept' in ask(server, 'GET', f'{base}/overlay.html', None)[1]
    for query in ('start=-1', 'start=99', 'start=nan', 'start=x', 'layout=none'):
        assert ask(server, 'GET', f'{base}/chart.svg?{query}', None, **OURS)[0] == 400, query
    assert ask(server, path='example', **OURS)[0]==200 and ask(server, path='clear', **OURS)[0]==200
    assert 'no longer kept' in ask(server, 'GET', f'{base}/chart.svg', None, **OURS)[1]

def test_the_page_reads_a_zip(server, tmp_path):
    with zipfile.ZipFile(tmp_path/'z.zip', 'w') as z:
        z.writestr('=a.csv', to_csv_bytes(SR))
        z.writestr('torn.csv', to_csv_bytes(SR)[:3000] + b',,what')
    found = json.loads(ask(server, body=files_of(z__zip=(tmp_path/'z.zip').read_bytes()), **OURS)[1])['answers']
    assert len(found)==2 and sum('error' in a for a in found)==1 and not any('/tmp' in json.dumps(a) for a in found)
    assert "\n'=a" in ask(server, 'GET', 'table.csv', None)[1] # no formula for a spreadsheet

@pytest.mark.parametrize(
    'body,says',
    [
        (b'', 'not a request'),
        (b'[]', 'not a request'),
        (b'{"files": 7}', 'not a request'),
        (b'{"files": {"a.csv": "?"}}', 'not a request'),
        (b'[' * 100_000, 'not a request'),
        (b'{"files": {}}', '0 files'),
        (files_of(a__csv=b'1', b__csv=b'2'), '2 files'),
        (b'{"files": {"../../x.csv": ""}}', 'not a name'),
        (b'{"files": {".ssh": ""}}', 'not a name'),
        (b'{"files": {"a/b.csv": ""}}', 'not a name'),
        (b'{"files": {"%s.csv": ""}}' % (b'x' * 300), 'not a name'),
        (b'{"files": {"\\ud800.csv": ""}}', 'not a request'),
        (files_of(a__csv=b'junk'), 'a.csv'),
        (b'{"files": {"a.csv": ""}, "fs": "fast"}', 'not a request'),
        (b'{"files": {"a.csv": ""}, "fs": 1%s}' % (b'0' * 400), 'below a million'),
        (b'{"files": {"a.csv": ""}, "fs": 1%s}' % (b'0' * 9000), 'not a request'),
        (b'{"files": {"a.csv": ""}, "fs": 1e400}', 'below a million'),
        (b'{"files": {"a.csv": ""}, "fs": NaN}', 'below a million'),
        (b'{"files": {"a.csv": ""}, "fs": -5}', 'above 0'),
        (b'{"files": {"a.csv": ""}, "unit": {}}', 'not a request'),
    ],
)
def test_the_page_refuses(server, body, says):
    status, text, _ = ask(server, body=body, **OURS)
    assert status==400 and says in json.loads(text)['error'] and '/tmp' not in text

def test_the_page_bounds_what_it_reads(server):
    for size in ('99999999999', '-1', 'x', '', '1' * 5000):
        assert ask(server, body=None, **OURS, **{'Content-Length': size})[0] == 413, size

def test_the_page_keeps_a_bounded_number(model):
    from ecg_arrhythmia.prediction.server import Desk, MOST_ANSWERS
    desk, answer = Desk(model), predict(SR, model)
    first = desk.add('x', answer)['id']
    for _ in range(MOST_ANSWERS): desk.add('x', answer)
    assert len(desk.answers)==MOST_ANSWERS and first not in desk.answers

def test_the_page_outlives_those_who_leave_and_those_who_ask_nonsense(server, capfd):
    "No trace on the screen, and an answer where an address cannot be one"
    import socket
    port = server.server_address[1]
    def raw(data, wait=True):
        with socket.create_connection(('127.0.0.1', port), timeout=30) as c:
            c.sendall(data)
            return c.recv(100) if wait else b''
    host = f'Host: 127.0.0.1:{port}\r\n'
    assert b' 404 ' in raw(f'GET http://[::1/{server.token}/ HTTP/1.1\r\n{host}\r\n'.encode())
    waiting = [socket.create_connection(('127.0.0.1', port), timeout=30) for _ in range(60)]
    for c in waiting: c.sendall(f'POST /{server.token}/predict HTTP/1.1\r\n{host}X-ECG: 1\r\nContent-Length: 99\r\n\r\n{{'.encode())
    assert ask(server, 'GET', '', None)[0]==200
    for c in waiting: c.close()
    assert server.request_queue_size >= 60 and 'Traceback' not in capfd.readouterr().err

def test_port_in_use(server, onnx_folder):
    from ecg_arrhythmia.prediction.server import serve
    with fails('port'): serve(onnx_folder, server.server_address[1])

# --- offsets, missing leads, what was assumed

@pytest.mark.parametrize('offset', [-4.5, 2., 4.5, 30.])
def test_an_offset_changes_nothing(model, offset):
    plain, moved = predict(Recording(SR.signal), model), predict(
        Recording(SR.signal + np.float32(offset), check=False), model
    )
    assert moved.rhythm == plain.rhythm and np.allclose(
        [*moved.probabilities.values()], [*plain.probabilities.values()], atol=2e-3
    )
    assert any('level removed' in c for c in moved.changes)

def test_what_leaves_its_cell_is_said(model):
    a = predict(Recording(SR.signal*4, check=False), model)
    assert 'off_chart' in codes(a) and 'their cells' in a.text()
    assert 'off_chart' not in codes(predict(Recording(SR.signal*.5), model))

def test_missing_leads_are_drawn_as_nothing(model, monkeypatch):
    "By a model that was trained for it; any other refuses"
    x = SR.signal.copy()
    x[LEADS.index('V1')] = np.nan
    x[LEADS.index('V5'), 2500:] = np.nan
    rec = Recording(x, check=False)
    assert predict(rec, model).rhythm is None
    monkeypatch.setitem(model.facts, 'masks', True)
    monkeypatch.setitem(model.facts, 'min_seconds', 5)
    a = predict(rec, model)
    said = ' '.join(f.text for f in a.findings)
    assert a.rhythm and 'without lead V1' in said and 'parts of lead V5' in said
    strip = model.charts(x[None])['strip'][0]
    assert (strip[1]==255).all() and (strip[2][:,:75]<255).any() and (strip[2][:,85:]==255).all()
    assert (
        predict(replace(SR, signal=SR.signal[:, :3000]), model).rhythm
        and codes(predict(replace(SR, signal=SR.signal[:, :2000]), model), 'refuse')[0] == 'short'
    )
    assert codes(predict(Recording(np.full((12, 5000), np.nan), check=False), model), 'refuse')[0]=='missing'

def test_assumptions_and_faults_are_said(model):
    rec = replace(SR, assumed=('500 samples a second',), faults=(('checksum', 'the sum of lead V1 does not fit'),))
    a = predict(rec, model)
    assert (
        'Assumed: 500 samples a second' in a.text()
        and a.to_dict()['assumed'] == ['500 samples a second']
        and 'Assumed' in page(a)
    )
    assert 'checksum' in codes(a, 'doubt') and a.status!='clear'

def test_two_processes_give_the_same_table(model, tmp_path):
    for i, r in enumerate(('SR', 'SB', 'AFIB', 'ST', 'SVT')):
        (tmp_path / f'{i}.csv').write_bytes(to_csv_bytes(simulate(r, seed=i)))
    (tmp_path/'torn.csv').write_bytes(to_csv_bytes(SR)[:3000] + b',,what')
    one, two = (predict_many(tmp_path, model, workers=w, progress=False) for w in (1, 2))
    assert one.equals(two) and len(one)==6

def test_shares_of_a_folder_tell_each_file_once(model, tmp_path):
    "Also a link that leads nowhere, and a file that came since the last call"
    for i in range(11): (tmp_path/f'{i:02}.csv').write_bytes(to_csv_bytes(SR))
    (tmp_path/'lost.csv').symlink_to('nowhere')
    def files(): return sorted(predict_many(tmp_path, model, workers=2, progress=False).file)
    assert files()==sorted(p.name for p in tmp_path.iterdir())
    (tmp_path/'new.csv').write_bytes(to_csv_bytes(SR))
    assert files()==sorted(p.name for p in tmp_path.iterdir())

def test_evidence_is_where_the_network_looks(model, monkeypatch):
    "A network that counts the ink of V1 between 3 and 4 s: that second of that lead, and no other, is worth something"
    from ecg_arrhythmia.prediction.evidence import evidence_of
    def counts(images):
        ink = (255.-images[:, 1, :, 48:64]).sum((1, 2))
        return np.stack([ink/1e4, *[np.zeros(len(images))]*3], 1)
    monkeypatch.setattr(type(model), 'logits', lambda self, images, batch_size=32: counts(images))
    answer = replace(predict(SR, model), rhythm=model.classes[0])
    found = evidence_of(answer, model)
    assert max(found, key=lambda lead: max(found[lead]))=='V1' and np.argmax(found['V1'])==3
    assert evidence_of(replace(answer, rhythm=None), model)=={}

# --- heavy

@pytest.mark.slow
def test_int8(tmp_path):
    from ecg_arrhythmia.prediction.export import export_int8
    made = made_in(tmp_path, 'mobilenet_v3_small') # most of whose file are weights
    folder = exported(made)
    _, cat, split, store, run = made
    found = export_int8(folder, store, split.folds[0], split.labels, n=16, lose=1.)
    assert (
        found['recordings'] == 28
        and load_model(folder, 'int8').runtime == 'int8'
        and '`model-int8.onnx`' in (folder / 'README.md').read_text()
    )
    assert (folder/'model-int8.onnx').stat().st_size < .4*(folder/'model.onnx').stat().st_size
    with fails('at least 20 more'): export_int8(folder, store, split.folds[0][:30], split.labels, n=16)
    with fails('nothing was written'): export_int8(folder, store, split.folds[0], split.labels, n=16, lose=-1.)

@pytest.mark.slow
@pytest.mark.parametrize('name', ['resnet18', 'efficientnet_b0', 'vit_b_16'])
def test_parity(name):
    "As in the notebook, which does all nine"
    import torch
    from ecg_arrhythmia.prediction.export import largest_difference, to_onnx
    from ecg_arrhythmia.prediction.runtime import onnx_network
    from ecg_arrhythmia.models.architectures import ARCHITECTURES
    from ecg_arrhythmia.models.weights import create_model
    from ecg_arrhythmia.models.transfer import set_bn_momentum
    torch.manual_seed(0)
    net, size = create_model(name, 4), (ARCHITECTURES[name].size,)*2
    with torch.no_grad(): set_bn_momentum(net, 1.).train()(torch.randn(4, 3, *size))
    net.eval()
    def logits(x):
        with torch.inference_mode(): return net(torch.from_numpy(x)).numpy()
    found = largest_difference(
        logits,
        onnx_network(to_onnx(net, size), 1),
        np.random.default_rng(0).normal(size=(3, 3, *size)).astype(np.float32),
    )
    assert found['difference'] < 1e-3*found['spread'] and found['alone'] < 1e-3*found['spread']

def test_pictures_of_a_folder_are_answered(tmp_path):
    from ecg_arrhythmia.charts import draw
    draw(simulate('SR', seed=1), '3x4+1', header=True, dpi=100).savefig(tmp_path/'chart.png')
    (tmp_path/'note.txt').write_text('Dear colleague')
    (tmp_path/'letter.pdf').write_bytes(b'%PDF-1.4 Dear colleague')
    rows = {r['file']: r for r in predict_rows(tmp_path, load_model())}
    assert rows['chart.png']['status']=='doubtful' and rows['chart.png']['rhythm']=='SR'
    assert rows['note.txt']['status']=='no ECG' and rows['letter.pdf']['status']=='unreadable'

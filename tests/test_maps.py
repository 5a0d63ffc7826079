"Checks of `ecg_arrhythmia.explanation.maps`: which recordings, which class, what is written"
import json
from functools import partial
from types import SimpleNamespace as NS

import numpy as np, pandas as pd, pytest, torch

from ecg_arrhythmia.data.datasets import catalogue
from ecg_arrhythmia.explanation.maps import MapOptions, explain_run, hard_names
from ecg_arrhythmia.models.weights import create_model
from ecg_arrhythmia.training.runs import Run
from ecg_arrhythmia.evaluation.tables import predictions
from ecg_arrhythmia.data.recordings import LEADS
from ecg_arrhythmia.core import ECGError
from ecg_arrhythmia.data.simulated_datasets import simulate_dataset
from ecg_arrhythmia.charts.encoding import store_spec
from ecg_arrhythmia.charts.packing import pack

pytestmark = pytest.mark.filterwarnings('ignore')
CLASSES = ['AFIB', 'GSVT', 'SB', 'SR']

@pytest.fixture(scope='module')
def made(tmp_path_factory):
    "Catalogue, store of two layouts, and a run whose model has random weights"
    tmp = tmp_path_factory.mktemp('maps')
    cat = catalogue(simulate_dataset(tmp/'recordings', counts=dict(SR=3, AFIB=2), seed=1, workers=1, progress=False))
    store = pack(cat, tmp/'charts.lmdb', store_spec(('3x4', '6x2'), (64,64), 'grey'), limits=None, progress=False)
    names = list(store)[:4]
    probs = np.array([[.7,.1,.1,.1], [.1,.1,.1,.7], [.2,.5,.2,.1], [.4,.2,.2,.2]])
    torch.manual_seed(0)
    model = create_model('resnet18').eval()
    run = NS(
        path=tmp / 'a-run',
        digest='of-the-model',
        config=NS(layouts=None, arch='resnet18'),
        result=dict(spec=store.spec),
        classes=CLASSES,
        model=lambda: model,
        predictions=predictions(names, probs, CLASSES, labels=['AFIB', 'AFIB', 'SR', ''], views=['3x4'] * 4, folds='0'),
        views=tuple(store.spec['layouts']),
    )
    run.check_charts = partial(Run.check_charts, run)
    return NS(cat=cat, store=store, run=run, names=names, tmp=tmp)

def test_hardest_first(made):
    assert hard_names(made.run, 9) == [made.names[i] for i in (1, 2, 0)] and hard_names(made.run, 1) == [
        made.names[1]
    ]  # p .1, .1, .7; without label: none

def test_what_is_written(made):
    t = explain_run(made.run, made.store, made.tmp/'a', what=MapOptions(n=2), cat=made.cat, progress=False)
    said = json.loads((made.tmp/'a'/'explain.json').read_text())
    assert (
        len(t) == 4
        and set(t.layout) == {'3x4', '6x2'}
        and said['notes'] == []
        and said['run'] == 'a-run'
        and str(made.tmp) not in json.dumps(said)
    )
    assert all((made.tmp/'a'/c['picture']).stat().st_size > 1000 for c in said['charts'])
    assert (
        np.allclose(t[list(LEADS)].sum(axis=1), 1)
        and np.allclose(t[['P', 'QRS', 'T', 'rest']].sum(axis=1), 1)
        and np.allclose(t[[c for c in t if c.endswith(' s')]].sum(axis=1), 1)
    )
    assert np.allclose(pd.read_csv(made.tmp/'a'/'shares.csv')[list(LEADS)], t[list(LEADS)], atol=1e-5)
    assert t.groupby('name').target.nunique().max()==1 and (t.target==t.pred).all()

@pytest.mark.parametrize('target, want', [('label', ['AFIB','SR']), ('SB', ['SB','SB'])])
def test_targets(made, target, want):
    what = MapOptions([made.names[0], made.names[2]], layouts=['6x2'], target=target)
    t = explain_run(made.run, made.store, made.tmp/target, what=what, progress=False)
    assert t.target.tolist()==want and t.layout.tolist()==['6x2']*2 and 'P' not in t

@pytest.mark.parametrize(
    'kw, what',
    [
        (dict(target='VT'), "'predicted', 'label'"),
        (dict(method='lime'), 'unknown method'),
        (dict(names=['x']), 'no recording x'),
        (dict(layouts=['12x1']), 'holds the layouts'),
        (dict(names=[]), 'no recordings to explain'),
    ],
)
def test_errors_write_nothing(made, kw, what):
    with pytest.raises(ECGError, match=what): explain_run(made.run, made.store, made.tmp/'none', what=MapOptions(**kw))
    assert not (made.tmp/'none').exists()

def test_label_that_is_not_known(made):
    with pytest.raises(ECGError, match='knows no label'):
        explain_run(made.run, made.store, made.tmp/'none', what=MapOptions([made.names[3]], target='label'))

def test_other_charts(made):
    other = pack(made.cat, made.tmp/'other.lmdb', store_spec('3x4', (64,80), 'grey'), limits=None, progress=False)
    with pytest.raises(ECGError, match='differ.*size'): explain_run(made.run, other, made.tmp/'none')

def test_maps_are_made_on_the_device_as_predictions_are(made, monkeypatch):
    "In 32 bits, on the best device unless one is named"
    from ecg_arrhythmia.explanation import maps
    asked = []
    monkeypatch.setattr(maps, 'device_of', lambda name: asked.append(name) or torch.device('cpu'))
    explain_run(made.run, made.store, made.tmp/'device', what=MapOptions(n=1, method='gradient'), progress=False)
    assert asked==[None]

"The model that comes with the package: whole, small, and sensible about simulated recordings"
import json, re, runpy

import numpy as np
import pandas as pd
import pytest
from pathlib import Path

import ecg_arrhythmia.prediction
from ecg_arrhythmia.charts.layouts import LAYOUTS
from ecg_arrhythmia.commands.prediction import ecg_predict
from ecg_arrhythmia.data.recordings import LEADS, Recording
from ecg_arrhythmia.data.simulation import simulate
from ecg_arrhythmia.prediction.answer import predict
from ecg_arrhythmia.prediction.runtime import load_model
from ecg_arrhythmia.signals.opinions import OUTPUTS

FOLDER = Path(ecg_arrhythmia.prediction.__file__).parent/'default_model'
MECHANISM_OF = dict(AFIB='AF', AF='AF', SVT='SV', S='S')

@pytest.fixture(scope='module')
def model(): return load_model(FOLDER)

@pytest.fixture(scope='module')
def hearts():
    rhythms = ['AFIB', 'SB', 'SR', 'ST']*5
    return rhythms, np.stack([simulate(r, seed=100 + i).signal for i,r in enumerate(rhythms)])

def test_small():
    sizes = {p.name: p.stat().st_size for p in FOLDER.iterdir()}
    assert set(sizes) == {'model.json', 'model.safetensors', 'model.onnx', 'README.md', 'train_samples.txt'}
    assert sum(sizes.values()) <= 8e6
    assert sizes['model.safetensors'] <= 4e6 # the backbone for fine-tuning

def test_whole(model):
    assert model.runtime=='onnx' and model.classes==list(OUTPUTS)
    assert model.facts['training']['origin']=='real'
    assert set(model.facts['rule']['of'])==set(model.classes)

def test_sensible_about_simulated_hearts(model, hearts):
    rhythms, signals = hearts
    p = model.probabilities(signals)
    assert np.allclose(p.sum(1), 1) and np.isfinite(p).all()
    said = [MECHANISM_OF[model.classes[i]] for i in p.argmax(1)]
    wanted = ['AF' if r=='AFIB' else 'S' for r in rhythms]
    assert np.mean([s==w for s,w in zip(said, wanted)]) >= .8

def test_both_runtimes_agree(model, hearts):
    other = load_model(FOLDER, 'torch')
    a, b = model.views(hearts[1][:4]), other.views(hearts[1][:4])
    assert np.abs(a - b).max() < 1e-3

def test_measures(model, hearts):
    asked = model.ask(hearts[1][:4])
    assert all({'strange', 'agreement', 'p_first'} <= set(measures) for _, measures in asked)

def test_card_has_metadata_and_sources(model):
    card = (FOLDER/'README.md').read_text()
    assert card.startswith('---\nlicense: cc-by-4.0\n')
    for said in (
        'CC BY 4.0',
        'BSD-3-Clause',
        'not a medical device',
        model.facts['commit'],
        'Zheng',
        'Wagner',
    ):
        assert said in card

def test_card_shows_the_figures_of_the_facts(model):
    card = (FOLDER/'README.md').read_text()
    for rows in model.facts['figures'].values():
        for row in rows: assert ' | '.join(map(str, row.values())) in card

def test_card_is_computed_from_saved_predictions(model):
    script = Path(__file__).parent.parent/'.ci/model_card.py'
    if not script.exists(): pytest.skip('this is no checkout')
    found = json.loads(json.dumps(runpy.run_path(str(script))['figures']()))
    assert list(model.facts['figures'].values())==[found]

def test_help_says_what_the_card_says(model):
    assert '99 in 100 were right' in ecg_predict.__doc__
    rows = [r for rows in model.facts['figures'].values() for r in rows if 'not trained on' in r['of']]
    assert len(rows)==2
    assert all(float(r['clear and right'].partition('%')[0]) >= 99 for r in rows)

def test_doubts_about_the_atria(model):
    heart = simulate('SR', seed=3)
    turned = heart.signal.copy()
    turned[[LEADS.index(l) for l in ('I', 'II', 'III', 'aVR', 'aVL', 'aVF')]] *= -1 # electrodes on the wrong side
    assert 'p_wave' not in [f.code for f in predict(heart, model).findings]
    answer = predict(Recording(turned), model)
    assert answer.status != 'clear'
    flutters = [predict(simulate('AF', seed=s), model) for s in (9, 13, 14, 19)]
    assert all('flutter' in [f.code for f in a.findings] for a in flutters if a.rhythm=='GSVT')

def test_another_limit_of_the_rate(model, tmp_path):
    "Between the limits that readers use the answer follows the one that is set, and says what the other would say"
    heart = next(r for r in (simulate('SB', seed=s) for s in range(60)) if 52 < predict(r, model).heart['rate'] < 58)
    usual, moved = predict(heart, model), predict(heart, model, slow=50)
    assert (usual.rhythm, moved.rhythm)==('SB', 'SR')
    assert usual.model['slow_limit']==60 and moved.model['slow_limit']==50
    said = [next(f for f in a.findings if f.code=='convention') for a in (usual, moved)]
    assert 'SR by the limit of 50' in said[0].text and 'SB by the limit of 60' in said[1].text
    assert usual.status==moved.status, 'a note is no doubt'
    fast = simulate('ST', seed=1)
    assert predict(fast, model, slow=50).rhythm==predict(fast, model).rhythm=='GSVT'
    assert 'convention' not in [f.code for f in predict(fast, model).findings]
    for bad in (0, 39, 100, float('nan')):
        with pytest.raises(ValueError, match='from 40 to 70'): predict(heart, model, slow=bad)

def test_begins_other_models():
    from ecg_arrhythmia.models.weights import create_model
    begun = create_model('mobilenet_v3_small', 7, FOLDER/'model.safetensors')
    assert all(p.dtype.is_floating_point and p.dtype.itemsize==4 for p in begun.parameters())
    fresh = create_model('mobilenet_v3_small', 7)
    same = [
        np.array_equal(a.detach(), b.detach())
        for a, b in zip(begun.features.parameters(), fresh.features.parameters())
    ]
    assert not all(same)

def printed(signal, layout):
    "What a layout shows of a signal"
    shown = np.full_like(signal, np.nan)
    for c in LAYOUTS[layout].cells:
        at, i = slice(round(c.start*500), round((c.start+c.seconds)*500)), LEADS.index(c.lead)
        shown[i, at] = signal[i, at]
    return Recording(shown, fs=500, check=False)

@pytest.mark.parametrize('rhythm', ['SB', 'SR', 'ST'])
def test_columns_have_a_rate(model, rhythm):
    "A print in four columns without a strip: the rate is that of the columns together, and the answer never clear"
    rec = simulate(rhythm, seed=3)
    a, whole = predict(printed(rec.signal, '3x4'), model), predict(rec, model)
    assert a.heart['rate']==pytest.approx(whole.heart['rate'], rel=.03)
    assert a.rhythm==whole.rhythm and a.status=='doubtful' and 'columns' in [f.code for f in a.findings]

def test_columns_of_noise_have_no_rate(model):
    "Nor have columns that are too short, or of which three are missing: nothing is named"
    noise = np.random.default_rng(1).normal(size=(12, 5000)).astype('float32')*.2
    short = printed(simulate('SR', seed=3).signal, '3x4')
    short.signal[:, ~(np.arange(5000)//250 % 2).astype(bool)] = np.nan
    for rec in (printed(noise, '3x4'), short):
        a = predict(rec, model)
        assert a.rhythm is None and a.heart['rate'] is None, a.text()

def test_order_of_leads_is_given(model, tmp_path):
    "A file of eight leads without names, in an order of its own; what was given is said"
    rec = simulate('SR', seed=3)
    order = ['V1', 'V2', 'V3', 'V4', 'V5', 'V6', 'II', 'I']
    x = rec.signal[[LEADS.index(l) for l in order]].T*1000
    np.savetxt(tmp_path/'eight.csv', x, '%.1f', ',')
    with pytest.raises(ValueError, match='name the leads'): predict(tmp_path/'eight.csv', model)
    a = predict(tmp_path/'eight.csv', model, leads=','.join(order).lower())
    assert a.rhythm=='SR' and any('V1, V2, V3, V4, V5, V6, II, I' in said for said in a.assumed)
    assert np.allclose(a.recording.signal, rec.signal, atol=2e-3)
    for bad in ('I,II,II', 'I', 'I,,II', 'x,y,z'):
        with pytest.raises(ValueError, match='each column once'): predict(tmp_path/'eight.csv', model, leads=bad)

@pytest.mark.parametrize('rhythm,first', [('ST', 'rhythm of the sinus node'), ('SVT', 'supraventricular rhythm from outside')])
def test_a_fast_rhythm_has_a_second_line(model, rhythm, first):
    a = predict(simulate(rhythm, seed=1), model)
    assert a.rhythm=='GSVT' and a.second.startswith(f'More closely: {first}')

def test_it_says_which_samples_it_was_trained_on():
    "So that a model that starts from its weights is not tested on them"
    from ecg_arrhythmia.commands.training import backbone
    from ecg_arrhythmia.training.runs import seen_by_weights
    facts = json.loads((FOLDER/'model.json').read_text())
    seen = seen_by_weights(backbone(), 0).samples
    assert len(seen) >= facts['training']['recordings'] and all(re.fullmatch('[0-9a-f]{16}', s) for s in seen)

"The model that comes with the package: whole, small, and sensible about simulated recordings"
import numpy as np
import pandas as pd
import pytest
from pathlib import Path

import ecg_arrhythmia.prediction
from ecg_arrhythmia.data.simulation import simulate
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
    assert set(sizes) == {'model.json', 'model.safetensors', 'model.onnx', 'README.md'}
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

def test_begins_other_models():
    from ecg_arrhythmia.models.architectures import create_model
    begun = create_model('mobilenet_v3_small', 7, FOLDER/'model.safetensors')
    assert all(p.dtype.is_floating_point and p.dtype.itemsize==4 for p in begun.parameters())
    fresh = create_model('mobilenet_v3_small', 7)
    same = [
        np.array_equal(a.detach(), b.detach())
        for a, b in zip(begun.features.parameters(), fresh.features.parameters())
    ]
    assert not all(same)

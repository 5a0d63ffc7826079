"Dense checks of `ecg_arrhythmia.explanation.fidelity`: each measure against a model or a map whose answer is known"
import numpy as np, pandas as pd, pytest, torch
from scipy.stats import spearmanr
from torch import nn

from ecg_arrhythmia.explanation.methods import blank_page, gradient, guided_backprop
from ecg_arrhythmia.models.compute import to_model
from ecg_arrhythmia.explanation.fidelity import (
    agreement, area, cascade, deletion_curve, enrichment, faithfulness, ink_of,
    column_intervals, layout_agreement, lead_effects, lead_regions, max_sensitivity,
    own_agreement, phase_regions, pointing, rank_correlation, ranking, strength)
from ecg_arrhythmia.evaluation.margins import interval
from ecg_arrhythmia.models.weights import create_model
from ecg_arrhythmia.charts.raster import canvas
from ecg_arrhythmia.data.recordings import LEADS
from ecg_arrhythmia.core import ECGError
from ecg_arrhythmia.explanation.shares import beat_phases
from ecg_arrhythmia.data.simulation import simulate

LEADS_ = list(LEADS)
pytestmark = pytest.mark.filterwarnings('ignore')

class LooksAt(nn.Module):
    "Its score for class 1 is the mean brightness missing within a window: it looks there and nowhere else"
    def __init__(self, where):
        super().__init__()
        self.register_buffer('where', where)
        self.scale = nn.Parameter(torch.tensor(20.))
    def forward(self, x):
        s = torch.relu(-x*self.where).mean((1,2,3))*self.scale
        return torch.stack([-s, s], 1)

@pytest.fixture(scope='module')
def scene():
    "Charts, blank page, a window that the model looks at, the model"
    page = canvas('3x4', (60,100))
    x = to_model(page(np.stack([simulate('SR', s).signal for s in range(6)])))
    where = torch.zeros(60, 100)
    where[20:40, 25:50] = 1
    return page, x, blank_page(page), where, LooksAt(where)

# --- intervals

def test_interval():
    v = np.random.default_rng(0).normal(3, 1, 400)
    i = interval(v)
    assert i['low'] < i['mean'] < i['high'] and i['high']-i['low']==pytest.approx(2*1.96/20, rel=.15) and i['n']==400
    assert interval([1., np.nan, 1.])==dict(mean=1., low=1., high=1., n=2)
    assert np.isnan(interval([np.nan])['mean'])

def test_interval_covers():
    rng = np.random.default_rng(1)
    hits = [(i := interval(rng.normal(0, 1, 50), n_boot=400))['low'] <= 0 <= i['high'] for _ in range(200)]
    assert .88 <= np.mean(hits) <= .99

def test_paired_intervals():
    t = pd.DataFrame(dict(a=[1.,5.,9.], random=[0.,4.,8.]))
    assert column_intervals(t, minus='random').loc['a', ['mean','low','high']].tolist()==[1.,1.,1.]

# --- deletion and insertion

def test_ranking_by_hand():
    ink = torch.tensor([[[1., 1., 0.], [1., 1., 0.]]])
    maps = torch.tensor([[[3., 1., 99.], [4., 2., 99.]]])
    assert ranking(maps, ink).tolist()==[[[.25, .75, 2.], [0., .5, 2.]]]

def test_ties_are_not_in_reading_order():
    place = ranking(torch.zeros(1, 30, 30), torch.ones(1, 30, 30))[0]
    assert place[:15].mean()==pytest.approx(.5, abs=.06) and len(place.unique())==900

def test_area():
    assert area(torch.ones(2, 5)).tolist()==[1., 1.] and area(torch.linspace(1, 0, 9)[None])[0]==pytest.approx(.5)

def test_curves_have_the_right_ends(scene):
    page, x, blank, where, model = scene
    place = ranking(torch.rand(x.shape[0], 60, 100), ink_of(x, blank))
    full, empty = (model(o).softmax(1)[:,1].detach() for o in (x, blank.expand_as(x)))
    down, up = (deletion_curve(model, x, place, blank, target=1, insert=insert, steps=8) for insert in (False, True))
    for c, first, last in ((down, full, empty), (up, empty, full)):
        assert c.shape == (6, 9) and torch.allclose(c[:, 0], first) and torch.allclose(c[:, -1], last)
    assert torch.allclose(deletion_curve(model, x, place, blank, target=[1]*6, batch_size=4, steps=8), down, atol=1e-6)

def test_a_map_of_what_the_model_looks_at_is_faithful(scene):
    page, x, blank, where, model = scene
    ink = ink_of(x, blank)
    table = faithfulness(model, x, dict(true=ink*where, wrong=ink*(1-where)), blank, target=1, steps=10)
    d, i = (table.xs(k, level='curve') for k in ('deletion', 'insertion'))
    assert (
        column_intervals(d, minus='random').loc['true', 'high']
        < 0
        < column_intervals(d, minus='random').loc['wrong', 'low']
    )
    assert (
        column_intervals(i, minus='random').loc['true', 'low']
        > 0
        > column_intervals(i, minus='random').loc['wrong', 'high']
    )
    assert list(d)==['true','wrong','random','ink','sobel'] and len(d)==6

def test_strength():
    m = torch.tensor([-2., 1.])
    assert strength('gradient', m).tolist()==[2., 1.] and strength('integrated_gradients', m).tolist()==[-2., 1.]

# --- random models

def test_rank_correlation_is_spearmans():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(4,7,9)), rng.normal(size=(4,7,9)).round(1)
    want = [spearmanr(p.ravel(), q.ravel()).statistic for p,q in zip(a, b)]
    assert np.allclose(rank_correlation(a, b), want)
    w = rng.random((4,7,9))<.5
    assert np.allclose(rank_correlation(a, b, w), [spearmanr(p[k], q[k]).statistic for p,q,k in zip(a, b, w)])
    assert np.isnan(rank_correlation(a, np.zeros_like(a))).all()

@pytest.mark.parametrize(
    'name',
    [
        'mobilenet_v3_small',
        'resnet18',
        *(pytest.param(n, marks=pytest.mark.slow) for n in ('convnext_tiny', 'vit_b_16')),
    ],
)
def test_cascade(name):
    "From the output down, a copy, all of it in the end, and still a model with finite outputs"
    torch.manual_seed(0)
    model = create_model(name).eval()
    was = {k: v.clone() for k,v in model.state_dict().items()}
    names = [n for n,p in model.named_parameters() if p.ndim>1]
    changed = []
    for share,other in cascade(model, (.1, .5, 1.)):
        now = dict(other.named_parameters())
        changed.append({n for n in names if not torch.equal(now[n], was[n])})
    assert changed[0] < changed[1] < changed[2]==set(names)
    assert all(n.startswith(model.architecture.head) for n in list(changed[0])) or len(changed[0])>1
    assert names[-1] in changed[0] and names[0] not in changed[1]
    assert all(torch.equal(v, was[k]) for k,v in model.state_dict().items())
    out = gradient(other, torch.randn(1, 3, 224, 224), 0)
    assert out.isfinite().all() and out.any()

def test_cascade_is_repeatable():
    model = create_model('resnet18')
    a, b = ([m.fc.weight.clone() for _,m in cascade(model, (.2, 1.), seed=s)] for s in (0, 0))
    assert all(torch.equal(p, q) for p,q in zip(a, b))

def test_agreement(scene):
    page, x, blank, where, model = scene
    other = LooksAt(1-where)
    assert np.allclose(agreement(gradient, [model, model], x, 1), 1)
    assert (agreement(gradient, [model, other], x, 1, where=ink_of(x, blank)>1e-3) < .2).all()

# --- noise

def test_max_sensitivity(scene):
    page, x, *_ = scene
    assert (max_sensitivity(lambda o: torch.ones(len(o), 5, 5), x)==0).all()
    assert np.isnan(max_sensitivity(lambda o: torch.zeros(len(o), 5, 5), x)).all()
    itself = max_sensitivity(lambda o: o.sum(1), x, radius=.02)
    assert (0 < itself).all() and (itself < .2).all() and (max_sensitivity(lambda o: o.sum(1), x, radius=.1) > itself).all()
    assert (max_sensitivity(lambda o: o.sum(1), x, draws=6) >= itself).all()

# --- a lead taken away

def test_lead_effects():
    "A model that looks at the cell of one lead: only that lead has an effect, and it is the whole score"
    page = canvas('3x4', (60,100))
    blank, x = blank_page(page), to_model(page(np.stack([simulate('SR', s).signal for s in range(4)])))
    b = page.boxes().query('lead=="V2"').iloc[0]
    where = torch.zeros(60, 100)
    where[round(b.y0):round(b.y1), round(b.x0):round(b.x1)] = 1
    model = LooksAt(where)
    e = lead_effects(model, x, page, blank, target=1)
    assert list(e)==LEADS_ and (e.V2>0).all() and np.allclose(e.drop(columns='V2'), 0)
    assert np.allclose(e.V2, (model(x)-model(blank[None])).detach()[:,1], atol=1e-5)
    with pytest.raises(ECGError, match='one by one'): lead_effects(model, x, canvas('strip', (60,100), 'leads'), blank)

# --- layouts

def shares(rng, own, noise=2, n=40): return pd.DataFrame(np.arange(12) + own + rng.normal(0, noise, (n,12)), columns=LEADS)

def test_no_excess_without_anything_of_their_own():
    "p is even, intervals cover zero, although correlations are high"
    rng = np.random.default_rng(0)
    found = [layout_agreement(shares(rng, 0), shares(rng, 0), 200) for _ in range(60)]
    p = np.array([f['p'] for f in found])
    assert .35 < p.mean() < .65 and (p<.05).mean() < .15 and np.mean([f['rho'] for f in found]) > .7
    assert np.mean([f['low'] <= 0 <= f['high'] for f in found]) > .85

def test_excess_with():
    rng = np.random.default_rng(0)
    own = rng.normal(0, 4, (40,12))
    f = layout_agreement(shares(rng, own), shares(rng, own))
    assert f['p']<.01 and f['low']>0 and f['top']>f['top_chance'] and f['top_p']<.01
    assert f['rho']==pytest.approx(f['others']+f['excess'])

def test_layout_agreement_by_hand():
    a = pd.DataFrame([[1,2,3],[3,2,1],[1,3,2.]], columns=['I','II','V1'])
    f = layout_agreement(a, a.assign(outside=9), 50)
    assert f['rho']==pytest.approx(1) and f['top']==1 and f['n']==3
    assert f['others'] == pytest.approx(
        np.mean([spearmanr(a.loc[i], a.loc[j]).statistic for i in range(3) for j in range(3) if i != j])
    )

def test_own_agreement_by_hand():
    rng = np.random.default_rng(0)
    a, b = (shares(rng, 0, n=5).set_index(pd.Index(list('vwxyz'))) for _ in range(2))
    b.iloc[1] = np.nan
    f = own_agreement(a, b)
    assert list(f.index)==list('vxyz')
    assert f.rho['x']==pytest.approx(spearmanr(a.loc['x'], b.loc['x']).statistic)
    assert f.others['x']==pytest.approx(np.mean([spearmanr(a.loc['x'], b.loc[o]).statistic for o in 'vyz']))
    assert np.allclose(f.excess, f.rho-f.others) and own_agreement(a, a).rho.to_numpy()==pytest.approx(1)
    assert layout_agreement(a, b, 20)['rho']==pytest.approx(f.rho.mean())
    assert own_agreement(a, b.iloc[::-1]).equals(f), 'rows go by their names'
    with pytest.raises(ECGError, match='same recordings'): own_agreement(a, b.rename(dict(v='u')))

def test_zero_maps_are_left_out():
    rng = np.random.default_rng(0)
    a, b = shares(rng, 0), shares(rng, 0)
    a.iloc[3] = np.nan
    assert layout_agreement(a, b, 20)['n']==39
    with pytest.raises(ECGError, match='3 of each'): layout_agreement(a.head(2), b.head(2))

# --- known places

def test_enrichment_and_pointing(scene):
    page, x, blank, where, model = scene
    region = where.expand(6, 60, 100)
    area_share = where.mean().item()
    assert enrichment(region, region) == pytest.approx(1 / area_share) and enrichment(
        torch.ones(6, 60, 100), region
    ) == pytest.approx(1)
    ink = ink_of(x, blank)
    assert enrichment(ink, region, ink)==pytest.approx(1) and np.isnan(enrichment(torch.zeros(6,60,100), region)).all()
    m = torch.zeros(1, 60, 100)
    m[0, 41, 30] = 1 # two pixels below
    assert pointing(m, region[:1])==[0.] and pointing(m, region[:1], 2)==[1.] and pointing(m, region[:1], 1)==[0.]
    assert np.isnan(pointing(torch.zeros(1,60,100), region[:1]))[0]

def test_gradient_of_such_a_model_lies_where_it_looks(scene):
    page, x, blank, where, model = scene
    assert enrichment(guided_backprop(model, x, 1), where.expand(6,60,100))==pytest.approx(1/where.mean().item())

def test_regions():
    page = canvas('3x4+1', (100,100))
    r = lead_regions(page, [LEADS.index('II'), LEADS.index('V6')])
    assert r[0].sum()/1e4==pytest.approx(.25*.25+.25) and r[1].sum()/1e4==pytest.approx(.25*.25)
    recs = [simulate('SR', 1), simulate('AFIB', 1)]
    p = phase_regions(page, [beat_phases(o) for o in recs], [0])
    assert p[0].any() and not p[1].any()
    every = phase_regions(page, [beat_phases(o) for o in recs], range(4))
    assert torch.allclose(every, torch.ones_like(every))

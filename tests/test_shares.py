"Dense checks of `ecg_arrhythmia.explanation.shares`: shares add up and are where the mass is, waves lie where they are"
import numpy as np, pytest, torch

from ecg_arrhythmia.charts.layouts import LAYOUTS
from ecg_arrhythmia.charts.raster import canvas
from ecg_arrhythmia.data.recordings import LEADS, Recording
from ecg_arrhythmia.core import ECGError
from ecg_arrhythmia.explanation.shares import (
    beat_phases, share_per_lead, share_per_phase, share_per_second)
from ecg_arrhythmia.data.simulation import simulate

pytestmark = pytest.mark.filterwarnings('ignore')

@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('paper', ['bare', 'standard'])
def test_shares_by_lead_add_up_and_find(layout, paper):
    page, rng = canvas(layout, (90, 150), 'leads', paper=paper), np.random.default_rng(0)
    a = torch.tensor(rng.normal(size=(2, 3, 90, 150)))
    overlaid = page.boxes().duplicated(['row','x0','x1']).any()
    if overlaid and layout=='rhythm12': a = a.abs()
    s = share_per_lead(a, page)
    assert np.allclose(s.sum(axis=1), 1) and ('outside' in s)==(paper=='standard')
    if overlaid:
        with pytest.raises(ECGError, match='cannot tell them apart'):
            share_per_lead(a.sum(1), page)
        with pytest.raises(ECGError, match='cannot tell them apart'):
            share_per_lead(a, canvas(layout, (90, 150), 'grey', paper=paper))

def test_share_is_where_the_mass_is():
    page = canvas('3x4+1', (224,224))
    for lead in ('V1', 'II'):
        for b in page.boxes().query('lead==@lead').itertuples():
            a = torch.zeros(1, 224, 224)
            a[0, int(b.y0)+2:int(b.y1)-1, int(b.x0)+1:int(b.x1)-1] = -1
            assert share_per_lead(a, page)[lead][0]==pytest.approx(1)

def test_strip_channels_are_leads():
    page = canvas('strip', (80,640), 'leads')
    a = torch.zeros(1, 3, 80, 640)
    a[0,1] = 1
    assert share_per_lead(a, page).loc[0].to_dict()==dict(II=0, V1=1, V5=0)
    x = torch.from_numpy(1 - page(simulate('SR', 1).signal[None]).numpy()/255) # ink of channel k is the lead's
    flat = simulate('SR', 1).signal.copy()
    flat[LEADS.index('V1')] = 0
    y = torch.from_numpy(1 - page(flat[None]).numpy()/255)
    assert torch.equal(x[:,0], y[:,0]) and torch.equal(x[:,2], y[:,2]) and not torch.equal(x[:,1], y[:,1])

def test_zero_maps_have_no_shares():
    page = canvas('3x4', (64,64))
    assert share_per_lead(torch.zeros(1,64,64), page).isna().all(axis=None)

@pytest.mark.parametrize('layout', LAYOUTS)
def test_time_is_shared_out(layout):
    page = canvas(layout, (90,150), 'leads')
    a = torch.rand(2, 90, 150)
    s = share_per_second(a, page)
    assert np.allclose(s.sum(axis=1), 1) and s.shape==(2,10)
    even = share_per_second(torch.ones(1, 90, 150), page, 2.5).loc[0]
    rows = {
        c: (
            page.boxes()
            .drop_duplicates(['row', 'x0', 'x1'])
            .pipe(lambda b: ((b.start < c + 2.5) & (b.start + b.seconds > c)).sum())
        )
        for c in even.index
    }
    assert (even>0).all() and len(rows)==4

def test_phases():
    rec = simulate('SR', 3)
    page, p = canvas('12x1', (240, 2000)), beat_phases(rec)
    a, b = rec.truth['qrs'][4]
    m = torch.zeros(1, 240, 2000)
    m[..., int(a*200)+1:int(b*200)-1] = 1
    assert share_per_phase(m, page, [p]).QRS[0]==pytest.approx(1)
    area = share_per_phase(torch.ones(1,240,2000), page, [p]).loc[0]
    assert np.allclose(area, np.bincount(p, minlength=4)/len(p), atol=1e-6)
    with pytest.raises(ECGError, match='as many recordings'): share_per_phase(m, page, [])

def test_phases_measured():
    "Measured QRS lies where the true one is; AFIB has no P by truth"
    rec = simulate('SB', 3, noise=.2)
    true, found = beat_phases(rec), beat_phases(Recording(rec.signal, rec.fs))
    whole = slice(1000, 4000)
    assert ((true==1)&(found==1))[whole].sum() > .8*(true==1)[whole].sum()
    assert (found[whole][true[whole]==0]==0).mean() > .5
    assert not (beat_phases(simulate('AFIB', 3))==0).any()
    with pytest.raises(ECGError, match='beats'): beat_phases(Recording(np.zeros((12,5000)), 500))

"Checks of layouts, chart and raster: geometry to the pixel, every layout, size and style, nothing lost"
import io, os, subprocess, sys
from dataclasses import replace

import numpy as np, pytest, torch
from PIL import Image

from ecg_arrhythmia.charts.coverage import ink_coverage
from ecg_arrhythmia.charts.chart import draw, outside_cells
from ecg_arrhythmia.charts.layouts import (
    Cell, LAYOUTS, Layout, PAPERS, Paper, STYLES, Style, VIEWS, cell_boxes, get_layout,
    grid_layout, page_size)
from ecg_arrhythmia.core import named
from ecg_arrhythmia.charts.raster import Canvas, boxes, canvas, rasterise
from ecg_arrhythmia.data.recordings import LEADS, Recording, as_charted
from ecg_arrhythmia.core import ECGError
from ecg_arrhythmia.data.simulation import simulate

FLAT = np.zeros((12, 5000), np.float32)
HEART = np.stack([simulate(r, seed=2).signal for r in ('SR', 'AFIB')])
ONE = Layout('one', (Cell('II', 0., 10., 0, 0.),), row_height=40.) # a page of 250 x 40 mm on bare paper
BARE_FAST = Paper(50., 10., 0., False)

def fails(*says): return pytest.raises(ECGError, match='(?s)'+'.*'.join(says))
EXACT = replace(STYLES['grey'], levels=256)
def ink(signals, *a, style=EXACT, **kw):
    return 1 - rasterise(np.asarray(signals), *a, style=style, **kw)[:,0].numpy()/255.
def centre(x): return (x*(np.arange(len(x))+.5)).sum()/x.sum() # of ink, in pixels
def square(t=2., seconds=.2, lead='II', height=1.):
    x = FLAT.copy(); x[LEADS.index(lead), round(t*500):round((t+seconds)*500)] = height
    return x

# --- geometry

@pytest.mark.parametrize('paper,size,rise,fall,base,top', [
    ('bare', (160, 1000), 200, 220, 80, 40), ('bare', (80, 500), 100, 110, 40, 20),
    ('bare', (160, 500), 100, 110, 80, 40), ('bare', (400, 2000), 400, 440, 200, 100),
    ('bare', (224, 224), 44.8, 49.28, 112, 56), ('bare', (300, 300), 60, 66, 150, 75),
    ('standard', (200, 1080), 260, 280, 100, 60), ('half', (200, 1080), 260, 280, 100, 80),
    ('double', (200, 1080), 260, 280, 100, 20), ('fast', (100, 1040), 230, 250, 50, 30),
    ('slow', (200, 580), 160, 170, 100, 60), (BARE_FAST, (80, 1000), 200, 220, 40, 20)])
def test_square_wave(paper, size, rise, fall, base, top):
    "1 mV for 0.2 s at 2 s, against figures worked out by hand"
    both = ink([square(), FLAT], ONE, size, paper=paper)
    x = (both[0]-both[1])[:, round(rise)-8:round(fall)+9]            # without the calibration pulse
    line, plateau = both[1][:,round(rise)-5], both[0][:,round((rise+fall)/2)]
    assert centre(line)==pytest.approx(base, abs=.02) and centre(plateau)==pytest.approx(top, abs=.02)
    assert line.sum()==plateau.sum()==pytest.approx(max(1, .5/72*25.4*size[0]/page_size(ONE,
        named(paper, PAPERS, ''))[1]), abs=.02), 'the pen is half a point, at least a pixel'
    middle = x[round((base+top)/2)-1:round((base+top)/2)+1].mean(0)  # two strokes, up and down
    half = len(middle)//2
    up, down = centre(middle[:half])+round(rise)-8, centre(middle[half:])+half+round(rise)-8
    # the stroke lies between two samples, 2 ms
    assert down-up==pytest.approx(fall-rise, abs=.13) and up==pytest.approx(rise, abs=.35)

def test_page_and_pulse():
    assert page_size(ONE, PAPERS['bare'])==(250, 40) and page_size(ONE, PAPERS['standard'])==(270, 50)
    assert page_size(LAYOUTS['3x4+1'], PAPERS['standard'])==(270, 130)
    x = ink([FLAT], ONE, (200, 1080), paper='standard')[0]
    assert centre(x[54:66,34])+54==pytest.approx(60, abs=.5) and centre(x[90:110,22])+90==pytest.approx(100,
        abs=.5), 'the pulse is 1 mV high'
    mid = x[80,:60]
    assert centre(mid[:34])==pytest.approx(24, abs=.8) and centre(mid[34:])+34==pytest.approx(44,
        abs=.8), '... and 0.2 s wide'
    assert not x[:,:19].any()

@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('paper', ['bare', 'standard'])
def test_spike_is_where_the_boxes_say(layout, paper):
    "1 mV at a moment of a lead: in each of the lead's boxes that shows the moment, and nowhere else"
    size, moments = (160, 500), (1.13, 6.2)
    b = boxes(layout, size, paper=paper)
    cases = [(lead, t) for lead in LEADS for t in moments]
    spikes = np.stack([square(t, .006, lead) for lead,t in cases])
    base, seen = ink([FLAT], layout, size, paper=paper)[0], ink(spikes, layout, size, paper=paper)
    assert (
        get_layout(layout).seconds == 10
        and {l.lstrip('-') for l in b.lead} == set(LEADS)
        or layout == 'rhythm'
        or layout in VIEWS['strips']
    )
    for (lead,t),image in zip(cases, seen):
        there, allowed = np.argwhere(abs(image-base)>.02), np.zeros(size, bool)
        for c in b.itertuples():
            if c.lead.lstrip('-')!=lead or not c.start<=t<c.start+c.seconds: continue
            x = c.x0 + (t-c.start)/c.seconds*(c.x1-c.x0)
            mv = 10*size[0]/page_size(get_layout(layout), PAPERS[paper])[1]*(-1 if c.lead[0]=='-' else 1)
            top, bottom = sorted((c.zero, c.zero-mv))
            allowed[max(0, int(top-2)):int(bottom+2), int(x-2):int(x+4)] = True
            ys = there[(there[:,1]>=x-2)&(there[:,1]<x+4)&(there[:,0]>=top-2)&(there[:,0]<bottom+2)]
            assert len(ys), (lead, t, c)
            tip = ys[:,0].min() if mv>0 else ys[:,0].max()
            assert abs(tip+.5-(c.zero-mv))<1.6, 'the tip is at 1 mV'
        assert allowed[tuple(there.T)].all(), (lead, t)

def test_cabrera_turns_avr():
    b = boxes('cabrera', (150, 500)).set_index('lead')
    assert list(b.index[:6])==['aVL', 'I', '-aVR', 'II', 'aVF', 'III']
    up, down = ink([square(1., .4, 'aVR', v) for v in (.5, -.5)], 'cabrera', (150, 500))
    z, mm = b.zero['-aVR'], 150/150 # pixels a mm
    assert centre(up[int(z)-12:int(z)+13, 60])+int(z)-12==pytest.approx(z+5*mm, abs=.1)
    assert centre(down[int(z)-12:int(z)+13, 60])+int(z)-12==pytest.approx(z-5*mm, abs=.1)

def test_time_runs_on_from_column_to_column():
    for layout,cols,w in (('3x4', 4, 2.5), ('6x2', 2, 5.)):
        b = boxes(layout, (100, 1000))
        assert (b.x0/100).tolist()==pytest.approx(b.start.tolist()) and set(b.start)=={i*w for i in range(cols)}
    assert list(boxes('3x4+1-chest').lead[:3])==['V1', 'V2', 'V3']
    assert list(boxes('6x2').lead)==list(LEADS) and boxes('3x4+1').lead.iloc[-1]=='II'
    assert boxes('3x4+1').seconds.iloc[-1]==10

@pytest.mark.parametrize('t', [0., 9.998])
def test_first_and_last_sample_are_drawn(t):
    x = ink([square(t, .002)], ONE, (160, 1000))[0]
    edge = x[:,:2].sum(1) if t==0 else x[:,-2:].sum(1)
    assert edge[40:42].sum()>.3 and edge[60]>.3

# --- nothing is lost

@pytest.mark.parametrize('layout,size', [('3x4+1', (224, 224)), ('12x1', (224, 224)), ('6x2', (100, 96)),
    ('rhythm12', (64, 64))])
def test_no_peak_is_lost(layout, size):
    "A spike of one sample, anywhere, reaches its full height in the image"
    where = np.random.default_rng(0).integers(0, 5000, 48)
    x = np.zeros((48, 12, 5000), np.float32)
    x[np.arange(48), :, where] = 1.
    base, b = ink([FLAT], layout, size)[0], boxes(layout, size)
    mm = size[0]/page_size(get_layout(layout), PAPERS['bare'])[1]
    for image,i in zip(ink(x, layout, size), where):
        for c in b.itertuples():
            if not c.start <= i/500 < c.start+c.seconds: continue
            col = min(int(c.x0+(i/500-c.start)/c.seconds*(c.x1-c.x0)), size[1]-1)
            row = c.zero - 10*mm
            assert image[max(0, int(row-.5)):int(row+1.5), max(0, col-1):col+2].sum()>=.2, (c.lead, i)

def test_peaks_beyond_the_page_stay_on_its_edge():
    for v,row in ((50., 0), (-50., 159), (1e30, 0), (-1e30, 159)):
        x = square(2., .2, 'II', v)
        a = ink([x], ONE, (160, 1000))[0]
        assert (a[row,202:218]>.99).all() and np.isfinite(a).all() and a.sum(1)[80-1:80+1].sum()>900
        colour = rasterise(x[None], 'rhythm12', (160, 160), style='leads')[0]
        calm = rasterise(FLAT[None], 'rhythm12', (160, 160), style='leads')[0]
        assert [(colour[k]!=calm[k]).any().item() for k in range(3)]==[True, False, False], 'other inks are left alone'

@pytest.mark.parametrize('style', STYLES)
@pytest.mark.parametrize('layout', LAYOUTS)
def test_every_layout_size_and_style(layout, style):
    for size in ((224, 224), (300, 300), (100, 400)):
        x = rasterise(HEART, layout, size, style=style)
        assert x.dtype==torch.uint8 and x.shape==(2, 1 if style=='grey' else 3, *size) and not torch.equal(x[0], x[1])
        assert all(torch.equal(rasterise(HEART[i:i+1], layout, size, style=style)[0],
            x[i]) for i in range(2)), 'a batch is its images'
        calm = rasterise(FLAT[None], layout, size, style=style)[0]
        assert .01 < (x[0]!=calm).float().mean() < .9
        b = boxes(layout, size, style)
        assert len(b)==len(LAYOUTS[layout].cells) and (b.x0>=-1e-6).all() and (b.y0>=-1e-6).all()
        assert (b.x1<=size[1]+1e-6).all() and (b.y1<=size[0]+1e-6).all()
        assert ((b.x1-b.x0)>1).all() and ((b.y0<b.zero)&(b.zero<b.y1)).all()

def test_chunks_and_threads_change_nothing():
    x = np.concatenate([HEART]*20)
    c = canvas('3x4+1', (64, 64))
    assert torch.equal(c(x, chunk=3), c(x)) and c(x[:0]).shape==(0, 1, 64, 64)

def test_inputs_of_any_kind():
    a = rasterise(HEART, size=(64, 64))
    for x in (HEART.astype(np.float64), torch.from_numpy(HEART), torch.from_numpy(HEART).double(),
        np.asfortranarray(HEART), HEART[::-1].copy()[::-1].copy()):
        assert torch.equal(rasterise(x, size=(64, 64)), a)
    keep = HEART.copy(); rasterise(HEART); assert (keep==HEART).all()

def test_sampling_rate():
    t = np.arange(5000)/500
    x = np.tile(.6*np.sin(2*np.pi*1.3*t), (1, 12, 1)).astype(np.float32)
    assert abs(ink(x, '6x2', (200, 300))-ink(x[:,:,::2], '6x2', (200, 300), fs=250)).mean()<.01

def test_longer_recordings_show_their_beginning():
    long = np.concatenate([HEART, HEART[:,:,::-1]], 2)
    a, b = rasterise(long, '3x4', (64, 64)), rasterise(HEART, '3x4', (64, 64))
    assert (a[:,:,:,:-1]==b[:,:,:,:-1]).all()

def test_keep_aspect():
    "250 x 150 mm into 300 x 300: 1.2 pixels a mm, 60 rows of blank paper above and below"
    for style in STYLES:
        x, b = rasterise(HEART/4, '3x4+1', (300, 300), style=style, keep_aspect=True), boxes('3x4+1', (300, 300), style,
            keep_aspect=True)
        h = page_size(LAYOUTS['3x4+1'], PAPERS['bare'])[1]
        assert h==120 and b.y0.min()==pytest.approx(78) and b.y1.max()==pytest.approx(222)
        assert b.x1.max()==pytest.approx(300) and b.x0.min()==pytest.approx(0)
        if style!='paper': assert (x[:,:,:77]==255).all() and (x[:,:,223:]==255).all()
    one = ink([square()], ONE, (300, 300), keep_aspect=True)[0]
    assert centre(one[:,62:64].sum(1))==pytest.approx(150-10*1.2, abs=.1)
    assert centre(one[:,30])==pytest.approx(150, abs=.1)
    assert boxes(ONE, (160, 1000), keep_aspect=True).equals(boxes(ONE, (160, 1000)))

def test_grid_is_true_to_scale():
    p = Paper(margin=0., pulse=False)
    page = Canvas(ONE, (320, 2000), Style(((0.,0.,0.),), (1.,0.,0.), None), p).background()
    for across,n in ((page[1,20], 2000), (page[1,:,100], 320)): # between the lines of the other direction
        dark = np.flatnonzero(across<.95)
        lines = [g.mean()+.5 for g in np.split(dark, np.flatnonzero(np.diff(dark)>1)+1)]
        assert lines[1:-1]==pytest.approx(range(40, n, 40), abs=.01), 'major lines every 5 mm: 0.2 s, 0.5 mV'

# --- against a slow drawing, column by column

def by_the_book(x, layout, size, style, paper='bare', fs=500., oversample=4):
    "One signal as `rasterise` should draw it, in float64: extremes of the polyline in each fine column, half a pen around"
    c, (h, w) = Canvas(layout, size, style, paper, fs, oversample=oversample), size
    (sx, sy), half = c.scale, max(c.style.line*c.scale[1], c.style.min_px)/2
    ink, pen = np.zeros((c.n_inks, h, w)), round(max(c.style.line*sx, c.style.min_px)*oversample/2)
    for cell,(x0,_,x1,_,zero) in zip(c.layout.cells, cell_boxes(c.layout, c.paper)*[sx, sy, sx, sy, sy]):
        y = x[LEADS.index(cell.lead.lstrip('-'))].astype(float)*(-1 if cell.lead[0]=='-' else 1)
        ks = np.arange(np.floor(x0*oversample+1e-6), np.ceil(x1*oversample-1e-6))
        edges = np.clip(np.append(ks, ks[-1]+1)/oversample, x0, x1)
        t = np.clip((cell.start + (edges-x0)/(x1-x0)*cell.seconds)*fs, 0, len(y)-1)
        for i,k in enumerate(ks):
            a, b = t[max(0, i-pen)], t[min(len(ks), i+1+pen)]
            v = np.append(y[int(np.ceil(a-1e-9)):int(np.floor(b+1e-9))+1], np.interp([a, b], np.arange(len(y)), y))
            top, bottom = (np.clip(zero*1. - e*c.paper.gain*sy, half, h-half) + d for e,d in ((v.max(), -half),
                (v.min(), half)))
            row = np.arange(h)
            ink[0 if c.style.grey else cell.ink % len(c.style.inks), :,
                min(int(k//oversample), w-1)] += (edges[i+1]-edges[i])*np.clip(np.minimum(bottom,
                row+1)-np.maximum(top, row), 0, 1)
    absorbs = 1 - np.array(c.style.inks)[:c.n_inks,:c.channels]
    return 255*c.background()*np.prod(1 - ink.clip(0, 1)[:,None]*absorbs[:,:,None,None], 0)

BOOK = [('3x4+1', (224, 224), 'grey', {}), ('rhythm12', (224, 224), 'leads', {}),
    ('3x4+1', (120, 160), 'paper', {}), ('cabrera', (96, 512), 'leads', {}),
    ('6x2', (300, 300), 'paper', dict(paper='double')),
    ('rhythm', (64, 1024), 'leads', dict(fs=100.)), ('12x1', (200, 600), 'grey', dict(fs=100.)),
    ('rhythm12', (100, 100), 'leads', dict(fs=1000.)), ('3x4+3', (90, 130), 'grey', dict(oversample=1)),
    ('3x4', (90, 131), 'grey', dict(oversample=7)),
    (Layout('odd', (Cell('II', .3, 3.7, 0, 0.), Cell('-V1', 1.1, 2.2, 0, 3.9, 1), Cell('I', 0., 1., 1, .55))),
    (61, 117), 'leads', {}), (Layout('crowd', tuple(Cell(l, 0., 5., 0, 0.) for l in LEADS*4)), (40, 90), 'grey',
    {}), (Layout('mob', tuple(Cell(l, 0., 5., 0, 0.) for l in LEADS*20)), (40, 20), 'grey', {})]

@pytest.mark.parametrize('layout,size,style,kw', BOOK, ids=[f"{getattr(b[0], 'name', b[0])}-{b[2]}" for b in BOOK])
def test_as_by_the_book(layout, size, style, kw):
    "Within one of 256 shades, whatever the sampling rate, the fineness of the columns and the number of traces in a place"
    fs = kw.get('fs', 500.)
    x = HEART[1] if fs==500 else np.stack([np.interp(np.arange(0, 10, 1/fs), np.arange(5000)/500,
        lead) for lead in HEART[1]]).astype(np.float32)
    style = replace(STYLES[style], levels=256)
    # 20 times the same trace, 1/4096 of a pixel off
    assert abs(rasterise(x[None], layout, size, style=style, **kw)[0].numpy() - by_the_book(x, get_layout(layout), size,
        style, **kw)).max() <= (2 if 'mob' in repr(layout) else 1)

@pytest.mark.parametrize('rate', [20, 50, 100, 125, 250])
def test_sampling_rate_does_not_matter_to_a_polyline(rate):
    "The same polyline, given by its corners or by five times as many samples, is the same picture"
    t = np.arange(0, 10, 1/rate)
    x = np.random.default_rng(0).normal(0, .5, (1, 12, len(t))).astype(np.float32)
    fine = np.stack([np.interp(np.arange(0, 10, .2/rate), t, lead) for lead in x[0]])[None].astype(np.float32)
    for layout,size in (('rhythm12', (64, 900)), ('6x2', (224, 224))):
        assert abs(ink(x, layout, size, fs=rate)-ink(fine, layout, size, fs=5*rate)).max() <= 1.01/255

def test_many_shades():
    "Any number of shades from 2 to 256, evenly spread from black to white"
    for levels in (2, 3, 4, 6, 10, 16, 52, 100, 256):
        x = rasterise(HEART, style=replace(STYLES['grey'], levels=levels)); fine = rasterise(HEART, style=EXACT)
        assert set(x.unique().tolist()) <= {int(i*255/(levels-1)+.5) for i in range(levels)}
        assert {0, 255} <= set(x.unique().tolist())
        assert (x.int()-fine.int()).abs().max() <= 128/(levels-1)+1
    with fails('at least 2 levels'): rasterise(HEART, style=replace(STYLES['grey'], levels=1))

def test_fewer_inks_than_channels():
    "An ink that a layout does not use leaves its channel white"
    x = rasterise(HEART, '3x4', style='leads')
    assert (x[:,2]==255).all() and (x[:,0]<255).any() and (x[:,1]<255).any()

def test_gradients_and_modes_are_left_alone():
    x = torch.tensor(HEART, requires_grad=True)
    with torch.inference_mode(): a = rasterise(x)
    b = rasterise(x)
    assert torch.equal(a, b) and not b.requires_grad and not b.is_inference() and b.add_(1) is b

# --- what is refused

def test_outside_cells():
    "A plateau of 2 mV for a fifth of the time, half a cell is 1.5 mV: 5 mm beyond; an offset alone is inside"
    x = FLAT.copy()
    x[LEADS.index('II'),:1000] = 2
    two = Layout('two', (Cell('II', 0., 10., 0, 0.), Cell('V1', 0., 10., 1, 0.)))
    found = outside_cells(Recording(x, check=False), two)
    assert (
        found.lead.tolist() == ['II']
        and found.beyond[0] == pytest.approx(5, abs=0.01)
        and found.share[0] == pytest.approx(0.2, abs=0.01)
    )
    assert found.cut[0] and not outside_cells(Recording(-x, check=False), two).cut[0]
    assert not len(outside_cells(Recording(FLAT+4.5, check=False), '12x1'))
    assert outside_cells(Recording(np.full_like(FLAT, np.nan), check=False), '12x1').empty

@pytest.mark.parametrize('layout,style', [('3x4+1', 'grey'), ('strip', 'leads'), ('6x2', 'paper'), ('cabrera', 'leads')])
def test_a_gpu_draws_the_same_bytes(layout, style):
    "What differs on a GPU, on a CPU: four bytes a pixel, another chunk, and sums in another order"
    c = Canvas(layout, (80, 200), style)
    signals = torch.from_numpy(HEART)
    want = c(signals)
    on = c._plans[signals.device, signals.shape[2]]
    assert on.dtype==torch.int16
    on.dtype = torch.int32
    assert torch.equal(c(signals, chunk=1), want)
    order = torch.randperm(on.table['place'].shape[0], generator=torch.Generator().manual_seed(0))
    y = c._extremes(signals, on.table)
    ink = [ink_coverage(y[...,o], on.table['weight'][o], on.table['place'][o],
                         shape=(c.n_inks, *c.size), dtype=torch.int32)
           for o in (torch.arange(len(order)), order)]
    assert torch.equal(*ink)

def test_bytes_without_fused_multiply_add():
    "An old processor, or one whose instructions are hidden, draws what this one draws, and what numpy draws"
    code = ("import hashlib, numpy as np\nfrom ecg_arrhythmia.charts.raster import Canvas\n"
            "from ecg_arrhythmia.data.simulation import simulate\nx = simulate('AF', seed=1).signal[None]\n"
            "for style in ('grey', 'leads', 'paper'):\n    c = Canvas('3x4+1', (100, 300), style)\n"
            "    print(*(hashlib.sha256(a.tobytes()).hexdigest() for a in (c(x).numpy(), c.array(x))))")
    said = {}
    for capability in ('default', 'avx2', ''):
        env = {k: v for k,v in os.environ.items() if k != 'ATEN_CPU_CAPABILITY'}
        if capability: env['ATEN_CPU_CAPABILITY'] = capability
        said[capability] = subprocess.run(
            [sys.executable, '-c', code], env=env, check=True, capture_output=True, text=True
        ).stdout
    assert len(set(said.values()))==1, said
    assert all(a==b for a,b in (line.split() for line in said[''].splitlines()))

@pytest.mark.parametrize('x,says', [(HEART[0], 'must be .batch, 12, samples.*not .12, 5000'),
    (HEART[:,:11], 'not .2, 11, 5000'), (HEART.transpose(0, 2, 1), 'not .2, 5000, 12'),
    (HEART[:,:,:4999], "'3x4.1' shows 10 s.*9.998 s.*standardise"),
    (np.where(np.arange(5000)==7, np.nan, HEART), r'signals \[0, 1\].*missing values'),
    (np.stack([HEART[0], np.full((12, 5000), np.inf, np.float32)]), r'signals \[1\]')])
def test_bad_signals(x, says):
    with fails(says): rasterise(x)

@pytest.mark.parametrize('size', [(224,), (4, 4), (0, 224), (224, -1), (224, 224, 3)])
def test_bad_size(size):
    with fails('height, width'): rasterise(HEART, size=size)

@pytest.mark.parametrize('kw,says', [(dict(layout='3x5'), "unknown layout '3x5'.*3x4, 3x4.1"),
    (dict(style='red'), "unknown style 'red'.*paper, grey, leads"),
    (dict(paper='A4'), "unknown paper 'A4'.*standard, bare")])
def test_unknown_names(kw, says):
    for f in (lambda: rasterise(HEART, **kw), lambda: draw(simulate('SR'), **kw), lambda: boxes(**kw)):
        with fails(says): f()

def test_bad_layouts():
    with fails("unknown lead 'V7'", 'aVR'): grid_layout('x', ['I V7'], 5.)
    for kw in (dict(start=-1.), dict(seconds=0.), dict(row=-1), dict(x=-.1)):
        with fails('0 or more'): Cell(**dict(lead='I', start=0., seconds=5., row=0, x=0.) | kw)
    with fails('no cells'): Layout('x', ())

def test_layouts_of_ones_own(monkeypatch):
    own = grid_layout('own', ['V1 -V2', 'I aVF'], 2.)
    assert own.seconds==4 and rasterise(HEART[:,:,:2000], own, (64, 64)).shape==(2, 1, 64, 64)
    monkeypatch.setitem(LAYOUTS, 'own', own); a = rasterise(HEART, 'own', (64, 64))
    monkeypatch.setitem(LAYOUTS, 'own', grid_layout('own', ['V1 V2', 'I aVF'], 2.))
    assert not torch.equal(a, rasterise(HEART, 'own', (64, 64))), 'a changed entry is seen'
    assert Layout('own', [dict(lead='I', start=0, seconds=1, row=0, x=0)]).cells[0]==Cell('I', 0, 1, 0, 0)

# --- draw

@pytest.mark.parametrize('layout', LAYOUTS)
def test_draw(layout):
    rec = simulate('SR', seed=3); rec.name = 'A_1'
    for style,paper,header in (('paper', 'standard', True), ('grey', 'bare', False), ('leads', 'fast', 'my words')):
        fig = draw(rec, layout, style, paper=paper, header=header)
        w, h = page_size(LAYOUTS[layout], PAPERS[paper])
        assert fig.get_size_inches()*25.4==pytest.approx([w, h+8*bool(header)])
        words = [t.get_text() for t in fig.axes[0].texts]
        assert [w.replace('\N{MINUS SIGN}',
            '-') for w in words[bool(header):]]==([c.lead for c in LAYOUTS[layout].cells] if style=='paper' else [])
        if header:
            assert words[0]=='my words' or all(w in words[0] for w in ('A_1', 'SR', '25 mm/s', '10 mm/mV',
                'simulated', 'years'))

@pytest.mark.parametrize('kind,start', [('svg', b'<?xml'), ('pdf', b'%PDF'), ('png', b'\x89PNG')])
def test_draw_to_bytes(kind, start):
    out = io.BytesIO(); draw(simulate('SB', seed=3), header=True, dpi=50).savefig(out, format=kind)
    assert out.getvalue().startswith(start) and len(out.getvalue())>5000

def test_draw_png_at_any_dpi():
    for dpi in (40, 127):
        out = io.BytesIO(); draw(simulate('SB'), '6x2', paper='bare', dpi=dpi).savefig(out, format='png')
        assert Image.open(out).size==pytest.approx([250/25.4*dpi, 150/25.4*dpi], abs=1)

def test_draw_refuses_short_and_unknown():
    rec = simulate('SR', seconds=8)
    with fails('shows 10 s', '8 s', 'standardise'): draw(rec)
    draw(rec, grid_layout('short', ['I II', 'V1 V2'], 4.))

@pytest.mark.parametrize('layout', ['3x4+1', 'cabrera', 'rhythm12'])
def test_draw_and_rasterise_agree(layout):
    "Drawn at 4 pixels a mm, ink is within a pixel of the other's ink"
    from scipy.ndimage import binary_dilation
    rec, (w, h) = as_charted(simulate('AFIB', seed=5)), page_size(LAYOUTS[layout], PAPERS['bare'])
    out = io.BytesIO(); draw(rec, layout, 'grey', paper='bare', dpi=4*25.4).savefig(out, format='png')
    drawn = 1 - np.asarray(Image.open(out).convert('L'), float)/255
    raster = ink(rec.signal[None], layout, (round(4*h), round(4*w)))[0][:drawn.shape[0],:drawn.shape[1]]
    drawn = drawn[:raster.shape[0],:raster.shape[1]]
    near = lambda a: binary_dilation(a>.1, np.ones((3, 3)))
    assert (drawn>.5).sum()>1000 and near(raster)[drawn>.5].mean()>.999 and near(drawn)[raster>.5].mean()>.999

# --- what is imported

def python(code): return subprocess.run([sys.executable, '-c', code], check=True, capture_output=True, text=True).stdout

def test_import_is_light():
    python(
        "import sys, ecg_arrhythmia.charts.chart, ecg_arrhythmia.charts.raster; bad = "
        "{'matplotlib', 'fastai', 'sklearn', 'scipy', 'lmdb'} & set(sys.modules); assert not bad, bad"
    )

def test_draw_leaves_pyplot_alone():
    python(
        "import sys, io; from ecg_arrhythmia.charts.chart import draw; from ecg_arrhythmia.data.simulation import simulate\n"
        "draw(simulate('SR'), header=True).savefig(io.BytesIO(), format='svg')\nassert 'matplotlib.pyplot' not in "
        "sys.modules and 'torch' not in sys.modules"
    )

"""Pictures of charts are read back to the samples, or refused."""
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pytest
from PIL import Image

from ecg_arrhythmia.charts.chart import draw
from ecg_arrhythmia.charts.layouts import Cell, Layout, Paper
from ecg_arrhythmia.core import ECGError
from ecg_arrhythmia.data.formats import read_recording
from ecg_arrhythmia.data.recordings import LEADS, remove_level
from ecg_arrhythmia.data.simulation import simulate
from ecg_arrhythmia.pictures import reading
from ecg_arrhythmia.pictures.files import decode_pages
from ecg_arrhythmia.pictures.grid import grid_signal
from ecg_arrhythmia.pictures.ink import dark_on_light, plane_of, without_lines
from ecg_arrhythmia.pictures.lines import find_grid
from ecg_arrhythmia.pictures.pen import Across, ink_runs, Runs
from ecg_arrhythmia.pictures.measures import signal_to_noise
from ecg_arrhythmia.pictures.overlay import lattice_lines, overlay_page, path_lines
from ecg_arrhythmia.pictures.pdf import CrowdedPage
from ecg_arrhythmia.pictures.plans import planned, plans
from ecg_arrhythmia.pictures.columns import column_edges
from ecg_arrhythmia.pictures.reading import read_image, read_picture, save_reading
from ecg_arrhythmia.pictures.scale import agreeing, gains_beside
from ecg_arrhythmia.pictures.sheet import Placed, Pulse, Sheet, Trace
from ecg_arrhythmia.pictures.tracing import sheet_of
from ecg_arrhythmia.pictures.ways import follow, thickness
from ecg_arrhythmia.reporting.prints import chart_picture, printed

REC = simulate('SR', seed=3)


def error(reading, rec=REC):
    "RMSE in mV over the samples that were read"
    n = min(rec.signal.shape[1], reading.recording.signal.shape[1])
    e = reading.recording.signal[:,:n]-remove_level(rec.signal)[:,:n]
    return float(np.sqrt(np.nanmean(e**2)))


def picture(tmp_path, layout='3x4+1', dpi=150, **kwargs):
    draw(REC, layout, dpi=dpi, **kwargs).savefig(tmp_path/'chart.png')
    return np.asarray(Image.open(tmp_path/'chart.png').convert('RGB'))


@pytest.mark.parametrize('layout,name', [('3x4', '3x4'), ('3x4+1', '3x4+1'), ('3x4+1-chest', '3x4-chest+1'), ('3x4+3', '3x4+3'),
    ('6x2', '6x2'), ('6x2-chest', '6x2-chest'), ('cabrera', '6x2-cabrera'), ('12x1', '12x1')])
@pytest.mark.parametrize('paper', [Paper(), Paper(speed=50.), Paper(gain=5.)])
def test_vector_pdf(tmp_path, layout, name, paper):
    draw(REC, layout, paper=paper).savefig(tmp_path/'chart.pdf')
    r = read_picture(tmp_path/'chart.pdf')
    assert (r.layout, r.speed, r.gain, r.vector) == (name, paper.speed, paper.gain, True)
    assert error(r)<.0005


def test_vector_pdf_is_exact(tmp_path):
    draw(REC, '6x2').savefig(tmp_path/'chart.pdf')
    assert error(read_picture(tmp_path/'chart.pdf'))<.0005


def test_raster(tmp_path):
    r = read_image(picture(tmp_path, dpi=200))
    assert (r.layout, r.speed, r.gain) == ('3x4+1', 25., 10.)
    assert error(r)<.08 and np.isfinite(r.recording.signal).mean()>.29


def test_narrow_waves_keep_their_tips(tmp_path):
    "Deep, narrow waves are neither bars nor lines of the grid"
    spiky = replace(REC, signal=REC.signal.copy())
    for at in range(200, 5000, 400): spiky.signal[6:,at-8:at+9] -= 1.2*(1-np.abs(np.arange(-8, 9))/8)
    draw(spiky, '3x4', dpi=150).savefig(tmp_path/'chart.png')
    r = read_image(np.asarray(Image.open(tmp_path/'chart.png').convert('RGB')))
    want, got = remove_level(spiky.signal), r.recording.signal
    deep = np.isfinite(got)&(want[:,:got.shape[1]]<-.8)
    assert deep.sum()>100 and np.median((got-want[:,:got.shape[1]])[deep])<.12


def test_the_pen_is_not_thicker_for_noise():
    y = 40+3*np.random.default_rng(0).normal(size=300)
    ink = np.zeros((80, 300), np.float32)
    for x in range(299):
        a, b = sorted(y[x:x+2])
        ink[int(a)-1:int(b)+2,x] = 1.
    runs = ink_runs(ink, np.zeros(ink.shape, np.int8), .5)
    assert thickness(runs, np.arange(300-1), Across(ink, .5))<=np.median(runs.tall)


def test_a_tall_wave_is_no_line_of_the_grid():
    ink = np.zeros((1000, 400), np.float32)
    ink[:,100], ink[100:250,200] = .5, 1.
    clean, left = without_lines(ink, (6., 6.))
    assert clean[:,100].max()<.1 and clean[100:250,200].min()>.8


def test_rows_are_followed_together_as_alone():
    rng = np.random.default_rng(1)
    columns = np.repeat(np.arange(200), 4)
    tops = np.tile([20., 50., 55., 90.], 200)+rng.normal(size=800)
    runs = Runs(columns, tops, tops+2, np.zeros(800, int))
    both = follow(runs, [20., 55.], 40., (6., 6.), width=200)
    for base,path in zip((20., 55.), both): assert (follow(runs, [base], 40., (6., 6.), width=200)[0]==path).all()


def test_a_line_of_text_is_no_row(tmp_path):
    sheet = sheet_of(plane_of(picture(tmp_path, '12x1', dpi=120)))
    apart, first = sheet.bases[1]-sheet.bases[0], sheet.rows[0][0]
    sheet.rows.insert(0, [replace(first, y=first.y-apart+np.random.default_rng(0).normal(size=len(first.y)))])
    sheet.bases.insert(0, sheet.bases[0]-apart)
    sheet.plane.paths.insert(0, sheet.plane.paths[0])
    page, plan = planned(sheet)
    assert plan.name=='12x1' and len(page.rows)==len(page.bases)==len(page.plane.paths)==12


def test_a_crowded_page_is_read_as_a_picture(tmp_path, monkeypatch):
    img = picture(tmp_path, dpi=120)
    draw(REC, '3x4+1').savefig(tmp_path/'chart.pdf')
    def crowded(path): raise CrowdedPage(f'{path}: more than 200,000 objects on a page')
    monkeypatch.setattr(reading, 'read_pdf', crowded)
    monkeypatch.setattr(reading, 'render_pdf', lambda path: [img])
    r = read_picture(tmp_path/'chart.pdf')
    assert r.layout=='3x4+1' and not r.vector


def test_turned_and_tilted(tmp_path):
    im = Image.fromarray(picture(tmp_path))
    r = read_image(np.asarray(im.rotate(180)))
    assert (r.layout, r.turned) == ('3x4+1', 180)
    r = read_image(np.asarray(im.rotate(2, Image.Resampling.BICUBIC, fillcolor='white')))
    assert r.layout == '3x4+1' and r.sheet.plane.places is not None


def test_a_chart_stretched_down_keeps_its_gain(tmp_path):
    im = Image.fromarray(picture(tmp_path))
    r = read_image(np.asarray(im.resize((im.width, round(im.height*1.3)), Image.Resampling.LANCZOS)))
    assert (r.speed, r.gain) == (25., 10.) and error(r)<.12


@pytest.mark.parametrize('make', [lambda: np.full((400,600,3), 255, np.uint8),
    lambda: np.random.default_rng(0).integers(0, 255, (400,600,3)).astype(np.uint8)])
def test_no_ecg_is_refused(make):
    with pytest.raises(ECGError): read_image(make())


def test_one_lead_is_refused(tmp_path):
    img = picture(tmp_path)
    with pytest.raises(ECGError): read_image(img[:img.shape[0]//4])


def test_mutated_files_give_a_reading_or_a_reason(tmp_path):
    rng = np.random.default_rng(0)
    draw(REC, '6x2', dpi=60).savefig(tmp_path/'a.png')
    draw(REC, '6x2').savefig(tmp_path/'a.pdf')
    for name,n in (('a.png', 12), ('a.pdf', 4)):
        whole = (tmp_path/name).read_bytes()
        for i in range(n):
            data = bytearray(whole)
            for j in rng.integers(0, len(data), 8): data[j] = int(rng.integers(0, 256))
            (tmp_path/f'm_{name}').write_bytes(bytes(data[:len(data)-int(rng.integers(0, 200))]))
            try: read_picture(tmp_path/f'm_{name}')
            except ECGError: pass


def test_two_pages_are_one_recording(tmp_path):
    from matplotlib.backends.backend_pdf import PdfPages
    from ecg_arrhythmia.charts.layouts import grid_layout
    with PdfPages(tmp_path / 'two.pdf') as pdf:
        for leads in ('I II III aVR aVL aVF', 'V1 V2 V3 V4 V5 V6'):
            pdf.savefig(draw(REC, grid_layout('half', [leads], 10.0)))
    r = read_picture(tmp_path/'two.pdf')
    assert 'two pages' in r.layout and np.isfinite(r.recording.signal).mean()>.99 and error(r)<.02
    html = overlay_page(r)
    assert len(r.others)==1 and html.count('<image')==2 and html.count('<text')==12


def test_six_rows_of_ten_seconds_are_no_two_columns_of_five(tmp_path):
    from ecg_arrhythmia.charts.layouts import grid_layout
    draw(REC, grid_layout('half', ['I II III aVR aVL aVF'], 10.0), dpi=100).savefig(tmp_path/'limb.png')
    r = read_picture(tmp_path/'limb.png')
    assert r.layout=='6x1' and not np.isfinite(r.recording.signal[6:]).any()
    page = replace(r.sheet, words=[(l, 1., y-1, 2., y+1) for l,y in zip(LEADS, r.sheet.middles)])
    assert not any(p.name=='6x2' for p in plans(page))


@pytest.mark.parametrize('rows', [[LEADS[i:i+3] for i in range(0, 12, 3)], [LEADS[i::4] for i in range(4)]])
def test_four_rows_of_three_leads(tmp_path, rows):
    cells = tuple(Cell(lead, 3*c, 3., r, 3*c, c%2) for r,row in enumerate(rows) for c,lead in enumerate(row))
    draw(REC, Layout('4x3', cells, 26.)).savefig(tmp_path/'chart.pdf')
    r = read_picture(tmp_path/'chart.pdf')
    assert r.layout.startswith('4x3') and (r.speed, r.gain)==(25., 10.) and error(r)<.001


def test_pulses_beside_chest_leads_tell_their_gain():
    x = np.arange(20., 300.)
    sheet = Sheet((320, 130), [[Trace(x, np.full(len(x), y))] for y in (20., 50., 80., 110.)], (1., 1.))
    cells = [Placed(lead, r, 20., 300.) for r,lead in enumerate(('I', 'II', 'V1', 'V2'))]
    pulses = [Pulse(10., 15., y, y-h) for y,h in zip((20., 50., 80., 110.), (10., 10., 5., 5.))]
    sheet.pulses = pulses[:2]
    assert gains_beside(pulses, sheet, cells)==(10., 5.)
    assert gains_beside([*pulses[:3], Pulse(10., 15., 110., 100.)], sheet, cells)==() # the chest leads disagree
    assert gains_beside([*pulses[:2], Pulse(200., 205., 80., 75.)], sheet, cells)==() # a wave
    assert gains_beside(pulses[:2], sheet, cells)==()


def test_scale_that_contradicts_itself_is_refused(tmp_path):
    draw(REC, '6x2', header='25 mm/s   20 mm/mV').savefig(tmp_path/'chart.pdf')
    with pytest.raises(ECGError, match='calibration pulse says'): read_picture(tmp_path/'chart.pdf')


def test_saved_samples_are_read_again(tmp_path):
    draw(REC, '12x1').savefig(tmp_path/'chart.pdf')
    r = read_picture(tmp_path/'chart.pdf')
    for name in ('out.csv', 'out.hea'):
        save_reading(r, tmp_path/name)
        again = read_recording(tmp_path/name, check=False)
        known = np.isfinite(r.recording.signal)
        assert np.abs(again.signal-r.recording.signal)[known].max()<.001
        assert not np.isfinite(again.signal[~known]).any()


def test_page_is_self_contained(tmp_path):
    html = overlay_page(read_image(picture(tmp_path, dpi=120)))
    assert html.count('<text')==13 and 'http' not in html.replace('http://www.w3.org/2000/svg', '')


def test_page_of_paths_shows_the_page_and_its_grid(tmp_path):
    draw(REC, '6x2').savefig(tmp_path/'chart.pdf')
    r = read_picture(tmp_path/'chart.pdf')
    html = overlay_page(r)
    assert r.vector and r.picture.std()>5 and html.count('<image')==1
    across = [l[0,0] for l in path_lines(r.sheet) if l[0,0]==l[1,0]]
    assert np.abs(np.diff(across)/r.sheet.mm[0]-5).max()<.02 and len(across)>40


def test_marked_squares_lie_on_the_grid_of_a_turned_picture(tmp_path):
    "Red lines of the paper are where the lines are marked, on a picture turned by a degree and a half"
    img = Image.fromarray(picture(tmp_path, dpi=120)).rotate(1.5, Image.Resampling.BICUBIC, True, fillcolor='white')
    r = read_image(np.asarray(img))
    redness = np.asarray(img, float)[...,1] # green is what red ink takes
    h, w = redness.shape
    for line in lattice_lines(r.sheet.plane.lattice)[5:-5:7]:
        x, y = (a[(line[:,0]>60)&(line[:,0]<w-60)&(line[:,1]>60)&(line[:,1]<h-60)] for a in line.T)
        if len(x)<5: continue
        here = redness[y.round().astype(int), x.round().astype(int)].mean()
        step = (2, 0) if np.ptp(x)<np.ptp(y) else (0, 2)
        beside = redness[(y+step[1]).round().astype(int), (x+step[0]).round().astype(int)].mean()
        assert here<beside, (x[0], y[0])


def test_command(tmp_path):
    draw(REC, '6x2').savefig(tmp_path/'chart.pdf')
    (tmp_path/'run.py').write_text('from ecg_arrhythmia.commands.pictures import ecg_digitise\necg_digitise()\n')
    run = lambda *args: subprocess.run(
        [sys.executable, 'run.py', *args], cwd=tmp_path, capture_output=True, text=True, env=os.environ
    )
    done = run('chart.pdf', '--out', 'a.csv', '--json')
    assert done.returncode==0, done.stderr
    assert json.loads(done.stdout)['layout']=='6x2' and Path(tmp_path/'a.csv').stat().st_size>1000
    assert run('a.csv').returncode!=0


def reversed_chest():
    from ecg_arrhythmia.charts.layouts import grid_layout
    return grid_layout('reversed', ['I II III', 'aVR aVL aVF', 'V6 V5 V4', 'V3 V2 V1'], 2.5)


@pytest.mark.parametrize('suffix', ['pdf', 'png'])
def test_leads_in_an_order_of_their_own_are_named_by_their_names(tmp_path, suffix):
    path = tmp_path/f'chart.{suffix}'
    draw(REC, reversed_chest(), dpi=150).savefig(path)
    r = read_picture(path)
    rows = {}
    for c in r.plan.cells: rows.setdefault(c.row, []).append(c.lead)
    assert list(rows.values()) == [['I', 'aVR', 'V6', 'V3'], ['II', 'aVL', 'V5', 'V2'], ['III', 'aVF', 'V4', 'V1']]
    assert any('order of their own' in e for e in r.evidence)


def test_without_names_the_order_of_chest_leads_is_said_to_be_assumed(tmp_path):
    from ecg_arrhythmia.charts.layouts import STYLES
    from dataclasses import replace
    r = read_image(picture(tmp_path, '6x2', style=replace(STYLES['paper'], names=False)))
    assert r.status=='doubt' and any('usual order is assumed' in f for f in r.findings)
    assert not any('assumed' in f for f in read_image(picture(tmp_path, '3x4')).findings)


def test_printed_scale_is_read_from_pixels(tmp_path):
    paper = Paper(speed=50., gain=20., pulse=False)
    r = read_image(picture(tmp_path, '6x2', paper=paper, header='50 mm/s   20 mm/mV'))
    assert (r.speed, r.gain) == (50., 20.) and any('20 mm/mV is printed' in e for e in r.evidence)


def test_cabrera_in_four_columns_is_told_by_the_limb_leads(tmp_path):
    from ecg_arrhythmia.charts.layouts import grid_layout
    layout = grid_layout('c', ['aVL I -aVR', 'II aVF III', 'V1 V2 V3', 'V4 V5 V6'], 2.5, strips=['II'])
    draw(REC, layout).savefig(tmp_path/'chart.pdf')
    r = read_picture(tmp_path/'chart.pdf')
    assert r.layout=='3x4-cabrera+1' and error(r)<.001


@pytest.mark.parametrize('size', [.5, .8, 1.5])
@pytest.mark.parametrize('paper', [Paper(), Paper(speed=50.)])
def test_a_pdf_printed_smaller_or_larger_keeps_its_scale(tmp_path, size, paper):
    fig = draw(REC, '3x4+1', paper=paper)
    fig.set_size_inches(fig.get_size_inches()*size)
    fig.savefig(tmp_path/'chart.pdf')
    r = read_picture(tmp_path/'chart.pdf')
    assert (r.speed, r.gain) == (paper.speed, 10.) and error(r)<.001


def test_speed_that_columns_and_pulses_tell_differently_is_refused(tmp_path):
    from ecg_arrhythmia.charts.layouts import grid_layout
    layout = grid_layout('short', ['I II III', 'aVR aVL aVF', 'V1 V2 V3', 'V4 V5 V6'], 1.25)
    with pytest.raises(ECGError, match='no paper speed could be read'):
        read_image(picture(tmp_path, layout, paper=Paper(speed=50.)))
    r = read_image(picture(tmp_path, layout, dpi=200, paper=Paper(speed=50.), header='50 mm/s   10 mm/mV'))
    assert (r.speed, r.gain) == (50., 10.)


def test_aecg(tmp_path):
    draw(REC, '12x1').savefig(tmp_path/'whole.pdf')
    draw(REC, '3x4+1').savefig(tmp_path/'parts.pdf')
    save_reading(read_picture(tmp_path/'whole.pdf'), tmp_path/'whole.xml')
    again = read_recording(tmp_path/'whole.xml').signal
    assert np.abs(again-remove_level(REC.signal)[:,:again.shape[1]]).max()<.01
    with pytest.raises(ECGError, match='cannot say that samples are unknown'):
        save_reading(read_picture(tmp_path/'parts.pdf'), tmp_path/'parts.xml')


def test_heic_is_named(tmp_path):
    (tmp_path/'photo.heic').write_bytes(b'\0\0\0\x18ftypheic'+bytes(500))
    with pytest.raises(ECGError, match='pillow-heif|damaged'): read_picture(tmp_path/'photo.heic')


def test_a_page_with_more_rows_of_the_same_leads_is_no_twelve_leads(tmp_path):
    from ecg_arrhythmia.charts.layouts import grid_layout
    draw(REC, grid_layout('three', ['V1 V2 V5'], 10.)).savefig(tmp_path/'chart.pdf')
    with pytest.raises(ECGError): read_picture(tmp_path/'chart.pdf')


def test_a_printed_rate_that_is_not_that_of_the_beats_lets_no_rhythm_be_named(tmp_path):
    from ecg_arrhythmia.signals.beats import find_beats
    rate = round(60*REC.fs/np.diff(find_beats(REC)).mean())
    for printed,status in ((rate, 'ok'), (2*rate, 'doubt')):
        draw(REC, '3x4+1', header=f'HR {printed} bpm   25 mm/s').savefig(tmp_path/'chart.pdf')
        r = read_picture(tmp_path/'chart.pdf')
        assert (r.rate, r.status)==(printed, status), r.findings
    from ecg_arrhythmia.prediction.answer import predict
    answer = predict(r)
    assert answer.rhythm is None and 'printed' in {f.code for f in answer.findings if f.level=='refuse'}


def test_the_network_reads_a_scan_nearer_to_the_truth():
    img, layout, truth = printed(REC, 'scan colour', 1)
    def snr(reading): return signal_to_noise(truth, reading.recording.signal)['snr']
    with patch('ecg_arrhythmia.pictures.strips.is_spoilt', lambda plane: False): ink = read_image(img)
    network = read_image(img)
    assert (network.layout, network.speed, network.gain) == (layout, 25., 10.)
    assert snr(network)>snr(ink)
    said = [any('network drew the traces again' in e for e in r.evidence) for r in (network, ink)]
    assert said==[True, False]


@pytest.mark.parametrize('turn,curl', [(15., .004), (4., .02)])
def test_a_photo_is_flattened(tmp_path, turn, curl):
    "The grid is followed where the sheet is turned or curled, and the scale is right"
    from ecg_arrhythmia.pictures.grid import density, grid_signal
    from ecg_arrhythmia.pictures.lines import find_grid
    from ecg_arrhythmia.reporting.prints import spoilt
    photo = (('bent', (turn,.06,curl,.06)), ('light', .4), ('blur', .8), ('noise', .02), ('jpeg', 80))
    img = spoilt(picture(tmp_path, dpi=130), photo, np.random.default_rng(5))
    lattice = find_grid(grid_signal(density(img)))
    assert lattice.square==1. and min(lattice.across.fit, lattice.down.fit)>.8
    r = read_image(img)
    assert (r.layout, r.speed, r.gain) == ('3x4+1', 25., 10.)
    assert error(r)<.25

def test_a_chart_above_another_is_said():
    "Two series of rows with a gap between them: one is read, and a doubt names the other, or both are refused"
    one = chart_picture(REC, '3x4+1', dpi=110, header=True)
    assert not any('second chart' in f for f in read_image(one).findings)
    two = np.concatenate([one, np.full((90, *one.shape[1:]), 255, np.uint8), one])
    try: read = read_image(two)
    except ECGError: return
    assert read.status=='doubt' and any('second chart' in f for f in read.findings), read.findings


def test_a_picture_of_a_dark_screen_is_read_as_its_negative(tmp_path):
    img = picture(tmp_path, dpi=100)
    assert dark_on_light(img) is img
    assert (dark_on_light(255-img)==img).all()


def test_light_ink_on_nothing_lies_on_black_and_a_gif_is_a_picture(tmp_path):
    ink = np.zeros((120, 120, 4), np.uint8)
    ink[60] = 255
    Image.fromarray(ink).save(tmp_path/'a.png')
    Image.fromarray(ink[...,3]).save(tmp_path/'a.gif')
    for name in ('a.png', 'a.gif'):
        [page] = decode_pages((tmp_path/name).read_bytes(), name)
        assert page[60].min()==255 and page[30].max()==0


@pytest.mark.parametrize('tail', [0., 1.5, 4.])
@pytest.mark.parametrize('gap', [0., 4., 12.])
def test_columns_may_have_gaps_between_them(gap, tail):
    "Also if a base line stands between the pulses and the traces"
    mm, begin = 4., 20+np.arange(4)*(62.5+gap)
    places = [np.arange((b-(tail if b==begin[0] else 0))*mm, (b+62.5)*mm) for b in begin]
    rows = [[Trace(x, np.full(len(x), 100.*r)) for x in places] for r in (1, 2, 3)]
    pulses = [Pulse((begin[0]-tail-5)*mm, (begin[0]-tail)*mm, 100.*r, 100.*r-10*mm) for r in (1, 2, 3)]
    sheet = Sheet((1300, 400), rows, (mm, mm), pulses=pulses, plane=SimpleNamespace(places=None, paths=[]))
    _, edges, wide = column_edges(sheet, 4, (begin[0]-tail)*mm, (begin[-1]+62.5)*mm)
    assert wide==62.5
    if gap or not tail: assert np.abs(edges[:-1]/mm-begin).max()<(.3 if gap else .5)


def test_names_before_the_first_column_are_no_traces():
    "Letters 12 mm before the traces, no pulse, nothing between the columns"
    mm, begin = 4., 22.
    rows = [[Trace(x := np.concatenate([np.arange(10*mm, 13*mm), np.arange(begin*mm, (begin+250)*mm)]),
                   np.full(len(x), 100.*r))] for r in (1, 2, 3)]
    sheet = Sheet((1300, 400), rows, (mm, mm), plane=SimpleNamespace(places=None, paths=[]))
    found = column_edges(sheet, 4, 10*mm, (begin+250)*mm)
    assert found and np.abs(found[1]/mm-begin-62.5*np.arange(5)).max()<1


def test_chest_leads_may_be_called_c(tmp_path):
    from matplotlib.text import Text
    figure = draw(REC, '3x4+1', dpi=150)
    for t in figure.findobj(Text):
        if t.get_text()[:1]=='V' and len(t.get_text())==2: t.set_text('C'+t.get_text()[1])
    figure.savefig(tmp_path/'chart.pdf')
    figure.savefig(tmp_path/'chart.png')
    for r in (read_picture(tmp_path/'chart.pdf'), read_picture(tmp_path/'chart.png')):
        assert r.layout=='3x4+1' and r.plan.confirmed>2
        assert error(r)<.08


def test_thin_lines_5_mm_apart_are_no_squares_of_a_third():
    "A turned sheet on which only every fifth line is drawn"
    y, x = np.mgrid[:900, :1400]
    a, pitch = np.radians(3.), 28.6
    u, v = x*np.cos(a)+y*np.sin(a), y*np.cos(a)-x*np.sin(a)
    lines = sum(np.exp(-(((p+pitch/2)%pitch-pitch/2)/.7)**2) for p in (u, v))
    noise = np.random.default_rng(0).normal(0, .02, lines.shape)
    g = grid_signal(np.repeat((.5*lines+noise)[...,None], 3, 2).astype(np.float32))
    lattice = find_grid(g)
    assert np.abs(np.array(lattice.pitch)/lattice.square-pitch/5).max()<.1


@pytest.mark.parametrize('colour,said', [(0, 'something dark covers a part of II'), (255, 'strip could not be read: II')])
def test_what_is_covered_is_unknown(tmp_path, colour, said):
    img = picture(tmp_path).copy()
    h, w = img.shape[:2]
    img[int(.78*h):int(.91*h),int(.4*w):int(.7*w)] = colour # the strip runs at 84 % of the height
    r = read_image(img)
    assert any(said in f for f in r.findings), r.findings
    assert .2<np.isnan(r.recording.signal[1]).mean()<.4
    assert error(r)<.08


def test_a_stretched_part_is_said(tmp_path):
    img = picture(tmp_path, '12x1')
    a, b = (int(k*img.shape[1]) for k in (.4, .65))
    wide = np.asarray(Image.fromarray(img[:,a:b]).resize((int(1.4*(b-a)), img.shape[0])))
    r = read_image(np.concatenate([img[:,:a], wide, img[:,b:]], 1))
    assert r.against and 'stretched' in r.against[0]


def test_two_flat_waves_of_a_row_are_no_pulses():
    waves = [Pulse(240., 241., 100., 95.), Pulse(255., 256.2, 100., 95.)] # 5 mm high, a mm wide
    assert agreeing(waves, 1., 1.)==[]
    stacked = [Pulse(5., 6., 20., 15.), Pulse(5., 6., 60., 55.)]
    assert agreeing(stacked, 1., 1.)==stacked

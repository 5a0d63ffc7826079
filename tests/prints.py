"""Charts in many layouts and drawing styles, read back and compared with what was drawn.

    python tests/prints.py OUT.csv --seeds 0:200 [--kind other|own|vector]

Half of the styles here are not the package's own: another drawer, with other fonts, places of names, grids, pulses,
separators and headers. Each seed is one chart. A row says whether it was answered, whether layout, speed, gain and
names are right, and the error where they are. `silent` counts a wrong scale or name that was answered without a doubt,
`cut` a right scale where what was read is a tenth smaller or larger than what was drawn.
"""
import argparse
import csv
import io
import sys
import tempfile
import time
import zipfile
from functools import lru_cache
from pathlib import Path

import numpy as np

from ecg_arrhythmia.core import ECGError
from ecg_arrhythmia.data.recordings import FS, LEADS, Recording, remove_level
from ecg_arrhythmia.data.simulation import simulate

DATA = Path(__file__).parents[1]/'../shared/data'
LIMB, CHEST = list(LEADS[:6]), list(LEADS[6:])
CABRERA = ['aVL', 'I', '-aVR', 'II', 'aVF', 'III']
LAYOUTS = ['3x4', '3x4+1', '3x4+2', '3x4+3', '6x2', '6x2+1', '6x1', '12x1', '2x6', '8x1', '3x4-cabrera', '3x4-cabrera+1',
           '6x2-cabrera', '12x1-cabrera']
PAPERS = {'red': ((.9,.3,.3), (.97,.75,.75), 'white'), 'pink': ((.95,.6,.65), (.98,.82,.85), (1,.97,.97)),
          'green': ((.35,.7,.45), (.75,.9,.78), 'white'), 'grey': ((.6,.6,.6), (.84,.84,.84), 'white'),
          'orange': ((.95,.6,.3), (.99,.85,.7), (1,.99,.95)), 'blue': ((.5,.65,.9), (.82,.88,.97), 'white'),
          'black': ((.25,.25,.25), (.55,.55,.55), 'white')}
INKS = ['black', 'black', (.1,.1,.35), (.15,.15,.15), (.0,.1,.6)]
FONTS = ['DejaVu Sans', 'DejaVu Serif', 'DejaVu Sans Mono', 'STIXGeneral', 'cmss10', 'DejaVu Sans:bold', 'STIXGeneral:bold',
         'Liberation Sans', 'Liberation Sans:bold', 'Liberation Sans Narrow']


# ---- recordings

@lru_cache
def archives():
    out = []
    for name,end in (('chapman/ECGData.zip', '.csv'), ('ptbxl/ptb-xl-subset.zip', '.hea'), ('ptbxl/ptb-xl-more.zip', '.hea')):
        if (DATA/name).exists():
            z = zipfile.ZipFile(DATA/name)
            out.append((z, sorted(n for n in z.namelist() if n.endswith(end))))
    return out


def recording(rng):
    "A real or simulated recording of ten seconds, in mV, without level"
    sources = archives()
    if not sources or rng.random()<.15:
        rec = simulate(str(rng.choice(['SR', 'AFIB', 'SB', 'ST'])), seed=int(rng.integers(1e6)))
        return Recording(remove_level(rec.signal), FS, rec.name, check=False)
    z, names = sources[int(rng.integers(len(sources)))]
    name = names[int(rng.integers(len(names)))]
    if name.endswith('.csv'):
        signal = np.loadtxt(io.StringIO(z.read(name).decode('utf-8-sig')), delimiter=',', skiprows=1).T/1000
    else:
        head = z.read(name).decode().splitlines()
        gains = [float(l.split()[2].split('/')[0].split('(')[0]) for l in head[1:13]]
        raw = np.frombuffer(z.read(name[:-4]+'.dat'), '<i2').reshape(-1,12).T
        signal = raw/np.array(gains)[:,None]
    return Recording(remove_level(signal[:,:5000].astype(np.float32)), FS, Path(name).stem, check=False)


# ---- what is on the page

def pages_of(layout, limb=None, chest=None, strips=()):
    "Rows of leads, strips apart, for each page"
    name, _, n = layout.partition('+')
    limb = limb or (CABRERA if 'cabrera' in name else LIMB)
    chest = chest or CHEST
    strips = [[s] for s in (strips or [[], ['II'], ['V1', 'II'], ['V1', 'II', 'V5']][int(n or 0)])]
    base = name.split('-')[0]
    if base=='3x4': return [[list(r) for r in zip(limb[:3], limb[3:], chest[:3], chest[3:])]+strips]
    if base=='6x2': return [[list(r) for r in zip(limb, chest)]+strips]
    if base=='2x6': return [[limb, chest]+strips]
    if base=='12x1': return [[[l] for l in limb+chest]]
    if base=='8x1': return [[[l] for l in ['I', 'II']+chest]]
    return [[[l] for l in limb], [[l] for l in chest]]


def spec(rng, **given):
    "What chart to draw"
    pick = lambda *a: a[int(rng.integers(len(a)))]
    s = dict(layout=pick(*LAYOUTS), speed=pick(25., 25., 50.), gain=pick(10., 10., 10., 5., 20.), paper=pick(*PAPERS),
             ink=pick(*INKS), pen=pick(.2, .25, .35, .5), dpi=pick(100, 150, 150, 200, 300),
             format=pick('png', 'png', 'jpg', 'pdf'),
             turn=pick(0, 0, 0, 0, 90, 180), font=pick(*FONTS), size=pick(6, 7, 8, 9, 10),
             label=pick('above', 'above', 'above', 'below', 'margin', 'none'), minor=pick('lines', 'lines', 'lines', 'none', 'dots'),
             pulse=pick('left', 'left', 'right', 'none', 'first'), text=pick('', 'bottom', 'bottom', 'top'),
             separator=pick('none', 'ticks', 'line', 'gap'), header=pick(0, 1, 2), frame=pick(False, True),
             short=pick(False, True), origin=pick(0., 0., 2.3), quality=pick(95, 85, 70), order='usual')
    s.update(given)
    return s


def cells_of(s):
    "Pages of rows of (lead, first second, seconds, x of begin in mm)"
    out = []
    for rows in pages_of(s['layout'], **s.get('leads', {})):
        n = max(map(len, rows))
        wide = 10./n if not (s['short'] and s['speed']==50.) else 5./n
        out.append([[(l, c*wide, wide if len(row)>1 else wide*n, c*wide*s['speed']) for c,l in enumerate(row)] for row in rows])
    return out


def rate_of(rec):
    "Beats a minute"
    from ecg_arrhythmia.signals.beats import find_beats
    return round(60*rec.fs/float(np.mean(np.diff(find_beats(rec)))))


@lru_cache
def more_fonts():
    "Let matplotlib know the fonts of the system"
    import logging
    from matplotlib.font_manager import findSystemFonts, fontManager
    logging.getLogger('matplotlib.font_manager').setLevel(logging.ERROR)
    for path in findSystemFonts(): fontManager.addfont(path)


def draw_other(rec, s, page, rows):
    "A chart in the style `s`, as a matplotlib figure"
    more_fonts()
    from matplotlib.figure import Figure
    font, _, bold = s['font'].partition(':')
    text = dict(family=font, weight='bold' if bold else 'normal', fontsize=s['size'], color=s['ink'])
    high = {5.: 18., 10.: 26., 20.: 40.}[s['gain']]*(.8 if len(rows)>6 else 1.)
    top, left = 8.+12*s['header'], 6+14*(s['pulse'] in ('left', 'first'))+10*(s['label']=='margin')
    long = max(c[3]+c[2]*s['speed'] for row in rows for c in row)
    width, height = left+long+8+14*(s['pulse']=='right'), top+high*len(rows)+12
    major, minor, ground = PAPERS[s['paper']]
    fig = Figure((width/25.4, height/25.4), dpi=s['dpi'], facecolor=ground)
    ax = fig.add_axes((0,0,1,1), xlim=(0,width), ylim=(height,0))
    ax.axis('off')
    x0, x1, y0, y1 = (3, width-3, top-4, height-8) if s['frame'] else (0, width, 0, height)
    gx, gy = np.arange(np.ceil(x0), x1+.01)+s['origin']*0, np.arange(np.ceil(y0), y1+.01)
    if s['minor']=='lines':
        ax.vlines(gx, y0, y1, color=minor, lw=.3)
        ax.hlines(gy, x0, x1, color=minor, lw=.3)
    elif s['minor']=='dots':
        xx, yy = np.meshgrid(gx, gy)
        ax.plot(xx.ravel(), yy.ravel(), ls='none', marker='s', ms=.7, mew=0, color=minor)
    ax.vlines(gx[::5], y0, y1, color=major, lw=.7)
    ax.hlines(gy[::5], x0, x1, color=major, lw=.7)
    if s['frame']: ax.plot([x0,x1,x1,x0,x0], [y0,y0,y1,y1,y0], color=major, lw=1.2)
    pen = dict(color=s['ink'], lw=s['pen']/25.4*72, solid_joinstyle='round', solid_capstyle=s.get('cap', 'projecting'))
    closed = s['separator']!='gap' and s.get('closed', True) # does a stretch end in the first sample of the next?
    step = s.get('step', 1) # samples from point to point, as of a recording at 500/step Hz
    for r,row in enumerate(rows):
        zero = top+high*(r+.5)
        if s['pulse']=='left' or s['pulse']=='first' and r==len(rows)-1 or s['pulse']=='right':
            p = left-11 if s['pulse']!='right' else left+long+3
            w = .2*s['speed'] if s['speed']<=25 else min(.2*s['speed'], 8.) if s['pulse']=='right' else 10.
            w = .2*s['speed']
            xs = np.array([-1., 0, 0, w, w, w+1])+p+(1 if s['pulse']=='right' else -1)
            ax.plot(xs, zero-np.array([0,0,1,1,0,0])*s['gain'], **pen)
        for c,(lead,start,seconds,x) in enumerate(row):
            i = np.arange(round(start*FS), min(round((start+seconds)*FS)+closed, rec.signal.shape[1]), step)
            if s['separator']=='gap' and c<len(row)-1: i = i[:-round(1.2/s['speed']*FS)]
            y = rec.signal[LEADS.index(lead.lstrip('-')), i]*(-1 if lead[0]=='-' else 1)
            ax.plot(left+x+(i/FS-start)*s['speed'], zero-y*s['gain'], **pen)
            if c and s['separator']=='ticks': ax.vlines([left+x]*2, [zero-5, zero+2], [zero-2, zero+5], color=s['ink'], lw=.8)
            if c and s['separator']=='line': ax.vlines(left+x, zero-.35*high, zero+.35*high, color=s['ink'], lw=.6)
            name = lead.replace('-', '\N{MINUS SIGN}') if font!='cmss10' else lead
            if s['label']=='above': ax.text(left+x+1.5, zero-.3*high, name, **text)
            if s['label']=='below': ax.text(left+x+1.5, zero+.4*high, name, **text)
            if s['label']=='margin':
                if c==0: ax.text(2 if s['pulse']!='left' else left-24, zero, name, va='center', **text)
                else: ax.text(left+x+1, zero-.33*high, name, **text)
    printed = f"{s['speed']:g} mm/s   {s['gain']:g} mm/mV"
    small = text|dict(fontsize=7)
    if s['text']=='bottom': ax.text(8, height-3, printed+'   0.05-150 Hz', **small)
    if s['text']=='top': ax.text(width-70, 5, printed, **small)
    if s['header']:
        ax.text(6, 6, 'NAME, Some   ID 123456', **text)
        ax.text(6, 12, '67 years  Male   12-Nov-2021 10:14', **small)
    if s['header']==2:
        ax.text(.4*width, 6, f'Vent. rate  {rate_of(rec)} bpm', **small)
        ax.text(.4*width, 11, 'PR interval  160 ms   QRS duration 92 ms', **small)
        ax.text(.4*width, 16, 'Sinus rhythm. Normal ECG', **small)
    return fig


def draw_own(rec, s, page, rows):
    "The same chart by the package's own `draw`"
    from ecg_arrhythmia.charts.chart import draw
    from ecg_arrhythmia.charts.layouts import Cell, Layout, Paper, STYLES, Style
    cells = tuple(Cell(l, start, seconds, r, x/s['speed'], (r+c)%2)
                  for r,row in enumerate(rows) for c,(l,start,seconds,x) in enumerate(row))
    major, minor, _ = PAPERS[s['paper']]
    inks = STYLES['paper'].inks if s['pen']<.3 else ((0.,0.,0.),)
    style = Style(inks, major=major, minor=minor, names=s['label']!='none', line=s['pen'])
    high = {5.: 18., 10.: 26., 20.: 40.}[s['gain']]*(.8 if len(rows)>6 else 1.)
    paper = Paper(speed=s['speed'], gain=s['gain'], pulse=s['pulse']!='none')
    head = f"{s['speed']:g} mm/s   {s['gain']:g} mm/mV" if s['text'] else False
    return draw(rec, Layout(s['layout'], cells, high), style=style, paper=paper, header=head, dpi=s['dpi'])


def save(figures, s, folder):
    "The figures as a file; its path"
    from PIL import Image
    path = Path(folder)/f"chart.{s['format'] if s['format']!='jpg' else 'jpg'}"
    if s['format']=='pdf':
        from matplotlib.backends.backend_pdf import PdfPages
        with PdfPages(path) as pdf:
            for f in figures: pdf.savefig(f)
        return path
    images = []
    for f in figures:
        buffer = io.BytesIO()
        f.savefig(buffer, format='png', dpi=s['dpi'], facecolor=f.get_facecolor())
        images.append(Image.open(buffer).convert('RGB').rotate(s['turn'], expand=True))
    if len(images)>1:
        path = path.with_suffix('.tif')
        images[0].save(path, save_all=True, append_images=images[1:], compression='tiff_deflate')
    elif s['format']=='jpg': images[0].save(path, quality=s['quality'])
    else: images[0].save(path)
    return path


# ---- judging

def names_read(reading): # rows of names of a page as they were read
    rows = {}
    for c in reading.plan.cells: rows.setdefault(c.row, []).append((c.x0, c.lead))
    return [[l for _,l in sorted(rows[r])] for r in sorted(rows)]


def truth(rec, s, cells):
    "What the page shows: (12, samples) in mV on its time axis, NaN where nothing is drawn"
    n = round(max(c[3]/s['speed']+c[2] for rows in cells for row in rows for c in row)*FS)
    out = np.full((12, n), np.nan)
    for rows in cells:
        for row in rows[::-1]:
            for lead,start,seconds,x in row:
                a, b, m = round(x/s['speed']*FS), round(start*FS), round(seconds*FS)
                k = LEADS.index(lead.lstrip('-'))
                m = min(m, n-a, rec.signal.shape[1]-b)
                out[k,a:a+m] = rec.signal[k,b:b+m]
    return out


def best_shift(want, got, most=100):
    "Samples by which what was read is late"
    return max(range(-most, most+1), key=lambda k: float((want*np.roll(got, -k, 1)).sum()))


def judge(reading, rec, s, cells):
    "What is right and what is wrong about a reading"
    want, got = truth(rec, s, cells), reading.recording.signal
    n = min(want.shape[1], got.shape[1])
    d = got[:,:n]-want[:,:n]
    shown = np.isfinite(want[:,:n])
    known = shown&np.isfinite(d)
    level = np.array([np.median(r[k]) if k.any() else 0. for r,k in zip(d, known)])[:,None]
    rows = [[c[0] for c in row] for c_rows in cells[:1] for row in c_rows]
    read = names_read(reading)
    same = len(read)==len(rows) and all(len(a)==len(b) for a,b in zip(read, rows))
    wrong = sum(x!='' and x!=y for a,b in zip(read, rows) for x,y in zip(a, b)) if same else 99
    missing = sum(x=='' for a in read for x in a)
    shift = best_shift(np.where(known, want[:,:n], 0), np.where(known, got[:,:n]-level, 0))
    moved = np.roll(got[:,:n]-level, -shift, 1)
    both = shown&np.isfinite(moved)
    w, g = want[:,:n][both], moved[both]
    signal = np.where(shown, want[:,:n], 0)
    filled = np.where(known, got[:,:n]-level, 0)
    snr = 10*np.log10(np.sum(signal[shown]**2)/max(np.sum((signal-filled)[shown]**2), 1e-12))
    return dict(layout_right=same, speed_right=reading.speed==s['speed'], gain_right=reading.gain==s['gain'], misnamed=wrong,
                unnamed=missing, rmse_mv=round(float(np.sqrt(np.mean((d-level)[known]**2))), 5) if known.any() else '',
                shift_ms=shift*2, slope=round(float(np.std(g)/max(np.std(w), 1e-9)), 4) if known.any() else '', snr_db=round(float(snr), 2),
                covered=round(float(known.sum()/shown.sum()), 4))


FIELDS = ['seed', 'kind', 'layout', 'speed', 'gain', 'paper', 'pen', 'dpi', 'format', 'turn', 'label', 'minor', 'pulse', 'text',
          'separator', 'order', 'short', 'font', 'size', 'status', 'read_layout', 'read_speed', 'read_gain', 'layout_right',
          'speed_right', 'gain_right', 'misnamed', 'unnamed', 'rmse_mv', 'shift_ms', 'slope', 'snr_db', 'covered', 'wrong',
          'cut', 'silent', 'cpu_s', 'reason']


def one(seed, kind, keep=None, **given):
    "Draw, save, read and judge one chart"
    from ecg_arrhythmia.pictures.reading import read_picture
    rng = np.random.default_rng([seed, {'other': 1, 'own': 2, 'vector': 3, 'shuffled': 4}[kind]])
    s = spec(rng, **given)
    if kind=='vector': s.update(format='pdf')
    if kind=='shuffled':
        order = list(rng.permutation(CHEST)) if rng.random()<.5 else CHEST[::-1]
        s.update(leads=dict(chest=[str(l) for l in order]), order='-'.join(order), layout=str(rng.choice(['3x4', '3x4+1', '6x2', '12x1'])),
                 label='above' if s['label']=='none' else s['label'])
    if s['format']=='pdf': s['turn'] = 0
    rec, cells = recording(rng), cells_of(s)
    drawer = draw_own if kind=='own' or kind=='vector' and rng.random()<.5 else draw_other
    row = dict(s, seed=seed, kind=kind, status='refused', wrong=0, silent=0)
    with tempfile.TemporaryDirectory() as tmp:
        path = save([drawer(rec, s, i, rows) for i,rows in enumerate(cells)], s, keep or tmp)
        began = time.process_time()
        try: reading = read_picture(path)
        except ECGError as e: row['reason'] = str(e).split(': ', 1)[1]
        else:
            row.update(judge(reading, rec, s, cells), status=reading.status, read_layout=reading.layout, read_speed=reading.speed,
                       read_gain=reading.gain, reason='; '.join(reading.findings))
            right = row['layout_right'] and row['speed_right'] and row['gain_right'] and not row['misnamed']
            row['wrong'] = int(not right)
            row['cut'] = int(right and row['slope']!='' and abs(row['slope']-1)>.1)
            row['silent'] = int(row['wrong'] and row['status']=='ok')
        row['cpu_s'] = round(time.process_time()-began, 2)
    return row, s


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('out')
    parser.add_argument('--seeds', default='0:50')
    parser.add_argument('--kind', default='other')
    args = parser.parse_args()
    a, b = map(int, args.seeds.split(':'))
    with open(args.out, 'w', newline='') as f:
        table = csv.DictWriter(f, FIELDS, extrasaction='ignore', lineterminator='\n')
        table.writeheader()
        for seed in range(a, b):
            row, _ = one(seed, args.kind)
            table.writerow(row)
            f.flush()


if __name__=='__main__': sys.exit(main())

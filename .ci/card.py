"""The picture that stands for the site on other sites, and its icon: a simulated chart of atrial fibrillation. Run again only if the look of charts changes."""
import io
from pathlib import Path

import matplotlib
matplotlib.use('Agg')
from matplotlib.figure import Figure
from PIL import Image

from ecg_arrhythmia.charts.chart import draw
from ecg_arrhythmia.data.recordings import FS
from ecg_arrhythmia.data.simulation import simulate

def picture(fig, dpi, **kw):
    fig.savefig(buffer := io.BytesIO(), format='png', dpi=dpi, **kw)
    return Image.open(buffer).convert('RGB')

def card(size=(1200, 630)):
    "The chart, as wide as the card, under the name"
    drawn = draw(simulate('AFIB', seed=2), '3x4+1')
    chart = picture(drawn, size[0]/drawn.get_size_inches()[0])
    fig = Figure((size[0]/100, size[1]/100), dpi=100, facecolor='white')
    fig.text(.04, .93, 'ecg_arrhythmia', size=34, weight='bold', va='center', color='#1f2d3d')
    fig.text(.96, .93, 'heart rhythms from ECG charts', size=20, va='center', ha='right', color='#44546a')
    page = picture(fig, 100)
    page.paste(chart.crop((0, 0, size[0], size[1]-90)), (0, 90))
    return page.quantize(12, dither=Image.Dither.NONE)

def icon(size=64):
    "One beat on red paper"
    y = simulate('SR', seed=2).lead('II')
    at = int(y[FS:-FS].argmax()) + FS
    fig = Figure((1, 1), dpi=size)
    ax = fig.add_axes((0, 0, 1, 1), facecolor='#fff2f0')
    ax.plot(y[at-int(.32*FS):at+int(.45*FS)], color='#c0392b', lw=3)
    ax.margins(.06, .16)
    ax.set(xticks=[], yticks=[])
    for s in ax.spines.values(): s.set_visible(False)
    return picture(fig, size).quantize(32)

if __name__=='__main__':
    images = Path(__file__).resolve().parent.parent/'nbs/images'
    images.mkdir(exist_ok=True)
    card().save(images/'card.png', optimize=True)
    icon().save(images/'favicon.png', optimize=True)

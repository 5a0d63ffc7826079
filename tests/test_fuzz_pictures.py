"""Damaged pictures by the thousand: each gives a reading or an `ECGError`, within bounds of time and memory

Bytes are changed, the structure of each kind with its checksums and lengths mended, and what is drawn
(`pictures_spoilt`). What is read without a doubt is compared with the chart as it was. A few of each kind are tried here,
and more by `tests/fuzz.py`, which counts what becomes of them.
"""
import io
import os
import re
import resource
import signal
import struct
import sys
import tempfile
import time
import warnings
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ecg_arrhythmia.charts.chart import draw
from ecg_arrhythmia.core import ECGError
from ecg_arrhythmia.data.simulation import simulate
from ecg_arrhythmia.pictures.files import decode_pages
from ecg_arrhythmia.pictures.pdf import CrowdedPage, read_pdf, render_pdf
from ecg_arrhythmia.pictures.reading import read_picture

from pictures_spoilt import pdf_page, spoilt, tif_entries

KINDS = ('png', 'jpg', 'tif', 'bmp', 'webp', 'gif', 'pdf', 'pdf image')
SECONDS = 20 # CPU time of a file
NO_MESSAGE = re.compile(r' at 0x|<_io|Traceback|<class|object at|Errno|\bNone\b|MemoryError|\\x')


@lru_cache(1)
def wholes():
    "A chart as files of each kind, in several ways to write it"
    fig, out = draw(simulate('SR', seed=6), '3x4+1', dpi=140, header='25 mm/s   10 mm/mV'), {}
    png = io.BytesIO()
    fig.savefig(png, format='png')
    im = Image.open(png).convert('RGB')
    grey, few = im.convert('L'), im.quantize(64)
    def saved(name, im=im, **kw):
        buffer = io.BytesIO()
        im.save(buffer, name, **kw)
        return buffer.getvalue()
    out['png'] = [saved('PNG', dpi=(140, 140)), saved('PNG', few, transparency=3), saved('PNG', im.convert('RGBA')), saved('PNG', grey),
                  saved('PNG', Image.fromarray(np.asarray(grey).astype(np.uint16)*257))]
    out['jpg'] = [saved('JPEG', quality=92), saved('JPEG', grey, quality=92), saved('JPEG', quality=92, progressive=True)]
    out['tif'] = [saved('TIFF', compression=c) for c in ('raw', 'tiff_lzw', 'tiff_adobe_deflate', 'packbits', 'jpeg')]
    out['tif'] += [saved('TIFF', grey), saved('TIFF', save_all=True, append_images=[grey]), saved('TIFF', few, compression='tiff_lzw')]
    out['bmp'] = [saved('BMP'), saved('BMP', few), saved('BMP', grey)]
    out['webp'] = [saved('WEBP', quality=95), saved('WEBP', lossless=True)]
    out['gif'] = [saved('GIF'), saved('GIF', few)]
    pdf = io.BytesIO()
    fig.savefig(pdf, format='pdf')
    out['pdf'] = [pdf.getvalue()]
    out['pdf image'] = [saved('PDF', resolution=140), saved('PDF', grey, resolution=140)]
    return out


def likeness(reading):
    "Worst agreement of a read lead with what was drawn: correlation, and how many times as high it is"
    whole, read = simulate('SR', seed=6).signal, reading.recording.signal
    like, high = 1., 1.
    for a,b in zip(whole, read):
        n = min(len(a), len(b))
        known = np.isfinite(b[:n])
        if known.sum()<250: continue
        x = b[:n][known]-np.median(b[:n][known])
        best = 0.
        for lag in range(-15, 16):
            y = np.roll(a, lag)[:n][known]
            y = y-np.median(y)
            best = max(best, float(x@y/(np.linalg.norm(x)*np.linalg.norm(y)+1e-9)))
        like = min(like, best)
        ratio = float(np.linalg.norm(x)/(np.linalg.norm(y)+1e-9))
        high = max(high, ratio, 1/max(ratio, 1e-9))
    return like, high


def judged(reading):
    "A reading in a word: a doubt, the same as what was drawn, or another (with what is other)"
    if reading.recording.signal.shape[0]!=12: return 'fault: not twelve leads'
    if reading.status!='ok': return 'doubt'
    like, high = likeness(reading)
    same = reading.speed==25 and reading.gain==10 and like>.75 and high<1.3
    return 'same' if same else f'other: {reading.layout} {reading.speed:g} mm/s {reading.gain:g} mm/mV like {like:.2f} high {high:.2f}'


def message(said, path):
    "What is wrong with the words of a refusal, or 'refused'"
    if path.name not in said: return f'fault: nameless: {said[:150]}'
    if NO_MESSAGE.search(said) or len(said)>1500: return f'fault: message: {said[:200]}'
    return 'refused'


def too_long(*_): raise TimeoutError(f'more than {SECONDS} s')


def taken(path, seen=None):
    "What reading does"
    try: return judged(read_picture(path))
    except ECGError as e:
        if seen is not None: seen[re.sub(r'\d+', '#', str(e).replace(str(path), ''))] += 1
        return message(str(e), path)
    except Exception as e: return f'fault: {type(e).__name__}: {str(e)[:80]}'


def outcome(data, kind, folder, seen=None):
    "What reading does: a reading, refused, or the fault; what it writes to the standard error is a fault"
    path, words = Path(folder)/f'chart.{kind[:4].strip()}', Path(folder)/'stderr'
    path.write_bytes(data)
    signal.signal(signal.SIGPROF, too_long)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    sys.stderr.flush()
    before = os.dup(2)
    try:
        with open(words, 'wb') as f, warnings.catch_warnings():
            os.dup2(f.fileno(), 2)
            warnings.simplefilter('always')
            said = taken(path, seen)
            sys.stderr.flush()
    finally:
        os.dup2(before, 2)
        os.close(before)
        signal.setitimer(signal.ITIMER_PROF, 0)
    wrote = words.read_text(errors='replace')
    return said if said.startswith('fault') or not wrote else f'fault: standard error: {wrote[:200]}'


def case(kind, i):
    "Damaged file number `i` of a kind, and how it was damaged"
    rng = np.random.default_rng([i, KINDS.index(kind)])
    files = wholes()[kind]
    return spoilt(kind[:4].strip(), files[int(rng.integers(len(files)))], rng)


@pytest.mark.parametrize('kind', KINDS)
def test_a_damaged_picture_is_read_or_refused(kind, tmp_path):
    for i in range(4): assert not outcome(case(kind, i)[0], kind, tmp_path).startswith('fault')


BOMBS = dict(points=b'0 0 m '+b'1 1 l '*600_000+b'S', objects=b'0 0 m 9 9 l S '*150_000)

@pytest.mark.parametrize('what', BOMBS)
def test_crowded_pages_are_refused_before_their_paths_are_read(what, tmp_path):
    path = tmp_path/'crowded.pdf'
    path.write_bytes(pdf_page(BOMBS[what]))
    with pytest.raises(CrowdedPage, match=f'crowded.pdf: more than .* {what}.*PNG'): read_pdf(path)


def test_pages_of_any_size_are_rendered_within_bounds(tmp_path):
    for box,size in ((b'[0 0 100000 100000]', (2600, 2600)), (b'[0 0 1000000 1]', (1, 2600)), (b'[0 0 0 0]', (2600, 2009))):
        (tmp_path/'page.pdf').write_bytes(pdf_page(b'0 0 m 9 9 l S', box))
        assert render_pdf(tmp_path/'page.pdf')[0].shape[:2]==size


@pytest.mark.slow
def test_forms_in_forms_end_with_a_word(tmp_path):
    path = tmp_path/'forms.pdf'
    path.write_bytes(pdf_page(b'/F Do', forms=[b'/F Do '*10]*8+[b'0 0 m 9 9 l S']))
    with pytest.raises(ECGError, match='forms.pdf: .*print the page'): read_picture(path)


def test_a_damaged_note_of_how_a_camera_was_held_is_left_aside():
    out = io.BytesIO()
    Image.new('L', (300, 200)).save(out, 'PNG', exif=b'Exif\0\0no such block')
    assert decode_pages(out.getvalue(), 'a.png')[0].shape==(200, 300, 3)


def test_large_headers_warn_nobody(recwarn):
    data = bytearray(wholes()['bmp'][2])
    data[18:26] = struct.pack('<ii', 10_000, 10_000) # more than Pillow warns of
    with pytest.raises(ECGError, match='a.bmp: 10,000 x 10,000 pixels'): decode_pages(bytes(data), 'a.bmp')
    assert not list(recwarn)


def test_what_pillow_logs_reaches_nobody(tmp_path):
    e, places, _ = tif_entries(data := wholes()['tif'][0])
    data = bytearray(data)
    for at in places:
        if struct.unpack_from('<H', data, at)[0]==277: struct.pack_into('<H', data, at+8, 10) # samples of a pixel
    assert outcome(bytes(data), 'tif', tmp_path)=='refused'


def test_what_the_tiff_library_writes_reaches_nobody(tmp_path):
    data = bytearray(wholes()['tif'][1]) # packed by LZW
    data[20:60] = bytes(range(216, 256))
    assert outcome(bytes(data), 'tif', tmp_path)=='refused'


def peak():
    "Largest memory of this process since it was last asked, MB"
    found = re.search(r'VmHWM:\s+(\d+)', Path('/proc/self/status').read_text())
    Path('/proc/self/clear_refs').write_text('5')
    return int(found[1])>>10


def used():
    "Seconds of processor time, with those of children that have ended"
    kids = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time()+kids.ru_utime+kids.ru_stime

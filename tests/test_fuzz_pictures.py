"""Damaged pictures by the thousand: each gives a reading or an `ECGError`, within bounds of time and memory

By default a few of each kind are tried; `python tests/test_fuzz_pictures.py 1000 OUT.csv` tries 1,000 of every kind, prints
the counts by kind and outcome and saves them.
"""
import csv
import io
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ecg_arrhythmia.charts.chart import draw
from ecg_arrhythmia.core import ECGError
from ecg_arrhythmia.data.simulation import simulate
from ecg_arrhythmia.pictures.reading import read_picture

KINDS = ('png', 'jpg', 'tif', 'bmp', 'webp', 'pdf')
SECONDS, MEMORY = 20, 4<<30 # CPU time of a file, address space of the process


def wholes():
    "A small chart as a file of each kind"
    fig, out = draw(simulate('SR', seed=3), '6x2', dpi=50, header='25 mm/s   10 mm/mV'), {}
    png = io.BytesIO()
    fig.savefig(png, format='png')
    im = Image.open(png).convert('RGB')
    for kind,name in zip(KINDS, ('PNG', 'JPEG', 'TIFF', 'BMP', 'WEBP')):
        buffer = io.BytesIO()
        im.save(buffer, name)
        out[kind] = buffer.getvalue()
    pdf = io.BytesIO()
    fig.savefig(pdf, format='pdf')
    out['pdf'] = pdf.getvalue()
    return out


def mutated(data, rng):
    "Some bytes changed, a stretch doubled, removed or zeroed, or the end cut off"
    data = bytearray(data)
    head = min(len(data), 2000)
    for _ in range(int(rng.integers(1, 9))):
        where, v = int(rng.integers(0, head if rng.random()<.5 else len(data))), rng.random()
        n = int(rng.integers(1, 200))
        if v<.6: data[where] = int(rng.integers(0, 256))
        elif v<.7: data[where:where] = data[where:where+n]
        elif v<.8: del data[where:where+n]
        elif v<.9: data[where:where+n] = bytes(len(data[where:where+n]))
        else: data[where:where+4] = rng.integers(0, 256, 4, np.uint8).tobytes()
        if len(data)<10: break
    return bytes(data[:int(rng.integers(1, len(data)+1))]) if rng.random()<.1 else bytes(data)


def too_long(*_): raise TimeoutError(f'more than {SECONDS} s')


def outcome(data, kind, folder):
    "What reading does: a reading, refused, or the fault"
    path = Path(folder)/f'chart.{kind}'
    path.write_bytes(data)
    signal.signal(signal.SIGPROF, too_long)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        r = read_picture(path)
        return r.status if r.recording.signal.shape[0]==12 else 'fault: not twelve leads'
    except ECGError: return 'refused'
    except Exception as e: return f'fault: {type(e).__name__}: {str(e)[:80]}'
    finally: signal.setitimer(signal.ITIMER_PROF, 0)


@pytest.mark.parametrize('kind', KINDS)
def test_a_damaged_picture_is_read_or_refused(kind, tmp_path):
    whole = wholes()[kind]
    for i in range(3):
        assert not outcome(mutated(whole, np.random.default_rng([i, KINDS.index(kind)])), kind, tmp_path).startswith('fault')


def main():
    n, out = int(sys.argv[1]), sys.argv[2]
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    files, rows = wholes(), []
    with tempfile.TemporaryDirectory() as folder:
        for kind in KINDS:
            found, slowest = Counter(), 0.
            for i in range(n):
                data = mutated(files[kind], np.random.default_rng([i, KINDS.index(kind)]))
                began = time.process_time()
                said = outcome(data, kind, folder)
                slowest = max(slowest, time.process_time()-began)
                found[said] += 1
                if said.startswith('fault'): print(kind, i, said, flush=True)
            faults = sum(v for k,v in found.items() if k.startswith('fault'))
            rows.append(dict(kind=kind, files=n, read=found['ok']+found['doubt'], refused=found['refused'], faults=faults,
                             slowest_cpu_s=round(slowest, 2), peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss>>10))
            print(rows[-1], flush=True)
            with open(out, 'w', newline='') as f:
                table = csv.DictWriter(f, rows[0], lineterminator='\n')
                table.writeheader()
                table.writerows(rows)


if __name__=='__main__': main()

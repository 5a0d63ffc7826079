"""Damaged files of every kind by the ten thousand: what the readers make of them, in a log that is resumed

    python tests/fuzz.py LOG.jsonl [FILES=20000] [KIND ...]
    python tests/fuzz.py table LOG.jsonl OUT.csv

The first tries `FILES` files of each kind, in blocks of 500 of one kind after the other, and writes a line into the log
for each block. Started again, it leaves out the blocks that the log has without a fault. A file of a picture takes seconds,
so that one is tried for fifty of the others. The second sums the log up, a row for each kind. The files, their damage and
the bounds are those of `test_fuzz`, `test_fuzz_formats`, `test_fuzz_kinds` and `test_fuzz_pictures`, with other seeds than
theirs.

Each block has a worker, which is forked when everything is imported. It is given one file after the other, so that nothing
runs while this process is stopped. A worker that dies, or takes a minute of processor time for a file, is a fault of the
file it was at.
"""
import csv
import json
import multiprocessing
import os
import resource
import sys
import tempfile
import time
import warnings
from pathlib import Path

import test_fuzz as F
import test_fuzz_formats as T
import test_fuzz_kinds as K

FIRST, BLOCK, SHARE, STUCK = 1_000_000, 500, 50, 60 # first seed, files of a block, files for a picture, seconds of a file
MAKE = F.MAKE | T.MAKE | {k: K.make(k) for k in K.KINDS}
PICTURES = 'png', 'jpg', 'tif', 'bmp', 'webp', 'gif', 'pdf', 'pdf image'
ALONE = {'zip', 'bag', 'table', 'xlsx', 'model'} # kinds whose samples are not compared
FORK = multiprocessing.get_context('fork')


def prepared():
    "Whole files by kind, after all imports"
    import h5py, numpy, onnxruntime, openpyxl, pandas, pyedflib, scipy.io, soundfile, torch, torchvision, wfdb, xmltodict
    import defusedxml.ElementTree, ecgdatakit, pydicom.dataset, pydicom.filereader
    from ecgdatakit.parsing.parsers import ishne_holter, mfer, mortara_el250, scp_ecg, sierra_xml
    import ecg_arrhythmia.data.datasets, ecg_arrhythmia.prediction.answer, ecg_arrhythmia.models.architectures
    import test_fuzz_pictures as P
    warnings.simplefilter('ignore')
    F.WHOLE |= T.WHOLE | K.WHOLE
    P.wholes()
    with tempfile.TemporaryDirectory() as folder: return T.material(Path(folder)) | K.material(Path(folder))


def picture(kind, seed, folder):
    "The row of a damaged picture"
    import test_fuzz_pictures as P
    data, _ = P.case(kind, seed)
    before, _ = P.peak(), P.peak() # the second is what is in use now
    base, start = P.peak(), P.used()
    said = P.outcome(data, kind, folder)
    how = said if said.startswith('fault') else 'refused' if said=='refused' else 'read'
    child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss>>10
    return dict(kind=kind, seed=seed, how=how, seconds=round(P.used()-start, 3), mb=max(P.peak()-base, child),
                samples=dict(doubt='said', same='same', other='changed').get(said.partition(':')[0], ''), said=said)


def work(kind, other, mine, folder, m):
    "Try the files whose seeds arrive, and send a row for each"
    other.close()
    if kind in PICTURES: resource.setrlimit(resource.RLIMIT_AS, (8<<30, -1))
    F.read = K.read if kind in K.KINDS else T.read
    while True:
        try: seed = mine.recv()
        except EOFError: return
        used = int(time.process_time())
        resource.setrlimit(resource.RLIMIT_CPU, (used+STUCK, -1))
        mine.send(picture(kind, seed, folder) if kind in PICTURES else F.tried(kind, seed, m, MAKE, folder))


def rows_until_death(kind, seeds, m):
    "Rows of some files, the last of which may be a worker's death"
    rows, (ours, theirs) = [], FORK.Pipe()
    with tempfile.TemporaryDirectory(dir='/dev/shm' if os.access('/dev/shm', os.W_OK) else None) as folder:
        os.environ['TMPDIR'] = tempfile.tempdir = folder
        worker = FORK.Process(target=work, args=(kind, ours, theirs, Path(folder), m))
        worker.start()
        theirs.close()
        for seed in seeds:
            try:
                ours.send(seed)
                rows.append(ours.recv() if ours.poll(3600) else None)
            except (EOFError, OSError): rows.append(None)
            if rows[-1] is None:
                worker.kill()
                worker.join()
                rows[-1] = dict(kind=kind, seed=seed, how=f'died: {worker.exitcode}', seconds=0, mb=0, samples='')
                break
        ours.close()
        worker.join()
        os.environ.pop('TMPDIR')
        tempfile.tempdir = None
    return rows


def spent():
    "Seconds of processor time of this process and its workers"
    kids = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time()+kids.ru_utime+kids.ru_stime


def block(kind, first, n, m):
    "What became of the files `first` to `first+n` of a kind"
    rows, start = [], spent()
    while len(rows)<n: rows += rows_until_death(kind, range(first+len(rows), first+n), m)
    faults = [r for r in rows if r['how'] not in ('read', 'refused')]
    count = lambda key, what: sum(r[key].partition(':')[0]==what for r in rows)
    slowest, largest = max(rows, key=lambda r: r['seconds']), max(rows, key=lambda r: r['mb'])
    return dict(
        kind=kind, first=first, files=n, read=count('how', 'read'), refused=count('how', 'refused'), faults=len(faults),
        slowest_s=slowest['seconds'], slowest_seed=slowest['seed'], peak_mb=largest['mb'], peak_seed=largest['seed'],
        same=count('samples', 'same'), said=count('samples', 'said'), changed=count('samples', 'changed'),
        reading_s=round(sum(r['seconds'] for r in rows), 1), all_s=round(spent()-start, 1), commit=F.commit(),
        found=[[r['seed'], r['how']] for r in faults], other=[[r['seed'], r['said']] for r in rows if 'other' in r.get('said', '')])


def blocks(log):
    "The last line of each block in a log"
    lines = log.read_text().splitlines(True) if log.is_file() else []
    found = [json.loads(l) for l in lines if l.endswith('\n')]
    return {(r['kind'], r['first']): r for r in found}


def fuzz(log, n=20_000, kinds=()):
    "Try `n` files of each kind that the log does not have"
    m, done = prepared(), blocks(log)
    for b in range(0, n, BLOCK):
        for kind in [*MAKE, *PICTURES]:
            share = SHARE if kind in PICTURES else 1
            first, size = FIRST+b//share, min(BLOCK, n-b)//share
            was = done.get((kind, first))
            if kinds and kind not in kinds or not size or was and not was['faults'] and was['files']>=size: continue
            row = block(kind, first, size, m)
            with open(log, 'a') as f: f.write(json.dumps(row)+'\n')
            print({k: v for k,v in row.items() if k not in ('found', 'other')}, *row['found'], sep='\n', flush=True)


def save_table(log, out):
    "Save a row for each kind of a log"
    rows = []
    for kind in [*sorted(MAKE), *PICTURES]:
        mine = [r for r in blocks(log).values() if r['kind']==kind]
        if not mine: continue
        total = {k: sum(r[k] for r in mine) for k in ('files', 'read', 'refused', 'faults')}
        most = {k: max(r[k] for r in mine) for k in ('slowest_s', 'peak_mb')}
        beside = {k: '' if kind in ALONE else sum(r[k] for r in mine) for k in ('same', 'said', 'changed')}
        rows.append(dict(kind=kind)|total|most|beside)
    with open(out, 'w', newline='') as f:
        table = csv.DictWriter(f, rows[0], lineterminator='\n')
        table.writeheader()
        table.writerows(rows)


def main(args):
    if args[0]=='table': return save_table(Path(args[1]), args[2])
    kinds = [a for a in args[1:] if not a.isdigit()]
    fuzz(Path(args[0]), next((int(a) for a in args[1:] if a.isdigit()), 20_000), kinds)


if __name__=='__main__': main(sys.argv[1:])

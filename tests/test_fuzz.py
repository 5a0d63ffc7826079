"""Damaged files by the thousand: every one gives a valid `Recording` or an `ECGError` that names the file, in
bounded time and memory

A small deterministic mutator makes them from real recordings (simulated ones where there are none). Readers
run in a child process that may take 512 MB more than it has after its imports. By default some 500 files,
`pytest -m slow` for 20,000, `FUZZ=20000 pytest -m slow` for 20,000 of every kind. `tests/fuzz.py` does so for
every kind of all these files, keeps a log, and goes on where an earlier run stopped.
"""
import faulthandler, io, json, os, random, re, resource, shutil, signal, struct, subprocess, sys, tempfile
import threading, time, warnings, zipfile, zlib
from collections import Counter, defaultdict
from functools import lru_cache
from pathlib import Path

import pytest

MEMORY, SECONDS = 512<<20, 5
SHARE = dict(csv=6000, zip=4000, hea=5000, mat=2000, dat=2000, xlsx=500, table=500) # 20,000 in all
BLOCK, EACH = int(os.environ.get('FUZZ_BLOCK', 20_000)), int(
    os.environ.get('FUZZ', 0)
)  # cases of a kind in a row; of every kind in the slow tests, 0: as in `SHARE`
DATA = Path(os.environ.get('ECG_DATA') or Path(__file__).resolve().parents[2]/'shared/data')

# ---- what is mutated

def zeros(mb):
    "Deflated zeros"
    c = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (c.compress(bytes(1<<20))+c.flush(zlib.Z_FULL_FLUSH))*mb + b'\3\0'

def material(folder):
    "Whole files by kind: CSV texts, and WFDB recordings as (name, header, suffix, signal)"
    import pandas as pd
    from ecg_arrhythmia.data.recordings import Recording
    from ecg_arrhythmia.data.simulation import simulate
    from ecg_arrhythmia.data.tables import to_csv_bytes
    if (DATA/'chapman/ECGData.zip').is_file():
        texts = lambda z: [z.read(n) for n in z.namelist()[:4]]
        csvs = [t for n in ('ECGData', 'ECGDataDenoised') for t in texts(zipfile.ZipFile(DATA/f'chapman/{n}.zip'))]
        mats = [
            (p.stem, p.read_bytes(), '.mat', p.with_suffix('.mat').read_bytes())
            for p in sorted((DATA / 'physionet').rglob('*.hea'))[:4]
        ]
        with zipfile.ZipFile(DATA / 'ptbxl/ptb-xl-subset.zip') as z:
            heads = [n for n in z.namelist() if n.endswith('.hea')][:4]
            dats, table = [
                (Path(n).stem, z.read(n), '.dat', z.read(n[:-4] + '.dat')) for n in heads
            ], b''.join(z.read('ptb-xl/ptbxl_database.csv').splitlines(True)[:9])
        rows = pd.read_excel(DATA/'chapman/Diagnostics.xlsx', nrows=20)
    else:
        import wfdb
        recs = [simulate(r, seed=1) for r in ('SR', 'AFIB', 'SB', 'SVT')]
        csvs, dats = [to_csv_bytes(Recording(r.signal)) for r in recs], []
        for i, r in enumerate(recs):
            wfdb.wrsamp(
                f'JS{i:05}',
                500,
                ['mV'] * 12,
                'I II III aVR aVL aVF V1 V2 V3 V4 V5 V6'.split(),
                p_signal=r.signal.T.astype(float),
                fmt=['16'] * 12,
                comments=['Age: 50', 'Dx: 426783006'],
                write_dir=str(folder),
            )
            dats.append(
                (
                    f'JS{i:05}',
                    (folder / f'JS{i:05}.hea').read_bytes(),
                    '.dat',
                    (folder / f'JS{i:05}.dat').read_bytes(),
                )
            )
        mats = [(n, h.replace(b'.dat 16 ', b'.mat 16+24 '), '.mat', bytes(24)+s) for n,h,_,s in dats]
        rows = pd.DataFrame(dict(FileName=[f'MUSE_{i}' for i in range(20)], Rhythm='SR', PatientAge=50, Gender='MALE'))
        table = b'ecg_id,patient_id,age,sex,scp_codes,filename_hr\n' + b''.join(
            b"%d,%d.0,56.0,1,\"{'SR': 0.0}\",records500/00000/0000%d_hr\n" % (i, i, i) for i in range(1, 9)
        )
    x = io.BytesIO(); rows.to_excel(x, index=False)
    short = [b''.join(c.splitlines(True)[:300]) for c in csvs]
    return dict(
        csv=short * 40 + csvs,
        mat=mats,
        dat=dats,
        xlsx=x.getvalue(),
        table=[rows.to_csv(index=False).encode(), table],
        bomb=zeros(400),
    )

# ---- mutations of bytes: f(bytes, random) -> bytes

TOKENS = (
    [
        t.encode()
        for t in '''1e308 -1e308 1e400 1e-400 nan NaN inf -inf -1 0 -0 1 12 13 255 65536 1000000000 -1000000000
    999999999999999999999 2147483648 0x10 1_000 0.0.0 1e 1e999999999 -- + . , ; " ' ~ # / \\ .. ../x
    /etc/passwd /dev/zero - * I aVR V7 mV uV nV kg JS00001.mat 16 16+24 16+1000000000 16+-8 16x1000000000 16x-1
    16:1000000000 16:-1000000000 8 80 160 212 24 32 61 310 311 508 516 524 99 1000/mV 0/mV -1/mV 1e-300/mV
    1e300/mV 1000(1e30)/mV     1000.0(0)/uV 500/0 500/1000(5) 1e9 1e300 -500 0/5 JS00001/3 12/1000000000'''.split()
    ]
    + [
        b'',
        b' ',
        b'\0',
        b'\xef\xbb\xbf',
        '１２'.encode(),
        '٣'.encode(),
        b'\xff\xfe',
        b'\r',
        b'\n\n',
        b'9' * 5000,
        b'\t',
        'µV'.encode(),
        'é'.encode('latin-1'),
        b'%n%s',
        b'{}',
        b'=1+1',
    ]
)
at = lambda b, r: r.randrange(len(b)+1)
def flip(b, r):
    b = bytearray(b)
    for _ in range(r.choice((1, 1, 2, 5, 50)) if b else 0): b[r.randrange(len(b))] ^= 1<<r.randrange(8)
    return bytes(b)
def cut(b, r): return b[:at(b, r)]
def behead(b, r): return b[at(b, r):]
def double(b, r): i, j = sorted((at(b, r), at(b, r))); return b[:j] + b[i:j]*r.choice((1, 1, 3)) + b[j:]
def drop(b, r): i = at(b, r); return b[:i] + b[i+r.choice((1, 2, 7, 64, 5000)):]
def swap(b, r): i, j, k = sorted((at(b, r), at(b, r), at(b, r))); return b[:i] + b[j:k] + b[i:j] + b[k:]
def insert(b, r): i = at(b, r); return b[:i] + r.choice(TOKENS) + b[i:]
def zero(b, r): i = at(b, r); return b[:i] + bytes(min(r.choice((1, 16, 4096)), len(b)-i)) + b[i+4096:]
def noise(b, r): i = at(b, r); n = r.choice((1, 4, 300)); return b[:i] + r.randbytes(n) + b[i+n:]
def replace(b, r, spots=re.compile(rb'[^\s,;]+')):
    "Other tokens in the place of some"
    for _ in range(r.choice((1, 1, 1, 2, 4))):
        i = at(b, r) if len(b)>3000 else 0
        found = list(spots.finditer(b[i:i+3000]))
        if found: m = r.choice(found); b = b[:i+m.start()] + r.choice(TOKENS) + b[i+m.end():]
    return b
def scale(b, r):
    "Numbers in another unit"
    e = r.choice((b'e3', b'e-3', b'e6', b'e-6', b'e30', b'e300', b'000', b'e9'))
    return re.sub(rb'(\d)(?=[,\s])', rb'\1'+e, b)
def endings(b, r):
    return b''.join(
        (
            l.rstrip(b'\r\n')
            + r.choice((b'\n', b'\r\n', b'\r', b'\n\n', b'\n\r', b'\x0b', b'\x0c', '\u2028'.encode()))
            if r.random() < 0.3
            else l
        )
        for l in b.splitlines(True)
    )
def encode(b, r):
    return b.decode('utf-8', 'replace').encode(
        r.choice(('utf-16', 'utf-16-le', 'utf-32', 'utf-8-sig', 'utf-7', 'cp037')), 'replace'
    )
def columns(b, r): return b.replace(b',', r.choice((b';', b'\t', b' ', b',,', b', ', b'","')), r.choice((-1, -1, 11, 30)))
def long_line(b, r):
    i = at(b, r)
    return (
        b[:i]
        + r.choice((b'1,', b'x', b' ', b'"', b'0', b'\n')) * r.choice((10_000, 300_000, 3_000_000))
        + b[i:]
    )
def lines(b, r):
    ls = b.splitlines(True)
    i = r.randrange(len(ls)) if ls else 0
    return b''.join(
        r.choice(
            (
                ls[:i] + ls[i + 1 :],
                ls[:i] + ls[i : i + 1] * r.choice((2, 50, 5000)) + ls[i:],
                ls[:1] + ls,
                ls[::-1],
                r.sample(ls, len(ls)),
                ls[:i] + ls[:1] + ls[i:],
            )
        )
    )
def nothing(b, r):
    return r.choice(
        (
            b'',
            b'\n',
            b'\0' * 100_000,
            b'\xef\xbb\xbf',
            b'<html>404</html>',
            b'PK\x03\x04' + r.randbytes(500),
            b'{"a": 1}',
            b,
        )
    )
def grow(b, r): return b * min(r.choice((2, 10, 40, 300)), (24<<20)//(len(b)+1)+1)
BYTES, TEXT = [flip, cut, behead, double, drop, swap, insert, zero, noise, nothing], [replace] * 4 + [
    scale,
    endings,
    encode,
    columns,
    long_line,
    lines,
    grow,
]

def mutate(b, r, how):
    for f in r.choices(how, k=r.choice((1, 1, 1, 2, 3))): b = f(b, r)[:24<<20]
    return b

# ---- one damaged file (or zip) of each kind: (folder, what to read)

PICKED = [] # the whole file that the case at hand was made from

def pick(r, items):
    "One of `items`, which is noted"
    PICKED[:] = [r.choice(items)]
    return PICKED[0]

def make_csv(m, r, d):
    (d/'MUSE_1.csv').write_bytes(mutate(pick(r, m['csv']), r, BYTES+TEXT*2))
    return [('one', d/'MUSE_1.csv')] + [('all', d)]*(r.random()<.2)

def summed(head, sig):
    "A WFDB header whose number of samples and checksums are those of damaged 16-bit samples"
    import numpy as np
    first, *rest = head.splitlines(True)
    words, start = first.split(), 24 if b'16+24' in head else 0
    n = int(words[1])
    sig = sig[:start+(len(sig)-start)//(2*n)*2*n]
    if len(sig)<=start or len(words)<4: return head, sig
    rows = np.frombuffer(sig[start:], '<i2').reshape(-1, n).sum(0, dtype=np.int64).astype(np.int16).tolist()
    out = [first.replace(words[3], b'%d' % ((len(sig)-start)//(2*n)), 1)]
    for i,line in enumerate(rest):
        parts = line.split(b' ')
        if i<n and len(parts)>6: parts[6] = b'%d' % rows[i]
        out.append(b' '.join(parts))
    return b''.join(out), sig

def make_wfdb(m, r, d, kind, hurt):
    name, head, suffix, sig = pick(r, m[kind])
    if hurt=='head': head = mutate(head, r, TEXT*2+BYTES)
    else: sig = mutate(sig, r, BYTES+[grow])
    if hurt=='sig' and r.random()<.5: head, sig = summed(head, sig)
    (d/f'{name}.hea').write_bytes(head); (d/f'{name}{suffix}').write_bytes(sig)
    return [('one', d/f'{name}.hea')] + [('all', d)]*(r.random()<.2)

def zipped(files, how):
    "A zip of (name, bytes, or MB of zeros)"
    buf = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buf, 'w', how, compresslevel=1) as f:
        warnings.simplefilter('ignore')
        for n,b in files: f.writestr(n, bytes(b<<20) if isinstance(b, int) else b)
    return buf.getvalue()
slowly_zipped = lru_cache(64)(zipped) # zeros take a second

def make_zip(m, r, d):
    kind, z = r.choice(('csv', 'mat', 'dat')), d/'ECGData.zip'
    if kind=='csv': files = {f'ECGData/MUSE_{i}.csv': r.choice(m['csv'][:32]) for i in range(2)}
    else: n, h, e, s = r.choice(m[kind]); files = {f'w/{n}.hea': h, f'w/{n}{e}': s}
    trick, first = r.choice(
        ('bytes', 'bytes', 'bytes', 'sizes', 'sizes', 'bomb', 'names', 'method', 'members', 'flags', 'inside')
    ), next(iter(files))
    if trick == 'names':
        files = {
            r.choice(
                (
                    f'../{n}',
                    f'/{n}',
                    f'{n}\\..\\x',
                    n.replace('/', '//'),
                    f'./{n}',
                    f'{n}\n',
                    '.',
                    f'\u202e{n}',
                    n + '\0x',
                    n.upper(),
                    'a/' * 300 + n,
                    'a' * 300 + n,
                    'w/..',
                    n,
                )
            ): b
            for n, b in files.items()
        }
    if trick == 'members':
        files |= {
            f'more/{r.choice(("MUSE_0.csv", "a.csv", "x.hea", "ptbxl_database.csv", "RECORDS", ".csv", "simulation.json"))}': r.choice(
                (b'', r.randbytes(99), files[first])
            )
        }
    if trick=='inside': files[first] = mutate(files[first], r, BYTES+TEXT)
    how = (
        r.choice((zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
        if trick == 'method'
        else r.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    )
    if trick=='method': files = {n: r.choice((1, 8)) if r.random()<.5 else b for n,b in files.items()}
    b = bytearray((slowly_zipped if trick=='method' else zipped)(tuple(files.items()), how))
    heads = [i.start() for i in re.finditer(b'PK\x01\x02', bytes(b))]
    h = r.choice(heads)
    local = struct.unpack_from('<I', b, h+42)[0]
    if trick=='bytes': b = bytearray(mutate(bytes(b), r, BYTES))
    if (
        trick == 'sizes'
    ):  # in the central directory: version, flags, method, CRC, sizes, lengths of fields, offset; and in the end record
        for _ in range(r.choice((1, 1, 2))):
            o, f = r.choice(
                (
                    (6, '<H'),
                    (16, '<I'),
                    (20, '<I'),
                    (24, '<I'),
                    (28, '<H'),
                    (30, '<H'),
                    (32, '<H'),
                    (42, '<I'),
                )
            )
            struct.pack_into(
                f,
                b,
                h + o,
                r.choice(
                    (
                        0,
                        1,
                        7,
                        500,
                        65535 if f == '<H' else 2**32 - 1,
                        r.randrange(65536),
                        60000 if f == '<H' else 2**31,
                    )
                ),
            )
        if r.random() < 0.2:
            struct.pack_into('<I', b, len(b) - r.choice((6, 10)), r.randrange(2**32))
    if trick == 'flags':
        o, at_, v = r.choice(
            (
                (8, 6, 1),
                (8, 6, 0x41),
                (8, 6, 0x800),
                (8, 6, 0x20),
                (10, 8, 99),
                (10, 8, 8),
                (10, 8, 0),
                (10, 8, 12),
                (10, 8, 14),
            )
        )
        struct.pack_into('<H', b, h + o, v)
        struct.pack_into('<H', b, local + at_, v)
    if trick=='bomb': # 400 MB of zeros in 400 kB; the directory tells the truth, or a size a recording could have
        size, data, n = r.choice((400<<20, 390_000, 0, 2**32-2)), m['bomb'], first.encode()
        fields = struct.pack('<HHHHHIIIHH', 20, 0, 8, 0, 0, r.choice((0, zlib.crc32(b''))), len(data), size, len(n), 0)
        b = b'PK\x03\x04'+fields+n+data
        cd = b'PK\x01\x02'+struct.pack('<H', 20)+fields+struct.pack('<HHHII', 0, 0, 0, 0, 0)+n
        b = b+cd+b'PK\x05\x06'+struct.pack('<HHHHIIH', 0, 0, 1, 1, len(cd), len(b), 0)
    z.write_bytes(b)
    return [('all', z), ('one', z/first)]

def make_xlsx(m, r, d):
    parts = zipfile.ZipFile(io.BytesIO(m['xlsx']))
    files = {n: parts.read(n) for n in parts.namelist()}
    n, inside = r.choice(list(files)), r.random()<.7
    if inside: files[n] = mutate(files[n], r, BYTES+[lambda b, r: replace(b, r, re.compile(rb'[\w.]+')), grow])
    with zipfile.ZipFile(d/'Diagnostics.xlsx', 'w', zipfile.ZIP_DEFLATED, compresslevel=1) as z:
        for k,v in files.items(): z.writestr(k, v)
    if not inside: (d/'Diagnostics.xlsx').write_bytes(mutate((d/'Diagnostics.xlsx').read_bytes(), r, BYTES))
    return [('table', d/'Diagnostics.xlsx')]

def make_table(m, r, d):
    i = r.randrange(2)
    p = d/('Diagnostics.csv', 'ptbxl_database.csv')[i]
    p.write_bytes(mutate(m['table'][i], r, BYTES+TEXT))
    if i==0: return [('table', p)]
    n, h, _, s = m['dat'][0]
    (d / 'records500').mkdir()
    (d / f'records500/{n}.hea').write_bytes(h)
    (d / f'records500/{n}.dat').write_bytes(s)
    return [('all', d)]

MAKE = dict(
    csv=make_csv,
    zip=make_zip,
    xlsx=make_xlsx,
    table=make_table,
    mat=lambda *a: make_wfdb(*a, 'mat', 'sig'),
    dat=lambda *a: make_wfdb(*a, 'dat', 'sig'),
    hea=lambda m, r, d: make_wfdb(m, r, d, r.choice(('mat', 'dat')), 'head'),
)

# ---- in the child: read it, judge it

class TooLong(BaseException): pass

READ = [] # the first recording that a case gave

def valid(rec, check):
    import numpy as np
    from ecg_arrhythmia.data.recordings import suspect_unit
    if not READ: READ.append(rec)
    s = rec.signal
    assert (
        s.dtype == np.float32
        and s.shape[0] == 12
        and 0 < s.size <= 16 << 20
        and np.isfinite(rec.fs)
        and rec.fs > 0
    ), (s.dtype, s.shape, rec.fs)
    if check: assert np.isfinite(s).all() and suspect_unit(s)==''

def read(what, path, check):
    from ecg_arrhythmia.data.databases import diagnostics
    from ecg_arrhythmia.data.datasets import catalogue
    from ecg_arrhythmia.data.formats import read_recording
    if what=='one': valid(read_recording(path, check=check), check)
    if what=='table': t = diagnostics(path); assert t.index.is_unique and {'rhythm', 'age', 'sex'} <= set(t)
    if what=='all':
        cat, says = catalogue(path), []
        for n in list(cat)[:3]:
            try: valid(cat.read(n, check), check)
            except Exception as e: says.append(e)
        if says: raise says[0]

@lru_cache(None)
def whole(kind, item, folder, what):
    "The recording of a file as it was before it was damaged, None if that is not read alone"
    from ecg_arrhythmia.core import ECGError
    d = Path(folder)/f'whole-{kind}'
    d.mkdir(exist_ok=True)
    path = d/f'case{WHOLE[kind]}'
    if isinstance(item, tuple):
        name, head, suffix, samples = item
        (d/f'{name}{suffix}').write_bytes(samples)
        path = d/f'{name}.hea'
        path.write_bytes(head)
    else: path.write_bytes(item)
    READ.clear()
    try: read(what, path, True)
    except ECGError: return None
    finally: shutil.rmtree(d)
    return READ[0] if READ else None
WHOLE = dict(csv='.csv', hea='.hea', mat='.mat', dat='.dat') # ending of files by kind; others add theirs

def beside(rec, was):
    "Whether a damaged file gave the same samples, others with a word, or others without (`changed: what`)"
    import numpy as np
    if rec.fs==was.fs and rec.signal.shape==was.signal.shape and np.allclose(rec.signal, was.signal, atol=1e-6, equal_nan=True):
        return 'same'
    said = {*rec.changes, *rec.assumed, *map(str, rec.faults)} - {*was.changes, *was.assumed, *map(str, was.faults)}
    return 'said' if said else f'changed: {what_changed(rec, was)}'

def what_changed(rec, was):
    "Whether another rate, length, order of leads, gain or only other samples were read"
    import numpy as np
    if rec.fs!=was.fs: return f'{rec.fs:g} Hz, not {was.fs:g}'
    n = min(rec.signal.shape[1], was.signal.shape[1])
    a, b = np.nan_to_num(rec.signal[:,:n]), np.nan_to_num(was.signal[:,:n])
    norms = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    like = (a@b.T)/(np.outer(*norms)+1e-9)
    other = [i for i in range(12) if like[i].max()>.999 and like[i,i]<.99]
    if other: return f'{len(other)} leads in the place of others'
    scaled = [i for i in range(12) if like[i,i]>.9999 and abs(norms[0][i]/(norms[1][i]+1e-9)-1)>.01]
    if scaled: return f'{len(scaled)} leads scaled'
    return 'samples' if rec.signal.shape==was.signal.shape else f'{rec.signal.shape[1]} samples, not {was.signal.shape[1]}'

def compared(kind, folder, what):
    "`beside` for what a case gave, '' where the whole file is not read alone"
    if kind not in WHOLE or not READ: return ''
    rec = READ[0]
    was = whole(kind, PICKED[0], folder, what)
    return beside(rec, was) if was else ''

def outcome(what, path, check, folder):
    "How a reader takes a file: read, refused, or a fault"
    from ecg_arrhythmia.core import ECGError
    try:
        read(what, path, check)
        return 'read'
    except ECGError as e:
        if re.search('MemoryError|[Uu]nable to allocate|TooLong', str(e)):
            return f'memory: {e}'
        if len(str(e)) > 2500:
            return f'message of {len(str(e))} characters: {e}'[:300]
        return (
            'refused'
            if str(folder) in str(e) or any(p.stem in str(e) for p in (path, *folder.rglob('*')))
            else f'nameless: {e}'
        )
    except TooLong:
        return 'too long'
    except MemoryError as e:
        return f'memory: {e}'
    except Exception as e:
        return f'escaped: {type(e).__name__}: {e}'

def cases(share):
    "(kind, seed) of every case, a block of each kind in turn"
    return [
        (k, i)
        for b in range(0, max(share.values()), BLOCK)
        for k, n in share.items()
        for i in range(b, min(n, b + BLOCK))
    ]

def pages(what):
    "Memory of this process in bytes, by its name in `/proc`"
    return int(re.search(rf'{what}:\s+(\d+)', Path('/proc/self/status').read_text())[1])<<10

def late(*_): raise TooLong

def tried(kind, seed, m, make, folder):
    "The row of a case: kind, seed, outcome, seconds, peak memory in MB above what was there before, and its samples"
    d = folder/f'{kind}{seed}'
    d.mkdir()
    todo = make[kind](m, random.Random(f'{kind} {seed}'), d)
    signal.signal(signal.SIGPROF, late) # processor time: other processes may be busy
    Path('/proc/self/clear_refs').write_text('5') # peak := now
    before, start, how = pages('VmRSS'), time.process_time(), []
    READ.clear()
    resource.setrlimit(resource.RLIMIT_AS, (pages('VmSize')+MEMORY, -1))
    for what,path in todo:
        for check in (True, False) if seed%4==0 else (True,):
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            try: how.append(outcome(what, path, check, d))
            except TooLong: how.append('too long')
            finally: signal.setitimer(signal.ITIMER_PROF, 0)
    resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
    worst = max(how, key=lambda h: (h not in ('read', 'refused'), h=='refused'))
    row = dict(kind=kind, seed=seed, how=worst[:300], seconds=round(time.process_time()-start, 3), mb=(pages('VmHWM')-before)>>20)
    row['samples'] = compared(kind, folder, todo[0][0]) if how[0]=='read' else ''
    shutil.rmtree(d)
    return row

def child(todo, folder, make=MAKE, material=material):
    "Runs cases, prints the row of each as a line of JSON"
    import numpy, openpyxl, pandas, wfdb, soundfile, ecg_arrhythmia.data.datasets
    faulthandler.enable(all_threads=False); warnings.simplefilter('ignore')
    m = material(folder)
    print('ready', flush=True)
    for kind,seed in todo: print(json.dumps(tried(kind, seed, m, make, folder)), flush=True)

def fuzz(share, file=__file__):
    "Rows of every case; a child that dies or hangs is a fault of the case it was at, and another goes on after it"
    todo, rows = cases(share), []
    while len(rows)<len(todo):
        at = len(rows)
        with tempfile.TemporaryDirectory(dir='/dev/shm' if os.access('/dev/shm', os.W_OK) else None) as d:
            died = family(file, share, at, min(len(todo), at+BLOCK), d, rows.append)
        if not died: continue
        kind, seed = todo[len(rows)]
        rows.append(dict(kind=kind, seed=seed, how=f'died: {died}', seconds=0, mb=0))
    return rows

def family(file, share, at, end, folder, note):
    "Why a child that was to do cases `at` to `end` died, '' if it did not"
    with open(f'{folder}/stderr', 'w+') as err, subprocess.Popen(
        [sys.executable, file, 'child', json.dumps(share), str(at), str(end), folder],
        stdout=subprocess.PIPE,
        stderr=err,
        text=True,
        env=os.environ | dict(TMPDIR=folder, OMP_NUM_THREADS='1'),
    ) as p:
        says = lambda: (err.seek(0), err.read()[-1500:])[1]
        killer = threading.Timer((end-at)*20*SECONDS, p.kill)
        killer.start()
        try:
            assert p.stdout.readline().startswith('ready'), says() # else there is nothing to mutate
            for l in p.stdout:
                if l.startswith('{"kind"') and l.endswith('\n'): note(json.loads(l))
            return f'{p.returncode} {says()}' if p.wait() else ''
        finally: killer.cancel(); p.kill()

def table(rows):
    by = defaultdict(Counter)
    for r in rows: by[r['kind']][r['how'] if r['how'] in ('read', 'refused') else 'FAULT'] += 1
    heads = ['kind', 'files', 'read', 'refused', 'faults', 'slowest s', 'mean ms', 'peak MB', 'same', 'said', 'changed']
    out = [' '.join(f'{h:>{w}}' for h,w in zip(heads, (10, 6, 6, 8, 7, 10, 8, 8, 6, 6, 6)))]
    for k, c in by.items():
        mine = [r for r in rows if r['kind'] == k]
        out.append(
            f"{k:>10} {sum(c.values()):6} {c['read']:6} {c['refused']:8} {c['FAULT']:7} "
            f"{max(r['seconds'] for r in mine):10.2f} {sum(r['seconds'] for r in mine)/len(mine)*1000:8.1f} "
            f"{max(r['mb'] for r in mine):8} "
            + ' '.join(f"{sum(r.get('samples', '').partition(':')[0]==how for r in mine):6}" for how in ('same', 'said', 'changed'))
        )
    return '\n'.join(out)

def judge(rows, n):
    faults = [r for r in rows if r['how'] not in ('read', 'refused')]
    assert len(rows) == n and not faults, (
        table(rows) + '\n' + '\n'.join(f"{r['kind']} {r['seed']}: {r['how']}" for r in faults[:20])
    )
    assert max(r['mb'] for r in rows) <= MEMORY>>20, table(rows)
    assert (
        min(sum(r['how'] == h for r in rows) for h in ('read', 'refused')) > n // 20
    )  # the mutator neither leaves all whole nor breaks all

def test_fuzz_some(): judge(fuzz({k: v//80 for k,v in SHARE.items()}), sum(v//80 for v in SHARE.values()))

@pytest.mark.slow
def test_fuzz_all(): judge(fuzz(some := {k: EACH or v for k,v in SHARE.items()}), sum(some.values()))

def main(child_of, args):
    "`child`, cases by kind, the first, the last, and a folder: what `family` starts"
    child_of(cases(json.loads(args[1]))[int(args[2]):int(args[3])], Path(args[4]))

def commit():
    return subprocess.run(
        ['git', 'describe', '--always', '--dirty'], cwd=Path(__file__).parent, capture_output=True, text=True
    ).stdout.strip()

if __name__=='__main__': main(child, sys.argv[1:])

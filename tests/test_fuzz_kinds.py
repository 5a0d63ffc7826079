"""Damaged tables, Philips, CardioSoft, SCP-ECG, EDF, HDF5, NumPy and MATLAB files by the thousand

Each gives a valid `Recording` or an `ECGError` that names it.

The harness and its bounds are those of `test_fuzz`. By default some 100 of each kind are tried, with `pytest -m slow`
2,000, with `FUZZ=20000 pytest -m slow` 20,000 of each. `tests/fuzz.py` counts what becomes of every kind. Most files are
short ones written by `writers`; every twentieth Philips, CardioSoft and SCP-ECG file is a real one, where these are at hand.
"""
import io, json, re, struct, sys, zipfile, zlib
from pathlib import Path

import pytest

import test_fuzz as F
from test_fuzz import BYTES, TEXT, at, judge, mutate
from test_fuzz_formats import XML

FILES = F.DATA/'files'
REAL = dict(
    philips=['philips_tbj128.xml', 'sierra103_129DYPRG.xml'],
    cardiosoft=['ecgprocess_XML1.xml'],
    scp=['ecgtoolkit_Example.scp'],
)
WRITTEN = ['ishne', 'mfer', 'mortara', 'philips', 'cardiosoft', 'scp']
KINDS = ['dialect', 'edf', 'bdf', 'hdf5', 'npy', 'npz', 'mat4', 'mat5', *WRITTEN]
RATELESS = 'dialect', 'npy', 'npz', 'hdf5' # kinds of which some files say no rate
SHARE, WHOLE = {k: 2000 for k in KINDS}, {k: '.bin' for k in KINDS}

# ---- what is mutated

def dialects(x):
    "Tables of the same samples in several dialects"
    from ecg_arrhythmia.data.recordings import LEADS
    def table(header, sep, decimal, first, above='', scale=1):
        rows = [[f'{v*scale:.3f}'.replace('.', decimal) for v in row] for row in x.T]
        rows = [sep.join([first(i), *row] if first else row) for i,row in enumerate(rows)]
        return (above + '\n'.join([sep.join(header), *rows]) + '\n').encode()
    L = list(LEADS)
    return [
        table(['time', *L], ';', ',', lambda i: f'{i/500:.3f}'.replace('.', ',')),
        table([f'{l} (mV)' for l in L], '\t', '.', None),
        table(L, '|', '.', None, '# fs=500\n# unit: mV\n'),
        table(['Elapsed time', *L], ',', '.', lambda i: f'0:{i/500:06.3f}'),
        table(['', *map(str, range(12))], ',', '.', str),
        table(L, ' ', '.', None),
        '\n'.join(','.join([l, *[f'{v:.3f}' for v in row]]) for l, row in zip(L, x)).encode(),
        table([f'{l} (µV)' for l in L], ',', '.', None, scale=1000).decode().encode('utf-16'),
    ]

def edfs(x, folder):
    "EDF and BDF files"
    import numpy as np, pyedflib
    from ecg_arrhythmia.data.recordings import LEADS
    found = []
    for kind in (pyedflib.FILETYPE_EDF, pyedflib.FILETYPE_EDFPLUS, pyedflib.FILETYPE_BDFPLUS):
        w = pyedflib.EdfWriter(str(folder/f'{kind}'), 12, kind)
        w.setSignalHeaders(
            [
                dict(
                    label=f'ECG {l}',
                    dimension='uV',
                    sample_frequency=500,
                    physical_max=9999,
                    physical_min=-9999,
                    digital_max=32767,
                    digital_min=-32768,
                    transducer='',
                    prefilter='',
                )
                for l in LEADS
            ]
        )
        w.writeSamples([np.ascontiguousarray(row)*1000. for row in x])
        w.close()
        found.append((folder/f'{kind}').read_bytes())
    return found

def arrays(x):
    "NumPy, MATLAB and HDF5 files"
    import h5py, numpy as np
    from scipy.io import savemat
    def saved(save, *args, **kw):
        out = io.BytesIO()
        save(out, *args, **kw)
        return out.getvalue()
    def hdf5(**kw):
        out = io.BytesIO()
        with h5py.File(out, 'w') as f:
            for k,v in kw.items(): f[k] = v
        return out.getvalue()
    many = np.stack([x[:,:400].T]*3)
    npy = [saved(np.save, a) for a in (x, x.T, x.astype('f2'), np.rint(x*1000).astype('i2'))]
    mat4 = [saved(savemat, dict(ECG=a, fs=500), format='4') for a in (x, x.T)]
    mat5 = [saved(savemat, dict(ECG=x, fs=500), do_compression=c) for c in (False, True)]
    mat5.append(saved(savemat, dict(ECG=dict(data=x, sex='F'))))
    return dict(npy=npy, mat4=mat4, mat5=mat5, npz=[saved(np.savez, ecg=x, fs=500), saved(np.savez_compressed, ecg=x, fs=500)],
        hdf5=[hdf5(ecg=x), hdf5(tracings=many, exam_id=np.arange(3)), hdf5(signal=x, fs=500)])

def written(x):
    "Files of the kinds in `WRITTEN`"
    import numpy as np, writers
    counts = np.rint(x*1000).astype(int)
    return dict(
        philips=[writers.philips(counts), writers.philips(counts, version='1.03', code='utf-16'),
            writers.philips(counts, version='1.04.02', code='latin-1', said='utf-8'), writers.philips(counts, step=5)],
        cardiosoft=[writers.cardiosoft(counts), writers.cardiosoft(counts[:,:200], fs=250)]*2,
        scp=[writers.scp(counts, order=o, huffman=h) for o in (0, 2) for h in (False, True)],
        ishne=[writers.ishne(counts), writers.ishne(counts, comment=b'hello', checksum=False)],
        mfer=[writers.mfer(counts), writers.mfer(counts, order='>', frames=4)],
        mortara=[writers.mortara(counts), writers.mortara(counts[:,:400], fs=250)])

def material(folder):
    from ecg_arrhythmia.data.simulation import simulate
    x = simulate('AFIB', seed=1).signal[:,:500]
    *edf, bdf = edfs(x, folder)
    out = dict(dialect=dialects(x), edf=edf, bdf=[bdf], **arrays(x), **written(x[:,:300]))
    for kind,names in REAL.items():
        out[kind] = out[kind]*5 + [(FILES/n).read_bytes() for n in names if (FILES/n).is_file()][:1]
    return out

# ---- mutations

def field(b, r):
    "Another number in the place of one of 2 or 4 bytes, mostly in the first kilobytes"
    i = r.randrange(min(len(b), r.choice((64, 512, 4096, len(b))))+1) if b else 0
    v = r.choice((0, 1, 2, 7, 12, 500, 2**15, 2**16-1, 2**31-1, 2**31, 2**32-1, r.randrange(2**32)))
    return (
        b[:i] + struct.pack(r.choice(('<I', '>I')), v) + b[i + 4 :]
        if r.random() < 0.5
        else b[:i] + struct.pack('<H', v & 65535) + b[i + 2 :]
    )
def head_text(b, r):
    "Another text in the place of a word of an ASCII header"
    found = list(re.finditer(rb'[\w.+-]{1,16} {0,8}', b[:4096]))
    if not found: return b
    m = r.choice(found)
    w = r.choice(
        (
            b'-1',
            b'0',
            b'1e308',
            b'99999999',
            b'nan',
            b'',
            b'mV',
            b'ECG V7',
            b'256',
            b'-99999',
            b'EDF+D',
            b'\xff\xff',
        )
    )
    return b[:m.start()] + w[:len(m[0])].ljust(len(m[0])) + b[m.end():]
BINARY = [field]*4 + BYTES

HOW = dict(
    dialect=BYTES + TEXT * 3,
    edf=[head_text] * 6 + BINARY,
    bdf=[head_text] * 6 + BINARY,
    philips=XML * 3 + BYTES,
    cardiosoft=XML * 3 + BYTES,
    mortara=XML * 3 + BYTES,
    npy=[head_text] * 2 + BINARY,
)

def sealed(data):
    "SCP-ECG with checksums that fit, so that what is behind them is tried"
    import writers
    data = bytearray(data)
    for at in range(28, min(len(data), 150), 10): # pointers of section 0
        if at+10>len(data): break
        length, index = struct.unpack_from('<II', data, at-4)
        if 2<length<=len(data) and 0<index<=len(data):
            data[index-1:index+1] = struct.pack('<H', writers.crc(bytes(data[index+1:index-1+length])))
    data[:2] = struct.pack('<H', writers.crc(bytes(data[2:])))
    return bytes(data)

def stamped(data):
    "An ISHNE file whose checksum of the header fits"
    import writers
    start = struct.unpack_from('<i', data, 22)[0] if len(data)>26 else 0
    return data[:8]+struct.pack('<H', writers.crc(data[10:start]))+data[10:] if 10<start<=len(data) else data

def inside(data, r):
    "A member of a zip of arrays changed, and the checksums right"
    parts = zipfile.ZipFile(io.BytesIO(data))
    files = {n: parts.read(n) for n in parts.namelist()}
    name = r.choice(list(files))
    files[name] = mutate(files[name], r, [head_text]*2+BINARY)
    return F.zipped(tuple(files.items()), zipfile.ZIP_DEFLATED)

def unpacked(data, r):
    "A packed variable of a MATLAB file changed and packed again; another file as it is"
    if len(data)<137 or data[128:132]!=b'\x0f\0\0\0': return mutate(data, r, BINARY)
    inner = zlib.compress(mutate(zlib.decompress(data[136:]), r, BINARY))
    return data[:132]+struct.pack('<I', len(inner))+inner

MENDED = dict(scp=lambda data, r: sealed(mutate(data, r, BINARY)), ishne=lambda data, r: stamped(mutate(data, r, BINARY)),
              npz=inside, mat5=unpacked)

def make(kind):
    def of(m, r, d):
        whole = F.pick(r, m[kind])
        mended = kind in MENDED and r.random()<.7
        (d/'case.bin').write_bytes(MENDED[kind](whole, r) if mended else mutate(whole, r, HOW.get(kind, BINARY)))
        return [('at 500 Hz' if kind in RATELESS else 'any', d/'case.bin')]
    return of

# ---- in the child

def read(what, path, check):
    from ecg_arrhythmia.core import ECGError
    from ecg_arrhythmia.data.formats import recordings_in
    from ecg_arrhythmia.data.files import SAMPLING_RATES
    from ecg_arrhythmia.data.recordings import Recording
    found = recordings_in(path, check=check, fs=500 if what=='at 500 Hz' else None)
    (_, rec), *_ = list(found) or [('', ECGError(f'{path}: nothing in it'))]
    if isinstance(rec, ECGError): raise rec
    F.valid(rec, check)
    assert (
        isinstance(rec, Recording)
        and SAMPLING_RATES[0] <= rec.fs <= SAMPLING_RATES[1]
        and {'rhythm'} <= set(rec.meta) <= {'rhythm', 'age', 'sex', 'codes'}
    )

def judge_all(rows, n):
    "As `judge` does; EDF of which a byte is changed is mostly still EDF, and few mutated SCP-ECG files are"
    faults = [r for r in rows if r['how'] not in ('read', 'refused')]
    assert len(rows) == n and not faults, (
        F.table(rows) + '\n' + '\n'.join(f"{r['kind']} {r['seed']}: {r['how']}" for r in faults[:20])
    )
    assert max(r['mb'] for r in rows) <= F.MEMORY>>20, F.table(rows)
    for kind in KINDS: assert {r['how'] for r in rows if r['kind']==kind}=={'read', 'refused'}, F.table(rows)

def test_kinds_fuzz_some():
    some = {k: 60 for k in KINDS}
    judge_all(F.fuzz(some, file=__file__), sum(some.values()))

@pytest.mark.slow
def test_kinds_fuzz_all():
    some = {k: F.EACH or v for k,v in SHARE.items()}
    judge_all(F.fuzz(some, file=__file__), sum(some.values()))

def test_a_lead_with_steps_of_its_own_is_doubted(tmp_path):
    import numpy as np, writers
    from ecg_arrhythmia.data.formats import read_recording
    from ecg_arrhythmia.data.simulation import simulate
    data = writers.ishne(np.rint(simulate('SR', seed=1).signal[:,:2000]*1000).astype(int))
    path = tmp_path/'holter.ecg'
    path.write_bytes(data)
    assert 'steps' not in dict(read_recording(path).faults)
    path.write_bytes(stamped(data.replace(struct.pack('<12h', *[1000]*12), struct.pack('<12h', 3000, *[1000]*11))))
    assert 'lead I has steps of' in dict(read_recording(path).faults)['steps']

def child(todo, folder):
    import defusedxml.ElementTree, ecgdatakit, h5py, pyedflib, scipy.io, xmltodict, ecg_arrhythmia.data.formats
    from ecgdatakit.parsing.parsers import ishne_holter, mfer, mortara_el250, scp_ecg, sierra_xml
    F.read = read
    F.WHOLE |= WHOLE
    F.child(todo, folder, {k: make(k) for k in KINDS}, material)

if __name__=='__main__': F.main(child, sys.argv[1:])

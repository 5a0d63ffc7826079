"Bad input, layouts, concurrency and real data for `ecg_arrhythmia.data.recordings`, `files` and `datasets`"
import json, multiprocessing as mp, os, pickle, random, struct, subprocess, sys, zipfile, zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np, pandas as pd, pytest

from ecg_arrhythmia.data.databases import diagnostics, table_in
from ecg_arrhythmia.data.datasets import catalogue, sample_data
from ecg_arrhythmia.data.rhythms import ptbxl_rhythm
from ecg_arrhythmia.core import ECGError
from ecg_arrhythmia.data.recordings import LEADS, Recording, standardise
from ecg_arrhythmia.data.files import Files, to_recording
from ecg_arrhythmia.data.formats import read_recording
from ecg_arrhythmia.data.tables import read_table, to_csv_bytes
from ecg_arrhythmia.data.wfdb_files import parse_header

def parse_csv(data, where='CSV', check=True):
    "The leads of a table in µV, (12, samples)"
    return to_recording(read_table(data, where, fs=500, unit='µV'), where, check).signal.astype(float)*1000

DATA = sample_data() or Path(__file__).resolve().parents[2]/'shared/data'
real = pytest.mark.skipif(not (DATA/'chapman/ECGData.zip').is_file(), reason='no real recordings here')

def heart(n=5000, fs=500, rate=75):
    "A dipole in twelve leads, mV, whole steps of the recorder"
    t = np.arange(n)/fs % (60/rate)
    w = lambda at, width, size: size*np.exp(-.5*((t-at)/width)**2)
    v = np.stack(
        [
            w(0.40, 0.01, 0.9) + w(0.22, 0.02, 0.1),
            w(0.41, 0.012, 1.1) + w(0.66, 0.04, 0.25),
            *(w(0.40 + k / 200, 0.012, k / 4 - 0.5) for k in range(1, 7)),
        ]
    )
    i,ii = (np.rint(v[:2]/.00488)*.00488)
    return np.stack([i, ii, ii-i, -(i+ii)/2, i-ii/2, ii-i/2, *np.rint(v[2:]/.00488)*.00488])

SIG = heart()
RAW = to_csv_bytes(Recording(SIG))
LINES = RAW.decode('utf-8-sig').splitlines()
DENOISED = ('\n'.join(LINES[1:])+'\n').encode()

def fails(*says): return pytest.raises(ECGError, match='(?s)'+'.*'.join(says))

def diag(path, names, rhythms, **kw):
    t = pd.DataFrame(
        dict(FileName=names, Rhythm=rhythms, Beat='NONE', PatientAge=60, Gender='MALE', VentricularRate=70)
        | kw
    )
    t.to_csv(path, index=False) if str(path).endswith('.csv') else t.to_excel(path, index=False)

@pytest.fixture
def chapman(tmp_path):
    with zipfile.ZipFile(tmp_path/'ECGData.zip', 'w', zipfile.ZIP_DEFLATED) as z:
        for i in range(6): z.writestr(f'ECGData/MUSE_{i}.csv', to_csv_bytes(Recording(np.roll(SIG, i*50, 1))))
    diag(
        tmp_path / 'Diagnostics.xlsx',
        [f'MUSE_{i}' for i in (5, 4, 3, 2, 1, 9)],
        ['SR', 'SA', 'AFIB', ' SB ', '??', 'AF'],
        PatientAge=[50, -1, 121, 0, 120, 30],
        Gender=['MALE', 'FEMALE', 'Female', 'm', '', 'F'],
    )
    return tmp_path

# ---- Recording

def test_error_is_cli_and_value_error():
    from fastcore.script import CliError
    assert issubclass(ECGError, CliError) and issubclass(ECGError, ValueError)

def test_recording_keeps_float32_contiguous():
    r = Recording(np.asfortranarray(SIG))
    assert r.signal.dtype==np.float32 and r.signal.flags.c_contiguous and r.seconds==10 and 'array' not in repr(r)
    assert (r.lead('AVR')==r.signal[3]).all()
    with fails("no lead 'V7'", 'V6'): r.lead('V7')

@pytest.mark.parametrize(
    'bad,says',
    [
        (SIG[:11], 'shape'),
        (SIG.T, 'shape'),
        (SIG[0], 'shape'),
        (np.zeros((12, 0)), 'shape'),
        ([['a'] * 3] * 12, 'not numbers'),
    ],
)
def test_recording_shape(bad, says):
    for check in (True, False):
        with fails('rec7', says): Recording(bad, name='rec7', check=check)

@pytest.mark.parametrize('v', [np.nan, np.inf, -np.inf])
def test_recording_missing_value(v):
    x = SIG.copy(); x[7,123] = x[9,5] = v
    with fails('lead V2, sample 123', '2 in all'): Recording(x)
    assert Recording(x, check=False).signal.shape==(12,5000)

@pytest.mark.parametrize('k,unit', [(1e3,'µV'), (1e6,'nV'), (1e-3,'V')])
def test_recording_unit(k, unit):
    with fails(f'look like {unit} taken for mV'): Recording(SIG*k)
    Recording(SIG*k, check=False)

def test_unit_is_robust():
    x = SIG.copy(); x[8] += 900*np.sin(np.arange(5000)); x[0] += 80
    Recording(x); Recording(np.zeros((12,10))); Recording(SIG*5); Recording(SIG/5)

@pytest.mark.parametrize('fs', [0, -1, np.nan, np.inf])
def test_recording_rate(fs):
    with fails('sampling rate'): Recording(SIG, fs=fs)

# ---- CSV

def test_round_trip():
    assert np.abs(parse_csv(RAW)/1000-SIG).max()<.00245
    assert to_csv_bytes(Recording(parse_csv(RAW)/1000))==RAW
    assert (parse_csv(DENOISED)==parse_csv(RAW)).all()
    assert RAW.startswith(b'\xef\xbb\xbfI,II,III,aVR,') and b'-0,' not in RAW

@pytest.mark.parametrize(
    'edit',
    [
        lambda b: b[3:],
        lambda b: b.replace(b'\n', b'\r\n'),
        lambda b: b.replace(b'\n', b'\r'),
        lambda b: b + b'\n\n',
        lambda b: b.rstrip(b'\n'),
        lambda b: b.replace(b'aVR', b'AVR').replace(b'aVF', b' avf '),
        lambda b: b.replace(b'I,II', b'"I","II"', 1),
    ],
)
def test_harmless_variations(edit):
    assert (parse_csv(edit(RAW)) == parse_csv(RAW)).all()

def test_header_order():
    order = random.Random(1).sample(range(12), 12)
    t = '\n'.join(','.join(np.array(l.split(','))[order]) for l in LINES)
    assert (parse_csv(t.encode())==parse_csv(RAW)).all()

def edited(row, col, cell, lines=LINES):
    rows = [l.split(',') for l in lines]
    rows[row][col] = cell
    return '\n'.join(map(','.join, rows)).encode()

def columns(f, lines=LINES): return '\n'.join(','.join(f(l.split(','))) for l in lines).encode()

@pytest.mark.parametrize(
    'data,says',
    [
        (b'', ['x.csv: the file is empty']),
        (b'\xef\xbb\xbf \n\n', ['empty']),
        (LINES[0].encode(), ['header but no samples']),
        (LINES[0].encode() + b'\n\n', ['header but no samples']),
        (columns(lambda r: r[:11]), ['missing lead V6']),
        (columns(lambda r: r[:11], LINES[1:]), ['11 columns without names']),
        (columns(lambda r: [*r, '1'], LINES[1:]), ['13 columns without names']),
        (columns(lambda r: [*r, '0.1' if r[0] != 'I' else 'time']), ['time stands still']),
        (
            '\n'.join([*LINES[:40], LINES[40].rpartition(',')[0], *LINES[41:]]).encode(),
            ['missing value in lead V6, sample 39'],
        ),
        ('\n'.join([*LINES[:40], LINES[40] + ',7', *LINES[41:]]).encode(), ['row 41: 13 columns']),
        (edited(0, 7, 'MLII'), ['missing lead V2', 'MLII']),
        (edited(0, 1, 'I'), ['repeated lead I']),
        (edited(100, 4, 'abc'), ['row 101, lead aVL', "'abc' is not a number"]),
        (edited(1, 0, 'abc'), ['row 2, lead I', 'abc']),
        (edited(0, 2, 'abc', LINES[1:]), ['row 1, lead III', 'abc']),
        (edited(100, 4, '12-3'), ['row 101', '12-3']),
        (edited(17, 7, ''), ['missing value in lead V2, sample 16 .1 in all']),
        (edited(17, 7, 'NaN'), ['missing value in lead V2, sample 16']),
        (edited(5000, 11, ' '), ['missing value in lead V6, sample 4999']),
        (edited(17, 7, 'inf'), ['missing value in lead V2, sample 16']),
        (edited(0, 0, '', LINES[1:]), ['missing value in lead I, sample 0']),
        (edited(17, 7, '1_0'), ['row 18, lead V2', '1_0']),
        (edited(17, 7, '１２'), ['row 18, lead V2', '１２']),
        (edited(17, 7, '1\x002'), ['not a text file']),
        (edited(17, 7, '1' * 20_000), ['missing value in lead V2, sample 16']),
        (b'1,' * 6000, ['one lead only']),
        (RAW.replace(b'V6', b'V6' + b',x' * 99, 1), ['row 2: 12 columns, expected 111']),
        (b'\x00' * 4000, ['x.csv']),
        (b'PK\x03\x04' + os.urandom(3000), ['x.csv']),
        (b'<html>404</html>', ['x.csv']),
    ],
)
def test_bad_csv(data, says):
    with fails(*says): parse_csv(data, 'x.csv')

def test_unchecked_csv_has_nan():
    v = parse_csv(edited(17, 7, ''), check=False)
    assert np.isnan(v[7,16]) and np.isnan(v).sum()==1
    with fails('abc'): parse_csv(edited(17, 7, 'abc'), check=False)

def test_short_recording_reads_and_pads(tmp_path):
    (tmp_path/'s.csv').write_bytes('\n'.join(LINES[:5000]).encode())
    r = read_recording(tmp_path/'s.csv')
    assert r.signal.shape==(12,4999) and not r.changes
    assert 'padded from 4999 to 5000' in standardise(r).changes[0]

@pytest.mark.parametrize('k,unit', [(1e-3,'mV'), (1e-6,'V')])
def test_csv_unit(tmp_path, k, unit):
    np.savetxt(tmp_path/'u.csv', (SIG*1000*k).T, delimiter=',', fmt='%.8g')
    with fails('u.csv: ', f'look like {unit} taken for µV', 'pass the right `unit`'):
        read_recording(tmp_path / 'u.csv', unit='µV')
    assert any(unit in a for a in read_recording(tmp_path/'u.csv').assumed)
    assert np.abs(read_recording(tmp_path/'u.csv', unit=unit).signal-SIG).max()<1e-5
    with fails("unknown unit 'feet'", 'µV'): read_recording(tmp_path/'u.csv', unit='feet')

def test_csv_unit_written_uV(tmp_path):
    (tmp_path/'u.csv').write_bytes(RAW)
    assert (read_recording(tmp_path/'u.csv', unit='uV').signal==read_recording(tmp_path/'u.csv').signal).all()

def test_to_csv_refuses():
    with fails('500 Hz, not 250'): to_csv_bytes(Recording(SIG, fs=250))
    x = SIG.copy(); x[0,0] = np.nan
    with fails('missing value'): to_csv_bytes(Recording(x, check=False))

# ---- zips

def test_zip_faults(chapman, tmp_path):
    z, whole = chapman/'ECGData.zip', (chapman/'ECGData.zip').read_bytes()
    assert len(read_recording(z/'ECGData/MUSE_1.csv').signal)==12
    with fails('no such file', 'did you mean ECGData/MUSE_1.csv'): read_recording(z/'ECGData/MUSE-1.csv')
    with fails('may hold recordings: use `recordings_in`'): read_recording(z)
    with fails('no such file'): read_recording(chapman/'none.zip/a.csv')
    for name,data in dict(cut=whole[:len(whole)//2], text=b'hello', empty=b'').items():
        (tmp_path/f'{name}.zip').write_bytes(data)
        with fails(f'{name}.zip: not a zip, or a zip cut short'): read_recording(tmp_path/f'{name}.zip/ECGData/MUSE_1.csv')
        with fails('cut short'): catalogue(tmp_path/f'{name}.zip')
    i = zipfile.ZipFile(z).getinfo('ECGData/MUSE_0.csv')
    hurt = bytearray(whole); at = i.header_offset+30+len(i.filename)+i.compress_size//2
    hurt[at:at+8] = bytes(255-b for b in hurt[at:at+8])
    (tmp_path/'hurt.zip').write_bytes(hurt)
    with fails('MUSE_0.csv: damaged or unreadable'): read_recording(tmp_path/'hurt.zip/ECGData/MUSE_0.csv')
    locked = bytearray(whole) # the flag says encrypted, in the local and the central header
    locked[i.header_offset+6] |= 1
    locked[zipfile.ZipFile(z).start_dir+8] |= 1
    (tmp_path/'locked.zip').write_bytes(locked)
    with fails('encrypted'): read_recording(tmp_path/'locked.zip/ECGData/MUSE_0.csv')

@pytest.mark.parametrize('size', [400<<20, 390_000, 0])
def test_zip_bomb(tmp_path, size):
    "400 MB of zeros in 400 kB; the directory tells the truth about the size, or not"
    c = zlib.compressobj(9, zlib.DEFLATED, -15); data = (c.compress(bytes(1<<20))+c.flush(zlib.Z_FULL_FLUSH))*400 + b'\3\0'
    fields = struct.pack('<HHHHHIIIHH', 20, 0, 8, 0, 0, zlib.crc32(bytes(size)), len(data), size, 5, 0)
    head, cd = (
        b'PK\3\4' + fields + b'a.csv' + data,
        b'PK\1\2' + struct.pack('<H', 20) + fields + struct.pack('<HHHII', 0, 0, 0, 0, 0) + b'a.csv',
    )
    (tmp_path/'b.zip').write_bytes(head+cd+b'PK\5\6'+struct.pack('<HHHHIIH', 0, 0, 1, 1, len(cd), len(head), 0))
    with fails('b.zip/a.csv: (more than 50,331,648 bytes|damaged|a binary file|an empty file)'):
        read_recording(tmp_path / 'b.zip/a.csv')

def test_odd_files(tmp_path):
    with zipfile.ZipFile(tmp_path/'z.zip', 'w', zipfile.ZIP_BZIP2) as z: z.writestr('a.csv', RAW)
    with fails('a.csv: packed in a way'): read_recording(tmp_path/'z.zip/a.csv')
    os.mkfifo(tmp_path/'pipe.csv')
    with fails('pipe.csv: a device, a pipe or a socket, not a file'): read_recording(tmp_path/'pipe.csv')
    with open(tmp_path/'big.csv', 'wb') as f: f.truncate(1<<40) # a sparse terabyte
    with fails('big.csv: a binary file of an unknown kind'): read_recording(tmp_path/'big.csv')
    with open(tmp_path/'big.xlsx', 'wb') as f: f.truncate(1<<40)
    with fails('big.xlsx: 1,099,511,627,776 bytes'): diagnostics(tmp_path/'big.xlsx')

@pytest.mark.parametrize(
    'path,says',
    [
        ('none.csv', 'no such file'),
        ('a.txt', 'a.txt: text, but not a table of leads'),
        ('.', 'a folder; use `recordings_in`'),
        ('none/none.csv', 'no such file'),
        ('none', 'no such file'),
    ],
)
def test_read_recording_paths(tmp_path, path, says):
    (tmp_path/'a.txt').write_text('x')
    with fails(says): read_recording(tmp_path/path)

# ---- WFDB

def wfdb_files(folder, name='JS00001', fmt='16', units='mV', leads=LEADS, dx='164889003,59118001', x=None,
               comments=('Age: 85','Sex: Male')):
    import wfdb
    folder.mkdir(parents=True, exist_ok=True)
    x, n = SIG if x is None else x, len(leads)
    wfdb.wrsamp(
        name,
        500,
        [units] * n,
        list(leads),
        p_signal=x.T[:, :n].copy(),
        fmt=[fmt] * n,
        adc_gain=[1000 / dict(mV=1, uV=1000, V=0.001, foo=1)[units]] * n,
        baseline=[0] * n,
        comments=[*comments, f'Dx: {dx}'],
        write_dir=str(folder),
    )
    return folder/f'{name}.hea'

def test_wfdb(tmp_path, monkeypatch):
    h = wfdb_files(tmp_path/'w')
    r = read_recording(h)
    assert r.name=='JS00001' and np.abs(r.signal-SIG).max()<6e-4
    assert r.meta==dict(rhythm='AFIB', age=85., sex='M', codes='164889003 59118001')
    assert (read_recording(h.with_suffix('.dat')).signal == r.signal).all() and (
        read_recording(h.with_suffix('')).signal == r.signal
    ).all()
    monkeypatch.chdir(tmp_path)
    assert (read_recording('w/JS00001.hea').signal==r.signal).all()
    with zipfile.ZipFile('w.zip', 'w') as z:
        for s in ('.hea','.dat'): z.write(f'w/JS00001{s}')
    assert (read_recording('w.zip/w/JS00001.hea').signal==r.signal).all()

def _stored(steps, fmt):
    "Bytes of steps in a format of WFDB, written another way than they are read"
    if fmt in ('16', '61', '32'): return steps.astype({'16':'<i2', '61':'>i2', '32':'<i4'}[fmt]).tobytes()
    if fmt in ('80', '160'): return (steps + {'80':128, '160':32768}[fmt]).astype({'80':'u1', '160':'<u2'}[fmt]).tobytes()
    if fmt=='24': return b''.join(int(v).to_bytes(3, 'little', signed=True) for v in steps)
    nibbles = [n for v in steps for n in (v & 15, v>>4 & 15, v>>8 & 15)]
    out = bytearray()
    for a in range(0, len(nibbles), 6):
        l = [*nibbles[a:a+6], 0, 0, 0][:6]
        out += bytes([l[0]|l[1]<<4, l[2]|l[5]<<4, l[3]|l[4]<<4])
    return bytes(out[:-(-len(steps)*3//2)])

@pytest.mark.parametrize('fmt', ['16', '61', '32', '80', '160', '24', '212'])
def test_wfdb_formats(tmp_path, fmt):
    "Each format that is read without the package wfdb; an odd number of samples, and a file cut short"
    steps = np.random.default_rng(1).integers(-120, 120, (2501, 12))
    data = _stored(steps.ravel(), fmt)
    (tmp_path/'r.dat').write_bytes(data)
    lines = [f'r.dat {fmt} 100/mV 16 0 {v} {s%65536} 0 {l}' for v,s,l in zip(steps[0], steps.sum(0), LEADS)]
    (tmp_path/'r.hea').write_text('\n'.join(['r 12 500 2501', *lines]))
    rec = read_recording(tmp_path/'r.hea', check=False)
    assert rec.faults==() or all(code!='checksum' for code,_ in rec.faults)
    assert np.allclose(rec.signal.T, steps/100, atol=1e-6)
    (tmp_path/'r.dat').write_bytes(data[:len(data)//2])
    with pytest.raises(ECGError, match='cut short'): read_recording(tmp_path/'r.hea')

def test_wfdb_leads_and_units(tmp_path):
    turned = wfdb_files(tmp_path, 'turned', leads=[l.upper() for l in LEADS[::-1]], x=SIG[::-1])
    assert np.abs(read_recording(turned).signal-SIG).max()<6e-4
    assert np.abs(read_recording(wfdb_files(tmp_path, 'uv', units='uV', x=SIG*1000)).signal-SIG).max()<6e-4
    with fails("unknown unit 'foo'"): read_recording(wfdb_files(tmp_path, 'foo', units='foo'))
    assert np.abs(read_recording(wfdb_files(tmp_path, 'v', units='V', x=SIG/1000)).signal-SIG).max()<6e-4
    wrong = wfdb_files(tmp_path, 'wrong')
    wrong.write_text(wrong.read_text().replace('/mV', '/V'))
    with fails('look like mV taken for V; the header names the wrong unit'): read_recording(wrong)
    with fails('missing lead V6'): read_recording(wfdb_files(tmp_path, 'vx', leads=[*LEADS[:11],'vx']))
    with fails('missing lead V6'): read_recording(wfdb_files(tmp_path, 'eleven', leads=LEADS[:11]))

def test_wfdb_damage(tmp_path):
    h = wfdb_files(tmp_path)
    d = h.with_suffix('.dat'); whole = d.read_bytes()
    d.write_bytes(whole[:60001])
    with fails('JS00001.hea: not a WFDB recording, damaged or cut short'): read_recording(h)
    hurt = bytearray(whole); hurt[5000] ^= 64; d.write_bytes(hurt)
    with fails('checksum'): read_recording(h)
    assert read_recording(h, check=False).signal.shape==(12,5000)
    d.unlink()
    with fails('JS00001.hea: its signal file JS00001.dat cannot be read', 'no such file'): read_recording(h)
    for bad in ('', 'garbage\n', 'JS00001 x y z\n', '#only: comments\n', 'JS00001 12 500 5000\n'):
        h.write_text(bad)
        with fails('JS00001.hea'): read_recording(h)
    with fails('no such file'): read_recording(tmp_path/'none.hea')

HEAD = 'JS00001 12 500 5000\n' + ''.join(f'JS00001.dat 16 1000/mV 16 0 0 0 0 {l}\n' for l in LEADS)
@pytest.mark.parametrize(
    'was,now,says',
    [
        ('12 500 5000', '12 500 1000000000', 'says 1,000,000,000 samples a lead'),
        ('12 500 5000', '1000000000 500 5000', 'not a WFDB header'),
        ('500 5000', '500 99999999999', 'says 99,999,999,999 samples'),
        ('12 500', '-12 500', 'not a WFDB header'),
        ('.dat 16 ', '.dat 16x1000000000 ', 'not a WFDB header'),
        ('.dat 16 ', '.dat 16:1000000000 ', 'not a WFDB header'),
        ('.dat 16 ', '.dat 16+999999999 ', 'damaged or cut short'),
        ('JS00001 12', 'JS00001/3 12', 'segments'),
        ('JS00001.dat', '../JS00001.dat', 'not a WFDB header'),
        ('JS00001.dat', '/etc/passwd', 'not a WFDB header'),
        ('JS00001.dat', '~', 'not a WFDB header'),
        ('JS00001.dat', 's3://a/b.dat', 'not a WFDB header'),
        ('V6\n', 'V6\n' + '#' + 'x' * 70_000, 'more than 65,536 bytes'),
    ],
)
def test_header_promises(tmp_path, was, now, says):
    wfdb_files(tmp_path)
    (tmp_path/'JS00001.hea').write_text(HEAD.replace(was, now))
    with fails('JS00001.hea', says): read_recording(tmp_path/'JS00001.hea')

def test_header_comments_are_quick():
    assert parse_header('#Age: 50'+' '*60_000+'x\n'+'#'+'\n'*60_000+'#Sex: Male \n')['sex']=='M'

def test_wfdb_missing_sample(tmp_path):
    x = SIG.copy(); x[4,17] = np.nan
    h = wfdb_files(tmp_path, x=x)
    with fails('lead aVL, sample 17'): read_recording(h)

@pytest.mark.parametrize(
    'dx,rhythm',
    [
        ('426177001', 'SB'),
        ('59118001,427393009', 'SI'),
        ('426177001,164889003', ''),
        ('59118001', ''),
        ('', ''),
        ('164890007,164890007', 'AF'),
        ('195101003', 'SAAWR'),
    ],
)
def test_rhythm_of_header(dx, rhythm):
    assert parse_header(f'x\n#Age: 50\n#Sex: Female\n#Dx: {dx}\n')['rhythm'] == rhythm

@pytest.mark.parametrize('said,age', [('85',85.), ('NaN',None), ('Unknown',None), ('300',None), ('-1',None), ('0',0.)])
def test_age_of_header(said, age):
    got = parse_header(f'#Age: {said}')
    assert (np.isnan(got['age']) if age is None else got['age']==age) and got['sex']==''

# ---- standardise

@pytest.mark.parametrize('fs', [100, 250, 257, 360, 400, 1000])
def test_resampling_keeps_the_signal(fs):
    t = lambda f: np.arange(10*f)/f
    wave = lambda f: np.tile(np.sin(2*np.pi*7*t(f))+.3, (12,1))
    s = standardise(Recording(wave(fs), fs=fs))
    assert (
        s.signal.shape == (12, 5000)
        and s.fs == 500
        and s.signal.dtype == np.float32
        and s.changes == (f'resampled from {fs} to 500 Hz',)
    )
    assert np.abs(s.signal-wave(500))[:,100:-100].max()<.02

def test_crop_pad_and_nothing():
    r = Recording(SIG, name='a', meta=dict(age=3))
    assert standardise(r) is r
    assert standardise(r, seconds=4).changes==('cropped from 5000 to the first 2000 samples',)
    long = standardise(standardise(r, seconds=4), seconds=5)
    assert (
        long.signal.shape == (12, 2500)
        and (long.signal[:, 2000:] == 0).all()
        and len(long.changes) == 2
        and long.meta == r.meta
        and r.changes == ()
    )
    for kw in (dict(fs=0), dict(seconds=-1)):
        with fails('above 0'): standardise(r, **kw)
    with fails('is the sampling rate right'): standardise(Recording(SIG, fs=1e9))

# ---- catalogue

def test_chapman_catalogue(chapman):
    c = catalogue(chapman)
    assert (c.kind, c.origin, c.title, len(c))==('chapman-raw', 'real', 'Chapman-Shaoxing (raw)', 6)
    assert list(c)==[f'MUSE_{i}' for i in range(6)] and c.missing==['MUSE_9'] and c.unlisted==['MUSE_0']
    assert c.table.rhythm.tolist()==['','??','SB','AFIB','SI','SR']
    assert c.table.age.fillna(-9).tolist()==[-9,120,0,-9,-9,50] and c.table.sex.tolist()==['','','M','F','F','M']
    assert (
        list(c.table) == ['rhythm', 'age', 'sex', 'file', 'patient', 'beat', 'ventricular_rate']
        and (c.table.patient == c.table.index).all()
    )
    r = c.read('MUSE_3')
    assert r.meta['rhythm']=='AFIB' and r.meta['origin']=='real' and r.name=='MUSE_3' and 'file' not in r.meta
    assert np.abs(r.signal-np.roll(SIG, 150, 1)).max()<.003
    assert c.summary().loc['all'].tolist()==[6,1] and c.summary().loc['(none)'].tolist()==[1,0]
    with fails('no file here'): c.read('MUSE_9')
    with fails('did you mean MUSE_3'): c.read('MUSE3')
    assert 'MUSE_9' not in c and 'MUSE_1' in c

def test_subset(chapman):
    c = catalogue(chapman); s = c.subset(['MUSE_3','MUSE_0'])
    assert list(s)==['MUSE_0','MUSE_3'] and s.unlisted==['MUSE_0'] and s.missing==[] and s.digest!=c.digest
    assert (s.read('MUSE_3').signal==c.read('MUSE_3').signal).all()
    with fails("'nope'", '2 such names'): c.subset(['MUSE_1','nope','nor'])

def test_unpacked_is_the_same(chapman):
    c = catalogue(chapman); was = c.read('MUSE_1').signal
    zipfile.ZipFile(chapman/'ECGData.zip').extractall(chapman)
    u, explicit = catalogue(chapman/'ECGData'), catalogue(chapman/'ECGData.zip')
    assert (
        u.kind == c.kind
        and u.table.drop(columns='file').equals(c.table.drop(columns='file'))
        and u.missing == c.missing
        and explicit.digest == c.digest
    )
    (chapman/'ECGData.zip').unlink()
    assert list(catalogue(chapman))==list(c) and (u.read('MUSE_1').signal==was).all()

def test_denoised_and_preference(chapman):
    with zipfile.ZipFile(chapman/'ECGDataDenoised.zip', 'w') as z: z.writestr('ECGDataDenoised/MUSE_3.csv', DENOISED)
    assert catalogue(chapman).kind=='chapman-raw'
    d = catalogue(chapman/'ECGDataDenoised.zip')
    assert d.kind=='chapman-denoised' and len(d.missing)==5 and d.read('MUSE_3').meta['rhythm']=='AFIB'
    (chapman/'ECGData.zip').unlink()
    assert catalogue(chapman).kind=='chapman-denoised'

def test_bad_recording_in_catalogue(chapman):
    with zipfile.ZipFile(chapman/'ECGData.zip', 'a') as z: z.writestr('ECGData/MUSE_9.csv', edited(17, 7, ''))
    c = catalogue(chapman)
    with fails('missing value in lead V2, sample 16'): c.read('MUSE_9')
    assert np.isnan(c.read('MUSE_9', check=False).signal).sum()==1

def test_folder_without_metadata(tmp_path):
    for n in 'ba': (tmp_path/f'{n}.csv').write_bytes(RAW)
    (tmp_path/'.a.csv').write_bytes(b'x'); (tmp_path/'__MACOSX').mkdir(); (tmp_path/'__MACOSX/a.csv').write_bytes(b'x')
    c = catalogue(tmp_path)
    assert list(c)==c.unlisted==['a','b'] and set(c.table.rhythm)=={''} and c.table.age.dtype==float
    diag(tmp_path/'Diagnostics.csv', ['a.csv','c'], ['SR','SB'])
    c = catalogue(tmp_path)
    assert (c.table.rhythm.tolist(), c.missing, c.unlisted)==(['SR',''], ['c'], ['b'])

def test_duplicates(chapman, tmp_path):
    diag(tmp_path/'twice.xlsx', ['MUSE_1','MUSE_2','MUSE_1'], ['SR','SB','SR'])
    with fails('twice.xlsx: 1 names occur more than once: MUSE_1'): catalogue(chapman, tmp_path/'twice.xlsx')
    with zipfile.ZipFile(chapman/'ECGData.zip', 'a') as z: z.writestr('more/MUSE_2.csv', RAW)
    with fails('more than once: MUSE_2'): catalogue(chapman)

def test_bad_metadata(chapman, tmp_path):
    (chapman/'x.xlsx').write_bytes(b'PK not really')
    with fails('x.xlsx: not a readable table'): catalogue(chapman, chapman/'x.xlsx')
    with fails('none.xlsx: no such file'): catalogue(chapman, chapman/'none.xlsx')
    pd.DataFrame(dict(FileName=['a'], Nope=[1])).to_excel(chapman/'y.xlsx', index=False)
    with fails('no column rhythm; it has name, nope'): catalogue(chapman, chapman/'y.xlsx')
    (chapman/'Diagnostics.xlsx').write_bytes(b'')
    with fails('not a readable table'): catalogue(chapman)
    (chapman / 'long.csv').write_text(
        'FileName,Rhythm\nMUSE_1,SR,\nMUSE_2,SB,\n'
    )  # a comma too many: nothing moves to the next column
    assert diagnostics(chapman/'long.csv').rhythm.to_dict()==dict(MUSE_1='SR', MUSE_2='SB')
    (chapman/'twins.csv').write_text('FileName,Rhythm,rhythm\nMUSE_1,SR,SB\n')
    with fails('twins.csv, columns: 1 names occur more than once: rhythm'): diagnostics(chapman/'twins.csv')

def test_nothing_there(tmp_path):
    with fails('no such file or folder'): catalogue(tmp_path/'none')
    with fails('no recordings'): catalogue(tmp_path)
    with zipfile.ZipFile(tmp_path/'a.zip', 'w') as z: z.writestr('readme.txt', 'x')
    with fails('no recordings'): catalogue(tmp_path/'a.zip')
    (tmp_path/'a.csv').write_bytes(RAW)
    with fails('no column path.*`read_recording`'): catalogue(tmp_path/'a.csv')

def test_simulated_origin(chapman):
    (chapman/'simulation.json').write_text(json.dumps(dict(origin='simulated', seed=1)))
    c = catalogue(chapman)
    assert c.origin=='simulated' and 'Simulated' in c.title and c.read('MUSE_1').meta['origin']=='simulated'
    assert catalogue(chapman/'ECGData.zip').origin=='simulated'
    (chapman/'simulation.json').write_text('{')
    with fails('simulation.json'): catalogue(chapman)

def test_physionet(tmp_path):
    root = tmp_path/'p'
    for i, dx in ((1, '164889003'), (2, '426177001'), (4, '426783006,164890007')):
        wfdb_files(root / 'WFDBRecords/01/010', f'JS0000{i}', dx=dx)
    (root/'WFDBRecords/01/010/JS00004.dat').unlink()
    (root / 'RECORDS').write_text('WFDBRecords/01/010/\n')
    (root / 'WFDBRecords/01/010/RECORDS').write_text('JS00001\nJS00002\nJS00003\nJS00004\n')
    c = catalogue(root)
    assert (
        c.kind == 'physionet'
        and list(c) == ['JS00001', 'JS00002']
        and sorted(c.missing) == ['JS00003', 'JS00004']
        and c.table.rhythm.tolist() == ['AFIB', 'SB']
    )
    diag(tmp_path/'d.xlsx', ['MUSE_9','MUSE_1','MUSE_5'], ['AFIB','SB','SR'], PatientAge=85)
    same = catalogue(root, tmp_path/'d.xlsx').table
    assert same.same_as.tolist()==same.patient.tolist()==['MUSE_9','MUSE_1']
    diag(tmp_path/'sorted.xlsx', ['MUSE_1','MUSE_5','MUSE_9'], ['AFIB','SB','SR'], PatientAge=[85,20,85])
    with fails('not the original Diagnostics.xlsx in its own order'): catalogue(root, tmp_path/'sorted.xlsx')
    with zipfile.ZipFile(tmp_path/'p.zip', 'w') as z:
        for f in root.rglob('*.*'): z.write(f, f.relative_to(tmp_path))
    assert (catalogue(tmp_path/'p.zip').read('JS00001').signal==c.read('JS00001').signal).all()
    wfdb_files(root/'WFDBRecords/02', 'JS00001')
    with fails('more than once: JS00001'): catalogue(root)

PTB = [
    ("{'NORM': 100.0, 'SR': 0.0}", 'SR'),
    ("{'AFLT': 0.0, 'AFIB': 0.0}", ''),
    ("{'PACE': 0.0, 'SR': 0.0}", ''),
    ("{'SVTAC': 0.0, 'PSVT': 0.0}", 'SVT'),
    ('nonsense', ''),
]

def test_ptbxl(tmp_path):
    root = tmp_path/'ptb-xl'
    for i in range(3): wfdb_files(root/'records500/00000', f'0000{i}_hr', leads=[l.upper() for l in LEADS], comments=())
    wfdb_files(root/'records500/00000', '00077_hr')
    pd.DataFrame(
        dict(
            ecg_id=range(5),
            patient_id=[7.0, 7.0, 8.0, 9.0, 9.0],
            age=[300, 20.0, np.nan, 1, 2],
            sex=[0, 1, 0, 1, 0],
            scp_codes=[p for p, _ in PTB],
            filename_hr=[f'records500/00000/0000{i}_hr' for i in range(5)],
        )
    ).to_csv(root / 'ptbxl_database.csv', index=False)
    c = catalogue(tmp_path)
    assert c.kind=='ptbxl' and len(c)==4 and c.missing==['00003_hr','00004_hr'] and c.unlisted==['00077_hr']
    assert (
        c.table.patient.tolist() == ['7', '7', '8', '00077_hr']
        and c.table.rhythm.tolist() == ['SR', '', '', '']
        and c.table.sex.tolist() == ['M', 'F', 'M', '']
    )
    assert np.isnan(c.table.age['00000_hr']) and np.abs(c.read('00001_hr').signal-SIG).max()<6e-4
    whole = pd.read_csv(root/'ptbxl_database.csv')
    for bad in ('x', ''):
        whole.astype(dict(patient_id=object)).assign(patient_id=[7, 7, bad, 9, 9]).to_csv(
            root / 'ptbxl_database.csv', index=False
        )
        with fails('ptbxl_database.csv: 1 rows without a patient_id, row 4'):
            catalogue(root)
    pd.DataFrame(dict(a=[1])).to_csv(root/'ptbxl_database.csv', index=False)
    with fails('ptbxl_database.csv: no column'): catalogue(root)

@pytest.mark.parametrize(
    'codes,rhythm',
    PTB + [("{'SARRH': 0}", 'SI'), ("{'TRIGU': 0}", ''), ("{'NDT': 5}", ''), (float('nan'), '')],
)
def test_ptbxl_rhythm(codes, rhythm):
    assert ptbxl_rhythm(codes) == rhythm

# ---- processes

def _sums(cat, names): return [float(cat.read(n).signal.sum()) for n in names]

def test_pickle_carries_no_handle(chapman):
    c = catalogue(chapman); c.read('MUSE_1')
    b = pickle.loads(pickle.dumps(c))
    assert b.files._zip is None and b.digest==c.digest and _sums(b, c)==_sums(c, c)

@pytest.mark.parametrize('how', ['fork','spawn'])
@pytest.mark.filterwarnings('ignore::DeprecationWarning')
def test_workers(chapman, how):
    c = catalogue(chapman); want = _sums(c, c)
    with mp.get_context(how).Pool(3) as pool: got = pool.starmap(_sums, [(c, list(c))]*6)
    assert all(g==want for g in got)

_CAT = None
def _global(names): return _sums(_CAT, names)

@pytest.mark.filterwarnings('ignore::DeprecationWarning')
def test_handle_open_before_fork(chapman):
    global _CAT
    _CAT = catalogue(chapman); want = _sums(_CAT, _CAT)
    with mp.get_context('fork').Pool(4) as pool: assert all(g==want for g in pool.map(_global, [list(_CAT)]*12))

def test_threads(chapman):
    c = catalogue(chapman); want = _sums(c, c)
    with ThreadPoolExecutor(6) as ex: assert all(g==want for g in ex.map(lambda _: _sums(c, list(c)), range(12)))

def test_light_import():
    heavy = "torch fastai sklearn scipy.signal wfdb matplotlib openpyxl".split()
    out = subprocess.run(
        [
            sys.executable,
            '-c',
            f"import sys, ecg_arrhythmia.data.datasets; print([m for m in {heavy} if m in sys.modules])",
        ],
        capture_output=True,
        text=True,
    )
    assert out.stdout.strip()=='[]', out.stdout+out.stderr

def test_sample_data(monkeypatch, tmp_path):
    monkeypatch.setenv('ECG_DATA', str(tmp_path)); assert sample_data()==tmp_path
    monkeypatch.delenv('ECG_DATA'); monkeypatch.chdir(tmp_path); assert sample_data() is None

# ---- real data

@real
def test_real_chapman():
    c = catalogue(DATA/'chapman')
    assert len(c)==914 and len(c.missing)==9732 and not c.unlisted and c.origin=='real'
    for n in list(c)[::40]:
        r = c.read(n); steps = r.signal.astype(float)*1000/4.88
        assert (
            r.signal.shape == (12, 5000)
            and np.abs(steps[0] + steps[2] - steps[1]).max() < 0.01
            and np.abs(steps - steps.round()).max() < 0.51
        )
        assert to_csv_bytes(r)==c.files.read(c.table.file[n])
    d = diagnostics(DATA/'chapman/Diagnostics.xlsx')
    assert len(d) == 10646 and d.rhythm.value_counts().to_dict() == dict(
        SB=3889, SR=1826, AFIB=1780, ST=1568, SVT=587, AF=445, SI=399, AT=121, AVNRT=16, AVRT=8, SAAWR=7
    )

@real
def test_real_denoised():
    c = catalogue(DATA/'chapman/ECGDataDenoised.zip')
    assert c.kind=='chapman-denoised' and len(c)==28 and all(c.read(n).signal.shape==(12,5000) for n in list(c)[:3])

@real
def test_real_physionet():
    p, c = catalogue(DATA/'physionet', DATA/'chapman/Diagnostics.xlsx'), catalogue(DATA/'chapman')
    assert (
        len(p) == 10
        and p.table.rhythm.tolist()
        == diagnostics(DATA / 'chapman/Diagnostics.xlsx').rhythm[p.table.same_as].tolist()
    )
    assert all(np.abs(p.read(n).signal-c.read(m).signal).max()<.00051 for n,m in p.table.same_as.items() if m in c)

@real
def test_real_ptbxl():
    c = catalogue(DATA/'ptbxl/ptb-xl-subset.zip')
    assert (
        len(c) == 500
        and c.table.patient.nunique() == 466
        and c.table.rhythm.value_counts().to_dict()
        == {'SR': 406, '': 39, 'SI': 25, 'AFIB': 12, 'SB': 8, 'AF': 5, 'ST': 5}
    )
    assert all(np.abs(r.signal[0]+r.signal[2]-r.signal[1]).max()<.0021 for r in map(c.read, list(c)[::25]))

@pytest.mark.parametrize('name', ['Diagnostics.csv', 'ptbxl_database.csv'])
def test_a_table_of_too_many_columns(tmp_path, name):
    "pandas would take seconds, and for more of them gigabytes"
    f = tmp_path/name
    f.write_bytes(b'FileName,Rhythm\na,SR' + b',1'*100_000 + b'\n')
    with pytest.raises(ECGError, match='line 2: 100,001 commas'):
        diagnostics(f) if name[0] == 'D' else table_in(Files(tmp_path), name, [])

def test_a_damaged_archive_is_named_in_few_words(tmp_path):
    "zipfile quotes a name whole, however long"
    f = tmp_path/'x.zip'
    with zipfile.ZipFile(f, 'w') as z: z.writestr('MUSE_1.csv', 'a'*50)
    data = f.read_bytes().replace(b'MUSE_1.csv', b'MUSE_2.csv', 1)
    f.write_bytes(data)
    with pytest.raises(ECGError) as e: Files(f).read('MUSE_1.csv')
    assert 'download it again' in str(e.value) and len(str(e.value)) < 400 + len(str(f))

def test_an_archive_with_a_nameless_member(tmp_path):
    "zipfile itself fails on it when asked whether it is a folder"
    f = tmp_path/'x.zip'
    with zipfile.ZipFile(f, 'w') as z: z.writestr('A', 'a'); z.writestr('MUSE_1.csv', 'a')
    data = bytearray(f.read_bytes())
    at = data.index(b'PK\1\2')
    data[at+46:at+47] = b'\0' # a name ends at a zero byte
    f.write_bytes(data)
    assert [n for n,*_ in Files(f).listing()]==['MUSE_1.csv']

def test_a_table_of_long_names_and_lines(tmp_path):
    f = tmp_path/'Diagnostics.csv'
    f.write_text('FileName,Rhythm\n' + f"{'a'*100_000},SR\n"*2)
    with pytest.raises(ECGError, match='1 names occur more than once') as e: diagnostics(f)
    assert len(str(e.value)) < 500 + len(str(f))
    f.write_text('FileName,Rhythm\n' + '\n'*2_100_000)
    with pytest.raises(ECGError, match='more than 2,000,000 lines'): diagnostics(f)

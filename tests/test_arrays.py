"NumPy, MATLAB, HDF5, EDF, SCP-ECG, Philips and other files: the right values, or a word about what is missing"
import struct
import io, zipfile
from pathlib import Path

import h5py, numpy as np, pyedflib, pytest
from scipy.io import savemat

from ecg_arrhythmia.core import ECGError
from ecg_arrhythmia.data.formats import read_recording, recordings_in
from ecg_arrhythmia.data.recordings import INDEPENDENT, LEADS, Recording, resample
from ecg_arrhythmia.data.simulation import simulate

MV = simulate('AFIB', seed=3).signal
L = list(LEADS)
FILES = Path(__file__).resolve().parents[2]/'shared/data/files'
real = pytest.mark.skipif(not FILES.is_dir(), reason='no files of other programs here')

def fails(*says): return pytest.raises(ECGError, match='(?s)'+'.*'.join(says))

def same(rec, x=MV, within=1e-6):
    assert rec.signal.shape==x.shape and np.abs(rec.signal-x).max()<within
    return rec

def saved(save, *args, **kw):
    out = io.BytesIO()
    save(out, *args, **kw)
    return out.getvalue()

# ---- NumPy

@pytest.mark.parametrize('x', [MV, MV.T, MV[None], MV.T[None,:,:], MV.astype('f8'), MV.astype('>f4'), np.asfortranarray(MV)])
def test_npy_in_any_shape(x):
    rec = same(read_recording(saved(np.save, x), fs=500))
    assert rec.assumed[0].startswith('lead order I, II, III') and rec.assumed[1].startswith('unit mV')

@pytest.mark.parametrize('k,unit', [(1e3, 'µV'), (1, 'mV'), (1e-3, 'V')])
def test_npy_units(k, unit):
    rec = same(read_recording(saved(np.save, MV.astype(float)*k), fs=500))
    assert f'unit {unit}' in rec.assumed[1]
    assert len(same(read_recording(saved(np.save, MV.astype(float)*k), fs=500, unit=unit)).assumed)==1

def test_npy_of_eight_leads_and_of_other_orders():
    rec = same(read_recording(saved(np.save, MV[INDEPENDENT]), fs=500), within=2e-6)
    assert rec.changes==('III, aVR, aVL, aVF derived from I and II',) and 'lead order I, II, V1' in rec.assumed[0]
    assert not any('order' in a for a in same(read_recording(saved(np.save, MV[::-1]), fs=500, leads=L[::-1])).assumed)

@pytest.mark.parametrize('x,says', [(MV, 'names no sampling rate; pass it'), (MV[:3], 'no array of 8 or 12 leads'),
    (np.stack([MV, MV]), '2 recordings in one array'), (MV[:,:50], 'no array'),
    (np.array([{}], dtype=object), 'Python objects, which could run code'), (MV.astype(complex), 'no array')])
def test_npy_refused(x, says):
    with fails(says): read_recording(saved(np.save, x))

def test_npy_that_promises_too_much():
    data = saved(np.save, MV)
    for cut in (100, 1000, -1):
        with fails('cut short'): read_recording(data[:cut], fs=500)

def test_npz():
    same(read_recording(saved(np.savez, ecg=MV, fs=500, units='mV')))
    rec = same(
        read_recording(
            saved(np.savez_compressed, x=MV[::-1], lead_names=np.array(L[::-1]), age=61, sex='F'), fs=500
        )
    )
    assert rec.meta==dict(rhythm='', age=61, sex='F') and not any('order' in a for a in rec.assumed)
    with fails('several arrays may be the recording'): read_recording(saved(np.savez, a=MV, b=MV), fs=500)
    with fails('the file says fs 500.0, 250 was given'): read_recording(saved(np.savez, ecg=MV, fs=500), fs=250)

# ---- MATLAB

@pytest.mark.parametrize('how', [dict(format='4'), {}, dict(do_compression=True)])
def test_mat(how):
    assert same(read_recording(saved(savemat, dict(ECG=MV, fs=500), **how))).fs==500
    with fails('names no sampling rate'): read_recording(saved(savemat, dict(ECG=MV), **how))

def test_mat_with_a_structure():
    rec = same(read_recording(saved(savemat, dict(ECG=dict(sex='Male', age=60, data=MV))), fs=500))
    assert rec.meta==dict(rhythm='', age=60, sex='M')

def test_mat_of_physionet_needs_its_header():
    counts = np.rint(MV*1000)
    with fails('whose gain is in the .hea file'): read_recording(saved(savemat, dict(val=counts), format='4'), fs=500)
    same(read_recording(saved(savemat, dict(val=counts), format='4'), fs=500, unit='uV'), within=6e-4)

def test_mat_that_inflates_without_end():
    with fails('inflates to more than'):
        read_recording(saved(savemat, dict(ECG=np.zeros((12, 3_000_000))), do_compression=True), fs=500)

def test_mat_whose_matrix_has_no_size():
    "The library behind it ends the process where the element of the size is empty"
    def element(kind, data): return struct.pack('<II', kind, len(data)) + data.ljust((len(data)+7)//8*8, b'\0')
    def file(size):
        flags, name, samples = element(6, struct.pack('<II', 6, 0)), element(1, b'ECG'), element(9, MV.astype(float).T.tobytes())
        matrix = flags + element(5, size) + name + samples
        return b'MATLAB 5.0'.ljust(124) + struct.pack('<H2s', 0x100, b'IM') + element(14, matrix)
    same(read_recording(file(struct.pack('<II', *MV.shape)), fs=500))
    with fails('a matrix without a name or a size'): read_recording(file(b''), fs=500)

@real
def test_real_mat():
    with fails('names no sampling rate; pass it'): read_recording(FILES/'aimclub_00569.mat')
    assert read_recording(FILES/'aimclub_00569.mat', fs=500).signal.shape==(12, 5000)

# ---- HDF5

def code15(path, k=1, n=3):
    "A part of CODE-15 %: 7 s at 400 Hz in the middle of 4096 samples"
    x = np.zeros((n, 4096, 12), np.float32)
    x[:,648:3448] = resample(MV, 500, 400)[:,:2800].T*k
    with h5py.File(path, 'w') as f: f['tracings'], f['exam_id'] = x, np.arange(11, 11+n)
    return resample(MV, 500, 400)[:,:2800]

@pytest.mark.parametrize('k', [1, 10])
def test_code15(tmp_path, k):
    x = code15(tmp_path/'part.hdf5', k)
    rec = same(read_recording(tmp_path/'part.hdf5/12'), x, 1e-5)
    assert rec.fs==400 and rec.name=='12' and rec.changes==('cut off zeros at the ends, 648 and 648 samples',)
    assert ('steps of 0.1 mV' in rec.assumed[0])==(k==10)
    with fails('3 recordings; name one of them, as in .*part.hdf5/11'): read_recording(tmp_path/'part.hdf5')
    with fails("no recording '15' among 3"): read_recording(tmp_path/'part.hdf5/15')
    assert [n for n, r in recordings_in(tmp_path) if isinstance(r, Recording)] == [
        'part.hdf5/11',
        'part.hdf5/12',
        'part.hdf5/13',
    ]
    assert [n for n,_ in recordings_in(tmp_path/'part.hdf5', done=('part.hdf5/12',))]==['part.hdf5/11', 'part.hdf5/13']

def test_code15_in_a_zip(tmp_path):
    x = code15(tmp_path/'part.hdf5')
    with zipfile.ZipFile(tmp_path/'all.zip', 'w') as z: z.write(tmp_path/'part.hdf5', 'd/part.hdf5')
    same(read_recording(tmp_path/'all.zip/d/part.hdf5/13'), x, 1e-5)

def test_sph(tmp_path):
    with h5py.File(tmp_path/'A1.h5', 'w') as f: f['ecg'] = MV.astype(np.float16)
    rec = same(read_recording(tmp_path/'A1.h5'), within=2e-3)
    assert rec.fs==500 and rec.assumed[0].startswith('SPH, 500 Hz')

def test_hdf5_that_says_everything(tmp_path):
    with h5py.File(tmp_path/'x.h5', 'w') as f:
        d = f.create_dataset('a/b/signal', data=MV.T[:,::-1]*1000, compression='gzip')
        d.attrs.update(sampling_rate=500, unit='uV', leads=L[::-1])
    assert same(read_recording(tmp_path/'x.h5')).assumed==()

def test_hdf5_refused(tmp_path):
    with h5py.File(tmp_path/'x.h5', 'w') as f: f['signal'] = MV
    with fails('names no sampling rate'): read_recording(tmp_path/'x.h5')
    data = (tmp_path/'x.h5').read_bytes()
    with fails('not HDF5, damaged or cut short'): read_recording(data[:2000], fs=500)
    with h5py.File(tmp_path / 'big.h5', 'w') as f:
        f.create_dataset('signal', shape=(12, 10**9), dtype='f4', chunks=(12, 1000))
    with fails('says 12,000,000,000 samples'): read_recording(tmp_path/'big.h5', fs=500)

# ---- EDF and BDF

def edf(path, labels=L, x=MV, unit='uV', k=1000, fs=500, kind=pyedflib.FILETYPE_EDFPLUS):
    writer = pyedflib.EdfWriter(str(path), len(labels), kind)
    writer.setSignalHeaders([dict(label=l, dimension=unit, sample_frequency=fs, physical_max=20*k, physical_min=-20*k,
        digital_max=32767, digital_min=-32768, transducer='', prefilter='') for l in labels])
    writer.writeSamples([np.ascontiguousarray(row.astype(float)*k) for row in x[:len(labels)]])
    writer.close()
    return path

@pytest.mark.parametrize(
    'kind',
    [pyedflib.FILETYPE_EDF, pyedflib.FILETYPE_EDFPLUS, pyedflib.FILETYPE_BDF, pyedflib.FILETYPE_BDFPLUS],
)
@pytest.mark.parametrize('label', ['{}', 'ECG {}', 'EKG {}', 'Lead {}'])
def test_edf(tmp_path, kind, label):
    same(read_recording(edf(tmp_path / 'x', [label.format(l) for l in L], kind=kind)), within=7e-4)

@pytest.mark.parametrize('unit,k', [('uV', 1e3), ('mV', 1), ('', 1e3)])
def test_edf_units(tmp_path, unit, k): same(read_recording(edf(tmp_path/'x.edf', unit=unit, k=k)), within=7e-4)

def test_edf_of_other_leads(tmp_path):
    x = np.concatenate([MV[INDEPENDENT], MV[:1]])
    rec = same(read_recording(edf(tmp_path/'x.edf', [L[i] for i in INDEPENDENT]+['Resp'], x)), within=1.5e-3)
    assert rec.changes==('III, aVR, aVL, aVF derived from I and II', 'left out Resp')
    with fails('missing lead II, III'): read_recording(edf(tmp_path/'one.edf', ['I']))
    with fails('look like µV taken for mV'): read_recording(edf(tmp_path/'y.edf', unit='mV', k=1e3))
    data = (tmp_path/'x.edf').read_bytes()
    with fails('not EDF that is read here, or damaged'): read_recording(data[:1000])

# ---- files of other programs, beside values from another reader

@real
@pytest.mark.parametrize(
    'name,rate',
    [
        ('ecgtoolkit_Example.scp', 72),
        ('ecgtoolkit_Example.dcm', 72),
        ('ecgprocess_XML1.xml', 50),
        ('arturrod_test_ecg.dcm', 70),
        ('philips_tbj128.xml', 41),
        ('sierra103_129DYPRG.xml', 41),
        ('sierra104_converted.xml', 41),
        ('aecg_hl7_example.xml', 72),
        ('dicomecgplot_mortara.dcm', 61),
    ],
)
def test_real_files(name, rate):
    from ecg_arrhythmia.signals.checks import heart
    assert round(heart(read_recording(FILES/name))['rate'])==rate

@real
def test_one_recording_in_three_formats():
    "SCP-ECG, DICOM and aECG of one recorder: the same samples"
    names = 'ecgtoolkit_Example.scp', 'ecgtoolkit_Example.dcm', 'aecg_hl7_example.xml'
    scp, dicom, aecg = [read_recording(FILES/n).signal for n in names]
    assert np.abs(scp-dicom).max()<1e-6 and np.abs(scp-aecg).max()<1e-6

@real
def test_philips_is_its_own_conversion():
    "Philips 1.04 and the aECG that Philips made of it; its conversion is off by up to four steps of 5 µV"
    own, other = read_recording(FILES/'philips_tbj128.xml'), read_recording(FILES/'sierra104_converted.xml')
    assert own.signal.shape==other.signal.shape==(12, 5000)
    assert own.changes==other.changes==('cut off the last 1 s with a calibration pulse',)
    assert np.abs(own.signal-other.signal).max()<.0201

@real
@pytest.mark.parametrize(
    'code,said',
    [
        ('utf-16', 'UTF-16'),
        ('utf-8', 'UTF-16'),
        ('latin-1', 'UTF-8'),
        ('utf-8', 'GB2312'),
        ('utf-16', 'UTF-8'),
    ],
)
@pytest.mark.parametrize('name', ['philips_tbj128.xml', 'sierra103_129DYPRG.xml', 'ecgprocess_XML1.xml', 'aecg_hl7_example.xml'])
def test_encodings_that_lie(name, code, said):
    import re
    data = (FILES/name).read_bytes()
    text = data.decode('utf-16' if data[:2] in (b'\xff\xfe', b'\xfe\xff') else 'latin-1')
    text = re.sub(r'^\s*<\?xml[^>]*\?>', f'<?xml version="1.0" encoding="{said}"?>', text.lstrip('\ufeff'))
    assert (read_recording(text.encode(code, 'replace')).signal==read_recording(FILES/name).signal).all()

# ---- what is not read

@pytest.mark.parametrize('data,says', [
    (b'version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n', 'pointer of Git LFS, .*git lfs pull'),
    (b'%PDF-1.7', 'a PDF; .*ecg_digitise'), (b'\x1f\x8b\x08', 'gzip file; unpack'),
    (b'{"a": 1}', 'a JSON file'), (b'', 'an empty file'), (b'\x40\x20MFR Standard', 'MFER, but damaged'),
    (b'\x93NUMPY', 'not a NumPy file'), (b'\x89HDF\r\n', 'not HDF5')])
def test_kinds_are_named(data, says):
    with fails('^x.bin: ', says): read_recording(data, name='x.bin', fs=500)

def test_a_missing_library_is_named(monkeypatch):
    import importlib
    from ecg_arrhythmia.data import libraries
    def no_module(name): raise ImportError(name)
    monkeypatch.setattr(libraries.importlib, 'import_module', no_module)
    with fails('read with the package h5py, which is not installed; pip install h5py'):
        read_recording(b'\x89HDF\r\n' + bytes(99), fs=500)

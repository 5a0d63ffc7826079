"WFDB in all its shapes, DICOM without a preamble, calibration pulses, gains and checksums: right, or a word says what is not"
import io, zipfile
from pathlib import Path

import numpy as np, pydicom, pytest, wfdb

from ecg_arrhythmia.core import ECGError
from ecg_arrhythmia.data.convert import to_aecg, to_dicom, to_muse, write_recording
from ecg_arrhythmia.data.dicom import pdf_inside
from ecg_arrhythmia.data.calibration import calibration_pulses, without_calibration
from ecg_arrhythmia.data.formats import read_recording, recordings_in
from ecg_arrhythmia.data.calibration import amplitude, unusual_amplitude
from ecg_arrhythmia.data.recordings import INDEPENDENT, LEADS, Recording, twelve_leads
from ecg_arrhythmia.data.simulation import simulate
from ecg_arrhythmia.signals.checks import check_signal, heart

SIM = simulate('AFIB', seed=3)
MV = SIM.signal.astype(float)
L = list(LEADS)
FILES = Path(__file__).resolve().parents[2]/'shared/data/files'
real = pytest.mark.skipif(not FILES.is_dir(), reason='no files of other programs here')

def fails(*says): return pytest.raises(ECGError, match='(?s)'+'.*'.join(says))

def same(rec, x=MV, within=6e-4):
    assert rec.signal.shape==x.shape and np.abs(rec.signal-x).max()<within
    return rec

def record(folder, name='r', x=MV, leads=L, fmt='16', fs=500, units='mV'):
    wfdb.wrsamp(
        name,
        fs,
        [units] * len(leads),
        leads,
        p_signal=np.ascontiguousarray(x.T),
        fmt=[fmt] * len(leads),
        write_dir=str(folder),
    )
    return folder / f'{name}.hea'

def edited(head, *pairs):
    text = head.read_text()
    for old,new in pairs:
        assert old in text
        text = text.replace(old, new)
    head.write_text(text)
    return head

# ---- WFDB

@pytest.mark.parametrize('fmt', ['16', '24', '32', '80', '212'])
def test_wfdb_formats(tmp_path, fmt): same(read_recording(record(tmp_path, fmt=fmt)), within=.02 if fmt=='80' else 6e-4)

@pytest.mark.parametrize('unit', ['mv', 'MV', 'mV', 'millivolt', 'millivolts'])
def test_wfdb_units(tmp_path, unit): same(read_recording(edited(record(tmp_path), ('/mV', f'/{unit}'))))

def test_wfdb_micro_sign_in_utf8(tmp_path):
    head = edited(record(tmp_path, x=MV*1000, units='uV'), ('/uV', '/µV'))
    same(read_recording(head))

@pytest.mark.parametrize('first', [
    'r.mat 12 500 2500', 'r.dat 12 500 2500 05-May-2020 14:50:55', 'r 12 500 2500', 'r 12 500/500(0) 2500', 'r 12 500.0 2500'])
def test_wfdb_record_lines(tmp_path, first):
    head = record(tmp_path, x=MV[:,:2500])
    assert same(read_recording(edited(head, ('r 12 500 2500', first))), MV[:,:2500]).fs==500
    (name, rec), = recordings_in(tmp_path)
    assert name=='r.hea' and isinstance(rec, Recording)

def test_wfdb_what_the_header_leaves_out_is_said(tmp_path):
    rec = read_recording(edited(record(tmp_path), ('r 12 500 5000', 'r 12')), check=False)
    assert rec.fs==250 and rec.assumed[0].startswith('250 Hz (the header names no sampling rate')
    head = record(tmp_path, 'g', x=np.rint(MV*200)/200)
    lines = head.read_text().splitlines()
    head.write_text('\n'.join([lines[0], *[' '.join([*l.split()[:2], '0', *l.split()[3:]]) for l in lines[1:]]]))
    assert any('200 steps in a mV' in a for a in read_recording(head, check=False).assumed)

def test_wfdb_missing_samples(tmp_path):
    x = MV.copy(); x[3,5:9] = np.nan
    head = record(tmp_path, x=x)
    with fails('missing value in lead aVR, sample 5 .4 in all'): read_recording(head)
    assert np.isnan(read_recording(head, check=False).signal).sum()==4

def test_wfdb_checksum_is_a_fault_of_its_own(tmp_path):
    "Whether a file is whole and whether its values are plausible are two questions"
    head = record(tmp_path)
    data = bytearray((tmp_path/'r.dat').read_bytes()); data[1000] ^= 4; (tmp_path/'r.dat').write_bytes(data)
    with fails("does not match the header's checksum"): read_recording(head)
    (code, text), = read_recording(head, check=False).faults
    assert code=='checksum' and 'download it again' in text

def test_muse_checksum_is_a_fault_of_its_own():
    whole = to_muse(SIM)
    at = whole.index(b'LeadDataCRC32>')+14
    hurt = whole[:at]+b'7'+whole[at:]
    with fails('does not match its CRC-32'): read_recording(hurt)
    assert [code for code,_ in read_recording(hurt, check=False).faults]==['checksum']

def test_wfdb_several_files_and_other_leads(tmp_path):
    "The file of leads that are left out need not be there"
    record(tmp_path, 'a', MV[:6], [l.lower() for l in L[:6]])
    record(tmp_path, 'b', MV[6:], [l.lower() for l in L[6:]])
    record(tmp_path, 'c', MV[:3], ['vx', 'vy', 'vz'])
    lines = [l for n in 'abc' for l in (tmp_path/f'{n}.hea').read_text().splitlines()[1:] if l.strip()]
    (tmp_path/'m.hea').write_text('m 15 500 5000\n' + '\n'.join(lines) + '\n')
    (tmp_path/'c.dat').unlink()
    assert same(read_recording(tmp_path/'m.hea')).changes==('left out vx, vy, vz',)
    (tmp_path/'b.dat').unlink()
    with fails('m.hea: its signal file b.dat cannot be read'): read_recording(tmp_path/'m.hea')

def test_wfdb_segments(tmp_path):
    for i,(a,b) in enumerate(((0, 2000), (2000, 5000))): record(tmp_path, f'm_{i+1:04}', MV[:,a:b])
    (tmp_path/'m.hea').write_text('m/2 12 500 5000\nm_0001 2000\nm_0002 3000\n')
    assert same(read_recording(tmp_path/'m.hea')).changes==('2 parts joined',)
    assert [n for n,_ in recordings_in(tmp_path)]==['m.hea']
    (tmp_path/'m.hea').write_text('m/3 12 500 5100\nm_0001 2000\n~ 100\nm_0002 3000\n')
    gap = read_recording(tmp_path/'m.hea', check=False).signal
    assert gap.shape==(12, 5100) and np.isnan(gap[:,2000:2100]).all() and np.isnan(gap).sum()==1200

def test_wfdb_of_half_an_hour(tmp_path):
    long = np.tile(MV, (1, 93))[:,:462_600]
    rec = same(read_recording(record(tmp_path, x=long, fs=257)), long)
    assert rec.fs==257

def test_wfdb_in_a_zip(tmp_path):
    record(tmp_path)
    with zipfile.ZipFile(tmp_path/'z.zip', 'w') as z:
        for n in ('r.hea', 'r.dat'): z.write(tmp_path/n, f'd/{n}')
    for name in ('r.hea', 'r.dat', 'r'): same(read_recording(tmp_path/f'z.zip/d/{name}'))

@real
@pytest.mark.parametrize('name,fs,rate,age,sex', [
    ('E00271', 500, 91, 83, 'F'), ('E07500', 500, 57, 78, 'M'), ('HR06000', 500, 69, 59, 'F'),
    ('JS20000', 500, 117, 84, 'F'), ('s0010_re', 1000, 82, 81, 'F')])
def test_real_wfdb(name, fs, rate, age, sex):
    rec = read_recording(FILES/f'{name}.hea')
    assert rec.fs==fs and round(heart(rec)['rate'])==rate and rec.meta['sex']==sex and (age is None or rec.meta['age']==age)
    if name!='E00271': assert np.abs(rec.signal-wfdb.rdrecord(str(FILES/name)).p_signal.T[:12]).max()<1e-6

@real
def test_real_wfdb_of_three_leads():
    with fails('missing lead V1, V2'): read_recording(FILES/'100_3chan.hea')

# ---- DICOM

def bare(implicit):
    "A DICOM data set without preamble and file meta information"
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_dataset
    out = DicomBytesIO()
    out.is_little_endian, out.is_implicit_VR = True, implicit
    write_dataset(out, pydicom.Dataset(pydicom.dcmread(io.BytesIO(to_dicom(SIM)))))
    return out.getvalue()

@pytest.mark.parametrize('data', [to_dicom(SIM), to_dicom(SIM)[132:], bare(True), bare(False)])
def test_dicom_with_and_without_a_preamble(data): same(read_recording(data))

@pytest.mark.parametrize('uid', ['9.1.3', '9.2.1', '9.1.2'])
def test_dicom_of_other_classes(uid):
    d = pydicom.dcmread(io.BytesIO(to_dicom(SIM)))
    d.SOPClassUID = d.file_meta.MediaStorageSOPClassUID = f'1.2.840.10008.5.1.4.1.1.{uid}'
    d.save_as(out := io.BytesIO())
    same(read_recording(out.getvalue()))

def test_dicom_with_a_pdf():
    d = pydicom.Dataset()
    d.SOPClassUID, d.SOPInstanceUID, d.EncapsulatedDocument = '1.2.840.10008.5.1.4.1.1.104.1', '1.2.3', b'%PDF-1.4 page'
    d.file_meta = pydicom.dataset.FileMetaDataset()
    d.file_meta.TransferSyntaxUID = '1.2.840.10008.1.2.1'
    d.save_as(out := io.BytesIO(), enforce_file_format=True)
    with fails('PDF. inside', 'ecg_digitise'): read_recording(out.getvalue())
    assert pdf_inside(out.getvalue()).startswith(b'%PDF') and pdf_inside(to_dicom(SIM))==b''

# ---- encodings of XML

@pytest.mark.parametrize('said', [
    'ISO-8859-1', 'iso-8859-15', 'windows-1252', 'GB2312', 'gbk', 'Shift_JIS', 'KOI8-R', 'UTF-8', 'UTF-16', 'no-such-code'])
@pytest.mark.parametrize('real', ['ascii', 'cp1252', 'gb2312', 'utf-8', 'utf-16'])
def test_xml_encodings(said, real):
    "Samples are ASCII in all of these, whatever a document declares"
    name = {'cp1252':'Müller', 'gb2312':'王', 'utf-8':'é王'}.get(real, 'Jo')
    text = to_aecg(SIM).decode().replace('UTF-8', said).replace('<component>', f'<!-- {name} --><component>', 1)
    same(read_recording(text.encode(real)))

# ---- calibration pulses

def pulsed(x, at, fs=500, mv=1., width=.2, derived=False):
    "A recording with a calibration pulse: 0.16 s of line, the pulse, 0.16 s of line"
    block = np.zeros((12, round((.32+width)*fs)))
    block[:,round(.16*fs):round((.16+width)*fs)] = mv
    if derived: block = twelve_leads(block[INDEPENDENT])
    return np.concatenate([x[:,:at], block, x[:,at:]], axis=1)

@pytest.mark.parametrize('derived', [False, True])
@pytest.mark.parametrize('mv', [.5, 1., 2.])
@pytest.mark.parametrize('fs', [250, 500, 1000])
def test_pulse_at_the_end(fs, mv, derived):
    x = np.tile(MV, (1, 2))[:,:10*fs]
    kept, done = without_calibration(pulsed(x, 10*fs, fs, mv, derived=derived), fs)
    assert kept.shape==x.shape and (kept==x).all() and done==('cut off the last 0.52 s with a calibration pulse',)

def test_pulse_at_the_start_and_inside():
    kept, done = without_calibration(pulsed(MV, 0), 500)
    assert 'cut off the first' in done[0] and np.abs(kept-MV[:,-kept.shape[1]:]).max()==0 and kept.shape[1]>=4900
    kept, done = without_calibration(pulsed(MV, 2500), 500)
    assert kept.shape==(12, 5260) and 'taken out' in done[0] and 100<np.isnan(kept[0]).sum()<600

def test_pulse_in_any_format(tmp_path):
    whole = Recording(pulsed(MV, 5000), check=False)
    for suffix in ('.csv', '.hea', '.dcm', '.xml'):
        rec = same(read_recording(write_recording(whole, tmp_path/f'x{suffix}')[0]))
        assert any('calibration pulse' in c for c in rec.changes)

@pytest.mark.parametrize('rhythm', ['SR', 'SB', 'ST', 'AFIB', 'AF', 'SVT', 'AVNRT', 'AVRT', 'AT', 'SI', 'SAAWR'])
def test_no_beat_is_a_pulse(rhythm):
    for seed in range(4): assert calibration_pulses(simulate(rhythm, seed=seed).signal, 500)==[]

# ---- amplitudes

@pytest.mark.parametrize('k', [.1, .2, 5, 10])
def test_wrong_gains_are_found(k):
    "Both directions; the reader says it, and so do the checks of a prediction"
    x = MV/amplitude(MV, 500)*1.14*k # the median of two databases
    rec = read_recording(to_dicom(Recording(x, check=False)))
    assert [code for code,_ in rec.faults]==['amplitude'] and 'a wrong gain or unit' in rec.faults[0][1]
    assert any(f.code=='gain' and f.level=='doubt' for f in check_signal(rec)[0])

def test_usual_amplitudes_are_not():
    assert unusual_amplitude(MV, 500)=='' and unusual_amplitude(np.zeros((12, 5000)), 500)==''

@pytest.mark.skipif(not (FILES.parent/'chapman/ECGData.zip').is_file(), reason='no real recordings here')
def test_amplitudes_and_pulses_of_real_recordings():
    recs = [
        r
        for _, r in zip(
            range(60), (r for _, r in recordings_in(FILES.parent / 'chapman/ECGData.zip', unit='µV', fs=500))
        )
    ]
    assert sum(bool(r.faults) for r in recs)<=2 and not any(r.changes for r in recs)

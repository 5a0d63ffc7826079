"Recordings written and read back: the same samples, in every format"
import io

import numpy as np, pydicom, pytest, wfdb

from ecg_arrhythmia.core import ECGError
from ecg_arrhythmia.data.convert import to_dicom, whole_steps, write_recording
from ecg_arrhythmia.data.formats import read_recording
from ecg_arrhythmia.data.recordings import LEADS, Recording, standardise
from ecg_arrhythmia.data.simulation import simulate

SIM = simulate('AFIB', seed=3)
RNG = np.random.default_rng(0)

def in_steps(step, n=2000):
    "A random walk in whole steps of so many µV"
    return np.cumsum(RNG.integers(-9, 10, (12, n)), axis=1)*np.float64(step)/1000

def fails(*says): return pytest.raises(ECGError, match='(?s)'+'.*'.join(says))

@pytest.mark.parametrize('suffix', ['.csv', '.hea', '.dat', '.dcm', '.xml'])
@pytest.mark.parametrize(
    'step,fs',
    [(1, 500), (4.88, 500), (2.5, 1000), (5, 250), (0.5, 977), (0.25, 257), (1.25, 512.5), (0.1, 400)],
)
def test_steps_of_recorders_come_back_exactly(tmp_path, suffix, step, fs):
    rec = Recording(in_steps(step), fs, check=False)
    written = write_recording(rec, tmp_path/f'x{suffix}')
    back = read_recording(written[0], check=False)
    assert (back.signal==rec.signal).all() and back.fs==fs and back.assumed==() and back.changes==()

@pytest.mark.parametrize('suffix', ['.csv', '.hea', '.dcm', '.xml'])
def test_other_samples_come_back_to_half_a_nanovolt(tmp_path, suffix):
    rec = standardise(SIM, fs=360, seconds=7)
    back = read_recording(write_recording(rec, tmp_path/f'x{suffix}')[0])
    assert np.abs(back.signal-rec.signal).max()<1e-6 and back.fs==360
    assert suffix=='.csv' or (back.meta['sex'], back.meta['age'])==('M', SIM.meta['age'])

def test_wfdb_agrees_with_its_library(tmp_path):
    write_recording(SIM, tmp_path/'x.hea')
    r = wfdb.rdrecord(str(tmp_path/'x'))
    assert r.sig_name==list(LEADS) and r.units==['mV']*12 and np.abs(r.p_signal.T-SIM.signal).max()<1e-6
    assert not any((a-b)%65536 for a,b in zip(wfdb.rdrecord(str(tmp_path/'x'), physical=False).calc_checksum(), r.checksum))

def test_dicom_agrees_with_its_library():
    d = pydicom.dcmread(io.BytesIO(to_dicom(SIM)))
    assert np.abs(d.waveform_array(0).T/1000-SIM.signal).max()<1e-6
    assert to_dicom(SIM)==to_dicom(SIM)

@pytest.mark.parametrize('fs,seconds,step,kind', [
    (500, 10, 1, '1.1'), (4000, 1, 1, '1.2'), (100, 10, 1, '1.2'), (500, 40, 1, '1.2'), (500, 10, .001, '1.4')])
def test_dicom_class_allows_length_and_rate(fs, seconds, step, kind):
    x = np.clip(in_steps(step, fs*seconds), -20, 20) if step==1 else SIM.signal*1.0007
    assert pydicom.dcmread(io.BytesIO(to_dicom(Recording(x, fs, check=False)))).SOPClassUID.endswith(f'.9.{kind}')

def test_missing_samples(tmp_path):
    x = SIM.signal.copy(); x[3,7:9] = np.nan
    rec = Recording(x, check=False)
    for suffix in ('.csv', '.hea', '.dcm'):
        back = read_recording(write_recording(rec, tmp_path/f'x{suffix}')[-1], check=False)
        assert np.isnan(back.signal[3,7:9]).all() and np.array_equal(back.signal, rec.signal, equal_nan=True)
    with fails('2 missing samples', 'write CSV, WFDB or DICOM'): write_recording(rec, tmp_path/'y.xml')
    x[:,-1] = np.nan
    with fails('takes for padding'): write_recording(rec, tmp_path/'y.dcm')
    assert not list(tmp_path.glob('y*'))

def test_missing_samples_agree_with_the_library(tmp_path):
    x = SIM.signal.copy()
    x[3,7:9] = np.nan
    write_recording(Recording(x, check=False), tmp_path/'x.hea')
    assert np.isnan(wfdb.rdrecord(str(tmp_path/'x')).p_signal.T[3,7:9]).all()

def test_what_cannot_be_read_back_is_not_written(tmp_path):
    long = Recording(np.tile(SIM.signal, (1, 60)), check=False)
    with fails('more than the 4,194,304 that are read of DICOM'): write_recording(long, tmp_path/'x.dcm')
    with fails('letters, digits, - and _ only'): write_recording(SIM, tmp_path/'a b.hea')
    assert not list(tmp_path.iterdir())

def test_names_decide(tmp_path):
    with fails("the name does not say which format; use .csv for CSV"): write_recording(SIM, tmp_path/'x.txt')

def test_whole_steps():
    for step in (5, 4.88, 1, .5): assert whole_steps(Recording(in_steps(step), check=False))[1]==step
    assert whole_steps(SIM)[1]==2.44 and whole_steps(standardise(SIM, fs=360))[1]==.001

# ---- the command

def converted(*args):
    from ecg_arrhythmia.commands.convert import ecg_convert
    return ecg_convert(*args)

def test_command_says_what_was_understood(tmp_path, capsys):
    from ecg_arrhythmia.data.tables import to_csv_bytes
    (tmp_path/'in.csv').write_bytes(to_csv_bytes(SIM))
    converted(tmp_path/'in.csv', tmp_path/'out.hea')
    said = capsys.readouterr().out
    assert '12 leads, 5,000 samples, 500 Hz' in said and 'Assumed: 500 Hz' in said and 'out.dat' in said
    assert (read_recording(tmp_path/'out.hea').signal==read_recording(tmp_path/'in.csv').signal).all()
    converted(tmp_path/'in.csv', tmp_path/'out.hea') # its own kind may be replaced

def test_command_overwrites_nothing_else(tmp_path):
    from ecg_arrhythmia.data.tables import to_csv_bytes
    (tmp_path/'in.csv').write_bytes(to_csv_bytes(SIM))
    with fails('is an input of this command'): converted(tmp_path/'in.csv', tmp_path/'in.csv')
    (tmp_path/'letter.xml').write_text('<letter/>')
    with fails('letter.xml exists and is not a recording of this format'):
        converted(tmp_path / 'in.csv', tmp_path / 'letter.xml')
    assert (tmp_path/'letter.xml').read_text()=='<letter/>'
    (tmp_path/'other.dat').write_bytes(b'mine')
    with fails('other.dat exists'): converted(tmp_path/'in.csv', tmp_path/'other.hea')
    with fails('does not say which format'): converted(tmp_path/'in.csv', tmp_path/'out.txt')

def test_command_replaces_no_other_recording(tmp_path):
    from ecg_arrhythmia.data.tables import to_csv_bytes
    (tmp_path/'in.csv').write_bytes(to_csv_bytes(SIM))
    other = to_csv_bytes(simulate('AFIB', seed=9))
    (tmp_path/'other.csv').write_bytes(other)
    with fails('holds another recording'): converted(tmp_path/'in.csv', tmp_path/'other.csv')
    assert (tmp_path/'other.csv').read_bytes()==other

@pytest.mark.parametrize('overwrite', [False, True])
def test_command_replaces_no_table_that_is_no_recording(tmp_path, overwrite):
    from ecg_arrhythmia.commands.convert import ecg_convert
    write_recording(SIM, tmp_path/'in.hea')
    (tmp_path/'results.csv').write_text('name,accuracy\na,.9\n')
    with fails('results.csv exists and is not a recording'):
        ecg_convert(tmp_path/'in.hea', tmp_path/'results.csv', overwrite=overwrite)
    assert (tmp_path/'results.csv').read_text()=='name,accuracy\na,.9\n'

def test_command_replaces_what_it_cannot_read_only_when_told(tmp_path):
    from ecg_arrhythmia.commands.convert import ecg_convert
    write_recording(SIM, tmp_path/'in.hea')
    write_recording(SIM, tmp_path/'out.dcm')
    cut = (tmp_path/'out.dcm').read_bytes()[:-9999]
    (tmp_path/'out.dcm').write_bytes(cut)
    with fails('cannot be read as a recording'): converted(tmp_path/'in.hea', tmp_path/'out.dcm')
    assert (tmp_path/'out.dcm').read_bytes()==cut
    ecg_convert(tmp_path/'in.hea', tmp_path/'out.dcm', overwrite=True)
    assert read_recording(tmp_path/'out.dcm').signal.shape==SIM.signal.shape

def test_command_replaces_no_recording_of_another_rate(tmp_path):
    from ecg_arrhythmia.commands.convert import ecg_convert
    from ecg_arrhythmia.data.tables import to_csv_bytes
    (tmp_path/'in.csv').write_bytes(to_csv_bytes(SIM))
    converted(tmp_path/'in.csv', tmp_path/'out.csv')
    with fails('holds another recording'): ecg_convert(tmp_path/'in.csv', tmp_path/'out.csv', fs=1000)
    assert read_recording(tmp_path/'out.csv').fs==500

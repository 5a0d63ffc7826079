"One recording in the variants of formats that clinics and data sets have: read right, or refused with a word"
import datetime as dt, io, re, struct

import h5py, numpy as np, pyedflib, pytest, scipy.io

import writers as W
from ecg_arrhythmia.core import ECGError
from ecg_arrhythmia.data.convert import to_dicom
from ecg_arrhythmia.data.formats import read_recording
from ecg_arrhythmia.data.recordings import INDEPENDENT, LEADS, Recording, resample
from ecg_arrhythmia.data.simulation import simulate

L = list(LEADS)
EIGHT = [L[i] for i in INDEPENDENT]
X = np.rint(simulate('AFIB', seed=3).signal[:,:2000].astype(float)*1000)/1000 # mV, in whole µV
C = np.rint(X*1000).astype(int)

def at(fs): return np.rint(resample(X, 500, fs)*1000)/1000

def fails(*says): return pytest.raises(ECGError, match='(?s)'+'.*'.join(says))

def same(rec, x=X, fs=500, within=1e-6):
    assert rec.fs==fs and rec.signal.shape==x.shape and np.abs(rec.signal-x).max()<within, rec
    return rec

def table(x=X, names=L, sep=',', decimal='.', first=None, above='', units=None, scale=1000, tail='', digits=3):
    "A table of samples; `first` is a name and a function of the row"
    rows = [[f'{v*scale:.{digits}f}'.replace('.', decimal) for v in row] for row in x.T]
    if first: rows = [[first[1](i), *row] for i,row in enumerate(rows)]
    head = [*([first[0]] if first else []), *(names or [])]
    lines = ([head] if names else []) + ([units] if units else []) + rows
    return (above + '\n'.join(sep.join(line)+tail for line in lines) + '\n').encode()

# ---- names and units of tables

@pytest.mark.parametrize('names', [
    [l.lower() for l in L], [f'lead_{l.lower()}' for l in L], [f'Lead{l}' for l in L], [f'MDC:{l}' for l in L],
    [f'Ableitung {l}' for l in L], [f'Dérivation {l}' for l in L], [f'ecg.{l}' for l in L], [f'[{l}]' for l in L],
    [f'{l}_signal' for l in L], [f'{l} in uV' for l in L], [f'{l}-uV' for l in L], [f'{l}<uV>' for l in L],
    [f'ECG({l})[uV]' for l in L], [f'{l} amplitude (uV)' for l in L], ['D1', 'D2', 'D3', *L[3:]], ['1', '2', '3', *L[3:]],
    [*L[:6], *(f'C{i}' for i in range(1, 7))], [*L[:6], *(f'V_{i}' for i in range(1, 7))],
    ['I', 'II', 'III', 'aVR.', 'a-VL', 'aV F', *L[6:]]])
def test_names_of_columns(names): assert not same(read_recording(table(names=names))).changes

def test_electrodes_of_an_eeg_are_no_chest_leads():
    with fails('missing lead V1'): read_recording(table(X[:9], names=[*L[:6], 'C3', 'C4', 'Cz']))

@pytest.mark.parametrize('unit', ['adu', 'counts', 'NU', 'mm', '%', 'digital', '10uV', 'µV/LSB'])
@pytest.mark.parametrize('where', ['name', 'row', 'above'])
def test_units_that_are_none(unit, where):
    if where=='name': data = table(names=[f'{l} ({unit})' for l in L])
    elif where=='row': data = table(units=[unit]*12)
    else: data = table(above=f'Units: {unit}\n')
    if unit=='%' and where=='row': return # a line that begins so is a comment
    with fails('unknown unit', 'pass the right one .--unit.'): read_recording(data)
    same(read_recording(data, unit='uV'))

@pytest.mark.parametrize('above', ['# gain: 200 /mV\n', 'Gain,200\n', '# ADC resolution: 4.88 uV/LSB\n', 'Scale factor: 0.00488 mV\n'])
def test_a_gain_without_a_unit(above):
    with fails('counts of a converter'): read_recording(table(above=above))
    same(read_recording(table(above=above, names=[f'{l} (uV)' for l in L])))

def test_the_gain_of_paper_is_none(): same(read_recording(table(above='Gain: 10 mm/mV\n')))

def test_units_that_contradict():
    named = [f'{l} (uV)' for l in L]
    with fails('which is right'): read_recording(table(names=named, units=['mV']*12))
    with fails('which is right'): read_recording(table(names=named, above='# unit: mV\n'))

@pytest.mark.parametrize('how', [lambda x: (x-x.mean(1, keepdims=True))/x.std(1, keepdims=True), lambda x: (x-x.mean())/x.std(),
    lambda x: (x-x.min())/np.ptp(x), lambda x: (x-x.min(1, keepdims=True))/np.ptp(x, axis=1)[:,None]])
def test_normalised_samples(how):
    with fails('normalised'): read_recording(table(how(X), scale=1, digits=7))

# ---- times and rates of tables

START = dt.datetime(2024, 3, 5, 23, 59, 58)
def moment(i): return START + dt.timedelta(microseconds=2000*i)

@pytest.mark.parametrize('clock', [
    lambda t: t.isoformat(), lambda t: t.isoformat()+'+02:00', lambda t: t.strftime('%m/%d/%Y %H:%M:%S.%f'),
    lambda t: t.strftime('%d.%m.%Y %H:%M:%S.%f'), lambda t: t.strftime('%H:%M:%S.%f'),
    lambda t: t.strftime('%I:%M:%S.%f %p'), lambda t: t.strftime('%H:%M:%S:%f')[:-3],
    lambda t: t.strftime("'[%H:%M:%S.%f %d/%m/%Y]'")])
@pytest.mark.parametrize('name', ['Time', 'hh:mm:ss.mmm', 'Time and date', 'x'])
def test_clocks_past_midnight(clock, name): same(read_recording(table(first=(name, lambda i: clock(moment(i))))))

def test_a_date_beside_the_time():
    same(read_recording(table(first=('Date,Time', lambda i: moment(i).strftime('2024-03-05,%H:%M:%S.%f')))))

def test_clocks_that_are_too_coarse():
    data = table(first=('Time', lambda i: moment(i).strftime('%H:%M:%S')))
    with fails('too coarse', 'between'): read_recording(data)
    same(read_recording(data, fs=500))

@pytest.mark.parametrize('fs', [100, 257, 1000])
@pytest.mark.parametrize('name,per', [
    ('elapsed_time', 1), ('timeSec', 1), ('rel_time', 1), ('时间', 1), ('offset', 1), ('TimeMs', 1e3), ('Time [msec]', 1e3),
    ('Zeit in ms', 1e3), ('t_us', 1e6), ('time_ns', 1e9)])
def test_names_of_time(fs, name, per):
    same(read_recording(table(at(fs), first=(name, lambda i: f'{i*per/fs:.6f}'))), at(fs), fs)

def test_a_column_of_the_rate(): same(read_recording(table(at(250), first=('fs', lambda i: '250'))), at(250), 250)

@pytest.mark.parametrize('above', [
    'Sampling Rate (Hz): 256\n', '256 Hz\n', 'SampleFreq(Hz):256\n', 'Samples per second: 256\n', '# 12-lead ECG, 256 Hz, 4 s\n',
    "Fréquence d'échantillonnage: 256 Hz\n", 'Frecuencia de muestreo: 256\n', 'Interval=\t0.00390625 s\n', '3.90625 msec/sample\n',
    'Heart rate: 72\nSampling rate: 256\n', 'Sampling Rate (kHz): 0.256\n', 'Low pass filter,150 Hz\nSample Rate,256 Hz\n',
    'Number of samples: 1024\nSampling: 256 Hz\n', 'Patient,ID,Age,fs\nDoe,123,55,12\n# fs=256\n', 'Key: value\n'*60+'fs: 256\n'])
def test_rates_above_the_numbers(above):
    x = at(256)
    assert same(read_recording(table(x, above=above)), x, 256)

@pytest.mark.parametrize('above', ['Heart rate: 120\n', 'Rate: 120\n', 'Mains frequency: 50 Hz\n', '0.05-150 Hz 25 mm/s 10 mm/mV\n',
    'Low pass filter: frequency 150 Hz\n', 'Filter: 0.05 - 150 Hz\n', 'Samples per lead: 2000\n', 'Sample size: 16\n'])
def test_what_is_no_rate(above):
    assert any('500 Hz' in a for a in same(read_recording(table(above=above))).assumed)

# ---- other things about tables

@pytest.mark.parametrize('code', ['utf-16', 'utf-16-le', 'utf-16-be', 'utf-32', 'cp1252'])
def test_encodings(code): same(read_recording(table(names=[f'{l} (µV)' for l in L]).decode().encode(code)))

@pytest.mark.parametrize('data', [
    table(tail=','), table(sep=';', decimal=',', tail=';'), table(names=None, tail=','), table()+b'\0'*99, table()+b'\x1a',
    table()+b',,,,,,,,,,,\n', table(above='sep=,\n'), table(above='512\n5120\n12\n'), b'\xef\xbb\xbf'+'\ufeff'.encode()+table()])
def test_ends_and_beginnings(data): same(read_recording(data))

def test_a_separator_behind_rows_only():
    head, *rows = table().decode().splitlines()
    same(read_recording('\n'.join([head, *(row+',' for row in rows)]).encode()))

def test_decimal_commas_in_quotes():
    rows = [','.join(f'"{v*1000:.3f}"'.replace('.', ',') for v in row) for row in X.T]
    same(read_recording('\n'.join([','.join(L), *rows]).encode()))

@pytest.mark.parametrize('cell', ['NA', 'N/A', 'null', 'None', '-', '--', '#N/A', '1.#QNAN', '-32768'])
def test_cells_without_a_number(cell):
    lines = table().decode().split('\n')
    lines[101] = ','.join([cell, *lines[101].split(',')[1:]])
    data = '\n'.join(lines).encode()
    with fails('missing value in lead I, sample 100 .1 in all'): read_recording(data)
    assert np.isnan(read_recording(data, check=False).signal[0,100])

def test_recordings_one_after_the_other():
    with fails('an empty line after row 2000'): read_recording(table()+b'\n'+table(names=None))
    with fails('more than one recording: patient_id'): read_recording(table(first=('patient_id', lambda i: f'p{i//1000}')))

@pytest.mark.parametrize('row', ['12.5,3', '1,2,3,4,5,6,7,8,9'])
def test_a_damaged_first_row_is_not_passed_over(row):
    head, body = table().decode().split('\n', 1)
    with fails('row 2', 'expected 12'): read_recording(f'{head}\n{row}\n{body}'.encode())

def test_leads_one_below_the_other():
    long = ''.join(f'{l},{i/500:.3f},{v:.3f}\n' for l,row in zip(L, X) for i,v in enumerate(row))
    with fails('a row for each sample of each lead', 'pivot'): read_recording(('lead,time,value\n'+long).encode())
    blocks = ''.join(f'Lead {l}\n'+''.join(f'{v:.3f}\n' for v in row) for l,row in zip(L, X))
    with fails('one below the other'): read_recording(blocks.encode())

def test_counts_of_rdsamp():
    rows = '\n'.join('\t'.join([f'{i:15d}', *(f'{v*200:8.0f}' for v in row)]) for i,row in enumerate(X.T))
    for data in (rows, '\t'.join(['sample #', *L])+'\n'+rows):
        with fails('rdsamp -p'): read_recording(data.encode())
    atm = "'sample interval',"+','.join(f"'{l}'" for l in L)+"\n'0.004 sec',"+','.join(["'mV'"]*12)+'\n'
    x = at(250)
    atm += '\n'.join(','.join([str(i), *(f'{v:.3f}' for v in row)]) for i,row in enumerate(x.T))
    same(read_recording(atm.encode()), x, 250)

@pytest.mark.parametrize('label', [lambda i, l: [l, 'uV'], lambda i, l: [str(i), l], lambda i, l: [f'{l} (uV)'], lambda i, l: [str(i)]])
@pytest.mark.parametrize('tail', ['', ','])
def test_rows_of_leads(label, tail):
    rows = [','.join([*label(i, l), *(f'{v*1000:.3f}' for v in row)])+tail for i,(l,row) in enumerate(zip(L, X))]
    same(read_recording('\n'.join(rows).encode()))

# ---- arrays

def npz(**arrays):
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()

def mat(**arrays):
    out = io.BytesIO()
    scipy.io.savemat(out, arrays)
    return out.getvalue()

def test_types_that_matlab_does_not_have():
    "scipy ends the process for numbers of a type that does not exist, or for a complex matrix without its second half"
    def saved(**how):
        out = io.BytesIO()
        scipy.io.savemat(out, dict(ECG=X[:,:200], fs=500.), **how)
        return out.getvalue()
    data = saved()
    at = data.find(struct.pack('<II', 9, X[:,:200].nbytes)) # the numbers: doubles
    for kind in (0, 8, 10, 11, 14, 15, 19, 40):
        with fails(r'damaged \('): read_recording(data[:at] + struct.pack('<I', kind) + data[at+4:])
    with fails(r'damaged \('): read_recording(data[:145] + b'\x08' + data[146:]) # complex
    import zlib
    packed = zlib.compress(data[128:at] + struct.pack('<I', 8) + data[at+4:-64])
    with fails(r'damaged \('): read_recording(data[:128] + struct.pack('<II', 15, len(packed)) + packed)
    same(read_recording(saved(do_compression=True)), X[:,:200])
    nested = np.empty((1, 2), object)
    nested[0,0], nested[0,1] = np.array(['text']), np.zeros((0, 0))
    same(read_recording(mat(ecg=X, fs=500., cells=nested, other=dict(a='b', c=[1+2j], d=True))))

def texts(names): return np.array(names, dtype=object)

@pytest.mark.parametrize('data', [
    npz(ecg=X[::-1], fs=500, names=L[::-1]), npz(ecg=X.T, time=np.arange(2000)/500), npz(fs=500, **dict(zip(L, X))),
    npz(ecg=np.vstack([X, X[:3]]), fs=500, channels=L+['vx', 'vy', 'vz']),
    npz(ecg=np.vstack([C[:6], X[6:]]), fs=500, units=['uV']*6+['mV']*6), mat(ecg=X[::-1], fs=500., leads=texts(L[::-1])),
    mat(fs=500., ecg=dict(zip(L, X))), mat(ecg=X.T, t=np.arange(2000)/500)])
def test_what_arrays_say(data): same(read_recording(data))

@pytest.mark.parametrize('data,says', [
    (npz(ecg=X, fs=500, sampling_rate=250), 'which is right'), (npz(ecg=X, fs=500, gain=200), 'counts of a converter'),
    (npz(ecg=X, fs=250, time=np.arange(2000)/500), 'which is right'), (npz(ecg=X, fs=-500), 'sampling rate')])
def test_arrays_refused(data, says):
    with fails(says): read_recording(data)

def hdf5(path, attributes=(), **datasets):
    with h5py.File(path, 'w') as f:
        for name,x in datasets.items(): f.create_dataset(name, data=x)
        f.attrs.update(dict(attributes))
    return path

def test_hdf5_of_other_layouts(tmp_path):
    same(read_recording(hdf5(tmp_path/'a.h5', fs=500, **dict(zip(L, X)))))
    with fails('names no sampling rate'): read_recording(hdf5(tmp_path/'b.h5', ecg=X)) # SPH has half precision
    same(read_recording(hdf5(tmp_path/'c.h5', dict(sampling_rate=500), signals=X.T, time=np.arange(2000)/500)))
    many = np.stack([X.T]*2).astype('f4')
    same(read_recording(hdf5(tmp_path/'d.h5', tracings=many, id_exam=[7, 8])/'8'), fs=400)

# ---- formats that libraries read

LIBRARIES = dict(ishne=W.ishne, mfer=W.mfer, mortara=W.mortara, scp=W.scp, cardiosoft=W.cardiosoft)

@pytest.mark.parametrize('kind', LIBRARIES)
@pytest.mark.parametrize('fs', [250, 500, 1000])
def test_written_from_the_specification(kind, fs):
    x = at(fs)
    same(read_recording(LIBRARIES[kind](np.rint(x*1000).astype(int), fs)), x, fs)

@pytest.mark.parametrize('kind', LIBRARIES)
def test_lead_sets(kind):
    write = LIBRARIES[kind]
    same(read_recording(write(C[::-1], names=L[::-1])))
    eight = read_recording(write(C[INDEPENDENT], names=EIGHT))
    assert 'derived' in eight.changes[0] and np.abs(eight.signal[INDEPENDENT]-X[INDEPENDENT]).max()<1e-6
    with fails('missing lead V6'): read_recording(write(C[:11], names=L[:11]))

@pytest.mark.parametrize('kind', LIBRARIES)
def test_cut_files(kind):
    data = LIBRARIES[kind](C)
    for size in (len(data)-7, len(data)//2, 300):
        with pytest.raises(ECGError): read_recording(data[:size])

@pytest.mark.parametrize('huffman', [False, True, 'own'])
@pytest.mark.parametrize('order', [0, 1, 2])
def test_compressions_of_scp(huffman, order): same(read_recording(W.scp(C, order=order, huffman=huffman)))

@pytest.mark.parametrize('order', [0, 2])
@pytest.mark.parametrize('huffman', [False, True, 'own'])
def test_scp_without_its_beats(huffman, order):
    "A beat that was subtracted around each QRS is added again"
    data = W.scp(C, order=order, huffman=huffman, beat=C[:,300:600], fiducials=[400, 900, 1500])
    same(read_recording(data))
    assert data!=W.scp(C, order=order, huffman=huffman)

def test_scp_whose_leads_follow_each_other():
    with fails('one group after the other, from samples 1, 2001'): read_recording(W.scp(C, starts=[1]*6+[2001]*6))
    same(read_recording(W.scp(C, starts=[51]*12))) # all of them later is no shift

@pytest.mark.parametrize('data,says', [
    (W.ishne(C, step=0), 'without a unit'), (W.mfer(C, step=None), 'unit'), (W.mortara(C, per_mv=''), 'without a unit'),
    (W.mfer(C, extra=b'\x43\x04\x40\x42\x0f\0'), 'shifted in time'), (W.mortara(C, BITS=12), '16-bit'),
    (W.mortara(C, DURATION=77), 'DURATION'), (W.cardiosoft(C, total=77), 'says 77 samples'),
    (W.cardiosoft(C, unit='mVperLsb'), 'uVperLsb'), (b'\0\1'+W.scp(C)[2:], 'damaged')])
def test_libraries_refuse(data, says):
    with fails(says): read_recording(data)

@pytest.mark.parametrize('share', [.25, .5, .9])
def test_philips_whose_length_is_too_short(share):
    "Cut by a wrong length, lead II would begin in the middle of lead I"
    with fails('in each channel by its length'): read_recording(W.philips(C, total=round(C.shape[1]*share)))
    same(read_recording(W.philips(C)))

def test_a_fault_of_a_lead_is_missing():
    counts = C.copy()
    counts[2,100] = -32768
    with fails('missing value in lead III, sample 100 .1 in all'): read_recording(W.ishne(counts))

@pytest.mark.parametrize('data', [W.ishne(C, comment=b'hello'), W.ishne(C, checksum=False), W.mfer(C, order='>'), W.mfer(C, frames=10),
    W.mortara(C).decode().encode('utf-16'), W.scp(C)+bytes(50)])
def test_harmless_variants(data): same(read_recording(data))

def test_edf_beside_other_signals(tmp_path):
    writer = pyedflib.EdfWriter(str(tmp_path/'x.edf'), 13, pyedflib.FILETYPE_EDFPLUS)
    def signal(label, unit, fs, top): return dict(label=label, dimension=unit, sample_frequency=fs, physical_max=top,
        physical_min=-top, digital_max=32767, digital_min=-32768, transducer='', prefilter='')
    writer.setSignalHeaders([signal(f'{l}-Ref', 'uV', 500, 32767) for l in L] + [signal('Resp', '', 25, 100)])
    writer.writeSamples([np.ascontiguousarray(row)*1000 for row in X] + [np.zeros(100)])
    writer.writeAnnotation(1, 1, 'beat')
    writer.close()
    same(read_recording(tmp_path/'x.edf'), within=6e-4)

def edf(kind=pyedflib.FILETYPE_EDFPLUS, seconds=4):
    "EDF or BDF as its library writes it, in data records of a second"
    import tempfile
    with tempfile.TemporaryDirectory() as folder:
        writer = pyedflib.EdfWriter(f'{folder}/x', 12, kind)
        top = 8388607 if kind in (pyedflib.FILETYPE_BDF, pyedflib.FILETYPE_BDFPLUS) else 32767
        writer.setSignalHeaders([dict(label=f'ECG {l}', dimension='uV', sample_frequency=500, physical_max=32767,
            physical_min=-32767, digital_max=top, digital_min=-top-1, transducer='', prefilter='') for l in L])
        writer.writeSamples([np.ascontiguousarray(row[:500*seconds])*1000 for row in X])
        writer.close()
        with open(f'{folder}/x', 'rb') as f: return f.read()

KINDS_OF_EDF = [pyedflib.FILETYPE_EDF, pyedflib.FILETYPE_EDFPLUS, pyedflib.FILETYPE_BDF, pyedflib.FILETYPE_BDFPLUS]

@pytest.mark.parametrize('kind', KINDS_OF_EDF)
def test_data_records_of_edf_are_counted(kind, capfd):
    data = edf(kind)
    def counting(n): return data[:236] + f'{n:<8}'.encode() + data[244:]
    with fails('cut short, 3 of 4'): read_recording(data[:-99])
    with fails('counts 2 data records and 4 are present'): read_recording(counting(2))
    assert read_recording(counting(2), check=False).faults[0][0]=='cut'
    assert 'did not finish' in same(read_recording(counting(-1)), within=6e-4).changes[0]
    assert '99 bytes behind' in same(read_recording(data+bytes(99)), within=6e-4).changes[0]
    assert not capfd.readouterr().out, 'the library prints what it finds wrong'

@pytest.mark.parametrize('kind', KINDS_OF_EDF[1::2])
def test_interrupted_edf(kind):
    data = edf(kind).replace(b'EDF+C', b'EDF+D').replace(b'BDF+C', b'BDF+D')
    assert not same(read_recording(data), within=6e-4).changes, 'marked as interrupted, and is not'
    at = data.find(b'+1\x14\x14')
    gap = read_recording(data[:at] + b'-9' + data[at+2:]) # the second second was recorded long before
    assert '2 of 4 s, from second 2 on' in gap.changes[0]
    same(gap, X[:,1000:], within=6e-4)
    with fails('data record 2 does not say when'): read_recording(data[:at] + b'xx' + data[at+2:])

def test_samples_are_counted():
    assert 'says 2,000 samples' in read_recording(W.ishne(C)[:-2400]).changes[0]
    data = W.mfer(C)
    at = data.find(b'\x04\x04'+(2000).to_bytes(4, 'little')) # samples in a row of one lead
    with fails('bytes of samples'): read_recording(data[:at+2] + (1000).to_bytes(4, 'little') + data[at+6:])
    with fails('step of 0'): read_recording(W.mortara(C, UNITS_PER_MV='inf'))
    out = io.BytesIO()
    np.save(out, X)
    with fails('9 bytes behind the array'): read_recording(out.getvalue()+bytes(9), fs=500)
    with fails('cut short'): read_recording(out.getvalue()[:-9], fs=500)
    data = mat(ecg=X, fs=500.)
    with fails('cut short|damaged'): read_recording(data[:9000]+data[9048:], fs=500)
    with fails('cut short|damaged'): read_recording(data[:9000]+bytes(64)+data[9000:], fs=500)

@pytest.mark.parametrize('version', ['1.03', '1.04', '1.04.01', '1.04.02'])
@pytest.mark.parametrize('code,said', [('utf-8', ''), ('utf-16', ''), ('utf-16', 'utf-8'), ('utf-8', 'utf-16'), ('latin-1', 'utf-8'),
    ('cp1252', ''), ('utf-8', 'us-ascii')])
def test_philips_whose_encoding_lies(version, code, said):
    same(read_recording(W.philips(C, version=version, code=code, said=said)))

# ---- DICOM

def dicom(change):
    import pydicom
    ds = pydicom.dcmread(io.BytesIO(to_dicom(Recording(X))))
    change(ds)
    out = io.BytesIO()
    ds.save_as(out, enforce_file_format=True)
    return out.getvalue()

def apart(ds, offset=0):
    "Four groups of three leads, each `offset` ms after the one before"
    import copy
    whole = ds.WaveformSequence[0]
    counts = np.frombuffer(whole.WaveformData, '<i2').reshape(-1, 12)
    ds.WaveformSequence = []
    for k in range(4):
        group = copy.deepcopy(whole)
        group.ChannelDefinitionSequence = group.ChannelDefinitionSequence[3*k:3*k+3]
        group.NumberOfWaveformChannels, group.MultiplexGroupTimeOffset = 3, str(k*offset)
        group.WaveformData = counts[:,3*k:3*k+3].tobytes()
        ds.WaveformSequence.append(group)

def test_dicom_leads_in_several_groups():
    assert '4 groups' in same(read_recording(dicom(apart))).changes[0]
    with fails('leads lie in 4 groups that do not fit together'): read_recording(dicom(lambda ds: apart(ds, 2500)))

def test_dicom_groups_of_different_rates():
    "The limb leads at 1000 Hz, the others at 500: said as it is, not as missing leads"
    def change(ds):
        apart(ds)
        first = ds.WaveformSequence[0]
        first.SamplingFrequency, first.NumberOfWaveformSamples = 1000, 2*first.NumberOfWaveformSamples
        first.WaveformData = first.WaveformData*2
    with fails('4 groups that do not fit together', '4000 samples at 1000 Hz, 2000 samples at 500 Hz'): read_recording(dicom(change))

def test_dicom_leads_by_code_alone():
    def change(ds):
        for channel,lead in zip(ds.WaveformSequence[0].ChannelDefinitionSequence, L):
            source = channel.ChannelSourceSequence[0]
            source.CodeValue, source.CodeMeaning = f'MDC_ECG_LEAD_{lead.upper()}', ''
    same(read_recording(dicom(change)))

def test_dicom_without_preamble():
    data = to_dicom(Recording(X))
    same(read_recording(data[132:]))
    same(read_recording(data[144+struct.unpack('<I', data[140:144])[0]:]))

# ---- WFDB in parts

def part(folder, name, x, fs=500, unit='mV', names=L, length=None):
    counts = np.rint(x*1000).astype('<i2')
    (folder/f'{name}.dat').write_bytes(counts.T.tobytes())
    gain = 1000 if unit=='mV' else 1
    lines = [f'{name}.dat 16 {gain}/{unit} 16 0 {c[0]} {(int(c.sum())+2**15)%2**16-2**15} 0 {n}' for c,n in zip(counts, names)]
    (folder/f'{name}.hea').write_text('\n'.join([f'{name} {len(names)} {fs} {x.shape[1]}', *lines])+'\n')

@pytest.mark.parametrize('how,says', [
    ({}, ''), (dict(unit='uV'), ''), (dict(names=L[::-1]), ''), (dict(fs=250), 'segments of 250 and 500 Hz'), ('short', 'which has 900')])
def test_segments(tmp_path, how, says):
    part(tmp_path, 'a', X[:,:1000])
    if how=='short': part(tmp_path, 'b', X[:,1000:1900])
    else: part(tmp_path, 'b', X[::-1,1000:] if 'names' in how else X[:,1000:], **how)
    (tmp_path/'r.hea').write_text('r/2 12 500 2000\na 1000\nb 1000\n')
    if not says: same(read_recording(tmp_path/'r.hea'))
    else:
        with fails(says): read_recording(tmp_path/'r.hea')

@pytest.mark.parametrize('file', [lambda folder: folder/'a.hea', lambda folder: to_dicom(Recording(X))], ids=['wfdb', 'dicom'])
def test_what_a_file_says_of_itself_is_not_overruled(tmp_path, file):
    part(tmp_path, 'a', X)
    there = file(tmp_path)
    same(read_recording(there, fs=500))
    with fails('the file says 500 Hz, 250 Hz were given'): read_recording(there, fs=250)
    rec = same(read_recording(there, unit='uV', leads=L[::-1]))
    assert [c for c in rec.changes if 'not used' in c] == [f'--{w} is not used, the file names its own' for w in ('unit', 'leads')]

def test_a_header_without_a_rate_takes_the_one_that_is_given(tmp_path):
    part(tmp_path, 'a', X)
    head = tmp_path/'a.hea'
    head.write_text(head.read_text().replace(f'a 12 500 {X.shape[1]}', 'a 12', 1))
    assert read_recording(head).assumed[0].startswith('250 Hz') and not same(read_recording(head, fs=500)).assumed

def test_headers_with_a_byte_order_mark(tmp_path):
    from ecg_arrhythmia.data.datasets import catalogue
    part(tmp_path, 'a', X)
    (tmp_path/'RECORDS').write_bytes('\ufeffa\n'.encode())
    head = tmp_path/'a.hea'
    head.write_bytes(b'\xef\xbb\xbf' + head.read_bytes() + b'#Dx: 426783006\n')
    same(read_recording(head))
    cat = catalogue(tmp_path)
    assert list(cat)==['a'] and cat.table.rhythm['a']=='SR'

def test_dicom_with_a_pdf_inside(tmp_path):
    import pydicom
    from ecg_arrhythmia.charts import draw
    from ecg_arrhythmia.pictures import read_picture
    draw(simulate('SR', seed=1), '12x1', paper='double').savefig(tmp_path/'chart.pdf')
    def enclose(document):
        def change(ds):
            ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = pydicom.uid.EncapsulatedPDFStorage
            del ds.WaveformSequence
            ds.EncapsulatedDocument = document + bytes(len(document)%2)
        return dicom(change)
    pdf = (tmp_path/'chart.pdf').read_bytes()
    (tmp_path/'chart.dcm').write_bytes(enclose(pdf))
    inside, outside = read_picture(tmp_path/'chart.dcm'), read_picture(tmp_path/'chart.pdf')
    assert np.array_equal(inside.recording.signal, outside.recording.signal, equal_nan=True)
    assert inside.recording.source.endswith('chart.dcm') and inside.evidence[-1]=='the PDF inside a DICOM file'
    with fails('ecg_digitise'): read_recording(tmp_path/'chart.dcm')
    (tmp_path/'bad.dcm').write_bytes(enclose(b'%PDF-1.4 garbage'))
    with fails('bad.dcm, its PDF'): read_picture(tmp_path/'bad.dcm')

# ---- programs of laboratories

@pytest.mark.parametrize('timed', [False, True])
def test_names_one_a_line(timed):
    "AcqKnowledge: the channels one a line, a header that counts them, and a row with the number of samples"
    above = 'file.acq\n2 msec/sample\n12 channels\n' + ''.join(f'{l}\nmV\n' for l in L[::-1])
    rows = [[*(f'{i/30000:.8f}' for _ in range(timed)), *(f'{v:.3f}' for v in moment)] for i,moment in enumerate(X[::-1].T)]
    head = [['min']*timed + [f'CH{i}' for i in range(1, 13)], ['']*timed + ['2000']*12]
    rec = same(read_recording((above + ''.join(','.join(row)+',\n' for row in head+rows)).encode()))
    assert rec.assumed[0].startswith('unit mV')

def test_names_behind_a_key():
    "LabChart: tabs, lines with a key, and the range of each channel under its name"
    above = 'Interval=\t0.002 s\nChannelTitle=\t' + '\t'.join(L[::-1]) + '\nRange=\t' + '\t'.join(['10.000 mV']*12) + '\n'
    rows = '\n'.join('\t'.join([f'{i/500:.3f}', *(f'{v:.3f}' for v in moment)]) for i,moment in enumerate(X[::-1].T))
    same(read_recording((above+rows).encode()))

def test_excel_is_named():
    import openpyxl
    book, out = openpyxl.Workbook(), io.BytesIO()
    book.active.append(L)
    book.save(out)
    with fails('Excel', 'save the sheet with the samples as CSV'): read_recording(out.getvalue())

@pytest.mark.parametrize('fs', [0, -500, float('nan'), float('inf')])
def test_a_rate_that_is_none(fs):
    with fails('a sampling rate is a number of Hz above 0'): read_recording(table(), fs=fs)

@pytest.mark.parametrize('name', ['Derivazione {}', 'Derivação {}', 'Afleiding {}', 'Odprowadzenie {}', 'Отведение {}', '{}导联'])
def test_leads_in_other_languages(name): same(read_recording(table(names=[name.format(l) for l in L])))

@pytest.mark.parametrize('minus', ['\u2212', '\u2013'])
def test_minus_signs_of_word_processors(minus):
    same(read_recording(table().decode().replace('-', minus).encode()))

def test_marks_between_thousands_are_not_read_as_decimals():
    whole = [[f'{v:,}' for v in row] for row in C.T.tolist()]
    for mark,says in (('.', 'may be a thousand'), ("'", 'marks between thousands'), ('\u00a0', 'marks between thousands')):
        rows = [';'.join(row).replace(',', mark) for row in whole]
        timed = [f'{i/500:.3f};{row}' for i,row in enumerate(rows)]
        with fails(says): read_recording('\n'.join([';'.join(L), *rows]).encode())
        with fails(says): read_recording('\n'.join([';'.join(['time (s)', *L]), *timed]).encode())
    some = table(scale=1, digits=3, sep=';').decode().replace(';0.000', ';0') # decimals beside whole numbers are none
    same(read_recording(some.encode()))

@pytest.mark.parametrize('text', ['{"I": [1, 2], "II": [1, 2]}', '[{"I": 1, "II": 2}]', '[[1, 2], [3, 4]]'])
def test_json(text):
    with fails('a JSON file; write its samples as CSV'): read_recording(text.encode())

@pytest.mark.parametrize('hurt', [lambda text: text[:101], lambda text: b'', lambda text: b'AAAA', lambda text: text[:-200]+b'x'])
def test_philips_whose_samples_cannot_be_unpacked(hurt):
    data = W.philips(C)
    text = re.search(rb'<parsedwaveforms[^>]*>([^<]*)<', data)
    with pytest.raises(ECGError, match='case.xml'):
        read_recording(data[:text.start(1)] + hurt(text[1].strip()) + data[text.end(1):], name='case.xml')

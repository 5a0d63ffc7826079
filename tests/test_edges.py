"Files as other programs write them, which were once read wrongly, or refused for no good reason"
import base64, io
from dataclasses import replace
from shutil import copytree

import h5py, numpy as np, pyedflib, pytest

from ecg_arrhythmia.core import ECGError
from ecg_arrhythmia.data.convert import to_aecg, write_recording
from ecg_arrhythmia.data.datasets import catalogue
from ecg_arrhythmia.data.formats import read_recording
from ecg_arrhythmia.data.recordings import Recording
from ecg_arrhythmia.data.simulation import simulate
from ecg_arrhythmia.data.wfdb_files import parse_header
from ecg_arrhythmia.prediction.runtime import default_model, load_model
from ecg_arrhythmia.prediction.windows import _file_findings
from ecg_arrhythmia.signals.checks import check_signal
from test_variants import C, L, X, fails, same, table

NUMBERS = table(names=None)

# ---- tables

@pytest.mark.parametrize('name', ['Abl. {}', 'ch_{}', 'Kanal {}', 'Channel {}', '{}_filtered', 'Отведение {} (мкВ)',
    '{}（微伏）'])
def test_other_names_of_leads(name): assert not same(read_recording(table(names=[name.format(l) for l in L]))).changes

def test_roman_numbers_of_unicode(): assert not same(read_recording(table(names=['Ⅰ', 'Ⅱ', 'Ⅲ', *L[3:]]))).changes

@pytest.mark.parametrize('code,time,name', [('gb18030', '时间', '{}导联'), ('big5', '時間', '{}導聯'),
    ('shift_jis', '時間', '{}誘導'), ('cp1251', 'Время (с)', 'Отведение {} (мкВ)')])
def test_encodings_from_before_unicode(code, time, name):
    data = table(names=[name.format(l) for l in L], first=(time, lambda i: f'{i/500:.3f}')).decode().encode(code)
    assert not same(read_recording(data)).changes

def test_the_header_of_numpy_is_a_comment():
    text = io.StringIO()
    np.savetxt(text, C[::-1].T, '%d', ',', header=','.join(L[::-1]))
    assert not any('lead order' in a for a in same(read_recording(text.getvalue().encode())).assumed)

def test_limits_that_labchart_writes_are_no_samples():
    head = ('Interval=\t0.002 s\n' + 'ChannelTitle=\t'+'\t'.join(L) + '\nUnitName=\t' + '\t'.join(['µV']*12)
        + '\nTopValue=\t'+'\t'.join(['5000']*12) + '\nBottomValue=\t'+'\t'.join(['-5000']*12) + '\n')
    body = table(names=None, sep='\t', first=('', lambda i: f'{i/500:.3f}')).decode()
    assert not same(read_recording((head+body).encode())).assumed

@pytest.mark.parametrize('index', [False, True])
def test_numbers_of_samples_above_rows_of_leads(index):
    rows = [[f'{v:.0f}' for v in row] for row in C]
    rows = [[str(i)]*index + row for i,row in enumerate(rows)]
    head = ['']*index + [str(i) for i in range(X.shape[1])]
    same(read_recording('\n'.join(','.join(r) for r in [head, *rows]).encode()))

def test_columns_numbered_in_another_order():
    with fails('which leads are they'): read_recording((','.join(map(str, range(11, -1, -1))) + '\n').encode() + NUMBERS)

@pytest.mark.parametrize('mark', [-9999, 9999, -99999, -32768])
def test_marks_of_missing_samples(mark):
    x = C.astype(float)
    x[4,50] = mark
    with fails('missing value in lead aVL, sample 50'): read_recording(table(x, scale=1))

def test_a_sample_that_is_no_voltage():
    x = X.copy()
    x[4,50] = -500
    with fails('sample 50 of lead aVL is -500 mV'): read_recording(table(x, [f'{l} (mV)' for l in L], scale=1))
    same(read_recording(table(X + 300, [f'{l} (mV)' for l in L], scale=1)), X + 300, within=1e-4) # an offset is none

def test_two_sets_of_leads():
    with fails('more than one recording'): read_recording(table(np.concatenate([X, X]), [*L, *(f'{l}.1' for l in L)]))

def test_two_segments():
    with fails('more than one recording'): read_recording(table(first=('segment', lambda i: f's{i//1000}')))

def test_the_number_of_leads_is_said():
    with fails('3 leads only', 'I, II, V5'): read_recording(table(X[[0,1,10]], ['I', 'II', 'V5']))

@pytest.mark.parametrize('above,refused', [('# ADC gain: 2.44 uV/bit\n', True), ('Gain;1;\n', False), ('# converter of 16 bits\n', False)])
def test_a_scale_and_no_scale(above, refused):
    data = table(above=above, sep=';')
    if not refused: same(read_recording(data))
    else:
        with fails('counts of a converter'): read_recording(data)

def test_differences_of_times(): same(read_recording(table(first=('t', lambda i: f'0 days 00:00:{i/500:09.6f}'))))

# ---- arrays

def npz(**arrays):
    data = io.BytesIO()
    np.savez(data, **arrays)
    return data.getvalue()

@pytest.mark.parametrize('name', ['scale', 'lsb_uV', 'mv_per_count', 'adc_per_mV', 'gains', 'conversion_factor', 'uVperBit'])
def test_names_of_a_scale(name):
    with fails('may be counts of a converter'): read_recording(npz(ecg=C, fs=500, **{name: 4.88}))
    same(read_recording(npz(ecg=C, fs=500, **{name: 4.88}), unit='uV'))

def test_counts_beside_a_unit_and_a_step():
    with fails('whole numbers, the unit µV', 'lsb'): read_recording(npz(ecg=C, fs=500, units='uV', lsb=4.88))
    same(read_recording(npz(ecg=X+1e-5, fs=500, units='mV', adc_gain=200)), within=1e-4)

@pytest.mark.parametrize('fact', [dict(dt=.002), dict(sampling_interval=2), dict(fs='500 Hz'), dict(fs=np.full(12, 500))])
def test_other_words_for_the_rate(fact): same(read_recording(npz(ecg=C, units='uV', **fact)))

def test_rates_that_differ():
    with fails('several sampling rates'): read_recording(npz(ecg=C, fs=[500]*11+[250]))

def hdf5(change):
    data = io.BytesIO()
    with h5py.File(data, 'w') as f:
        for i,l in enumerate(L): f[l] = C[i] if i>5 else X[i]
        for i,l in enumerate(L): f[l].attrs.update(change(i))
    return data.getvalue()

def test_each_lead_of_hdf5_has_its_unit():
    same(read_recording(hdf5(lambda i: dict(fs=500, units='uV' if i>5 else 'mV'))))
    with fails('several sampling rates'): read_recording(hdf5(lambda i: dict(fs=250 if i else 500, units='mV')))

def test_a_largest_value_of_one_is_said():
    assert any('may be normalised' in a for a in read_recording(npz(ecg=X/np.abs(X).max(), fs=500)).assumed)

# ---- WFDB

def wfdb(folder, names=L, steps=C, fmt='16', first=None, checksum=True, head='r {n} 500 {k}\n', data=None):
    "A record of one file, whose signals have a frame each"
    sums = [int(row.sum())%65536 if checksum else 0 for row in steps]
    starts = [0]*len(names) if first is None else first
    lines = [f'r.dat {fmt} 1000/mV 16 0 {a} {s} 0 {n}\n' for n,s,a in zip(names, sums, starts)]
    (folder/'r.hea').write_text(head.format(n=len(names), k=steps.shape[1]) + ''.join(lines))
    (folder/'r.dat').write_bytes(steps.T.astype('<i2').tobytes() if data is None else data)
    return folder/'r.hea'

def test_sums_that_were_not_taken(tmp_path): same(read_recording(wfdb(tmp_path, checksum=False)))

def test_differences_begin_at_the_first_value(tmp_path):
    steps = np.rint(C/40).astype(int)
    changes = np.diff(steps, axis=1, prepend=steps[:,:1])
    path = wfdb(tmp_path, steps=steps, fmt='8', first=steps[:,0], data=changes.T.astype('i1').tobytes())
    path.write_text(path.read_text().replace('1000/mV', '25/mV'))
    same(read_recording(path), steps/25)

def test_another_signal_of_another_rate(tmp_path):
    frames = np.concatenate([C.reshape(12, -1, 2).transpose(1, 0, 2).reshape(-1, 24), np.zeros((X.shape[1]//2, 1))], 1)
    path = wfdb(tmp_path, names=[*L, 'RESP'], steps=np.concatenate([C, C[:1]*0]), data=frames.astype('<i2').tobytes())
    lines = path.read_text().replace('13 500 2000', '13 250 1000').replace(' 16 1000', ' 16x2 1000').splitlines()
    path.write_text('\n'.join([*lines[:-1], lines[-1].replace('16x2', '16')]))
    assert same(read_recording(path)).changes==('left out RESP',)

def test_segments_of_another_length_in_all(tmp_path):
    wfdb(tmp_path)
    (tmp_path/'all.hea').write_text('all/1 12 500 9000\nr 2000\n')
    with fails('says 9,000 samples, and its segments have 2,000'): read_recording(tmp_path/'all.hea')

@pytest.mark.parametrize('said', ['# age: 51\n# sex: female', '#Age: 51\n#Sex: Female', '#<age>: 51\n#<sex>: F',
    '# <age>: 51 <sex>: F <diagnoses> x'])
def test_person_in_a_header(said):
    who = parse_header('r 12 500 9\n'+said)
    assert (who['age'], who['sex'])==(51, 'F')

# ---- EDF

def edf(path, names, x, fs=500):
    with pyedflib.EdfWriter(str(path), len(names), pyedflib.FILETYPE_EDF) as w:
        w.setSignalHeaders([dict(label=n, dimension='mV', sample_frequency=fs, physical_max=10, physical_min=-10,
            digital_max=32767, digital_min=-32768, transducer='', prefilter='') for n in names])
        w.writeSamples([np.ascontiguousarray(row) for row in x])
    return path

def test_the_end_of_the_last_data_record(tmp_path):
    found = same(read_recording(edf(tmp_path/'a.edf', L, X[:,:1800])), X[:,:1800], within=1e-3)
    assert found.changes==('cut off 200 samples at the end, which only fill the last data record',)

def test_numbers_of_limb_leads_in_edf(tmp_path):
    assert not same(read_recording(edf(tmp_path/'a.edf', ['ECG 1', 'ECG 2', 'ECG 3', *L[3:]], X)), within=1e-3).changes

# ---- single leads

@pytest.mark.parametrize('rhythm', ['SR', 'AFIB', 'SB'])
def test_a_spoilt_lead_is_doubted(rhythm):
    rec = simulate(rhythm, seed=4)
    one = np.eye(12)[[8]].T
    hiss = np.random.default_rng(1).normal(0, .3, rec.signal.shape[1])
    def codes(x): return {f.code for f in check_signal(replace(rec, signal=x.astype(np.float32)))[0]}
    assert not codes(rec.signal) & {'lead_noise', 'jump'}
    assert 'lead_noise' in codes(rec.signal + one*hiss)
    assert 'jump' in codes(rec.signal + one*3*(np.arange(len(hiss))>2700))

# ---- folders

def test_a_model_that_lies_aside_is_found(tmp_path):
    copytree(default_model(), tmp_path/'.mine.old')
    assert load_model(tmp_path/'mine', 'torch').classes and not (tmp_path/'.mine.old').exists()

# ---- rates that are said in other words

@pytest.mark.parametrize('above', ['# dt=0.004\n', 'sample period (us): 4000\n', '# 250 S/s\n', '# Sampling: 0.25 kS/s\n', 'fsamp=250\n',
    'Time step: 4 ms\n', 'Ts = 0.004\n', '# Sampling rate: 250 Hz (resampled from 1000 Hz)\n',
    '# Original sampling rate: 1000 Hz\n# Sampling rate: 250 Hz\n'])
def test_a_rate_in_other_words(above): assert same(read_recording(table(above=above)), fs=250)

@pytest.mark.parametrize('above', ['ts: 1700000000\n', 'dt: 2024-03-05\n', 'Date: 5.3.2024\nTime increment: none\n', 'Unit of time: 1\n'])
def test_words_that_are_no_step(above):
    assert any('500 Hz' in a for a in same(read_recording(table(above=above))).assumed)

def test_a_rate_from_before_a_change():
    data = table(above='# Original sampling rate: 1000 Hz\n')
    with fails('an original rate of 1000 Hz', '--fs'): read_recording(data)
    for fs in (250, 1000): same(read_recording(data, fs=fs), fs=fs)
    with fails('2.5e.08 Hz'): read_recording(table(above='# fs: 250 MHz\n'))

def test_two_rates_are_settled_by_the_one_that_is_given():
    data = table(above='# fs=500\n# sampling rate: 250 Hz\n')
    with fails('250 Hz and 500 Hz'): read_recording(data)
    same(read_recording(data, fs=250), fs=250)

@pytest.mark.parametrize('above,doubted', [('# Duration: 6 s\n', True), ('Length (s): 6\n', True), ('Recording duration: 3 sec\n', False),
    ('QRS duration: 0.1 s\n', False), ('PR length: 0.2 s\n', False)])
def test_a_length_that_contradicts_the_assumed_rate(above, doubted):
    faults = read_recording(table(X[:,:1500], above=above), check=False).faults
    assert [c for c,_ in faults]==['rate']*doubted
    assert not read_recording(table(X[:,:1500], above=above), fs=250).faults

# ---- more in the file than is read

def test_samples_behind_those_that_are_counted(tmp_path):
    from test_variants import dicom
    path = wfdb(tmp_path, data=np.concatenate([C.T, C.T[:99]]).astype('<i2').tobytes())
    assert same(read_recording(path)).changes==('left out 99 samples of r.dat behind those that the header counts',)
    def shorter(ds): ds.WaveformSequence[0].NumberOfWaveformSamples = 1500
    assert same(read_recording(dicom(shorter)), X[:,:1500]).changes==('left out 500 samples behind those that the file counts',)

def test_two_strips_of_cardiosoft():
    import writers as W
    one, two = W.cardiosoft(C), W.cardiosoft(C//2)
    strip = two[two.index(b'<StripData>'):two.index(b'</CardiologyXML>')]
    data = one.replace(b'</CardiologyXML>', strip+b'</CardiologyXML>')
    assert same(read_recording(data)).changes==('the first of 2 recordings in the file taken',)

def test_a_lead_that_scp_names_twice():
    import writers as W
    with fails('repeated lead I;'): read_recording(W.scp(C, names=['I', 'I', *L[2:]]))

def test_a_rate_of_zero_is_none(tmp_path):
    path = wfdb(tmp_path, head='r {n} 0 {k}\n')
    assert read_recording(path).assumed[0].startswith('250 Hz') and not same(read_recording(path, fs=500)).assumed

# ---- what arrays say beside the samples

@pytest.mark.parametrize('name,value,right', [('polarity', -1, False), ('inverted', True, False), ('polarity', 1, True),
    ('inverted', False, True), ('sign', 'negative', False), ('sign', '+1', True)])
def test_leads_that_are_upside_down(name, value, right):
    data = npz(ecg=X if right else -X, fs=500, units='mV', **{name: value})
    if right: same(read_recording(data), within=1e-4)
    else:
        with fails('upside down'): read_recording(data)

def hdf5_of(x, whole, own):
    data = io.BytesIO()
    with h5py.File(data, 'w') as f:
        f.create_dataset('ecg_signal', data=x)
        f.attrs.update(whole)
        f['ecg_signal'].attrs.update(own)
    return data.getvalue()

@pytest.mark.parametrize('name', ['_FillValue', 'missing_value'])
def test_marks_of_missing_samples_in_hdf5(name):
    x = C.astype('i2')
    x[4,50] = -9999
    data = hdf5_of(x, dict(fs=500), {'units': 'uV', name: np.int16(-9999)})
    with fails('missing value in lead aVL, sample 50 .1 in all'): read_recording(data)
    same(read_recording(hdf5_of(C.astype('i2'), dict(fs=500), {'units': 'uV', name: np.int16(0)}))) # zeros are samples

def test_rates_of_a_file_and_of_its_dataset():
    same(read_recording(hdf5_of(C, dict(fs=500), dict(units='uV', fs=500))))
    with fails('which is right'): read_recording(hdf5_of(C, dict(fs=500), dict(units='uV', fs=250)))

# ---- rows that are missing in a column of time

def rows(lost, name, step):
    "Two seconds at 500 Hz whose first column counts in steps of `step`, without some rows"
    kept = np.delete(np.arange(X.shape[1]), lost)
    return table(X[:,kept], first=(name, lambda i: f'{kept[i]*step:.10g}'))

@pytest.mark.parametrize('name,step,assumed', [('time', .002, False), ('time (ms)', 2, False), ('sample', 1, True), ('', 1, True)])
@pytest.mark.parametrize('lost', [[900], [1], [400, 1500]])
def test_a_row_is_missing(name, step, assumed, lost):
    found = read_recording(rows(lost, name, step))
    assert (found.fs, any('500 Hz' in a for a in found.assumed))==(500, assumed)
    assert [c for c,t in found.faults if 'rows are missing' in t]==['rate']

@pytest.mark.parametrize('name,step', [('time', .002), ('sample', 1)])
def test_many_rows_are_missing(name, step):
    with fails('leaps or stands still 20 times'): read_recording(rows(np.arange(50, 2000, 100), name, step))
    with fails('time jumps after row 900'): read_recording(rows(np.arange(900, 1150), name, step))
    assert read_recording(rows(np.arange(50, 2000, 100), name, step), fs=500).faults

@pytest.mark.parametrize('fs', [300, 360, 640, 960])
def test_rounded_times_miss_no_rows(fs):
    found = read_recording(table(first=('time', lambda i: f'{i/fs:.3f}')))
    assert abs(found.fs/fs-1)<.001 and not found.faults

def test_times_of_an_array_miss_a_row():
    time = np.delete(np.arange(2001), 900)/500
    found = read_recording(npz(ecg=X, time=time, units='mV'))
    assert found.fs==500 and [c for c,_ in found.faults]==['rate']

# ---- two recordings in one file, one behind the other

def copies(kind):
    "A file of each of two recordings, and its ending"
    import scipy.io, writers
    from ecg_arrhythmia.data.convert import to_dicom
    signals = [simulate(rhythm, seed=1).signal[:,:1000] for rhythm in ('SR', 'AFIB')]
    def saved(save, *args, **kw):
        out = io.BytesIO()
        save(out, *args, **kw)
        return out.getvalue()
    how = dict(npz=lambda x: saved(np.savez, ecg=x, fs=500), mat=lambda x: saved(scipy.io.savemat, dict(ECG=x, fs=500), format='4'),
        scp=lambda x: writers.scp(np.rint(x*1000).astype(int)), mwf=lambda x: writers.mfer(np.rint(x*1000).astype(int)),
        dcm=lambda x: to_dicom(Recording(x)))
    return [how[kind](x) for x in signals]

@pytest.mark.parametrize('kind,says', [('npz', 'in front of the archive'), ('mat', 'ECG is there twice')])
def test_a_second_recording_is_not_taken_for_the_first(tmp_path, kind, says):
    path = tmp_path/f'two.{kind}'
    path.write_bytes(b''.join(copies(kind)))
    with pytest.raises(ECGError, match=says): read_recording(path)

@pytest.mark.parametrize('kind', ['scp', 'mwf', 'dcm'])
def test_a_second_recording_is_mentioned(tmp_path, kind):
    one, two = copies(kind)
    alone, both = tmp_path/f'one.{kind}', tmp_path/f'two.{kind}'
    alone.write_bytes(one)
    both.write_bytes(one+two)
    first, found = read_recording(alone), read_recording(both)
    assert (first.signal==found.signal).all() and not first.changes
    assert 'left out' in found.changes[0] and 'behind' in found.changes[0]

# ---- the longest recording

def test_the_search_for_calibration_takes_less_room_than_the_recording():
    import tracemalloc
    from ecg_arrhythmia.data.calibration import calibration_pulses
    signal = np.random.default_rng(0).normal(size=(12, 200_000))
    tracemalloc.start()
    calibration_pulses(signal, 500)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < .8*signal.nbytes

# ---- children

@pytest.mark.parametrize('said,years', [('10 days', 10/365), ('3 months old', .25), ('002W', 2/52), ('5 y', 5), ('45 years', 45), ('8', 8)])
def test_ages_with_a_unit(said, years):
    assert abs(parse_header(f'r 12 500 9\n# Age: {said}')['age']-years)<1e-9

def test_a_child_is_doubted(tmp_path):
    from ecg_arrhythmia.prediction.windows import opened
    path = wfdb(tmp_path)
    plain = path.read_text()
    for said,doubted in [('10 days', True), ('5', True), ('45 years', False), ('45 M', False), ('nan', False)]:
        path.write_text(plain + f'# Age: {said}\n')
        assert [f.code for f in opened(path)[1]]==['child']*doubted


def test_a_header_whose_file_name_is_too_long(tmp_path):
    "No file system has such a name, so that file is not there; the other recordings of the folder are read"
    write_recording(simulate('SR', seed=1), tmp_path/'good.hea')
    (tmp_path/'bad.hea').write_text('bad 12 500 5000\n' + '1,'*300 + ' 16 1000/mV 16 0 0 0 0 I\n')
    assert 'good' in catalogue(tmp_path).table.index

# ---- what a file says about its leads and its recordings

def muse(*waves, off=()):
    "A MUSE document of waveforms of so many leads, each with its samples"
    def lead(name, row):
        data = base64.b64encode(row.astype('<i2').tobytes()).decode()
        return (f'<LeadData><LeadAmplitudeUnitsPerBit>1</LeadAmplitudeUnitsPerBit><LeadID>{name}</LeadID>'
            f'<LeadOff>{"TRUE" if name in off else "FALSE"}</LeadOff><WaveFormData>{data}</WaveFormData></LeadData>')
    def wave(names, x):
        leads = ''.join(lead(n, x[L.index(n)]) for n in names)
        return f'<Waveform><WaveformType>Rhythm</WaveformType><SampleBase>500</SampleBase>{leads}</Waveform>'
    return f'<RestingECG>{"".join(wave(*w) for w in waves)}</RestingECG>'.encode()

def test_the_rhythm_of_muse_with_the_most_leads():
    found = same(read_recording(muse((['II', 'V1', 'V5'], C//2), (L, C))))
    assert found.changes==('the one with the most leads of 2 recordings in the file taken',)

def test_a_longer_series_of_aecg_is_no_beat():
    beat = to_aecg(Recording(X[:,:400])).decode().replace('RHYTHM', 'MEDIAN_BEAT')
    series = beat[beat.index('<component><series>'):beat.index('</AnnotatedECG>')]
    data = to_aecg(Recording(X)).decode().replace('<component><series>', series+'<component><series>', 1)
    assert same(read_recording(data.encode()), within=6e-4).changes==('the longest of 2 recordings in the file taken',)

def test_of_equal_series_of_aecg_the_first_is_taken():
    low = np.rint(X*100)/1000
    first, second = (to_aecg(Recording(x)).decode() for x in (low, X))
    assert len(first) < len(second) # characters do not count
    series = second[second.index('<component><series>'):second.index('</AnnotatedECG>')]
    found = read_recording(first.replace('</AnnotatedECG>', series+'</AnnotatedECG>').encode(), check=False)
    assert same(found, low, within=6e-4).changes==('the first of 2 recordings in the file taken',)

@pytest.mark.parametrize('said', ['DISCONNECTED', 'TEST DATA', ['OK', 'QUESTIONABLE']])
def test_the_status_of_a_channel_is_said(said):
    from test_variants import dicom
    def status(value): return lambda ds: setattr(ds.WaveformSequence[0].ChannelDefinitionSequence[9], 'ChannelStatus', value)
    said_of = dict(same(read_recording(dicom(status(said)))).faults)
    assert 'of lead V4: what is there may be no ECG' in said_of['lead'] and not read_recording(dicom(status('OK'))).faults

def test_an_electrode_that_was_off_in_muse():
    found = same(read_recording(muse((L, C), off=('V4',))))
    assert [c for c,_ in found.faults]==['lead'] and 'lead' in {f.code for f in _file_findings(found)}

def test_a_long_derived_group_is_a_rhythm():
    from test_variants import dicom
    def derived(ds): ds.WaveformSequence[0].WaveformOriginality = 'DERIVED'
    assert same(read_recording(dicom(derived))).changes==('the file calls its samples derived from others',)

def test_a_factor_of_zero():
    from test_variants import dicom
    def zero(ds): ds.WaveformSequence[0].ChannelDefinitionSequence[3].ChannelSensitivityCorrectionFactor = '0'
    with fails('lead aVR', 'a correction factor of 0'): read_recording(dicom(zero))

# ---- two files in one, padding, and facts that lie further away

def test_hdf5_behind_hdf5_is_mentioned(tmp_path):
    one = hdf5(lambda i: dict(fs=500, units='uV' if i>5 else 'mV'))
    (tmp_path/'two.h5').write_bytes(one+one)
    said = 'left out another HDF5 file behind the first'
    for source in (one+one, tmp_path/'two.h5'): assert said in same(read_recording(source)).changes[0]
    assert not same(read_recording(one)).changes

def grouped(names=L, **facts):
    data = io.BytesIO()
    with h5py.File(data, 'w') as f:
        f['rec/ecg'] = X[[L.index(n) for n in names]]
        f['rec'].attrs.update(facts)
    return data.getvalue()

def test_what_groups_of_hdf5_say():
    same(read_recording(grouped(L[::-1], fs=500, unit='mV', leads=np.array(L[::-1], 'S'))))
    same(read_recording(grouped(L[::-1], fs=500, unit='mV', leads=str(L[::-1]))))
    with fails('may be counts of a converter'): read_recording(grouped(fs=500, adc_gain=200))

@pytest.mark.parametrize('zeros', [(0, 48), (7, 300)])
def test_padding_of_arrays_is_cut_off(zeros):
    padded = np.pad(X, ((0, 0), zeros))
    found = same(read_recording(npz(ecg=padded, fs=500, units='mV')))
    assert found.changes==(f'cut off zeros at the ends, {zeros[0]} and {zeros[1]} samples',)

def test_mfer_behind_mfer_without_an_end():
    import writers as W
    with fails('2 MFER files one behind the other'): read_recording(W.mfer(C)[:-2] + W.mfer(C))

def test_two_recordings_of_philips():
    import writers as W
    one, two = W.philips(C), W.philips(C//2)
    second = two[two.index(b'<parsedwaveforms'):two.index(b'</waveforms>')]
    data = one.replace(b'</waveforms>', second+b'</waveforms>')
    assert same(read_recording(data)).changes==('the first of 2 recordings in the file taken',)

def test_a_rate_below_the_numbers():
    data = table() + b'# sampling rate: 250 Hz\n'
    same(read_recording(data), fs=250)

def test_empty_rows_below_a_table_of_recordings(tmp_path):
    (tmp_path/'a.csv').write_bytes(table())
    (tmp_path/'all.csv').write_text('name,path,rhythm,\nx,a.csv,SR,\n,,,\n,,,\n')
    assert list(catalogue(tmp_path/'all.csv'))==['x']

def test_labels_by_names_of_files(tmp_path):
    for name in 'ab': (tmp_path/f'{name}.csv').write_bytes(table())
    (tmp_path/'labels.csv').write_text('name,rhythm\na.csv,SR\nb.csv,AFIB\n')
    cat = catalogue(tmp_path)
    assert cat.table.rhythm.to_dict()==dict(a='SR', b='AFIB') and not cat.missing and not cat.unlisted

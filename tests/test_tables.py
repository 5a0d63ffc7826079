"Tables of samples as programs write them: each is read with the right values, or refused with a word"
import tracemalloc
from pathlib import Path

import numpy as np, pytest

from ecg_arrhythmia.core import ECGError
from ecg_arrhythmia.data.formats import read_recording
from ecg_arrhythmia.data.calibration import amplitude
from ecg_arrhythmia.data.recordings import INDEPENDENT, LEADS
from ecg_arrhythmia.data.simulation import simulate
from ecg_arrhythmia.data.dialects import dialect
from ecg_arrhythmia.data.sampling import rate_of, said_rate
from ecg_arrhythmia.data.tables import read_table

MV = simulate('AFIB', seed=3).signal[:,:2500].astype(float)
UV = MV*1000
L = list(LEADS)
FILES = Path(__file__).resolve().parents[2]/'shared/data/files'
real = pytest.mark.skipif(not FILES.is_dir(), reason='no files of other programs here')

def table(x, header=None, sep=',', decimal='.', above='', first=None, end='\n', digits=4):
    "A text file of the samples `x` (leads, samples); `first` gives the first cell of a row by its number"
    rows = [[f'{v:.{digits}f}'.replace('.', decimal) for v in row] for row in x.T]
    if first: rows = [[first(i), *row] for i,row in enumerate(rows)]
    lines = ([sep.join(header)] if header else []) + [sep.join(r) for r in rows]
    return (above + end.join(lines) + end).encode()

def seconds(fs, digits=4): return lambda i: f'{i/fs:.{digits}f}'

def fails(*says): return pytest.raises(ECGError, match='(?s)'+'.*'.join(says))

def same(rec, x=MV, within=6e-5):
    assert rec.signal.shape==x.shape and np.abs(rec.signal-x).max()<within
    return rec

# ---- how a table is written

@pytest.mark.parametrize('sep,decimal', [
    (',', '.'), (';', '.'), (';', ','), ('\t', '.'), ('\t', ','), ('|', '.'), (' ', '.'), (' ', ','), ('   ', '.')])
def test_separators_and_decimal_signs(sep, decimal): same(read_recording(table(MV, L, sep, decimal)))

@pytest.mark.parametrize('end', ['\n', '\r\n', '\r'])
@pytest.mark.parametrize('code', ['utf-8', 'utf-8-sig', 'utf-16', 'cp1252'])
def test_encodings_and_line_ends(end, code):
    data = table(UV, [f'{l} (µV)' for l in L], end=end).decode().encode(code)
    assert same(read_recording(data)).assumed == ('500 Hz (the file names no sampling rate)',)

def test_decimal_commas_that_may_be_thousands():
    "1,234 is a number of three decimals or a thousand: unless another number tells, nothing can"
    rows = '\n'.join(';'.join(f'{1+i%7},{234+i%50}' for _ in L) for i in range(500))
    with fails('may be a decimal number or a thousand'): read_recording(f'{";".join(L)}\n{rows}'.encode())
    same(read_recording(table(MV, L, ';', ',', digits=3)), within=6e-4) # here 0,012 tells

@pytest.mark.parametrize('cell', ['', 'nan', 'NaN', ' '])
def test_missing_cells(cell):
    lines = table(MV, L).decode().split('\n')
    lines[101] = ','.join([cell, *lines[101].split(',')[1:]])
    with fails('missing value in lead I, sample 100 .1 in all'): read_recording('\n'.join(lines).encode())
    assert np.isnan(read_recording('\n'.join(lines).encode(), check=False).signal[0,100])

def test_dialect_of_words(): assert dialect(['Dear doctor,', 'here it is'])==('', '')

# ---- names and units

@pytest.mark.parametrize('name', ['{}', '"{}"', "'{}'", 'Lead {}', 'lead_{}', 'ECG {}', 'EKG_{}', 'MDC_ECG_LEAD_{}'])
def test_names(name):
    for case in (str, str.upper, str.lower): same(read_recording(table(MV, [name.format(case(l)) for l in L])))

@pytest.mark.parametrize('style', ['{} (mV)', '{} [mV]', '{}/mV', '{}_mV', '{} mV', '"{} (mV)"', '{} (millivolts)', '{} (mv)'])
def test_units_in_names(style):
    rec = same(read_recording(table(MV, [style.format(l) for l in L])))
    assert rec.assumed==('500 Hz (the file names no sampling rate)',)

@pytest.mark.parametrize('unit,k', [('uV', 1e3), ('µV', 1e3), ('nV', 1e6), ('V', 1e-3), ('mV', 1)])
def test_values_of_units(unit, k): same(read_recording(table(MV*k, [f'{l} ({unit})' for l in L], digits=8)))

def test_a_row_of_units():
    above = "'Elapsed time'," + ','.join(f"'{l.lower()}'" for l in L) + "\n'seconds'," + ','.join(["'mV'"]*12) + '\n'
    rec = same(read_recording(table(MV, above=above, first=seconds(250))))
    assert rec.fs==250 and rec.assumed==()

def test_each_column_has_its_unit():
    x = np.concatenate([MV[:6], UV[6:]])
    same(read_recording(table(x, [f'{l} (mV)' for l in L[:6]]+[f'{l} (uV)' for l in L[6:]])))

def test_unit_from_the_amplitude_is_said():
    for k,unit in ((1, 'mV'), (1e3, 'µV'), (1e-3, 'V')):
        assert f'unit {unit}' in same(read_recording(table(MV*k, L, digits=8))).assumed[1]
        same(read_recording(table(MV*k, L, digits=8), unit=unit))
    with fails('look like mV taken for µV', 'pass the right `unit`'): read_recording(table(MV, L), unit='uV')
    with fails('the file says mV, uV was given'): read_recording(table(MV, [f'{l} (mV)' for l in L]), unit='uV')

def test_a_header_that_counts():
    "pandas writes 0 to 11 where it knows no names; read as a sample, it is a spike of 11 mV"
    for names in (
        map(str, range(12)),
        map(str, range(1, 13)),
        (f'ch{i}' for i in range(12)),
        (f'{i}.0' for i in range(12)),
    ):
        rec = same(read_recording(table(MV, list(names))))
        assert rec.assumed[0].startswith('lead order I, II, III')
    rec = same(read_recording(table(MV, ['', *map(str, range(12))], first=str)))
    assert rec.assumed[0].startswith('lead order')

def test_without_names():
    assert same(read_recording(table(MV))).assumed[0].startswith('lead order I, II, III, aVR')
    assert same(read_recording(table(MV, first=seconds(400)))).fs==400
    turned = same(read_recording(table(MV[::-1]), leads=L[::-1]))
    assert not any('lead order' in a for a in turned.assumed)
    with fails('8 columns without names of leads', '.leads.'): read_recording(table(MV[INDEPENDENT]))
    same(read_recording(table(MV[INDEPENDENT]), leads=[L[i] for i in INDEPENDENT]), within=2e-4)
    with fails('missing lead I,'): read_recording(table(MV, [f'x{c}' for c in 'abcdefghijkl']))

def test_eight_leads_are_twelve():
    rec = same(read_recording(table(MV[INDEPENDENT], [L[i] for i in INDEPENDENT])), within=2e-4)
    assert rec.changes==('III, aVR, aVL, aVF derived from I and II',)

@pytest.mark.parametrize('first', [str, lambda i: str(i+1), lambda i: f'"{i}"'])
@pytest.mark.parametrize('name', [[''], ['Unnamed: 0'], ['index'], ['Sample #'], []])
def test_an_index_column_is_no_lead_and_no_time(first, name):
    rec = same(read_recording(table(MV, [*name, *L], first=first)))
    assert rec.fs==500 and '500 Hz' in rec.assumed[0] and rec.changes==()

# ---- a row a lead

def rows(x, names=None, sep=',', above=()):
    lines = [sep.join([*([n] if names else []), *[f'{v:.4f}' for v in row]]) for n,row in zip(names or L, x)]
    return '\n'.join([*above, *lines]).encode()

def test_a_row_a_lead():
    same(read_recording(rows(MV, L)))
    assert 'lead order' in same(read_recording(rows(MV, sep=';'))).assumed[0]
    turned = rows(MV[::-1], L[::-1], '\t')
    same(read_recording(turned))
    time = ','.join(['time', *[f'{i/250:.4f}' for i in range(MV.shape[1])]])
    assert same(read_recording(rows(MV, L, above=[time]))).fs==250
    with fails('11 rows without names of leads'): read_recording(rows(MV[:11]))

# ---- the rate

@pytest.mark.parametrize('fs', [100, 128, 240, 250, 257, 360, 400, 500, 512, 977, 1000, 2000])
@pytest.mark.parametrize(
    'name,per',
    [('time', 1), ('t (s)', 1), ('Time (ms)', 1e3), ('time_ms', 1e3), ('t [us]', 1e6), ('Zeit', 1)],
)
def test_time_columns(fs, name, per):
    rec = same(read_recording(table(MV, [name, *L], first=lambda i: f'{i*per/fs:.6g}' if per==1 else f'{i*per/fs:.3f}')))
    assert rec.fs==fs and not any('Hz' in a for a in rec.assumed)

@pytest.mark.parametrize(
    'first',
    [
        lambda i: f'0:{i/250:06.3f}',
        lambda i: f"'0:{i/250:06.3f}'",
        lambda i: f'12:00:{i/250:06.3f}',
        lambda i: f'2020-01-31 12:00:{i/250:06.3f}',
        lambda i: f'2020-01-31T12:00:{i/250:06.3f}',
        lambda i: f'{1600000000+i/250:.3f}',
    ],
)
def test_clocks(first):
    assert same(read_recording(table(MV, ['time', *L], first=first))).fs == 250

def test_rounded_times():
    "Milliseconds without decimals at 400 Hz: steps of 2 and 3"
    assert read_recording(table(MV, ['time (ms)', *L], first=lambda i: f'{i*2.5:.0f}')).fs==400

def test_milliseconds_or_samples():
    data = table(MV, ['time', *L], first=str)
    with fails("'time' may count samples or milliseconds; pass the rate"): read_recording(data)
    assert read_recording(data, fs=500).fs==500
    assert read_recording(table(MV, ['time (ms)', *L], first=str)).fs==1000
    assert read_recording(table(MV, ['time', *L], first=lambda i: str(4*i))).fs==250

def test_contradictions():
    data = table(MV, ['time', *L], first=seconds(1000))
    assert read_recording(data).fs==1000 and read_recording(data, fs=1000).fs==1000
    with fails('says 1000 Hz, 500 Hz were given'): read_recording(data, fs=500)
    with fails('says 500 Hz, 1000 Hz'): read_recording(table(MV, ['time', *L], above='# fs=1000\n', first=seconds(500)))
    with fails('says 250 Hz and 500 Hz'): read_recording(table(MV, L, above='# fs=500\n# sampling rate: 250 Hz\n'))

def test_more_than_one_recording():
    with fails('time goes back after row 1000'):
        read_recording(table(MV, ['time', *L], first=lambda i: f'{i%1000/500:.3f}'))
    with fails('time jumps after row 1000'):
        read_recording(table(MV, ['time', *L], first=lambda i: f'{(i if i<1000 else i+700)/500:.3f}'))
    with fails('is not a number'): read_recording(table(MV, L)+table(MV, L))

@pytest.mark.parametrize('above,fs', [('# fs=1000\n', 1000), ('#fs: 250\n', 250), ('Sampling Rate: 250 Hz\n', 250),
    ('Sample Rate,512 hertz\n', 512), ('# sampling frequency = 0.5 kHz\n', 500),
    ('Abtastrate;250 Hz\n', 250), ('% Fs = 400\n', 400), ('# sampling interval: 4 ms\n', 250), ('"Sampling rate","360"\n', 360)])
def test_the_rate_stands_above(above, fs):
    rec = same(read_recording(table(MV, L, above=above)))
    assert rec.fs==fs and not any('Hz' in a for a in rec.assumed)

def test_an_assumed_rate_is_said():
    assert read_recording(table(MV, L)).assumed[0]=='500 Hz (the file names no sampling rate)'
    (code, doubt), = read_recording(table(np.tile(MV, 4), L)).faults
    assert code=='rate' and '10,000 samples are 20 s at the 500 Hz that were assumed, and 10 s at 1000 Hz' in doubt
    assert not any('Hz' in a for a in read_recording(table(MV, L), fs=250).assumed)

def test_rates_in_text(): assert said_rate('the heart rate was 72', 'x') is None
def test_one_sample_has_no_rate(): assert rate_of(np.array([0.]), 'time', '', 'x') is None

# ---- one lead

@pytest.mark.parametrize('data', [
    b'Name,Jo\nDate of Birth,"1 Jan 1970"\nRecorded Date,2020\nDevice,Watch\nSample Rate,512 hertz\n\n\n'
        b'Lead,Lead I\nUnit,\xc2\xb5V\n\n'+table(UV[:1]),
    'Name;Jo\nAbtastrate;512 Hertz\nAbleitung;Ableitung I\nEinheit;µV\n\n'.encode()+table(UV[:1], decimal=','),
    table(UV[1:2], ['II']), table(UV[1:2], ['time', 'II'], first=seconds(300)), table(UV[:1])])
def test_one_lead_is_refused(data):
    with fails('one lead only', 'twelve leads are needed, or the eight leads'): read_recording(data)

def test_six_leads_are_refused():
    with fails('missing lead V1, V2'): read_recording(table(UV[:6], L[:6]))

# ---- files of other programs

@real
@pytest.mark.parametrize('name,fs,rate', [
    ('ptb_s0010_time_uV.csv', 1000, 82), ('ptb_s0010_german.csv', 1000, 82), ('ptb_s0010_rdsamp_atm.csv', 1000, 82),
    ('time_250.csv', 250, 82), ('time_400.csv', 400, 82), ('E07500_pandas_default.csv', 500, 57)])
def test_real_tables(name, fs, rate):
    from ecg_arrhythmia.signals.checks import heart
    rec = read_recording(FILES/name)
    assert rec.fs==fs and round(heart(rec)['rate'])==rate

@real
@pytest.mark.parametrize(
    'name',
    ['plain_uV.csv', 'index_uV.csv', 'semicolon.csv', 'tab.tsv', 'units_in_header.csv', 'transposed.csv'],
)
def test_real_tables_without_a_rate(name):
    "The same samples as the one with a time column, and a word about the rate"
    rec, timed = read_recording(FILES/f'ptb_s0010_{name}'), read_recording(FILES/'ptb_s0010_time_uV.csv')
    assert np.abs(rec.signal-timed.signal).max()<1e-6 and '500 Hz' in rec.assumed[0] and rec.faults[0][0]=='rate'
    assert read_recording(FILES/f'ptb_s0010_{name}', fs=1000).fs==1000

def test_a_line_of_millions_of_cells():
    "A header is looked at until it stops counting, and a lead has only so many samples"
    from ecg_arrhythmia.data.numbers import MAX_CELLS
    from ecg_arrhythmia.data.tables import read_table
    row = b'1,'*(MAX_CELLS + 1)
    for data in (row+b'\n'+row, b'<x>'+row+b'</x>\n'):
        with pytest.raises(ECGError, match=f'{MAX_CELLS:,}'): read_table(data, 'x.csv')

@pytest.mark.parametrize('sep,decimal', [(';', ','), (';', '.')])
def test_a_row_of_digits_takes_no_time(sep, decimal):
    "Looking for marks between thousands in 300,000 digits took minutes"
    import time
    rows = table(MV, L, sep, decimal).splitlines()
    rows[100] = b'0'*300_000
    start = time.process_time()
    with pytest.raises(ECGError): read_recording(b'\n'.join(rows))
    assert time.process_time()-start<5

# --- memory: what a text becomes while it is read

NAMES = ','.join(LEADS)+'\n'
LONG = dict(
    empty=NAMES+'1,2,3,4,5,6,7,8,9,1,2,3\n'*500+'\n'*3_000_000,
    blank='I II III aVR aVL aVF V1 V2 V3 V4 V5 V6\n'+'1 2 3 4 5 6 7 8 9 1 2 3\n'*500+' \n'*3_000_000,
    comments=NAMES+'1,2,3,4,5,6,7,8,9,1,2,3\n'+'#\n'*3_000_000,
    row='12,'*3_000_000,
    named='I,'+'12,'*3_000_000,
    two='I,II\n'+'1,2\n'*3_000_000,
    text=','.join(['a']*180+[*LEADS])+'\n'+','.join(['x']*180+['1']*12)+'\n',
    above='# 500 Hz\n'+'1,2,3\n'*20_000+'1,2,3,4,5,6,7,8,9,1,2,3\n'*40_000,
)
LONG['text'] += LONG['text'].partition('\n')[2]*25_000

@pytest.mark.parametrize('kind', LONG)
def test_long_tables_are_refused_before_they_take_memory(kind):
    data = LONG[kind].encode()
    tracemalloc.start()
    try:
        with pytest.raises(ECGError, match='^long.csv'): read_table(data, 'long.csv', fs=500)
        assert tracemalloc.get_traced_memory()[1] < 8*len(data) + (8<<20)
    finally: tracemalloc.stop()

def test_a_long_cell_does_not_widen_its_column():
    rows = 'a_b,1,2,3,4,5,6,7,8,9,1,2,3\n'*500
    data = ('note,'+NAMES+rows+'b'*9000+rows[3:]).encode()
    tracemalloc.start()
    try:
        found = read_table(data, 'cell.csv', fs=500)
        assert len(found.rows[1])==1000 and tracemalloc.get_traced_memory()[1] < 10<<20
    finally: tracemalloc.stop()

def test_long_rows_are_read_in_little_memory():
    data = ''.join(f"{l},{','.join(['12.5', '13', '-7.25', '8']*5_000)}\n" for l in LEADS).encode()
    tracemalloc.start()
    try:
        found = read_table(data, 'rows.csv', fs=500, unit='µV')
        assert tracemalloc.get_traced_memory()[1] < 8*len(data) + (8<<20)
    finally: tracemalloc.stop()
    assert {len(r) for r in found.rows}=={20_000} and found.rows[3][:3].tolist()==[12.5, 13, -7.25]

def test_parts_of_a_long_table_join(monkeypatch):
    import ecg_arrhythmia.data.numbers as numbers
    x = np.random.default_rng(1).normal(0, 300, (700, 12)).round(2)
    body = '\n'.join(','.join(f'{v:.2f}' for v in row) for row in x)
    monkeypatch.setattr(numbers.parts_of, '__defaults__', (100,))
    assert (numbers.plain_numbers(body, ',', 12)==x).all()
    assert numbers.plain_numbers(body+',1', ',', 12) is None

@pytest.mark.parametrize('sign', '−–')
def test_other_minus_signs(sign):
    text = NAMES + (','.join([f'{sign}1.5']*11+['2'])+'\n')*600
    found = read_table(text.encode(), 'minus.csv', fs=500, unit='mV')
    assert (found.rows[0]==-1.5).all() and (found.rows[11]==2).all()

@pytest.mark.parametrize('name,of', [
    ('Date', lambda i: f'{45352+i/500/86400:.12f}'), ('time', lambda i: f'{739312+i/500/86400:.10f}'),
    ('time (h)', lambda i: f'{i/500/3600:.10f}'), ('hours', lambda i: f'{i/500/3600:.10f}'),
    ('minutes', lambda i: f'{i/500/60:.9f}')])
def test_times_in_days_and_hours(name, of):
    data = table(MV, [name, *L], first=of)
    assert same(read_recording(data)).fs==500
    with fails('500 Hz', '250 Hz'): read_recording(data, fs=250)

def test_a_time_that_says_nothing_leaves_the_rate_to_the_user():
    data = table(MV, ['time', *L], first=lambda i: f'{i/1e8:.9f}')
    with fails('no time between samples', '--fs'): read_recording(data)
    assert read_recording(data, fs=500).fs==500
    stamps = table(MV, ['time', *L], first=lambda i: f'202403012359{55+i/500:06.3f}')
    with fails('one number', 'leave the column out'): read_recording(stamps)

def test_a_column_that_rises_as_time_contradicts_another_rate():
    data = table(MV, ['aika', *L], first=seconds(500))
    assert read_recording(data).fs==read_recording(data, fs=500).fs==500
    with fails('500 Hz', '250 Hz'): read_recording(data, fs=250)
    counts = table(MV, ['numero', *L], first=str)
    assert read_recording(counts, fs=250).fs==250

"Round trips, variants and hostile files for `ecg_arrhythmia.data.formats` and `ecg_arrhythmia.data.dicom`"
import base64, io, os, re, signal, struct, subprocess, sys, tracemalloc, zipfile, zlib
from pathlib import Path

import numpy as np, pydicom, pytest
from pydicom.data import get_testdata_file

from ecg_arrhythmia.data import dicom as D
from ecg_arrhythmia.data import formats as T
from ecg_arrhythmia.data.datasets import sample_data
from ecg_arrhythmia.data.convert import to_aecg, to_dicom, to_muse
from ecg_arrhythmia.data.formats import read_recording, recordings_in, sniff
from ecg_arrhythmia.data.recordings import (
    FS, LEADS, Recording, complete_leads, lead_name, standardise)
from ecg_arrhythmia.core import ECGError
from ecg_arrhythmia.data.simulation import simulate
from ecg_arrhythmia.data.files import MAX_BYTES
from ecg_arrhythmia.data.tables import to_csv_bytes
from test_fuzz_formats import _beat, _median, recode

SIM = simulate('AFIB', seed=3)
REC = Recording(np.rint(SIM.signal*1000)/1000, meta=SIM.meta) # whole µV, which the formats hold in 16 bits
EIGHT = [LEADS.index(l) for l in ('I', 'II', *LEADS[6:])]
WRITE = dict(aecg=to_aecg, muse=to_muse, dicom=to_dicom)
MADE = {k:f(REC) for k,f in WRITE.items()}

def fails(*says): return pytest.raises(ECGError, match='(?s)'+'.*'.join(says))

@pytest.fixture
def read(tmp_path):
    def f(data, name='case', **kw):
        (tmp_path/name).write_bytes(data)
        return read_recording(tmp_path/name, **kw)
    return f

def once(data, old, new):
    assert data.count(old)>=1, old
    return data.replace(old, new, 1)

# ---- round trips

@pytest.mark.parametrize('kind', WRITE)
@pytest.mark.parametrize(
    'fs,seconds',
    [(100, 10), (240, 4), (250, 10), (500, 10), (500, 2.5), (977, 3), (1000, 10), (2000, 5), (4000, 10)],
)
def test_round_trip(read, kind, fs, seconds):
    r = standardise(SIM, fs=fs, seconds=seconds)
    back = read(WRITE[kind](r), f'{kind}.bin')
    half = 1e-6 if kind!='muse' else 1.01e-3 # mV; MUSE keeps whole µV, and a lead that is derived carries the steps of two
    assert abs(back.fs-fs)<1e-6 and back.signal.shape==r.signal.shape and np.abs(back.signal-r.signal).max()<half
    assert np.abs(back.signal-r.signal)[EIGHT].max()<5.01e-4 and back.name==kind and back.meta['rhythm']==''
    assert (
        back.meta['sex'] == 'M'
        and back.meta['age'] == SIM.meta['age']
        and back.changes == (('III, aVR, aVL, aVF derived from I and II',) if kind == 'muse' else ())
    )

def test_csv_and_wfdb(read, tmp_path):
    import wfdb
    assert np.abs(read(to_csv_bytes(REC)).signal-REC.signal).max()<.0025
    body = to_csv_bytes(REC).split(b'\n', 1)[1]
    assert (read(body, 'no_header.txt').signal==read(to_csv_bytes(REC)).signal).all()
    eight = '\n'.join(
        [','.join(f'lead {l}' if l != 'V1' else 'MDC_ECG_LEAD_V1' for l in np.array(LEADS)[EIGHT]) + ',time']
        + [','.join(f'{v:.3f}' for v in [*row, i / 250]) for i, row in enumerate(REC.signal[EIGHT].T)]
    ).encode()
    r = read(eight, 'eight', unit='mV', fs=250)
    assert (
        np.abs(r.signal - REC.signal).max() < 0.0011
        and r.fs == 250
        and r.changes == ('III, aVR, aVL, aVF derived from I and II',)
    )
    order = [11, 0, 7, 6, 8, 9, 10, 1]
    wfdb.wrsamp(
        'w',
        1000,
        ['mV'] * 7 + ['uV'],
        [LEADS[i].lower() for i in order],
        p_signal=(REC.signal[order] * np.array([1] * 7 + [1000])[:, None]).T.astype(float),
        fmt=['16'] * 8,
        write_dir=str(tmp_path),
    )
    for name in ('w.hea', 'w.dat'):
        r = read_recording(tmp_path/name)
        assert np.abs(r.signal-REC.signal).max()<.0011 and r.fs==1000
    (tmp_path/'alone.hea').write_bytes((tmp_path/'w.hea').read_bytes().replace(b'w.dat', b'x.dat'))
    with fails('alone.hea', 'signal file x.dat cannot be read'): read_recording(tmp_path/'alone.hea')
    (tmp_path/'w.txt').write_bytes((tmp_path/'w.hea').read_bytes())
    with fails('must be called .hea'): read_recording(tmp_path/'w.txt')
    with fails('missing lead V6; limb'): read_recording(_csv(tmp_path, b'V6', b'V7'))

def _csv(d, old, new): (d/'x.csv').write_bytes(to_csv_bytes(REC).replace(old, new, 1)); return d/'x.csv'

@pytest.mark.parametrize('kind', ['aecg', 'muse', 'dicom'])
def test_order_makes_no_difference(read, kind):
    data = MADE[kind]
    if kind=='dicom':
        d = pydicom.dcmread(io.BytesIO(data)); g = d.WaveformSequence[0]
        x = np.frombuffer(g.WaveformData, '<i2').reshape(-1, 12)[:,::-1]
        g.WaveformData, g.ChannelDefinitionSequence = x.tobytes(), list(g.ChannelDefinitionSequence)[::-1]
        d.save_as(out := io.BytesIO()); turned = out.getvalue()
    else:
        what = rb'<component><sequence><code code="MDC.*?</component>' if kind=='aecg' else rb'<LeadData>.*?</LeadData>'
        parts = re.findall(what, data, re.S)
        turned = re.sub(what, lambda m, it=iter(parts[::-1]): next(it), data, flags=re.S)
    assert turned!=data and (read(turned).signal==read(data).signal).all()

# ---- leads

@pytest.mark.parametrize('said', ['v1', 'V1', ' V1 ', 'Lead V1', 'LEAD_V1', 'MDC_ECG_LEAD_V1', 'mdc_ecg_lead_v1', '"V1"'])
def test_spellings(said): assert lead_name(said)=='V1'

@pytest.mark.parametrize(
    'said,lead',
    [
        ('AVR', 'aVR'),
        ('aVR, augmented voltage, right', 'aVR'),
        ('Lead I (Einthoven)', 'I'),
        ('MDC_ECG_LEAD_AVF', 'aVF'),
        ('Lead III', 'III'),
    ],
)
def test_more_spellings(said, lead):
    assert lead_name(said) == lead

@pytest.mark.parametrize(
    'said',
    [
        '-aVR',
        'aVR neg',
        'V7',
        'V3R',
        'V11',
        'IIII',
        'MLII',
        '',
        'I-cal',
        'X',
        None,
        1,
        'Vl',
        'V1 V2',
        'ⅠⅠ',
        'V１',
    ],
)
def test_no_lead_is_guessed(said):
    assert lead_name(said) == ''

def test_any_two_limb_leads_give_the_rest():
    for a in range(6):
        for b in range(6):
            if a==b: continue
            order = [a, b, *range(6, 12)]
            x, done = complete_leads([LEADS[i] for i in order], SIM.signal[order].astype(float), 'x')
            assert np.abs(x-SIM.signal).max()<1e-5, (a, b)
            assert done[0].endswith(f'derived from {LEADS[min(a,b)]} and {LEADS[max(a,b)]}')

def test_lead_that_is_there_is_not_derived(read):
    "also where it breaks Einthoven's law"
    x = re.sub(rb'<digits>\S+', b'<digits>500', MADE['aecg'], count=1) # lead I, first sample
    back = read(x)
    assert back.changes==() and abs(back.signal[2,0]-REC.signal[2,0])<5e-4 and abs(back.signal[0,0]-REC.signal[0,0])>.01

@pytest.mark.parametrize('kind', ['aecg', 'muse'])
@pytest.mark.parametrize(
    'lost,says',
    [
        (['V4'], ['missing lead V4; limb leads can be derived', 'the file has']),
        (['V1', 'V6', 'II'], ['missing lead']),
        (['I', 'II'], ['missing lead']),
    ],
)
def test_missing_leads(read, kind, lost, says):
    data = MADE[kind]
    for l in lost:
        data = (
            once(data, f'MDC_ECG_LEAD_{l.upper()}"'.encode(), b'V9"')
            if kind == 'aecg'
            else once(data, f'<LeadID>{l}<'.encode(), b'<LeadID>V9<')
        )
    if lost==['I', 'II'] and kind=='aecg': return np.testing.assert_allclose(read(data).signal, REC.signal, atol=.002)
    with fails('case: ', *says): read(data)

def test_repeated_lead(read):
    with fails('repeated lead I'): read(once(MADE['aecg'], b'LEAD_II"', b'LEAD_I"'))
    with fails('repeated lead V1'): read(once(MADE['muse'], b'<LeadID>V2<', b'<LeadID>V1<'))

def test_more_leads_than_twelve(read):
    data = once(
        MADE['aecg'],
        b'</sequenceSet>',
        b'<component><sequence><code code="MDC_ECG_LEAD_V7"/><value><digits>oops</digits></value></sequence></component></sequenceSet>',
    )
    assert read(data).changes == ('left out MDC_ECG_LEAD_V7',)

# ---- units

@pytest.mark.parametrize(
    'unit,scale', [('uV', '1'), ('µV', '1'), ('μV', '1.'), ('mV', '.001'), ('nV', '1000'), ('V', '1e-6')]
)
def test_aecg_units(read, unit, scale):
    assert (
        np.abs(
            read(
                MADE['aecg'].replace(
                    b'<scale value="1" unit="uV"', f'<scale value="{scale}" unit="{unit}"'.encode()
                )
            ).signal
            - REC.signal
        ).max()
        < 5.1e-4
    )

@pytest.mark.parametrize(
    'unit,scale',
    [('MICROVOLTS', '1'), ('MILLIVOLTS', '0.001'), ('NANOVOLTS', '1000'), ('microvolts', '1.0'), ('', '1')],
)
def test_muse_units(read, unit, scale):
    data = MADE['muse'].replace(b'>MICROVOLTS<', f'>{unit}<'.encode()).replace(b'PerBit>1<', f'PerBit>{scale}<'.encode())
    assert np.abs(read(data).signal-REC.signal).max()<1.1e-3

@pytest.mark.parametrize(
    'kind,old,new',
    [('aecg', b'unit="uV"', b'unit="mV"'), ('muse', b'MICROVOLTS', b'MILLIVOLTS'), ('dicom', b'uV', b'mV')],
)
def test_wrong_unit_is_noticed(read, kind, old, new):
    with fails('look like µV taken for mV; the file names the wrong unit'): read(MADE[kind].replace(old, new))
    assert np.abs(read(MADE[kind].replace(old, new), check=False).signal).max()>100

@pytest.mark.parametrize(
    'kind,old,new',
    [('aecg', b'unit="uV"', b'unit="mm"'), ('muse', b'MICROVOLTS', b'FURLONGS'), ('dicom', b'uV', b'kV')],
)
def test_unknown_unit(read, kind, old, new):
    with fails('unknown unit', new.decode().split('"')[-2:][0], 'known are'):
        read(MADE[kind].replace(old, new))

def test_origin_and_scale(read):
    data = MADE['aecg'].replace(b'origin value="0" unit="uV"', b'origin value=".25" unit="mV"')
    assert np.abs(read(data).signal-REC.signal-.25).max()<6e-4

# ---- aECG

def test_aecg_takes_the_rhythm_not_the_beat(read):
    doc, beat = _beat(MADE['aecg']), re.search(rb'<digits>[^<]*', MADE['aecg'])[0]
    assert read(doc).changes==() and np.abs(read(doc).signal-REC.signal).max()<5.1e-4
    series = re.search(rb'<series>.*</series>', MADE['aecg'], re.S)[0]
    first = MADE['aecg'].replace(
        b'<component>' + series,
        b'<component>'
        + series.replace(b'RHYTHM', b'REPRESENTATIVE_BEAT').replace(beat, b'<digits>9 9')
        + b'</component><component>'
        + series,
    )
    assert np.abs(read(first).signal-REC.signal).max()<5.1e-4
    with fails('without a series of rhythm'): read(MADE['aecg'].replace(b'RHYTHM', b'REPRESENTATIVE_BEAT'))

def test_aecg_of_two_recordings_takes_the_first_and_says_so(read):
    series = re.search(rb'<series>.*</series>', MADE['aecg'], re.S)[0]
    other = re.search(rb'<series>.*</series>', to_aecg(simulate('SB', seed=1)), re.S)[0]
    r = read(MADE['aecg'].replace(series, series+b'</component><component>'+other))
    assert np.abs(r.signal-REC.signal).max()<5.1e-4 and r.changes==('the first of 2 recordings in the file taken',)

def test_aecg_namespaces_and_encodings(read):
    a = MADE['aecg']
    for data in (
        a.replace(b' xmlns="urn:hl7-org:v3"', b''),
        a.decode().encode('utf-16'),
        b'\xef\xbb\xbf' + a,
        a.replace(b'UTF-8', b'utf-16'),
        a.replace(b'UTF-8', b'ISO-8859-1'),
        a.replace(b'<?xml version="1.0" encoding="UTF-8"?>', b'<!-- <RestingECG> -->'),
        a.replace(b'xmlns=', b'xmlns:h=')
        .replace(b'<', b'<h:')
        .replace(b'<h:/', b'</h:')
        .replace(b'<h:?', b'<?'),
    ):
        assert (read(data).signal == read(a).signal).all()
    for data in (a.replace(b'UTF-8', b'cp037'), a.replace(b'93000', b'\xff\xff')):
        assert (read(data).signal == read(a).signal).all()  # declarations that cannot be true

@pytest.mark.parametrize(
    'old,new,says',
    [
        (b'value="0.002" unit="s"', b'value="2" unit="ms"', None),
        (b'value="0.002" unit="s"', b'value="2000" unit="us"', None),
        (b' unit="s"', b'', None),
        (b'value="0.002" unit="s"', b'value="2" unit="min"', ["steps of 'min'"]),
        (b'0.002', b'0', ['time between samples']),
        (b'0.002', b'x', ["is 'x', not a number"]),
        (b'0.002', b'0.02', ['a sampling rate of 50 Hz', '100 to 4000']),
        (b'0.002', b'0.0002', ['5000 Hz']),
        (b'TIME_ABSOLUTE', b'MDC_X', ['no sequence of time']),
        (b'TIME_ABSOLUTE', b'TIME_RELATIVE', None),
        (b'<digits>', b'<digits>1 ', ['different lengths']),
        (b'<digits>', b'<digits>x', ['not numbers']),
        (b'<digits>', b'<digits>1_', ['not numbers']),
        (b'<digits>', b'<digits>nan', ['not numbers']),
        (b'<scale value="1"', b'<scale value="nan"', ['scale of MDC_ECG_LEAD_I is']),
        (b'<scale value="1"', b'<scale value="1e300"', ['scale of']),
        (b'<scale value="1" unit="uV"/>', b'', ['unknown unit']),
        (b'sequenceSet', b'set', ['not XML']),
        (b'</AnnotatedECG>', b'', ['no element found']),
        (b'RHYTHM', b'rhythm', None),
    ],
)
def test_aecg_variants(read, old, new, says):
    data = once(MADE['aecg'], old, new)
    if says is None: return np.testing.assert_allclose(read(data).signal, REC.signal, atol=5.1e-4)
    with fails('case', *says): read(data)

def test_aecg_missing_sample(read):
    data = re.sub(rb'<digits>(\S+)', b'<digits>nan', MADE['aecg'], count=1)
    with fails('missing value in lead I, sample 0'): read(data)
    assert np.isnan(read(data, check=False).signal[0,0])

def test_aecg_age(read):
    a, y = MADE['aecg'], 2000-int(REC.meta['age'])
    for birth, then, age in (
        (f'{y}0101', '20000101', REC.meta['age']),
        (f'{y}0102', '20000101', REC.meta['age'] - 1),
        ('19991231235959', '20000101', 0),
        ('', '20000101', np.nan),
        ('18000101', '20000101', np.nan),
    ):
        got = read(a.replace(f'{y}0101"'.encode(), f'{birth}"'.encode())).meta['age']
        assert got == age or got != got and age != age

# ---- MUSE

def test_muse_takes_the_rhythm_not_the_median(read):
    first = _median(MADE['muse'])
    assert first.index(b'Median')<first.index(b'Rhythm')
    spoilt = (
        first.replace(re.search(rb'<WaveFormData>([^<]*)', first)[1], base64.b64encode(bytes(1200)), 1)
        .replace(b'Total>10000<', b'Total>1200<', 1)
        .replace(b'Total>5000<', b'Total>600<', 1)
    )
    assert (read(spoilt).signal==read(MADE['muse']).signal).all()
    with fails('without a Rhythm waveform'): read(MADE['muse'].replace(b'Rhythm', b'Median'))

@pytest.mark.parametrize(
    'old,new,says',
    [
        (
            b'LeadOffsetFirstSample>0',
            b'LeadOffsetFirstSample>4',
            ['lead I: a LeadOffsetFirstSample of 4; only 0'],
        ),
        (b'FirstSampleBaseline>0', b'FirstSampleBaseline>12', ['FirstSampleBaseline of 12']),
        (b'LeadSampleSize>2', b'LeadSampleSize>4', ['LeadSampleSize of 4; only 2']),
        (b'LeadTimeOffset>0', b'LeadTimeOffset>1', ['LeadTimeOffset of 1']),
        (b'LeadSampleCountTotal>5000', b'LeadSampleCountTotal>5001', ['says 5001 samples and has 5000']),
        (b'<WaveFormData>', b'<WaveFormData>A', ['not base64']),
        (b'<WaveFormData>', b'<WaveFormData>AAAA', ['says 5000 samples']),
        (b'<LeadDataCRC32>', b'<LeadDataCRC32>1', ['CRC-32']),
        (b'LeadDataCRC32', b'Other', ['not XML']),
        (b'SampleBase>500', b'SampleBase>x', ["SampleBase is 'x'"]),
        (b'SampleBase>500', b'SampleBase>0', ["SampleBase is '0'"]),
        (b'SampleBase>500', b'SampleBase>50', ['50 Hz']),
        (b'SampleExponent>0', b'SampleExponent>99', ['SampleExponent']),
        (
            b'SampleBase>500</SampleBase><SampleExponent>0',
            b'SampleBase>5</SampleBase><SampleExponent>2',
            None,
        ),
        (b'PerBit>1<', b'PerBit><', ['LeadAmplitudeUnitsPerBit']),
        (b'RestingECG SYSTEM', b'RestingECG  SYSTEM', None),
        (b'<PatientDemographics>', b'<PatientDemographics><Unheard/>', None),
    ],
)
def test_muse_variants(read, old, new, says):
    data = once(MADE['muse'], old, new)
    if says is None: return np.testing.assert_allclose(read(data).signal, REC.signal, atol=1.1e-3)
    with fails('case', *says): read(data)

def test_muse_age(read):
    assert np.isnan(read(MADE['muse'].replace(b'YEARS', b'DAYS')).meta['age'])
    assert read(re.sub(rb'<PatientDemographics>.*</PatientDemographics>', b'', MADE['muse'])).meta==dict(rhythm='')

def test_muse_checksum(read):
    wrong = re.sub(rb'CRC32>\d+', b'CRC32>7', MADE['muse'], count=1)
    with fails('lead I does not match its CRC-32'): read(wrong)
    for data, kw in (
        (wrong, dict(check=False)),
        (re.sub(rb'CRC32>\d+', b'CRC32>0', MADE['muse']), {}),
        (re.sub(rb'<LeadDataCRC32>\d+</LeadDataCRC32>', b'', MADE['muse']), {}),
    ):
        assert (read(data, **kw).signal == read(MADE['muse']).signal).all()
    signed = re.sub(
        rb'CRC32>(\d+)',
        lambda m: b'CRC32>%d' % (int(m[1]) - 2**32 if int(m[1]) >= 2**31 else int(m[1])),
        MADE['muse'],
    )
    assert (read(signed).signal==read(MADE['muse']).signal).all()

def test_muse_odd_bytes(read):
    m = re.search(rb'<LeadSampleCountTotal>5000</LeadSampleCountTotal>', MADE['muse'])[0]
    with fails('has 4999.5'):
        read(
            re.sub(
                rb'<WaveFormData>[^<]*',
                b'<WaveFormData>' + base64.b64encode(bytes(9999)),
                MADE['muse'],
                count=1,
            )
        )
    with fails('has 4999.5'):
        read(
            re.sub(
                rb'<WaveFormData>[^<]*',
                b'<WaveFormData>' + base64.b64encode(bytes(9999)),
                MADE['muse'].replace(m, b''),
                count=1,
            )
        )
    assert (read(MADE['muse'].replace(m, b'')).signal==read(MADE['muse']).signal).all()

# ---- hostile XML

LAUGHS = (
    b'<!DOCTYPE x [<!ENTITY l0 "ha">'
    + b''.join(b'<!ENTITY l%d "%s">' % (i + 1, b'&l%d;' % i * 10) for i in range(9))
    + b']>'
)

@pytest.mark.parametrize('trick,inside', [
    (LAUGHS, b'&l9;'), (b'<!DOCTYPE x [<!ENTITY a "%s">]>' % (b'a'*50_000), b'&a;'*20_000), (b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/hostname">]>', b'&a;'), (b'<!DOCTYPE x [<!ENTITY % p SYSTEM "http://127.0.0.1:9/p">%p;]>', b''),
    (b'<!DOCTYPE x [<!ATTLIST code z CDATA "%s">]>' % (b'z'*50_000), b''),
    (b'<!DOCTYPE x SYSTEM "file:///etc/hostname" [<!ELEMENT x ANY>]>', b''),
    (b'<!DOCTYPE x [<!NOTATION n SYSTEM "n"><!ENTITY u SYSTEM "u" NDATA n>]>', b'')])
@pytest.mark.parametrize('kind', ['aecg', 'muse'])
def test_declarations_are_refused(read, kind, trick, inside):
    doc = re.sub(rb'<!DOCTYPE[^>]*>', b'', MADE[kind])
    data = re.sub(rb'(<AnnotatedECG|<RestingECG)', lambda m: trick+m[0], doc, count=1)
    with fails('case', 'could do harm'):
        read(
            once(data, b'<digits>', b'<digits>' + inside)
            if kind == 'aecg'
            else once(data, b'<WaveFormData>', b'<WaveFormData>' + inside)
        )

def test_external_dtd_is_never_fetched(read, tmp_path):
    (tmp_path/'x.dtd').write_text('<!ENTITY a "1">')
    doc = MADE['muse'].replace(b'"restecg.dtd"', f'"file://{tmp_path}/x.dtd"'.encode())
    assert (read(doc).signal==read(MADE['muse']).signal).all()
    with fails('undefined entity'): read(once(doc, b'<WaveFormData>', b'<WaveFormData>&a;'))

def peak(f):
    tracemalloc.start()
    try: f()
    except ECGError as e: return tracemalloc.get_traced_memory()[1]>>20, str(e)
    finally: tracemalloc.stop()
    return None

MANY = b'<AnnotatedECG xmlns="urn:hl7-org:v3">%s</AnnotatedECG>'
@pytest.mark.parametrize(
    'data,says',
    [
        (MANY % (b'<a/>' * 3_000_000), 'more than 200,000 tags'),
        (MANY % (b'<a>' * 90_000 + b'</a>' * 90_000), 'without a series'),
        (
            MANY % (b'<a ' + b' '.join(b'a%d=""' % i for i in range(1_000_000)) + b'/>'),
            'tags or attributes',
        ),
        (MANY % (b'<p:a xmlns:p="%s">' % (b'u' * 5_000_000)), 'a namespace of more than 300'),
        (MANY % (b"<p:a xmlns:p = '%s'>" % (b'u' * 400)), 'a namespace'),
        (MANY % (b'<a xmlns:p=u>'), 'without quotes'),
        (b'<AnnotatedECG><!--' + b'-' * 15_000_000, 'not XML'),
        (b'<!--' * 4_000_000, 'no root'),
        (b'<' + b'a' * 15_000_000, 'another kind'),
        (b'<AnnotatedECG ' + b'a' * 15_000_000, 'not XML'),
    ],
    ids=lambda v: v if isinstance(v, str) else '',
)
def test_size_of_xml_is_bounded(read, data, says):
    mb, message = peak(lambda: read(data))
    assert says in message and mb<150, (mb, message)

def test_depth_does_no_harm(read):
    for kind,end in (('aecg', b'</AnnotatedECG>'), ('muse', b'</RestingECG>')):
        assert (read(MADE[kind].replace(end, b'<q>'*50_000 + b'</q>'*50_000 + end)).signal==read(MADE[kind]).signal).all()

def test_number_of_digits_is_bounded(read):
    mb, message = peak(lambda: read(once(MADE['aecg'], b'<digits>', b'<digits>'+b'1 '*7_500_000)))
    assert 'more than 2,097,152 samples in a lead' in message and mb<150, (mb, message)

# ---- DICOM

def dicom(change, groups=1):
    "The example, changed by a function of the data set and its first group"
    d = pydicom.dcmread(io.BytesIO(MADE['dicom']))
    change(d, d.WaveformSequence[0])
    d.save_as(out := io.BytesIO())
    return out.getvalue()

def each_channel(**kw):
    def change(d, g):
        for c in g.ChannelDefinitionSequence:
            for k,v in kw.items():
                if v is None: delattr(c, k)
                else: setattr(c, k, v)
    return change

def stored(dtype, bits, how, f):
    def change(d, g):
        x = np.frombuffer(g.WaveformData, '<i2').reshape(-1, 12)
        g.WaveformBitsAllocated, g.WaveformSampleInterpretation = bits, how
        g.add_new('WaveformData', 'OB' if bits==8 else 'OW', f(x.astype(float)).astype(dtype).tobytes())
    return change

@pytest.mark.parametrize(
    'dtype,bits,how,shift,step',
    [
        ('<i2', 16, 'SS', 0, 1),
        ('<u2', 16, 'US', 32768, 1),
        ('<i4', 32, 'SL', 0, 0.1),
        ('<u4', 32, 'UL', 2**31, 1),
        ('i1', 8, 'SB', 0, 50),
        ('u1', 8, 'UB', 128, 50),
    ],
)
def test_dicom_stored_values(read, dtype, bits, how, shift, step):
    base = stored(dtype, bits, how, lambda x: np.rint(x/step)+shift)
    def change(d, g): base(d, g); each_channel(ChannelSensitivity=str(step), ChannelBaseline=str(-shift*step))(d, g)
    r = read(dicom(change))
    assert np.abs(r.signal-REC.signal).max()<=max(step, 1)/2000*1.01+6e-4

@pytest.mark.parametrize('bits,how', [(8, 'MB'), (8, 'AB'), (16, 'SB'), (8, 'SS'), (64, 'SV'), (12, 'SS'), (16, '')])
def test_dicom_unread_samples(read, bits, how):
    def change(d, g): g.WaveformBitsAllocated, g.WaveformSampleInterpretation = bits, how
    with fails(f'samples of {bits} bits', 'are not read'): read(dicom(change))

def test_dicom_sensitivity_factor_baseline(read):
    r = read(dicom(each_channel(ChannelSensitivity='0.5', ChannelSensitivityCorrectionFactor='2', ChannelBaseline='250')))
    assert np.abs(r.signal-REC.signal-.25).max()<6e-4
    r = read(dicom(each_channel(ChannelSensitivityCorrectionFactor=None, ChannelBaseline=None, ChannelSampleSkew=None)))
    assert np.abs(r.signal-REC.signal).max()<5.1e-4

@pytest.mark.parametrize(
    'kw,says',
    [
        (dict(ChannelSensitivity=None), ['lead I: no sensitivity']),
        (dict(ChannelSensitivityUnitsSequence=None), ['no sensitivity']),
        (dict(ChannelSensitivity='1e13'), ['ChannelSensitivity is']),
    ],
)
def test_dicom_sensitivity_is_needed(read, kw, says):
    with fails(*says):
        read(dicom(each_channel(**kw)))

def test_dicom_names(read):
    def rename(number, meaning, value=None):
        def change(d, g):
            s = g.ChannelDefinitionSequence[number].ChannelSourceSequence[0]
            s.CodeMeaning = meaning
            if value is not None: s.CodeValue = value
        return change
    same = lambda data: np.abs(read(data).signal-REC.signal).max()<5.1e-4
    assert (
        same(dicom(rename(0, 'Lead I (Einthoven)', '2:1')))
        and same(dicom(rename(4, 'whatever', '2:63')))
        and same(dicom(rename(6, 'V1', 'private')))
    )
    with fails('called II and V1'): read(dicom(rename(6, 'Lead II')))
    with fails('missing lead V1', 'V9'): read(dicom(rename(6, 'V9', '5.6.3-9-99')))
    def labels(d, g):
        for c,l in zip(g.ChannelDefinitionSequence, LEADS): c.ChannelLabel = l.lower(); del c.ChannelSourceSequence
    assert same(dicom(labels))

@pytest.mark.parametrize(
    'syntax', ['1.2.840.10008.1.2', '1.2.840.10008.1.2.1', '1.2.840.10008.1.2.2', '1.2.840.10008.1.2.1.99']
)
def test_dicom_transfer_syntaxes(read, syntax):
    assert (read(recode(MADE['dicom'], syntax)).signal == read(MADE['dicom']).signal).all()

def syntax(uid, body=None):
    data = MADE['dicom']; end = 144 + struct.unpack_from('<I', data, 140)[0]
    meta = pydicom.dcmread(io.BytesIO(data)).file_meta
    value = uid.encode() + b'\0'*(len(uid)%2)
    new = re.sub(
        rb'\x02\0\x10\0UI..1\.2\.840\.10008\.1\.2\.1\0',
        lambda m: b'\2\0\x10\0UI' + struct.pack('<H', len(value)) + value,
        data[144:end],
        flags=re.S,
    )
    return data[:140] + struct.pack('<I', len(new)) + new + (data[end:] if body is None else body)

@pytest.mark.parametrize(
    'uid,says',
    [
        ('1.2.840.10008.1.2.4.50', 'compressed as JPEG Baseline'),
        ('1.2.840.10008.1.2.5', 'compressed as RLE'),
        ('1.2.3.4', "transfer syntax '1.2.3.4'"),
        ('1.2.840.10008.5.1.4.1.1.9.1.1', 'is not known'),
        ('', "transfer syntax ''"),
    ],
)
def test_dicom_other_syntaxes(read, uid, says):
    with fails(says):
        read(syntax(uid))

def test_dicom_deflate_bomb(read):
    c = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = syntax('1.2.840.10008.1.2.1.99', (c.compress(bytes(1<<20))+c.flush(zlib.Z_FULL_FLUSH))*2000 + b'\3\0')
    for data in (
        bomb,
        bomb[:140] + struct.pack('<I', 20) + bomb[144:],
        bomb[:132] + bomb[144:],
    ):  # whatever length the meta group says, or none
        mb, message = peak(lambda: read(data))
        assert 'inflates to more than 4,194,304 bytes' in message and mb < 64, (mb, message)
    with fails('not DICOM, damaged'): read(syntax('1.2.840.10008.1.2.1.99', b'\xff'*99))

def el(tag, vr, value=b'', n=None):
    return (
        struct.pack('<HH2s', *tag, vr)
        + (
            struct.pack('<HI', 0, len(value) if n is None else n)
            if vr in (b'SQ', b'OW', b'OB')
            else struct.pack('<H', len(value))
        )
        + value
    )
SQ, ITEM = el((0x5400, 0x100), b'SQ', n=2**32-1), struct.pack('<HHI', 0xfffe, 0xe000, 2**32-1)
@pytest.mark.parametrize(
    'body,says',
    [
        (SQ + struct.pack('<HHI', 0xFFFE, 0xE000, 0) * 500_000, 'more than 10,000 items'),
        ((SQ + ITEM) * 5000, 'DICOM, damaged or cut short; export'),
        (el((8, 0x16), b'UI', b'1.2.840.10008.5.1.4.1.1.9.1.1\0'), 'without waveforms'),
        (el((8, 0x16), b'UI', b'1.2.840.10008.5.1.4.1.1.2\0'), 'not an ECG .CT Image'),
        (bytes(9 << 20), 'more than 4,194,304 bytes of DICOM'),
        (b'', 'no class'),
    ],
    ids=lambda v: v if isinstance(v, str) else '',
)
def test_dicom_of_great_size(read, body, says):
    mb, message = peak(lambda: read(syntax('1.2.840.10008.1.2.1', body)))
    assert re.search(says, message) and mb<400, (mb, message)

def test_dicom_of_many_elements(read, monkeypatch):
    "Each of many elements is read once, and only those that an ECG needs are made sense of"
    import pydicom.dataset
    from pydicom import filereader
    n, seen, sense = 130_000, [], []
    elements, convert = filereader.data_element_generator, pydicom.dataset.convert_raw_data_element
    def counted(*args, **kw):
        for e in elements(*args, **kw):
            seen.append(e)
            yield e
    def converted(raw, *args, **kw):
        sense.append(raw)
        return convert(raw, *args, **kw)
    monkeypatch.setattr(filereader, 'data_element_generator', counted)
    monkeypatch.setattr(pydicom.dataset, 'convert_raw_data_element', converted)
    many = b''.join(struct.pack('<HH2sH', 0x5401+i//65536, i%65536, b'SH', 0) for i in range(n))
    with fails('not an ECG'): read(syntax('1.2.840.10008.1.2.1', many))
    assert n <= len(seen) < n+100 and len(sense) < 100

@pytest.mark.parametrize(
    'k,v,says',
    [
        ('NumberOfWaveformSamples', 2**31, 'NumberOfWaveformSamples is'),
        ('NumberOfWaveformSamples', 10**9, 'says 1,000,000,000 samples'),
        ('NumberOfWaveformSamples', 5001, 'says 120,024 bytes of samples and has 120,000'),
        ('NumberOfWaveformSamples', 0, 'NumberOfWaveformSamples is'),
        ('NumberOfWaveformSamples', None, 'is missing'),
        ('NumberOfWaveformChannels', 13, 'says 13 channels and describes 12'),
        ('NumberOfWaveformChannels', 65535, 'says 65,535 channels'),
        ('SamplingFrequency', '0', "SamplingFrequency is '0'"),
        ('SamplingFrequency', '-500', 'SamplingFrequency is'),
        ('SamplingFrequency', '16000', 'sampling rate of 16000 Hz'),
        ('SamplingFrequency', ['500', '500'], 'SamplingFrequency is'),
        ('WaveformData', b'', 'has 0; the file is cut short'),
        ('WaveformData', None, 'cut short'),
        ('ChannelDefinitionSequence', None, 'missing lead I'),
    ],
)
def test_dicom_claims(read, k, v, says):
    def change(d, g):
        if v is None: delattr(g, k)
        else: setattr(g, k, v)
    with fails('case', says): read(dicom(change))

def test_dicom_takes_the_rhythm_not_the_median(read):
    for g in (
        to_dicom(standardise(simulate('SB', seed=2), seconds=1.2)),
        to_dicom(standardise(simulate('SB', seed=2), seconds=60)),
    ):  # even one that says it is long
        r = read(recode(MADE['dicom'], '1.2.840.10008.1.2.1', g))
        assert np.abs(r.signal - REC.signal).max() < 5.1e-4 and r.changes == ()
    def only(d, g):
        g.WaveformOriginality = 'DERIVED'
        g.SamplingFrequency = '2000' # 2.5 s, as long as a beat can be
    with fails('no group of rhythm among 1'): read(dicom(only))

def test_dicom_longest_of_several(read):
    long = to_dicom(standardise(simulate('SB', seed=2), seconds=12))
    def two(d, g): d.WaveformSequence.append(pydicom.dcmread(io.BytesIO(long)).WaveformSequence[0])
    r = read(dicom(two))
    assert r.signal.shape[1]==6000 and r.changes==('the longest of 2 recordings in the file taken',)

@pytest.mark.parametrize('value', [0, -32768, 777])
def test_dicom_padding_is_what_all_channels_hold_to_the_end(read, value):
    "0 is also a voltage: only the end that all channels share is padding"
    def pad(d, g):
        x = np.frombuffer(g.WaveformData, '<i2').reshape(-1, 12).copy()
        x[-100:] = value
        x[7,1] = value
        g.WaveformData = x.tobytes()
        g.add_new('WaveformPaddingValue', 'OW', struct.pack('<h', value))
    back = read(dicom(pad), check=False)
    assert back.signal.shape==(12, 4900) and back.changes==('cut off 100 samples of padding at the end',)
    assert np.isnan(back.signal[1,7]) if value==-32768 else abs(back.signal[1,7]-value/1000)<1e-6
    assert np.isnan(back.signal).sum()==(value==-32768)

def test_dicom_skew(read):
    def skew(d, g): g.ChannelDefinitionSequence[3].ChannelSampleSkew = '5'
    with fails('shifted by up to 5 samples'): read(dicom(skew))
    assert read(dicom(each_channel(ChannelSampleSkew='5')))

@pytest.mark.parametrize(
    'said,age',
    [('042Y', 42), ('018M', 1), ('052W', 1), ('010D', 0), ('', np.nan), ('42', np.nan), ('999Y', np.nan)],
)
def test_dicom_age(said, age):
    assert D.dicom_age(said) == age or age != age and np.isnan(D.dicom_age(said))

def test_dicom_of_a_real_recorder():
    r = read_recording(get_testdata_file('waveform_ecg.dcm'))
    x = pydicom.dcmread(get_testdata_file('waveform_ecg.dcm')).waveform_array(0).T/1000 # pydicom's own conversion, µV
    assert r.fs==1000 and r.meta==dict(rhythm='', age=42, sex='F') and np.abs(r.signal-x).max()<1e-5
    with fails('not an ECG'): read_recording(get_testdata_file('CT_small.dcm'))

def test_nobody_is_named(read):
    def name(d, g): d.PatientName, d.PatientID, d.PatientBirthDate = 'Doe^Jane', '4711', '19310405'
    r = read(dicom(name))
    assert not any(s in repr(vars(r)) for s in ('Doe', '4711', '1931'))

# ---- writers

def test_writers_refuse():
    big = Recording(REC.signal*np.float32(400), check=False)
    for f in WRITE.values():
        with fails('spans'): f(big)
    with fails('holds 32'): to_muse(Recording(REC.signal*np.float32(22), check=False))
    with fails('whole sampling rates'): to_muse(Recording(REC.signal, fs=500.5))
    assert (
        pydicom.dcmread(io.BytesIO(to_dicom(Recording(REC.signal, fs=4000)))).SOPClassUID
        == '1.2.840.10008.5.1.4.1.1.9.1.2'
    )
    assert to_dicom(REC)==to_dicom(REC) and to_aecg(REC)==to_aecg(REC)

# ---- what is not read

@pytest.mark.parametrize(
    'data,what',
    [
        (b'%PDF-1.4', 'a PDF.*a picture of an ECG'),
        (b'\x89PNG\r\n\x1a\n', 'a PNG picture.*export the samples'),
        (b'\xff\xd8\xff\xe0', 'a JPEG'),
        (b'GIF89a', 'a GIF'),
        (b'II*\0', 'a TIFF'),
        (b'PK\3\4', 'a zip or an Office file.*recordings_in'),
        (b'\x1f\x8b\x08', 'a gzip file(?!.*recordings_in)'),
        (b'', 'an empty file'),
        (b'  \n', 'an empty file'),
        (b'\0\1\2', 'a binary file'),
        (b'Dear doctor', 'text, but not a table'),
        (b'{"a": 1}', 'a JSON file'),
        (b'<html><body>404', r'another kind .html.'),
        (b'<Cardiology/>', 'Cardiology'),
        (b'<?xml version="1.0"?><!-- <AnnotatedECG> --><x/>', r'another kind .x.'),
        (b'a,b,c,d,e,f,g,h,i\n1,2,3,4,5,6,7,8,9', 'text, but not a table'),
        (b'FileName,Rhythm,Beat\nM,SR,NONE', 'text, but not a table'),
    ],
)
def test_other_files_are_named(read, data, what):
    with fails('case: ', what): read(data)
    assert sniff(data)[0]==''
    with fails(
        'understood are a table of samples .CSV., WFDB .*DICOM.*aECG.*MUSE|a picture of an ECG is not a '
        'recording|unpack it first|recordings_in|write its samples as CSV'
    ):
        read(data)

def test_names_do_not_matter(tmp_path):
    for k, d in MADE.items():
        for n in ('x.pdf', 'x', 'x.hea', 'x.csv', 'x.xml', 'x.dat'):
            (tmp_path / n).write_bytes(d)
            assert np.abs(read_recording(tmp_path / n).signal - REC.signal).max() < 1.1e-3
            (tmp_path / n).unlink()

def test_no_file(tmp_path):
    with fails('no such file'): read_recording(tmp_path/'x.xml')
    with fails('a folder; use `recordings_in`'): read_recording(tmp_path)
    with fails('no such file or folder'): list(recordings_in(tmp_path/'x'))
    with fails('more than 50,331,648 bytes'):
        (tmp_path / 'b').write_bytes(b'<AnnotatedECG>' + b' ' * MAX_BYTES)
        read_recording(tmp_path / 'b')

# ---- zips and folders

def packed(path, files, **kw):
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED, **kw) as z:
        for n,b in files.items(): z.writestr(n, b)
    return path

def test_zip_of_everything(tmp_path):
    import wfdb
    wfdb.wrsamp(
        'w',
        500,
        ['mV'] * 12,
        list(LEADS),
        p_signal=REC.signal.T.astype(float),
        fmt=['16'] * 12,
        write_dir=str(tmp_path),
    )
    w = {f'w/{n}': (tmp_path/n).read_bytes() for n in ('w.hea', 'w.dat')}
    z = packed(
        tmp_path / 'all.zip',
        {f'{k}/x': d for k, d in MADE.items()}
        | w
        | {
            'c.csv': to_csv_bytes(REC),
            'a.pdf': b'%PDF',
            'cut.xml': MADE['muse'][:999],
            'in.zip': packed(tmp_path / 'in', {'x': b'1'}).read_bytes(),
            '__MACOSX/._x': b'?',
        },
    )
    skipped = []
    got = list(recordings_in(z, skipped=skipped))
    assert [n for n, _ in got] == [
        'aecg/x',
        'c.csv',
        'cut.xml',
        'dicom/x',
        'in.zip',
        'muse/x',
        'w/w.hea',
    ] and skipped == [('a.pdf', 'a PDF')]
    assert [n for n, r in got if isinstance(r, ECGError)] == [
        'cut.xml',
        'in.zip',
    ] and 'a zip within a zip' in str(dict(got)['in.zip'])
    assert all(np.abs(r.signal-REC.signal).max()<.003 for _,r in got if isinstance(r, Recording))
    assert isinstance(read_recording(z/'muse/x'), Recording)
    (tmp_path/'in').unlink(); (tmp_path/'w.hea').unlink(); (tmp_path/'w.dat').unlink()
    assert [n for n,_ in recordings_in(tmp_path)]==[f'all.zip/{n}' for n,_ in got] # a folder with the zip: one level
    assert [n for n,_ in recordings_in(packed(tmp_path/'noname', {'x': MADE['muse']}))]==['x']

def test_one_file(tmp_path):
    (tmp_path/'x.pdf').write_bytes(b'%PDF'); (tmp_path/'m').write_bytes(MADE['muse'])
    (n, e), = recordings_in(tmp_path/'x.pdf'); assert n=='x.pdf' and 'a PDF' in str(e)
    (n, r), = recordings_in(tmp_path/'m'); assert isinstance(r, Recording)

def test_names_in_a_zip_go_nowhere(tmp_path):
    (tmp_path/'deep').mkdir()
    names = ['../evil.hea', '/abs.hea', 'C:\\evil', 'a/../../evil', '..\\evil']
    hea = b'evil 1 500 10\n../evil.dat 16 200/mV 16 0 0 0 0 I\n'
    z = packed(tmp_path/'deep/z.zip', {n: hea if n.endswith('.hea') else MADE['muse'] for n in names})
    before = sorted(tmp_path.rglob('*'))
    got = dict(recordings_in(z))
    assert sorted(tmp_path.rglob('*'))==before and set(got)=={'/abs.hea', 'C:\\evil'} # '..' counts as hidden
    assert isinstance(got['/abs.hea'], ECGError) and isinstance(got['C:\\evil'], Recording)

def test_zip_bombs(tmp_path, monkeypatch):
    z = packed(tmp_path/'big.zip', {f'{i}.xml': b'<AnnotatedECG>'+b' '*MAX_BYTES for i in range(1)})
    assert [type(r) for _,r in recordings_in(z)]==[ECGError]
    z = packed(tmp_path/'many.zip', {f'{i}.xml': b'<AnnotatedECG>'+b' '*(15<<20) for i in range(9)}) # 135 MB in 135 kB
    got = []
    with fails('many.zip: inflates to more than 100 times its size'):
        for n,r in recordings_in(z): got.append(r)
    assert 1<len(got)<9 and all(isinstance(r, ECGError) for r in got)
    (tmp_path/'folder').mkdir(); z.rename(tmp_path/'folder/many.zip'); (tmp_path/'folder/z.xml').write_bytes(MADE['muse'])
    *bad, last = recordings_in(tmp_path/'folder')
    assert isinstance(last[1], Recording) and 'inflates to more' in str(bad[-1][1]) # the next file is still read
    monkeypatch.setattr(T, 'MAX_FILES', 5)
    with fails('6 files; no more than 5'): list(recordings_in(packed(tmp_path/'six.zip', {str(i): b'x' for i in range(6)})))

def test_encrypted_zip(tmp_path):
    b = bytearray(packed(tmp_path/'e.zip', {'x.xml': MADE['muse']}).read_bytes())
    for sign,at in ((b'PK\3\4', 6), (b'PK\1\2', 8)): b[b.find(sign)+at] |= 1
    (tmp_path/'e.zip').write_bytes(b)
    (n, e), = recordings_in(tmp_path/'e.zip'); assert n=='x.xml' and 'encrypted' in str(e)

def test_memory_does_not_grow(tmp_path):
    z = packed(tmp_path/'many.zip', {f'{i:02}': MADE['muse'] for i in range(30)})
    def run(n):
        tracemalloc.start()
        for i,(_,r) in enumerate(recordings_in(z)):
            assert isinstance(r, Recording)
            if i==n: break
        p = tracemalloc.get_traced_memory()[1]; tracemalloc.stop(); return p
    run(2); assert run(29)<run(3)*1.3

# ---- the rest

def test_imports_without_torch():
    code = ("import sys, ecg_arrhythmia.data.formats; "
            "print(sorted({'torch', 'fastai', 'pydicom', 'defusedxml', 'scipy'} & {m.split('.')[0] for m in sys.modules}))")
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True).stdout.strip() == '[]'

def test_header_with_a_long_number(tmp_path):
    "Nothing that grows with the square of a length: parsing takes milliseconds, a minute is a hang on any machine"
    def late(*_): raise TimeoutError('a minute of processor time')
    (tmp_path/'x.hea').write_text('x 12 '+'9'*60_000+'!\n')
    before = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, 60)
    try:
        with fails('x.hea'): read_recording(tmp_path/'x.hea')
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)

def test_a_file_of_one_recording_holds_none_by_name(tmp_path):
    from ecg_arrhythmia.core import ECGError
    from ecg_arrhythmia.data.formats import read_recording
    from ecg_arrhythmia.data.simulation import simulate
    from ecg_arrhythmia.data.tables import to_csv_bytes
    (tmp_path/'a.csv').write_bytes(to_csv_bytes(simulate('SR', seed=3)))
    with zipfile.ZipFile(tmp_path/'z.zip', 'w') as z: z.write(tmp_path/'a.csv', 'a.csv')
    for path in (tmp_path/'a.csv'/'x', tmp_path/'z.zip'/'a.csv'/'x'):
        with pytest.raises(ECGError, match="none called 'x'"): read_recording(path)

# ---- what is no file, and what lies beside files

def test_links_pipes_and_devices_are_named(tmp_path):
    (tmp_path/'loop.csv').symlink_to('loop.csv')
    (tmp_path/'gone.csv').symlink_to('nowhere.csv')
    os.mkfifo(tmp_path/'pipe.csv')
    (tmp_path/'null.csv').symlink_to('/dev/null')
    says = {'loop.csv': 'leads back to itself', 'gone.csv': 'a link to nowhere.csv', 'pipe.csv': 'not a file',
        'null.csv': 'not a file', 'x'*300: 'such a name', 'a\0b': 'such a name'}
    for name,text in says.items():
        with pytest.raises(ECGError, match=text) as e: read_recording(tmp_path/name)
        assert 'download' not in str(e.value)
        with pytest.raises(ECGError, match=text):
            for _,rec in recordings_in(tmp_path/name): raise rec
    skipped = []
    assert not list(recordings_in(tmp_path, skipped=skipped))
    assert {n for n,_ in skipped}=={'loop.csv', 'gone.csv', 'pipe.csv', 'null.csv'}

def test_members_that_lead_out_of_a_zip_are_named(tmp_path):
    with zipfile.ZipFile(tmp_path/'a.zip', 'w') as z:
        for name in ('../../out.csv', 'w/../../out.csv', 'in.csv'): z.writestr(name, to_csv_bytes(simulate('SR', seed=1)))
    skipped = []
    assert [n for n,_ in recordings_in(tmp_path/'a.zip', skipped=skipped)]==['in.csv']
    assert [n for n,_ in skipped]==['../../out.csv', 'w/../../out.csv']

def test_a_lead_with_steps_of_its_own_is_said(read):
    "One converter takes all leads of a recorder, so another step in one of them is probably a damaged number"
    assert not read(MADE['muse']).faults
    odd = read(MADE['muse'].replace(b'PerBit>1<', b'PerBit>3.14<', 1))
    assert 'steps of 3.14' in dict(odd.faults)['steps']

"""Damaged aECG, MUSE and DICOM files by the thousand, alone and in zips and folders: each gives a valid
`Recording` or an `ECGError` that names it

The harness, the bounds (5 s of processor time a file, 512 MB more than after the imports) and the mutations
of bytes are those of `test_fuzz`; what is here knows the formats: fields of XML and DICOM with other numbers,
elements repeated, dropped and swapped, lengths that lie, entities, deflated data sets. Model folders are here
too: damaged, and forged with sums that fit. By default some 150 of each, `pytest -m slow` for 21,000,
`FUZZ=20000 pytest -m slow` for 20,000 of each. `tests/fuzz.py` counts what becomes of every kind.
"""
import base64, binascii, copy, io, json, random, re, struct, sys, warnings, zipfile, zlib
from pathlib import Path

import pytest

import test_fuzz as F
from test_fuzz import BYTES, TEXT, at, flip, judge, mutate, replace, table

SHARE = dict(aecg=6500, muse=6500, dicom=6500, bag=1000, model=500)

# ---- what is mutated: short recordings at several rates, as written here and as others may write them

def _median(doc): # MUSE: the median first, as the recorder writes it
    wave = re.search(rb'<Waveform>.*</Waveform>', doc, re.S)[0]
    return doc.replace(wave, wave.replace(b'Rhythm', b'Median', 1)+wave)

def _beat(doc):  # aECG: a derived series beside the rhythm
    parts = re.search(rb'<component>\n<sequenceSet>.*?</sequenceSet>\n</component>', doc, re.S)[0]
    return doc.replace(
        b'</series>',
        b'<derivation><derivedSeries><code code="REPRESENTATIVE_BEAT"/>'
        + parts
        + b'</derivedSeries></derivation></series>',
    )

def recode(data, syntax, group=None):
    "A DICOM file in another transfer syntax, with another group before its own"
    import pydicom
    d = pydicom.dcmread(io.BytesIO(data))
    if group: d.WaveformSequence.insert(0, pydicom.dcmread(io.BytesIO(group)).WaveformSequence[0])
    d.WaveformSequence[0].WaveformOriginality, d.WaveformSequence[0].MultiplexGroupLabel = (
        ('DERIVED', 'MEDIAN BEAT') if group else ('ORIGINAL', 'RHYTHM')
    )
    d.file_meta.TransferSyntaxUID = syntax
    implicit, little = syntax=='1.2.840.10008.1.2', syntax!='1.2.840.10008.1.2.2'
    if not little:  # samples are bytes to pydicom
        for g in d.WaveformSequence:
            g.WaveformData = b''.join(
                g.WaveformData[i : i + 2][::-1] for i in range(0, len(g.WaveformData), 2)
            )
    pydicom.dcmwrite(out := io.BytesIO(), d, implicit_vr=implicit, little_endian=little, force_encoding=True)
    return out.getvalue()

def material(folder):
    from ecg_arrhythmia.data.convert import to_aecg, to_dicom, to_muse
    import numpy as np
    from ecg_arrhythmia.data.recordings import Recording, standardise
    from ecg_arrhythmia.data.simulation import simulate
    whole = [simulate(r, seed=1) for r in ('SR', 'AFIB', 'SB', 'SVT')]
    recs = [
        standardise(r, fs=fs, seconds=s)
        for r, fs, s in zip(whole * 2, (250, 500, 1000, 100) * 2, (2, 1, 0.5, 3, 1.3, 2, 1, 10))
    ]
    whole_uv = [Recording(np.rint(r.signal*1000)/1000, r.fs, meta=r.meta) for r in recs] # in 16 bits
    aecg, muse, dicom = [[f(r) for r in whole_uv] for f in (to_aecg, to_muse, to_dicom)]
    aecg += [
        _beat(aecg[0]),
        aecg[1]
        .replace(b'xmlns=', b'xmlns:h=')
        .replace(b'<', b'<h:')
        .replace(b'<h:/', b'</h:')
        .replace(b'<h:?', b'<?'),
        aecg[2].decode().encode('utf-16'),
        aecg[3].replace(b'<sequenceSet>', b'<sequenceSet>\n'),
    ]
    muse += [_median(m) for m in muse[:4]]
    dicom += [
        recode(d, s, g)
        for d, s, g in zip(
            dicom,
            ('1.2.840.10008.1.2', '1.2.840.10008.1.2.2', '1.2.840.10008.1.2.1.99', '1.2.840.10008.1.2.1'),
            (None, None, dicom[0], dicom[1]),
        )
    ]
    SR.append(whole[0])
    return (
        F.material(folder)
        | dict(aecg=aecg, muse=muse, dicom=dicom)
        | (dict(model=small_models(folder)) if 'onnxruntime' in sys.modules else {})
    )

# ---- XML

NUMBERS = ('0 -1 1 -0 1e308 -1e308 1e-308 1e999 nan inf -inf 2147483648 -2147483649 18446744073709551616 1_000 0x10 .5 '
           '5. . - + 1e 0.0000000001 99999999999 3.14 500 250 12 µV mV nV V kg MICROVOLTS MILLIVOLTS s ms us Hz').split()
NAMES = ('MDC_ECG_LEAD_I MDC_ECG_LEAD_AVR MDC_ECG_LEAD_V6 MDC_ECG_LEAD_V7 I II III aVR -aVR V1 V3R TIME_ABSOLUTE '
         'TIME_RELATIVE RHYTHM REPRESENTATIVE_BEAT Rhythm Median SLIST_PQ GLIST_TS uV M F UN 19000101 20301332 &#0; '
         '&#65; &amp; &x; &lt;').split()
VALUE = re.compile(rb'(?<=")[^"<>]{0,60}(?=")|(?<=>)[^<>\n]{1,60}(?=<)')
ELEMENT = re.compile(rb'<([\w:]+)[^<>]*(?:/>|>[^<>]*</\1>)')

def xml_value(b, r):
    "Another value in the place of an attribute's or a field's"
    i = at(b, r) if r.random()<.3 else 0
    found = list(VALUE.finditer(b, i, i+r.choice((2000, 6000, 60_000))))
    if not found: return b
    m, v = r.choice(found), r.choice((*NUMBERS, *NAMES, b'9'*r.choice((30, 5000)), b'', b' ', m0(r)))
    v = v.encode() if isinstance(v, str) else v
    return b.replace(m[0], v) if r.random()<.2 and m[0] else b[:m.start()]+v+b[m.end():]
def m0(r): return str(r.choice((1, -1))*r.choice((10, 1000, 10**6, 10**12))*r.random()).encode()
def xml_element(b, r):
    "An element repeated, dropped, moved, or given another name"
    i = at(b, r) if r.random()<.5 else 0
    found = list(ELEMENT.finditer(b, i, i+20_000)) # it takes the square of what it looks at
    if not found: return b
    m, n = r.choice(found), r.choice(found)
    how = r.randrange(5)
    if how==0: return b[:m.start()] + m[0]*r.choice((2, 3, 50, 3000 if len(m[0])<300 else 2)) + b[m.end():]
    if how==1: return b[:m.start()] + b[m.end():]
    if how==2: return b[:m.start()] + n[0] + b[m.end():]
    if how==3: return b.replace(b'<'+m[1], b'<x'+m[1]).replace(b'</'+m[1], b'</x'+m[1])
    return b[:m.start()] + b'<q>'*(k := r.choice((1, 100, 30_000))) + m[0] + b'</q>'*k + b[m.end():]
TRICKS = [
    b'<!DOCTYPE x [<!ENTITY a "haha">]>',
    b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/hostname">]>',
    b'<!DOCTYPE x SYSTEM "http://127.0.0.1:9/x.dtd">',
    b'<!DOCTYPE x [<!ATTLIST value z CDATA "%s">]>' % (b'z' * 9999),
    b'<!DOCTYPE x ['
    + b''.join(b'<!ENTITY l%d "&l%d;&l%d;&l%d;&l%d;">' % (i + 1, i, i, i, i) for i in range(30))
    + b']>',
    b'<!DOCTYPE x [<!ENTITY %% p SYSTEM "file:///dev/zero">%%p;]>'.replace(b'%%', b'%'),
    b'<!DOCTYPE RestingECG SYSTEM "restecg.dtd">',
    b'<!--' + b'-' * 5000,
    b'<!-- -->',
    b'<![CDATA[',
    b']]>',
    b'<?xml version="1.0" encoding="utf-7"?>',
    b'<?xml version="1.1"?>',
    b'<?x y?>',
    b'&#x10FFFF;',
    b'&a;',
    b'&#1;',
    b'\0',
    b'\xff',
    b'<a xmlns:q="%s">' % (b'u' * 5000),
    b'<a %s/>' % b' '.join(b'a%d=""' % i for i in range(20_000)),
]
def xml_trick(b, r):
    i = r.choice((0, b.find(b'?>')+2, at(b, r), b.find(b'>', at(b, r))+1))
    b = b[:i] + r.choice(TRICKS) + b[i:]
    return b.replace(b'<digits>', b'<digits>&l30;&a;') if r.random()<.3 else b
def xml_code(b, r):
    return re.sub(
        rb'encoding="[^"]*"',
        b'encoding="%s"'
        % r.choice(
            (
                b'utf-16',
                b'latin-1',
                b'cp037',
                b'utf-7',
                b'us-ascii',
                b'windows-1252',
                b'idna',
                b'rot13',
                b'zlib',
            )
        ),
        b,
        count=1,
    )
def digits(b, r):
    "Samples: another unit, other words, far too many, cut"
    found = list(re.finditer(rb'(?<=<digits>)[^<]*|(?<=<WaveFormData>)[^<]*', b))
    if not found: return b
    m = r.choice(found); x = m[0]
    how = r.randrange(6)
    if how==0: x = x[:at(x, r)]
    if how==1: x = replace(x, r)
    if how==2: x = x*r.choice((2, 20, 200))
    if how==3: x = b' '.join(x.split()[::-1])
    if how==4:
        whole = b'WaveForm' in b and len(x)%4==0 and re.fullmatch(rb'[\w+/\s]*={0,2}\s*', x)
        try: x = base64.b64encode(flip(base64.b64decode(x), r)) if whole else flip(x, r)
        except binascii.Error: x = flip(x, r) # damaged before
    if how==5: x = r.choice((b'', b'=', b'====', b'nan '*9, b'1 '*1_000_000, b'9'*1_000_000, b'AAAA'*300_000))
    return (b[:m.start()] + x + b[m.end():])[:24<<20]
XML = [xml_value]*6 + [xml_element]*4 + [digits]*3 + [xml_trick, xml_code]

def summed(doc):
    "A MUSE document whose counts and CRC-32 are those of its damaged samples"
    def lead(m):
        found = re.search(rb'<WaveFormData>([^<]*)<', m[0])
        try: data = base64.b64decode(found[1])
        except (TypeError, ValueError): return m[0]
        out = re.sub(rb'(<LeadDataCRC32>)[^<]*', b'\\g<1>%d' % zlib.crc32(data), m[0])
        return re.sub(rb'(<LeadSampleCountTotal>)[^<]*', b'\\g<1>%d' % (len(data)//2), out)
    return re.sub(rb'<LeadData>.*?</LeadData>', lead, doc, flags=re.S)

def make_xml(kind):
    def make(m, r, d):
        doc = mutate(F.pick(r, m[kind]), r, XML*3+BYTES+TEXT[4:])
        (d/'case.xml').write_bytes(summed(doc) if kind=='muse' and r.random()<.5 else doc)
        return [('any', d/'case.xml')]
    return make

# ---- DICOM

VRS = b'UL US DS IS CS SH LO UI OW OB SQ ST FD FL SS SL AS UN PN DA UC AT OF zz'.split()
FIELD = re.compile(rb'[\x02\x08\x10\x3a\x40\x00]\0..(?:%s)' % b'|'.join(VRS[:19]), re.S)
TAGS = [
    struct.pack('<HH', *t)
    for t in (
        (0x3A, 5),
        (0x3A, 0x10),
        (0x3A, 0x1A),
        (0x3A, 0x20),
        (0x3A, 0x200),
        (0x3A, 0x208),
        (0x3A, 0x210),
        (0x3A, 0x211),
        (0x3A, 0x213),
        (0x5400, 0x100),
        (0x5400, 0x1004),
        (0x5400, 0x1006),
        (0x5400, 0x1010),
        (0x5400, 0x100A),
        (8, 0x16),
        (8, 5),
        (0x10, 0x1010),
        (2, 0x10),
        (0xFFFE, 0xE000),
        (0xFFFE, 0xE00D),
        (0xFFFE, 0xE0DD),
    )
]
WORDS = [w.encode() for w in NUMBERS[:26]] + [
    b'SS',
    b'US',
    b'MB',
    b'AB',
    b'SB',
    b'UB',
    b'SL',
    b'uV',
    b'mV',
    b'5.6.3-9-1',
    b'2:64',
    b'1\\2',
    b'Lead V1',
    b'042Y',
    b'1.2.840.10008.1.2.1.99',
    b'1.2.840.10008.1.2.4.50',
    b'1.2.840.10008.5.1.4.1.1.2',
    b'\xff\xff\xff\xff',
]

def dicom_field(b, r):
    "An element with another length, value, type or tag; repeated, dropped"
    i = at(b, r) if r.random()<.3 else 128
    found = [m for m in FIELD.finditer(b, i, i+20_000)]
    if not found: return b
    m = r.choice(found); s, long = m.start(), b[m.end()-2:m.end()] in (b'OW', b'OB', b'SQ', b'UN', b'OF', b'UC')
    h = s+12 if long else s+8
    n = (
        struct.unpack_from('<I', b, s + 8)[0]
        if long and len(b) >= s + 12
        else struct.unpack_from('<H', b, s + 6)[0] if len(b) >= s + 8 else 0
    )
    e = min(h+n, len(b)); how = r.randrange(8)
    if how == 0:
        return (
            b[: h - (4 if long else 2)]
            + (
                struct.pack(
                    '<I',
                    r.choice((0, 1, 7, 2**31, 2**32 - 1, 2**32 - 2, r.randrange(2**32), n + 1, n * 2))
                    & 0xFFFFFFFF,
                )
                if long
                else struct.pack('<H', r.choice((0, 1, 65535, 65534, n + 1, r.randrange(65536))) & 0xFFFF)
            )
            + b[h:]
        )
    if how==1: return b[:s+4] + r.choice(VRS) + b[s+6:]
    if how==2: return b[:s] + r.choice(TAGS) + b[s+4:]
    if how==3: return b[:e] + b[s:e]*r.choice((1, 2, 500 if e-s<1000 else 2)) + b[e:]
    if how==4: return b[:s] + b[e:]
    if how == 5 and n < 200:
        w = r.choice(WORDS)
        w += b' ' * (len(w) % 2)
        return b[: h - 2] + struct.pack('<H', len(w)) + w + b[e:] if not long else b
    if how == 6 and 0 < n <= 8:
        return (
            b[:h]
            + r.choice(
                (bytes(n), b'\xff' * n, r.randbytes(n), (1).to_bytes(n, 'little'), (12).to_bytes(n, 'little'))
            )
            + b[e:]
        )
    return b[:h] + b[h:e][::-1][:n] + b[e:] if n<1000 else b[:h] + r.randbytes(min(n, 1000)) + b[h+min(n, 1000):]
def dicom_nest(b, r):
    "Sequences in sequences, or of a great many items, at the end of the data set"
    sq, item = struct.pack('<HH2sHI', 0x5400, r.choice((0x100, 0x200)), b'SQ', 0, 2**32 - 1), struct.pack(
        '<HHI', 0xFFFE, 0xE000, r.choice((0, 2**32 - 1))
    )
    return b + r.choice(
        (
            (sq + item) * r.choice((3, 2000)),
            sq + item * r.choice((50, 9000, 200_000)),
            b''.join(struct.pack('<HH2sH', 0x5401, i, b'SH', 0) for i in range(r.choice((100, 30_000)))),
        )
    )
DICOM = [dicom_field]*8 + [dicom_nest]

def deflated(b, r):
    "The data set mutated, then deflated; or a bomb in its place"
    end = 144 + struct.unpack_from('<I', b, 140)[0]
    inner = mutate(b[end:], r, DICOM*2+BYTES)
    meta = b[132:end].replace(b'1.2.840.10008.1.2.1\0', b'1.2.840.10008.1.2.1.99')
    meta = re.sub(rb'\x02\0\x10\0UI..', b'\2\0\x10\0UI'+struct.pack('<H', 22), meta, flags=re.S)
    c = zlib.compressobj(1, zlib.DEFLATED, -15)
    return (
        b[:132]
        + meta[:8]
        + struct.pack('<I', len(meta) - 12)
        + meta[12:]
        + (F.zeros(64) if r.random() < 0.1 else c.compress(inner) + c.flush())
    )

def dicom_whole(b, r):
    "Elements with other values, channels repeated, dropped and renamed, all lengths right"
    import pydicom
    d = pydicom.dcmread(io.BytesIO(b), force=True)
    for _ in range(r.choice((1, 1, 2, 3))):
        group = r.choice(list(d.WaveformSequence))
        channels, how = group.ChannelDefinitionSequence, r.randrange(7)
        channel = r.choice(list(channels))
        if how==0: channels.insert(r.randrange(len(channels)+1), channel)
        if how==1: del channels[r.randrange(len(channels))]
        if how==2: channel.ChannelSourceSequence = r.choice(list(channels)).ChannelSourceSequence
        if how==3: group.WaveformData = group.WaveformData[:at(group.WaveformData, r)//2*2]
        if how==4: group.WaveformData = flip(group.WaveformData, r)
        e = r.choice([e for e in (*group, *channel) if e.VR in ('US', 'UL', 'DS', 'CS', 'IS', 'SH')])
        try:
            if how==5: e.value = r.choice(('', 'XX')) if e.VR in ('CS', 'SH') else r.choice((0, 1, 2, 8, 12, 16, 99, 1000, 65535))
            if how==6 and e.VR not in ('CS', 'SH'): e.value = type(e.value)(float(e.value)*r.choice((.5, 2, 10)))
        except (ValueError, OverflowError): continue
        if not channels or not len(group.WaveformData): break
    out = io.BytesIO()
    pydicom.dcmwrite(out, d, implicit_vr=d.file_meta.TransferSyntaxUID=='1.2.840.10008.1.2', little_endian=True, force_encoding=True)
    return out.getvalue()

def make_dicom(m, r, d):
    packed = r.random()<.1
    b = F.pick(r, m['dicom'][:8] if packed else m['dicom'])
    if not packed and r.random()<.4:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            try: b = dicom_whole(b, r)
            except Exception: pass # what pydicom does not write is damaged in the other ways
            else:
                (d/'case.dcm').write_bytes(b)
                return [('any', d/'case.dcm')]
    (d/'case.dcm').write_bytes(deflated(b, r) if packed else mutate(b, r, DICOM*3+BYTES))
    return [('any', d/'case.dcm')]

# ---- zips and folders

def make_bag(m, r, d):
    if r.random()<.4: # the zips of `test_fuzz`, read one by one
        F.make_zip(m, r, d)
        return [('in', d)]
    def some(k):
        return (
            mutate(r.choice(m[k]), r, XML + BYTES if k != 'dicom' else DICOM + BYTES)
            if r.random() < 0.5
            else r.choice(m[k])
        )
    files = {
        f'{i}/case.{r.choice(("xml", "dcm", "csv", "txt", "zip"))}': some(r.choice(('aecg', 'muse', 'dicom')))
        for i in range(3)
    } | {'n.pdf': b'%PDF', '../up.xml': m['muse'][0], 'C:\\x.xml': m['aecg'][0]}
    buf = io.BytesIO()
    with zipfile.ZipFile(buf, 'w', zipfile.ZIP_DEFLATED, compresslevel=1) as z:
        for n,b in files.items(): z.writestr(n, b)
        if r.random()<.3: z.writestr('nested.zip', buf.getvalue()[:2000])
    (d/'case.zip').write_bytes(mutate(buf.getvalue(), r, BYTES) if r.random()<.5 else buf.getvalue())
    return [('in', d/'case.zip')]

# ---- model folders

def small_models(folder):
    "Files of two model folders: a linear network for ONNX Runtime, and MobileNetV3 Small"
    import numpy as np
    from onnx import TensorProto, helper as h, numpy_helper
    from safetensors.numpy import save
    from ecg_arrhythmia.prediction.model_folder import digest_of, seal
    from ecg_arrhythmia.data.rhythms import class_titles
    from ecg_arrhythmia.charts.encoding import store_spec
    classes, chart, rng = (
        ['AFIB', 'GSVT', 'SB', 'SR'],
        json.loads(json.dumps(store_spec(('strip', '3x4+1'), (32, 64), 'grey'))),
        np.random.default_rng(0),
    )
    w = rng.normal(0, 3, (3, 4)).astype(np.float32)
    value = lambda n, *shape: h.make_tensor_value_info(n, TensorProto.FLOAT, shape)
    graph = h.make_graph(
        [
            h.make_node('ReduceMean', ['x'], ['m'], axes=[2, 3], keepdims=0),
            h.make_node('MatMul', ['m', 'w'], ['y']),
        ],
        'g',
        [value('x', 'n', 3, 'h', 'w')],
        [value('y', 'n', 4)],
        [numpy_helper.from_array(w, 'w')],
    )
    facts = dict(
        arch='mobilenet_v3_small',
        arch_title='MobileNetV3 Small',
        classes=classes,
        titles=class_titles(classes),
        chart=chart,
        chart_digest=digest_of(chart)[:16],
        mean=[0.485, 0.456, 0.406],
        std=[0.229, 0.224, 0.225],
        fs=500,
        seconds=10,
        temperature=1.3,
        temperature_source='fitted',
        calibration=dict(source='x', p_true={c: sorted(rng.random(12).round(6).tolist()) for c in classes}),
        metrics=dict(validation=None, test=None),
        training=dict(
            recordings=10,
            origin='simulated',
            title='Simulated',
            config=dict(keep='last'),
            epochs=1,
            store='s',
            split='s',
            weights_source='none',
            fold=0,
            folds=2,
        ),
        versions={},
    )
    import torch
    from ecg_arrhythmia.models.weights import create_model
    from safetensors.torch import save as save_torch
    net = h.make_model(graph, opset_imports=[h.make_opsetid('', 13)], ir_version=8).SerializeToString()
    torch.manual_seed(0)
    small = {'README.md': b'# model', 'model.safetensors': save({'w': w}), 'model.onnx': net}
    large = {'README.md': b'# model', 'model.safetensors': save_torch(create_model('mobilenet_v3_small', 4).state_dict())}
    return [(seal(facts, f), f) for f in (small, large)]

VALUES = [
    None,
    True,
    0,
    -1,
    1,
    1e9,
    -1e9,
    1e-9,
    10**30,
    0.5,
    8,
    4096,
    4097,
    500,
    '',
    'x',
    'II',
    'V7',
    '-V1',
    '../x',
    'a' * 3000,
    [],
    {},
    [1],
    [1, 2, 3],
    [[]],
    {'x': 1},
    [0] * 5000,
    'AFIB',
    'resnet18',
    'convnext_base',
    'model.onnx',
    12.5,
    25,
    100,
    1000,
    20000,
]
def forge(f, r):
    "Facts with another value somewhere, a key less, or one twice"
    f = json.loads(json.dumps(f))
    for _ in range(r.choice((1, 1, 1, 2, 4))):
        e = f
        while True:
            keys = list(e) if isinstance(e, dict) else list(range(len(e)))
            if e is f and r.random()<.5: keys = ['chart']
            k = r.choice([k for k in keys if k not in ('digest', 'files') or r.random()<.2] or keys)
            if isinstance(e[k], (dict, list)) and e[k] and r.random()<.85: e = e[k]; continue
            break
        how = r.randrange(6)
        if how==0: del e[k]
        elif how==1: e.update({f'{k}2': e[k]}) if isinstance(e, dict) else e.extend([e[k]]*r.choice((1, 3, 2000)))
        elif how==2 and isinstance(e[k], (int, float)): e[k] = e[k]*r.choice((-1, 2, .5, 10, 1000, 1e-3))
        else: e[k] = copy.deepcopy(r.choice(VALUES)) # else a value may come to hold itself
        if 'chart' not in f or not f: break
    return f

def make_model(m, r, d):
    "Damaged files; or facts, weights and networks with sums that fit"
    from ecg_arrhythmia.prediction.model_folder import digest_of, seal
    facts, files = m['model'][r.random()<.04]
    files, how = dict(files), r.choice(('bytes', 'facts', 'facts', 'facts', 'network', 'whole'))
    if how in ('facts', 'network') and r.random()<.3 or how=='facts':
        facts = forge(facts, r)
    if how == 'facts' and isinstance(facts.get('chart'), (dict, list)) and r.random() < 0.9:
        facts['chart_digest'] = digest_of(facts['chart'])[:16]
    if how == 'network':
        n = r.choice([n for n in files if n != 'README.md'])
        files[n] = mutate(files[n][:20_000], r, BYTES) + files[n][20_000:]
        facts['files'] = seal({}, files)['files']
    if how!='bytes': facts = {k: v for k,v in facts.items() if k!='digest'}; facts['digest'] = digest_of(facts)
    text = json.dumps(facts).encode()
    if how=='bytes':
        n = r.choice(('model.json', 'model.json', *files))
        if n=='model.json': text = mutate(text, r, BYTES+TEXT[:4])
        else: files[n] = mutate(files[n], r, BYTES)
    (d/'model.json').write_bytes(text)
    for n,b in files.items(): (d/n).write_bytes(b)
    return [('model', d)]

def read_model(path, check):
    import numpy as np
    from ecg_arrhythmia.prediction.runtime import load_model
    from ecg_arrhythmia.prediction.answer import predict
    model = load_model(path)
    a = predict(SR[0], model)
    assert a.rhythm is None or a.rhythm in model.classes
    if a.probabilities:
        assert (
            np.isfinite(list(a.probabilities.values())).all()
            and abs(sum(a.probabilities.values()) - 1) < 1e-3
        ), a.probabilities
    a.text()
SR = []

WHOLE = dict(aecg='.xml', muse='.xml', dicom='.dcm')
MAKE = dict(aecg=make_xml('aecg'), muse=make_xml('muse'), dicom=make_dicom, bag=make_bag, model=make_model)

# ---- in the child

read_old = F.read

def read(what, path, check):
    if what in ('one', 'table', 'all'): return read_old(what, path, check)
    if what=='model': return read_model(path, check)
    from ecg_arrhythmia.data.files import SAMPLING_RATES
    from ecg_arrhythmia.data.formats import read_recording, recordings_in
    from ecg_arrhythmia.core import ECGError
    from ecg_arrhythmia.data.recordings import Recording
    if what == 'any':
        rec = read_recording(path, check=check)
        F.valid(rec, check)
        assert SAMPLING_RATES[0] <= rec.fs <= SAMPLING_RATES[1] and set(rec.meta) == {'rhythm', 'age', 'sex'}
    if what=='in':
        good, bad = 0, []
        for n,rec in recordings_in(path, check=check):
            if isinstance(rec, Recording): F.valid(rec, check); good += 1
            else: assert isinstance(rec, ECGError); bad.append(rec)
        if not good: raise bad[0] if bad else ECGError(f'{path}: nothing found')

def test_formats_fuzz_some():
    judge(
        F.fuzz(some := dict(aecg=80, muse=80, dicom=80, bag=20, model=20), file=__file__),
        sum(some.values()),
    )

@pytest.mark.slow
def test_formats_fuzz_all():
    judge(F.fuzz(some := {k: F.EACH or v for k, v in SHARE.items()}, file=__file__), sum(some.values()))

def child(todo, folder):
    import defusedxml.ElementTree, pydicom.dataset, pydicom.filereader, ecg_arrhythmia.data.formats
    if any(k == 'model' for k, _ in todo):
        import onnxruntime, torch, torchvision, ecg_arrhythmia.models.architectures, ecg_arrhythmia.prediction.answer
    F.read = read
    F.WHOLE |= WHOLE
    F.child(todo, folder, F.MAKE | MAKE, material)

if __name__=='__main__': F.main(child, sys.argv[1:])

"Small writers of formats that the project reads and does not write, made from their public specifications"
import base64, binascii, struct

import numpy as np

from ecg_arrhythmia.data.recordings import LEADS

SCP_CODES = dict(I=1, II=2, III=61, aVR=62, aVL=63, aVF=64, **{f'V{i}': i+2 for i in range(1, 7)})
ISHNE_CODES = {l: i for i,l in enumerate(LEADS, 5)}

def crc(data): return binascii.crc_hqx(data, 0xffff) # CRC-CCITT

# ---- ISHNE Holter: a header of 522 bytes, then samples of 16 bits, all leads of a moment together

def ishne(counts, fs=500, names=LEADS, step=1000, comment=b'', checksum=True):
    "ISHNE; `step` is in nV"
    n = len(counts)
    def twelve(values): return struct.pack('<12h', *([*values]+[-9]*12)[:12])
    head = struct.pack('<iiiih40s40s20shh', len(comment), counts.shape[1], 522, 522+len(comment), 1, b'', b'', b'', 1, 0)
    head += struct.pack('<12hh', 1, 1, 1960, 1, 2, 2020, 1, 2, 2020, 10, 0, 0, n)
    head += twelve([ISHNE_CODES.get(name, 0) for name in names]) + twelve([1]*n) + twelve([step]*n)
    head += struct.pack('<h40sh80s80s88s', 0, b'digital', fs, b'', b'', b'')
    stamp = struct.pack('<H', crc(head+comment) if checksum else 0)
    return b'ISHNE1.0' + stamp + head + comment + counts.T.astype('<i2').tobytes()

# ---- MFER: tags, lengths and values

def _tlv(tag, value):
    size = bytes([len(value)]) if len(value)<128 else b'\x84'+struct.pack('>I', len(value))
    return bytes([tag]) + size + value

def mfer(counts, fs=500, names=LEADS, step=(0, -6, 1), order='<', frames=1, extra=b''):
    "MFER; `step` is the unit (0: V), the power of ten and the number"
    end = 'little' if order=='<' else 'big'
    def number(n, size): return int(n).to_bytes(size, end)
    per = counts.shape[1]//frames
    out = _tlv(0x40, b'MFR ECG'.ljust(32)) + _tlv(1, bytes([order=='<']))
    out += _tlv(0x0b, bytes([0, 0])+number(fs, 2))
    if step: out += _tlv(0x0c, bytes([step[0], step[1]&255])+number(step[2], 2))
    out += _tlv(5, number(len(counts), 2)) + _tlv(4, number(per, 4)) + _tlv(6, number(1, 2)) + _tlv(0x0a, b'\0')
    for i,name in enumerate(names):
        code = _tlv(9, number(SCP_CODES[name], 2))
        out += bytes([0x3f, i, len(code)]) + code
    for f in range(frames): out += extra + _tlv(0x1e, counts[:,f*per:(f+1)*per].T.T.astype(order+'i2').tobytes())
    return out + bytes([0x80, 0])

# ---- Mortara ELI 250: XML with samples in base64

def mortara(counts, fs=500, names=LEADS, per_mv=1000, **other):
    "Mortara XML; `other` are attributes of every channel"
    attributes = dict(OFFSET=0, BITS=16, FORMAT='SIGNED', ENCODING='BASE64', UNITS_PER_MV=per_mv, SAMPLE_FREQ=fs,
        DURATION=counts.shape[1]) | other
    said = ' '.join(f'{k}="{v}"' for k,v in attributes.items())
    data = [base64.b64encode(row.astype('<i2').tobytes()).decode() for row in counts]
    channels = ''.join(f'<CHANNEL NAME="{name}" {said} DATA="{d}"/>' for name,d in zip(names, data))
    head = '<ECG ACQUISITION_TIME="20200101120000" AGE="55" AGE_UNITS="YEARS"><SOURCE TYPE="STD-12"/><SUBJECT GENDER="M"/>'
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{head}{channels}</ECG>'.encode()

# ---- Philips: XML with the samples of all leads in base64, one lead after the other

def _sierra(labels, fs, step, n):
    "What versions 1.04 and 1.03 say about samples: beside them, or elsewhere"
    beside = f'leadlabels="{labels}" numberofleads="{n}" samplespersecond="{fs}" resolution="{step}" signaloffset="0" signalsigned="True"'
    elsewhere = (f'<samplingrate>{fs}</samplingrate><signalresolution>{step}</signalresolution><acquisitiontype>STD-12'
        f'</acquisitiontype><numberchannelsallocated>{n}</numberchannelsallocated>')
    return beside, elsewhere

def philips(counts, fs=500, names=LEADS, step=1, version='1.04', code='utf-8', said=None, total=None):
    "Philips XML, not compressed; `code` is its encoding and `said` the one that it declares"
    beside, elsewhere = _sierra(' '.join(names), fs, step, len(counts))
    if version=='1.03': beside = 'compressflag="False"'
    else: elsewhere = ''
    kind = 'SierraECG' if version=='1.03' else 'PhilipsECG'
    duration = (total or counts.shape[1])*1000/fs
    data = base64.b64encode(counts.astype('<i2').tobytes()).decode()
    return f'''<?xml version="1.0" encoding="{said or code}"?>
<restingecgdata xmlns="http://www3.medical.philips.com"><documentinfo><documenttype>{kind}</documenttype>
<documentversion>{version}</documentversion></documentinfo><dataacquisition date="2020-01-01" time="12:00:00">
<signalcharacteristics>{elsewhere}</signalcharacteristics></dataacquisition><patient><generalpatientdata>
<name><lastname>Müller</lastname></name><age><years>55</years></age><sex>Male</sex></generalpatientdata></patient>
<waveforms><parsedwaveforms {beside} dataencoding="Base64" durationperchannel="{duration:g}">
{data}</parsedwaveforms></waveforms></restingecgdata>'''.encode(code)

# ---- CardioSoft: XML with samples as text

def cardiosoft(counts, fs=500, names=LEADS, step=1, unit='uVperLsb', total=None):
    "GE CardioSoft XML"
    leads = [f'<WaveformData lead="{n}">{",".join(map(str, row))}</WaveformData>' for n,row in zip(names, counts)]
    strip = (f'<SampleRate units="Hz">{fs}</SampleRate><ChannelSampleCountTotal>{total or counts.shape[1]}'
        f'</ChannelSampleCountTotal><Resolution units="{unit}">{step}</Resolution>{"".join(leads)}')
    who = '<PatientInfo><Age units="years">55</Age><Gender>MALE</Gender></PatientInfo>'
    return f'<?xml version="1.0"?>\n<CardiologyXML>{who}<StripData>{strip}</StripData></CardiologyXML>'.encode()

# ---- SCP-ECG: sections with checksums; samples as differences and in Huffman's code if asked for

def _packed(bits):
    bits += '0'*(-len(bits)%8)
    return int(bits, 2).to_bytes(len(bits)//8, 'big')

def _huffman(values):
    "The default code of the standard"
    out = []
    for v in map(int, values):
        if v==0: out.append('0')
        elif abs(v)<=8: out.append('1'*abs(v) + '0' + '01'[v<0])
        elif -128<=v<128: out.append('1111111110'+format(v&255, '08b'))
        else: out.append('1111111111'+format(v&65535, '016b'))
    return _packed(''.join(out))

OWN_TABLES = [ # of section 2: prefix, bits in all, 1 for a value and 0 for a change of tables, and the value
    [('0', 1, 1, 0), ('10', 6, 1, 0), ('110', 3, 0, 2)], # small ones; '110' goes over to the second table
    [('0', 17, 1, 0), ('1', 1, 0, 1)]]                   # 16 bits; '1' goes back

def _own_huffman(values):
    "Values in `OWN_TABLES`: a recorder may bring its own code"
    small, out = True, []
    for v in map(int, values):
        if (-8<=v<8)!=small: out.append('110' if small else '1')
        small = -8<=v<8
        if not small: out.append('0' + format(v&65535, '016b'))
        else: out.append('10' + format(v&15, '04b') if v else '0')
    return _packed(''.join(out))

def _own_tables():
    "Section 2 that holds `OWN_TABLES`; a prefix is written with its first bit lowest"
    tables = [struct.pack('<H', len(t)) + b''.join(
        struct.pack('<BBBhI', len(p), bits, mode, value, int(p[::-1], 2)) for p,bits,mode,value in t) for t in OWN_TABLES]
    return struct.pack('<H', len(tables)) + b''.join(tables)

def _differences(x, order):
    if order==1: return np.concatenate([x[:1], np.diff(x)])
    return np.concatenate([x[:2], np.diff(x, 2)]) if order==2 else x

def _section(number, body, mark=bytes(6)):
    body += bytes(len(body)%2)
    head = struct.pack('<HIBB6s', number, len(body)+16, 20, 20, mark)
    return struct.pack('<H', crc(head+body)) + head + body

def _without_beats(counts, beat, fiducials, fs):
    "What is left of the counts without a beat at each fiducial, and the sections 4 and 5 that say so"
    left, size, middle = counts.astype(int).copy(), beat.shape[1], beat.shape[1]//2
    zones = b''
    for at in fiducials: # samples are counted from 1
        first, last = at-middle+1, at-middle+size
        left[:, first-1:last] -= beat
        zones += struct.pack('<HIII', 0, first, at, last)
    return left, struct.pack('<HHH', round(size*1000/fs), middle, len(fiducials)) + zones

def _leads_of(rows, step, fs, order, code):
    "The body of section 5 or 6"
    rows = [_differences(row.astype(int), order) for row in rows]
    rows = [code(row) if code else row.astype('<i2').tobytes() for row in rows]
    rows = [row+bytes(len(row)%2) for row in rows]
    sizes = b''.join(struct.pack('<H', len(row)) for row in rows)
    return struct.pack('<HHBB', step, round(1e6/fs), order, 0) + sizes + b''.join(rows)

def scp(counts, fs=500, names=LEADS, step=1000, order=0, huffman=False, beat=None, fiducials=(), starts=None):
    """SCP-ECG; `step` is in nV, `order` that of the differences, `huffman` True for the default code or 'own'; `beat`
    (in counts) is subtracted around each of `fiducials`; the leads begin at `starts`"""
    code = {True: _huffman, 'own': _own_huffman}.get(huffman)
    starts = starts or [1]*len(names)
    leads = b''.join(struct.pack('<IIB', a, a+counts.shape[1]-1, SCP_CODES[n]) for a,n in zip(starts, names))
    flags = len(names)<<3 | 4 | (beat is not None)
    made = {1: _section(1, struct.pack('<BHB', 8, 1, 1)+b'\xff\0\0'), 3: _section(3, bytes([len(names), flags])+leads)}
    if beat is not None:
        counts, zones = _without_beats(counts, beat, fiducials, fs)
        made |= {4: _section(4, zones), 5: _section(5, _leads_of(beat, step, fs, order, code))}
    made[6] = _section(6, _leads_of(counts, step, fs, order, code))
    if huffman: made[2] = _section(2, _own_tables() if huffman=='own' else struct.pack('<H', 19999))
    at, pointers = 7+136, struct.pack('<HII', 0, 136, 7)
    for i in range(1, 12):
        size = len(made.get(i, b''))
        pointers += struct.pack('<HII', i, size, at if size else 0)
        at += size
    body = _section(0, pointers, b'SCPECG') + b''.join(made[i] for i in sorted(made))
    whole = struct.pack('<I', len(body)+6) + body
    return struct.pack('<H', crc(whole)) + whole

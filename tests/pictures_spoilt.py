"""Damaged pictures: bytes, the structure of each kind with its checksums and lengths mended, and what is drawn

`spoilt(kind, whole, rng)` gives one damaged file. `whole` is a file of that kind, as `wholes` makes them.
"""
import io
import re
import struct
import zlib

import numpy as np
from PIL import Image, ImageFilter

ODD = (0, 1, 2, 3, 5, 8, 15, 16, 99, 255, 256, 2600, 32767, 65535, 10**5, 2**24, 2**31-1, 2**31, 2**32-1)
FORMATS = dict(png='PNG', jpg='JPEG', tif='TIFF', bmp='BMP', webp='WEBP', gif='GIF')


def any_of(rng, items): return items[int(rng.integers(len(items)))]

def odd(rng, was, bytes_=4):
    "Another number in the place of `was`"
    new = (was+1, was-1, 2*was, was//2, int(rng.integers(2**16)), any_of(rng, ODD), any_of(rng, ODD))
    return any_of(rng, new)%256**bytes_

def mutated(data, rng):
    "Some bytes changed, a stretch doubled, removed or zeroed, or the end cut off"
    data = bytearray(data)
    head = min(len(data), 2000)
    for _ in range(int(rng.integers(1, 9))):
        where, v = int(rng.integers(0, head if rng.random()<.5 else len(data))), rng.random()
        n = int(rng.integers(1, 200))
        if v<.6: data[where] = int(rng.integers(0, 256))
        elif v<.7: data[where:where] = data[where:where+n]
        elif v<.8: del data[where:where+n]
        elif v<.9: data[where:where+n] = bytes(len(data[where:where+n]))
        else: data[where:where+4] = rng.integers(0, 256, 4, np.uint8).tobytes()
        if len(data)<10: break
    return bytes(data[:int(rng.integers(1, len(data)+1))]) if rng.random()<.1 else bytes(data)

def some_bytes(data, rng):
    "A few bytes changed, none moved"
    data = bytearray(data)
    for _ in range(int(rng.integers(1, 5)) if data else 0): data[int(rng.integers(len(data)))] = int(rng.integers(256))
    return bytes(data)

def rearranged(parts, rng):
    "Parts with one left out, doubled many times, or moved"
    parts = list(parts)
    if not parts: return parts
    i, v = int(rng.integers(len(parts))), rng.random()
    if v<.4: del parts[i]
    elif v<.8: parts[i:i] = [parts[i]]*any_of(rng, (1, 1, 2, 30, 2000))
    else: parts.insert(int(rng.integers(len(parts))), parts.pop(i))
    return parts

def exif(rng):
    "An EXIF block that turns the picture, or says nonsense"
    turn = any_of(rng, (*range(1, 9), 0, 9, 65535))
    entries = [(0x112, 3, 1, turn), (0x11a, 5, 1, any_of(rng, (26, 0, 2**32-1))), (0x8769, 4, 1, any_of(rng, (8, 26, 2**31)))]
    entries = entries[:int(rng.integers(1, 4))]
    body = b''.join(struct.pack('<HHII', *e) for e in entries)
    return b'II*\0\x08\0\0\0' + struct.pack('<H', len(entries)) + body + bytes(12)


# ---- PNG

def png_chunks(data):
    at, out = 8, []
    while at+12<=len(data):
        n, = struct.unpack_from('>I', data, at)
        out.append((data[at+4:at+8], data[at+8:at+8+n]))
        at += 12+n
    return out

def png_file(chunks):
    "A PNG file with checksums that fit"
    out = [b'\x89PNG\r\n\x1a\n']
    out += [struct.pack('>I', len(d))+t+d+struct.pack('>I', zlib.crc32(t+d)) for t,d in chunks]
    return b''.join(out)

def png_header(d, rng):
    "Another size, depth, colour or interlace"
    v = list(struct.unpack('>IIBBBBB', d[:13]))
    i = int(rng.integers(7))
    v[i] = odd(rng, v[i]) if i<2 else any_of(rng, (0, 1, 2, 3, 4, 6, 8, 16, 255))
    return struct.pack('>IIBBBBB', *v)

def png_extra(rng):
    "A chunk that readers take notice of"
    n = any_of(rng, (0, 1, 3, 256, 768, 5000))
    bomb = zlib.compress(bytes(any_of(rng, (1<<10, 1<<26))))
    return any_of(rng, (
        (b'eXIf', exif(rng)), (b'eXIf', rng.bytes(n)),
        (b'pHYs', struct.pack('>IIB', odd(rng, 2835), odd(rng, 2835), any_of(rng, (0, 1, 9)))),
        (b'iCCP', b'icc\0\0'+zlib.compress(rng.bytes(n))), (b'iCCP', b'icc\0\0'+bomb), (b'tRNS', rng.bytes(n)), (b'tRNS', bytes(n)),
        (b'PLTE', rng.bytes(n)), (b'gAMA', struct.pack('>I', odd(rng, 45455))), (b'zTXt', b'Raw profile type exif\0\0'+bomb),
        (b'iTXt', b'XML:com.adobe.xmp\0\1\0\0\0'+bomb), (b'tEXt', b'a\0'+rng.bytes(n)), (b'cHRM', rng.bytes(32)),
        (b'acTL', struct.pack('>II', any_of(rng, (0, 1, 2, 13, 2**31)), 0)),
        (b'fcTL', struct.pack('>IIIIIHHBB', 0, odd(rng, 100), odd(rng, 100), odd(rng, 0), 0, 1, 0, 0, any_of(rng, (0, 1, 7)))),
        (b'fdAT', struct.pack('>I', 1)+zlib.compress(rng.bytes(n))), (b'ABCD', rng.bytes(n))))

def png_row(chunks):
    "Height, and bytes of a row with its filter, of a picture that is not interlaced"
    w, h, depth, color = struct.unpack('>IIBB', chunks[0][1][:10])
    return h, 1+(w*depth*{0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(color, 1)+7)//8

def png_pixels(chunks, rng):
    "What is packed in IDAT, changed and packed again"
    raw = bytearray(zlib.decompress(b''.join(d for t,d in chunks if t==b'IDAT')))
    h, step = png_row(chunks)
    v, row, n = rng.random(), int(rng.integers(h)), int(rng.integers(1, 60))
    if v<.08: raw = raw[:int(rng.integers(len(raw)))]
    elif v<.16: raw += bytes(any_of(rng, (1, 10**4, 1<<26)))
    elif v<.3: raw[row*step:row*step] = raw[row*step:(row+n)*step] # rows twice
    elif v<.45: raw[row*step:(row+n)*step] = bytes(len(raw[row*step:(row+n)*step]))
    elif v<.6: # other filters
        for row in range(0, h, n): raw[min(row*step, len(raw)-1)] = any_of(rng, (0, 1, 2, 3, 4, any_of(rng, (0, 5, 255))))
    else: # other bytes, which the filter may smear over what follows
        for at in rng.integers(0, len(raw), int(rng.integers(1, 200))):
            if at%step: raw[int(at)] = int(rng.integers(256))
    packed = zlib.compress(bytes(raw), 1)
    first = next(i for i,(t,_) in enumerate(chunks) if t==b'IDAT')
    chunks = [c for c in chunks if c[0]!=b'IDAT']
    return chunks[:first]+[(b'IDAT', packed)]+chunks[first:]

def png_structure(data, rng):
    "A PNG file with other chunks, their checksums right"
    chunks = png_chunks(data)
    for _ in range(int(rng.integers(1, 4))):
        v = rng.random()
        if v<.25: chunks.insert(int(rng.integers(1, len(chunks)+1)), png_extra(rng))
        elif v<.33: chunks[0] = chunks[0][0], png_header(chunks[0][1].ljust(13, b'\0'), rng)
        elif v<.8: chunks = png_pixels(chunks, rng)
        elif v<.88:
            i = int(rng.integers(len(chunks)))
            chunks[i] = chunks[i][0], some_bytes(chunks[i][1], rng)
        else: chunks = chunks[:1]+rearranged(chunks[1:], rng)
        if chunks[0][0]!=b'IHDR' or not any(t==b'IDAT' for t,_ in chunks): break
        try: zlib.decompress(b''.join(d for t,d in chunks if t==b'IDAT'))
        except zlib.error: break
        if not png_row(chunks)[0]: break
    return png_file(chunks)


# ---- JPEG

def jpg_segments(data):
    "Segments in front of the samples as (marker, body), and what follows"
    at, out = 2, []
    while data[at:at+1]==b'\xff':
        n, = struct.unpack_from('>H', data, at+2)
        if data[at+1]==0xda: break
        out.append((data[at+1], data[at+4:at+2+n]))
        at += 2+n
    return out, data[at:]

def jpg_segment(kind, body, rng):
    "A segment with another size, table or sampling"
    if kind in (0xc0, 0xc1, 0xc2) and rng.random()<.8: # precision, height, width, components
        b = bytearray(body)
        h, w = struct.unpack_from('>HH', b, 1)
        v = rng.random()
        if v<.35: struct.pack_into('>H', b, 1, odd(rng, h, 2))
        elif v<.7: struct.pack_into('>H', b, 3, odd(rng, w, 2))
        elif v<.8: b[0] = any_of(rng, (0, 1, 8, 12, 16, 255))
        elif v<.9: b[5] = any_of(rng, (0, 1, 2, 3, 4, 5, 255))
        else: b[6+int(rng.integers(len(b)-6))] = any_of(rng, (0, 0x11, 0x22, 0x14, 0x41, 0x44, 255))
        return kind, bytes(b)
    return kind, some_bytes(body, rng)

def jpg_structure(data, rng):
    "A JPEG file with other segments, their lengths right"
    segments, rest = jpg_segments(data)
    for _ in range(int(rng.integers(1, 4))):
        v, i = rng.random(), int(rng.integers(len(segments)))
        big = [j for j,(k,_) in enumerate(segments) if k in (0xc0, 0xc1, 0xc2)]
        if v<.3 and big: segments[big[0]] = jpg_segment(*segments[big[0]], rng)
        elif v<.5: segments[i] = jpg_segment(*segments[i], rng)
        elif v<.65: segments.insert(0, (0xe1, b'Exif\0\0'+exif(rng)))
        elif v<.7: segments.insert(0, (0xdd, struct.pack('>H', any_of(rng, (0, 1, 7, 65535)))))
        elif v<.75: segments.insert(0, (0xe2, any_of(rng, (b'MPF\0'+exif(rng), b'ICC_PROFILE\0\1\1'+rng.bytes(200)))))
        elif v<.78: segments.insert(0, (0xee, b'Adobe\0\x64\0\0\0\0'+bytes([int(rng.integers(4))])))
        elif v<.88: segments = rearranged(segments, rng)
        elif v<.95: rest = rest[:20]+mutated(rest[20:], rng)
        else: rest = rest[:-2]*any_of(rng, (2, 5, 40))+rest[-2:]
        if not segments: break
    head = b''.join(bytes([255, k])+struct.pack('>H', (len(b)+2)%65536)+b for k,b in segments)
    return b'\xff\xd8'+head+rest


# ---- TIFF

SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
TAGS = {256: (1, 99, 2**31), 257: (1, 99, 2**31), 258: (1, 2, 4, 8, 12, 16, 32, 64),
        259: (1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946, 34712, 50000),
        262: (0, 1, 2, 3, 4, 5, 6, 8, 32803), 266: (1, 2), 274: (0, 1, 3, 6, 8, 9), 277: (0, 1, 2, 3, 4, 5, 255), 278: (0, 1, 2, 2**32-1),
        282: (0, 2**31), 283: (0,), 284: (1, 2, 3), 296: (0, 1, 2, 3), 317: (1, 2, 3, 9), 322: (0, 1, 16, 2**20), 323: (0, 16, 2**20),
        324: (8,), 325: (1, 2**31), 338: (0, 1, 2), 339: (1, 2, 3, 4, 5, 6)}

def tif_entries(data):
    "Order of bytes, offsets of the first directory's entries, and of the pointer to the next"
    e = '<' if data[:2]==b'II' else '>'
    at, = struct.unpack_from(e+'I', data, 4)
    n, = struct.unpack_from(e+'H', data, at)
    return e, [at+2+12*i for i in range(n)], at+2+12*n

def tif_structure(data, rng):
    "A TIFF file with other entries in its directory"
    b = bytearray(data)
    e, places, after = tif_entries(data)
    for _ in range(int(rng.integers(1, 4))):
        at, v = any_of(rng, places), rng.random()
        tag, kind, count, value = struct.unpack_from(e+'HHII', b, at)
        short = e+'HHIHH'
        if v<.5:
            new = any_of(rng, TAGS[tag]) if tag in TAGS and rng.random()<.6 else odd(rng, value)
            if kind==3 and count==1: struct.pack_into(short, b, at, tag, 3, 1, new%65536, 0)
            else: struct.pack_into(e+'HHII', b, at, tag, kind, count, new)
        elif v<.65: struct.pack_into(e+'I', b, at+4, odd(rng, count))
        elif v<.75: struct.pack_into(e+'H', b, at+2, int(rng.integers(14)))
        elif v<.88:
            tag = any_of(rng, list(TAGS))
            struct.pack_into(short, b, at, tag, 3, 1, any_of(rng, TAGS[tag])%65536, 0)
        elif v<.94: struct.pack_into(e+'I', b, after, any_of(rng, (0, 4, 8, after, places[0]-2, len(b)-8)))
        else: # what a long list or a fraction points to
            spot = value if count*SIZES.get(kind, 1)>4 and value<len(b)-8 else at+8
            struct.pack_into(e+'I', b, spot, odd(rng, 100))
    return bytes(b)


# ---- BMP, GIF, WebP

def bmp_structure(data, rng):
    "A BMP file with other fields in its header"
    b = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        at, form = any_of(rng, ((2, '<I'), (10, '<I'), (14, '<I'), (18, '<i'), (22, '<i'), (26, '<H'), (28, '<H'), (30, '<I'), (34, '<I'),
                                (38, '<i'), (46, '<I'), (50, '<I')))
        was, = struct.unpack_from(form, b, at)
        if at==28: new = any_of(rng, (0, 1, 2, 4, 8, 16, 24, 32, 48, 64))
        elif at==30: new = int(rng.integers(8))
        elif at in (18, 22) and rng.random()<.3: new = -was
        else: new = odd(rng, was, 2 if form=='<H' else 4)
        low = struct.pack('<Q', new%2**64)[:struct.calcsize(form)]
        b[at:at+len(low)] = low
    return bytes(b)

def gif_structure(data, rng):
    "A GIF file with other sizes, frames and extensions"
    b = bytearray(data)
    table = 3<<((b[10]&7)+1) if b[10]&128 else 0
    image = b.find(b'\x2c', 13+table)
    for _ in range(int(rng.integers(1, 4))):
        v = rng.random()
        if v<.4: struct.pack_into('<H', b, (at := any_of(rng, (6, 8, image+1, image+3, image+5, image+7))),
                                  odd(rng, struct.unpack_from('<H', b, at)[0], 2))
        elif v<.5: b[any_of(rng, (10, 11, 12, image+9, image+10))] = int(rng.integers(256))
        elif v<.7: b[image:image] = b'\x21\xf9\x04'+bytes([int(rng.integers(32))])+rng.bytes(3)+b'\0'
        elif v<.8:
            frame = b'\x2c'+struct.pack('<HHHH', *(any_of(rng, (0, 1, 50, 65535)) for _ in range(4)))+b'\0\x02\x02\x44\x01\0'
            b[image:image] = frame*any_of(rng, (1, 3, 20, 5000))
        elif v<.9: b[image:image] = b'\x21'+rng.bytes(1)+b'\xff'*any_of(rng, (1, 300))+b'\0'
        else: b[13:13+table] = rng.bytes(table)
    return bytes(b)

def riff_chunks(data):
    at, out = 12, []
    while at+8<=len(data):
        n, = struct.unpack_from('<I', data, at+4)
        out.append((data[at:at+4], data[at+8:at+8+n]))
        at += 8+n+n%2
    return out

def webp_structure(data, rng):
    "A WebP file with other chunks, their lengths right"
    chunks = riff_chunks(data)
    for _ in range(int(rng.integers(1, 3))):
        v, i = rng.random(), int(rng.integers(len(chunks)))
        name, body = chunks[i]
        if v<.3: chunks[i] = name, some_bytes(body[:30], rng)+body[30:]
        elif v<.5: chunks[i] = name, some_bytes(body, rng)
        elif v<.6: chunks.append((b'EXIF', exif(rng)))
        elif v<.8:
            size = b''.join(struct.pack('<I', odd(rng, s, 3))[:3] for s in (100, 100))
            chunks.insert(0, (b'VP8X', bytes([int(rng.integers(64))])+bytes(3)+size))
        elif v<.9: chunks.insert(0, (any_of(rng, (b'ALPH', b'ANIM', b'ANMF', b'ICCP', b'XMP ')), rng.bytes(any_of(rng, (6, 16, 99)))))
        else: chunks = rearranged(chunks, rng) or chunks
    body = b''.join(n+struct.pack('<I', len(d))+d+bytes(len(d)%2) for n,d in chunks)
    return b'RIFF'+struct.pack('<I', len(body)+4)+b'WEBP'+body


# ---- PDF

OBJECT = re.compile(rb'(\d+) 0 obj\s*(.*?)\s?endobj', re.S)
STREAM = re.compile(rb'stream\r?\n(.*?)\r?\n?endstream', re.S)
NUMBER = re.compile(rb'(?<![\w./])-?\d+(?:\.\d+)?(?![\w.]| 0 R)')
KEYS = (b'/Rotate 90', b'/Rotate 180', b'/Rotate 270', b'/Rotate 45', b'/Rotate -90', b'/Rotate 1e9', b'/UserUnit 5', b'/UserUnit 0',
        b'/CropBox [0 0 300 200]', b'/CropBox [100 100 500 300]', b'/CropBox [9 9 9 9]', b'/MediaBox [0 0 1e6 1e6]', b'/MediaBox [0 0 0 0]',
        b'/MediaBox [-5000 -5000 5000 5000]', b'/MediaBox [0 0 14400 3]', b'/Matrix [2 0 0 .5 0 0]', b'/Matrix [0 1 -1 0 0 0]',
        b'/Matrix [1e9 0 0 1e9 0 0]', b'/Width 60000', b'/Height 60000', b'/BitsPerComponent 16', b'/Filter /ASCIIHexDecode',
        b'/Decode [1 0]', b'/ImageMask true', b'/Count 99999', b'/Length 0', b'/Length 999999999', b'/ColorSpace /DeviceCMYK')
OPERATORS = (b' 2 0 0 2 0 0 cm ', b' 1 0 0 -1 0 0 cm ', b' .5 0 0 1 0 0 cm ', b' 0 1 -1 0 0 0 cm ', b' q '*50, b' Q ', b' W n ', b' f ',
             b' 0 0 9e9 9e9 re f ', b' 0 0 50 50 re W n ', b' [1 2] 0 d ', b' 1e9 w ', b' 0 0 m 1e30 1e30 l S ', b' nan nan l ',
             b' 1 1 1 RG ', b' BT /F1 99 Tf (V1) Tj ET ', b' 0 0 1 1 re S '*20000, b' /A Do ', b' 3 3 l '*50000, b' EMC ', b' BI ID EI ')

def pdf_file(objects, start):
    "A PDF file of objects by number, with a table that finds them"
    out, places = bytearray(b'%PDF-1.4\n'), {}
    for n,body in objects.items():
        places[n] = len(out)
        out += b'%d 0 obj\n' % n+body+b'\nendobj\n'
    table, top = len(out), max(places)+1
    rows = [b'%010d 00000 n \n' % places[i] if i in places else b'0000000000 65535 f \n' for i in range(top)]
    out += b'xref\n0 %d\n' % top+b''.join(rows)
    return bytes(out+b'trailer\n<<'+start+b' /Size %d >>\nstartxref\n%d\n%%%%EOF\n' % (top, table))

def packed(raw, head=b''):
    "A stream of a PDF"
    z = zlib.compress(raw, 9)
    return b'<<'+head+b'/Filter/FlateDecode/Length %d>>stream\n' % len(z)+z+b'\nendstream'

def pdf_page(content, box=b'[0 0 842 595]', forms=()):
    "A PDF page that draws `content`; `forms` are the contents of /F of the page, and of each form in it"
    page = b'<</Type/Page/Parent 2 0 R/MediaBox'+box+b'/Contents 4 0 R/Resources<</XObject<</F 5 0 R>>>>>>'
    objects = {1: b'<</Type/Catalog/Pages 2 0 R>>', 2: b'<</Type/Pages/Kids[3 0 R]/Count 1>>', 3: page, 4: packed(content)}
    form = b'/Type/XObject/Subtype/Form/BBox[0 0 842 595]/Resources<</XObject<</F %d 0 R>>>>'
    for i,drawn in enumerate(forms): objects[5+i] = packed(drawn, form % (6+i))
    return pdf_file(objects, b'/Root 1 0 R')

def pdf_numbers(text, rng):
    "Some numbers of a text changed"
    found = list(NUMBER.finditer(text))
    for m in sorted((any_of(rng, found) for _ in range(int(rng.integers(1, 5)))), key=lambda m: -m.start()) if found else ():
        v = float(m[0])
        new = any_of(rng, (-v, 2*v, v/2, v+1, 0, 1, 90, 1e6, -1e6, 1e-9, 1e38))
        text = text[:m.start()]+(b'%d' % new if new==int(new) and abs(new)<1e9 else b'%g' % new)+text[m.end():]
    return text

def pdf_stream(body, rng):
    "A stream unpacked, changed, packed again"
    m = STREAM.search(body)
    raw = m[1]
    packed = b'FlateDecode' in body[:m.start()]
    if packed:
        try: raw = zlib.decompress(raw)
        except zlib.error: return body
    v, at = rng.random(), int(rng.integers(len(raw)+1))
    lines = raw.split(b'\n')
    if v<.4: raw = pdf_numbers(raw[max(0, at-3000):at+3000], rng).join((raw[:max(0, at-3000)], raw[at+3000:]))
    elif v<.6: raw = b'\n'.join([*lines[:(i := int(rng.integers(len(lines)+1)))], any_of(rng, OPERATORS), *lines[i:]])
    elif v<.75: raw = b'\n'.join(rearranged(lines, rng))
    elif v<.9: raw = mutated(raw, rng) if raw else raw
    else: raw = raw*any_of(rng, (2, 5))
    raw = zlib.compress(raw) if packed else raw
    head = re.sub(rb'/Length \d+( 0 R)?', b'/Length %d' % len(raw), body[:m.start()])
    return head+b'stream\n'+raw+b'\nendstream'

def pdf_structure(data, rng):
    "A PDF with other page boxes, matrices, operators and objects, and a table of objects that fits"
    objects = {int(m[1]): m[2] for m in OBJECT.finditer(data)}
    trailer = re.search(rb'trailer\s*<<(.*?)>>', data, re.S)
    root = re.search(rb'/Root \d+ 0 R', data)
    for _ in range(int(rng.integers(1, 4))):
        n, v = any_of(rng, list(objects)), rng.random()
        streams = [k for k,b in objects.items() if b'stream' in b]
        dicts = [k for k,b in objects.items() if b.lstrip()[:2]==b'<<']
        if v<.4 and streams: objects[k] = pdf_stream(objects[(k := any_of(rng, streams))], rng)
        elif v<.65 and dicts:
            k = any_of(rng, [k for k in dicts if re.search(rb'/Type ?/Page\b|/Subtype ?/(Image|Form)', objects[k])]*3+dicts)
            head, sep, rest = objects[k].partition(b'stream')
            new, i = any_of(rng, KEYS), head.find(b'<<')+2
            key = new.split()[0]
            head = re.sub(re.escape(key)+rb'\s*(\[[^\]]*\]|[^\s/>]+( 0 R)?)', b'', head) if rng.random()<.8 else head
            objects[k] = head[:i]+b' '+new+b' '+head[i:]+sep+rest
        elif v<.85:
            head, sep, rest = objects[n].partition(b'stream')
            objects[n] = pdf_numbers(head, rng)+sep+rest
        elif v<.92: objects[n] = objects[any_of(rng, list(objects))]
        elif len(objects)>2: del objects[n]
    said = trailer[1] if trailer else root[0] if root else b''
    return pdf_file(objects, re.sub(rb'/Prev \d+|/Size \d+', b'', said))


# ---- what is drawn

def drawn(im, rng):
    "A picture of a chart cropped, blanked, shifted, stretched, inverted or written over in parts, and what was done"
    a, (w, h) = np.asarray(im).copy(), im.size
    white = np.full_like(a, 255)
    x, y = int(rng.integers(w//8, w-w//8)), int(rng.integers(h//8, h-h//8))
    what = any_of(rng, ('crop', 'blank', 'band', 'shift', 'slide', 'invert', 'wide half', 'tall half', 'mirror', 'flip', 'turn', 'exchange',
                        'twice', 'stretch', 'squeeze', 'noise', 'blur', 'smear', 'lines', 'nothing', 'gamma', 'columns'))
    k = int(rng.integers(2, w//6))
    if what=='crop': a = a[int(rng.integers(h//3)):h-int(rng.integers(h//3)), int(rng.integers(w//3)):w-int(rng.integers(w//3))]
    if what=='blank': a[y:y+int(rng.integers(10, h//2)), x:x+int(rng.integers(10, w//2))] = any_of(rng, (255, 0, 128))
    if what=='band': a[:, x:x+k] = any_of(rng, (255, 0))
    if what=='shift': a[:, x:] = np.roll(a[:, x:], int(rng.integers(-40, 41)), 0)
    if what=='slide': a = np.concatenate([a[:, :x], a[:, min(w-1, x+k):]], 1)
    if what=='invert': a[y:y+h//3, x:x+w//3] = 255-a[y:y+h//3, x:x+w//3]
    if what in ('wide half', 'tall half'):
        f, box = any_of(rng, (.5, .7, .8, .9, 1.1, 1.25, 1.5, 2.)), (x, 0, w, h) if what=='wide half' else (0, y, w, h)
        part = im.crop(box)
        size = (max(1, round(part.width*f)), part.height) if what=='wide half' else (part.width, max(1, round(part.height*f)))
        part = np.asarray(part.resize(size))
        a = np.concatenate([a[:, :x], part], 1) if what=='wide half' else np.concatenate([a[:y], part])
    if what=='mirror': a = a[:, ::-1]
    if what=='flip': a = a[::-1]
    if what=='turn': a = np.asarray(im.rotate(float(rng.normal(0, 4)), expand=True, fillcolor=(255, 255, 255)))
    if what=='exchange':
        q = h//4
        a[q:2*q], a[2*q:3*q] = a[2*q:3*q].copy(), a[q:2*q].copy()
    if what=='twice': a = np.concatenate([a, a], int(rng.integers(2)))
    if what in ('stretch', 'squeeze'):
        f = float(rng.uniform(.5, 2))
        a = np.asarray(im.resize((round(w*f), h) if what=='stretch' else (w, round(h*f))))
    if what=='noise': a = (a+rng.normal(0, any_of(rng, (5, 20, 60)), a.shape)).clip(0, 255).astype(np.uint8)
    if what=='blur': a = np.asarray(im.filter(ImageFilter.GaussianBlur(float(rng.uniform(.5, 4)))))
    if what=='smear': a[y:y+3, :] = 0
    if what=='lines':
        for i in rng.integers(0, h, 5): a[i:i+2] = 0
    if what=='nothing': a = white if rng.random()<.5 else a*0
    if what=='gamma': a = (255*(a/255)**float(rng.uniform(.2, 5))).astype(np.uint8)
    if what=='columns':
        q = w//4
        a[:, q:2*q], a[:, 2*q:3*q] = a[:, 2*q:3*q].copy(), a[:, q:2*q].copy()
    return Image.fromarray(np.ascontiguousarray(a)), what


STRUCTURE = dict(png=png_structure, jpg=jpg_structure, tif=tif_structure, bmp=bmp_structure, webp=webp_structure, gif=gif_structure,
                 pdf=pdf_structure)

def spoilt(kind, whole, rng):
    "A damaged file, and how it was damaged"
    v = rng.random()
    if v<(.1 if kind=='png' else .25): return mutated(whole, rng), 'bytes' # checksums refuse nearly all such PNG files
    if kind!='pdf' and v<.45:
        im, what = drawn(Image.open(io.BytesIO(whole)).convert('RGB'), rng)
        out = io.BytesIO()
        im.save(out, FORMATS[kind])
        return out.getvalue(), what
    return STRUCTURE[kind](whole, rng), 'structure'

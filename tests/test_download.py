"""Dense checks of `ecg_arrhythmia.data.downloads` against a server on this machine that misbehaves in every way it can"""
import email.utils, fcntl, hashlib, json, os, random, signal, subprocess, sys, threading, time, zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np, pandas as pd, pytest

from ecg_arrhythmia.data import downloads as D
from ecg_arrhythmia.data.datasets import catalogue
from ecg_arrhythmia.data.publishers import Patience, Remote, SOURCES, Unreachable
from ecg_arrhythmia.data.downloads import download
from ecg_arrhythmia.data.transfers import fetch
from ecg_arrhythmia.core import ECGError
from ecg_arrhythmia.data.recordings import LEADS, Recording
from ecg_arrhythmia.data.tables import to_csv_bytes

FAST = Patience(timeout=.4, tries=4, pause=.005, longest=2)
BIG = random.Random(0).randbytes(700_000)
md5, sha = lambda b: hashlib.md5(b).hexdigest(), lambda b: hashlib.sha256(b).hexdigest()

def fails(*says, kind=ECGError): return pytest.raises(kind, match='(?s)'+'.*'.join(says))

class Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def log_message(self, *a): pass
    def do_GET(self):
        s, path = self.server, self.path.split('?')[0]
        s.log.append((path, self.headers.get('Range')))
        trick = s.tricks[path].pop(0) if s.tricks.get(path) else s.always.get(path, 'ok')
        body, head, status = s.files.get(path), {}, 200
        if isinstance(trick, tuple): trick, arg = trick
        if body is None and trick=='ok': trick = 404
        if isinstance(trick, int):
            if trick==429: head['Retry-After'] = arg
            body, status = b'' if trick==202 else b'<html>no</html>', trick
        elif trick=='redirect': body, status, head['Location'] = b'', 302, arg
        elif trick=='change': body = s.files[path] = arg
        elif trick=='corrupt': body = body[:-1] + bytes([body[-1]^1])
        tag = arg if trick=='tag' else f'"{md5(body)}"' if s.tags else None
        if tag: head['ETag'] = tag
        if trick=='dated': head = {'Last-Modified': arg}
        asked = self.headers.get('Range')
        start = int(asked[6:].rstrip('-')) if asked and status==200 and trick!='whole' else 0
        if start and trick!='glue' and self.headers.get('If-Range') not in (None, tag, head.get('Last-Modified')): start = 0
        if start:
            status, head['Content-Range'] = 206, f'bytes {start if trick!="elsewhere" else 0}-{len(body)-1}/{len(body)}'
            if start>=len(body): status, body = 416, b''
        body = body[start:]
        head['Content-Length'] = len(body) + (arg if trick=='length' else 0)
        self.send_response(status)
        if trick=='chunked': head.pop('Content-Length'); head['Transfer-Encoding'] = 'chunked'
        for k,v in head.items(): self.send_header(k, str(v))
        self.end_headers()
        if trick in ('cut', 'stall', 'kill'): body = body[:arg]
        if trick=='chunked': body = b'%x\r\n' % len(body) + body + (b'\r\n0\r\n\r\n' if arg else b'')
        try:
            if trick == 'slow':
                for i in range(0, len(body), 20_000):
                    self.wfile.write(body[i : i + 20_000])
                    self.wfile.flush()
                    time.sleep(arg)
            else:
                self.wfile.write(body)
                self.wfile.flush()
            if trick=='stall': time.sleep(1.2)
        except OSError: pass
        self.close_connection = True

@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    s = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    s.daemon_threads, s.files, s.tricks, s.always, s.log, s.tags = True, {'/f': BIG}, {}, {}, [], True
    s.url = f'http://127.0.0.1:{s.server_port}'
    threading.Thread(target=s.serve_forever, args=(.01,), daemon=True).start()
    yield s
    s.shutdown(); s.server_close()

def remote(s, data=BIG, size=True, name='f'): return Remote(name, (f'{s.url}/f',), sha(data), len(data) if size else None)
def names(folder): return sorted(p.relative_to(folder).as_posix() for p in Path(folder).rglob('*') if p.is_file())
def ranges(s): return [r for _,r in s.log]

# ---- one file: what may go wrong and come right

RIGHT = {
    'plain': [],
    'dropped': [('cut', 300_000)],
    'dropped three times': [('cut', 300_000), ('cut', 100_000), ('cut', 1)],
    'dropped at once': [('cut', 0)],
    'stalled': [('stall', 300_000)],
    'stalled at once': [('stall', 0)],
    'slow': [('slow', 0.01)],
    '503': [503, 502, 504],
    '500': [500],
    '408': [408],
    '429, seconds': [(429, '0')],
    '429, a date': [(429, email.utils.formatdate(time.time() - 60, usegmt=True))],
    '429, nonsense': [(429, 'soon')],
    '429, nothing': [(429, '')],
    'corrupt once': ['corrupt'],
    'ignores Range': [('cut', 300_000), 'whole'],
    'other part than asked': [('cut', 300_000), 'elsewhere'],
    'length too small': [('length', -100_000)],
    'length too large': [('length', 50_000)],
    'no strong tag': [('tag', 'W/"x"')],
    'new tag, same file': [('cut', 300_000), ('tag', '"other"')],
    'dated': [('dated', 'Wed, 21 Oct 2015 07:28:00 GMT')],
    'chunked': [('chunked', True)],
    'chunked, dropped': [('chunked', False)],
    '416': [('cut', 300_000), 416],
}
@pytest.mark.parametrize('size', [True, False], ids=['size known', 'size unknown'])
@pytest.mark.parametrize('tricks', RIGHT.values(), ids=RIGHT)
def test_comes_right(server, tmp_path, tricks, size):
    server.tricks['/f'], seen = list(tricks), []
    assert fetch(remote(server, size=size), tmp_path, FAST, bar=seen.append).read_bytes()==BIG
    assert names(tmp_path) == ['f'] and sum(seen) in (
        len(BIG),
        0,
    )  # 0: the half file turned out whole before a byte was asked for

def test_resumes_where_it_stopped(server, tmp_path):
    server.tricks['/f'] = [('cut', 300_000), ('cut', 100_000)]
    fetch(remote(server), tmp_path, FAST)
    assert ranges(server)==[None, 'bytes=300000-', 'bytes=400000-']

def test_progress_resets_the_count(server, tmp_path):
    server.tricks['/f'] = [('cut', 50_000)]*10 # more than `tries`, each a step further
    assert fetch(remote(server), tmp_path, FAST).read_bytes()==BIG

def test_no_progress_ends(server, tmp_path):
    server.tags = False # every try begins again and gets no further
    server.always['/f'] = ('cut', 50_000)
    with fails('broke off after 50,000 bytes, 4 tries', kind=Unreachable): fetch(remote(server), tmp_path, FAST)
    assert len(server.log)==4 and 'f' not in names(tmp_path)

def test_changed_file_is_not_glued(server, tmp_path):
    new = random.Random(1).randbytes(600_000)
    for glue in ('ok', 'glue'): # a server that heeds If-Range, and one that does not
        server.files['/f'], server.tricks['/f'] = BIG, [('cut', 300_000)]
        with fails('broke off', kind=Unreachable): fetch(remote(server, new), tmp_path, Patience(.4, 1, .005))
        server.files['/f'], server.tricks['/f'] = new, [glue]
        assert fetch(remote(server, new), tmp_path, FAST).read_bytes()==new
        (tmp_path/'f').unlink()

def test_changes_between_two_tries(server, tmp_path):
    server.tricks['/f'] = [('cut', 300_000), ('change', b'other'*100_000)]
    with fails('does not fit its published checksum', 'twice'): fetch(remote(server), tmp_path, FAST)
    assert names(tmp_path)==[]
    server.tricks['/f'], server.files['/f'] = [('cut', 300_000), ('change', b'new'), ('change', BIG)], BIG # and back again
    assert fetch(remote(server), tmp_path, FAST).read_bytes()==BIG

def test_half_file_damaged_here(server, tmp_path):
    server.tricks['/f'] = [('cut', 300_000)]
    with fails('broke off'): fetch(remote(server), tmp_path, Patience(.4, 1, .005))
    half = bytearray((tmp_path/'f.part').read_bytes()); half[9] ^= 1; (tmp_path/'f.part').write_bytes(half)
    assert fetch(remote(server), tmp_path, FAST).read_bytes()==BIG

@pytest.mark.parametrize(
    'half,tag',
    [
        (BIG, '"x"'),
        (BIG + b'more', '"x"'),
        (b'junk', None),
        (b'junk', '\x00\xff'),
        (b'', '"x"'),
        (b'junk', 'a\r\nb: c'),
    ],
)
def test_strange_half_files(server, tmp_path, half, tag):
    (tmp_path/'f.part').write_bytes(half)
    if tag: (tmp_path/'f.part.tag').write_text(tag)
    assert fetch(remote(server), tmp_path, FAST).read_bytes()==BIG and names(tmp_path)==['f']

# ---- one file: what stays wrong

WRONG = {
    '404': (404, '404'),
    '403': (403, '403'),
    '410': (410, '410'),
    'a challenge for robots': (202, 'answered 202 without the file'),
    '503 for ever': (503, '503.*4 tries'),
    '429, too long': ((429, '9000'), 'come back in 9000 s'),
    'corrupt for ever': ('corrupt', 'does not fit its published checksum'),
    'stalled for ever': (('stall', 0), 'timed out, 4 tries'),
    'redirect to a file': (('redirect', 'file:///etc/passwd'), '302'),
    'redirect to ftp': (('redirect', 'ftp://127.0.0.1/f'), 'ftp'),
    'redirect in a circle': (('redirect', '/f'), '302'),
}
@pytest.mark.parametrize('trick,says', WRONG.values(), ids=WRONG)
def test_stays_wrong(server, tmp_path, trick, says):
    server.always['/f'] = trick
    with fails(says): fetch(remote(server), tmp_path, FAST)
    assert 'f' not in names(tmp_path)

@pytest.mark.parametrize('url', ['file:///etc/passwd', 'ftp://127.0.0.1/x', 'data:,x', '/f', '', 'http://', 'http://127.0.0.1:99999999/', 'http://127.0.0.1/a b', 'http://[', 'http://127.0.0.1/\u00e9'])
def test_bad_address(tmp_path, url):
    with fails('.'): fetch(Remote('f', (url,), 'a'*32), tmp_path, FAST)
    assert names(tmp_path)==[]

def test_nobody_there(tmp_path):
    with fails('refused', kind=Unreachable): fetch(Remote('f', ('http://127.0.0.1:9/f',), 'a'*32), tmp_path, FAST)

def test_endless_body_is_cut(server, tmp_path):
    with fails('does not fit'): fetch(remote(server, BIG[:1000]), tmp_path, FAST)
    assert sum(p.stat().st_size for p in tmp_path.iterdir())==0

def test_second_address(server, tmp_path):
    server.files['/g'] = BIG
    for trick in (202, 403, 404):
        server.always['/f'] = trick
        assert (
            fetch(
                Remote('f', (f'{server.url}/f', f'{server.url}/g'), md5(BIG), len(BIG)), tmp_path, FAST
            ).read_bytes()
            == BIG
        )
        (tmp_path/'f').unlink()

def test_redirect_to_a_storage_host_keeps_the_range(server, tmp_path):
    server.files['/store'], server.always['/f'] = BIG, ('redirect', f'{server.url}/store')
    server.tricks['/store'] = [('cut', 300_000)]
    assert fetch(remote(server), tmp_path, FAST).read_bytes()==BIG
    assert server.log==[('/f', None), ('/store', None), ('/f', 'bytes=300000-'), ('/store', 'bytes=300000-')]

# ---- names from the list

@pytest.mark.parametrize(
    'name',
    [
        '../x',
        'a/../../x',
        '/etc/x',
        'a//b',
        '',
        '.',
        '..',
        './a',
        '.bashrc',
        'a/.ssh/b',
        'a\\b',
        'C:x',
        'a\x00b',
        'a\nb',
        'a/',
        ' ',
        'x.part',
        'x.tag',
        'download.json',
        'a' * 300,
        '\ud800',
    ],
)
def test_names_cannot_leave(server, tmp_path, name):
    dest = tmp_path/'in'/'dest'
    with fails('has no place there'): fetch(remote(server, name=name), dest, FAST)
    server.files['/SHA256SUMS.txt'] = f'{sha(BIG)}  RECORDS\n'.encode()
    site(server, {'Diagnostics.xlsx': b'1', **({name: b'x'} if name else {})}) if name else None
    if name:
        with fails('has no place there'): download(dest, base=server.url, patience=FAST)
    assert [n for n in names(tmp_path) if not n.endswith('dest/download.json')]==[]

@pytest.mark.parametrize('kw', [dict(name=3), dict(digest='xyz'), dict(digest=None), dict(size=-1), dict(size='12')])
def test_nonsense_in_a_list(kw):
    with fails('no file one can check'): Remote(**dict(name='f', urls=(), digest='a'*32, size=1) | kw)

# ---- the lists

SIX = SOURCES['figshare'].expect
def site(s, files):
    "figshare's API with these files; those of the six that are missing are small"
    files, articles = {n: b'small' for n in SIX} | files, []
    for i,(n,data) in enumerate(files.items()):
        s.files[f'/files/{i}'] = data
        s.files[f'/articles/{i}/files'] = json.dumps(
            [
                dict(
                    id=i,
                    name=n,
                    size=len(data),
                    is_link_only=False,
                    download_url=f'{s.url}/files/{i}',
                    computed_md5=md5(data),
                    supplied_md5='',
                )
            ]
        ).encode()
        articles.append(dict(id=i, title=n))
    s.files['/collections/4560497/articles'] = json.dumps(articles).encode()
    return {n: f'/files/{i}' for i,n in enumerate(files)}

@pytest.fixture(scope='module')
def ecg():
    t = np.arange(5000)/500
    return Recording(np.stack([np.sin(7*t*(i+1)) for i in range(12)])*.5)

@pytest.fixture
def figshare(server, tmp_path_factory, ecg):
    made = tmp_path_factory.mktemp('published')
    with zipfile.ZipFile(made/'z', 'w') as z:
        for i in range(3): z.writestr(f'ECGData/MUSE_{i}.csv', to_csv_bytes(ecg))
    pd.DataFrame(
        dict(FileName=['MUSE_0', 'MUSE_9'], Rhythm=['SR', 'SB'], PatientAge=50, Gender='MALE')
    ).to_excel(made / 'd.xlsx', index=False)
    server.at = site(server, {'ECGData.zip': (made/'z').read_bytes(), 'Diagnostics.xlsx': (made/'d.xlsx').read_bytes()})
    return server

def get(s, dest, patience=FAST, **kw): return download(dest, base=s.url, patience=patience, progress=False, **kw)

def test_figshare_is_what_the_catalogue_reads(figshare, tmp_path):
    dest = tmp_path/'new'/'dest'
    got = get(figshare, dest, only='ECGData.zip,Diag*')
    assert set(got.was)=={'fetched'} and names(dest)==['Diagnostics.xlsx', 'ECGData.zip', 'download.json']
    cat = catalogue(dest)
    assert list(cat)==['MUSE_0', 'MUSE_1', 'MUSE_2'] and cat.missing==['MUSE_9'] and len(cat.read('MUSE_1').signal)==12

def test_second_call_asks_nobody(figshare, tmp_path):
    get(figshare, tmp_path/'d'); figshare.log.clear()
    assert (
        set(get(figshare, tmp_path / 'd').was) == {'here'}
        and set(get(figshare, tmp_path / 'd', verify=True).was) == {'here'}
        and set(get(figshare, tmp_path / 'd', only='ECG*').was) == {'here'}
    )
    assert figshare.log==[]

@pytest.mark.parametrize(
    'hurt',
    [lambda p: p.write_bytes(p.read_bytes()[:-1]), lambda p: p.unlink(), lambda p: p.write_bytes(b'')],
)
def test_lost_or_cut_file_comes_again(figshare, tmp_path, hurt):
    get(figshare, tmp_path/'d'); hurt(tmp_path/'d/ECGData.zip')
    got = get(figshare, tmp_path/'d')
    assert got.was.to_dict()['ECGData.zip']=='fetched' and (got.was=='here').sum()==5 and len(catalogue(tmp_path/'d'))==3

def test_verify_sees_one_bit(figshare, tmp_path):
    get(figshare, tmp_path/'d'); p = tmp_path/'d/ECGData.zip'
    b = bytearray(p.read_bytes()); b[100] ^= 1; p.write_bytes(b)
    assert (
        set(get(figshare, tmp_path / 'd').was) == {'here'}
        and get(figshare, tmp_path / 'd', verify=True).was['ECGData.zip'] == 'fetched'
        and p.read_bytes() == figshare.files[figshare.at['ECGData.zip']]
    )

@pytest.mark.parametrize(
    'state',
    [
        '',
        '{',
        '[]',
        '{"source": "figshare"}',
        '{"source": "figshare", "files": [["../x", [], "%s", 1]], "checked": {"../x": [1, "%s"]}}'
        % ('a' * 32, 'a' * 32),
        '\x00',
        None,
    ],
)
def test_lost_or_wrong_state(figshare, tmp_path, state):
    get(figshare, tmp_path/'d'); p = tmp_path/'d/download.json'
    p.unlink() if state is None else p.write_text(state)
    try: assert set(get(figshare, tmp_path/'d').was)=={'here'}
    except ECGError as e: assert 'has no place there' in str(e)

def test_files_of_others_stay(figshare, tmp_path):
    (tmp_path/'d').mkdir(); (tmp_path/'d/ECGData.zip').write_bytes(b'mine'); (tmp_path/'d/notes.txt').write_bytes(b'mine')
    with fails('1 of 6 files did not come', 'ECGData.zip: exists, but is not the published file'):
        get(figshare, tmp_path / 'd')
    assert (tmp_path / 'd/ECGData.zip').read_bytes() == (
        tmp_path / 'd/notes.txt'
    ).read_bytes() == b'mine' and len(names(tmp_path / 'd')) == 8

def test_files_saved_by_hand_are_taken(figshare, tmp_path):
    (tmp_path/'d').mkdir(); (tmp_path/'d/ECGData.zip').write_bytes(figshare.files[figshare.at['ECGData.zip']])
    assert get(figshare, tmp_path/'d').was.value_counts().to_dict()==dict(fetched=5, here=1)

def test_one_file_missing_others_come(figshare, tmp_path):
    figshare.always |= {figshare.at['RhythmNames.xlsx']: 404}
    with fails('1 of 6 files did not come', '404'): get(figshare, tmp_path/'d')
    assert len(names(tmp_path/'d'))==6 and len(catalogue(tmp_path/'d'))==3
    del figshare.always[figshare.at['RhythmNames.xlsx']]
    assert get(figshare, tmp_path/'d').was.value_counts().to_dict()==dict(here=5, fetched=1)

def test_no_network(tmp_path):
    for source, page in (
        ('figshare', 'doi.org/10.6084'),
        ('physionet', 'physionet.org/content/ecg-arrhythmia/1.0.0'),
    ):
        with fails('refused', page, f'ecg_check {tmp_path}/d', kind=Unreachable):
            download(tmp_path / 'd', source, base='http://127.0.0.1:9', patience=FAST)

LISTS = {
    'html': (b'<html>log in</html>', 'login'),
    'number': (b'3', 'login'),
    'null': (b'null', 'login'),
    'dict': (b'{"message": "x"}', 'login'),
    'empty': (b'[]', 'lacks ECGData.zip'),
    'no id': (b'[{}]', 'login'),
    'an id of text': (b'[{"id": "../x"}]', 'login'),
    'deep': (b'[' * 100_000, 'login'),
    'utf-16': ('[]'.encode('utf-16'), 'login|lacks'),
    'bytes': (b'\xff\xfe\x00', 'login'),
}
@pytest.mark.parametrize('body,says', LISTS.values(), ids=LISTS)
def test_wrong_list(server, tmp_path, body, says):
    server.files['/collections/4560497/articles'] = body
    with fails(says): get(server, tmp_path/'d')

def test_list_breaks_off_once(figshare, tmp_path):
    figshare.tricks['/collections/4560497/articles'] = [('cut', 10), 503]
    assert len(get(figshare, tmp_path/'d'))==6

def test_list_without_checksum_and_twins(figshare, tmp_path):
    a = json.loads(figshare.files['/articles/0/files'])
    figshare.files['/articles/0/files'] = json.dumps([a[0] | dict(computed_md5='')]).encode()
    with fails('no file one can check'): get(figshare, tmp_path/'d')
    figshare.files['/articles/0/files'] = json.dumps(a*2).encode()
    with fails('names a file twice'): get(figshare, tmp_path/'d')

def test_arguments(figshare, tmp_path):
    with fails("unknown source 'zenodo'; there are figshare, physionet"): download(tmp_path, 'zenodo')
    with fails('threads must be'): get(figshare, tmp_path, threads=0)
    with fails("none of 6 files matches '\\*.txt'; there are ECGData.zip"): get(figshare, tmp_path/'d', only='*.txt')
    get(figshare, tmp_path/'d')
    with fails('holds files from figshare'): download(tmp_path/'d', 'physionet', base=figshare.url)

# ---- PhysioNet: many small files

@pytest.fixture
def physionet(server, ecg, tmp_path):
    import wfdb
    names, folder = [f'JS{i:05}' for i in range(1, 31)], 'WFDBRecords/01/010'
    wfdb.wrsamp(
        'JS',
        500,
        ['mV'] * 12,
        list(LEADS),
        p_signal=ecg.signal.T.astype(float),
        fmt=['16'] * 12,
        comments=['Age: 50', 'Sex: Male', 'Dx: 426783006'],
        write_dir=str(tmp_path),
    )
    files = {
        f'{folder}/{n}{e}': (
            (tmp_path / f'JS{e}').read_bytes().replace(b'JS', n.encode())
            if e == '.hea'
            else (tmp_path / 'JS.dat').read_bytes()
        )
        for n in names
        for e in ('.hea', '.dat')
    }
    files |= {
        'RECORDS': f'{folder}/\n'.encode(),
        f'{folder}/RECORDS': '\n'.join(names).encode(),
        'a name, with blanks+.csv': b'x',
    }
    server.files |= {f'/{n.replace(" ", "%20").replace(",", "%2C").replace("+", "%2B")}': d for n,d in files.items()}
    server.files['/SHA256SUMS.txt'] = ''.join(f'{sha(d)} {n}\n' for n,d in files.items()).encode()
    for p in tmp_path.iterdir(): p.unlink()
    return server

def pn(s, dest, **kw): return get(s, dest, source='physionet', **kw)

def test_physionet(physionet, tmp_path):
    got = pn(physionet, tmp_path/'p')
    assert (
        len(got) == 64
        and set(got.was) == {'fetched'}
        and got.bytes['SHA256SUMS.txt'] == len(physionet.files['/SHA256SUMS.txt'])
    )
    cat = catalogue(tmp_path/'p')
    assert cat.kind=='physionet' and len(cat)==30 and not cat.missing and len(cat.read('JS00007').signal)==12
    assert subprocess.run(['sha256sum', '-c', '--quiet', 'SHA256SUMS.txt'], cwd=tmp_path/'p').returncode==0
    physionet.log.clear()
    assert set(pn(physionet, tmp_path/'p').was)=={'here'} and not physionet.log

def test_physionet_in_part(physionet, tmp_path):
    pn(physionet, tmp_path/'p', only='RECORDS,*/RECORDS,*1.hea,*1.dat')
    cat = catalogue(tmp_path/'p')
    assert list(cat)==['JS00001', 'JS00011', 'JS00021'] and len(cat.missing)==27

@pytest.mark.parametrize('threads', [1, 3, 20])
def test_physionet_through_a_storm(physionet, tmp_path, threads):
    rng = random.Random(threads)
    for p in physionet.files:
        physionet.tricks[p] = [
            rng.choice([('cut', 100), ('stall', 10), 503, 'corrupt', (429, '0'), 'whole', 'ok'])
            for _ in range(rng.randint(0, 2))
        ]
    physionet.tricks = {p: t for p,t in physionet.tricks.items() if t.count('corrupt')<2 and p!='/SHA256SUMS.txt'}
    patient = Patience(timeout=2, tries=8, pause=.005) # twenty threads share the processor with the server
    assert (
        len(pn(physionet, tmp_path / 'p', patience=patient, threads=threads)) == 64
        and set(pn(physionet, tmp_path / 'p', verify=True).was) == {'here'}
        and not [n for n in names(tmp_path / 'p') if '.part' in n]
    )

def test_many_missing_end_early(physionet, tmp_path):
    for p in physionet.files:
        if p.endswith(('.dat', '.hea')): physionet.always[p] = 404
    with fails('20 or more of 64 files did not come'): pn(physionet, tmp_path/'p', threads=1)

# ---- the disk

def test_disk_space_is_checked_first(figshare, tmp_path, monkeypatch):
    monkeypatch.setattr(D.shutil, 'disk_usage', lambda p: type('', (), dict(free=300)))
    figshare.log.clear()
    with fails('GB are still to come', 'make room'): get(figshare, tmp_path/'d')
    assert not [p for p,_ in figshare.log if p.startswith('/files')]

CALL = ("import sys; from ecg_arrhythmia.data.downloads import Patience, Remote, SOURCES, Unreachable, download, fetch; "
        "download(sys.argv[1], base=sys.argv[2], patience=Patience(.4, 3, .01), only=sys.argv[3], threads=2)")
def child(s, dest, only='*', before='', **kw):
    return subprocess.Popen(
        [sys.executable, '-c', before + CALL, str(dest), s.url, only],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | dict(OMP_NUM_THREADS='1'),
        **kw
    )

def test_full_disk(figshare, tmp_path):
    figshare.files[figshare.at['ECGData.zip']] = BIG; site(figshare, {'ECGData.zip': BIG})
    p = child(
        figshare,
        tmp_path / 'd',
        before='import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000));',
    )
    assert p.communicate(timeout=60)[1].splitlines()[-1].startswith(
        'ecg_arrhythmia.core.ECGError: '
    ) and 'ECGData.zip' not in names(tmp_path / 'd')
    assert get(figshare, tmp_path/'d').was['ECGData.zip']=='fetched'
    assert any(r for p,r in figshare.log if p=='/files/0') # it went on from the half file

@pytest.mark.skipif(os.geteuid()!=0, reason='only root can mount')
@pytest.mark.parametrize('how,says', [('size=400k', 'No space left|make room'), ('ro', 'Read-only file system')])
def test_small_and_read_only_disks(figshare, tmp_path, how, says, monkeypatch):
    site(figshare, {'ECGData.zip': BIG})
    (tmp_path/'m').mkdir()
    if subprocess.run(
        ['mount', '-t', 'tmpfs', '-o', how, 'tmpfs', tmp_path / 'm'], capture_output=True
    ).returncode:
        pytest.skip('no mounts here')
    try:
        with fails(says): get(figshare, tmp_path/'m', only='ECGData.zip')
        monkeypatch.setattr(D, '_check_room', lambda *a: None)
        with fails('cannot be written \\((No space left|Read-only)'): get(figshare, tmp_path/'m', only='ECGData.zip')
        assert 'ECGData.zip' not in names(tmp_path/'m')
    finally: subprocess.run(['umount', tmp_path/'m'], check=True)

@pytest.mark.parametrize(
    'make',
    [lambda p: p.write_text('x'), lambda p: (p.mkdir(), (p / 'ECGData.zip').mkdir())],
    ids=['the folder is a file', 'a folder bears the name'],
)
def test_things_in_the_way(figshare, tmp_path, make):
    make(tmp_path/'d')
    with fails('cannot be written|exists, but is not the published file'): get(figshare, tmp_path/'d', only='ECGData.zip')

# ---- interrupted

def wait_for(f, seconds=120):
    end = time.time()+seconds
    while not f():
        assert time.time()<end
        time.sleep(.02)

@pytest.mark.parametrize('sig', [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_killed_in_the_middle(figshare, tmp_path, sig):
    site(figshare, {'ECGData.zip': BIG})
    figshare.always['/files/0'] = ('slow', .1)
    p = child(figshare, tmp_path/'d', only='ECGData.zip')
    half = tmp_path/'d/ECGData.zip.part'
    wait_for(lambda: half.exists() and half.stat().st_size>100_000)
    p.send_signal(sig)
    p.communicate(timeout=120)
    assert p.returncode!=0 and 'ECGData.zip' not in names(tmp_path/'d')
    had = half.stat().st_size; figshare.always.clear(); figshare.log.clear()
    assert (
        get(figshare, tmp_path / 'd', only='ECGData.zip').was['ECGData.zip'] == 'fetched'
        and (tmp_path / 'd/ECGData.zip').read_bytes() == BIG
    )
    assert [r for q,r in figshare.log if q=='/files/0']==[f'bytes={had}-']

def test_ctrl_c_while_stalling(figshare, tmp_path):
    figshare.always[figshare.at['ECGData.zip']] = ('stall', 10)
    p = child(
        figshare,
        tmp_path / 'd',
        only='ECGData.zip',
        before='from ecg_arrhythmia.data import downloads as D; D.Patience.__init__.__defaults__ = (60., 6, 1., 300.);',
    )
    wait_for(lambda: (tmp_path/'d/ECGData.zip.part').exists())
    p.send_signal(signal.SIGINT)
    p.communicate(timeout=120)
    assert p.returncode!=0

def test_killed_again_and_again(physionet, tmp_path):
    "Whatever moment a process is killed at: no file under its name that is not right, and the next call ends"
    body = CALL.replace('base=sys.argv[2]', "'physionet', base=sys.argv[2]")
    for p in physionet.files: physionet.always[p] = ('slow', .01)
    for i in range(4):
        p = subprocess.Popen([sys.executable, '-c', body, str(tmp_path/'p'), physionet.url, '*'], stderr=subprocess.DEVNULL)
        n = len(names(tmp_path/'p')) if (tmp_path/'p').exists() else 0
        wait_for(lambda: p.poll() is not None or (tmp_path/'p').exists() and len(names(tmp_path/'p'))>min(n+5+i, 60))
        p.kill(); p.wait()
        for f in names(tmp_path / 'p'):
            if not f.endswith(('.part', '.tag', '.json')):
                assert (tmp_path / 'p' / f).read_bytes() == next(
                    d
                    for q, d in physionet.files.items()
                    if q == '/' + f.replace(' ', '%20').replace(',', '%2C').replace('+', '%2B')
                )
    physionet.always.clear()
    got = pn(physionet, tmp_path/'p')
    assert len(got)==64 and (got.was=='here').sum()>10 and not [n for n in names(tmp_path/'p') if '.part' in n]

def test_two_at_once(figshare, tmp_path):
    (tmp_path/'d').mkdir(); fd = os.open(tmp_path/'d', os.O_RDONLY); fcntl.flock(fd, fcntl.LOCK_EX)
    with fails('another process is downloading'): get(figshare, tmp_path/'d')
    os.close(fd)
    assert len(get(figshare, tmp_path/'d'))==6

# ---- the command

def test_command(figshare, tmp_path):
    (tmp_path/'ecg_download').write_text('from ecg_arrhythmia.commands.data import ecg_download\necg_download()')
    run = lambda *a: subprocess.run(
        [sys.executable, tmp_path / 'ecg_download', *map(str, a)],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | dict(OMP_NUM_THREADS='1'),
    )
    r = run(tmp_path/'d', '--base', figshare.url)
    assert (
        r.returncode == 0
        and '6 files fetched, 0 were here' in r.stdout
        and '10.6084/m9.figshare.c.4560497' in r.stdout
    ), r.stderr
    assert '0 files fetched, 6 were here' in run(tmp_path/'d', '--base', figshare.url, '--verify').stdout
    r = run(tmp_path/'d', '--source', 'zenodo')
    assert r.returncode==1 and r.stderr.strip()=="unknown source 'zenodo'; there are figshare, physionet"

# ---- what somebody mended

def test_a_mended_table_is_never_fetched_over(figshare, tmp_path):
    "Fetched, mended by hand, and asked for again: it stays, and is named; the others come"
    get(figshare, tmp_path/'d')
    table = tmp_path/'d/Diagnostics.xlsx'
    table.write_bytes(b'mended by hand')
    (tmp_path/'d/ECGData.zip').unlink()
    for kw in ({}, dict(verify=True)):
        with fails('Diagnostics.xlsx: has changed since it was fetched', 'mended', 'move it away'):
            get(figshare, tmp_path / 'd', **kw)
        assert table.read_bytes() == b'mended by hand'
    assert (tmp_path/'d/ECGData.zip').exists(), 'the others come'
    table.unlink()
    assert get(figshare, tmp_path/'d').was['Diagnostics.xlsx']=='fetched'

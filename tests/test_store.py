"Checks of encoding and store: bit for bit, never half a store, damage is found, safe in many processes"
import faulthandler, json, multiprocessing as mp, os, pickle, resource, signal, subprocess, sys, time, zlib
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import lmdb, numpy as np, pandas as pd, pytest

from ecg_arrhythmia import core as C
from ecg_arrhythmia.charts import packing as P, store_file as S
from ecg_arrhythmia.data.datasets import catalogue
from ecg_arrhythmia.charts.encoding import decode, encode, store_spec
from ecg_arrhythmia.charts.store import file_name
from ecg_arrhythmia.charts.store_file import STORE_FORMAT, FOOT, chart_key, write_end
from ecg_arrhythmia.data.rhythms import label
from ecg_arrhythmia.charts.layouts import LAYOUTS
from ecg_arrhythmia.charts.raster import rasterise
from ecg_arrhythmia.core import ECGError
from ecg_arrhythmia.data.recordings import Recording, as_charted
from ecg_arrhythmia.data.simulation import simulate
from ecg_arrhythmia.data.simulated_datasets import simulate_dataset
from ecg_arrhythmia.charts.store import ChartStore
from ecg_arrhythmia.data.tables import to_csv_bytes

def pack(cat, path, layouts='strips', size=None, style='leads', paper='bare', keep_aspect=False, **kw):
    "`packing.pack` with the specification spelt out"
    return P.pack(cat, path, store_spec(layouts, size, style, paper=paper, keep_aspect=keep_aspect), **kw)

KW = dict(layouts=['3x4+1', 'rhythm12'], size=64, style='grey', limits=None, progress=False)

def fails(*says): return pytest.raises(ECGError, match='(?s)'+'.*'.join(says))

@pytest.fixture(scope='module')
def cat(tmp_path_factory):
    return catalogue(simulate_dataset(tmp_path_factory.mktemp('sim')/'data', n=33, seed=1, workers=1, progress=False))

@pytest.fixture(scope='module')
def made(cat, tmp_path_factory): return pack(cat, tmp_path_factory.mktemp('store')/'charts.lmdb', **KW)

@pytest.fixture
def copy(made, tmp_path):
    f = tmp_path/'copy.lmdb'; f.write_bytes(made.path.read_bytes())
    return f

def files(path): return sorted(p.name for p in path.iterdir())

# --- bit for bit

@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('size', [(8, 8), (224, 224), (31, 97)])
def test_encoding_is_lossless(channels, size):
    rng = np.random.default_rng(0)
    for x in (rng.integers(0, 256, (channels, *size)), np.zeros((channels, *size)),
        np.full((channels, *size), 255), rng.integers(0, 2, (channels, *size))*255):
        x = x.astype(np.uint8)
        back = decode(encode(x), channels)
        assert (back==x).all() and back.shape==x.shape and back.dtype==np.uint8
        assert back.flags.c_contiguous and back.flags.writeable

@pytest.mark.parametrize('style', ['grey', 'paper', 'leads'])
def test_images_are_the_rasterised_ones(cat, tmp_path, style):
    some = cat.subset(list(cat)[:3])
    s = pack(some, tmp_path/'s.lmdb', ['6x2', 'rhythm12'], (48, 96), style, 'standard', keep_aspect=True, limits=None)
    for v in s.layouts:
        want = rasterise(np.stack([as_charted(cat.read(n)).signal for n in some]), v, (48, 96), style=style, paper='standard',
            keep_aspect=True).numpy()
        assert all((s.read(n, v)==w).all() for n,w in zip(some, want)) and s.read(list(some)[0], v).dtype==np.uint8
        assert (s.canvas(v)(as_charted(cat.read(list(some)[0])).signal[None])[0].numpy()==want[0]).all()
        assert len(s.boxes(v))==len(LAYOUTS[v].cells)
    assert s.channels==(1 if style=='grey' else 3) and s.size==(48, 96)

@pytest.mark.parametrize('style,limit', [('grey', 8000), ('paper', 40_000)])
def test_bytes_of_a_chart(cat, tmp_path, style, limit):
    "At most 8 kB for a grey 224 x 224 chart and 40 kB for a coloured one with grid"
    some = list(cat)[:8]
    s = pack(cat, tmp_path/'s.lmdb', '3x4+1', style=style, names=some, limits=None)
    assert max(len(s._get(chart_key(n, '3x4+1'))) for n in some) < limit

def test_workers_and_order_change_nothing(cat, made, tmp_path):
    s = pack(cat, tmp_path/'s.lmdb', **KW | dict(workers=2), names=list(cat)[::-1])
    assert s.digest==made.digest and not s.verify() and list(s)==sorted(cat)

def test_what_is_known_comes_along(cat, made):
    assert len(made)==33 and list(made)==list(cat) and made.origin=='simulated' and made.title==cat.title
    assert made.meta['skipped']=={} and made.meta['format']==STORE_FORMAT
    assert made.table.rhythm.equals(cat.table.rhythm) and (made.table.age==cat.table.age).all()
    assert 'file' not in made.table and made.table.patient.tolist()==list(cat)
    assert label(made).equals(label(cat)) and label(made, 'all').nunique()==11, 'one store serves 4 and 11 classes'
    assert 'SIM_000001' in made and 'x' not in made
    assert repr(made)=="ChartStore('charts.lmdb', 33 simulated recordings, 3x4+1 and rhythm12, 64 x 64 x 1)"

def test_names_and_empty_metadata_survive(tmp_path):
    (tmp_path/'ECGData').mkdir()
    for n in ('001', 'NA', '1e5', 'ä b', 'x'): (tmp_path/f'ECGData/{n}.csv').write_bytes(to_csv_bytes(simulate('SR')))
    pd.DataFrame(dict(FileName=['x', 'ä b'], Rhythm=['SR', 'SA'], PatientAge=[60, 130],
        Gender=['FEMALE', ''])).to_csv(tmp_path/'Diagnostics.csv', index=False)
    cat = catalogue(tmp_path); s = pack(cat, tmp_path/'s.lmdb', size=32)
    assert list(s)==list(cat) and s.table.rhythm.tolist()==cat.table.rhythm.tolist()
    assert s.table.sex.tolist()==cat.table.sex.tolist() and s.table.age.isna().sum()==4
    assert s.table.age['x']==60
    assert all(s.read(n).shape==(3, 32, 32) for n in s)

def test_png(made, tmp_path):
    from PIL import Image
    made.export_png(tmp_path, list(made)[:2])
    assert files(tmp_path)==['3x4+1', 'rhythm12'] and len(files(tmp_path/'3x4+1'))==2
    assert (np.asarray(Image.open(tmp_path/'rhythm12'/f'{list(made)[1]}.png'))==made.read(list(made)[1],
        'rhythm12')[0]).all()

def test_names_of_a_foreign_store_stay_in_the_folder(made, copy, tmp_path):
    "A store made by somebody else may name a recording, or a layout, as a path"
    for bad in ('../evil', '/etc/evil', 'a/b', 'a\\b', '..', '.', '', 'a\0b'):
        with fails('lead out of the folder'): file_name(bad)
    store = ChartStore(copy)
    with fails('lead out of the folder'): store.export_png(tmp_path/'png', ['../evil'])
    store.spec = store.spec | dict(layouts={'../out': store.spec['layouts']['3x4+1']})
    with fails('lead out of the folder'): store.export_png(tmp_path/'png', list(store)[:1])
    assert not (tmp_path/'png').exists() and not (tmp_path/'out').exists()

def test_a_level_is_not_drawn(tmp_path):
    "A recording with an offset in one lead, in all, and with none: the same charts, to the rounding of samples"
    folder = tmp_path/'d/ECGData'
    folder.mkdir(parents=True)
    plain = simulate('SR', 1)
    offsets = dict(a=np.zeros(12), b=np.full(12, 4.5), c=np.eye(12)[1]*-3)
    for name,offset in offsets.items():
        lifted = Recording(plain.signal + offset[:,None].astype(np.float32))
        (folder/f'{name}.csv').write_bytes(to_csv_bytes(lifted))
    pd.DataFrame(dict(FileName=list('abc'), Rhythm='SR')).to_csv(tmp_path/'d/Diagnostics.csv', index=False)
    s = pack(catalogue(tmp_path/'d'), tmp_path/'s.lmdb', ['3x4+1', 'strip'], (80, 200))
    assert list(s)==list('abc')
    for layout in s.layouts:
        want = s.read('a', layout).astype(int)
        for name in 'bc':
            assert (
                abs(s.read(name, layout) - want).mean() < 2
            ), 'samples are rounded to 4.88 µV after the offset'

# --- asked for and there

@pytest.mark.parametrize('kw,says', [(dict(layout='6x2'), 'holds the layouts 3x4.1, rhythm12, not 6x2.*--layouts'),
    (dict(size=224), '64 x 64, not 224.*--size'), (dict(size=(64, 65)), '--size'),
    (dict(style='leads'), 'another style than leads'), (dict(style='red'), 'unknown style')])
def test_another_store_than_asked_for(made, kw, says):
    ChartStore(made.path, 'rhythm12', 64, 'grey'); ChartStore(made.path, size=(64, 64))
    with fails(says): ChartStore(made.path, **kw)

def test_unknown_recording_or_layout(made):
    with fails("no recording 'x'"): made.read('x')
    with fails('not 6x2'): made.read(list(made)[0], '6x2')

@pytest.mark.parametrize('change,says', [(dict(layouts=['3x4+1']), 'layouts'),
    (dict(layouts=['rhythm12', '6x2']), 'layouts'), (dict(size=32), 'size'), (dict(style='leads'), 'style'),
    (dict(paper='half'), 'paper'), (dict(keep_aspect=True), 'keep_aspect')])
def test_pack_again_with_other_settings(cat, made, change, says):
    before = made.path.stat().st_mtime_ns
    assert pack(cat, made.path, **KW).digest==made.digest
    with fails(f'exists and differs in {says}', '--overwrite'): pack(cat, made.path, **KW | change)
    assert made.path.stat().st_mtime_ns==before

def test_pack_again_with_other_recordings(cat, made):
    with fails('differs in names'): pack(cat, made.path, names=list(cat)[:5], **KW)
    with fails('differs in recordings'): pack(cat.subset(list(cat)[:5]), made.path, **KW)

@pytest.fixture
def folder(tmp_path):
    "A folder of three recordings, the last of them flat in a lead"
    (tmp_path/'d/ECGData').mkdir(parents=True)
    for k,n in enumerate('abc'):
        x = simulate('SR', k).signal.copy()
        if n=='c': x[3] = 0
        (tmp_path/f'd/ECGData/{n}.csv').write_bytes(to_csv_bytes(Recording(x)))
    pd.DataFrame(dict(FileName=list('abc'), Rhythm=['SR', 'SB', 'SR'])).to_csv(tmp_path/'d/Diagnostics.csv', index=False)
    return tmp_path/'d'

def swap_digit(file):
    "Change a digit of a sample, so that the size of the file stays"
    size = file.stat().st_size
    lines = file.read_bytes().split(b'\n')
    cells = lines[1000].split(b',')
    at = next(i for i,c in enumerate(cells[0]) if c in b'12345678')
    cells[0] = cells[0][:at] + b'%d' % (9-int(cells[0][at:at+1])) + cells[0][at+1:]
    lines[1000] = b','.join(cells)
    file.write_bytes(b'\n'.join(lines))
    assert file.stat().st_size==size

def test_pack_again_counts_content(folder, tmp_path):
    "Same sizes and other samples are another store; a touched folder is the same; corrected labels are another"
    path, kw = tmp_path/'s.lmdb', dict(size=32, limits='default')
    first = pack(catalogue(folder), path, **kw)
    assert list(first)==['a', 'b'] and first.table.samples.is_unique and len(first.table.samples['a'])==16
    os.utime(folder/'ECGData/a.csv', (1, 1))
    assert pack(catalogue(folder), path, **kw).digest==first.digest
    swap_digit(folder/'ECGData/b.csv')
    with fails('differs in (samples|recordings)'): pack(catalogue(folder), path, **kw)
    again = pack(catalogue(folder), path, **kw, overwrite=True)
    assert again.table.samples['a']==first.table.samples['a'] and again.table.samples['b']!=first.table.samples['b']
    swap_digit(folder/'ECGData/c.csv')
    with fails('differs in (samples|recordings)'): pack(catalogue(folder), path, **kw)
    pack(catalogue(folder), path, **kw, overwrite=True)
    corrected = (folder/'Diagnostics.csv').read_text().replace('b,SB', 'b,SR')
    (folder/'Diagnostics.csv').write_text(corrected)
    with fails('differs in (labels|recordings)'): pack(catalogue(folder), path, **kw)
    assert pack(catalogue(folder), path, **kw, overwrite=True).table.rhythm['b']=='SR'

def test_same_samples_have_one_digest_under_any_name(folder, tmp_path):
    (folder/'ECGData/z.csv').write_bytes((folder/'ECGData/a.csv').read_bytes())
    s = pack(catalogue(folder), tmp_path/'s.lmdb', size=32)
    assert s.table.samples['a']==s.table.samples['z']!=s.table.samples['b']

def test_overwrite(cat, copy):
    s = pack(cat, copy, ['6x2'], 32, names=list(cat)[:2], limits=None, overwrite=True)
    assert len(ChartStore(copy))==len(s)==2 and s.layouts==('6x2',) and files(copy.parent)==['copy.lmdb']

@pytest.mark.parametrize('kw,says', [(dict(on_bad='ignore'), "'skip' or 'stop'"),
    (dict(names=['a', 'b']), 'no recording a, b'), (dict(names=[]), 'no recordings to pack'),
    (dict(layouts=['3x5']), "unknown layout '3x5'"), (dict(layouts=['6x2', '6x2']), 'named twice'),
    (dict(style='red'), 'unknown style'), (dict(paper='A4'), 'unknown paper'), (dict(size=0), 'at least 8'),
    (dict(limits='strict'), "unknown limits 'strict'.*default, study")])
def test_wrong_arguments(cat, tmp_path, kw, says):
    with fails(says): pack(cat, tmp_path/'s.lmdb', **dict(size=64) | kw)
    assert not (tmp_path/'s.lmdb').exists()

def test_name_too_long(tmp_path):
    with fails('too long for the store'): chart_key('x'*600, '6x2')

def test_name_given_twice(cat, tmp_path):
    n = list(cat)
    try: s = pack(cat, tmp_path/'s.lmdb', names=[n[0], n[0], n[1]], size=32, limits=None)
    except ECGError as e: assert n[0] in str(e)
    else: assert len(s)==2==s.meta['recordings'] and s.table.index.is_unique

# --- bad recordings

@pytest.fixture
def mixed(tmp_path):
    (tmp_path/'d/ECGData').mkdir(parents=True)
    good, x = to_csv_bytes(simulate('SR', 1)), simulate('SR', 1).signal.copy()
    x[3] = 0
    for n,data in dict(a=good, b=b'', c=to_csv_bytes(Recording(x)), d=good.replace(b'\n', b'\nabc', 5), e=good).items():
        (tmp_path/f'd/ECGData/{n}.csv').write_bytes(data)
    pd.DataFrame(dict(FileName=list('abcde'), Rhythm='SR')).to_csv(tmp_path/'d/Diagnostics.csv', index=False)
    return catalogue(tmp_path/'d')

def test_bad_recordings_are_skipped_and_named(mixed, tmp_path):
    s = pack(mixed, tmp_path/'s.lmdb', size=32)
    assert list(s)==['a', 'e'] and s.meta['skipped'].keys()==set('bcd') and not s.verify()
    assert 'empty' in s.meta['skipped']['b'] and s.meta['skipped']['c']=='flat, zero_run, amplitude'
    assert 'abc' in s.meta['skipped']['d']
    with fails("no recording 'c'", 'skipped: flat'): s.read('c')
    assert list(pack(mixed, tmp_path/'n.lmdb', size=32, limits=None))==['a', 'c', 'e']
    assert list(pack(mixed, tmp_path/'s.lmdb', size=32))==['a', 'e']

def test_stop(mixed, tmp_path):
    with fails('b: .*empty', 'c: flat', 'd: .*abc', 'mend or leave out'):
        pack(mixed, tmp_path/'s.lmdb', size=32, on_bad='stop')
    assert not (tmp_path/'s.lmdb').exists()
    with fails('no store', 'begun and not finished'): ChartStore(tmp_path/'s.lmdb')
    assert list(pack(mixed, tmp_path/'s.lmdb', size=32, on_bad='stop', names=['a', 'e']))==['a', 'e']
    assert files(tmp_path)==['d', 's.lmdb']

def test_other_limits_are_another_store(mixed, tmp_path):
    pack(mixed, tmp_path/'s.lmdb', size=32)
    with fails('differs in limits'): pack(mixed, tmp_path/'s.lmdb', size=32, limits=None)

def test_nothing_left_to_pack(mixed, tmp_path):
    with fails('b: .*empty'): pack(mixed, tmp_path/'s.lmdb', names=['b', 'd'], size=32)
    assert not (tmp_path/'s.lmdb').exists()

# --- damage

def test_verify_finds_every_flipped_byte(made, copy):
    "Flips in the bytes of charts, one at a time: the chart is named"
    whole, rng = made.path.read_bytes(), np.random.default_rng(0)
    views = [(n, v) for n in made for v in made.layouts]
    assert made.verify()==[]
    for i in rng.permutation(len(views))[:8]:
        data = bytes(made._get(chart_key(*views[i])))
        for _ in range(2):
            copy.write_bytes(flipped(whole, data, rng.integers(len(data)), 1<<rng.integers(8)))
            assert ' '.join(views[i]) in (found := ChartStore(copy).verify())
            assert all(made._get(v.replace(' ', '\0').encode())==data for v in found)

def flipped(whole, data, at, bit):
    "The file with a bit of a value changed, in every copy of it: old pages may hold more"
    bad = bytearray(data); bad[at] ^= bit
    assert data in whole
    return whole.replace(data, bytes(bad))

def looked_at(path):
    "What opening and verifying a store says; '' if all is well"
    try: return '; '.join(ChartStore(path).verify(progress=False))
    except ECGError as e: assert str(path) in str(e); return str(e)

def flips(whole, at, copy, rng):
    "What is said of a copy with a bit changed at each place; looking is done in another process, which must not crash"
    with ProcessPoolExecutor(1) as pool:
        for i in at:
            bad = bytearray(whole); bad[i] ^= 1<<rng.integers(8)
            copy.write_bytes(bad)
            yield i, pool.submit(looked_at, copy).result(60)

def test_flips_of_what_is_not_a_page_keep_a_store_shut(made, copy):
    "Texts and foot at the end, and the two pages that say where all others are: an error when the store is opened"
    whole, rng = made.path.read_bytes(), np.random.default_rng(1)
    foot, texts = range(len(whole)-FOOT.size, len(whole)), range(made.meta['pages'], len(whole))
    for i,said in flips(whole, [*foot, *rng.choice(texts, 60), *rng.integers(0, made.meta['head'][0], 60)], copy, rng):
        assert 'copy.lmdb: ' in said and 'make it again' in said, i

@pytest.mark.parametrize('n', [12, pytest.param(1000, marks=pytest.mark.slow)])
def test_verify_finds_a_flip_anywhere(made, copy, n):
    "In charts, in the pages that lead to them, in free pages and padding"
    whole, rng = made.path.read_bytes(), np.random.default_rng(n)
    missed = [i for i,said in flips(whole, rng.integers(0, len(whole), n), copy, rng) if not said]
    assert not missed and looked_at(made.path)==''

def test_more_damage_than_one_flip(made, copy):
    "Pages swapped, zeroed or full of noise, bytes added or lost at the end"
    whole, rng, pages = made.path.read_bytes(), np.random.default_rng(2), made.meta['pages']//4096
    noise = lambda b, i: b[:4096*i] + rng.bytes(4096) + b[4096*i+4096:]
    swap = (
        lambda b, i, j: b[: 4096 * i]
        + b[4096 * j : 4096 * j + 4096]
        + b[4096 * i + 4096 : 4096 * j]
        + b[4096 * i : 4096 * i + 4096]
        + b[4096 * j + 4096 :]
    )
    cases = [noise(whole, i) for i in rng.integers(2, pages, 8)] + [swap(whole,
        *sorted(rng.choice(range(2, pages), 2, replace=False))) for _ in range(4)]
    cases += [whole+b'x', whole[:-1], b'x'+whole, whole[:8192]+bytes(len(whole)-8192),
        whole[:made.meta['pages']]+whole[-FOOT.size:], whole+whole]
    with ProcessPoolExecutor(1) as pool:
        for i,data in enumerate(cases):
            copy.write_bytes(data)
            assert pool.submit(looked_at, copy).result(60), i

def test_damaged_chart_is_not_read(made, copy):
    "What cannot be a chart is an error with the name of the recording"
    data, name = made._get(chart_key(list(made)[5], '3x4+1')), list(made)[5]
    for at in (0, 9, 13): # the container's own marks
        copy.write_bytes(flipped(made.path.read_bytes(), data, at, 64))
        with fails(f'the chart {name} 3x4.1 is damaged'): ChartStore(copy).read(name, '3x4+1')

@pytest.mark.parametrize('share', [0, 100/1e6, 5000/1e6, .3, .9, .999])
def test_cut_short(made, copy, share):
    whole = made.path.read_bytes()
    copy.write_bytes(whole[:int(len(whole)*share)])
    with fails('copy.lmdb', 'not a chart store, or one that is damaged, cut short', 'make it again'): ChartStore(copy)

@pytest.mark.parametrize('data', [b'hello', bytes(10_000), b'PK\x03\x04'+b'x'*9000, os.urandom(100_000)])
def test_not_a_store(tmp_path, data):
    (tmp_path/'x.lmdb').write_bytes(data)
    with fails('x.lmdb: not a chart store'): ChartStore(tmp_path/'x.lmdb')

def lmdb_of(path, **items):
    S._open_files.clear()
    with lmdb.open(str(path), subdir=False, lock=False) as env, env.begin(write=True) as txn:
        for k,v in (items or dict(other=b'1')).items(): txn.put(b'\0'+k.encode(), v)
    return path

def with_end(path, meta):
    write_end(path, [meta, '', '{}'], path.stat().st_size)
    return path

def test_another_lmdb(tmp_path):
    with fails('not a chart store'): ChartStore(lmdb_of(tmp_path/'x.lmdb', other=b'1'))
    for i,meta in enumerate(('{}', '[]', '{"format": 3}', '3', '\xff', '{"format": "new"}')):
        with fails(f'y{i}.lmdb', 'not a chart store'): ChartStore(with_end(lmdb_of(tmp_path/f'y{i}.lmdb'), meta))
    old = lmdb_of(tmp_path/'old.lmdb', meta=b'{"format": 1}')
    with fails('old.lmdb', 'of an old format', 'make it again'): ChartStore(old)
    with fails('no store at'): ChartStore(tmp_path)
    with fails('no store at', 'ecg_pack'): ChartStore(tmp_path/'none.lmdb')

def test_store_with_levels_is_refused(made, copy):
    "A store of before levels were removed: an error that says what to do; so is its specification, as a run keeps it"
    meta = made.meta | dict(format=2, version='0.0.1')
    with fails('store format 2', 'absolute level of each lead', 'make it again'):
        ChartStore(with_end(lmdb_of(copy.with_name('old.lmdb')), json.dumps(meta)))
    with fails('absolute level of each lead', 'train the model again'):
        P.get_spec({k: v for k,v in made.spec.items() if k != 'level'})

def test_newer_format(made, copy):
    for i,meta in enumerate((made.meta | dict(format=STORE_FORMAT+1, version='9.9'),
        dict(format=STORE_FORMAT+1, version='9.9', entirely='different'))):
        with fails('version 9.9', 'Update the package'):
            ChartStore(with_end(lmdb_of(copy.with_name(f'{i}.lmdb')), json.dumps(meta)))

# --- killed

def pack_and_die(cat, path, commits, where, kw):
    "Pack, and be killed after so many commits: before the next transaction, in it, or at the last rename"
    put, count = S.put_pages, [0]
    die = lambda *a: os.kill(os.getpid(), signal.SIGKILL)
    def counting(env, items):
        if count[0]==commits and where=='before': die()
        if count[0]==commits and where=='in':
            txn = env.begin(write=True)
            for k,v in list(items)[:5]: txn.put(k, v)
            die()
        put(env, items); count[0] += 1
    S.put_pages = P.put_pages = counting
    if where=='rename': os.replace = die
    if where=='end':
        S.write_end = lambda path, texts, at: (open(path, 'r+b').seek(at),
            open(path, 'ab').write(os.urandom(20_000)), die())
    pack(cat, path, **kw)

def same(meta):
    # how pages lie depends on the order of commits
    return {k: v for k,v in meta.items() if k not in ('pages', 'sha256', 'head')}

def killed(*args):
    p = mp.get_context('fork').Process(target=pack_and_die, args=args)
    p.start(); p.join(60)
    assert p.exitcode==-signal.SIGKILL

# 0: the name of the build, 1-3: 33 recordings; then the end of the file
@pytest.mark.parametrize('commits,where', [(0, 'before'), (1, 'before'), (1, 'in'), (3, 'before'), (3, 'in'),
    (9, 'end'), (9, 'rename')])
def test_killed_while_packing(cat, made, tmp_path, commits, where):
    path = tmp_path/'s.lmdb'
    killed(cat, path, commits, where, KW)
    assert not path.exists() and (tmp_path/'s.lmdb.partial').exists()
    with fails('no store', 'a build was begun and not finished', 'ecg_pack'): ChartStore(path)
    drawn, draw = [], P.draw_some
    P.draw_some = lambda *a: drawn.extend(a[-1]) or draw(*a)
    try: s = pack(cat, path, **KW)
    finally: P.draw_some = draw
    assert s.digest==made.digest and not s.verify() and same(s.meta)==same(made.meta) and files(tmp_path)==['s.lmdb']
    assert len(drawn)=={0: 33, 1: 33, 3: 1, 9: 0}[commits], 'what was committed is not drawn again'

def test_killed_while_replacing(cat, made, copy):
    "The old store stays whole until the new one is"
    killed(cat, copy, 2, 'in', KW | dict(size=32, overwrite=True))
    assert ChartStore(copy).digest==made.digest and not ChartStore(copy).verify()
    s = pack(cat, copy, **KW | dict(size=32, overwrite=True))
    assert s.size==(32, 32) and len(s)==33 and not s.verify() and files(copy.parent)==['copy.lmdb']

@pytest.mark.parametrize('change', [dict(size=48), dict(layouts=['6x2', 'rhythm12']), dict(limits='default')])
def test_a_partial_of_another_build_is_not_used(cat, made, tmp_path, change):
    killed(cat, tmp_path/'s.lmdb', 3, 'before', KW)
    a, b = pack(cat, tmp_path/'s.lmdb', **KW | change), pack(cat, tmp_path/'t.lmdb', **KW | change)
    assert a.digest==b.digest and not a.verify() and a.spec==b.spec

def pack_quietly(cat, path): faulthandler.disable(); pack(cat, path, **KW)

@pytest.mark.parametrize('damage', [lambda b: b'rubbish'*3000, lambda b: b'', lambda b: b[:9000],
    lambda b: b[:len(b)//2]])
def test_damaged_partial(cat, made, tmp_path, damage):
    "A partial store that cannot be used is begun anew"
    killed(cat, tmp_path/'s.lmdb', 3, 'before', KW)
    f = tmp_path/'s.lmdb.partial'; f.write_bytes(damage(f.read_bytes()))
    # reading behind the end of a file would kill this process
    p = mp.get_context('fork').Process(target=pack_quietly, args=(cat, tmp_path/'s.lmdb'))
    p.start(); p.join(60)
    assert p.exitcode==0 and ChartStore(tmp_path/'s.lmdb').digest==made.digest

SLOW = """
import sys, time
from ecg_arrhythmia.charts import packing as P, store_file as S
from ecg_arrhythmia.charts.encoding import store_spec
from ecg_arrhythmia.data.datasets import catalogue
put = S.put_pages
def slow(env, items):
    put(env, items)
    open(sys.argv[3], 'a').write('.')
    if items[0][0] != S._BUILD: time.sleep(60)
S.put_pages = P.put_pages = slow
spec = store_spec(['3x4+1', 'rhythm12'], 64, 'grey')
P.pack(catalogue(sys.argv[1]), sys.argv[2], spec, limits=None, workers=2)
"""

def running(group):
    "Processes of a group that are not zombies"
    stat = [p.read_text().rpartition(')')[2].split() for p in Path('/proc').glob('[0-9]*/stat')]
    return [o for o in stat if o[2]==str(group) and o[0]!='Z']

@pytest.mark.skipif(not Path('/proc/self/stat').exists(), reason='looks for processes in /proc')
def test_killed_with_workers(cat, made, tmp_path):
    "Workers of a killed build end, and do not keep its lock"
    path, seen = tmp_path/'s.lmdb', tmp_path/'seen'
    p = subprocess.Popen([sys.executable, '-c', SLOW, str(cat.path.parent), str(path), str(seen)],
        start_new_session=True)
    try:
        while not seen.exists() or len(seen.read_text())<2: time.sleep(.05); assert p.poll() is None
        assert len(running(p.pid))>=3
        os.kill(p.pid, signal.SIGKILL); p.wait()
        end = time.time()+60 # they end at once; a slow machine may take its time
        while running(p.pid) and time.time()<end: time.sleep(.1)
        left = len(running(p.pid))
        s = pack(cat, path, **KW)
        assert s.digest==made.digest and not s.verify() and not left, f'{left} workers are left'
    finally:
        try: os.killpg(p.pid, signal.SIGKILL)
        except ProcessLookupError: pass

def pack_in_group(cat, path, kw):
    os.setsid()
    pack(cat, path, **kw)

@pytest.mark.slow
@pytest.mark.parametrize('old', [False, True], ids=['nothing there', 'a store there'])
@pytest.mark.parametrize('workers', [0, 2])
def test_killed_at_random_moments(cat, made, tmp_path, workers, old):
    "Fifty times: the old store or none is left, whole; and what was begun is finished, to the same digest"
    path, rng, kw, whole = tmp_path/'s.lmdb', np.random.default_rng(workers), KW | dict(workers=workers,
        overwrite=True), []
    was = pack(cat, tmp_path/'old.lmdb', **KW | dict(size=32)) if old else None
    start = time.time(); pack(cat, tmp_path/'timed.lmdb', **kw); takes = time.time()-start
    for _ in range(50):
        if was and not path.exists(): path.write_bytes(was.path.read_bytes())
        p = mp.get_context('fork').Process(target=pack_in_group, args=(cat, path, kw)); p.start()
        p.join(rng.uniform(0, takes)); p.kill(); p.join()
        whole.append(False)
        if path.exists():
            s = ChartStore(path)
            whole[-1] = s.digest==made.digest
            assert not s.verify() and (whole[-1] or was and s.digest==was.digest)
            if whole[-1]: path.unlink()
        else: assert not was
    s = pack(cat, path, **kw)
    assert s.digest==made.digest and not s.verify() and whole.count(False) >= 25
    assert set(files(tmp_path)) == {'s.lmdb', 'timed.lmdb'} | ({'old.lmdb'} if old else set())

def pack_slowly(cat, path, begun, go_on):
    put = S.put_pages
    def slow(env, items): put(env, items); begun.set(); go_on.wait(600)
    S.put_pages = P.put_pages = slow
    pack(cat, path, **KW)

def test_two_builds_at_once(cat, made, tmp_path):
    ctx, path = mp.get_context('fork'), tmp_path/'s.lmdb'
    begun, go_on = ctx.Event(), ctx.Event()
    p = ctx.Process(target=pack_slowly, args=(cat, path, begun, go_on)); p.start()
    assert begun.wait(600)
    with fails('s.lmdb: another process is building this store', 'wait'): pack(cat, path, **KW)
    go_on.set(); p.join(600)
    assert p.exitcode==0 and ChartStore(path).digest==made.digest and files(tmp_path)==['s.lmdb']

def test_two_threads_build_at_once(cat, made, tmp_path):
    def one(i):
        try: return pack(cat, tmp_path/'t.lmdb', **KW).digest
        except ECGError as e: return str(e)
    with ThreadPoolExecutor(2) as ex: got = list(ex.map(one, range(2)))
    assert made.digest in got and all(g==made.digest or 'building' in g for g in got)
    assert not ChartStore(tmp_path/'t.lmdb').verify()

# --- where one cannot write

def test_target_cannot_be_written(cat, tmp_path):
    (tmp_path/'file').write_text('')
    for path in (tmp_path/'file/s.lmdb', tmp_path/'file/deep/s.lmdb'):
        with fails('file'): pack(cat, path, **KW)

def pack_in_little_space(cat, path, q):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
    try: pack(cat, path, **KW)
    except ECGError as e: q.put(str(e))
    except BaseException as e: q.put(f'{type(e)}: {e}')

def test_disk_full(cat, made, tmp_path):
    ctx = mp.get_context('fork'); q = ctx.Queue()
    p = ctx.Process(target=pack_in_little_space, args=(cat, tmp_path/'s.lmdb', q)); p.start()
    said = q.get(timeout=600); p.join()
    assert not (tmp_path/'s.lmdb').exists() and pack(cat, tmp_path/'s.lmdb', **KW).digest==made.digest
    assert (
        's.lmdb' in said
        and 'nothing' in said.lower()
        or 'make room' in said.lower()
        and not said.startswith('<class')
    ), said

@pytest.fixture
def mount(tmp_path):
    "Mounts a tmpfs with some options; gone at the end"
    at = tmp_path/'mnt'; at.mkdir()
    def do(*options):
        return subprocess.run(['mount', '-t', 'tmpfs', '-o', ','.join(options), 'tmpfs', str(at)],
            capture_output=True, text=True)
    if (r := do('size=16k')).returncode: pytest.skip(f'cannot mount a file system here: {r.stderr.strip()}')
    yield at, lambda *options: do('remount', *options).check_returncode()
    S._drop_inherited()
    subprocess.run(['umount', '-l', str(at)])

@pytest.mark.parametrize('old', [False, True], ids=['nothing there', 'a store there'])
def test_disk_full_to_the_brim(cat, made, mount, old):
    "Whatever the room: an error that says so, and the old store or none; with room again, the same digest"
    at, change = mount
    path, kw, said = at/'s.lmdb', KW | dict(overwrite=True), []
    change('size=1m')
    was = pack(cat, path, **KW | dict(size=32)) if old else None
    for pages in range(1, 200, 3):
        change(f'size={4*pages + (path.stat().st_size//1024 if old else 0)}k')
        try: s = pack(cat, path, **kw)
        except ECGError as e: said.append(str(e))
        else: break
        assert 's.lmdb' in said[-1] and ('No space' in said[-1] or 'disk full' in said[-1]), said[-1]
        assert path.exists()==old and (not old or ChartStore(path).digest==was.digest and not ChartStore(path).verify())
    assert len(said) > 5 and s.digest==made.digest and not s.verify() and files(at)==['s.lmdb']

def test_read_only_folder(cat, made, mount):
    "A store in it can be read, and opened by asking for the same again; another cannot be made"
    at, change = mount
    change('size=4m')
    path = at/'s.lmdb'; path.write_bytes(made.path.read_bytes())
    change('ro')
    assert not ChartStore(path).verify() and read_all(ChartStore(path))==read_all(made)
    assert pack(cat, path, **KW).digest==made.digest
    for f,kw in ((at/'t.lmdb', {}), (at/'deep/t.lmdb', {}), (path, dict(size=32, overwrite=True))):
        with fails(f.name, 'cannot be written', 'Read-only'): pack(cat, f, **KW | kw)
    assert files(at)==['s.lmdb'] and not ChartStore(path).verify()

def pack_and_say(cat, path, kw):
    try: return pack(cat, path, **kw).digest
    except ECGError as e: return str(e)

def test_many_builds_of_one_place(cat, made, tmp_path):
    "Some wait their turn with an error, none spoils it; one that finds the store made takes it as it is"
    for _ in range(3):
        path = tmp_path/'s.lmdb'
        with ProcessPoolExecutor(4) as pool:
            got = [f.result(60) for f in [pool.submit(pack_and_say, cat, path,
                KW | dict(size=size)) for size in (64, 64, 48, 64, 48, 64)]]
        s = ChartStore(path)
        assert not s.verify() and s.digest in got and files(tmp_path)==['s.lmdb']
        assert all(g==s.digest or 'another process is building' in g or 'exists and differs in size' in g for g in got), got
        path.unlink()

def test_a_build_that_finds_it_made_meanwhile(cat, made, tmp_path, monkeypatch):
    "Between looking and locking, another made it"
    path, lock = tmp_path/'s.lmdb', C.locked
    monkeypatch.setattr(C, 'locked', lambda p: path.write_bytes(made.path.read_bytes()) and lock(p))
    monkeypatch.setattr(P, 'fill', None)
    assert pack(cat, path, **KW).digest==made.digest
    with fails('differs in size'): pack(cat, path, **KW | dict(size=48))

# --- readers

def read_all(store): return zlib.crc32(b''.join(store.read(n, v).tobytes() for n in store for v in store.layouts))
def read_or_say(store):
    try: return read_all(store)
    except ECGError as e: return str(e)

@pytest.mark.parametrize('how', ['fork', 'spawn'])
def test_readers_in_processes(made, how):
    want = read_all(made)                                   # open here, too, when they start
    with mp.get_context(how).Pool(2) as pool: assert pool.map(read_all, [made]*4)==[want]*4
    assert read_all(made)==want

def test_readers_in_threads(made):
    with ThreadPoolExecutor(8) as ex: assert len(set(ex.map(read_all, [ChartStore(made.path) for _ in range(16)])))==1

def test_pickle(made):
    again = pickle.loads(pickle.dumps(made))
    assert read_all(again)==read_all(made) and again.table.equals(made.table) and len(pickle.dumps(made))<60_000

def test_loaders_with_workers(made):
    "fastai's workers read the same images"
    import torch
    from ecg_arrhythmia.training.loaders import Feed, dataloaders
    from ecg_arrhythmia.training.recipes import Config
    y, n = label(made), list(made)
    def batches(**kw):
        dls = dataloaders(made, n[:16], n[16:], y, config=Config(batch_size=8), feed=Feed(**kw), device='cpu')
        return [b[0].as_subclass(torch.Tensor) for b in dls.valid]
    want = batches(in_memory=True)
    for kw in (dict(in_memory=False), dict(in_memory=False, workers=2)):
        assert all(torch.equal(a, b) for a,b in zip(batches(**kw), want, strict=True))

def test_deleted_under_a_reader(copy):
    a, want = ChartStore(copy), read_all(ChartStore(copy))
    copy.unlink()
    assert read_or_say(a)==want, 'who has it open reads on'
    with mp.get_context('fork').Pool(1) as pool: assert 'copy.lmdb: the store is gone' in pool.apply(read_or_say, (a,))
    with fails('no store'): ChartStore(copy)

def test_replaced_under_a_reader(cat, copy):
    a, before = ChartStore(copy), read_all(ChartStore(copy))
    pack(cat, copy, **KW | dict(style='leads', overwrite=True))
    b = ChartStore(copy)
    for _ in range(2): assert 'was replaced after it was opened' in read_or_say(a), 'one file at a time'
    assert read_all(b)!=before and b.channels==3
    with mp.get_context('fork').Pool(1) as pool:
        assert 'replaced after it was opened; open it again' in pool.apply(read_or_say, (a,))
        assert pool.apply(read_or_say, (b,))==read_all(b)

def read_while(path, data):
    a = ChartStore(path); before = read_or_say(a)
    if data is None: os.replace(path.with_name('new.lmdb'), path)
    else: path.write_bytes(data)
    return before, read_or_say(a), a.verify() if data is None else None

@pytest.mark.parametrize('share', [0, .1, .5, 1])
def test_overwritten_under_a_reader(made, copy, share):
    "A copy in place cuts the file short for a moment, or for good: an error, no bus error"
    data = made.path.read_bytes()
    time.sleep(.02) # a file's time has grains
    with ProcessPoolExecutor(1) as pool:
        before, after, _ = pool.submit(read_while, copy, data[:int(len(data)*share)]).result(60)
    assert before==read_all(made) and 'copy.lmdb: the store was overwritten after it was opened' in after

def test_replaced_by_rename_under_a_reader(cat, made, copy):
    "Who has it open reads on; `verify` says what it cannot do"
    pack(cat, copy.with_name('new.lmdb'), **KW | dict(size=32))
    with ProcessPoolExecutor(1) as pool: before, after, said = pool.submit(read_while, copy, None).result(60)
    assert before==after==read_all(made) and 'the store was replaced' in said[0]

def test_one_file_by_several_paths(copy, monkeypatch, tmp_path):
    "Relative, absolute and through a link, in one process"
    monkeypatch.chdir(copy.parent)
    a = ChartStore(copy.name)
    (tmp_path/'deep').mkdir()
    (tmp_path/'link.lmdb').symlink_to(copy)
    want = read_all(a)
    for other in (copy, f'deep/../{copy.name}', tmp_path/'link.lmdb'):
        assert read_all(ChartStore(other))==want==read_all(a)

def test_a_store_is_opened_by_another_name(copy):
    "Renamed or linked while it is open: LMDB opens a file once a process"
    a = ChartStore(copy)
    want = read_all(a)
    copy.rename(copy.with_name('moved.lmdb'))
    moved = ChartStore(copy.with_name('moved.lmdb'))
    assert read_all(moved)==want
    with fails('the store is gone'): a.read(next(iter(a)))
    os.link(moved.path, copy.with_name('linked.lmdb'))
    linked = ChartStore(copy.with_name('linked.lmdb'))
    for store in (linked, moved, linked): assert read_all(store)==want

def test_a_relative_path_outlives_a_change_of_folder(copy, monkeypatch, tmp_path):
    monkeypatch.chdir(copy.parent)
    a = ChartStore(copy.name); want = read_all(a)
    (tmp_path/'elsewhere').mkdir(); monkeypatch.chdir(tmp_path/'elsewhere')
    with mp.get_context('fork').Pool(1) as pool: assert pool.apply(read_or_say, (a,))==want

def test_reading_needs_no_write_permission_and_leaves_nothing(made, copy):
    copy.chmod(0o444); copy.parent.chmod(0o555)
    try: assert read_all(ChartStore(copy))==read_all(made) and files(copy.parent)==['copy.lmdb']
    finally: copy.parent.chmod(0o755)

def test_values_hold_no_pickles(made):
    with S.environment(made._file, made._identity).begin() as txn:
        kinds = {(k[:6] if k[:1]==b'\0' else v[:4]+v[8:12]) for k,v in txn.cursor()}
    assert kinds=={b'\0build', b'\0sampl', b'RIFFWEBP'}

def test_import_is_light():
    code = ("import sys, ecg_arrhythmia.charts.store; bad = {'torch', 'fastai', 'matplotlib', 'sklearn'} & "
            "set(sys.modules); assert not bad, bad")
    subprocess.run([sys.executable, '-c', code], check=True)

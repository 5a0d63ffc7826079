"Dense checks of `ecg_arrhythmia.data.quality`: mappings, quality rules one by one, splits that cannot leak, work in processes"
import json, os, time
from collections import Counter

import numpy as np, pandas as pd, pytest
from scipy.signal import butter, filtfilt, resample_poly

from ecg_arrhythmia.data import quality as L
from ecg_arrhythmia.data.datasets import catalogue, sample_data
from ecg_arrhythmia.data.quality import (
    LIMITS, Limits, RULES, differing_bits, edition_keys, find_editions, find_twins, fingerprint, judge, load_quality,
    longest_run, measure, measurement_keys, quality_report, quality_summary, sample_digest)
from ecg_arrhythmia.data.rhythms import (
    RHYTHMS, aha_rhythm, classes_of, get_mapping, label, one_rhythm, report_rhythm)
from ecg_arrhythmia.data.splits import (
    Split, join_patients, load_split, make_split, patients_of, save_split, split_table)
from ecg_arrhythmia.core import each, write_atomic, write_json
from ecg_arrhythmia.data.recordings import LEADS, Recording
from ecg_arrhythmia.core import ECGError
from ecg_arrhythmia.data.simulation import simulate
from ecg_arrhythmia.data.tables import to_csv_bytes

SIG = simulate('SR', seed=1).signal
RUN = round(LIMITS['default'].flat_run*500) # samples that may be alike

def fails(*says): return pytest.raises(ECGError, match='(?s)'+'.*'.join(says))

def folder(path, files, rhythms=None, **columns):
    "A folder in the database's layout; `rhythms` None: no metadata"
    (path/'ECGData').mkdir(parents=True)
    for name, data in files.items():
        (path / 'ECGData' / f'{name}.csv').write_bytes(
            data if isinstance(data, bytes) else to_csv_bytes(Recording(data))
        )
    if rhythms is not None:
        pd.DataFrame(dict(FileName=list(rhythms), Rhythm=list(rhythms.values()), **columns)).to_csv(
            path / 'Diagnostics.csv', index=False
        )
    return catalogue(path)

def some(**counts): return pd.Series({f'{c}{i:03}': c for c,n in counts.items() for i in range(n)}, name='label')

# --- mappings

def test_the_two_mappings():
    assert (
        classes_of('merged') == ('AFIB', 'GSVT', 'SB', 'SR')
        and classes_of('all') == tuple(sorted(RHYTHMS))
        and len(RHYTHMS) == 11
    )
    assert get_mapping('merged').keys() == RHYTHMS.keys() and get_mapping({'SA': 'x', 'SR': 'y'}) == {
        'SI': 'x',
        'SR': 'y',
    }

@pytest.mark.parametrize(
    'name,text',
    [
        ('m.json', '{"AFIB": "irregular", "SA": "regular", "SR": "regular"}'),
        ('m.yaml', 'AFIB: irregular\nSA: regular\nSR: regular\n'),
        ('m.yml', 'AFIB: irregular\n# a remark\nSA: regular\n\nSR: regular'),
        ('m.csv', 'AFIB,irregular\nSA,regular\n\nSR,regular\n'),
        ('m.csv', '\ufeffAFIB,irregular\r\nSA,regular\r\nSR,regular'),
        ('m.csv', 'AFIB, irregular\nSA , regular\nSR,regular ,a remark\n'),
    ],
)
def test_mapping_files(tmp_path, name, text):
    (tmp_path/name).write_text(text, encoding='utf-8', newline='')
    for m in (tmp_path / name, str(tmp_path / name)):
        assert get_mapping(m) == {'AFIB': 'irregular', 'SI': 'regular', 'SR': 'regular'}
    assert classes_of(tmp_path/name)==('irregular', 'regular')

@pytest.mark.parametrize(
    'name,data,says',
    [
        ('m.json', b'{"AFIB": ', 'one pair a line'),
        ('m.json', b'[1, 2]', 'one pair a line'),
        ('m.yaml', b'', 'one pair a line'),
        ('m.yaml', b'just words', 'one pair a line'),
        ('m.csv', b'AFIB\nSR\n', 'one pair a line'),
        ('m.csv', b'', 'fewer than two'),
        ('m.csv', b'AFIB,a\nSR,a\n', 'fewer than two'),
        ('m.json', b'{"SR": 1}', 'fewer than two'),
        ('m.xlsx', b'PK\x03\x04\x00\xff\xfe\x80', 'm.xlsx'),
        ('m.csv', b'\xff\xfeA\x00F\x00', 'm.csv'),
    ],
)
def test_wrong_mapping_files(tmp_path, name, data, says):
    (tmp_path/name).write_bytes(data)
    with fails(says): get_mapping(tmp_path/name)

@pytest.mark.parametrize('name,text,says', [
    ('m.csv', 'SR,a\nAFIB,b\nSR,b\n', 'SR has two classes, a and b'),
    ('m.json', '{"SR": "a", "AFIB": "b", "SR": "b"}', 'SR has two classes, a and b'),
    ('m.yaml', 'SA: a\nAFIB: b\nSI: b\n', 'SI has two classes, a and b'),
    ('m.yaml', 'SR: a\nAFIB: [b, c]\n', 'not the name of a class'),
    ('m.json', '{"SR": "a", "AFIB": {"b": 1}}', 'not the name of a class'),
    ('m.csv', 'SR,a\nAFIB,\n', 'not the name of a class'),
    ('m.json', '[' * 100_000, 'one pair a line'),
])
def test_mappings_that_contradict_themselves(tmp_path, name, text, says):
    (tmp_path/name).write_text(text)
    with fails(says): get_mapping(tmp_path/name)

def test_mappings_as_they_are_written(tmp_path):
    "A header is no rhythm, `no` is a name, and the end of a file's name may be in capitals"
    (tmp_path/'M.CSV').write_text('Rhythm,Class\nSR,no\nSA,no\nAFIB,yes\n')
    (tmp_path/'m.yaml').write_text('SR: no\nSA: no\nAFIB: yes\n')
    for name in ('M.CSV', 'm.yaml'): assert get_mapping(tmp_path/name)=={'SR': 'no', 'SI': 'no', 'AFIB': 'yes'}

@pytest.mark.parametrize('m', ['mergd', '', 'none/there.json', '.'])
def test_unknown_mapping(m):
    with fails('unknown mapping', 'merged, all'): get_mapping(m)

# --- labels

@pytest.fixture(scope='module')
def odd(tmp_path_factory):
    return folder(
        tmp_path_factory.mktemp('odd'),
        dict.fromkeys('abcdef', to_csv_bytes(Recording(SIG))),
        {'a': 'SA', 'b': 'AF', 'c': 'XYZ', 'd': '', 'e': ' SB '},
    )  # f is not in the metadata

def test_unknown_rhythm_and_absent_recording(odd):
    with fails(
        '3 recordings',
        r'c \(XYZ\)',
        r'd \(none given\)',
        r'f \(none given\)',
        'Known are',
        'AVNRT',
        "unlabelled='drop'",
    ):
        label(odd)
    assert label(odd, unlabelled='drop').to_dict()=={'a': 'SR', 'b': 'AFIB', 'e': 'SB'}
    assert label(odd, 'all', 'drop').to_dict()=={'a': 'SI', 'b': 'AF', 'e': 'SB'}

def test_unknown_choice_is_refused(odd):
    with fails('unlabelled', 'drop'): label(odd.subset('ab'), unlabelled='ignore')

def test_own_mapping(odd):
    assert label(odd.subset('abe'), {'AF': 'x', 'SI': 'y'}).to_dict() == {
        'a': 'y',
        'b': 'x',
    }, 'what the mapping leaves out is dropped'
    assert label(odd.subset('abc'), {'AF': 'x', 'XYZ': 'y'}).to_dict() == {
        'b': 'x',
        'c': 'y',
    }, 'a mapping may know other rhythms'

def test_no_metadata_at_all(tmp_path):
    cat = folder(tmp_path/'d', {'a': SIG})
    with fails('a .none given'): label(cat)
    assert not len(label(cat, unlabelled='drop'))

# --- quality

def test_longest_run():
    rng = np.random.default_rng(0)
    for n in (1, 2, 50):
        x = rng.random((40, n)) < 0.7
        assert (
            longest_run(x)
            == [
                max((len(r) for r in ''.join('x' if v else ' ' for v in row).split()), default=0) for row in x
            ]
        ).all()

def changed(f):
    x = SIG.copy(); f(x)
    return x

def put(x, where, v): x[where] = v

CSV = to_csv_bytes(Recording(SIG))
LINES = CSV.split(b'\n')
def cell(row, col, text):
    r = LINES[row].split(b','); r[col] = text
    return b'\n'.join([*LINES[:row], b','.join(r), *LINES[row+1:]])

def as_volts(x):
    return (
        '\n'.join([','.join(LEADS), *(','.join(f'{v:.7f}' for v in row) for row in x.T / 1000)]) + '\n'
    ).encode()

MADE = dict(
    fine=SIG,
    nan=cell(100, 3, b''),
    nan_word=cell(4000, 0, b'NaN'),
    short=b'\n'.join(LINES[:5000]) + b'\n',
    text=cell(7, 7, b'abc'),
    empty=b'',
    eleven=b'\n'.join(l.rsplit(b',', 1)[0] for l in LINES),
    flat=changed(lambda x: put(x, (4, slice(1000, 1020 + RUN)), 0.5)),
    dead=changed(lambda x: put(x, 6, 0)),
    zeros=changed(lambda x: put(x, (slice(None), slice(2000, 2020 + RUN)), 0)),
    huge=changed(lambda x: put(x, (8, 300), 15)),
    weak=changed(lambda x: np.multiply(x[9], 0.04 / np.ptp(x[9]), out=x[9])),
    volt=as_volts(SIG),
)
EXPECT = dict(
    fine=(),
    nan=('missing',),
    nan_word=('missing',),
    short=('short',),
    text=('unreadable',),
    empty=('unreadable',),
    eleven=('unreadable',),
    flat=('flat',),
    dead=('amplitude', 'flat', 'zero_run'),
    zeros=('flat', 'zero_run'),
    huge=('amplitude',),
    weak=('amplitude',),
    volt=('amplitude',),
)

@pytest.fixture(scope='module')
def report(tmp_path_factory): return quality_report(folder(tmp_path_factory.mktemp('made'), MADE, {n: 'SR' for n in MADE}))

@pytest.mark.parametrize('name', MADE)
def test_each_rule(report, name):
    broken = judge(report).loc[name]
    assert (
        set(EXPECT[name])
        <= set(broken.index[broken])
        <= {*EXPECT[name], *(['flat', 'zero_run'] if name == 'weak' else [])}
    ), 'few steps of the recorder are flat too'

def test_what_was_measured(report):
    assert report.index.tolist() == sorted(MADE) and report.loc[
        'flat', ['flat_lead', 'flat_run']
    ].tolist() == ['aVL', pytest.approx((RUN + 20) / 500, abs=0.01)]
    assert (
        report.missing[['nan', 'nan_word', 'fine']].tolist() == [1, 1, 0]
        and report.seconds['short'] == pytest.approx(9.998)
        and report.peak['huge'] == pytest.approx(15, abs=0.2)
    )
    assert (
        all(w in report.error['text'] for w in ('text.csv', 'row 8', 'V2', 'abc'))
        and 'empty' in report.error['empty']
        and report.zero_run['zeros'] == pytest.approx((RUN + 20) / 500, abs=0.02)
    )

def test_rules_and_limits_of_the_study(report):
    assert judge(report).columns.tolist()==list(RULES)
    study = judge(report, 'study')
    assert (
        study.loc['dead', 'zeros']
        and study.loc['short', 'short']
        and study.loc['nan', 'missing']
        and not study[['flat', 'zero_run', 'amplitude']].any().any()
    )
    assert (study.zeros==(report.zeros>0)).all()
    assert not judge(report, Limits(seconds=5.)).short.any()
    with fails("limits 'strict'", 'default, study'): judge(report, 'strict')

@pytest.mark.parametrize('n,flat', [(RUN, False), (RUN+1, True)])
def test_limit_is_exact(n, flat):
    x = np.random.default_rng(0).normal(0, .2, (12, 5000)); x[2,700:700+n] = 0
    v = judge(pd.DataFrame([dict(error='', **measure(x))])).iloc[0]
    assert v.flat==v.zero_run==flat and not v.drop(['flat', 'zero_run']).any()

@pytest.mark.filterwarnings('ignore:invalid value')
@pytest.mark.parametrize('x', [np.full((12, 5000), np.nan), np.zeros((12, 1)), np.zeros((12, 5000)), np.full((12, 5000), np.inf)])
def test_measure_survives_anything(x):
    m = measure(x)
    assert np.isfinite([v for v in m.values() if not isinstance(v, str)]).all() and judge(
        pd.DataFrame([dict(error='', **m)])
    ).any(axis=None)

def test_workers_measure_the_same(report, tmp_path):
    cat = folder(tmp_path/'d', {f'{n}{i}': MADE[n] for n in ('fine', 'text', 'nan') for i in range(6)})
    a, b = quality_report(cat, 0), quality_report(cat, 2)
    pd.testing.assert_frame_equal(a, b)
    assert a.index.tolist()==sorted(cat)

def test_summary(report):
    y = pd.Series({n: 'AFIB' if n in ('fine', 'nan') else 'SR' for n in MADE})
    s = quality_summary(judge(report), y)
    assert s.loc['all', ['recordings', 'dropped', 'unreadable', 'missing']].tolist() == [
        13,
        12,
        3,
        2,
    ] and s.loc['AFIB', ['recordings', 'dropped', 'share']].tolist() == [2, 1, 0.5]

# --- each

def _slow_first(i): time.sleep(.2 if i==0 else 0); return i*i
def _dies(i): os._exit(9) if i==5 else None; return i
def _raises(i):
    if i==3: raise ECGError(f'item {i} is bad')
    if i==4: raise KeyError(i)
    return i

@pytest.mark.parametrize('workers', [0, 1, 2])
def test_each_keeps_order(workers):
    assert list(each(_slow_first, range(40), workers, progress=False, total=40))==[i*i for i in range(40)]
    assert list(each(_slow_first, [], workers))==[]

@pytest.mark.parametrize('workers', [0, 2])
def test_each_passes_exceptions(workers):
    got = []
    with fails('item 3 is bad'):
        for v in each(_raises, list(range(50)), workers): got.append(v)
    assert got==[0, 1, 2]
    with pytest.raises(KeyError): list(each(_raises, [4], workers))

def test_each_worker_death():
    with fails('drawing: a worker process died', 'fewer workers'): list(each(_dies, list(range(50)), 2, desc='drawing'))

def _counts(folder, i): (folder/str(i)).touch(); return i

def test_each_can_be_left_early(tmp_path):
    "Of 10,000 tasks only the few that were ahead have begun"
    from functools import partial
    for v in each(partial(_counts, tmp_path), list(range(10_000)), 2): break
    assert v==0 and len(os.listdir(tmp_path))<=16

# --- splits

def test_split_of_the_study():
    "The class counts of study.md, and the very names scikit-learn gives"
    from sklearn.model_selection import train_test_split
    y = some(AFIB=2218, GSVT=2260, SB=3888, SR=2222)
    y.index = [f'MUSE_{i:05}' for i in np.random.default_rng(0).permutation(len(y))]
    s = make_split(y)
    assert (len(s.train), len(s.test))==(8470, 2118)
    t = split_table(s)
    assert t.train.tolist()==[1774, 1808, 3110, 1778, 8470] and t.test.tolist()==[444, 452, 778, 444, 2118]
    names = y.sort_index()
    _, test = train_test_split(names.index, test_size=.2, random_state=42, shuffle=True, stratify=names)
    assert set(test)==set(s.test)

def test_split_is_deterministic():
    y = some(A=40, B=60)
    s = make_split(y)
    assert s==make_split(y.sample(frac=1, random_state=1)) and s.digest==make_split(y).digest!=make_split(y, seed=1).digest
    assert make_split(y, origin='x').digest==s.digest, 'a remark is not content'

def test_split_is_whole_and_stratified():
    y = some(A=53, B=104, C=31)
    s = make_split(y, n_folds=4, test_size=.25)
    assert sorted([*s.train, *s.test])==sorted(y.index) and s.classes==('A', 'B', 'C')
    for part in (*s.folds, s.test):
        share = Counter(y[n] for n in part)
        assert all(abs(share[c]-len(part)*(y==c).mean())<=1.5 for c in 'ABC')
    names, valid = s.fold(2)
    assert valid==s.folds[2] and set(names)==set(s.train)-set(valid)
    for k in (-1, 4):
        with fails(f'fold {k} does not exist', '4'): s.fold(k)

def test_patients_stay_together():
    y = some(A=60, B=90)
    g = pd.Series({n: f'p{i//3}' for i,n in enumerate(y.index)})
    for seed in range(5):
        s = make_split(y, g, seed=seed)
        parts = [{g[n] for n in p} for p in (s.test, *s.folds)]
        assert sum(map(len, parts))==len(set.union(*parts))==50 and .1<len(s.test)/150<.3
        assert all(0<sum(y[n]=='A' for n in p)<len(p) for p in (s.test, *s.folds))
    assert s==make_split(y, g.sample(frac=1, random_state=0), seed=4)

def test_leaks_are_refused(tmp_path):
    y = dict.fromkeys('abcdef', 'A')
    Split('ab', ['cd', 'ef'], y)
    for test, folds, says in (
        ('ab', ['bc', 'de'], 'b is both in the hold-out and in fold 0'),
        ('a', ['bc', 'cd'], 'c is both in fold 0 and in fold 1'),
        ('aa', ['b', 'c'], 'twice in the hold-out'),
        ('a', ['b', 'z'], 'z.*fold 1 have no label'),
    ):
        with fails(says):
            Split(test, folds, y)
    with fails('p1 is both in the hold-out and in fold 1'): Split('ab', ['cd', 'ef'], y, {'a': 'p1', 'f': 'p1'})
    Split('ab', ['cd', 'ef'], y, {'a': 'p1', 'b': 'p1'})

def test_patient_with_recordings_absent_from_groups():
    y = some(A=20, B=20)
    s = make_split(y, pd.Series({'A000': 'p', 'A001': 'p', 'B001': np.nan}), n_folds=2)
    assert s.groups=={'A000': 'p', 'A001': 'p'} and len([*s.test, *s.train])==40

@pytest.mark.parametrize('n', [1, 3, 5])
def test_small_class_is_refused(n):
    with fails('5 folds', f'AVRT has {n}', 'merges'): make_split(some(SR=100, AVRT=n))

@pytest.mark.parametrize('n', [6, 7, 8, 9])
def test_smallest_class_is_in_every_part(n):
    "What is not refused has the class in every fold and in the hold-out"
    for seed in range(12):
        for others in (94, 101, 203):
            s = make_split(some(SR=others, AVRT=n), seed=seed)
            assert all('AVRT' in {s.labels[o] for o in p} for p in (s.test, *s.folds)), (seed, others)

def test_few_patients_of_a_class_are_refused():
    "Ten recordings of one patient cannot be in five folds"
    y = some(SR=100, AVRT=10)
    with fails('AVRT'): make_split(y, pd.Series({n: 'p' for n in y.index if n[0]=='A'}))

def test_duplicate_names():
    y = some(A=20, B=20)
    with fails('duplicate names: A003'): make_split(pd.concat([y, y[['A003']]]))

@pytest.mark.parametrize(
    'kw', [dict(n_folds=1), dict(n_folds=0), dict(test_size=1), dict(test_size=1.5), dict(test_size=-0.1)]
)
def test_impossible_sizes(kw):
    with fails('folds|test_size'):
        make_split(some(A=50, B=50), **kw)

@pytest.mark.filterwarnings('error')
@pytest.mark.parametrize('groups', [None, pd.Series({f'A{i:03}': f'p{i//2}' for i in range(20)})])
def test_no_hold_out(groups):
    s = make_split(some(A=20, B=30), groups, test_size=0)
    assert s.test==() and len(s.train)==50 and len(s.folds)==5 and all(0<sum(n[0]=='A' for n in f)<len(f) for f in s.folds)
    assert split_table(s).test.tolist()==[0, 0, 0] and s==make_split(some(A=20, B=30), groups, test_size=0)

def test_nothing_to_split():
    with fails('no .*recordings'): make_split(some(A=10).iloc[:0])

# --- split files

@pytest.fixture
def file(tmp_path):
    return save_split(
        make_split(some(A=30, B=30), pd.Series({'A000': 'p', 'B000': 'p'}), n_folds=3, origin='simulated'),
        tmp_path / 'deep/split.json',
    )

def test_split_file(file):
    s = load_split(file)
    assert (
        s
        == make_split(some(A=30, B=30), pd.Series({'A000': 'p', 'B000': 'p'}), n_folds=3, origin='simulated')
        and s.groups == {'A000': 'p', 'B000': 'p'}
        and s.info['origin'] == 'simulated'
    )
    before = file.read_bytes()
    assert save_split(s, file).read_bytes()==before and [p.name for p in file.parent.iterdir()]==['split.json']

def swap(d): d['test'][0], d['folds'][0][0] = d['folds'][0][0], d['test'][0]
@pytest.mark.parametrize(
    'edit,says',
    [
        (swap, 'digest'),
        (lambda d: d['test'].pop(), 'digest'),
        (lambda d: d['labels'].update(A001='B'), 'digest'),
        (lambda d: d['test'].append(d['folds'][0][0]), 'both in'),
        (lambda d: d['groups'].clear(), 'digest'),
        (lambda d: d['test'].append('unknown'), 'no label'),
        (lambda d: d.update(digest='0' * 16), 'digest'),
        (lambda d: d.update(format=2), 'format 2.*update the package'),
        (lambda d: d.pop('format'), 'format None'),
        (lambda d: d.pop('folds'), 'split.json'),
        (lambda d: d.update(folds=None), 'split.json'),
    ],
)
def test_edited_split(file, edit, says):
    d = json.loads(file.read_text()); edit(d); file.write_text(json.dumps(d))
    with fails(says): load_split(file)

@pytest.mark.parametrize('data', [b'', b'{"format": 1', b'[1, 2]', b'"x"', b'\xff\xfe\x00', b'PK\x03\x04'])
def test_not_a_split(tmp_path, data):
    (tmp_path/'s.json').write_bytes(data)
    with fails('s.json'): load_split(tmp_path/'s.json')

def test_no_split(tmp_path):
    with fails('no split at', 'ecg_split'): load_split(tmp_path/'none.json')
    with fails(str(tmp_path)): load_split(tmp_path)

def test_write_atomic(tmp_path):
    f = write_json(tmp_path/'a/x.json', [1])
    def half(p): p.write_text('half'); raise RuntimeError('power cut')
    with pytest.raises(RuntimeError): write_atomic(f, half)
    assert json.loads(f.read_text())==[1] and os.listdir(f.parent)==['x.json']
    with pytest.raises(TypeError): write_json(f, {1: {2}})
    assert json.loads(f.read_text())==[1] and os.listdir(f.parent)==['x.json']

# --- the same ECG under two names, and sizes of grouped hold-outs

@pytest.mark.parametrize('size', [.1, .2, .25, .4, .5, .6, .8])
def test_size_of_a_grouped_hold_out(size):
    "40 % or 80 % of the recordings, not 50 %"
    y = some(A=200, B=200)
    groups = pd.Series({n: f'p{i//2}' for i,n in enumerate(y.index)})
    s = make_split(y, groups, size, n_folds=2)
    assert abs(len(s.test)/400 - size) < .06

def test_joined_patients_are_on_one_side():
    y = some(A=60, B=60)
    twin = pd.Series({n: f'd{i//2}' for i,n in enumerate(y.index)})
    patients = join_patients(y.index.to_series(), twin)
    assert patients.nunique()==60
    s = make_split(y, patients)
    for part in (s.test, *s.folds): assert {twin[n] for n in part}.isdisjoint({twin[n] for n in y.index if n not in part})

def test_unknown_keys_join_nobody():
    patients = pd.Series(dict(a='p', b='q', c='r'))
    for key in (pd.Series(dict(a='', b='', c='')), pd.Series(dict(a=np.nan)), pd.Series(dtype=object)):
        assert join_patients(patients, key).tolist()==['p', 'q', 'r']

def test_chains_of_keys_are_followed():
    patients = pd.Series(dict(a='p3', b='p2', c='p1', d='p0'))
    joined = join_patients(patients, pd.Series(dict(a='x', b='x')), pd.Series(dict(b='y', c='y')))
    assert joined.to_dict()==dict(a='p1', b='p1', c='p1', d='p0')

# --- what the databases call a rhythm

@pytest.mark.parametrize(
    'codes,rhythm',
    [
        ('22', 'SB'),
        ('1', 'SR'),
        ('50+346;105', 'AFIB'),
        ('60;105', ''),
        ('22;23', ''),
        ('21; 54', ''),
        ('', ''),
        ('nan', ''),
    ],
)
def test_aha_codes(codes, rhythm):
    assert aha_rhythm(codes) == rhythm

@pytest.mark.parametrize(
    'sentences,rhythm',
    [
        (['Sinus rhythm', 'Normal ECG'], 'SR'),
        (['Sinus rhythm with marked sinus arrhythmia'], 'SI'),
        (['Sinus tachycardia'], 'ST'),
        (['Atrial fibrillation with rapid ventricular response'], 'AFIB'),
        (['Probable sinus rhythm'], ''),
        (['Sinus rhythm or ectopic atrial rhythm'], ''),
        (['Supraventricular tachycardia'], 'SVT'),
        (['Ventricular tachycardia'], ''),
        (['Ectopic atrial tachycardia'], 'AT'),
        (['Demand pacemaker; interpretation is based on intrinsic rhythm', 'Sinus rhythm'], ''),
        (['Left axis deviation', 'ST-T changes'], ''),
        ([], ''),
        (['Undetermined rhythm'], ''),
        ([np.nan, 'Sinus bradycardia.'], 'SB'),
    ],
)
def test_sentences_of_reports(sentences, rhythm): assert report_rhythm(sentences)==rhythm

def test_codes_of_rhythms_that_are_none_of_the_eleven():
    from ecg_arrhythmia.data.rhythms import AHA, CODE15, CPSC, PTBXL, SENTENCES, SNOMED
    for table in (AHA, CODE15, CPSC, PTBXL, SENTENCES, SNOMED): assert set(table.values()) <= {*RHYTHMS, ''}
    assert one_rhythm(SNOMED[c] for c in ('426783006', '10370003'))=='', 'a paced heart is not in sinus rhythm'

# --- the same ECG, and files that are not whole

@pytest.mark.parametrize(
    'change',
    [
        lambda x: x,
        lambda x: x + np.float32(4.5),
        lambda x: x - np.arange(12, dtype=np.float32)[:, None],
        lambda x: np.rint(x * 1000) / 1000,
    ],
    ids=['itself', 'an offset', 'an offset a lead', 'in whole microvolts'],
)
def test_same_samples_have_one_digest(change): assert sample_digest(change(SIG))==sample_digest(SIG)

@pytest.mark.parametrize(
    'change',
    [
        lambda x: x * 1.01,
        lambda x: np.roll(x, 1, axis=1),
        lambda x: x[:, :-1],
        lambda x: changed(lambda y: put(y, (7, 99), y[7, 99] + 0.005)),
    ],
)
def test_other_samples_have_another_digest(change):
    assert sample_digest(change(SIG)) != sample_digest(SIG)

@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize(
    'x', [np.full((12, 50), np.nan), np.full((12, 50), np.inf), np.zeros((12, 1)), np.full((12, 50), 1e30)]
)
def test_digest_of_anything(x):
    assert len(sample_digest(x)) == 16

def test_digest_is_the_same_in_both_editions():
    "JS and MUSE files of one recording: one in whole microvolts, the other in steps of 4.88"
    from ecg_arrhythmia.data.datasets import sample_data
    if not (data := sample_data()): pytest.skip('no real recordings here')
    chapman = catalogue(data/'chapman')
    physionet = catalogue(data/'physionet', metadata=data/'chapman'/'Diagnostics.xlsx')
    both = [(js, muse) for js,muse in physionet.table.same_as.items() if muse in chapman]
    assert both
    for js,muse in both: assert sample_digest(physionet.read(js).signal)==sample_digest(chapman.read(muse).signal)

EDITIONS = dict(
    itself=lambda x: (x, 500),
    half_the_rate=lambda x: (resample_poly(x, 1, 2, axis=1), 250),
    there_and_back=lambda x: (resample_poly(resample_poly(x, 1, 2, axis=1), 2, 1, axis=1), 500),
    each_second_sample=lambda x: (x[:, ::2], 250),
    rounded=lambda x: (np.rint(x*200)/200, 500),
    in_microvolts=lambda x: (x*1000, 500),
    in_volts=lambda x: (x/1000, 500),
    without_the_first_ten=lambda x: (x[:, 10:], 500),
    without_the_last_fifty=lambda x: (x[:, :-50], 500),
    with_levels=lambda x: (x + np.arange(12)[:, None], 500),
)

@pytest.mark.parametrize('how', EDITIONS)
def test_editions_of_an_ecg_are_recognised(how):
    data = sample_data()
    signals = [simulate(r, seed=7).signal for r in ('SR', 'SB', 'AFIB', 'SVT')]
    if data:
        cat = catalogue(data/'chapman')
        signals += [cat.read(n).signal for n in list(cat)[:8]]
    prints = [fingerprint(x) for x in signals]
    differ = differing_bits([fingerprint(*EDITIONS[how](x)) for x in signals], prints)
    assert np.diag(differ).max() < .15 and (differ + np.eye(len(prints))).min() > .35

@pytest.mark.parametrize('x', [
    np.zeros((12, 5000)), np.full((12, 5000), np.nan), np.full((12, 5000), 1e38), SIG[:, :2400], SIG[:, :1],
    np.tile(SIG[1], (12, 1)), np.vstack([SIG[:8], np.zeros((4, 5000))])], ids=list('abcdefg'))
def test_what_says_too_little_has_no_fingerprint(x):
    assert fingerprint(x)=='' and find_editions({'x': fingerprint(x)}, [fingerprint(SIG), '']) == []

def test_denoised_copies_are_twins(tmp_path):
    "Three editions of one ECG stay on one side, in a split of recordings and of a store"
    from ecg_arrhythmia.charts.packing import pack
    smooth = filtfilt(*butter(2, 20, fs=500), SIG).astype(np.float32)
    signals = {'a': SIG, 'b': simulate('SB', seed=2).signal, 'c': smooth, 'd': SIG*1.5}
    cat = folder(tmp_path/'d', signals, {n: 'SR' for n in 'abcd'})
    report = quality_report(cat, 0)
    assert report.digest.is_unique and find_twins(cat, report).values.tolist()==[[('a', 'c', 'd'), 'edition']]
    own = dict(a='a', b='b', c='a', d='a')
    assert patients_of(cat, report).to_dict()==own
    report.to_csv(tmp_path/'q.csv')
    assert patients_of(cat, load_quality(tmp_path/'q.csv', cat)).to_dict()==own
    assert patients_of(pack(cat, tmp_path/'s.lmdb', limits=None, progress=False)).to_dict()==own
    chain = edition_keys(pd.Series([fingerprint(s) for s in signals.values()], list(signals)))
    assert (chain[['a', 'c', 'd']]==chain['a']).all() and chain['b']==''

def test_the_fourteen_pairs_of_the_database():
    from ecg_arrhythmia.data.databases import diagnostics
    from ecg_arrhythmia.data.datasets import sample_data
    if not (data := sample_data()): pytest.skip('no real recordings here')
    table = diagnostics(data/'chapman'/'Diagnostics.xlsx')
    keys = measurement_keys(table)
    twins = keys[keys.duplicated(keep=False)]
    assert len(twins)==28 and twins.nunique()==14
    assert twins['MUSE_20180712_150643_70000']==twins['MUSE_20181222_204222_63000']
    y = table.rhythm.map(get_mapping('merged'))
    patients = join_patients(table.index.to_series(), keys)
    s = make_split(y, patients)
    for part in (s.test, *s.folds):
        assert all(sum(n in part for n in pair.index) in (0, 2) for _, pair in twins.groupby(twins))

def test_a_damaged_file_is_named_and_dropped(tmp_path):
    from dataclasses import replace
    from ecg_arrhythmia.data.quality import measure_recording
    whole = Recording(SIG)
    hurt = replace(whole, faults=(('checksum', 'lead V1 does not match its checksum'), ('amplitude', 'unusual')))
    t = pd.DataFrame([dict(error='', **measure_recording(r)) for r in (whole, hurt)])
    assert judge(t).damaged.tolist()==[False, True] and judge(t, 'study').damaged.tolist()==[False, True]
    assert t.damage.tolist()==['', 'lead V1 does not match its checksum']

def test_copies_are_found(tmp_path):
    other = simulate('SB', seed=2).signal
    cat = folder(tmp_path/'d', {'a': SIG, 'b': other, 'c': SIG, 'd': simulate('SB', seed=3).signal}, {n: 'SR' for n in 'abcd'})
    report = quality_report(cat, 0)
    twins = find_twins(cat, report)
    assert twins.values.tolist()==[[('a', 'c'), 'samples']] and find_twins(cat).empty
    assert patients_of(cat, report).to_dict()==dict(a='a', b='b', c='a', d='d')
    assert patients_of(cat, report, 'study').to_dict()==dict(zip('abcd', 'abcd'))

def test_saved_report_keeps_names_and_digests(tmp_path):
    cat = folder(tmp_path/'d', {'001': SIG, 'NA': b''}, {'001': 'SR', 'NA': 'SR'})
    report = quality_report(cat, 0)
    report.loc['001', 'digest'] = '1234567890123456'
    report.to_csv(tmp_path/'q.csv')
    pd.testing.assert_frame_equal(load_quality(tmp_path/'q.csv', cat), report)
    with fails('q.csv does not hold 1 recordings, zz'): load_quality(tmp_path/'q.csv', ['001', 'zz'])
    with fails('not a table'): load_quality(tmp_path)

@pytest.mark.parametrize('gain,bad', [(1, False), (10, True), (.1, True), (5, True), (.2, True)])
def test_gains_are_judged_in_both_directions(gain, bad):
    t = pd.DataFrame([dict(error='', **measure(SIG*gain))])
    assert judge(t).amplitude[0]==bad and not judge(t, 'study').amplitude[0]

def test_a_patient_with_most_recordings_does_not_make_the_hold_out():
    "Or all that have no patient, where the column says the same of each of them"
    y = pd.Series(list('abcd')*150, [f'r{i}' for i in range(600)])
    patients = pd.Series(['unknown']*400 + [f'p{i}' for i in range(200)], y.index)
    with fails("would be ..% of the recordings, not 20%", "'unknown' has 400 of 600"):
        for seed in range(9): make_split(y, patients, .2, n_folds=2, seed=seed)
    for share in (.05, .2, .4, .8):
        assert abs(len(make_split(y, patients.where(patients!='unknown'), share, n_folds=2).test)/600 - share) < .03

@pytest.mark.parametrize('n', [2.5, float('nan'), 1, -1])
def test_a_number_of_folds_is_whole(n):
    with fails('at least 2 folds'): make_split(some(a=20, b=20), n_folds=n)

def test_titles_are_those_of_the_mapping():
    "A model of two rhythms does not title them as the four merged classes do"
    from ecg_arrhythmia.data.rhythms import class_titles
    assert class_titles(['AFIB', 'SR'])==dict(AFIB='Atrial fibrillation', SR='Sinus rhythm')
    assert 'flutter' in class_titles(['AFIB', 'GSVT', 'SB', 'SR'])['AFIB']

"Counts against the study and by hand, the front on edge cases, energy counters, resuming, and bad input"
import json, time
from contextlib import contextmanager
from pathlib import Path

import numpy as np, pandas as pd, pytest, torch
from torch import nn

from ecg_arrhythmia.reporting import cost as C
from ecg_arrhythmia.reporting import meters as M
from ecg_arrhythmia.commands.report import ecg_cost
from ecg_arrhythmia.models.compute import prepare
from ecg_arrhythmia.reporting.meters import (
    count_cost, energy, energy_counters, file_sizes, joules, latency, subject, throughput)
from ecg_arrhythmia.reporting.cost import load_costs, measure_cost, measure_costs, training_cost
from ecg_arrhythmia.evaluation.metrics import f1_interval, f1_scores
from ecg_arrhythmia.reporting.front import (
    STUDY_SCORES, STUDY_SUPPORT, front_gains, likely_confusion, pareto, plot_cost, study_table)
from ecg_arrhythmia.reporting.macs import layer_counts, mac_table, macs, skeleton
from ecg_arrhythmia.models.architectures import ARCHITECTURES, n_params
from ecg_arrhythmia.models.weights import create_model
from ecg_arrhythmia.core import ECGError
from ecg_arrhythmia.data.simulated_datasets import simulate_dataset
from ecg_arrhythmia.models.architectures import ARCHITECTURE_COLORS, ARCHITECTURE_MARKERS, architecture_style
from ecg_arrhythmia.data.rhythms import CLASS_COLORS, class_colors
from ecg_arrhythmia.models.transfer import freeze

GOLDEN = dict(
    mobilenet_v3_small=(1521956, 0.0615),
    mobilenet_v3_large=(4207156, 0.2336),
    resnet18=(11178564, 1.8235),
    resnet50=(23516228, 4.1317),
    efficientnet_b0=(4012672, 0.4139),
    efficientnet_b3=(10702380, 1.9300),
    convnext_tiny=(27823204, 4.4634),
    convnext_base=(87570564, 15.3724),
)

@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return simulate_dataset(tmp_path_factory.mktemp('sim') / 'data', n=33, seed=1, workers=1, progress=False)

# --- counts

@pytest.mark.parametrize('name', ARCHITECTURES)
def test_counts_are_the_study_s_and_the_differences_add_up_exactly(name):
    s = subject(name)
    m = s.outline()
    t, total = mac_table(m, s.size), macs(m, s.size)
    if name in GOLDEN: assert n_params(m)==GOLDEN[name][0] and round(total['thop']/1e9, 4)==GOLDEN[name][1]
    assert (
        t.thop.sum() == total['thop']
        and t.torch.sum() == total['torch']
        and t.difference.sum() == total['thop'] - total['torch']
    )
    assert (
        (t.difference == t.thop - t.torch).all()
        and (t.torch >= 0).all()
        and t.why.str.len().all()
        and not t.index.duplicated().any()
    )

def test_by_hand():
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 5, padding=2, groups=8),
        nn.Conv2d(8, 16, 1),
        nn.Flatten(),
        nn.Linear(16 * 5 * 6, 4),
    )
    t = mac_table(net, (10, 12))
    products = {
        'Conv2d': 8 * 5 * 6 * 3 * 9,
        'Conv2d depthwise': 8 * 5 * 6 * 25,
        'Conv2d 1x1': 16 * 5 * 6 * 8,
        'Linear': 4 * 16 * 5 * 6,
    }
    for kind, n in products.items():
        assert t.thop[kind] == t.torch[kind] == n and t.elements[kind] == 0
    assert t.loc['BatchNorm2d', ['thop', 'torch', 'elements']].tolist() == [
        4 * 8 * 5 * 6,
        0,
        8 * 5 * 6,
    ] and t.loc['ReLU', ['thop', 'torch', 'elements']].tolist() == [0, 0, 8 * 5 * 6]
    assert 'Flatten' not in t.index  # moves nothing, computes nothing

@pytest.mark.parametrize(
    'layer,size,n',
    [
        (nn.Conv2d(3, 4, 3), (5, 7), 4 * 3 * 5 * 27),
        (nn.Conv2d(3, 6, 2, groups=3), 4, 6 * 9 * 4),
        (nn.Linear(9, 2, bias=False), (6, 9), 3 * 6 * 9 * 2),
    ],
)
def test_a_lone_layer(layer, size, n):
    assert macs(layer, size) == dict(torch=n, thop=n) and layer_counts(layer, size).thop.tolist() == [n]

def test_functional_products_are_seen_by_torch_only():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.w, self.parts = nn.Parameter(torch.randn(4, 12)), nn.ModuleList(
                [nn.Conv2d(3, 3, 1)]
            )  # a list is never called

        def forward(self, x):
            return nn.functional.linear(self.parts[0](x).mean((2, 3)).repeat(1, 4), self.w) + 1

    t = mac_table(Net(), 8)
    assert (
        t.loc['Net', ['thop', 'torch']].tolist() == [0, 48]
        and t.thop['Conv2d 1x1'] == t.torch['Conv2d 1x1'] == 9 * 64
    )
    assert t.elements['Net'] == 3 + 4 and 'function' in t.why['Net']

def test_a_shared_layer_counts_each_time():
    conv = nn.Conv2d(3, 3, 3, padding=1)
    assert macs(nn.Sequential(conv, nn.ReLU(), conv), 6)==dict(torch=2*3*36*27, thop=2*3*36*27)

# --- the model of the user

def state(m):
    return {k: v.clone() for k, v in m.state_dict().items()}, [
        (n, type(x), x.training, sorted(x.__dict__), len(x._forward_hooks)) for n, x in m.named_modules()
    ]

@pytest.mark.parametrize(
    'change',
    [lambda m: m, lambda m: m.train(), lambda m: freeze(m), lambda m: prepare(m, 'cpu', 'bf16')],
    ids=['eval', 'train', 'frozen', 'mixed'],
)
def test_the_model_is_left_alone(change, capsys):
    model, fired = change(create_model('mobilenet_v3_small').eval()), []
    model.features[0].register_forward_hook(lambda *a: fired.append(1))
    before, about = state(model)
    assert macs(model, 224)['thop'] == 61458040
    after, still = state(model)
    assert (
        about == still
        and not fired
        and list(before) == list(after)
        and all(torch.equal(before[k], after[k]) for k in before)
    )
    assert capsys.readouterr().out == ''

def test_skeleton_has_no_numbers():
    m = create_model('mobilenet_v3_small')
    twin = skeleton(m)
    assert all(v.device.type == 'meta' for v in twin.state_dict().values()) and {
        k: v.shape for k, v in twin.state_dict().items()
    } == {k: v.shape for k, v in m.state_dict().items()}
    tied = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    tied[1].weight = tied[0].weight
    assert n_params(skeleton(tied)) == n_params(tied)

def test_an_impossible_size_is_said():
    with pytest.raises(ECGError, match='is that the size'): macs(subject('vit_b_16').outline(), 100)

# --- subjects, files

def test_subjects():
    s = subject('efficientnet_b3')
    assert s.size==(300, 300) and subject(s) is s and s.spec['size']==[300, 300]
    with pytest.raises(ECGError, match='Did you mean'): subject('resnet19')
    with pytest.raises(ECGError, match='no finished run'): subject(Path(__file__).parent)

def test_a_run(data, tmp_path):
    from ecg_arrhythmia.data.datasets import catalogue
    from ecg_arrhythmia.data.rhythms import label
    from ecg_arrhythmia.data.splits import make_split
    from ecg_arrhythmia.training.recipes import recipe
    from ecg_arrhythmia.charts.encoding import store_spec
    from ecg_arrhythmia.charts.packing import pack
    from ecg_arrhythmia.training.loop import train

    store = pack(
        catalogue(data), tmp_path / 'c.lmdb', store_spec('6x2', (48, 64), 'grey'), limits=None, progress=False
    )
    split = make_split(label(store), n_folds=2, test_size=0)
    run = train(
        recipe(epochs=1, batch_size=4), store, split, tmp_path / 'plan/run', fold=0, device='cpu', progress=False
    )
    s = subject(run.path)
    assert (s.name, s.arch, s.size, s.classes) == (
        'plan/run',
        'mobilenet_v3_small',
        (48, 64),
        len(split.classes),
    )
    p = split.folds[0][0]
    with torch.inference_mode():
        for stage in M._steps_to_answer(s, s.model(), catalogue(data), 'cpu').values():
            p = stage(p)
    want = run.predictions.set_index('name').loc[split.folds[0][0]]
    assert np.allclose(
        p, want[[f'p_{c}' for c in split.classes]].astype(float), atol=1e-4
    )  # the stages are those of the package
    t = training_cost(s)
    assert (
        t['source'] == 'measured steps'
        and t['epochs'] == 1
        and t['images'] == len(split.folds[1])
        and t['hours'] == pytest.approx(t['s_epoch'] / 3600)
    )
    (tmp_path / 'plan/attempts').mkdir()
    for i, took in ((1, 10), (2, 26)):
        (tmp_path / f'plan/attempts/00{i}.json').write_text(
            json.dumps(dict(begun=100 * i, ended=100 * i + took))
        )
    t = training_cost(s)
    assert (t['source'], t['s_epoch'], t['hours']) == ('log of the job', 36, 0.01)
    (tmp_path / 'plan/attempts/002.json').write_text('{"begun": 200}')  # running
    assert training_cost(s)['source'] == 'measured steps'
    assert count_cost(s)['layouts'] == ['6x2'] and file_sizes(s.model())['safetensors'] == pytest.approx(
        (run.path / 'model.safetensors').stat().st_size / 1e6, rel=0.001
    )

def test_file_sizes():
    b = file_sizes(nn.Linear(1000, 10))
    assert .0400 < b['safetensors'] < .0403 and b['state_dict'] > b['safetensors']

# --- time, memory, energy

def test_latency_and_throughput(data):
    rows = pd.DataFrame(latency('mobilenet_v3_small', data, repeat=4, warm_up=1)).set_index('stage')
    assert (
        rows.loc['all', 'low'] <= rows['median']['all'] <= rows['high']['all']
        and rows.high['all'] >= rows.drop('all').low.sum()
        and (rows.repeats == 4).all()
    )
    t = pd.DataFrame(throughput('mobilenet_v3_small', (1, 4), repeat=3, warm_up=1))
    assert (
        (t.low <= t.q25).all()
        and (t.q25 <= t['median']).all()
        and (t['median'] <= t.q75).all()
        and (t.q75 <= t.high).all()
    )

@pytest.fixture
def powercap(tmp_path):
    "A machine with two packages, of which one may not be read, and a part of a package"
    for name, label, uj in (
        ('intel-rapl:0', 'package-0', 5_000_000),
        ('intel-rapl:1', 'package-1', None),
        ('intel-rapl:0:0', 'core', 1),
        ('intel-rapl:2', 'psys', 9),
    ):  # psys is the whole board, packages included
        (d := tmp_path / name).mkdir()
        (d / 'name').write_text(label + '\n')
        (d / 'max_energy_range_uj').write_text('9000000\n')
        if uj is not None:
            (d / 'energy_uj').write_text(f'{uj}\n')
    return tmp_path

def test_energy_counters(powercap):
    assert [k for k in energy_counters(powercap) if k!='NVML']==['RAPL package-0']
    with joules(powercap) as used: (powercap/'intel-rapl:0/energy_uj').write_text('7500000')
    assert used['RAPL package-0']==2.5
    with joules(powercap) as used: (powercap/'intel-rapl:0/energy_uj').write_text('500000') # it went round
    assert used['RAPL package-0']==pytest.approx(2)
    assert not [k for k in energy_counters(powercap/'none') if k!='NVML']

def test_energy_says_where_it_is_from(powercap, monkeypatch):
    kw = dict(batch=1, seconds=0.05)
    assert energy('mobilenet_v3_small', root=powercap / 'none', **kw) == [] or torch.cuda.is_available()
    row = energy('mobilenet_v3_small', root=powercap / 'none', watts=20, **kw)[-1]
    assert row['source'] == 'estimate: 20 W x time' and row['unit'] == 'J/image' and row['median'] > 0

    class Net(nn.Module):
        calls = 0

        def forward(self, x):
            self.calls += 1
            time.sleep(0.001)
            return x

    @contextmanager
    def used(root):
        yield {'RAPL package-0': 3.0, 'RAPL package-1': 2.0, 'NVML': 7.0}

    monkeypatch.setattr(M.Subject, 'model', lambda self: net)
    monkeypatch.setattr(M, 'joules', used)
    net = Net()
    rows = energy('mobilenet_v3_small', watts=20, batch=2, seconds=0.05)
    assert rows[0]['source'] == 'measured: RAPL, 2 packages' and rows[0]['median'] == pytest.approx(
        5 / (2 * (net.calls - 1))
    )  # one call to warm up; the GPU's energy is none of the CPU's
    assert 20 * 0.05 <= rows[1]['median'] * 2 * (net.calls - 1) < 20 * 0.2
    assert [r['source'].partition(':')[0] for r in rows] == ['measured', 'estimate']
    with pytest.raises(ECGError, match='above 0'):
        energy('mobilenet_v3_small', watts=-1)

# --- all of it, resumable

@pytest.fixture
def fast(monkeypatch):
    "Measuring that takes no time, and notes what it measured"
    done = []
    def measure(what, *a, **kw):
        if what in boom: raise KeyboardInterrupt
        done.append(str(what))
        return count_cost(what) | dict(figures=[], training=[], notes=[], quick=True, machine={}, seconds=0)
    boom = set()
    monkeypatch.setattr(C, 'measure_cost', measure)
    return done, boom

def test_interrupted_and_gone_on_with(fast, tmp_path):
    done, boom = fast
    names, path = ['mobilenet_v3_small', 'resnet18', 'mobilenet_v3_large'], tmp_path / 'c.json'
    boom.add('resnet18')
    with pytest.raises(KeyboardInterrupt):
        measure_costs(names, path, quick=True, progress=False)
    assert list(load_costs(path)['results']) == names[:1]
    boom.clear()
    costs = measure_costs(names, path, quick=True, progress=False)
    assert (
        done == names
        and list(costs['results']) == names
        and json.loads(path.read_text())['results'] == json.loads(json.dumps(costs['results']))
    )
    assert (
        measure_costs(names[:1], path, quick=True, progress=False)['results'].keys() == {names[0]}
        and done == names
    )
    assert list(load_costs(path)['results']) == names  # asking for one does not lose the others
    before = path.read_bytes()
    with pytest.raises(ECGError, match='another quick'):
        measure_costs(names, path, quick=False, progress=False)
    with pytest.raises(ECGError, match='another watts'):
        measure_costs(names, path, quick=True, watts=3.0, progress=False)
    assert path.read_bytes() == before

def test_a_changed_architecture_is_measured_again(fast, tmp_path, monkeypatch):
    from dataclasses import replace
    done, _ = fast
    measure_costs(['resnet18'], tmp_path/'c.json', progress=False)
    monkeypatch.setitem(ARCHITECTURES, 'resnet18', replace(ARCHITECTURES['resnet18'], size=128))
    assert (
        measure_costs(['resnet18'], tmp_path / 'c.json', progress=False)['results']['resnet18']['height']
        == 128
        and done == ['resnet18'] * 2
    )

def test_bad_input(tmp_path):
    with pytest.raises(ECGError, match='twice'): measure_costs(['resnet18', 'resnet18'])
    with pytest.raises(ECGError, match='tpux'): measure_costs(['resnet18'], device='tpux')
    with pytest.raises(ECGError, match='above 0'): measure_costs(['resnet18'], watts=0.)
    with pytest.raises(ECGError, match='nowhere: no such'): measure_costs(['resnet18'], data=tmp_path/'nowhere')
    for text,says in (('{', 'damaged'), ('[]', 'not a file'), ('{"settings": {}}', 'not a file')):
        (tmp_path/'x.json').write_text(text)
        with pytest.raises(ECGError, match=says): measure_costs(['resnet18'], tmp_path/'x.json')
        assert (tmp_path/'x.json').read_text()==text
    with pytest.raises(ECGError, match='cannot be read'): load_costs(tmp_path/'none.json')

def test_command(tmp_path, capsys):
    ecg_cost(
        'mobilenet_v3_small',
        json=tmp_path / 'c.json',
        csv=tmp_path / 'c.csv',
        quick=True,
        device='cpu',
        watts=10.0,
    )
    said, r = capsys.readouterr().out, load_costs(tmp_path / 'c.json')['results']['mobilenet_v3_small']
    assert 'simulated' in said and 'numbers mean little' in said and 'estimate: 10 W x time' in said
    t = pd.read_csv(tmp_path / 'c.csv', index_col='name').loc['mobilenet_v3_small']
    assert (
        t.parameters == 1521956
        and t.gmacs == pytest.approx(0.0615, abs=5e-5)
        and t.cpu_ms > t.cpu_forward_ms > 0
    )
    assert (
        {f['what'] for f in r['figures']} == {'latency', 'throughput', 'memory', 'energy'}
        and r['notes'] == []
        and r['machine']['date']
    )
    m = {f['stage']: f['median'] for f in r['figures'] if f['what'] == 'memory'}  # of a fresh process
    assert (
        list(m) == ['imports', 'model', 'forward, 1', 'forward, 2']
        and 100 < m['imports'] < m['model'] <= m['forward, 1'] <= m['forward, 2']
    )

@pytest.mark.slow
def test_an_architecture_of_this_process_only_gets_a_note(monkeypatch):
    from ecg_arrhythmia.models.architectures import Architecture

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.classifier = nn.Conv2d(3, 4, 3), nn.Linear(4, 9)

        def forward(self, x):
            return self.classifier(self.body(x).mean((2, 3)))

    monkeypatch.setitem(ARCHITECTURES, 'mine', Architecture('mine', 'Mine', weights='', size=32, build=Net))
    monkeypatch.setattr(C, 'energy', lambda *a, **kw: [])
    r = measure_cost('mine', device='cpu', quick=True)
    assert (
        r['parameters'] == 3 * 4 * 9 + 4 + 4 * 4 + 4
        and len(r['notes']) == 1
        and 'memory' in r['notes'][0]
        and {f['what'] for f in r['figures']} == {'latency', 'throughput'}
    )
    assert architecture_style('mine')['marker'] not in ARCHITECTURE_MARKERS.values()

# --- the front

@pytest.mark.parametrize('cost,score,want', [
    ([1], [.5], [1]), ([], [], []),
    ([1, 1], [.5, .5], [1, 1]), # the same twice: neither beats the other
    ([1, 1], [.5, .6], [0, 1]), ([1, 2], [.5, .5], [1, 0]), # a tie in one is decided by the other
    ([1, 2, 3], [.9, .8, .7], [1, 0, 0]), ([3, 2, 1], [.9, .8, .7], [1, 1, 1]),
    ([1, np.nan, 2], [.5, .9, .6], [1, 0, 1]), ([1, 2, 3], [.5, np.nan, .6], [1, 0, 1]), ([np.nan], [np.nan], [0]),
    ([0, np.inf], [.5, .6], [1, 1])])
def test_pareto(cost, score, want): assert pareto(cost, score).tolist()==[bool(w) for w in want]

def test_pareto_against_the_definition():
    rng = np.random.default_rng(0)
    for _ in range(20):
        c, s = rng.integers(0, 6, 12), rng.integers(0, 6, 12)
        slow = [not any(c[j]<=c[i] and s[j]>=s[i] and (c[j]<c[i] or s[j]>s[i]) for j in range(12)) for i in range(12)]
        assert pareto(c, s).tolist()==slow

def test_pareto_bad_input():
    for bad in (([1, 2], [1]), ([[1]], [[1]]), (1, 2)):
        with pytest.raises(ECGError, match='one cost and one score'): pareto(*bad)

def scored(*rows):
    return pd.DataFrame(rows, columns=['name', 'gmacs', 'score', 'low', 'high']).assign(
        parameters=lambda t: t.gmacs * 1e6, MB=lambda t: t.gmacs * 4
    )

def test_front_gains():
    t = scored(
        ('a', 1.0, 0.90, 0.88, 0.91),
        ('b', 3.0, 0.94, 0.91, 0.96),
        ('c', 4.0, 0.93, 0.9, 0.95),
        ('twin', 3.0, 0.94, 0.91, 0.96),
    )
    g = front_gains(t)
    assert (
        g[['from', 'to']].to_numpy().tolist() == [['a', 'b']]
        and g.gain[0] == pytest.approx(0.04)
        and g.per_unit[0] == pytest.approx(0.02)
        and g.factor[0] == 3
    )
    assert g.low[0] == pytest.approx(0.04 - np.hypot(0.03, 0.01)) and g.high[0] == pytest.approx(
        0.04 + np.hypot(0.02, 0.02)
    )
    assert len(front_gains(t.iloc[:1])) == 0 and list(front_gains(t.iloc[:1])) == list(g)

def test_study_table():
    t = study_table().set_index('name')
    assert (
        set(t.index) == set(GOLDEN)
        and (t.low < t.score).all()
        and (t.score < t.high).all()
        and ((t.high - t.low) / 2).between(0.006, 0.013).all()
    )
    for name, (score, _, f1) in STUDY_SCORES.items():
        assert np.mean(f1) == pytest.approx(score, abs=1e-4)  # typed without a slip
    assert sum(STUDY_SUPPORT.values()) == 2118

def test_likely_confusion():
    f1, n = [0.9, 0.8, 0.95, 0.7], [100, 50, 400, 30]
    c = likely_confusion(f1, n)
    assert (
        c.sum(1) == pytest.approx(n)
        and c.sum(0) == pytest.approx(n)
        and f1_scores(c) == pytest.approx(f1)
        and (c >= 0).all()
    )
    assert likely_confusion([1, 1], [5, 7]).tolist() == [[5, 0], [0, 7]]
    for bad, says in (
        (([0.9], [1, 2]), 'F1 in 0..1'),
        (([1.2, 0.9], [5, 5]), 'F1 in 0..1'),
        (([0.9, 0.9], [5, 0]), 'F1 in 0..1'),
        (([0.5, 1.0], [10, 10]), 'more errors'),
    ):
        with pytest.raises(ECGError, match=says):
            likely_confusion(*bad)

def test_where_the_errors_go_matters_little():
    "The guess that is left open: all of one class's errors into the class that they are likeliest in, or spread"
    f1, n = STUDY_SCORES['resnet18'][2], [*STUDY_SUPPORT.values()]
    c = likely_confusion(f1, n)
    half = (np.diff(f1_interval(c))/2).item()
    swapped = c + np.array([[0, 1, 0, -1], [1, 0, -1, 0], [0, -1, 0, 1], [-1, 0, 1, 0]])*.99*min(c[0, 3], c[1, 2])
    assert swapped.sum(1)==pytest.approx(n) and (np.diff(f1_interval(swapped))/2).item()==pytest.approx(half, rel=.08)

def test_plot_cost():
    t = scored(
        ('resnet18', 1.0, 0.90, 0.88, 0.91),
        ('mine', 3.0, 0.94, 0.91, 0.96),
        ('vit_b_16', 4.0, np.nan, np.nan, np.nan),
        ('resnet50', 4.0, 0.93, 0.9, 0.95),
    )
    fig = plot_cost(t)
    assert (
        len(fig.axes) == 3
        and all(ax.get_xscale() == 'log' for ax in fig.axes)
        and len(fig.legends[0].get_texts()) == 3
    )
    points = [l for l in fig.axes[0].lines if l.get_marker() not in ('None', '')]
    assert [l.get_markerfacecolor() != 'w' for l in points] == [True, True, False]  # the front is filled
    two = plot_cost(pd.concat([t.assign(series='one'), t.assign(series='two')]), dict(gmacs='GMACs'))
    assert [ax.get_title(loc='left') for ax in two.axes] == ['one', 'two']
    with pytest.raises(ECGError, match='lacks the columns low'):
        plot_cost(t.drop(columns='low'))

# --- colours

def test_style():
    assert set(ARCHITECTURE_COLORS) == set(ARCHITECTURE_MARKERS) == set(ARCHITECTURES) and set(
        CLASS_COLORS
    ) == {'AFIB', 'GSVT', 'SB', 'SR'}
    eleven = class_colors(['AFIB', 'AF', 'ST', 'SVT', 'AT', 'AVNRT', 'AVRT', 'SAAWR', 'SB', 'SR', 'SI'])
    assert len(eleven)==11 and len(set(eleven.values())) > 9 and eleven['SB']==CLASS_COLORS['SB']

# --- a GPU, pretended

@pytest.mark.parametrize('cut, counters', [(False, ['NVML']), (True, [])])
def test_a_gpu_that_is_cut_into_instances_has_no_counter_of_its_own(tmp_path, monkeypatch, cut, counters):
    "It counts the work of all instances, of other people's too"
    import sys
    from types import ModuleType, SimpleNamespace
    nvml = ModuleType('pynvml')
    nvml.NVMLError = OSError
    nvml.nvmlInit = lambda: None
    nvml.nvmlDeviceGetHandleByUUID = lambda uuid: uuid
    nvml.nvmlDeviceGetMigMode = lambda card: [int(cut), int(cut)]
    nvml.nvmlDeviceGetTotalEnergyConsumption = lambda card: 5000
    monkeypatch.setitem(sys.modules, 'pynvml', nvml)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'current_device', lambda: 1)
    monkeypatch.setattr(torch.cuda, 'get_device_properties', lambda i: SimpleNamespace(uuid=f'number-{i}'))
    found = energy_counters(tmp_path)
    assert list(found)==counters and all(read()==5. for read,_ in found.values())

@pytest.mark.parametrize('measure', [
    lambda: latency('mobilenet_v3_small', device='gpu'), lambda: throughput('mobilenet_v3_small', device='gpu'),
    lambda: M.memory_stages('mobilenet_v3_small', 'gpu', 1, False)], ids=['latency', 'throughput', 'memory'])
def test_what_is_measured_is_settled_on_its_device(measure):
    "As predictions are: 32-bit convolutions in 32 bits, on the GPU that is named"
    with pytest.raises(ECGError, match='gpu: cannot be used here'): measure()

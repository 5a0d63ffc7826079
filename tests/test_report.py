"Profiles, whole studies and their results: against brute force, interrupted, of other data; and the report redrawn from them"
import importlib.util
import json
import re
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import pandas as pd
import pytest
import torch
import yaml

from networks import *

from ecg_arrhythmia.reporting import results as kept
from ecg_arrhythmia.reporting import study as r
from ecg_arrhythmia.data.datasets import catalogue
from ecg_arrhythmia.evaluation.metrics import evaluate
from ecg_arrhythmia.data.rhythms import label
from ecg_arrhythmia.data.splits import load_split
from ecg_arrhythmia.evaluation.tables import load_predictions
from ecg_arrhythmia.reporting.cohort import (
    AGE_STEP, conditions, histogram, load_profile, plot_ages, plot_conditions, plot_rates,
    profile, save_profile)
from ecg_arrhythmia.core import ECGError
from ecg_arrhythmia.training.runs import load_run
from ecg_arrhythmia.data.simulated_datasets import simulate_dataset
from ecg_arrhythmia.charts.encoding import store_spec
from ecg_arrhythmia.charts.store import ChartStore
from ecg_arrhythmia.training.holdout import predict_run

root = Path(__file__).resolve().parent.parent
parts = [root/f'nbs/report/{n}.ipynb' for n in ('1_data', '2_methods', '3_results', '4_discussion')]
TINY = r.Study(layouts='3x4', size=64, style='grey', folds=2, seeds=2, seed_folds=1, explain=2, cost=False)

PACKAGE = 'mobilenet_v3_small' # what a process without the tests knows, such as a notebook

def run(data, out, arch='tiny', **changes):
    "A tiny study"
    how = dict(arch=arch, epochs=1, batch_size=8, device='cpu', progress=False, say=lambda stage: None)
    return r.run_study(data, out, replace(TINY, **changes), **how)

SPACE = """
bayes:
  trials: 3
  startup: 2
  warmup: 1
  folds: 1
  fixed: {epochs: 1, batch_size: 8, augment: false}
  space:
    lr: {log: [1e-4, 1e-2]}
    optimizer: [adam, sgd]
refine: {limit: 1}
"""

@pytest.fixture(scope='module')
def data(tmp_path_factory): return simulate_dataset(tmp_path_factory.mktemp('data')/'d', n=66, seed=1, progress=False)

@pytest.fixture(scope='module')
def elsewhere(tmp_path_factory):
    "Other recordings, by other names"
    out, made = tmp_path_factory.mktemp('elsewhere'), simulate_dataset(
        tmp_path_factory.mktemp('made') / 'd', n=22, seed=5, progress=False
    )
    with ZipFile(made/'ECGData.zip') as old, ZipFile(out/'ECGData.zip', 'w') as new:
        for n in old.namelist(): new.writestr(n.replace('SIM_', 'ELSE_'), old.read(n))
    pd.read_excel(made / 'Diagnostics.xlsx').replace('^SIM_', 'ELSE_', regex=True).to_excel(
        out / 'Diagnostics.xlsx', index=False
    )
    (out/'simulation.json').write_text((made/'simulation.json').read_text())
    return out

def interrupted_study(data, elsewhere, out, arch):
    "A study with a search, interrupted in its seeds and gone on with"
    (space := out/'given.yaml').write_text(SPACE)
    run_seeds, calls = r.run_seeds, []
    def interrupted(*a, **kw):
        calls.append(1)
        if len(calls)==1: raise KeyboardInterrupt
        return run_seeds(*a, **kw)
    r.run_seeds = interrupted
    try:
        with pytest.raises(KeyboardInterrupt): run(data, out, arch, space=space, elsewhere=elsewhere)
        assert not (out/'results').exists() and (out/'stages.json').exists()
        space.unlink() # the study has its own copy
        run(data, out, arch, space=space, elsewhere=elsewhere)
    finally: r.run_seeds = run_seeds
    return out

@pytest.fixture(scope='module')
def study(data, elsewhere, tiny_network, tmp_path_factory):
    return interrupted_study(data, elsewhere, tmp_path_factory.mktemp('study'), tiny_network)

@pytest.fixture(scope='module')
def study_of_the_package(data, elsewhere, tmp_path_factory):
    return interrupted_study(data, elsewhere, tmp_path_factory.mktemp('package'), PACKAGE)

def test_profile_counts_everybody_once_and_names_nobody(data, tmp_path):
    cat = catalogue(data)
    p = load_profile(save_profile(profile(cat, workers=1, progress=False), tmp_path/'p.json'))
    y = label(cat)
    for sex,t in p['age'].items():
        for c in t: assert t[c].sum()==((cat.table.sex==sex) & (y==c) & cat.table.age.notna()).sum()
    for c in p['rate']: assert p['rate'][c].sum()==(y==c).sum()
    assert p['rhythms'].here.sum()==len(cat) and p['quality']['default'].loc['all', 'recordings']==len(cat)
    assert p['age']['F'].index.to_series().diff().dropna().eq(AGE_STEP).all()
    assert not [n for n in cat if n in (tmp_path/'p.json').read_text()]
    for f in (plot_ages, plot_rates, plot_conditions): assert f(p).axes

def test_histogram_ignores_the_unknown():
    t = histogram(pd.Series([1, 29, float('nan'), 'x'], list('abcd')), pd.Series(list('PPQQ'), list('abcd')), 10)
    assert t['P'].tolist()==[1, 0, 1] and t.index.tolist()==[0, 10, 20] and 'Q' not in t

def test_conditions_said_twice_are_found_once_and_rare_ones_put_together():
    names = list('abcdef')
    t = conditions(pd.Series(['A A B', 'A', 'A C', 'NONE', None, 'D'], names), pd.Series(['X']*3 + ['Y']*3, names), least=2)
    assert t.loc['A', 'X']==3 and t.loc['(rarer)'].tolist()==[2, 1, 3] and t.loc['NONE', 'Y']==2 and t.index[-1]=='NONE'

@pytest.mark.parametrize(
    'origin,missing,word',
    [
        ('simulated', 0, 'SIMULATED'),
        ('simulated', 9, 'SIMULATED'),
        ('real', 9, 'SAMPLE'),
        ('real', 0, 'FULL'),
    ],
)
def test_origin_is_unmistakable(origin, missing, word):
    words = kept.data_words(dict(title='T', origin=origin, recordings=10, missing=missing))
    assert [w for w in ('SIMULATED', 'SAMPLE', 'FULL') if w in words] == [word]

@pytest.mark.parametrize(
    'text,want',
    [
        ('/a/b/search/start/{fold}.safetensors', 'search/start/{fold}.safetensors'),
        ('x,/mnt/u/w/run/m.st,y', 'x,run/m.st,y'),
        ('"/mnt/w.st"', '"mnt/w.st"'),
        ('bayes/trial0000/fold0', 'bayes/trial0000/fold0'),
        ('https://x.org/a/b/c', 'https://x.org/a/b/c'),
        ('3/4', '3/4'),
    ],
)
def test_portable(text, want):
    assert kept.portable(text, '/a/b/search') == want

def test_an_interrupted_study_opens_the_hold_out_once(study):
    s = json.loads((study / 'results/study.json').read_text())
    assert (
        s['opened'] == 1
        and s['data']['origin'] == 'simulated'
        and s['split']['digest'] == load_split(study / 'split.json').digest
    )
    assert (
        s['stages']['seeds'] > 0
        and s['hours']['how'].startswith('measured')
        and s['hours']['value'] == pytest.approx(sum(s['stages'].values()) / 3600)
    )

def test_results_are_small_and_of_no_machine(study):
    files = [f for f in (study/'results').rglob('*') if f.is_file()]
    assert {f.suffix for f in files} <= {'.json', '.csv', '.log', '.yaml'} and sum(f.stat().st_size for f in files) < 2e6
    for f in files: assert not re.search(r'(?<![\w.:/}])/(\w[\w.-]*/)+', f.read_text()), f

def test_results_hold_what_the_runs_said(study):
    R, split = kept.Results(study/'results'), load_split(study/'split.json')
    tables = {k: load_predictions(R.path/f'search/{k}.csv').set_index('name') for k in ('train', 'valid', 'test')}
    assert set(tables['test'].index) == set(split.test) and set(tables['valid'].index) == set(
        split.train
    ) == set(tables['train'].index)
    assert (tables['train'].fold=='train').all()
    m = R.json('search/metrics.json')
    assert m['macro_f1']==pytest.approx(evaluate(tables['test'].reset_index())['macro_f1'])
    found = kept.train_against_test(R, n_boot=50)
    assert found.loc[('hold-out', 'macro', 'f1'), 'value']==pytest.approx(m['macro_f1'])
    assert len(R.trials().trials)==3 and set(R.runs().stage)=={'bayes', 'refine', 'seeds', 'retrain'}

def test_explanations_are_of_recordings_that_the_run_had_not_seen(study):
    t, split = kept.Results(study/'results').table('explain/shares.csv'), load_split(study/'split.json')
    assert set(t.name) <= set(split.folds[0]) and len(t)==2

def test_parts_of_a_study_are_of_its_model(study, elsewhere, tmp_path, monkeypatch):
    "Where the search was deleted and made again, what stands of the model before is made again too, or refused"
    from types import SimpleNamespace as Named
    from ecg_arrhythmia.explanation import maps
    from ecg_arrhythmia.training import holdout
    made = []
    def predicted(run, cat, out, **kw):
        made.append(('elsewhere', run.digest))
        return load_predictions(study/'elsewhere/predictions.csv'), dict(known=1)
    monkeypatch.setattr(holdout, 'predict_elsewhere', predicted)
    monkeypatch.setattr(maps, 'explain_run', lambda run, *a, **kw: made.append(('explain', run.digest)))
    for name in ('elsewhere/about.json', 'elsewhere/predictions.csv', 'explain/explain.json'):
        (tmp_path/name).parent.mkdir(exist_ok=True)
        (tmp_path/name).write_bytes((study/name).read_bytes())
    at, asked = r._Place(tmp_path, say=lambda stage: None), replace(TINY, elsewhere=elsewhere)
    tested = load_run(study/'search/retrain/run')
    explained = Named(digest=json.loads((study/'explain/explain.json').read_text())['model'])
    def parts(run, fold):
        r._elsewhere(run, asked, at)
        r._explain(fold, asked, at, None, None)
    parts(tested, explained)
    assert not made
    other = Named(digest='another', config=Named(arch='vgg11'))
    parts(other, other)
    assert made==[('elsewhere', 'another'), ('explain', 'another')]
    costs = dict(settings=dict(quick=False, watts=None), results=dict(run=dict(arch='tiny')))
    (tmp_path/'cost.json').write_text(json.dumps(costs))
    with pytest.raises(ECGError, match='another architecture'): r._costs(other, asked, at)

def test_another_data_set_is_predicted_and_said(study, elsewhere):
    R = kept.Results(study / 'results')
    about = R.json('evaluation/elsewhere.json')
    assert (
        about['origin'] == 'simulated'
        and about['digest'] == catalogue(elsewhere).digest
        and len(R.predictions('evaluation/elsewhere.csv')[0]) == about['known']
    )

SCHOOL = dict(arch='tiny', weights=None, n=110, spec=store_spec('strip', (16, 64)), epochs=1, batch_size=16, device='cpu', progress=False)

def test_a_school_is_another_one_with_other_recordings_charts_or_weights(tmp_path):
    from ecg_arrhythmia.models.weights import create_model
    from ecg_arrhythmia.training.school import pretrain
    weights = tmp_path/'w.pth'
    torch.save(create_model('tiny', 3).state_dict(), weights)
    file = pretrain(tmp_path/'s', **SCHOOL | dict(weights=str(weights)))
    moved = weights.rename(tmp_path/'moved.pth')
    assert pretrain(tmp_path/'s', **SCHOOL | dict(weights=str(moved)))==file, 'the same weights elsewhere'
    torch.save(create_model('tiny', 3).state_dict(), moved)
    others = dict(spec=store_spec('3x4', (16, 64))), dict(spec=store_spec('strip', (32, 64)))
    for change in dict(n=120), *others, dict(weights=str(moved)):
        with pytest.raises(ECGError, match=next(iter(change))):
            pretrain(tmp_path/'s', **SCHOOL | dict(weights=str(moved)) | change)

def test_a_school_removes_only_what_it_made(tmp_path):
    from ecg_arrhythmia.data.simulated_datasets import simulate_dataset, spread
    from ecg_arrhythmia.training.school import SCHOOL as SHARES, pretrain
    mine = simulate_dataset(tmp_path/'s/recordings', counts=spread(110, SHARES), seed=0, progress=False)
    pretrain(tmp_path/'s', **SCHOOL)
    assert (mine/'Diagnostics.xlsx').exists() and not (tmp_path/'s/charts.lmdb').exists()

@pytest.mark.slow
def test_a_school_comes_before_all_else(data, tmp_path):
    R = kept.Results(run(data, tmp_path/'s', PACKAGE, school=110, seeds=0, explain=0))
    assert R.study['config']['weights']=='run/model.safetensors' and R.study['stages']['school'] > 0

@pytest.mark.slow
def test_cost_is_measured_and_kept(data, study_of_the_package):
    R = kept.Results(run(data, study_of_the_package, PACKAGE, space='gone.yaml', cost=True, quick=True))
    assert list(R.json('cost/costs.json')['results'])==['retrain/run']

def test_only_the_comparison_sees_what_was_trained_on(study):
    run, store, split = (
        load_run(study / 'search/retrain/run'),
        ChartStore(study / 'charts.lmdb'),
        load_split(study / 'split.json'),
    )
    with pytest.raises(ECGError, match='were trained on'): predict_run(run, store, split.train, device='cpu')
    seen = kept.predict_trained(run, store, split, device='cpu', progress=False)
    assert set(seen.name)==set(split.train) and not set(seen.name) & set(split.test)
    other = replace(split, test=split.test[1:], folds=(*split.folds[:-1], (*split.folds[-1], split.test[0])))
    with pytest.raises(ECGError, match='was trained on split'):
        kept.predict_trained(run, store, other, device='cpu', progress=False)

def test_a_folder_of_another_study_is_refused(data, study, tmp_path):
    other = simulate_dataset(tmp_path/'other', n=66, seed=2, progress=False)
    with pytest.raises(ECGError, match='other recordings'): run(other, study)
    with pytest.raises(ECGError, match='another split'): run(data, study, seed=7)

def test_gathered_again_it_is_the_same(data, study, tmp_path):
    again = kept.gather(study, tmp_path/'r', catalogue(data), device='cpu', progress=False)
    files = sorted(
        f.relative_to(study / 'results')
        for f in (study / 'results').rglob('*')
        if f.is_file() and f.name != 'study.json'
    )
    assert files and all((again/f).read_bytes()==(study/'results'/f).read_bytes() for f in files)

def test_no_folder_of_results(tmp_path):
    with pytest.raises(ECGError, match='not a folder of results'): kept.Results(tmp_path)
    (tmp_path/'study.json').write_text('{')
    with pytest.raises(ECGError, match='damaged'): kept.Results(tmp_path)

def test_banner_says_when_the_prose_is_of_other_results(study):
    R = kept.Results(study/'results')
    assert 'SIMULATED' in kept.banner(R).data and 'other results' not in kept.banner(R, R.study['data']['digest']).data
    assert 'other results' in kept.banner(R, 'another').data

def test_command_refuses_what_belongs_to_collect(data, tmp_path):
    from fastcore.script import CliError
    from ecg_arrhythmia.commands.report import ecg_report
    with pytest.raises(CliError, match='--store belongs to --collect'): ecg_report(data, tmp_path/'x', store=tmp_path)

def test_saved_results_say_what_they_are():
    R = kept.Results(root/'nbs/report/results')
    assert R.study['data']['origin']=='real' and R.profile()['digest']==R.study['data']['digest']
    assert len(load_predictions(R.path/'search/test.csv'))==R.study['split']['test']
    assert sum(f.stat().st_size for f in R.path.rglob("*") if f.is_file()) < 12e6 # a peer in five folds has .5 MB

HOME = {
    'recipe and charts of the published study': 'accuracy/study-[0-9]*.csv',
    'default recipe, twice the epochs': 'accuracy/twice-[0-9]*.csv',
    'measurements of the signal, no picture': 'accuracy/signal-[0-9]*.csv',
    'best of a [small search]': 'search/test.csv',
}

def row_of(scores):
    "Macro-F1, its interval and accuracy as a table shows them"
    def cut(v): return f'{v:.3f}'[1:]
    low, high = scores.get('macro_f1_ci') or (scores['low'], scores['high'])
    return f"| {cut(scores['macro_f1'])} | {cut(low)} to {cut(high)} | {cut(scores['accuracy'])} |"

def test_numbers_of_the_home_page_are_those_of_the_saved_results():
    from ecg_arrhythmia.evaluation.compare import over_seeds
    R, home = kept.Results(root/'nbs/report/results'), (root/'README.md').read_text()
    rows = [l for l in home.splitlines() if l.startswith('| ')]
    def scores(pattern): return evaluate(t[0]) if len(t := R.predictions(pattern))==1 else over_seeds(t)
    for name,pattern in HOME.items():
        row = next(l for l in rows if l.startswith(f'| {name}'))
        assert row.endswith(row_of(scores(pattern))), (row, row_of(scores(pattern)))
    at_home, away = [l for l in rows if l.startswith('| default recipe |')]
    assert at_home.endswith(row_of(scores('accuracy/default-[0-9]*.csv')))
    assert away.endswith(row_of(scores('evaluation/ptbxl-[0-9]*.csv')))

def test_numbers_and_references_of_the_paper_are_unique_and_resolve():
    spec = importlib.util.spec_from_file_location('paper', root/'.ci/paper.py')
    spec.loader.exec_module(paper := importlib.util.module_from_spec(spec))
    import nbformat
    nb = nbformat.from_dict(paper.join(root))
    nbformat.validate(nb)
    for c in nb.cells: c.source = ''.join(c.source)
    labels = [m for c in nb.cells if c.cell_type=='code' for m in re.findall(r'^#\| label: (\S+)', c.source, re.M)]
    assert len(set(labels))==len(labels) > 30
    prose = '\n'.join(c.source for c in nb.cells if c.cell_type=='markdown')
    assert set(re.findall(r'@((?:fig|tbl)-[\w-]+)', prose)) <= set(labels)
    assert not re.search(r'\]\([^)]*\.ipynb', prose)
    assert set(re.findall(r'\]\(#(sec-\w+)\)', prose)) <= set(re.findall(r'\{#(sec-\w+)\}', prose))

def test_tables_of_the_paper_are_markdown_and_its_banner_is_there_once():
    spec = importlib.util.spec_from_file_location('paper', root/'.ci/paper.py')
    spec.loader.exec_module(paper := importlib.util.module_from_spec(spec))
    head, *cells = paper.join(root)['cells']
    outputs = [o.get('data', {}) for c in cells if c['cell_type']=='code' for o in c['outputs']]
    assert not any('<table' in ''.join(d.get('text/html', '')) for d in outputs)
    assert sum('.callout-' in ''.join(d.get('text/markdown', '')) for d in outputs)==1
    title = yaml.safe_load(''.join(head['source']).strip('-\n'))
    assert title['author'] and re.fullmatch(r'\d{4}-\d\d-\d\d', title['date']) and 'PTB-XL' in title['abstract']

def test_a_table_of_the_paper_has_one_header_and_keeps_numbers_whole():
    spec = importlib.util.spec_from_file_location('paper', root/'.ci/paper.py')
    spec.loader.exec_module(paper := importlib.util.module_from_spec(spec))
    df = pd.DataFrame({('f1', 'mean'): ['< .5'], ('f1', 'sd'): ['.1']}, index=pd.Index(['a|b'], name='class'))
    head, rows = paper.table_of(df.to_html())
    assert head==['class', 'f1, mean', 'f1, sd'] and rows==[['a|b', '< .5', '.1']]
    text, points = paper.pipe_table(paper.escaped(head), list(map(paper.escaped, rows)))
    assert points==max(paper.CAPACITY) and 'a\\|b' in text and '\\< .5' in text
    wide = [['x'] + ['.878 (.775 to .958)']*7]
    assert paper.pipe_table(['c']*8, wide)[1] < max(paper.CAPACITY)
    with pytest.raises(ValueError, match='too wide'): paper.pipe_table(['c']*12, [['.878 (.775 to .958)']*12])

@pytest.mark.parametrize('path', parts, ids=lambda p: p.stem)
def test_every_figure_and_table_has_caption_and_alternative_text(path):
    for c in json.loads(path.read_text())['cells']:
        text = ''.join(c['source'])
        kind = (re.findall(r'^#\| label: (fig|tbl)-', text, re.M) or [None])[0]
        if kind: assert f'#| {kind}-cap: "' in text and (kind=='tbl' or '#| fig-alt: "' in text)
        if any('image/png' in o.get('data', {}) for o in c.get('outputs', [])): assert kind=='fig', text[:80]

def redrawn(path, results, out):
    "A part, run on other results"
    import papermill
    papermill.execute_notebook(path, out, dict(results=str(results)), cwd=path.parent, progress_bar=False)
    text = out.read_text()
    assert 'SIMULATED recordings, not patients' in text and 'written for other results' in text
    return text

@pytest.mark.slow
@pytest.mark.parametrize('path', parts, ids=lambda p: p.stem)
def test_a_part_is_redrawn_from_other_results(path, study_of_the_package, tmp_path):
    redrawn(path, study_of_the_package/'results', tmp_path/'p.ipynb')

@pytest.fixture(scope='module')
def bare(data, tmp_path_factory):
    "A study of the recipe alone: no search, seeds, explanations, costs or other data"
    return run(data, tmp_path_factory.mktemp('bare'), PACKAGE, seeds=0, explain=0)

@pytest.mark.slow
@pytest.mark.parametrize('path', parts, ids=lambda p: p.stem)
def test_a_part_says_what_results_lack(path, bare, tmp_path):
    text = redrawn(path, bare, tmp_path/'p.ipynb')
    if path.stem=='3_results': assert text.count('not part of these results') >= 8

"What every command refuses before it begins: files that are somebody else's, inputs as outputs, options that cannot work"
import subprocess
import sys
from pathlib import Path

import pytest
from fastcore.script import CliError

from ecg_arrhythmia.commands.data import ecg_check, ecg_pack, ecg_split
from ecg_arrhythmia.commands.jobs import ecg_plan
from ecg_arrhythmia.commands.jobs import ecg_run, ecg_submit
from ecg_arrhythmia.commands.pictures import ecg_digitise
from ecg_arrhythmia.commands.prediction import ecg_export, ecg_predict
from ecg_arrhythmia.commands.report import ecg_bench, ecg_cost, ecg_report
from ecg_arrhythmia.commands.say import OUTPUT_KINDS
from ecg_arrhythmia.commands.search import ecg_consolidate, ecg_retrain, ecg_search, ecg_seeds
from ecg_arrhythmia.commands.training import ecg_compare, ecg_demo, ecg_evaluate, ecg_pretrain, ecg_train
from ecg_arrhythmia.search.space import TEMPLATE

X = Path('nothing-is-read')
WRITE = {  # what is written to `out`; nothing else that is named exists, so a command that read first would say so
    'check': lambda out: ecg_check(X, out=out),
    'split': lambda out: ecg_split(X, out),
    'pack': lambda out: ecg_pack(X, out, overwrite=True),
    'png': lambda out: ecg_pack(X, X / 's.lmdb', png=out),
    'train': lambda out: ecg_train(X, X, out),
    'evaluate': lambda out: ecg_evaluate(X, X, X, out),
    'pretrain': lambda out: ecg_pretrain(out),
    'compare': lambda out: ecg_compare(X, X / 'b', out=out),
    'demo': lambda out: ecg_demo(out=out),
    'seeds': lambda out: ecg_seeds(X, X, X, out),
    'page': lambda out: ecg_predict(X, X, html=out),
    'predictions': lambda out: ecg_predict(X, X, out=out),
    'costs': lambda out: ecg_cost('resnet18', json=out),
    'cost table': lambda out: ecg_cost('resnet18', csv=out),
    'benchmarks': lambda out: ecg_bench('charts', json=out),
    'report': lambda out: ecg_report(X, out),
    'gpu': lambda out: ecg_bench('gpu', json=out),
    'export': lambda out: ecg_export(X, out, overwrite=True),
    'consolidate': lambda out: ecg_consolidate(X, out),
    'plan': lambda out: ecg_plan(out, X, X),
    'overlay': lambda out: ecg_digitise(X, page=out),
}

@pytest.mark.parametrize('command', list(WRITE))
@pytest.mark.parametrize('kind', ['file', 'folder'])
def test_what_belongs_to_somebody_is_left_alone(tmp_path, command, kind):
    letter = tmp_path/'out'/'letter.txt' if kind=='folder' else tmp_path/'out'
    letter.parent.mkdir(exist_ok=True)
    letter.write_text('name,peak\nDear colleague,')
    with pytest.raises(CliError, match='is not a|is not .* as'): WRITE[command](tmp_path/'out')
    assert letter.read_text()=='name,peak\nDear colleague,' and len(list(tmp_path.rglob('*')))==1+(kind=='folder')

def test_a_template_replaces_nothing(tmp_path):
    (tmp_path/'link').symlink_to('nowhere')
    for name in ('link', '.'):
        with pytest.raises(CliError, match='left as it is'): ecg_search(tmp_path/name, template=True)
    assert (tmp_path/'link').is_symlink()

def test_a_search_leaves_folders_of_others_alone(tmp_path):
    (tmp_path/'space.yaml').write_text(TEMPLATE)
    (tmp_path/'out').mkdir()
    (tmp_path/'out/letter.txt').touch()
    with pytest.raises(CliError, match='is not a folder of a search'):
        ecg_search(tmp_path / 'space.yaml', X, X, tmp_path / 'out')

@pytest.mark.parametrize('name', ['run', 'test'])
def test_retrain_leaves_folders_of_others_alone(tmp_path, name):
    (tmp_path/'out'/name).mkdir(parents=True)
    (tmp_path/'out'/name/'letter.txt').touch()
    with pytest.raises(CliError, match='and is not a'): ecg_retrain(X, X, X, tmp_path/'out')

@pytest.mark.parametrize('name', ['runs.csv', 'configurations.csv'])
def test_consolidate_leaves_tables_of_others_alone(tmp_path, name):
    (tmp_path/name).write_text('name,phone')
    with pytest.raises(CliError, match='is not a table of'): ecg_consolidate(tmp_path)
    assert (tmp_path/name).read_text()=='name,phone'

@pytest.mark.parametrize('name,there,says', [
    ('out.csv', 'out.csv', 'is not a table of samples'),
    ('out.hea', 'out.hea', 'is not a record that'),
    ('out.hea', 'out.dat', 'without a header'),
])
def test_digitise_leaves_files_of_others_alone(tmp_path, name, there, says):
    (tmp_path/there).write_text('Dear colleague,')
    with pytest.raises(CliError, match=says): ecg_digitise(X, out=tmp_path/name)
    assert (tmp_path/there).read_text()=='Dear colleague,'

def test_what_a_killed_command_left_is_no_stranger(tmp_path):
    from ecg_arrhythmia.commands.say import output
    for name in ('.lock', '.planning', '.config.json.123.half'): (tmp_path/name).touch()
    assert output(tmp_path, 'run')==tmp_path
    (tmp_path/'.profile').touch()
    with pytest.raises(CliError, match='is not a run'): output(tmp_path, 'run')

@pytest.mark.parametrize(
    'call',
    [
        lambda p: ecg_check(p, out=p),
        lambda p: ecg_split(p, p),
        lambda p: ecg_pack(p, p),
        lambda p: ecg_train(p, X, p),
        lambda p: ecg_train(X, p, p),
        lambda p: ecg_compare(p, X, out=p),
        lambda p: ecg_predict(p, X, html=p),
        lambda p: ecg_export(X, p, test=p),
        lambda p: ecg_plan(p, p, X),
        lambda p: ecg_digitise(p, page=p),
    ],
)
def test_an_input_is_never_an_output(tmp_path, call):
    data = tmp_path / 'data'
    data.write_text('somebody needs this')
    with pytest.raises(CliError, match='is an input'):
        call(data)
    assert data.read_text() == 'somebody needs this'

@pytest.mark.parametrize('call', [
    lambda p: ecg_predict(X, html=p, out=p),
    lambda p: ecg_digitise(X, out=p.with_suffix('.csv'), page=p.with_suffix('.csv')),
    lambda p: ecg_pack(X, p, png=p),
    lambda p: ecg_cost('resnet18', json=p, csv=p.parent/'.'/p.name),
], ids=['predict', 'digitise', 'pack', 'cost'])
def test_one_name_is_not_two_outputs(tmp_path, call):
    with pytest.raises(CliError, match='is named for two outputs'): call(tmp_path/'same')
    assert not list(tmp_path.iterdir())

def test_a_test_that_was_stopped_elsewhere_is_no_stranger(tmp_path):
    from ecg_arrhythmia.commands.say import output
    (tmp_path/'elsewhere').mkdir()
    assert output(tmp_path, 'test')==tmp_path, 'one that ended at once'
    (tmp_path/'somebody.txt').touch()
    with pytest.raises(CliError, match='is not a folder of results'): output(tmp_path, 'test')
    (tmp_path/'elsewhere/charts.lmdb.partial').touch()
    assert output(tmp_path, 'test')==tmp_path

@pytest.mark.parametrize(
    'call,says',
    [
        (lambda: ecg_seeds(X, X, X, n=0), '--n 0'),
        (lambda: ecg_pack(X, Path('s.lmdb'), size='99999'), '8 to 4096'),
        (lambda: ecg_predict(X, X, coverage=90.0), '--coverage 90.0'),
        (lambda: ecg_split(X, Path('s.json'), test_size=2.0), '--test-size 2.0'),
        (lambda: ecg_split(X, Path('s.json'), folds=0), '--folds 0'),
        (lambda: ecg_train(X, X, Path('run'), epochs=-1), '--epochs -1'),
        (lambda: ecg_plan(Path('p'), X, X, kind='all'), '--kind'),
        (lambda: ecg_plan(Path('p'), X, X, space=X), '--space'),
        (lambda: ecg_plan(Path('p'), X, X, data=X), '--data'),
        (lambda: ecg_plan(Path('p'), X, X), 'no store'),
        (lambda: ecg_cost(watts=-1.0), '--watts'),
        (lambda: ecg_cost('resnet18', device='gpu9'), '--device gpu9: cannot be used here'),
        (lambda: ecg_demo(n=0), '--n 0'),
        (lambda: ecg_consolidate(X, folds=0), '--folds 0'),
        (lambda: ecg_export(X, Path('model'), temperature=1e9), '--temperature'),
        (lambda: ecg_report(X, Path('study'), seed_folds=-1), '--seed-folds -1'),
    ],
)
def test_options_that_cannot_work_are_refused_at_once(tmp_path, monkeypatch, call, says):
    monkeypatch.chdir(tmp_path)
    if '8 to 4096' in says:
        monkeypatch.setattr('ecg_arrhythmia.commands.data.open_command', lambda *a: None)
    with pytest.raises(CliError, match=says):
        call()
    assert not list(tmp_path.iterdir())

@pytest.fixture
def plan(tmp_path):
    from ecg_arrhythmia.jobs.plan import Job, make_plan
    return make_plan(tmp_path/'a plan, 100%', [Job('train', dict(seed=1))])

@pytest.mark.parametrize('option,value', [
    ('time', 'soon'), ('time', ''), ('mem', 'nan'), ('mem', '-1'), ('partition', 'gpu\n#SBATCH --uid=0'), ('account', 'a b'),
])
def test_what_slurm_does_not_understand_is_refused(plan, option, value):
    with pytest.raises(CliError, match=f'--{option}'): ecg_submit(plan.path, dry_run=True, **{option: value})

def test_a_cache_is_a_folder(plan):
    for cache in (plan.path/'plan.json', Path('a\nb')):
        with pytest.raises(CliError, match='--cache'): ecg_submit(plan.path, dry_run=True, cache=cache)

def test_a_quantised_network_is_not_measured_on_what_was_trained_on(tmp_path, monkeypatch):
    from types import SimpleNamespace as Named
    from ecg_arrhythmia.commands.prediction import _measured_on
    held = 40
    monkeypatch.setattr('ecg_arrhythmia.charts.store.ChartStore', lambda path: dict.fromkeys(range(held)))
    split = Named(digest='x', labels={}, fold=lambda k: ((), tuple(range(50))))
    monkeypatch.setattr('ecg_arrhythmia.data.splits.load_split', lambda path: split)
    def run(**result): return Named(result=result, check_charts=lambda store: None)
    with pytest.raises(CliError, match='another split'): _measured_on(run(fold=0, split='y'), 's', 'p')
    with pytest.raises(CliError, match='all folds'): _measured_on(run(fold=None, split='x'), 's', 'p')
    assert _measured_on(run(fold=0, split='x'), 's', 'p')[1]==list(range(held))
    held = 39
    with pytest.raises(CliError, match='holds 39 recordings'): _measured_on(run(fold=0, split='x'), 's', 'p')

def test_a_batch_script_copes_with_any_name_of_a_plan(plan):
    from ecg_arrhythmia.jobs.slurm import submit
    script = submit(plan, dry_run=True)[0]
    assert '#SBATCH --job-name=ecg-a_plan__100_\n' in script
    assert f"#SBATCH --output='{plan.path}%/slurm/0'/%a.log" not in script
    assert f"#SBATCH --output='{plan.path}%/slurm/0/%a.log'\n" in script, 'quoted, and the percent sign doubled'

def test_a_plan_runs_at_least_one_at_once(plan):
    with pytest.raises(CliError, match='at least one run at once'): ecg_run(plan.path, workers=0)

@pytest.mark.parametrize('text', ['[]', '{}', '{"jobs": 1}', '{"jobs": {"../../x": {"notebook": "train", "params": {}}}}',
                                  '{"jobs": {"a": 1}}', '["jobs"]', 'null', '\x00', '{"jobs": {"a": {"b": 1}}}'])
def test_a_foreign_plan_is_read_with_care(tmp_path, text):
    from ecg_arrhythmia.jobs.plan import Plan
    (tmp_path/'plan.json').write_text(text)
    with pytest.raises(CliError, match='damaged'): Plan(tmp_path)

STRANGERS = { # folders that look a little like what a command writes
    'run': {'config.json': '{"model_type": "bert"}'},
    'model': {'model.json': '{"weights": []}'},
    'plan': {'plan.json': '{"monday": "rest"}'},
    'test': {'config.json': '{"config": 1, "store": 1, "split": 1}', 'predictions.csv': 'name,p_SR'},
    'charts': {'holiday/1.png': '', 'holiday/letter.txt': ''},
    'seeds': {'seeds-of-plants.txt': ''},
    'explanations': {'holiday.png': ''},
    'search': {'head': ''},
    'school': {'school.json': '{"pupils": 30}'},
}

@pytest.mark.parametrize('kind', list(STRANGERS))
def test_a_folder_that_looks_alike_is_left_alone(tmp_path, kind):
    from ecg_arrhythmia.commands.say import output
    for name,text in STRANGERS[kind].items():
        (tmp_path/name).parent.mkdir(exist_ok=True)
        (tmp_path/name).write_text(text)
    with pytest.raises(CliError, match='exists and is not'): output(tmp_path, kind)

@pytest.mark.parametrize('text', ['[]', 'null', '', 'name\nx', 'name,error,damage\na,b,c'])
def test_measures_are_recognised_by_their_columns(tmp_path, text):
    from ecg_arrhythmia.data.quality import load_quality
    (tmp_path/'q.csv').write_text(text)
    with pytest.raises(CliError, match='not a table that `ecg_check --out` wrote'): load_quality(tmp_path/'q.csv', ['x'])

@pytest.mark.parametrize('error,says', [
    (PermissionError(13, 'Permission denied', 'a.csv'), 'a.csv: Permission denied; change its permissions'),
    (OSError(28, 'No space left on device'), 'No space left on device; make room'),
    (RuntimeError("Symlink loop from '/a'"), 'a link to itself'),
    (ValueError('a mistake'), ''), (OSError(9, 'Bad file descriptor'), ''),
])
def test_what_the_system_says_is_a_line(error, says):
    from ecg_arrhythmia.commands.say import _of_the_system
    assert says in _of_the_system(error) and bool(says)==bool(_of_the_system(error))

@pytest.mark.parametrize('module,says', [
    ('PIL.Image', 'the package pillow, which is not installed'), ('pandas', 'the package pandas'), ('ecg_arrhythmia.nothing', ''),
])
def test_a_missing_package_is_a_line(module, says):
    from ecg_arrhythmia.commands.say import _missing_package
    text = _missing_package(ModuleNotFoundError(f'No module named {module!r}', name=module))
    assert says in text and bool(says)==bool(text)

def test_a_pipe_as_output_does_not_wait_for_a_writer(tmp_path):
    import os
    os.mkfifo(tmp_path/'pipe')
    for kind in ('split', 'measures', 'page', 'store', 'costs'):
        from ecg_arrhythmia.commands.say import output
        with pytest.raises(CliError, match='exists and is not'): output(tmp_path/'pipe', kind)

def test_every_kind_of_output_takes_what_is_not_there_yet(tmp_path):
    from ecg_arrhythmia.commands.say import output
    for kind in OUTPUT_KINDS: assert output(tmp_path/'new', kind)==tmp_path/'new'
    assert output(None, 'split') is None

@pytest.mark.parametrize('room', ['data', 'training', 'search', 'jobs', 'prediction', 'report'])
def test_help_loads_nothing_heavy(room):
    "`--help` is quick because a command imports what it needs when it runs"
    code = (f"import sys, ecg_arrhythmia.commands.{room}; print([m for m in ('torch', 'pandas', 'matplotlib', 'fastai', "
            f"'numpy') if m in sys.modules])")
    r = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert r.stdout.strip() == '[]'

@pytest.mark.parametrize('states,fails', [
    (['diverged'], '1 of 1 runs'), (['done', 'diverged'], '1 of 2 runs'), (['done', 'collapsed'], '')])
def test_a_training_that_diverged_is_an_error(tmp_path, monkeypatch, capsys, states, fails):
    from types import SimpleNamespace
    import numpy as np
    from ecg_arrhythmia.commands.training import ecg_train
    from ecg_arrhythmia.evaluation.tables import predictions
    def run(fold, status):
        names, probs = [f'r{fold}{i}' for i in range(8)], np.tile([.9, .1], (8, 1))
        table = predictions(names, probs, ['a', 'b'], labels=list('abababab'), folds=fold)
        result = dict(fold=fold, status=status, epochs=1, macro_f1=.3, accuracy=.5)
        return SimpleNamespace(path=tmp_path/str(fold), result=result, predictions=table)
    runs = [run(k, status) for k,status in enumerate(states)]
    monkeypatch.setattr('ecg_arrhythmia.charts.store.ChartStore', lambda path: SimpleNamespace(origin='simulated'))
    monkeypatch.setattr('ecg_arrhythmia.data.splits.load_split', lambda path: None)
    monkeypatch.setattr('ecg_arrhythmia.training.loop.cross_validate', lambda *a, **k: runs)
    def go(): ecg_train(X, X, tmp_path/'run', fold='all', device='cpu')
    if not fails: go()
    else:
        with pytest.raises(CliError, match=f'{fails} diverged'): go()
    assert capsys.readouterr().out.count('say nothing about the method')==sum(s!='done' for s in states)

def test_a_misspelt_rhythm_of_a_mapping_is_refused(data, tmp_path):
    (tmp_path/'m.csv').write_text('SR,a\nAFBI,b\n')
    says = "none of the recordings has the rhythm 'AFBI'"
    with pytest.raises(CliError, match=says): ecg_check(data, mapping=tmp_path/'m.csv')
    with pytest.raises(CliError, match=says): ecg_split(data, tmp_path/'s.json', mapping=tmp_path/'m.csv')
    (tmp_path/'split.json').write_text('{"digest": "x", "folds": [], "test": []}')
    with pytest.raises(CliError, match='not a mapping|not the name of a class'): ecg_check(data, mapping=tmp_path/'split.json')

@pytest.fixture(scope='module')
def data(tmp_path_factory):
    from ecg_arrhythmia.data.simulated_datasets import simulate_dataset
    return simulate_dataset(tmp_path_factory.mktemp('data')/'data', n=44, workers=1, progress=False)

@pytest.mark.parametrize('options,says', [
    (dict(metadata=Path('other.xlsx')), '--metadata other.xlsx'), (dict(quality=Path('q.csv')), '--quality q.csv'),
    (dict(limits='study'), '--limits study'), (dict(limits='strict'), 'unknown limits')])
def test_a_split_of_a_store_ignores_no_option(tmp_path, data, options, says):
    from ecg_arrhythmia.charts.encoding import store_spec
    from ecg_arrhythmia.charts.packing import pack
    from ecg_arrhythmia.data.datasets import catalogue
    store = pack(catalogue(data), tmp_path/'s.lmdb', store_spec('strip', 16), workers=1, progress=False)
    with pytest.raises(CliError, match=says): ecg_split(store.path, tmp_path/'s.json', folds=2, **options)
    assert not (tmp_path/'s.json').exists()

TWICE = 'name,error,damage,flat_lead,digest,seconds,peak,weakest,typical\n' + 'a,,,,x,1,1,1,1\n'*2

@pytest.mark.parametrize('text', ['{"digest": 1}', '"name"', 'name\n"a', TWICE])
def test_measures_that_are_none(tmp_path, text):
    from ecg_arrhythmia.data.quality import load_quality
    (tmp_path/'q.csv').write_text(text)
    with pytest.raises(CliError, match='not a table that|more than once'): load_quality(tmp_path/'q.csv', ['a'])

def test_digits_that_are_no_numbers_are_refused(tmp_path):
    from ecg_arrhythmia.commands.say import size_of
    with pytest.raises(CliError, match='--fold'): ecg_train(X, X, tmp_path/'run', fold='²')
    with pytest.raises(CliError, match='--size'): size_of('2²4')

def test_json_nested_without_end_is_somebody_elses(tmp_path):
    (tmp_path/'out.json').write_text('['*200_000)
    with pytest.raises(CliError, match='is not a split'): ecg_split(X, tmp_path/'out.json')

def test_more_folds_than_a_split_has_are_refused(tmp_path):
    from ecg_arrhythmia.data.splits import make_split, save_split
    from ecg_arrhythmia.jobs.kinds import PlanSettings
    from ecg_arrhythmia.search.protocol import Seeds, run_seeds
    from ecg_arrhythmia.training.recipes import recipe
    import pandas as pd
    split = make_split(pd.Series(list('ab')*20, [f'r{i}' for i in range(40)]), n_folds=2)
    save_split(split, tmp_path/'s.json')
    with pytest.raises(CliError, match='the split has 2'): PlanSettings(X, tmp_path/'s.json', folds=3).fold_numbers()
    with pytest.raises(CliError, match='the split has 2'): run_seeds(Seeds(recipe(), folds=3), None, split, tmp_path/'out')

@pytest.mark.parametrize('study,changes,says', [
    (dict(elsewhere='nowhere'), {}, 'nowhere: no such file'), (dict(space='nowhere.yaml'), {}, 'nowhere.yaml'),
    ({}, dict(lr=-1), 'lr must be'), (dict(mapping={'SR': 'a', 'AFBI': 'b'}), {}, 'AFBI'), (dict(seed_folds=9), {}, 'seed_folds 9')])
def test_a_study_that_cannot_work_is_refused_before_its_first_stage(tmp_path, data, study, changes, says):
    from ecg_arrhythmia.reporting.study import Study, run_study
    with pytest.raises(CliError, match=says): run_study(data, tmp_path/'study', Study(**study), progress=False, **changes)
    assert not (tmp_path/'study').exists()

def test_a_study_does_not_take_another_space_for_its_own(tmp_path):
    from types import SimpleNamespace
    from ecg_arrhythmia.reporting.study import Study, _search
    (tmp_path/'space.yaml').write_text(TEMPLATE)
    (tmp_path/'new.yaml').write_text(TEMPLATE+'# other\n')
    with pytest.raises(CliError, match='another search space'):
        _search(Study(space=tmp_path/'new.yaml'), SimpleNamespace(out=tmp_path), None, None, {})

def test_a_table_in_the_folder_that_it_is_about_is_no_recording(tmp_path):
    import csv
    from ecg_arrhythmia.data.convert import write_recording
    from ecg_arrhythmia.data.simulation import simulate
    write_recording(simulate('SR', seed=1), tmp_path/'a.csv')
    for _ in range(2):
        ecg_predict(tmp_path, out=tmp_path/'table.csv')
        with open(tmp_path/'table.csv') as f: assert [r['file'] for r in csv.DictReader(f)]==['a.csv']

@pytest.mark.parametrize('storage,says', [('split.json', 'not the address of a database'), ('sqlite:////nowhere/x.db', 'cannot be opened')])
def test_a_study_is_kept_in_no_other_file(tmp_path, monkeypatch, storage, says):
    from ecg_arrhythmia.search.trials import open_storage
    monkeypatch.chdir(tmp_path)
    Path('space.yaml').write_text(TEMPLATE)
    Path('split.json').write_text('{\n"digest": 1\n}')
    if '://' not in storage:
        with pytest.raises(CliError, match=says): ecg_search(Path('space.yaml'), X, X, Path('out'), storage=storage)
        says = 'no journal of a study'
    with pytest.raises(CliError, match=says): open_storage(storage)
    assert Path('split.json').read_text()=='{\n"digest": 1\n}' and len(list(tmp_path.iterdir()))==2

def test_a_recording_that_is_named_twice_is_explained_once(monkeypatch):
    from types import SimpleNamespace as Named
    from ecg_arrhythmia.explanation.maps import MapOptions, _requested
    run = Named(views=['strip'], check_charts=lambda store, views: None)
    assert _requested(run, dict(a=1, b=2), MapOptions(names=['b', 'a', 'b']))[0]==['b', 'a']

def a_table(path, fold, n=40, seed=0):
    "Predictions of four classes, those of some recordings wrong"
    import numpy as np
    from ecg_arrhythmia.evaluation.tables import predictions, save_predictions
    y = np.arange(n)%4
    guess = np.where(np.random.default_rng(seed).random(n) < .8, y, (y+1)%4)
    return save_predictions(predictions(range(n), np.eye(4)[guess]*.8+.05, list('abcd'), labels=y, folds=fold), path)

@pytest.mark.parametrize('first,second,says', [(0, 'test', 'different kinds'), (0, 'train', 'trained on'),
    ('elsewhere', 'test', 'different kinds'), ('train', 'train', 'trained on')])
def test_methods_are_compared_by_predictions_of_one_kind(tmp_path, first, second, says):
    "Also where each method has one kind only, of the same recordings"
    for name,fold in (('a', first), ('b', second)): a_table(tmp_path/f'{name}.csv', fold)
    with pytest.raises(CliError, match=says): ecg_compare(tmp_path/'a.csv', tmp_path/'b.csv')

def test_the_kind_that_is_asked_for_is_found_below_a_run(tmp_path, capsys):
    for name in 'ab':
        a_table(tmp_path/name/'predictions.csv', 0)
        a_table(tmp_path/name/'test'/'predictions.csv', 'test', 24, ord(name))
    ecg_compare(tmp_path/'a', tmp_path/'b', of='hold-out')
    assert [line.split()[2] for line in capsys.readouterr().out.splitlines()[1:3]]==['24', '24']

def test_seeds_in_a_folder_of_seeds_are_seeds(tmp_path, capsys):
    "`ecg_seeds` writes SEARCH/seeds/seed42"
    for name in 'ab':
        for seed in (42, 43): a_table(tmp_path/name/'seeds'/f'seed{seed}'/'fold0'/'predictions.csv', 0, 40, seed+ord(name))
    ecg_compare(tmp_path/'a', tmp_path/'b')
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()[1:3]]==['2', '2']

def test_a_demo_takes_nobodys_folder(tmp_path, data, monkeypatch):
    "DATA/simulated or DATA/real are names that people use"
    from ecg_arrhythmia.commands import training
    there = tmp_path/'simulated'
    there.mkdir()
    for name in ('charts.lmdb', 'split.json', 'quality.csv', 'page.png'): (there/name).write_text('mine')
    with pytest.raises(CliError, match='is not a demo'): ecg_demo(data, tmp_path)
    assert {p.name: p.read_text() for p in there.iterdir()}==dict.fromkeys(
        ('charts.lmdb', 'split.json', 'quality.csv', 'page.png'), 'mine')
    (there/'demo.json').write_text('{"half')
    with pytest.raises(CliError, match='is not a demo'): ecg_demo(data, tmp_path)

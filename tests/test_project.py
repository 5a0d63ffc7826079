"""The project's own files agree with each other."""
import ast
import json
import re
import subprocess
import sys
import tomllib
from configparser import ConfigParser
from importlib.metadata import entry_points, requires
from pathlib import Path

import pytest

root = Path(__file__).resolve().parent.parent
ini = ConfigParser(delimiters=['='])
ini.read(root/'settings.ini', encoding='utf-8')
cfg = ini['DEFAULT']
toml = tomllib.loads((root/'pyproject.toml').read_text())
notebooks = sorted((root/'nbs').rglob('*.ipynb'))
lines = lambda key: cfg[key].strip().splitlines()


def test_settings_and_pyproject_agree():
    project, nbdev = toml['project'], toml['tool']['nbdev']
    assert project['name'] == cfg['lib_name']
    assert project['description'] == cfg['description']
    assert project['requires-python'] == f">={cfg['min_python']}"
    assert project['urls'] == {'Repository': cfg['git_url'], 'Documentation': cfg['doc_url']}
    for key in ('lib_path', 'nbs_path', 'doc_path', 'branch'): assert nbdev[key] == cfg[key], key
    for key in ('version', 'dependencies', 'optional-dependencies', 'scripts'):
        assert key in project['dynamic'] and key not in project


def test_version_is_one():
    import ecg_arrhythmia
    assert ecg_arrhythmia.__version__ == cfg['version']


def test_installed_metadata_comes_from_settings():
    name = lambda r: re.split(r'[<>=!~;\[ ]', r)[0].lower().replace('_', '-')
    installed = {name(r) for r in requires(cfg['lib_name'])}
    assert installed == {name(r) for r in lines('requirements') + lines('dev_requirements')}


def test_commands_exist():
    scripts = {e.name: e.value for e in entry_points(group='console_scripts') if e.value.startswith('ecg_arrhythmia')}
    assert scripts == dict(s.split('=') for s in lines('console_scripts'))
    for e in entry_points(group='console_scripts'):
        if e.name in scripts: assert callable(e.load()), e


def test_every_requirement_has_a_tested_version():
    tested = {l.split('==')[0].lower() for l in (root/'constraints.txt').read_text().splitlines() if '==' in l}
    wanted = {re.split('[<>=]', r)[0].lower() for r in lines('requirements') + lines('dev_requirements')}
    assert wanted <= tested


def test_quarto_file_is_one():
    assert (root/'nbs/_quarto.yml').is_symlink() and (root/'nbs/_quarto.yml').resolve() == root/'_quarto.yml'


def test_sidebar_names_every_notebook():
    import yaml
    def named(o):
        if isinstance(o, str): return {o}
        if isinstance(o, list): return {f for x in o for f in named(x)}
        if o.get('text'): return set()
        return named(o.get('contents', [])) | ({o['href']} if 'href' in o else set())
    listed = named(yaml.safe_load((root/'_quarto.yml').read_text())['website']['sidebar'])
    assert listed == {str(n.relative_to(root/'nbs')) for n in notebooks}


@pytest.mark.parametrize('path', notebooks, ids=lambda p: p.stem)
def test_notebook_has_a_title_and_is_small(path):
    "What else a page must be is in `.ci/site.py`, which tests/test_site.py calls"
    assert ''.join(json.loads(path.read_text())['cells'][0]['source']).startswith('# '), 'first cell is the title'
    assert path.stat().st_size < 800_000


WINGS = (
    'core',
    'data',
    'charts',
    'evaluation',
    'signals',
    'models',
    'training',
    'search',
    'jobs',
    'explanation',
    'pictures',
    'prediction',
    'reporting',
    'commands',
)
MAY = {w: set(WINGS[: WINGS.index(w)]) for w in WINGS} | {
    'models': {'core'},
    'explanation': set(WINGS[:6]),
    'pictures': set(WINGS[:6]),
    'prediction': {*WINGS[:6], 'explanation', 'pictures'},
}
LIGHT = {'core', 'data', 'charts', 'evaluation', 'signals', 'prediction'} # what a prediction loads,
COMPARED = {'signals.peaks'} # but for features that are only compared
TORCH = {'models', 'training', 'search', 'explanation', 'pictures', 'reporting'} # may import torch with the module


def rooms():
    "Module, its notebook and its syntax tree, for each that a notebook exports"
    found = []
    for n in notebooks:
        for c in json.loads(n.read_text())['cells']:
            if m := re.match(r'#\| *default_exp (\S+)', ''.join(c['source'])):
                found.append((m[1], n.name, ast.parse((root/'ecg_arrhythmia'/(m[1].replace('.', '/')+'.py')).read_text())))
    return found


def own_imports(module, tree):
    "What a module imports of the package, at any depth: module and name"
    at = ['ecg_arrhythmia', *module.split('.')]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for a in node.names:
                if a.name.startswith('ecg_arrhythmia.'): yield a.name.removeprefix('ecg_arrhythmia.'), ''
        if not isinstance(node, ast.ImportFrom): continue
        full = '.'.join([*at[:-node.level], *([node.module] if node.module else [])]) if node.level else node.module or ''
        if full.split('.')[0]!='ecg_arrhythmia': continue
        for a in node.names: yield full.removeprefix('ecg_arrhythmia').lstrip('.'), a.name


def test_wings_import_what_stands_above_them():
    "A room imports rooms of its own wing with lower numbers, and of the wings that design allows; at any depth of code"
    order = {m: n for m,n,_ in rooms()}
    checked, faults = 0, []
    for module,number,tree in rooms():
        if module.endswith('__init__'): continue # a front names its rooms as text
        wing = module.split('.')[0]
        for target,name in own_imports(module, tree):
            if target=='' and name=='__version__': continue
            target = f'{target}.{name}'.lstrip('.') if f'{target}.{name}'.lstrip('.') in order else target
            other = target.split('.')[0]
            checked += 1
            if other == wing and target in order:
                if target != module and not order[target] < number:
                    faults.append(f'{module} imports {target}, which stands behind it')
            elif other not in MAY[wing]:
                faults.append(f'{module} imports {target}: {wing} may import {sorted(MAY[wing])}')
    assert checked > 100 and not faults, faults


@pytest.mark.parametrize('wing', WINGS[1:])
def test_rooms_are_numbered_from_0_on(wing):
    "The notebooks of a wing are numbered 00, 01, 02, ... without a gap, and no number stands twice"
    numbers = sorted(n.name.split('_')[0] for n in notebooks if n.parent==root/'nbs'/wing and '_' in n.name)
    assert numbers==[f'{i:02}' for i in range(len(numbers))]


def test_a_public_name_means_one_thing():
    "No public name is defined in two modules; a module may offer what it imports"
    where = {}
    for module,_,tree in rooms():
        if module.endswith('__init__'): continue
        offered = next((ast.literal_eval(n.value) for n in tree.body if _assigned(n) == ['__all__']), [])
        for node in tree.body:
            for name in {*_assigned(node)} & {*offered}: where.setdefault(name, set()).add(module)
    twice = {name: sorted(modules) for name,modules in where.items() if len(modules) > 1}
    assert len(where) > 1000 and not twice, twice


def _assigned(node):
    "Names that a statement at the top of a module defines"
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)): return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, 'target', None)]
    return [n.id for t in targets if t for n in ast.walk(t) if isinstance(n, ast.Name)]


def test_no_underscored_name_crosses_modules():
    faults = [
        f'{m} imports {n} of {t}'
        for m, _, tree in rooms()
        for t, n in own_imports(m, tree)
        if n.startswith('_') and n != '__version__'
    ]
    assert not faults, faults


def _private_names(tree):
    "Underscored names that a module defines: functions, classes, variables, attributes and fields"
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)): found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store): found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store): found.add(node.attr)
    return {name for name in found if name.startswith('_') and not name.startswith('__')}


def test_no_underscored_member_of_another_module_is_used():
    "Neither `module._name` nor `object._member`, where another module of the package defines it"
    trees = {m: tree for m,_,tree in rooms()}
    own = {m: _private_names(tree) for m,tree in trees.items()}
    faults = []
    for m,tree in trees.items():
        others = set().union(*(names for k,names in own.items() if k!=m)) - own[m]
        for node in ast.walk(tree):
            if not isinstance(node, ast.Attribute) or node.attr not in others: continue
            if isinstance(node.value, ast.Name) and node.value.id=='self': continue # inherited
            faults.append(f'{m}, line {node.lineno}: .{node.attr}')
    assert sum(map(len, own.values())) > 200 and not faults, faults


def test_pages_use_no_underscored_names():
    "Pages are written with what is public"
    faults = []
    for n in notebooks:
        text = '\n'.join(''.join(c['source']) for c in json.loads(n.read_text())['cells'] if c['cell_type']=='code')
        module = re.search(r'#\| *default_exp (\S+)', text)
        for where,names in re.findall(r'^\s*from (ecg_arrhythmia[\w.]*) import (.+)$', text, re.M):
            if module and where=='ecg_arrhythmia.'+module[1]: continue
            faults += [f'{n.name}: {name} of {where}' for name in re.findall(r'(?<!\w)_[a-z]\w*', names)]
    assert not faults, faults


def test_notebooks_leave_the_settings_of_plots_alone():
    "Notebooks share a process in tests: settings that reach into the pictures of others are none of theirs"
    faults = []
    for n in notebooks:
        for c in json.loads(n.read_text())['cells']:
            text = ''.join(c['source'])
            if c['cell_type']!='code' or 'rcParams' not in text or 'rc_context' in text: continue
            set_here = re.findall(r"rcParams\['([\w.]+)'\] *=", text)
            if set_here!=['figure.dpi'] or text.count('rcParams')!=1: faults.append(f'{n.name}: {text}')
    assert not faults, faults


def test_expected_failures_are_really_tried():
    "`expect_fail` is a context manager: called without `with` it checks nothing"
    texts = {f.name: f.read_text() for f in (root/'tests').glob('*.py') if f.name!='test_project.py'}
    texts |= {n.name: '\n'.join(''.join(c['source']) for c in json.loads(n.read_text())['cells']) for n in notebooks}
    idle = [f'{name}: {line}' for name, text in texts.items() for line in text.splitlines()
            if re.match(r'\s*expect_fail\(', line)]
    assert not idle, idle


def test_heavy_libraries_are_imported_late():
    "torch with the module only where networks run, matplotlib nowhere, pandas and scipy not where a prediction goes"
    def at_import(tree):
        for node in tree.body:
            if isinstance(node, ast.Import): yield from (a.name.split('.')[0] for a in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level: yield node.module.split('.')[0]
    faults = []
    for module,_,tree in rooms():
        heavy = set(at_import(tree))
        if 'matplotlib' in heavy: faults.append(f'{module}: matplotlib')
        if heavy & {'torch', 'torchvision', 'fastai'} and module.split('.')[0] not in TORCH:
            faults.append(f'{module}: torch')
        light = module.split('.')[0] in LIGHT and module not in COMPARED
        if light and heavy & {'pandas', 'scipy', 'sklearn', 'wfdb'}: faults.append(f'{module}: {heavy}')
    assert not faults, faults


def test_a_prediction_loads_no_heavy_library(tmp_path):
    "From the command to the answer without pandas, scipy and all that an installation for prediction lacks"
    code = """
import sys
from pathlib import Path
from ecg_arrhythmia.commands.prediction import ecg_predict
ecg_predict(Path(sys.argv[1]), json=True)
print([m for m in ('torch', 'pandas', 'scipy', 'matplotlib', 'sklearn', 'lmdb', 'wfdb') if m in sys.modules])"""
    from ecg_arrhythmia.data.simulation import simulate
    from ecg_arrhythmia.data.tables import to_csv_bytes
    (tmp_path/'mine.csv').write_bytes(to_csv_bytes(simulate('SR', seed=1)))
    done = subprocess.run([sys.executable, '-c', code, tmp_path/'mine.csv'], capture_output=True, text=True)
    assert done.returncode==0, done.stderr
    assert '"rhythm": "SR"' in done.stdout and done.stdout.splitlines()[-1]=='[]', done.stdout


@pytest.mark.parametrize('path', sorted((root/'nbs/stages').glob('*.ipynb')), ids=lambda p: p.stem)
def test_jobs_have_documented_parameters(path):
    "The tag is there (nbdev-clean must leave it), and every parameter has a type and a word on what it is"
    tagged = [c for c in json.loads(path.read_text())['cells'] if 'parameters' in c['metadata'].get('tags', [])]
    assert len(tagged)==1
    for line in ''.join(tagged[0]['source']).splitlines(): assert re.fullmatch(r"\w+: \S+ = .+ # \S.*", line), line


def test_citation_agrees_with_settings():
    import yaml

    cff = yaml.safe_load((root / 'CITATION.cff').read_text())
    assert cff['cff-version'] == '1.2.0' and cff['message'] and cff['title'] == cfg['lib_name']
    assert (cff['version'], cff['license'], cff['repository-code'], cff['url']) == (
        cfg['version'],
        cfg['license'],
        cfg['git_url'],
        cfg['doc_url'],
    )
    assert cff['authors'] == [{'name': cfg['author']}]
    bib = (root / 'nbs/references.bib').read_text()
    for ref in cff['references']:
        assert ref['doi'] in bib and ref['title'] in bib.replace('{', '').replace('}', '')


def test_references_are_whole():
    "Every entry closes, and says who, what, when and where to find it"
    text = (root / 'nbs/references.bib').read_text()
    entries = re.findall(r'^@(\w+)\{(\w+),\n(.*?)^\}', text, re.M | re.S)
    assert len(entries) == len(re.findall('^@', text, re.M)) and text.count('{') == text.count('}')
    for kind, key, body in entries:
        names = re.findall(r'^  (\w+) +=', body, re.M)
        assert (
            {'author', 'title', 'year'} <= set(names)
            and {'doi', 'eprint', 'url'} & set(names)
            and len(names) == len(set(names))
        ), key
        assert (
            key.startswith(re.search(r'author += \{+([\w-]+)', body)[1].lower())
            and re.search(r'year += \{(\d{4})\}', body)[1] in key
        ), key


def test_site_links_to_the_repository_of_settings():
    import yaml
    site = yaml.safe_load((root/'_quarto.yml').read_text())['website']
    assert site['navbar']['right'][0]['href']==cfg['git_url'] and cfg['git_url'] in site['page-footer']['right']


@pytest.mark.parametrize('path', sorted((root/'.github/workflows').glob('*.yaml')), ids=lambda p: p.stem)
def test_workflows_are_yaml_and_name_what_exists(path):
    import yaml
    steps = [s for j in yaml.safe_load(path.read_text())['jobs'].values() for s in j['steps']]
    for run in [s['run'] for s in steps if 'run' in s]:
        for f in re.findall(r'\.ci/[\w.]+', run): assert (root/f).exists(), f
    wanted = {f"3.{m}" for m in range(int(cfg['min_python'].split('.')[1]), 14)}
    matrix = [
        set(j['strategy']['matrix']['python'])
        for j in yaml.safe_load(path.read_text())['jobs'].values()
        if 'strategy' in j
    ]
    assert all(m==wanted for m in matrix)


def test_counts_of_lines_and_cells_do_not_rise():
    "`.ci/lines.py` keeps the best counts there were in `.ci/lines.json`"
    r = subprocess.run([sys.executable, root/'.ci/lines.py'], capture_output=True, text=True)
    assert r.returncode==0, r.stdout + r.stderr


def test_fronts_are_quick_and_overwrite_nothing():
    "Each wing's front, and the package's, loads no torch, and no name stands in two of them"
    code = """
import importlib, json, sys, time
start = time.perf_counter()
import ecg_arrhythmia
exec('from ecg_arrhythmia import *')
took, heavy = time.perf_counter()-start, [m for m in ('torch', 'pandas', 'matplotlib', 'fastai') if m in sys.modules]
wings = {w: importlib.import_module(f'ecg_arrhythmia.{w}').__all__ for w in sys.argv[1:]}
print(json.dumps([took, heavy, len(ecg_arrhythmia.__all__), wings]))"""
    wings = [
        p.parent.name
        for p in sorted((root / 'ecg_arrhythmia').glob('*/__init__.py'))
        if 'lazy' in p.read_text()
    ]
    _, heavy, n, offered = json.loads(
        subprocess.run(
            [sys.executable, '-c', code, *wings], capture_output=True, text=True, check=True
        ).stdout
    )
    assert heavy == [] and 10 <= n <= 20 and len(wings) >= 9
    of = {}
    for wing, names in offered.items():
        for name in names:
            of.setdefault(name, []).append(wing)
    twice = {k: v for k, v in of.items() if len(v) > 1}
    assert not twice, twice

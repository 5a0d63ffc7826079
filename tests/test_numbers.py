"Figures that stand on several pages: the first page and known problems say what the pages of results and the card compute"
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

def cells(page): return json.loads((ROOT/'nbs'/page).read_text(encoding='utf-8'))['cells']

def prose(page):
    "The Markdown of a page"
    return '\n'.join(''.join(c['source']) for c in cells(page) if c['cell_type']=='markdown')

def outputs(page, kind):
    "What the cells of a page show, of one kind"
    for c in cells(page):
        for o in c.get('outputs', []): yield ''.join(o.get('data', {}).get(kind, '') if kind!='text' else o.get('text', ''))

def rows(page):
    "Rows of the tables that a page shows, each with the names of its columns; macro-F1 by one name, however it is written"
    for html in outputs(page, 'text/html'):
        found = [re.findall(r'<t[hd][^>]*>(.*?)</t[hd]>', row, re.S) for row in re.findall(r'<tr.*?</tr>', html, re.S)]
        for r in found[1:]: yield dict(zip([name.replace('macro-F1', 'macro_f1') for name in found[0]], r))

def row(page, name, column='macro_f1'):
    "The row of that name in the first table that has the columns"
    return next(r for r in rows(page) if r.get('')==name and {'low', 'high', 'accuracy', column} <= set(r))

def as_written(number): return number.removeprefix('0')

@pytest.mark.parametrize('words,page,name', [
    ('recipe and charts of the published study', 'findings/00_accuracy.ipynb', 'study'),
    ('default recipe', 'findings/00_accuracy.ipynb', 'default'),
    ('default recipe, twice the epochs', 'findings/00_accuracy.ipynb', 'twice'),
    ('measurements of the signal, no picture', 'findings/00_accuracy.ipynb', 'signal'),
    ('default recipe', 'findings/04_evaluation.ipynb', 'PTB-XL'),
])
def test_the_table_of_the_first_page(words, page, name):
    r = {k: as_written(v) for k,v in row(page, name).items()}
    line = f"| {words} | {r['macro_f1']} | {r['low']} to {r['high']} | {r['accuracy']} |"
    assert line in prose('index.ipynb')

def test_the_hold_out_of_the_first_page():
    shown = '\n'.join([*outputs('findings/03_a_search.ipynb', 'text/plain'), *outputs('findings/03_a_search.ipynb', 'text')])
    f1, low, high, accuracy, n = re.search(
        r'opening number 1: macro-F1 (\S+) \((\S+) to (\S+)\), accuracy (\S+) .*?, (\d+) recordings', shown).groups()
    wanted = f'| {as_written(f1)} | {as_written(low)} to {as_written(high)} | {as_written(accuracy)} |'
    assert wanted in prose('index.ipynb') and f'hold-out of {n} recordings' in prose('index.ipynb')

def card():
    "The rows of the card of the model: what is measured by the name of its column"
    text = (ROOT/'ecg_arrhythmia/prediction/default_model/README.md').read_text(encoding='utf-8')
    lines = [[c.strip() for c in l.strip('|\n').split('|')] for l in text.splitlines() if l.startswith('| ')]
    return {l[0]: dict(zip(lines[0], l)) for l in lines[2:]}

def first(cell): return as_written(cell.split()[0])

def test_the_numbers_of_the_card_on_other_pages():
    c = card()
    elsewhere, chapman, unseen = (
        c[k] for k in ('PTB-XL fold 10, not trained on', 'Chapman, not trained on', 'PTB-XL, took no part in any choice'))
    index, known = prose('index.ipynb'), prose('known_problems.ipynb')
    accuracies = first(chapman['accuracy']), first(elsewhere['accuracy'])
    assert f'its accuracy is {accuracies[0]} or {accuracies[1]}' in index
    assert f'its accuracy is {accuracies[0]} and {accuracies[1]}' in prose('findings/10_default_model.ipynb')
    assert f"it is {first(elsewhere['accuracy by statements'])}" in index
    assert f"macro-F1 of {first(unseen['macro-F1 by statements'])}" in known
    found, there = re.search(r'(\d+) of (\d+)', unseen['AFIB found']).groups()
    assert f'have {there} recordings of fibrillation or flutter, of which {found} were found' in known
    clear = sorted(float(r['clear and right'].split('%')[0]) for r in (elsewhere, chapman))
    assert '{:g} to {:g} % of the clear answers were right'.format(*clear) in prose('tutorials/own_recording.ipynb')

COMMAND = re.compile(r'\b(ecg_[a-z]+)\b((?:[^\n`|&;)]|\\\n)*)')

def options_of(name):
    "The options of a command, as the shell takes them"
    import inspect
    from importlib.metadata import EntryPoint
    places = (ROOT/'settings.ini').read_text(encoding='utf-8')
    place = re.search(rf'^\s+{name}=(\S+)', places, re.M)
    if not place: return None
    known = inspect.signature(EntryPoint(name, place[1], 'console_scripts').load()).parameters
    return {f"--{p.replace('_', '-')}" for p in known} | {'--help'}

def test_commands_on_pages_have_options_that_exist():
    wrong, seen = [], 0
    for page in sorted((ROOT/'nbs').rglob('*.ipynb')):
        if '.ipynb_checkpoints' in page.parts: continue
        for name,rest in COMMAND.findall(prose(page.relative_to(ROOT/'nbs'))):
            known = options_of(name)
            for option in re.findall(r'(?<![\w-])--[a-z][\w-]*', rest):
                seen += 1
                if known is not None and option not in known: wrong.append(f'{page.name}: {name} {option}')
    assert not wrong and seen > 50

def test_the_pictures_of_others_on_the_first_page():
    import csv
    with open(ROOT/'nbs/report/results/pictures/pictures.csv', newline='', encoding='utf-8') as f: rows = list(csv.DictReader(f))
    n = {s: sum(r['status']==s for r in rows) for s in ('ok', 'doubt', 'refused')}
    wanted = (f"Of {len(rows)} pictures made by others, {n['ok']+n['doubt']} were read, {n['doubt']} of them with a doubt, "
              f"and {n['refused']} refused")
    assert wanted in prose('index.ipynb')

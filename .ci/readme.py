"""README.md, CONTRIBUTING.md and nbs/llms.txt from pages in nbs/. With --check, fail if they differ."""
import json
import re
import sys
from configparser import ConfigParser
from pathlib import Path

sys.modules.setdefault('rfc3987_syntax', None) # a grammar that nbformat would compile for two seconds, and not use
import nbformat
from fastcore.nbio import mk_cell
from nbconvert import MarkdownExporter

# Only in README.md: the site loads nothing from other servers.
BADGES = '\n'.join((
    '[![test](https://github.com/ecg-arrhythmia/ecg_arrhythmia/actions/workflows/test.yaml/badge.svg)](https://github.com/ecg-arrhythmia/ecg_arrhythmia/actions/workflows/test.yaml)',
    '[![Python 3.11 to 3.13](https://img.shields.io/badge/python-3.11%20to%203.13-blue)](nbs/start/install.ipynb)',
    '[![Documentation](https://img.shields.io/badge/documentation-site-blue)](https://ecg-arrhythmia.github.io/ecg_arrhythmia/)',
    '[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/ecg-arrhythmia/ecg_arrhythmia/blob/main/nbs/tutorials/first_model.ipynb)',
    '[![License: Apache-2.0](https://img.shields.io/badge/license-Apache--2.0-blue)](LICENSE)',
))

PAGES = {'README.md': 'index.ipynb', 'CONTRIBUTING.md': 'contributing.ipynb'}

def markdown(root, page, pictures='README_files'):
    "The text of a page as Markdown for the top folder, and its pictures, by path"
    nb = nbformat.read(root/'nbs'/page, 4)
    directives = lambda c: mk_cell(c.source, c.cell_type).directives
    nb.cells = [c for c in nb.cells if 'hide' not in directives(c)]
    alts = [directives(c)['fig-alt'].strip('"') for c in nb.cells if 'fig-alt' in directives(c)]
    for c in nb.cells:
        if directives(c).get('echo')=='false': c.source = ''
        c.source = re.sub(r'^#\| .*\n', '', c.source, flags=re.M)
    text, resources = MarkdownExporter().from_notebook_node(nb, {'output_files_dir': pictures})
    text = re.sub(r'```(python)?\s*```\n', '', text)
    text = re.sub(r'```\n(from|import)', r'```python\n\1', text)
    text = re.sub(r'\]\(([\w/]+\.ipynb(?:#[\w.-]+)?)\)', r'](nbs/\1)', text)
    for alt in alts: text = text.replace('![png]', f'![{alt}]', 1)
    return re.sub(r'\n\s*\n\s*\n', '\n\n', re.sub(r' +$', '', text, flags=re.M)).strip()+'\n', resources['outputs']

# Pages that nbs/llms.txt lists for programs, by section
LISTED = {
    'Start': ['start/install', 'tutorials/first_model', 'tutorials/own_recording', 'tutorials/own_data', 'tutorials/photo',
              'start/glossary', 'start/faq'],
    'Guides': ['tutorials/own_layout', 'tutorials/search', 'tutorials/explanation', 'tutorials/cluster', 'howto/gpu',
               'howto/dicom', 'howto/onnx', 'howto/compare', 'howto/rehearse'],
    'Results': ['report/1_data', 'report/2_methods', 'report/3_results', 'report/4_discussion', 'findings/00_accuracy',
                'findings/04_evaluation', 'findings/10_default_model'],
    'Commands': ['commands/index'],
    'API': ['library', 'data/index', 'charts/index', 'evaluation/index', 'signals/index', 'models/index', 'training/index',
            'search/index', 'jobs/index', 'explanation/index', 'pictures/index', 'prediction/index', 'reporting/index'],
    'Project': ['about', 'known_problems', 'contributing'],
}

def first_cell(page):
    "Title, description and settings of a page"
    text = ''.join(json.loads(page.read_text())['cells'][0]['source'])
    title, about = re.search('^# (.+)', text)[1], re.search('^> (.+)', text, re.M)
    return title, about[1] if about else '', re.findall('^- (.+)', text, re.M)

def address(site, name, settings):
    "Where a page is published: as Markdown, unless it is made as HTML only"
    folder, _, page = name.rpartition('/')
    path = '/'.join(p for p in (folder, re.sub(r'^[0-9]+[a-zA-Z0-9]*_', '', page)) if p)
    return f"{site.rstrip('/')}/{path}.html" + ('' if 'format: html' in settings else '.md')

def llms(root):
    "A list of pages for programs (llmstxt.org)"
    ini = ConfigParser(delimiters=['='])
    ini.read(root/'settings.ini', encoding='utf-8')
    site, about = ini['DEFAULT']['doc_url'], ini['DEFAULT']['description']
    home = [''.join(c['source']) for c in json.loads((root/'nbs/index.ipynb').read_text())['cells'] if c['cell_type']=='markdown']
    parts = ['# ecg_arrhythmia', f'> {about}', home[1].partition('\n\n')[0], 'It is research software and not a medical device.']
    for section,names in LISTED.items():
        rows = []
        for name in names:
            title, what, settings = first_cell(root/f'nbs/{name}.ipynb')
            rows.append(f'- [{title}]({address(site, name, settings)})' + (f': {what}' if what else ''))
        parts += [f'## {section}', '\n'.join(rows)]
    return '\n\n'.join(parts) + '\n'

def made(root):
    "What the files should hold, by path"
    files = {}
    for name,page in PAGES.items():
        if not (root/'nbs'/page).exists(): continue
        text, pictures = markdown(root, page)
        if name=='README.md': text = re.sub(r'\A(# .+\n)', rf'\1\n{BADGES}\n', text)
        files |= {name: text.encode(), **pictures}
    if (root/'nbs/llms.txt').exists(): files['nbs/llms.txt'] = llms(root).encode()
    return files

def differing(root):
    "Files that are not what they should be, or are not needed any more"
    files = made(root)
    return [k for k,v in files.items() if not (root/k).exists() or (root/k).read_bytes() != v] + unused(root, files)

def unused(root, files): return [k for p in (root/'README_files').glob('*') if (k := str(p.relative_to(root))) not in files]

if __name__=='__main__':
    root = Path(__file__).resolve().parent.parent
    if '--check' in sys.argv:
        old = differing(root)
        sys.exit(f'{old} differ from their pages in nbs/; run python .ci/readme.py' if old else 0)
    files = made(root)
    for k,v in files.items(): (root/k).parent.mkdir(exist_ok=True); (root/k).write_bytes(v)
    for k in unused(root, files): (root/k).unlink()

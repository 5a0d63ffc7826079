"""What a reader of the site would trip over, found without Quarto: `python .ci/site.py`. With `--quick`, pages are not prepared and converted.

Each fault is a line: file, cell, what is wrong and what to do. Exit status 1 if there are any.

Whether a page is as new as the results it shows is told by a digest, not by dates: the page shows `results_digest(folder)`
(of `ecg_arrhythmia.data.quality`), and the line saved with the page must be what the folder gives now. Commit dates would not do:
CI clones have no history, and a merge puts results under a page that never saw them. A digest is right in any copy.
"""
import ast
import importlib.util
import io
import json
import os
import re
import subprocess
import sys
import tokenize
from pathlib import Path

import yaml
from fastcore.nbio import mk_cell

from ecg_arrhythmia.core import results_digest

HERE = Path(__file__).resolve().parent
LOCAL = re.compile(r'(?<![\w.-])(?:/(?:home|root|work|Users|opt|private/tmp|var/folders)/\w|/tmp/\w|[A-Z]:\\+Users\\)[\w./\\-]*')
CROSS = 'fig', 'tbl', 'sec', 'eq', 'lst', 'thm'
ADD_ALT = 'add `#| fig-alt: "one sentence that says what the figure shows"` after the other #| lines'

def source(cell): return ''.join(cell['source'])
def directives(cell): return mk_cell(source(cell), cell['cell_type']).directives if cell['cell_type']=='code' else {}
def hidden(cell): return 'hide' in (d := directives(cell)) or d.get('include')=='false'
def outputs(cell): return [] if hidden(cell) else cell.get('outputs', [])

def prose(text):
    "Markdown without its code, in which nothing is a link"
    text = re.sub(r'^(```+|~~~+).*?^\1[ \t]*$', '', text, flags=re.M|re.S)
    return re.sub(r'(`+)(?!`).+?(?<!`)\1(?!`)', '`code`', text, flags=re.S)

def read_pages(root):
    "Cells by path; a file of Markdown is one cell"
    pages = {}
    for p in sorted((root/'nbs').rglob('*')):
        parts = p.relative_to(root/'nbs').parts
        if 'runs' in parts or any(x[0] in '._' for x in parts): continue # what a job wrote, or hidden
        if p.suffix=='.ipynb': pages[p] = json.loads(p.read_text())['cells']
        elif p.suffix in ('.md', '.qmd'): pages[p] = [dict(cell_type='markdown', source=p.read_text())]
    for p in sorted(root.glob('*.md')): pages[p] = [dict(cell_type='markdown', source=p.read_text())]
    return pages

def proses(cells): return [(i, prose(source(c))) for i,c in enumerate(cells) if c['cell_type']=='markdown']

# Links

def slug(heading):
    "The id pandoc gives a heading"
    text = re.sub(r'\[([^\]]*)\]\([^)]*\)', r'\1', heading)
    text = re.sub(r'[^\w\s.-]', '', text.strip().lower())
    return re.sub(r'^[^a-z]+', '', re.sub(r'\s+', '-', text))

def anchors(cells):
    "Ids that a link may end in: headings, explicit ids, labels of cells, and what the page exports, which nbdev gives a heading"
    found = set()
    for c in cells:
        text = source(c)
        if c['cell_type']=='markdown':
            text = re.sub(r'^(```+|~~~+).*?^\1[ \t]*$', '', text, flags=re.M|re.S)
            found |= {slug(re.sub(r'\{.*\}\s*$', '', h)) for h in re.findall(r'^#{1,6}\s+(.+)$', text, re.M)}
            found |= set(re.findall(r'\{[^}]*#([\w-]+)[^}]*\}', text)) | set(re.findall(r'\bid="([^"]+)"', text))
        elif d := directives(c):
            if 'label' in d: found.add(d['label'])
            if d.keys() & {'export', 'exports'}: found |= {n.lower() for n in re.findall(r'^(?:def|class) (\w+)', text, re.M)}
    return found

def links(text):
    "Targets of links and pictures in Markdown and HTML"
    return re.findall(r'\]\(\s*<?([^)\s>]+)>?(?:\s+"[^"]*")?\s*\)', text) + re.findall(r'\b(?:href|src)="([^"]+)"', text) + re.findall(r'^\[[^\]^]+\]:\s*(\S+)', text, re.M)

def check_links(root, pages):
    site = root/'nbs'
    for p,cells in pages.items():
        for i,text in proses(cells):
            for link in links(text):
                if re.match(r'[a-z][a-z0-9+.-]*:|//', link, re.I): continue
                name, _, anchor = link.partition('#')
                target = (site/name[1:] if name[0]=='/' else p.parent/name).resolve() if name else p
                if not target.exists(): yield p, i, f'the link {link} leads nowhere; correct or remove it'
                elif site in p.parents and target!=site and site not in target.parents: yield p, i, f'the link {link} leaves nbs/, so it is dead on the site; link to a page or to the repository'
                elif anchor and target in pages and anchor.lower() not in anchors(pages[target]): yield p, i, f'{link}: {target.name} has no heading or label {anchor}'

# Cross-references and citations

def bib_keys(root):
    f = root/'nbs/references.bib'
    return re.findall(r'^@\w+\{\s*([^,\s]+)\s*,', f.read_text(), re.M) if f.exists() else []

def labels(cells):
    "Label and cell of everything that can be referred to"
    for i,c in enumerate(cells):
        if (l := directives(c).get('label')): yield l, i
        if c['cell_type']=='markdown':
            for l in re.findall(r'\{[^}\n]*#([\w-]+)[^}\n]*\}', prose(source(c))): yield l, i

def shown_markdown(cells):
    "Markdown that cells put out, which Quarto reads like that of the page"
    return [(i, prose(''.join(o.get('data', {}).get('text/markdown', '')))) for i,c in enumerate(cells) for o in outputs(c)]

def check_references(root, pages):
    keys = bib_keys(root)
    for k in sorted({k for k in keys if keys.count(k) > 1}): yield root/'nbs/references.bib', None, f'{k} is there twice; remove one'
    for p,cells in pages.items():
        if p.suffix=='.md' and p.parent==root: continue
        seen = {}
        for l,i in labels(cells):
            if l in seen: yield p, i, f'the label {l} is also in cell {seen[l]}; rename one'
            seen.setdefault(l, i)
        said = '\n'.join(t for _,t in proses(cells) + shown_markdown(cells))
        for l,i in seen.items():
            if l.split('-')[0] in ('fig', 'tbl') and not re.search(rf'@{re.escape(l)}(?![\w-])', said): yield p, i, f'{l} is nowhere referred to; write @{l} where the text speaks of it'
        for i,text in shown_markdown(cells):
            for link in links(text):
                if '.ipynb' in link: yield p, i, f'an output links to {link}, which the paper cannot follow; put the link in a cell of Markdown'
        for i,text in proses(cells) + shown_markdown(cells):
            for key in re.findall(r'(?<![\w`/.@])@([A-Za-z][\w:.-]*\w)', re.sub(r'https?://\S+', '', text)):
                if key.split('-')[0] in CROSS:
                    if key not in seen: yield p, i, f'@{key} refers to nothing on this page; label it with `#| label: {key}` or `{{#{key}}}`'
                elif key not in keys: yield p, i, f'@{key} is not in nbs/references.bib; add it, or put `@{key}` in backticks'

# Alternative text

def check_alt(root, pages):
    for p,cells in pages.items():
        for i,text in proses(cells):
            for alt,rest in re.findall(r'!\[([^\]]*)\]\([^)]*\)(\{[^}]*\})?', text):
                if not alt.strip() and 'fig-alt=' not in rest: yield p, i, 'a picture has no alternative text; write it between the brackets of ![...]'
            for img in re.findall(r'<img\b[^>]*>', text):
                if not re.search(r'\balt="[^"]+"', img): yield p, i, 'an <img> has no alt="..."'
        for i,c in enumerate(cells):
            shown = [o for o in outputs(c) if any(k.startswith('image/') for k in o.get('data', {}))]
            for o in outputs(c):
                if re.search(r'<img\b(?![^>]*\balt=)[^>]*>', ''.join(o.get('data', {}).get('text/html', ''))): yield p, i, 'a picture in an HTML output has no alt="..."'
            own = lambda o: any(k.startswith('image/') and v.get('alt') for k,v in o.get('metadata', {}).items() if isinstance(v, dict)) # as IPython's Image(alt=...) leaves it
            if all(map(own, shown)): continue
            text = directives(c).get('fig-alt')
            if text is None: yield p, i, f'a figure has no alternative text; {ADD_ALT}'; continue
            try: alt = yaml.safe_load(f'alt: {text}')['alt']
            except yaml.YAMLError: yield p, i, 'fig-alt is not valid YAML; put it in double quotes'; continue
            alts = alt if isinstance(alt, list) else [alt]
            if any(not isinstance(a, str) or len(a.split()) < 4 for a in alts): yield p, i, 'fig-alt says too little; write a sentence, in double quotes'
            elif len(alts) != (n := len(outputs(c)) if isinstance(alt, list) else len(shown)): # Quarto gives the k-th output the k-th text
                yield p, i, f'{n} {"outputs" if isinstance(alt, list) else "figures"} and {len(alts)} alternative texts; write `#| fig-alt: ["...", "..."]` with one for each output'

# Tables

def check_tables(root, pages):
    "A table in Markdown with a long line takes the whole width, divided as its dashes are: equal dashes make a wide column of short words"
    for p,cells in pages.items():
        if root/'nbs' not in p.parents: continue
        for i,text in proses(cells):
            for table in re.findall(r'(?:^\|.*\n?){3,}', text, re.M):
                rule = table.splitlines()[1]
                if max(map(len, table.splitlines())) > 72 and len(rule.strip('|').split('|')) > 1 and max(map(len, rule.strip('|').split('|'))) < 6:
                    yield p, i, f'a table with long lines has dashes of one length, so its columns are equally wide; write more dashes under the wide ones: {table[:40]}'

# Outputs

def shows(cell):
    "Does a cell end in a value that a reader should see?"
    if cell['cell_type']!='code' or hidden(cell) or directives(cell).keys() & {'export', 'exports', 'eval', 'slow'}: return False
    try: body = ast.parse(source(cell)).body
    except SyntaxError: return False
    return bool(body) and isinstance(body[-1], ast.Expr) and not isinstance(body[-1].value, (ast.Call, ast.Constant))

def check_saved(root, pages):
    "Pages without a single output: they were exported but not run (jobs, which papermill runs, are templates)"
    for p,cells in pages.items():
        if p.parent.name!='stages' and any(map(shows, cells)) and not any(outputs(c) for c in cells):
            yield p, None, f'no output is saved; run nbdev-test --save {p.relative_to(root)}'

def check_errors(root, pages):
    for p,cells in pages.items():
        for i,c in enumerate(cells):
            for o in c.get('outputs', []):
                if o['output_type']=='error': yield p, i, f"a {o.get('ename', 'error')} is saved; run the page again, or show it with `expect_fail`"

def results_of(page, root):
    "Results that the code of a page reads, with the paths as they are written there"
    text = '\n'.join(source(c) for c in page[1] if c['cell_type']=='code')
    found = re.findall(r"""['"]((?:[\w.-]+/)*results/[\w./-]+)['"]""", text) + re.findall(r"""(?:Path\(|^results = )['"]((?:[\w.-]+/)*results)['"]""", text, re.M)
    under = [root/'nbs/results', root/'nbs/findings/results', root/'nbs/report/results']
    for f in dict.fromkeys(found):
        at = (page[0].parent/f).resolve()
        if at.exists() and any(at==u or u in at.parents for u in under): yield f, at

def check_results(root, pages):
    for p,cells in pages.items():
        text = '\n'.join(''.join(o.get('text', '')) + ''.join(o.get('data', {}).get('text/plain', '')) for c in cells for o in c.get('outputs', []))
        shown = {(p.parent/f).resolve(): (f, line) for line,f in re.findall(r"""(?:^|['"(])(([\w./-]+): \d+ files?, sha256 [0-9a-f]{16})""", text, re.M)}
        for at,(f,line) in shown.items():
            if not at.exists(): yield p, None, f'{f} is gone; correct its results_digest'
            elif results_digest(at).split(': ')[-1] != line.split(': ')[-1]: yield p, None, f'older than the results in {f}; run the page again: nbdev-test --save {p.relative_to(root)}'
        for f,at in results_of((p, cells), root):
            if not any(at==s or s in at.parents or at in s.parents for s in shown): yield p, None, f'shows {f} but not which state of it; end the page with a cell results_digest({f!r}) (of labels) and run it'

# Files

def text_files(root):
    "All files of the project, or, outside git, all files"
    r = subprocess.run(['git', '-C', str(root), 'ls-files', '-co', '--exclude-standard', '-z'], capture_output=True, text=True)
    files = [root/f for f in r.stdout.split('\0') if f] if r.returncode==0 else [p for p in root.rglob('*') if p.is_file()]
    return [f for f in files if f.suffix not in ('.png', '.ico', '.jpg') and f.is_file()]

def check_paths(root, pages):
    for f in text_files(root):
        if f.suffix=='.ipynb':
            for i,c in enumerate(json.loads(f.read_text())['cells']):
                outs = [json.dumps({k: v for k,v in o.get('data', {}).items() if not k.startswith('image/p')} | {k: o[k] for k in ('text', 'traceback') if k in o}) for o in c.get('outputs', [])]
                if m := LOCAL.search('\n'.join([source(c), *outs])): yield f, i, f'holds a path of one machine, {m[0]}; remove it'
        else:
            for n,line in enumerate(f.read_text(errors='replace').splitlines()):
                if m := LOCAL.search(line): yield f, f'line {n+1}', f'holds a path of one machine, {m[0]}; remove it'; break

def check_made(root, pages):
    spec = importlib.util.spec_from_file_location('readme', HERE/'readme.py')
    spec.loader.exec_module(m := importlib.util.module_from_spec(spec))
    for f in m.differing(root): yield root/f, None, 'differs from its page in nbs/; run python .ci/readme.py'

def check_quarto(root, pages):
    f = root/'_quarto.yml'
    try: config = yaml.safe_load(f.read_text())
    except (OSError, yaml.YAMLError) as e: yield f, None, f'cannot be read: {e}'; return
    def names(o, key=None):
        if isinstance(o, dict): yield from (n for k,v in o.items() for n in names(v, k))
        elif isinstance(o, list): yield from (n for v in o for n in names(v, key))
        elif isinstance(o, str) and key in ('href', 'file', 'contents', 'bibliography', 'csl', 'css', 'favicon', 'image', 'logo', 'resources'): yield key, o
        elif isinstance(o, str): yield from ((key, l) for l in links(o))
    for key,n in names(config):
        if re.match(r'[a-z]+:', n): continue
        name, _, anchor = n.lstrip('/').partition('#')
        if not (target := root/'nbs'/name).exists(): yield f, None, f'{key} names {n}, which is not in nbs/'
        elif anchor and anchor not in anchors(pages[target]): yield f, None, f'{key} names {n}, but {name} has no heading {anchor}'

def check_wrapped(root, pages):
    "Long lines of code are wrapped: a reader sees no half of a line"
    try: html = yaml.safe_load((root/'_quarto.yml').read_text())['format']['html']
    except (OSError, KeyError, TypeError, yaml.YAMLError): return
    if html.get('code-overflow')!='wrap': yield root/'_quarto.yml', None, 'code wider than its column is cut; set code-overflow: wrap'

def published(page):
    "The name of a page on the site: nbdev drops the number in front"
    return page.parent/re.sub(r'^\d+[a-zA-Z0-9]*_', '', page.stem)

def check_names(root, pages):
    "Two pages of one published name: the later overwrites the earlier"
    seen = {}
    for p in pages:
        if root/'nbs' not in p.parents: continue
        other = seen.setdefault(published(p), p)
        if other is not p: yield p, None, f'has the published name of {other.relative_to(root)}, so one overwrites the other; rename it'

def title(cells):
    m = re.search('^# (.+)', source(cells[0]), re.M) if cells else None
    return m and m[1]

def check_first_cells(root, pages):
    "nbdev makes the settings of a page of its first cell and drops the rest of it: prose there is not on the site"
    for p,cells in pages.items():
        if p.suffix!='.ipynb' or not cells or not title(cells): continue
        lost = [l for l in source(cells[0]).splitlines() if l.strip() and not l.startswith(('# ', '> ', '- '))]
        if lost: yield p, 0, f'"{lost[0][:40]}..." is lost on the site; put what follows title and description in a cell of its own'

def check_titles(root, pages):
    "Two pages of one title: search results and the sidebar do not tell them apart"
    seen = {}
    for p,cells in pages.items():
        if p.suffix=='.ipynb' and (t := title(cells)) and seen.setdefault(t, p) is not p:
            yield p, 0, f'has the title of {seen[t].relative_to(root)}, "{t}"; give it one of its own'

WORDS = {
    r'\bgo(?:es)? on (?:where|from|with)\b': 'resume, continue', r'\bas one should\b': 'say why', r'\bat hand\b': 'available',
    r'(?<!there )\bis none(?=[.;,])': 'say what it is not', r'\bno medical device\b': 'not a medical device', r'\bbroken off\b': 'interrupted',
    r'\bthe floor below which\b': 'a bound', r'\bis gone on with\b': 'is kept and continued', r'\bNeeded are\b': 'you need',
    r'\bsays how\b(?! (?:well|much|many|good|steep|to)\b)': 'describes, shows, explains', r'\bWhy is asked\b': 'the reason is discussed', r'\bdone otherwise\b': 'done differently',
    r'\bwhat for and what not\b': 'its purpose and its limits', r'\bthe reader of\b(?= pictures goes)': 'rephrase',
    r'\b(?:[Aa]|one) (?:row|column|circle|colour|line|marker|worker) an? (?:recording|image|seed|class|lead|method|model|fold|pair|core|configuration|group|kind)\b': 'for each',
    r'\b(?:one|marker) an? (?:seed|core|patient|recording|lead|fold|method|configuration|hyperparameter|architecture)\b': 'one for each', r'\b[Dd]ots an inch\b': 'dots per inch',
    r"\bone's own\b": 'your own', r'\bwithout a word\b': 'silently', r'\bknown badly\b': 'known only roughly',
    r'\bbegin of the\b': 'start of the', r'\bspoilt as\b': 'damaged in the way of',
    r'\bmore seldom\b': 'less often', r'\bno random sample\b': 'not a random sample', r'\bgiven again\b': 'the same command later',
    r'\b(?:go|goes|going|went|was|were|been)\s+(?:to|at)\s+\[?school\b': 'pretrained on simulated recordings', r'\blabels\.judge\b': 'data.quality.judge',
    r'\bis there all the same\b': 'exists nevertheless', r'\bwhat became of\b': 'what happened to',
    r'\bspoilt\b': 'damaged', r'\blets? expect\b': 'predicts', r'\b(?<!Rhythms )(?:is|are) told by\b': 'follows from, is given by',
    r'\b(?:the|its|their|whose|from) begins?\b(?= (?:and|or|to|of|is)\b|[,.;:)?])': 'start',
    r'\ba ratio of signal to noise\b': 'a signal-to-noise ratio', r'\bthat are no (?:12|ECG)': 'that are not'}

def said(cell):
    "What code says to readers: its comments and docstrings"
    text = source(cell)
    if cell['cell_type']!='code' or text.startswith(('%', '!')): return ''
    try: tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    except (tokenize.TokenError, IndentationError, SyntaxError): return ''
    return '\n'.join(t.string for t in tokens if t.type==tokenize.COMMENT or t.type==tokenize.STRING and ' ' in t.string)

def check_words(root, pages):
    "Phrases that readers stumbled over"
    for p,cells in pages.items():
        for i,text in proses(cells) + [(i, said(c)) for i,c in enumerate(cells)]:
            for pattern,instead in WORDS.items():
                if m := re.search(pattern, text): yield p, i, f'"{m[0]}" reads badly; write instead: {instead}'

def names_of(text):
    "Names that code defines and names that it uses"
    defined, used = set(), set()
    for n in ast.walk(ast.parse(text)):
        if isinstance(n, (ast.FunctionDef, ast.ClassDef)): defined.add(n.name)
        elif isinstance(n, (ast.Import, ast.ImportFrom)): defined |= {(a.asname or a.name).split('.')[0] for a in n.names}
        elif isinstance(n, ast.arg): defined.add(n.arg)
        elif isinstance(n, ast.Name): (used if isinstance(n.ctx, ast.Load) else defined).add(n.id)
    return defined, used

def check_copied(root, pages):
    "Code of tutorials runs when it is copied: it uses no name that only a hidden cell defines"
    for p,cells in pages.items():
        if p.parent.name not in ('tutorials', 'howto', 'start'): continue
        secret, shown = {}, set()
        for i,c in enumerate(cells):
            if c['cell_type']!='code': continue
            try: defined, used = names_of(source(c))
            except SyntaxError: continue
            if 'hide' in directives(c): secret |= dict.fromkeys(defined, i); continue
            for n in sorted((used & secret.keys()) - shown - defined):
                yield p, i, f'{n} is defined in the hidden cell {secret[n]} only, so copied code fails; show that cell, folded'
            shown |= defined

def check_offline(root, pages):
    "Themes load no fonts from other servers"
    try: themes = yaml.safe_load((root/'_quarto.yml').read_text())['format']['html']['theme']
    except (OSError, KeyError, TypeError, yaml.YAMLError): return
    for name,files in (themes.items() if isinstance(themes, dict) else ()):
        own = [root/'nbs'/f for f in (files if isinstance(files, list) else [files]) if f.endswith('.scss')]
        if not any('$web-font-path: false' in f.read_text() for f in own if f.exists()):
            yield root/'_quarto.yml', None, f'the {name} theme loads fonts from another server; add a .scss file with $web-font-path: false'

# Text and what it stands on, as variables of a theme; level AA of WCAG wants 4.5
PAIRS = (('body-color', 'body-bg'), ('navbar-fg', 'navbar-bg'), ('navbar-hl', 'navbar-bg'), ('sidebar-fg', 'body-bg'),
         ('sidebar-hl', 'body-bg'), ('link-color', 'body-bg'), ('code-color', 'code-bg'), ('body-color', 'code-block-bg'),
         ('footer-fg', 'footer-bg'), ('quiet', 'body-bg'))

def luminance(color):
    "Relative luminance of #rrggbb, after WCAG 2"
    parts = [int(color[i:i+2], 16)/255 for i in (1, 3, 5)]
    r, g, b = [c/12.92 if c <= .04045 else ((c + .055)/1.055)**2.4 for c in parts]
    return .2126*r + .7152*g + .0722*b

def contrast(a, b):
    low, high = sorted((luminance(a), luminance(b)))
    return (high + .05)/(low + .05)

def check_contrast(root, pages):
    "Colours of our own themes can be read"
    for f in sorted((root/'nbs').glob('*.scss')):
        colors = dict(re.findall(r'^\$([\w-]+):\s*(#[0-9a-fA-F]{6});', f.read_text(), re.M))
        for text,ground in PAIRS:
            if text in colors and ground in colors and (c := contrast(colors[text], colors[ground])) < 4.5:
                yield f, None, f'${text} on ${ground} has a contrast of {c:.1f}; at least 4.5 can be read by all (WCAG AA)'

def check_valid(root, pages):
    from nbformat import ValidationError, from_dict, validate
    for p in pages:
        if p.suffix != '.ipynb': continue
        try: validate(from_dict(json.loads(p.read_text())))
        except ValidationError as e: yield p, None, f'not a valid notebook ({str(e).splitlines()[0]}); run nbdev-clean, or repair it by hand'

def check_docstrings(root, pages):
    "Public functions and classes; one that fits on a line says it itself"
    for f in sorted((root/'ecg_arrhythmia').rglob('[a-z]*.py')):
        for node in ast.parse(f.read_text()).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name[0] != '_' and node.end_lineno > node.lineno and not ast.get_docstring(node): yield f, f'line {node.lineno}', f'{node.name} has no docstring; say in a line what it is, in its notebook'

CHECKS = check_links, check_references, check_alt, check_tables, check_saved, check_errors, check_results, check_paths, check_made, check_quarto, check_wrapped, check_names, check_first_cells, check_titles, check_words, check_copied, check_offline, check_contrast, check_valid, check_docstrings

def faults(root):
    "Everything found, a line each"
    root = Path(root).resolve()
    pages = read_pages(root)
    where = lambda i: '' if i is None else f', cell {i}' if isinstance(i, int) else f', {i}'
    return [f'{p.relative_to(root)}{where(i)}: {what}' for check in CHECKS for p,i,what in check(root, pages)]

# The help of the commands

def words_of(text):
    "Words of a help text: versions of Python break lines differently, and some lose brackets of the usage where they break it"
    return re.sub('[()]', '', text).split()

def old_help(root):
    "Is the help on the page of the commands what they print now? The page itself knows how to ask them"
    page, found, names = root/'nbs/commands/index.ipynb', [], {}
    os.chdir(page.parent)
    for i,c in enumerate(json.loads(page.read_text())['cells']):
        last = source(c).rpartition('\n')[2]
        if 'show' not in names and hidden(c): exec(source(c), names)
        elif last.startswith('show(') and words_of(eval(last, names).data)!=words_of(''.join(c['outputs'][0]['data']['text/markdown'])):
            found.append(f'{page.relative_to(root)}, cell {i}: the help of a command has changed; run nbdev-test --save {page.relative_to(root)}')
    os.chdir(root)
    return found

# Preparing

def convert(page, folder):
    "Why a page does not become Markdown or HTML as it should, a line each"
    import nbformat
    from nbconvert import HTMLExporter, MarkdownExporter
    name, found = page.relative_to(folder), []
    try:
        nb = nbformat.read(page, 4)
        if any(c.cell_type=='markdown' and c.source.startswith('#|') for c in nb.cells): found.append(f'{name}: prepared, a cell of Markdown shows its #| line; export the text from a copy of the cell that ends in a blank and a dash, which nbdev leaves out')
        for c in nb.cells: # marks of nbdev, which nbconvert does not know
            c.pop('has_sd', None)
            c.metadata.pop('execution', None)
        for e in (MarkdownExporter(), HTMLExporter()): assert e.from_notebook_node(nb)[0].strip(), 'nothing comes out'
    except Exception as e: found.append(f'{name}: prepared, it does not convert: {e}')
    return found

def prepare():
    "As `nbdev-docs` does before it calls Quarto, in the current folder"
    from fastcore.parallel import parallel
    from nbdev.quarto import refresh_quarto_yml
    from nbdev.serve import proc_nbs
    refresh_quarto_yml()
    cache = Path(proc_nbs(n_workers=os.cpu_count()))
    pages = sorted(cache.rglob('*.ipynb'))
    prepared = {p.relative_to(cache) for p in pages}
    found = [f'{p}: not prepared' for p in Path('nbs').rglob('*.ipynb') if p.relative_to('nbs') not in prepared]
    return found + [f for page in parallel(convert, pages, folder=cache, n_workers=os.cpu_count(), progress=False) for f in page]

if __name__=='__main__':
    root = HERE.parent
    found = faults(root)
    if '--quick' not in sys.argv: found += old_help(root) + prepare()
    print('\n'.join(found) or f'{len(read_pages(root))} pages, nothing to trip over')
    sys.exit(bool(found))

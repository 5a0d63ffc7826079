"""The check of the site finds each fault in a small made-up tree, and passes a clean one."""
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from ecg_arrhythmia.core import results_digest

ci = Path(__file__).resolve().parent.parent/'.ci'
def module(name, folder=ci):
    spec = importlib.util.spec_from_file_location(f'ci_{name}', folder/f'{name}.py')
    spec.loader.exec_module(m := importlib.util.module_from_spec(spec))
    return m

site, readme = module('site'), module('readme')
PNG = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=='
ALT = '#| fig-alt: "One dot on white paper"\n'

def md(text): return dict(cell_type='markdown', metadata={}, source=text)
def code(text, *outputs):
    return dict(cell_type='code', metadata={}, source=text, execution_count=None, outputs=list(outputs))
def data(**kw):
    return dict(
        output_type='execute_result',
        metadata={},
        execution_count=None,
        data={k.replace('_', '/'): v for k, v in kw.items()},
    )
def picture(): return data(image_png=PNG)
def text(s): return data(**{'text/plain': s})
def write(path, *cells):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps(
            dict(
                nbformat=4,
                nbformat_minor=5,
                metadata={},
                cells=[dict(c, id=f'c{i}') for i, c in enumerate(cells)],
            )
        )
    )

@pytest.fixture
def tree(tmp_path):
    "A clean site with something of everything"
    nbs = tmp_path / 'nbs'
    (nbs / 'results/a').mkdir(parents=True)
    (nbs / 'results/a/scores.csv').write_text('f1\n.9\n')
    (nbs / 'references.bib').write_text('@article{guo2017,\n  title = {On calibration}\n}\n')
    (nbs / 'dot.png').write_bytes(b'')
    write(nbs/'start/install.ipynb', md('# Install')) # badges of the README name it
    (tmp_path/'LICENSE').write_text('A licence')
    write(
        nbs / 'index.ipynb',
        md('# Home'),
        md(
            'See [page](sub/page.ipynb#the-2nd-part), [here](#below) and `[not](a.link)`.\n\n```sh\n[nor](this)\n```\n\n## Below'
        ),
    )
    write(
        nbs / 'sub/page.ipynb',
        md('# Page'),
        md(
            '## The 2nd part\n\n@fig-dot shows it [@guo2017]; a@b.example is no citation. ![A dot on paper](../dot.png)'
        ),
        code('#| label: fig-dot\n' + ALT + 'show()', picture()),
        code('#| hide\nshow()', picture()),
        code("pd.read_csv('../results/a/scores.csv')"),
        code(
            'results_digest',
            text(
                repr(
                    results_digest(nbs / 'results/a').replace((nbs / 'results/a').as_posix(), '../results/a')
                )
            ),
        ),
    )
    (tmp_path / '_quarto.yml').write_text(
        'website:\n  sidebar:\n    contents:\n      - index.ipynb\nbibliography: references.bib\n'
    )
    (tmp_path / 'CHANGELOG.md').write_text('# Changes\n\n[Home](nbs/index.ipynb)\n')
    for k, v in readme.made(tmp_path).items():
        (tmp_path / k).write_bytes(v)
    return tmp_path

def change(tree, old, new, file='nbs/sub/page.ipynb'):
    p = tree/file
    assert p.read_text().count(old)==1, (old, p.read_text())
    p.write_text(p.read_text().replace(old, new))
    return site.faults(tree)

def only(faults, *parts):
    assert len(faults)==1, faults
    for p in parts: assert p in faults[0], faults[0]

def test_clean_tree_passes(tree): assert site.faults(tree)==[]

@pytest.mark.parametrize(
    'old,new,parts',
    [
        ('../dot.png', '../dash.png', ('cell 1', '../dash.png leads nowhere')),
        ('../dot.png', '../../_quarto.yml', ('cell 1', 'leaves nbs/')),
        ('[@guo2017]', '[x](#nowhere)', ('cell 1', 'no heading or label nowhere')),
        ('[@guo2017]', '<a href=\\"gone.ipynb\\">x</a>', ('gone.ipynb leads nowhere',)),
        ('@guo2017', '@guo2018', ('@guo2018 is not in nbs/references.bib',)),
        ('[@guo2017]', '@fig-dash', ('@fig-dash refers to nothing',)),
        ('![A dot on paper]', '![]', ('a picture has no alternative text',)),
        ('## The 2nd part', '## The 2nd part {#fig-dot}', ('cell 2', 'fig-dot is also in cell 1')),
        ('#| fig-alt: \\"One dot on white paper\\"\\n', '', ('cell 2', 'a figure has no alternative text')),
        ('\\"One dot on white paper\\"', 'dot', ('says too little',)),
        ('\\"One dot on white paper\\"', 'A dot: one, on white', ('not valid YAML',)),
        (
            '\\"One dot on white paper\\"',
            '[\\"One dot on white\\", \\"Another dot on white\\"]',
            ('1 outputs and 2 alternative texts',),
        ),
        ('"#| hide\\nshow()"', '"show()"', ('cell 3', 'no alternative text')),
    ],
)
def test_fault_is_found(tree, old, new, parts):
    faults = change(tree, old, new)
    if '2nd part' in old: faults = [f for f in faults if f.startswith('nbs/sub/page')]
    only(faults, 'nbs/sub/page.ipynb', *parts)

def test_heading_that_others_link_to(tree):
    "Both the page and the README made from it are told"
    faults = change(tree, '## The 2nd part', '## The third part')
    assert [f.split(',')[0] for f in faults] == ['README.md', 'nbs/index.ipynb'] or [
        f.split(',')[0] for f in faults
    ] == ['nbs/index.ipynb', 'README.md']

def test_links_of_markdown_files_at_the_top(tree):
    only(
        change(tree, 'nbs/index.ipynb', 'nbs/start.ipynb', 'CHANGELOG.md'),
        'CHANGELOG.md',
        'nbs/start.ipynb leads nowhere',
    )

def test_results_that_changed(tree):
    (tree/'nbs/results/a/scores.csv').write_text('f1\n.8\n')
    only(site.faults(tree), 'older than the results in ../results/a', 'nbdev-test --save nbs/sub/page.ipynb')

def test_results_that_came_later(tree):
    (tree/'nbs/results/a/more.csv').write_text('f1\n.8\n')
    only(site.faults(tree), 'older than')

def test_line_endings_do_not_count(tree):
    (tree/'nbs/results/a/scores.csv').write_bytes(b'f1\r\n.9\r\n')
    assert not site.faults(tree)

def test_results_without_their_state(tree):
    write(tree/'nbs/other.ipynb', md('# Other'), code("r = Path('results')/'a'"))
    only(site.faults(tree), 'nbs/other.ipynb', "shows results but not which state", "results_digest('results')")

def test_saved_error(tree):
    write(
        tree / 'nbs/other.ipynb',
        md('# Other'),
        code('1/0', dict(output_type='error', ename='ZeroDivisionError', evalue='', traceback=[])),
    )
    only(site.faults(tree), 'other.ipynb, cell 1', 'ZeroDivisionError is saved')

HOME = '/ho'+'me/someone/x'
@pytest.mark.parametrize(
    'cell',
    [
        md(f'See {HOME}'),
        code(f"open('{HOME}')"),
        code('p', text(f"Path('{HOME}')")),
        code('p', dict(output_type='stream', name='stdout', text=f'{HOME}\n')),
    ],
)
def test_local_path_in_a_page(tree, cell):
    write(tree / 'nbs/other.ipynb', md('# Other'), cell)
    only(site.faults(tree), 'other.ipynb, cell 1', HOME)

def test_local_path_in_a_file(tree):
    (tree/'a.yaml').write_text(f'x: 1\nstore: {HOME}\n')
    only(site.faults(tree), 'a.yaml, line 2', HOME)

@pytest.mark.parametrize('fine', ['https://example.org/home/x', 'or/home/page', "'/tmp'", 'art/opt/x'])
def test_what_is_no_local_path(tree, fine):
    (tree/'a.yaml').write_text(fine)
    assert not site.faults(tree)

def test_copied_code_that_needs_a_hidden_cell(tree):
    (tree/'nbs/tutorials').mkdir()
    write(tree/'nbs/tutorials/one.ipynb', md('# One'), code('#| hide\nsecret = 1'), code('secret + 1', text('2')))
    only(site.faults(tree), 'nbs/tutorials/one.ipynb, cell 2', 'secret is defined in the hidden cell 1')

def test_table_whose_columns_are_equally_wide(tree):
    long = 'a long text that needs most of the width of a page, as explanations do'
    write(tree/'nbs/wide.ipynb', md('# Wide'), md(f'| term | meaning |\n|---|---|\n| a | {long} |\n'))
    only(site.faults(tree), 'wide.ipynb', 'dashes')
    write(tree/'nbs/wide.ipynb', md('# Wide'), md(f'| term | meaning |\n|---|----------------|\n| a | {long} |\n'))
    assert site.faults(tree)==[]

def test_page_that_was_not_run(tree):
    write(tree/'nbs/fresh.ipynb', md('# Fresh'), code('x = 1\nx + 1'))
    only(site.faults(tree), 'fresh.ipynb', 'no output is saved')
    write(tree/'nbs/fresh.ipynb', md('# Fresh'), code('x = 1\nx + 1', text('2')))
    assert site.faults(tree)==[]

def test_prose_that_nbdev_drops(tree):
    write(tree/'nbs/first.ipynb', md('# First\n\n> What it is\n\nThis is not on the site.'))
    only(site.faults(tree), 'first.ipynb, cell 0', 'is lost on the site')
    write(tree/'nbs/first.ipynb', md('# First\n\n> What it is\n\n- format: html'), md('This is on the site.'))
    assert site.faults(tree)==[]

def test_two_pages_of_one_title(tree):
    for name in ('one', 'two'): write(tree/f'nbs/{name}.ipynb', md('# The same'))
    only(site.faults(tree), 'two.ipynb', 'title of nbs/one.ipynb')

def test_colours_that_cannot_be_read(tree):
    (tree/'nbs/own.scss').write_text('$link-color: #8ab4f8;\n$body-bg: #ffffff;\n$navbar-fg: #ffffff;\n$navbar-bg: #1f4e79;\n')
    only(site.faults(tree), 'nbs/own.scss', '$link-color on $body-bg', '2.1')

def test_readme_that_was_edited(tree):
    only(change(tree, '## Below', '## Below\n\nMore.', 'README.md'), 'README.md', 'run python .ci/readme.py')

def test_picture_of_the_readme_that_is_not_needed_any_more(tree):
    (tree/'README_files').mkdir()
    (tree/'README_files/old.png').write_bytes(b'')
    only(site.faults(tree), 'README_files/old.png')

def test_quarto_file(tree):
    only(change(tree, '- index.ipynb', '- gone.ipynb', '_quarto.yml'), '_quarto.yml', 'contents names gone.ipynb')

def test_link_of_the_footer(tree):
    footer = 'website:\n  page-footer:\n    left: "See [below](/index.ipynb#below), [out](https://example.org)"\n'
    assert not change(tree, 'website:\n', footer, '_quarto.yml')
    only(change(tree, '#below', '#above', '_quarto.yml'), 'left names /index.ipynb#above', 'no heading above')

def test_key_twice(tree):
    only(
        change(tree, '@article', '@article{guo2017,\n  title = {Again}\n}\n@article', 'nbs/references.bib'),
        'guo2017 is there twice',
    )

def test_label_that_nobody_refers_to(tree):
    only(change(tree, '@fig-dot shows', 'The dot shows'), 'page.ipynb, cell 2', 'fig-dot is nowhere referred to')

@pytest.mark.parametrize(
    'shown,part',
    [
        ('known [@guo2017]', None),
        ('unknown [@guo2018]', '@guo2018 is not in'),
        ('[there](sub/page.ipynb)', 'an output links to sub/page.ipynb'),
    ],
)
def test_markdown_that_a_cell_puts_out(tree, shown, part):
    write(tree / 'nbs/other.ipynb', md('# Other'), code('x', data(**{'text/markdown': shown})))
    if part:
        only(site.faults(tree), 'other.ipynb, cell 1', part)
    else:
        assert not site.faults(tree)

def test_public_name_without_docstring(tree):
    (tree / 'ecg_arrhythmia').mkdir()
    (tree / 'ecg_arrhythmia/a.py').write_text(
        "__all__ = ['f', 'C', 'N']\nN = 1\ndef f():\n    'Says what'\n    return 1\ndef _g(): pass\nclass C:\n    "
        "'Says what'\n    def h(self): pass\n"
    )
    assert not site.faults(tree)
    only(
        change(tree, "def f():\n    'Says what'", 'def f():', 'ecg_arrhythmia/a.py'),
        'a.py, line 3: f has no docstring',
    )

def test_citation_style_is_whole():
    from xml.etree import ElementTree

    ns, style = {'c': 'http://purl.org/net/xbiblio/csl'}, ElementTree.parse(
        ci.parent / 'nbs/vancouver.csl'
    ).getroot()
    assert style.get('version') == '1.0' and style.get('class') == 'in-text'
    assert style.find(
        'c:info/c:category[@citation-format="numeric"]', ns
    ) is not None and 'by-sa' in style.find('c:info/c:rights', ns).get('license')
    assert (
        style.find('c:citation/c:layout', ns) is not None
        and style.find('c:bibliography/c:layout', ns) is not None
    )
    assert style.find('c:info/c:link[@rel="independent-parent"]', ns) is None
    macros = {m.get('name') for m in style.iterfind('c:macro', ns)}
    assert {
        t.get('macro') for t in style.iter('{http://purl.org/net/xbiblio/csl}text') if t.get('macro')
    } <= macros

def test_picture_in_html_output(tree):
    write(tree/'nbs/other.ipynb', md('# Other'), code('x', data(**{'text/html': '<img src="data:,">'})))
    only(site.faults(tree), 'HTML output')

def test_several_figures_of_a_cell(tree):
    two = lambda alt, *more: write(
        tree / 'nbs/other.ipynb', md('# Other'), code(f'#| fig-alt: {alt}\nx', *more, picture(), picture())
    )
    two('"One dot on white paper"')
    only(site.faults(tree), '2 figures and 1 alternative texts')
    two('["One dot on white paper", "Another dot on white paper"]')
    assert not site.faults(tree)
    two('["One dot on white paper", "Another dot on white paper"]', text('a line'))
    only(site.faults(tree), '3 outputs and 2 alternative texts')

def test_alt_of_ipython_image(tree):
    write(tree/'nbs/other.ipynb', md('# Other'), code('x', dict(picture(), metadata={'image/png': {'alt': 'A dot'}})))
    assert not site.faults(tree)

def test_pages_that_do_not_convert(tree):
    assert not any(site.convert(p, tree/'nbs') for p in (tree/'nbs').rglob('*.ipynb'))
    write(tree/'nbs/other.ipynb', md('# Other'), code('x', dict(output_type='display_data', metadata={})))
    only(site.convert(tree/'nbs/other.ipynb', tree/'nbs'), 'other.ipynb', 'does not convert')

def test_directive_in_markdown(tree):
    write(tree/'nbs/other.ipynb', md('#| export: true\nWords'))
    only(site.convert(tree/'nbs/other.ipynb', tree/'nbs'), 'other.ipynb', 'shows its #| line')

def test_hidden_words_of_the_package_are_those_of_the_first_page():
    cells = [''.join(c['source']) for c in json.loads((ci.parent/'nbs/index.ipynb').read_text())['cells']]
    hidden = next(c for c in cells if c.startswith('#| export\n#| hide\n'))
    words = hidden.removeprefix('#| export\n#| hide\n').split('\n\n')[0]
    import ecg_arrhythmia
    assert words.startswith('`ecg_arrhythmia` ') and words in ecg_arrhythmia.__doc__

def test_notebook_that_is_none(tree):
    write(tree/'nbs/other.ipynb', md('# Other'), dict(code('x()'), extra=1))
    only(site.faults(tree), 'other.ipynb', 'not a valid notebook', 'extra')

def test_exit_status(tree):
    (tree/'.ci').mkdir()
    for f in ('site.py', 'readme.py'): (tree/'.ci'/f).write_text((ci/f).read_text())
    run = lambda: subprocess.run([sys.executable, tree/'.ci/site.py', '--quick'], capture_output=True, text=True)
    clean = run()
    assert clean.returncode==0 and 'nothing to trip over' in clean.stdout
    (tree/'_quarto.yml').unlink()
    assert run().returncode==1

def test_readme_has_alternative_texts_and_paths(tree):
    write(tree/'nbs/index.ipynb', md('# Home\n\n[p](sub/page.ipynb#x)'), code('#| echo: false\n'+ALT+'show()', picture()))
    made = readme.made(tree)
    text = made['README.md'].decode()
    assert '![One dot on white paper](README_files/' in text and '(nbs/sub/page.ipynb#x)' in text and 'show' not in text
    assert len(made)==2

@pytest.mark.slow # .ci/run does it and more
def test_this_tree():
    "Without preparing, which .ci/run does"
    assert site.faults(ci.parent)==[]


def test_the_paper_keeps_its_lines():
    "Quarto drops the newlines of a source that is one string, and labels with them"
    cells = module('paper').join(ci.parent)['cells']
    assert len(cells) > 50 and all(isinstance(c['source'], list) for c in cells)
    labelled = [c for c in cells if any(line.startswith('#| label: ') for line in c['source'])]
    assert len(labelled) > 5 and all(line.endswith('\n') for c in cells for line in c['source'][:-1])

def test_after_rendering_tables_have_one_header_and_signatures_no_main():
    import pandas as pd
    offline = module('offline', ci.parent/'nbs')
    table = pd.DataFrame(dict(n=[1]), index=pd.Index(['a'], name='class')).to_html()
    page = f'<html>{table}<code>f(x: __main__.Recording)</code> if __name__ == "__main__": main()</html>'
    text = offline.own(page)
    head = text[text.index('<thead>'):text.index('</thead>')]
    assert head.count('<tr')==1 and '>class<' in head and '>n<' in head
    assert 'f(x: Recording)' in text and '"__main__"' in text
    two = pd.DataFrame({('a', 'b'): [1], ('a', 'c'): [2]}).to_html()
    assert offline.own(two).count('<tr')==two.count('<tr')==3
    named = pd.DataFrame({('a', 'b'): [1], ('a', 'c'): [2]}, index=pd.Index([7], name='class')).to_html()
    assert named.count('<tr')==4 and offline.own(named).count('<tr')==3 and '>class<' in offline.own(named)

def test_after_rendering_whole_numbers_have_no_decimals():
    import pandas as pd
    offline = module('offline', ci.parent/'nbs')
    table = pd.DataFrame(dict(n_seen=[911., None], share=[1., 0.], ms=[25., 25.5]), index=['a', 'b']).to_html()
    text = offline.own(table)
    assert '<td>911</td>' in text and 'NaN' not in text and '<td></td>' in text
    assert '<td>1.0</td>' in text and '<td>25.0</td>' in text and 'n_<wbr>seen' in text
    assert 'NaN' in offline.own(f'<p>NaN stands for what is not known.</p>{table}')

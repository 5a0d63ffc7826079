"""README.md from nbs/index.ipynb. With --check, fail if the two differ."""
import re
import sys
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter

root = Path(__file__).resolve().parent.parent
def readme():
    "The text of the README and its pictures, by path"
    nb = nbformat.read(root/'nbs/index.ipynb', 4)
    nb.cells = [c for c in nb.cells if '#| hide' not in c.source]
    for c in nb.cells:
        if '#| echo: false' in c.source: c.source = ''
        c.source = re.sub(r'^#\| .*\n', '', c.source, flags=re.M)
    text, resources = MarkdownExporter().from_notebook_node(nb, {'output_files_dir': 'README_files'})
    text = re.sub(r'```(python)?\s*```\n', '', text)
    text = text.replace('```\nfrom', '```python\nfrom')
    text = re.sub(r'\]\((\w+\.ipynb)\)', r'](nbs/\1)', text)
    alts = re.findall(r"alt='([^']+)'", '\n'.join(c['source'] for c in nbformat.read(root/'nbs/index.ipynb', 4).cells))
    for alt in alts: text = re.sub(r'!\[png\]', f'![{alt}]', text, count=1)
    return re.sub(r'\n\s*\n\s*\n', '\n\n', re.sub(r' +$', '', text, flags=re.M)).strip()+'\n', resources['outputs']

if __name__=='__main__':
    text, pictures = readme()
    files = {root/'README.md': text.encode(), **{root/k: v for k,v in pictures.items()}}
    if '--check' in sys.argv:
        old = [p.relative_to(root) for p,v in files.items() if not p.exists() or p.read_bytes() != v]
        sys.exit(f'{old} differ from nbs/index.ipynb; run python .ci/readme.py' if old else 0)
    for p,v in files.items(): p.parent.mkdir(exist_ok=True); p.write_bytes(v)

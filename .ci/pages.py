"""Prepare every notebook for the site, as `nbdev-docs` does before it calls Quarto."""
from pathlib import Path

from nbdev.quarto import refresh_quarto_yml
from nbdev.serve import proc_nbs

if __name__=='__main__':
    refresh_quarto_yml()
    cache = Path(proc_nbs(n_workers=1))
    pages = {p.relative_to(cache) for p in cache.rglob('*.ipynb')}
    missing = {p.relative_to('nbs') for p in Path('nbs').rglob('*.ipynb')} - pages
    assert not missing, f'not prepared: {missing}'
    print(f'{len(pages)} pages')

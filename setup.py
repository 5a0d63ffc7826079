"""Package metadata and requirements come from settings.ini; pyproject.toml holds what pip and nbdev read themselves."""
from configparser import ConfigParser
from pathlib import Path
from setuptools import find_packages, setup

here = Path(__file__).parent
ini = ConfigParser(delimiters=['='])
ini.read(here/'settings.ini', encoding='utf-8')
cfg = ini['DEFAULT']
lines = lambda key: cfg.get(key, '').strip().splitlines()

setup(
    version=cfg['version'], license=cfg['license'], author=cfg['author'], author_email=cfg['author_email'],
    keywords=cfg['keywords'].split(), python_requires='>='+cfg['min_python'],
    long_description=(here/'README.md').read_text(encoding='utf-8'), long_description_content_type='text/markdown',
    packages=find_packages(include=[cfg['lib_path']+'*']), install_requires=lines('requirements'), extras_require={'dev': lines('dev_requirements')},
    entry_points={'console_scripts': lines('console_scripts'), 'nbdev': [f"{cfg['lib_path']}={cfg['lib_path']}._modidx:d"]},
)

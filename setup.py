"""Package metadata and requirements come from settings.ini; pyproject.toml holds what pip and nbdev read themselves."""
import os
import shutil
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

here = Path(__file__).parent
ini = ConfigParser(delimiters=['='])
ini.read(here/'settings.ini', encoding='utf-8')
cfg = ini['DEFAULT']

def lines(key): return cfg.get(key, '').strip().splitlines()

class BuildWithStages(build_py):
    "The job notebooks are package data: a clone has them in nbs/stages, a wheel in ecg_arrhythmia/jobs/stages"
    def run(self):
        super().run()
        if self.editable_mode: return # a clone is used as it is
        dest = Path(self.build_lib)/cfg['lib_path']/'jobs'/'stages'
        dest.mkdir(parents=True, exist_ok=True)
        for f in sorted((here/'nbs'/'stages').glob('*.ipynb')): shutil.copy(f, dest)

DATA = [f'**/*.{kind}' for kind in ('html', 'css', 'js', 'svg', 'png', 'yaml', 'json', 'md', 'csv', 'safetensors', 'onnx', 'npz', 'txt')]

setup(
    version=cfg['version'], license=cfg['license'], author=cfg['author'], author_email=cfg['author_email'],
    keywords=cfg['keywords'].split(), python_requires='>='+cfg['min_python'],
    long_description=(here/'README.md').read_text(encoding='utf-8'), long_description_content_type='text/markdown',
    packages=find_packages(include=[cfg['lib_path'], cfg['lib_path']+'.*']), package_data={cfg['lib_path']: DATA},
    cmdclass=dict(build_py=BuildWithStages),
    install_requires=lines('predict_requirements' if os.environ.get('ECG_INSTALL')=='predict' else 'requirements'),
    extras_require={extra: lines(f'{extra}_requirements') for extra in ('dev', 'pictures', 'formats')},
    entry_points={'console_scripts': lines('console_scripts'), 'nbdev': [f"{cfg['lib_path']}={cfg['lib_path']}._modidx:d"]},
)

"""The card of the shipped model: its figures computed again from the saved predictions, its texts as the package has them.

`python .ci/model_card.py` fails where the card says something else, and `--save` writes the card anew.
Weights and network stay as they are; only figures, texts and sums change.
`--network` exports the ONNX file from the weights again, which needs torch, and writes it if it says the same.
"""
import json
import sys
from pathlib import Path

import pandas as pd

from ecg_arrhythmia.core import write_atomic, write_json
from ecg_arrhythmia.prediction.judged import answered, figures_of
from ecg_arrhythmia.prediction.model_folder import read_facts, seal
from ecg_arrhythmia.prediction.runtime import default_model, load_model
from ecg_arrhythmia.prediction.shipped import LIMITS_OF_USE, MEASURED, TABLE, shipped_card

RESULTS = Path(__file__).resolve().parent.parent/'nbs/findings/results/model'
CASES = (
    ('{}, not trained on', 'net-loso-a-0', 'signal-loso', ('PTB-XL fold 10', 'Chapman')),
    ('{}, five folds', 'net-cv-a-0', 'signal-cv', ('Chapman', 'PTB-XL fold 10')),
    ('{}, took no part in any choice', 'net-final-a-0', 'signal-final', ('PTB-XL',)),
)

def table(name): return pd.read_csv(RESULTS/f'{name}.csv', index_col='name')

def figures():
    "A row for each case of the card"
    how = dict(temperature=float((RESULTS/'temperature.txt').read_text()),
               thresholds=json.loads((RESULTS/'thresholds.json').read_text()))
    rows = []
    for title, network, signal, sources in CASES:
        d = answered(table('recordings'), table(network), table(signal), **how)
        rows += [dict(of=title.format(s), **figures_of(d[d.source==s])) for s in sources]
    return rows

def main(save=False):
    folder = default_model()
    facts = read_facts(folder)
    rule = facts['rule'] | dict(measured=MEASURED)
    new = facts | dict(figures={TABLE: figures()}, limits=list(LIMITS_OF_USE), rule=rule)
    card = shipped_card(new).encode()
    if new==facts and card==(folder/'README.md').read_bytes(): return print('The card says what the saved predictions say')
    if not save: sys.exit('The card says something else than the saved predictions or its text: python .ci/model_card.py --save')
    sealed = seal(new, facts['files'] | {'README.md': card})
    write_atomic(folder/'README.md', lambda p: p.write_bytes(card))
    write_json(folder/'model.json', sealed)
    print('written; the digest of the folder is now', sealed['digest'][:16])

def export_again():
    "The ONNX file of the shipped weights, made by the exporter as it is now"
    from ecg_arrhythmia.prediction.export import to_onnx
    from ecg_arrhythmia.prediction.shipped import check_halves, half_onnx
    folder = default_model()
    model = load_model(folder, 'torch')
    network, size = model.network.model, model.facts['chart']['size']
    data = half_onnx(to_onnx(network, size, fold=False))
    check_halves(network, data, size)
    sealed = seal(model.facts, model.facts['files'] | {'model.onnx': data})
    write_atomic(folder/'model.onnx', lambda p: p.write_bytes(data))
    write_json(folder/'model.json', sealed)
    print('written; the digest of the folder is now', sealed['digest'][:16])

if __name__=='__main__':
    if '--network' in sys.argv: export_again()
    main('--save' in sys.argv)

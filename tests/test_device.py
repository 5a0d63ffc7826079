"""Paths that run on a GPU, without one: the device `meta` takes its place. What mixes it with the processor raises,
as on a GPU, and so does whatever reads a number from it"""
from collections import Counter

import pytest
import torch
from networks import *
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ecg_arrhythmia.charts.encoding import store_spec
from ecg_arrhythmia.charts.packing import pack
from ecg_arrhythmia.data.datasets import catalogue
from ecg_arrhythmia.data.rhythms import label
from ecg_arrhythmia.data.simulated_datasets import simulate_dataset
from ecg_arrhythmia.data.splits import make_split
from ecg_arrhythmia.training import callbacks, loop
from ecg_arrhythmia.training.loaders import Feed, dataloaders
from ecg_arrhythmia.training.recipes import recipe

GPU = torch.device('meta')

class Copies(TorchDispatchMode):
    "Counts copies between the devices, each of which waits for a GPU unless the memory is pinned"
    def __init__(self):
        super().__init__()
        self.made = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        tensors = [t for t in tree_leaves((args, kwargs, out)) if isinstance(t, torch.Tensor)]
        if 'copy' in func._schema.name and len({t.device for t in tensors}) > 1: self.made[str(func)] += 1
        return out

class Made(TorchFunctionMode):
    "Counts tensors that are made of numbers of Python on the device, each of which is a copy too"
    def __init__(self, made:Counter):
        super().__init__()
        self.made = made

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        there = torch.device(kwargs.get('device') or 'cpu')
        if func in (torch.tensor, torch.as_tensor) and there==GPU: self.made[func.__name__] += 1
        return func(*args, **kwargs)

@pytest.fixture(scope='module')
def charts(tmp_path_factory):
    folder = tmp_path_factory.mktemp('device')
    cat = catalogue(simulate_dataset(folder/'data', 22, seed=1, workers=1, progress=False))
    store = pack(cat, folder/'charts.lmdb', store_spec('strips', (32, 64)), workers=1, limits=None, progress=False)
    return store, make_split(label(cat), n_folds=2)

# --- training

def steps_of(charts, tmp_path, monkeypatch, **changes) -> Counter:
    "An epoch of training steps of a run; the copies between the devices"
    store, split = charts
    monkeypatch.setattr(callbacks.RecordEpochs, '_check', lambda self, losses: None) # once in fifty steps
    config = recipe(arch='tiny', epochs=1, batch_size=changes.pop('batch_size'), amp='off', **changes)
    names, valid = split.fold(0)
    dls = dataloaders(store, names, valid, split.labels, config=config, classes=split.classes,
                      feed=Feed(in_memory='device'), device=GPU)
    learn = loop._learner(config, dls, len(store.layouts), tmp_path, progress=False, device=GPU)
    learn.epoch = learn.n_epoch = 1
    record = learn.record_epochs
    seen = []
    def count(self): seen.append(self.loss.device)
    monkeypatch.setattr(callbacks.CheckAttempt, 'after_batch', count)
    with learn.no_logging(), Copies() as copies, Made(copies.made):
        learn('before_fit')
        learn('before_epoch')
        learn._do_epoch_train()
    assert set(seen)=={GPU} and len(seen)==len(dls.train) and len(record.losses)==len(seen)
    return copies.made

@pytest.mark.parametrize('changes', [
    dict(augment=False), dict(augment=True), dict(augment='scan'), dict(views='all'), dict(average=.9), dict(freeze=True),
    dict(label_smoothing=.1, class_balance=.5), dict(optimizer='sgd', scheduler='onecycle', cycle_momentum=True)], ids=str)
def test_no_step_waits_for_the_device(charts, tmp_path, monkeypatch, changes):
    few = steps_of(charts, tmp_path, monkeypatch, batch_size=8, **changes)
    many = steps_of(charts, tmp_path, monkeypatch, batch_size=2, **changes)
    assert few==many, 'copies that grow with the number of batches'

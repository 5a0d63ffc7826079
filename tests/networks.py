"""A network of two convolutions, for tests in which it does not matter which network learns

It trains five times as fast as the smallest of the package. Import all of this module to have it in a file of tests;
a process of its own calls `add_tiny`.
"""
import os
from pathlib import Path

import pytest
from torch import nn

from ecg_arrhythmia.models.architectures import ARCHITECTURES, Architecture

__all__ = ['tiny_network', 'WITH_TESTS']

# The environment of a process that imports this module
WITH_TESTS = os.environ | dict(PYTHONPATH=os.pathsep.join([str(Path(__file__).parent), os.environ.get('PYTHONPATH', '')]))

def _convolution(inputs, outputs):
    "A convolution that halves the image, as networks of the package have it"
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride=2, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())

class Tiny(nn.Sequential):
    "Features, pooling and a head with a hidden layer and dropout"
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(_convolution(3, 8), _convolution(8, 16))
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Dropout(.2), nn.Linear(32, 10))

def add_tiny():
    "Put the network into the table of architectures, as `tiny`"
    ARCHITECTURES['tiny'] = Architecture('tiny', 'Tiny', weights='', stage='features.1', bn_momentum=.1, build=Tiny)

@pytest.fixture(scope='module', autouse=True)
def tiny_network():
    "The name of the network, which is in the table while tests of a file run"
    add_tiny()
    yield 'tiny'
    del ARCHITECTURES['tiny']

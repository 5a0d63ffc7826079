"Dense checks of `ecg_arrhythmia.models.architectures` and `transfer`: golden figures, exact heads, freezing, weights files good and bad"
import pickle, socket, subprocess, sys
from copy import deepcopy
from pathlib import Path
from urllib.error import URLError

import pytest, torch
from torch import nn

from ecg_arrhythmia.models import weights as M
from ecg_arrhythmia.models.architectures import ARCHITECTURES, Architecture, HEAD_INITS, architecture, disk_mb, n_params
from ecg_arrhythmia.models.weights import create_model
from ecg_arrhythmia.core import ECGError
from ecg_arrhythmia.models.transfer import (
    backbone_features, freeze, head_of, is_frozen, set_bn_momentum, splitter, unfreeze)
from ecg_arrhythmia.models.transfer import _backbone_modules

STUDY = {k:a for k,a in ARCHITECTURES.items() if a.study}
SMALL = 'mobilenet_v3_small'
pytestmark = pytest.mark.filterwarnings('ignore::FutureWarning')

@pytest.fixture(scope='module')
def small_file(tmp_path_factory):
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp('weights')/f'{SMALL}-x.pth'
    torch.save(create_model(SMALL, 4).state_dict(), file)
    return file

def same(a, b): return a.keys()==b.keys() and all(torch.equal(v, b[k]) for k,v in a.items())
def snapshot(model): return {k:v.clone() for k,v in model.state_dict().items()}

# --- the table

def test_eight_of_the_study(): assert len(STUDY)==8 and set(ARCHITECTURES)-set(STUDY)=={'vit_b_16'}

@pytest.mark.parametrize('name', STUDY)
def test_golden_figures(name):
    params, _, mb = ARCHITECTURES[name].study
    with torch.device('meta'): m = create_model(name, n_classes=4)
    assert n_params(m)==params and disk_mb(m)==pytest.approx(mb, abs=.11)

def test_disk_mb_is_the_file(small_file):
    assert disk_mb(create_model(SMALL, 4)) == pytest.approx(small_file.stat().st_size / 1e6, abs=0.02)

@pytest.mark.parametrize('name', ARCHITECTURES)
def test_head_and_stage(name):
    "`head(features)` is the model, and the stage gives a map of 1/32 of the image"
    torch.manual_seed(0)
    row, seen = architecture(name), []
    m = create_model(name, n_classes=3).eval()
    if row.stage: m.get_submodule(row.stage).register_forward_hook(lambda _, i, o: seen.append(o.shape))
    x = torch.randn(2, 3, *[64 if row.stage else row.size]*2)
    with torch.no_grad(): assert torch.equal(head_of(m)(backbone_features(m, x)), m(x)) and m(x).shape==(2, 3)
    assert not row.stage or seen[0][-2:]==(2, 2)
    body, head = splitter(m)
    assert sum(map(torch.numel, body+head))==n_params(m) and {id(p) for p in head}=={id(p) for p in head_of(m).parameters()}

@pytest.mark.parametrize(
    'name,hint',
    [
        ('mobilenetv3_small', SMALL),
        ('ResNet-18', 'resnet18'),
        ('EfficientNet-B3', 'efficientnet_b3'),
        ('vit-b-16', 'vit_b_16'),
    ],
)
def test_close_names(name, hint):
    with pytest.raises(ECGError, match=f"Did you mean '{hint}'"):
        create_model(name)

@pytest.mark.parametrize('name', ['', None, 7, 'zzz'])
def test_unknown_names(name):
    with pytest.raises(ECGError, match='Known: mobilenet_v3_small, .*vit_b_16'): architecture(name)

@pytest.mark.parametrize('n', [0, -1, 2.5, True, '4', None])
def test_bad_classes(n):
    with pytest.raises(ECGError, match='n_classes'): create_model(SMALL, n)

def test_bad_rows(monkeypatch):
    monkeypatch.setitem(ARCHITECTURES, 'nonet', Architecture('nonet', 'No net'))
    with pytest.raises(ECGError, match='torchvision builder'): create_model('nonet')
    monkeypatch.setitem(ARCHITECTURES, 'resnet34', Architecture('resnet34', 'ResNet-34'))
    with pytest.raises(ECGError, match="no module 'classifier'.*fc"): create_model('resnet34')
    monkeypatch.setitem(ARCHITECTURES, 'resnet34', Architecture('resnet34', 'ResNet-34', head='layer1'))
    with pytest.raises(ECGError, match='no linear layer'): create_model('resnet34')
    monkeypatch.setitem(ARCHITECTURES, 'resnet34', Architecture('resnet34', 'ResNet-34', 'V9', head='fc'))
    with pytest.raises(ECGError, match="no weights 'V9'; it has IMAGENET1K_V1"):
        create_model('resnet34', weights='imagenet')
    with pytest.raises(ECGError, match='create_model'): head_of(nn.Linear(1, 1))

@pytest.mark.parametrize('how', HEAD_INITS)
def test_head_inits(how):
    torch.manual_seed(1)
    m = create_model(SMALL, 4, head_init=how)
    last = m.classifier[3]
    assert (last.bias==0).all() or how=='default'
    assert (last.weight.std()==0)==(how=='zeros') and torch.isfinite(last.weight).all() and m.classifier[0].weight.std()>0

def test_head_init_is_seeded_and_repeatable():
    torch.manual_seed(5); a = create_model(SMALL, 4, head_init='normal')
    torch.manual_seed(5); assert same(a.state_dict(), create_model(SMALL, 4, head_init='normal').state_dict())

def test_bn_momentum():
    m = set_bn_momentum(create_model(SMALL))
    assert {o.momentum for o in m.modules() if isinstance(o, nn.BatchNorm2d)}=={.1}
    assert {o.momentum for o in set_bn_momentum(m, .3).modules() if isinstance(o, nn.BatchNorm2d)}=={.3}
    with pytest.raises(ECGError): set_bn_momentum(m, 2)

# --- freezing

def steps(m, n=2):
    opt = torch.optim.SGD([p for p in m.parameters() if p.requires_grad], lr=.5)
    for _ in range(n):
        m.train()
        m(torch.randn(2, 3, 64, 64)).square().mean().backward()
        opt.step(); opt.zero_grad()
    return m

@pytest.mark.parametrize('name', [SMALL, 'resnet18', 'efficientnet_b0', 'convnext_tiny'])
def test_frozen_is_frozen(name):
    torch.manual_seed(0)
    m = freeze(create_model(name))
    before, x = snapshot(m), torch.randn(2, 3, 64, 64)
    with torch.no_grad(): feats = backbone_features(m.eval(), x)
    kept = feats.clone(); head_of(m.train())(feats)
    assert torch.equal(kept, feats), 'the head writes into its input'
    steps(m)
    assert m.training and head_of(m).training
    moved = {k for k,v in m.state_dict().items() if not torch.equal(v, before[k])}
    assert moved and moved<={f'{architecture(name).head}.{k}' for k,_ in head_of(m).named_parameters()}
    assert not any(o.training for o in _backbone_modules(m))
    with torch.no_grad(): assert torch.equal(backbone_features(m, x), feats), 'features in training mode differ'
    assert n_params(m, trainable=True)==sum(p.numel() for p in splitter(m)[1])

def test_unfreeze():
    m = create_model(SMALL); cls = type(m)
    assert type(unfreeze(freeze(freeze(m)))) is cls and n_params(m, trainable=True)==n_params(m)
    before = snapshot(m)
    assert not any(torch.equal(v, before[k]) for k,v in steps(m).state_dict().items() if k.endswith('running_mean'))
    with pytest.raises(ECGError, match='training mode'): backbone_features(m.train(), torch.zeros(1, 3, 64, 64))

def test_keeps_mode():
    assert not freeze(create_model(SMALL).eval()).training
    m = freeze(create_model(SMALL).train())
    assert m.training and not m.features.training and m.classifier.training and not m.eval().classifier.training

@pytest.mark.parametrize('copy', [deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_stay_frozen(copy):
    m = freeze(create_model(SMALL)); m2 = copy(m)
    assert is_frozen(m2) and type(m2) is type(m) and m2.train().training and not m2.features.training
    assert same(m.state_dict(), m2.state_dict()) and not is_frozen(unfreeze(m2)) and is_frozen(m)

def test_frozen_in_another_process(tmp_path):
    torch.save(freeze(create_model(SMALL)), tmp_path/'m.pt')
    code = (f"import torch; from ecg_arrhythmia.models.transfer import is_frozen; m=torch.load({str(tmp_path/'m.pt')!r}, "
            f"weights_only=False).train(); assert is_frozen(m) and not m.features.training")
    subprocess.run([sys.executable, '-W', 'ignore', '-c', code], check=True)

def test_learner_cannot_thaw():
    from fastai.data.core import DataLoaders
    from fastai.data.load import DataLoader
    from fastai.learner import Learner
    data = [(torch.randn(3, 64, 64), torch.tensor(i%4)) for i in range(8)]
    dls = DataLoaders(*[DataLoader(data, bs=4) for _ in range(2)], device=torch.device('cpu'))
    m = freeze(create_model(SMALL))
    body = {k:v.clone() for k,v in m.state_dict().items() if not k.startswith('classifier.')}
    learn = Learner(dls, m, loss_func=nn.functional.cross_entropy, splitter=splitter)
    same_body = lambda: all(torch.equal(v, m.state_dict()[k]) for k,v in body.items())
    with learn.no_logging():
        learn.fit(1, 1e-2); learn.freeze(); learn.fit(1, 1e-2)
        assert same_body() and len(learn.opt.param_lists)==2
        learn.unfreeze()
        with pytest.warns(UserWarning, match='stays frozen'): learn.fit(1, 1e-2)
        assert same_body()
        unfreeze(m); learn.fit(1, 1e-2)
    assert not same_body()

# --- weights

def test_roundtrip(small_file, tmp_path):
    from safetensors.torch import save_file
    state = torch.load(small_file, weights_only=True)
    save_file(state, tmp_path/f'{SMALL}.safetensors')
    torch.save({'model': state}, tmp_path/'nested.pth')
    torch.save({f'module.{k}':v for k,v in state.items()}, tmp_path/'parallel.pth')
    for w in (small_file, str(small_file), small_file.parent, tmp_path, tmp_path/'nested.pth', tmp_path/'parallel.pth'):
        m = create_model(SMALL, 4, weights=w)
        assert m.fresh==() and same(m.state_dict(), state) and m.weights_source.endswith(('pth', 'safetensors'))

def test_backbone_only(small_file, tmp_path):
    state = {k:v for k,v in torch.load(small_file, weights_only=True).items() if not k.startswith('classifier')}
    torch.save(state, tmp_path/f'{SMALL}-features.pth')
    m = create_model(SMALL, 11, weights=tmp_path)
    assert m.fresh==tuple(f'classifier.{i}.{k}' for i in (0, 3) for k in ('weight', 'bias'))
    assert all(torch.equal(v, m.state_dict()[k]) for k,v in state.items())
    assert all(p.requires_grad for n,p in freeze(m).named_parameters() if n in m.fresh)

def test_other_number_of_classes(small_file):
    m = create_model(SMALL, 11, weights=small_file, head_init='zeros')
    assert m.fresh==('classifier.3.weight', 'classifier.3.bias') and not m.classifier[3].weight.any()
    assert torch.equal(m.classifier[0].weight, torch.load(small_file, weights_only=True)['classifier.0.weight'])

def test_random_says_so():
    m = create_model(SMALL)
    assert m.weights_source=='random' and m.fresh==tuple(m.state_dict())

def test_other_architecture(small_file, tmp_path):
    for name in ('resnet18', 'mobilenet_v3_large', 'vit_b_16'):
        with pytest.raises(ECGError, match=f'weights of {SMALL}, not of {name}'): create_model(name, weights=small_file)
    with pytest.raises(ECGError, match=f'holds no resnet18.*it has weights of {SMALL}'):
        create_model('resnet18', weights=small_file.parent)
    torch.save({'a': torch.zeros(2), 'features.0.0.weight': torch.zeros(1)}, tmp_path/'x.pth')
    with pytest.raises(
        ECGError, match='missing .*unexpected .such as a.*another shape .such as features.0.0.weight'
    ):
        create_model(SMALL, weights=tmp_path / 'x.pth')

@pytest.mark.parametrize('drop', ['features.0.0.weight', 'features.5.block.1.1.running_var'])
def test_one_tensor_missing(small_file, tmp_path, drop):
    state = torch.load(small_file, weights_only=True); del state[drop]
    torch.save(state, tmp_path/'x.pth')
    with pytest.raises(ECGError, match=f'1 missing .such as {drop}'): create_model(SMALL, weights=tmp_path/'x.pth')

def test_failed_load_says_file(small_file):
    with pytest.raises(ECGError, match=str(small_file)): create_model('resnet18', weights=small_file)

@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
@pytest.mark.parametrize('n', [0, 1, 7, 100, 5000, 2_000_000, -1, -1000])
def test_cut_files(small_file, tmp_path, suffix, n):
    from safetensors.torch import save
    raw = small_file.read_bytes() if suffix=='.pth' else save(torch.load(small_file, weights_only=True))
    f = tmp_path/f'x{suffix}'; f.write_bytes(raw[:n])
    with pytest.raises(ECGError, match='cannot be read as weights'): create_model(SMALL, weights=f)

@pytest.mark.parametrize('content', [b'<!DOCTYPE html><html>404</html>', b'version https://git-lfs.github.com/spec/v1\noid sha256:00\n', bytes(1000), pickle.dumps([1, 2], 2)])
def test_not_weights(tmp_path, content):
    (tmp_path/'x.pth').write_bytes(content)
    with pytest.raises(ECGError): create_model(SMALL, weights=tmp_path/'x.pth')

class Evil:
    def __init__(self, f): self.f = f
    def __reduce__(self): return Path.touch, (Path(self.f),)

def test_runs_no_code(tmp_path):
    torch.save({'w': Evil(tmp_path/'ran')}, tmp_path/'x.pth')
    with pytest.raises(ECGError, match='more than tensors'): create_model(SMALL, weights=tmp_path/'x.pth')
    torch.save(create_model(SMALL), tmp_path/'y.pth')
    with pytest.raises(ECGError, match='state_dict'): create_model(SMALL, weights=tmp_path/'y.pth')
    assert not (tmp_path/'ran').exists()

def test_folder_choices(small_file, tmp_path):
    raw = small_file.read_bytes()
    with pytest.raises(ECGError, match='holds no'): create_model(SMALL, weights=tmp_path)
    (tmp_path/f'{SMALL}er.pth').write_bytes(raw); (tmp_path/f'{SMALL}.txt').write_bytes(b'')
    with pytest.raises(ECGError, match='holds no'): create_model(SMALL, weights=tmp_path)
    for n in 'ab': (tmp_path/f'{SMALL}-{n}.pth').write_bytes(raw)
    with pytest.raises(ECGError, match='holds 2 files.*give the one'): create_model(SMALL, weights=tmp_path)
    usual = tmp_path/'mobilenet_v3_small-047dcff4.pth'; usual.write_bytes(raw)
    assert create_model(SMALL, weights=tmp_path).weights_source==usual.name
    for w in ('IMAGENET', tmp_path/'none', ''):
        with pytest.raises(ECGError, match='None .random start.'): create_model(SMALL, weights=w)

@pytest.mark.parametrize(
    'error',
    [
        URLError('off'),
        TimeoutError('timed out'),
        ConnectionResetError('reset'),
        RuntimeError('invalid hash value'),
    ],
)
def test_offline(monkeypatch, tmp_path, error):
    def fail(*a, **k): raise error
    monkeypatch.setenv('TORCH_HOME', str(tmp_path)); monkeypatch.setattr(torch.hub, 'download_url_to_file', fail)
    with pytest.raises(ECGError, match='Put resnet50-11ad3fa6.pth .*into .*checkpoints.*weights=FOLDER'):
        create_model('resnet50', weights='imagenet')
    assert socket.getdefaulttimeout() is None

def test_silent_server_ends(monkeypatch, tmp_path):
    "A server that accepts and never answers"
    with socket.create_server(('127.0.0.1', 0)) as s:
        monkeypatch.setenv('TORCH_HOME', str(tmp_path))
        monkeypatch.setattr(M, 'weights_url', lambda row: f'http://127.0.0.1:{s.getsockname()[1]}/resnet18-f37072fd.pth')
        with pytest.raises(ECGError, match='timed out'): M._imagenet_file(architecture('resnet18'), timeout=.3)
        assert not list((tmp_path/'hub/checkpoints').iterdir())

def test_wrong_digest_leaves_nothing(monkeypatch, tmp_path):
    (tmp_path/'resnet18-f37072fd.pth').write_bytes(b'not it')
    monkeypatch.setenv('TORCH_HOME', str(tmp_path/'home'))
    monkeypatch.setattr(M, 'weights_url', lambda row: (tmp_path/'resnet18-f37072fd.pth').as_uri())
    with pytest.raises(ECGError, match='invalid hash'): create_model('resnet18', weights='imagenet')
    assert not list((tmp_path/'home/hub/checkpoints').iterdir())

def test_cached_file_needs_no_network(monkeypatch, tmp_path, small_file):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path)); monkeypatch.delattr(torch.hub, 'download_url_to_file')
    cache = tmp_path/'hub/checkpoints'; cache.mkdir(parents=True)
    (cache/'mobilenet_v3_small-047dcff4.pth').write_bytes(small_file.read_bytes())
    m = create_model(SMALL, 7, weights='imagenet')
    assert m.weights_source == 'IMAGENET1K_V1: mobilenet_v3_small-047dcff4.pth' and m.fresh == (
        'classifier.3.weight',
        'classifier.3.bias',
    )

def test_no_imagenet_weights(monkeypatch):
    monkeypatch.setitem(
        ARCHITECTURES,
        'own',
        Architecture('own', 'Own', head='1', build=lambda: nn.Sequential(nn.Flatten(), nn.Linear(3, 2))),
    )
    with pytest.raises(ECGError, match='names no ImageNet weights'): create_model('own', weights='imagenet')
    assert create_model('own', 5)(torch.zeros(2, 3, 1, 1)).shape==(2, 5)

def test_imports_without_fastai():
    code = ("import sys, ecg_arrhythmia.models.transfer; assert not {'fastai', 'sklearn', 'matplotlib', 'safetensors'} "
            "& set(sys.modules), set(sys.modules)")
    subprocess.run([sys.executable, '-c', code], check=True)

def test_a_gpu_computes_published_numbers_in_32_bits(monkeypatch):
    from ecg_arrhythmia.models.compute import device_of
    monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', True)
    device_of('cpu')
    assert torch.backends.cudnn.allow_tf32
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch, 'empty', lambda n, device: torch.zeros(n)) # no GPU is needed
    device_of()
    assert not torch.backends.cudnn.allow_tf32

def test_a_numbered_gpu_is_the_one_that_is_measured(monkeypatch):
    "Clocks that wait for the GPU, its peak of memory and its counter of energy are those of PyTorch's current device"
    from ecg_arrhythmia.models.compute import device_of
    current = []
    monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', True)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'set_device', current.append)
    monkeypatch.setattr(torch, 'empty', lambda n, device: torch.zeros(n)) # no GPU is needed
    device_of('cuda')
    assert not current
    device_of('cuda:1')
    assert current==[torch.device('cuda:1')]

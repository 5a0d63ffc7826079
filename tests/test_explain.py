"Dense checks of `ecg_arrhythmia.explanation.methods`: logits stay bit-equal, models stay untouched, captum agrees where it is right"
import numpy as np, pytest, torch
import torch.nn.functional as F
from torch import nn

from ecg_arrhythmia.explanation.methods import (
    METHODS, activations, gradcam, gradient, guided_backprop, guided_gradcam,
    integrated_gradients, overlay)
from ecg_arrhythmia.explanation.methods import _stage
from ecg_arrhythmia.models.architectures import ARCHITECTURES
from ecg_arrhythmia.models.weights import create_model
from ecg_arrhythmia.charts.raster import canvas
from ecg_arrhythmia.core import ECGError
from ecg_arrhythmia.data.simulation import simulate
from ecg_arrhythmia.models.transfer import freeze

pytestmark = pytest.mark.filterwarnings('ignore')
GRADIENTS = 'gradient', 'guided_backprop', 'integrated_gradients'

class Functional(nn.Module):
    "All activations are calls of functions or methods, some in place"
    def __init__(self, inplace=True):
        super().__init__()
        self.a, self.b, self.c, self.d, self.head = (
            nn.Conv2d(3, 8, 3),
            nn.Conv2d(8, 8, 3),
            nn.Conv2d(8, 8, 3),
            nn.Conv2d(8, 8, 3),
            nn.Linear(8, 3),
        )
        self.inplace = inplace
    def forward(self, x):
        x = F.relu(self.a(x), inplace=self.inplace)
        x = F.silu(F.gelu(self.b(x)))
        x = self.c(x).relu_() if self.inplace else self.c(x).relu()
        x = F.hardswish(self.d(x))
        return self.head(x.mean((2,3)))

class Plain(nn.Module):
    "ReLU modules, not in place: captum is right about it"
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Conv2d(3,8,3), nn.ReLU(), nn.Conv2d(8,8,3), nn.ReLU()), nn.Linear(8,3)
    def forward(self, x): return self.head(self.body(x).mean((2,3)))

@pytest.fixture
def x():
    torch.manual_seed(1)
    return torch.randn(3, 3, 24, 24)

@pytest.fixture
def functional():
    torch.manual_seed(0)
    return Functional().eval()

@pytest.fixture
def plain():
    torch.manual_seed(0)
    return Plain().eval()

def watched(model, run):
    "Every output of the model while `run` runs"
    out = []
    hook = model.register_forward_hook(lambda m, a, y: out.append(y.detach().clone()))
    try: run()
    finally: hook.remove()
    return out

def state(model):
    hooks = lambda m: [
        len(getattr(m, k))
        for k in ('_forward_hooks', '_forward_pre_hooks', '_backward_hooks', '_backward_pre_hooks')
    ]
    return (
        [(n, m.training, hooks(m)) for n, m in model.named_modules()],
        [(n, p.requires_grad, p.grad is None) for n, p in model.named_parameters()],
        {k: v.clone() for k, v in model.state_dict().items()},
    )

def same_state(a, b): return a[:2]==b[:2] and all(torch.equal(v, b[2][k]) for k,v in a[2].items())

# --- the forward pass

@pytest.mark.parametrize('name', ARCHITECTURES)
def test_logits_are_bit_equal(name):
    "For every architecture, guided or not, and frozen"
    torch.manual_seed(0)
    size = 224 if name.startswith('vit') else 64
    model, x = freeze(create_model(name)).eval(), torch.randn(1, 3, size, size)
    alone = model(x.clone().requires_grad_()).detach() # with gradients: without them attention takes another path
    before = state(model)
    for f in (
        (guided_gradcam,)
        if name in ('vit_b_16', 'convnext_base')
        else (guided_backprop, gradcam, guided_gradcam)
    ):  # the last does what both others do
        outs = watched(model, lambda: f(model, x, 1))
        assert len(outs) == 1 and torch.equal(outs[0], alone), f.__name__
    assert same_state(before, state(model))

@pytest.mark.parametrize(
    'name',
    [
        n if n != 'vit_b_16' else pytest.param(n, marks=pytest.mark.slow)
        for n in ARCHITECTURES
        if n != 'convnext_base'
    ],
)
def test_every_architecture_is_guided(name):
    torch.manual_seed(0)
    size = 224 if name.startswith('vit') else 64
    model, x = create_model(name).eval(), torch.randn(1, 3, size, size)
    for n,p in model.named_parameters():
        if n.endswith('layer_scale'): p.data.fill_(1.) # ConvNeXt starts as good as linear
    a, b = guided_backprop(model, x, 1), gradient(model, x, 1)
    assert a.shape==b.shape==(1, size, size) and a.isfinite().all() and a.any() and (a-b).abs().max() > .05*b.abs().max()
    cam = gradcam(model, x, 1)
    assert cam.shape==(1, size, size) and (cam>=0).all() and cam.isfinite().all()

def test_functional_activations(functional, x):
    alone = functional(x).detach()
    assert torch.equal(watched(functional, lambda: guided_backprop(functional, x))[0], alone)
    count = activations(functional, x)
    assert count['guided'].to_dict()==dict(Relu=2, Gelu=1, Silu=1, Hardswish=1)

def test_in_place_or_not_is_the_same(functional, x):
    other = Functional(inplace=False).eval()
    other.load_state_dict(functional.state_dict())
    assert torch.equal(guided_backprop(functional, x, 0), guided_backprop(other, x, 0))

def test_guided_by_hand(x):
    "Against the rule written out for one GELU"
    torch.manual_seed(0)
    a, b = nn.Conv2d(3,4,3), nn.Conv2d(4,1,3)
    model = nn.Sequential(a, nn.GELU(), b, nn.Flatten(), nn.LazyLinear(2)).eval()
    model(x)
    xs = x.clone().requires_grad_()
    z = a(xs)
    y = F.gelu(z).detach().requires_grad_()
    arrive, = torch.autograd.grad(model[2:](y)[:,1].sum(), y)
    zz = z.detach().requires_grad_()
    leave, = torch.autograd.grad(F.gelu(zz), zz, arrive.clamp(min=0))
    want, = torch.autograd.grad(z, xs, leave.clamp(min=0))
    assert torch.allclose(guided_backprop(model, x, 1, by_channel=True), want, atol=1e-7)
    assert (leave<0).any() # so that the second clip is tried

def test_nothing_to_guide_is_said(x):
    linear = nn.Sequential(nn.Flatten(), nn.Linear(3*24*24, 2))
    with pytest.raises(ECGError, match='no activation'): guided_backprop(linear, x)

# --- captum, where it is right

def test_as_captum_on_relu_modules(plain, x):
    from captum.attr import GuidedBackprop, GuidedGradCam, LayerGradCam
    got = guided_backprop(plain, x, 2, by_channel=True)
    assert torch.allclose(got, GuidedBackprop(plain).attribute(x.clone().requires_grad_(), target=2), atol=1e-7)
    cam = LayerGradCam(plain, plain.body).attribute(x.clone().requires_grad_(), target=2, relu_attributions=True)
    cam = F.interpolate(cam, x.shape[2:], mode='bilinear', align_corners=False)[:,0].detach()
    assert torch.allclose(gradcam(plain, x, 2, layer='body'), cam, atol=1e-7)
    both = GuidedGradCam(plain, plain.body).attribute(x.clone().requires_grad_(), target=2, interpolate_mode='bilinear')
    assert torch.allclose(guided_gradcam(plain, x, 2, layer='body', by_channel=True), both, atol=1e-7)

def test_captum_misses_silu(x):
    "The reason for hooks of our own; if captum learns it, this test says so"
    from captum.attr import GuidedBackprop
    torch.manual_seed(0)
    m = nn.Sequential(nn.Conv2d(3,4,3), nn.SiLU(), nn.Conv2d(4,4,3), nn.SiLU(), nn.Flatten(), nn.LazyLinear(2)).eval()
    m(x)
    theirs = GuidedBackprop(m).attribute(x.clone().requires_grad_(), target=1)
    assert torch.equal(theirs.detach(), gradient(m, x, 1, by_channel=True))
    assert not torch.allclose(theirs, guided_backprop(m, x, 1, by_channel=True))

def test_integrated_gradients_add_up(plain, x):
    base = torch.zeros(3, 24, 24)
    with torch.no_grad(): want = plain(x)[:,1] - plain(base[None])[:,1]
    assert torch.allclose(integrated_gradients(plain, x, 1, baseline=base, steps=256).sum((1,2)), want, atol=5e-3)

# --- target, batches, state

@pytest.mark.parametrize('name', METHODS)
def test_batches_targets_and_modes(name, functional, x):
    f, kw = METHODS[name], dict(layer='d') if 'gradcam' in name else {}
    predicted = functional(x).argmax(1)
    whole = f(functional, x, **kw)
    assert whole.shape==(3,24,24) and not whole.requires_grad
    assert torch.allclose(whole, f(functional, x, predicted, **kw), atol=1e-7)
    assert torch.allclose(whole, f(functional, x, predicted.tolist(), batch_size=2, **kw), atol=1e-6)
    one = torch.cat([f(functional, x[i:i+1], 1, **kw) for i in range(3)])
    assert torch.allclose(one, f(functional, x, 1, **kw), atol=1e-6)
    with torch.inference_mode(): assert torch.allclose(one, f(functional, x*1, 1, **kw), atol=1e-6)
    if 'gradcam' != name:
        assert torch.allclose(
            f(functional, x, 1, by_channel=True, **kw).sum(1), f(functional, x, 1, **kw), atol=1e-6
        )

@pytest.mark.parametrize('name', METHODS)
def test_model_is_left_as_it_was(name, x):
    torch.manual_seed(0)
    model = create_model('mobilenet_v3_small')
    model.train()
    model.features[3].eval() # modes of modules may differ
    for p in model.features[5].parameters(): p.requires_grad_(False)
    before, given = state(model), x.clone()
    METHODS[name](model, given, 1)
    assert same_state(before, state(model)) and torch.equal(given, x) and not given.requires_grad

@pytest.mark.parametrize('name', METHODS)
def test_also_after_an_error(name, functional, x):
    class Fails(Functional):
        def forward(self, x):
            super().forward(x)
            raise ValueError('mid-way')
    model = Fails().train()
    before = state(model)
    with pytest.raises(ValueError, match='mid-way'):
        METHODS[name](model, x, 1, **(dict(layer='d') if 'gradcam' in name else {}))
    assert same_state(before, state(model))

@pytest.mark.parametrize(
    'target, what',
    [
        (3, 'classes 0 to 2'),
        (-1, 'classes 0 to 2'),
        ([0, 1], 'each of 3'),
        (1.5, 'class number'),
        (True, 'class number'),
    ],
)
@pytest.mark.parametrize('name', METHODS)
def test_wrong_targets(name, target, what, functional, x):
    with pytest.raises(ECGError, match=what):
        METHODS[name](functional, x, target, **(dict(layer='d') if 'gradcam' in name else {}))

@pytest.mark.parametrize(
    'images',
    [
        torch.zeros(2, 1, 24, 24),
        torch.zeros(0, 3, 24, 24),
        torch.zeros(2, 3, 24, 24, dtype=torch.uint8),
        np.zeros((2, 3, 24, 24)),
        torch.zeros(3, 24, 24),
    ],
)
def test_wrong_images(images, functional):
    with pytest.raises(ECGError, match='images must be'):
        gradient(functional, images)

# --- Grad-CAM

def test_stage_that_is_overwritten_in_place(x):
    "What follows the stage works in place: the map is that of the stage's output, and the logits are as always"
    torch.manual_seed(0)
    body, head = nn.Conv2d(3,8,3), nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8,3))
    a, b = nn.Sequential(body, nn.ReLU(inplace=True), head), nn.Sequential(body, nn.ReLU(), head)
    assert torch.equal(gradcam(a, x, 0, layer='0'), gradcam(b, x, 0, layer='0'))
    assert torch.equal(watched(a, lambda: gradcam(a, x, 0, layer='0'))[0], b(x))

def test_vit_tokens():
    "Behind the last block no patch token matters; in front of its attention they do"
    torch.manual_seed(0)
    m, x = create_model('vit_b_16').eval(), torch.randn(1, 3, 224, 224)
    nn.init.normal_(m.heads[-1].weight)
    assert _stage(m) is m.encoder.layers[-1].ln_1
    assert not gradcam(m, x, 1, layer=m.encoder.ln).any() and gradcam(m, x, 1).any()

def test_layer_of_another_shape(functional, x):
    with pytest.raises(ECGError, match='feature maps'): gradcam(functional, x, 0, layer='head')

class ChannelsLast(nn.Module):
    "The same network, whose stage gives (n, h, w, c), as Swin transformers do"
    def __init__(self, last):
        super().__init__()
        self.conv, self.stage, self.head, self.last = nn.Conv2d(3, 16, 8, 8), nn.Identity(), nn.Linear(16, 3), last
    def forward(self, x):
        x = torch.relu(self.conv(x))
        if not self.last: return self.head(self.stage(x).mean((2, 3)))
        return self.head(self.stage(x.permute(0, 2, 3, 1)).mean((1, 2)))

@pytest.mark.parametrize('size', [(24, 24), (24, 80), (64, 64)])
def test_channels_may_come_last(size):
    first, last = ChannelsLast(False), ChannelsLast(True)
    last.load_state_dict(first.state_dict())
    x = torch.randn(2, 3, *size)
    assert torch.allclose(gradcam(first, x, 1, layer='stage'), gradcam(last, x, 1, layer='stage'), atol=1e-7)
    assert torch.allclose(guided_gradcam(first, x, 1, layer='stage'), guided_gradcam(last, x, 1, layer='stage'), atol=1e-7)

# --- pictures

def test_overlay_lies_where_the_chart_is():
    "A map of one cell is drawn within that cell's edges on the page"
    from ecg_arrhythmia.charts.layouts import cell_boxes
    page, rec = canvas('6x2', (120, 200), 'grey', paper='standard'), simulate('SR', 1)
    fig = overlay(rec, torch.ones(120, 200), page, title='title')
    image, = fig.axes[0].images
    x0, x1, y1, y0 = image.get_extent()
    box, mm = page.boxes().iloc[3], cell_boxes(page.layout, page.paper)[3]
    assert x0 + (x1-x0)*box.x0/200==pytest.approx(mm[0]) and y0 + (y1-y0)*box.y1/120==pytest.approx(mm[3])

def test_overlay_of_channels_and_of_images():
    page, rec = canvas('strip', (80,640), 'leads'), simulate('SR', 1)
    a = torch.rand(3, 80, 640)
    assert len(overlay(rec, a, page).axes[0].images)==3
    assert len(overlay(page(rec.signal[None])[0], a, page).axes[0].images)==6 # three charts, three maps
    assert len(overlay(rec, a, canvas('3x4', (80,640))).axes[0].images)==1 # grey: channels are no leads
    with pytest.raises(ECGError, match='the chart'): overlay(rec, a[:,:40], page)

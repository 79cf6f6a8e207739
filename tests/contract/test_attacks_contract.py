"""What every file in ``attacks`` promises; a new attack is tested here without an edit."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from assay import canonical, catalog
from assay.attacks.geometry import MOVES, project, random_start, size, steepest
from assay.attacks.objective import fooled, log_odds, margin
from assay.attacks.starts import tiled_start
from assay.errors import UnfitInput, UnknownName
from assay.threat import ThreatModel

ATTACKS = catalog.names("attacks")
NORMS = list(MOVES)
PAIRS = [(name, norm) for name in ATTACKS for norm in getattr(catalog.member("attacks", name), "norms", NORMS)]
FIRST = dict(reversed(PAIRS))  # a norm of each attack
OTHER = {name: next((norm for norm in ("l0", "linf") if (name, norm) not in PAIRS), "") for name in ATTACKS}
ONE_FAST = [pytest.param(*pair, marks=[] if FIRST[pair[0]] == pair[1] else [pytest.mark.slow]) for pair in PAIRS]
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def network(shape: tuple[int, ...], classes: int, dtype: torch.dtype = torch.float32) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        features = int(torch.tensor(shape).prod())
        body = nn.Sequential(nn.Flatten(), nn.Linear(features, 24), nn.ReLU(), nn.Linear(24, classes))
    return body.to(dtype).eval()


def case(shape=(1, 6, 6), classes=3, n=20, dtype=torch.float32, bounds=(0.0, 1.0)):
    rng = torch.Generator().manual_seed(1)
    model = network(shape, classes, dtype)
    x = bounds[0] + (bounds[1] - bounds[0]) * torch.rand(n, *shape, generator=rng, dtype=dtype)
    y = torch.randint(classes, (n,), generator=rng)
    return model, x, y


def built(name: str, **given: object):
    """The attack with its defaults, but for its length."""
    short = {"steps": 20, "queries": 150, "targets": 3, "searches": 3, "probes": 10}
    known = {field.name for field in dataclasses.fields(catalog.member("attacks", name))}
    return catalog.build("attacks", name, {key: value for key, value in short.items() if key in known} | given)


def loss_of(attack, logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The loss by which the attack keeps points."""
    return log_odds(logits, y) if getattr(attack, "loss", "") == "ce" else margin(logits, y)


def ball(norm: str, epsilon: float, **more: object) -> ThreatModel:
    """A threat of about the given radius: of ``l0``, ten features for each unit of it, at least one."""
    return ThreatModel(norm=norm, epsilon=max(1.0, round(10 * epsilon)) if norm == "l0" else epsilon, **more)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_family_has_the_attacks_of_the_standard_ladder():
    assert {"fgsm", "pgd", "apgd", "apgd_targeted", "fab", "square"} <= set(ATTACKS)


@pytest.mark.parametrize(("name", "norm"), PAIRS)
@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.float64, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("shape", "classes", "bounds"), [((1, 6, 6), 3, (0.0, 1.0)), ((5,), 2, (-2.0, 3.0))])
def test_keeps_shape_type_ball_and_box_and_is_never_weaker_than_none(name, norm, dtype, shape, classes, bounds):
    model, x, y = case(shape, classes, dtype=dtype, bounds=bounds)
    threat = ball(norm, 0.3, bounds=bounds)
    before = x.clone()
    attack = built(name)
    x_adv = attack(model, x, y, threat, generator=rng())
    assert (x_adv.shape, x_adv.dtype, x_adv.device) == (x.shape, x.dtype, x.device)
    assert torch.equal(x, before)
    assert not x_adv.requires_grad
    assert (size(threat, x_adv - x) <= threat.epsilon + 32 * torch.finfo(dtype).eps).all()
    assert x_adv.min() >= bounds[0]
    assert x_adv.max() <= bounds[1]
    with torch.no_grad():
        before, after = model(x), model(x_adv)
        assert (loss_of(attack, after, y) >= loss_of(attack, before, y)).all()
        assert (fooled(after, y) >= fooled(before, y)).all()
        right = ~fooled(before, y)
        assert right.sum() >= 5
        if getattr(attack, "decision_based", False):
            return  # it sees no loss, and this model calls the whole box one class
        least = 0.2 if name == "transfer" else 0.75  # it finds what two models share
        assert (loss_of(attack, after, y) > loss_of(attack, before, y))[right].sum() >= least * right.sum()


@pytest.mark.parametrize("name", [name for name in ATTACKS if getattr(built(name), "loss", "") == "ce"])
def test_never_trades_loss_for_a_wrong_class(name):
    """With three classes a misclassified point may have the lower loss: p_y is 0.36 at x, and 0.45 where x is wrong."""
    ends = torch.tensor([[0.36, 0.32, 0.32], [0.45, 0.55, 1e-6]]).log()

    class Line(nn.Module):
        def forward(self, x):
            return ends[0] + x * (ends[1] - ends[0])

    x, y = torch.zeros(30, 1), torch.zeros(30, dtype=torch.int64)
    x_adv = built(name)(Line().eval(), x, y, ball(FIRST[name], 1.0), generator=rng())
    assert (log_odds(Line()(x_adv), y) >= log_odds(Line()(x), y)).all()


@pytest.mark.parametrize(("name", "norm"), ONE_FAST)
def test_same_generator_state_gives_the_same_bytes_and_touches_no_other_randomness(name, norm):
    model, x, y = case()
    threat, attack = ball(norm, 0.1), built(name)
    state = torch.random.get_rng_state()
    first, second = (attack(model, x, y, threat, generator=rng(7)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("name", ATTACKS)
def test_computes_no_gradient_of_the_weights_and_changes_nothing_of_the_model(name):
    model, x, y = case()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    built(name)(model, x, y, ball(FIRST[name], 0.1), generator=rng())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not model.training


@pytest.mark.parametrize("name", ATTACKS)
def test_works_on_no_records_on_one_and_where_gradients_are_switched_off(name):
    attack, threat = built(name), ball(FIRST[name], 0.1)
    for n in (0, 1):
        model, x, y = case(n=n)
        with torch.no_grad():
            assert attack(model, x, y, threat, generator=rng()).shape == x.shape


@pytest.mark.parametrize("name", ATTACKS)
def test_a_model_without_slope_or_with_nan_logits_gives_finite_points(name):
    _, x, y = case()
    flat = nn.Sequential(nn.Flatten(), nn.Linear(36, 3)).eval()
    nn.init.zeros_(flat[1].weight)
    broken = nn.Sequential(nn.Flatten(), nn.Linear(36, 3)).eval()
    nn.init.constant_(broken[1].weight, torch.nan)
    for model in (flat, broken):
        x_adv = built(name)(model, x, y, ball(FIRST[name], 0.1), generator=rng())
        assert torch.isfinite(x_adv).all()


@pytest.mark.parametrize("name", ATTACKS)
def test_says_what_is_wrong_with_its_arguments(name):
    attack, threat = built(name), ball(FIRST[name], 0.1)
    model, x, y = case()
    nan = x.clone()
    nan[0, 0, 0, 0] = torch.nan
    wrong = {
        r"x: got values in \[-0.4": (model, x - 0.5, y, threat),
        "x: got values in .nan": (model, nan, y, threat),
        "x: got torch.int64": (model, x.long(), y, threat),
        "y: got torch.float32": (model, x, y.float(), threat),
        "y: got torch.int64 of shape": (model, x, y[:3], threat),
        "y: got classes": (model, x, y + 5, threat),
        "threat: got targeted": (model, x, y, ball(FIRST[name], 0.1, goal="targeted")),
        "model: got training mode": (network((1, 6, 6), 3).train(), x, y, threat),
        "model: got logits of shape": (network((1, 6, 6), 1), x, y * 0, threat),
        "model: got logits without a gradient": (Detached(), x, y, threat),
    }
    if OTHER[name]:
        wrong[f"threat.norm: got {OTHER[name]}"] = (model, x, y, ball(OTHER[name], 0.1))
    if getattr(attack, "gradient_free", False):
        del wrong["model: got logits without a gradient"]
    for message, arguments in wrong.items():
        with pytest.raises(UnfitInput, match=message):
            attack(*arguments, generator=rng())


class Detached(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = network((1, 6, 6), 3)
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x.detach())


@pytest.mark.parametrize("name", ATTACKS)
def test_settings_are_the_whole_configuration(name):
    attack = catalog.build("attacks", name)
    assert dataclasses.is_dataclass(attack)
    assert catalog.build("attacks", name, catalog.settings(attack)) == attack
    assert canonical.dumps(catalog.settings(attack))


def test_an_unknown_or_unfit_setting_is_named():
    with pytest.raises(UnknownName, match="Did you mean 'steps'"):
        catalog.build("attacks", "pgd", {"step": 3})
    for unfit in (
        {"steps": 0},
        {"restarts": 0},
        {"reach": 1.33},
        {"reach": float("nan")},
        {"loss": "dl"},
        {"momentum": 1.0},
    ):
        with pytest.raises(UnfitInput, match=next(iter(unfit))):
            catalog.build("attacks", "pgd", unfit)


@settings(max_examples=60)
@given(
    norm=st.sampled_from(NORMS),
    epsilon=st.floats(1e-3, 1.0),
    width=st.integers(1, 12),
    seed=st.integers(0, 2**31),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_start_and_projection_stay_in_ball_and_box(norm, epsilon, width, seed, dtype):
    """Holds for every radius and shape, up to rounding of x."""
    generator = rng(seed)
    x, threat = torch.rand(5, width, generator=generator, dtype=dtype), ThreatModel(norm=norm, epsilon=epsilon)
    far = x + 3 * torch.randn(5, width, generator=generator, dtype=dtype)
    for point in (random_start(threat, x, generator), tiled_start(threat, x, generator), project(threat, x, far)):
        assert (size(threat, point - x) <= epsilon + 2 * width * torch.finfo(dtype).eps).all()
        assert point.min() >= 0
        assert point.max() <= 1


@settings(max_examples=25)
@given(pair=st.sampled_from(PAIRS), epsilon=st.floats(1e-3, 1.0), seed=st.integers(0, 2**31))
def test_no_attack_ever_leaves_ball_and_box(pair, epsilon, seed):
    name, norm = pair
    model, x, y = case((4,), 2, n=6)
    threat = ball(norm, epsilon)
    x_adv = built(name)(model, x, y, threat, generator=rng(seed))
    assert (size(threat, x_adv - x) <= threat.epsilon + 8 * torch.finfo(x.dtype).eps).all()
    assert x_adv.min() >= 0
    assert x_adv.max() <= 1


@pytest.mark.parametrize(("norm", "dual"), [("linf", 1), ("l2", 2), ("l1", torch.inf)])
def test_the_steepest_step_attains_the_dual_norm_even_of_tiny_gradients(norm, dual):
    gradient = torch.randn(9, 2, 3, generator=rng(), dtype=torch.float32)
    threat = ThreatModel(norm=norm, epsilon=0.1)
    for scale in (1.0, 1e-30):
        step = steepest(threat, gradient * scale)
        torch.testing.assert_close(size(threat, step), torch.ones(9))
        gain = (step * gradient).flatten(1).sum(1)
        torch.testing.assert_close(gain, torch.linalg.vector_norm(gradient.flatten(1), ord=dual, dim=1))
    assert torch.equal(steepest(threat, torch.zeros(2, 3)), torch.zeros(2, 3))


def test_a_tiled_start_is_a_corner_of_the_ball_that_is_constant_over_tiles():
    x = torch.full((300, 2, 28, 28), 0.5, dtype=torch.float64)
    delta = tiled_start(ThreatModel(epsilon=0.1), x, rng()) - x
    torch.testing.assert_close(delta.abs(), torch.full_like(delta, 0.1))
    changes = (delta.diff(dim=3) != 0).any(dim=(1, 2)).sum(1)
    assert set(changes.tolist()) >= {0, 1, 2, 3, 4}
    assert changes.max() == 6  # of seven tiles in a row
    assert delta.mean().abs() < 0.1 * 5 * (300 * 2 * 49 / 7) ** -0.5
    table = tiled_start(ThreatModel(norm="l2", epsilon=0.1), x[..., 0, 0], rng()) - x[..., 0, 0]
    torch.testing.assert_close(table.norm(dim=1), torch.full((300,), 0.1, dtype=torch.float64))


def test_the_random_start_is_uniform_in_the_ball():
    """Reference: in d dimensions the share within radius r is r**d; Kolmogorov-Smirnov at a chance below 1e-6."""
    from scipy.stats import kstest

    x, threat = torch.zeros(4000, 3, dtype=torch.float64), ThreatModel(norm="l2", epsilon=0.5, bounds=(-1.0, 1.0))
    delta = random_start(threat, x, rng(3))
    assert kstest((size(threat, delta) / 0.5).numpy() ** 3, "uniform").pvalue > 1e-6
    assert delta.mean(0).abs().max() < 0.03
    threat = ThreatModel(norm="l1", epsilon=0.5, bounds=(-1.0, 1.0))
    delta = random_start(threat, x, rng(5))
    assert kstest((size(threat, delta) / 0.5).numpy() ** 3, "uniform").pvalue > 1e-6
    assert kstest(1 - (1 - delta[:, 0].abs().numpy() / 0.5) ** 3, "uniform").pvalue > 1e-6
    linf = random_start(ThreatModel(epsilon=0.5, bounds=(-1.0, 1.0)), x, rng(4))
    assert kstest(linf.flatten().numpy() + 0.5, "uniform").pvalue > 1e-6

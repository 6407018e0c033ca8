import jax
import jax.numpy as jnp
import pytest

from r1jax.config.training import MeshSettings
from r1jax.models import ModelConfig, abstract_params, forward, make_model
from r1jax.parallel.jitted import Jitted
from r1jax.parallel.mesh import make_mesh, sharding
from r1jax.planning.estimate import bytes_on_device, estimate_of
from r1jax.planning.flops import jaxpr_flops
from r1jax.planning.slices import compiled, find_slice

CHIP, DEVICES = find_slice("v5e:2x4")


@pytest.fixture(scope="module")
def mesh():
    return make_mesh(MeshSettings(data=1, fsdp=8), DEVICES)


def array(mesh, letters, *shape, dtype=jnp.bfloat16):
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding(mesh, letters))


def test_a_product_of_matrices(mesh):
    x, w = array(mesh, "B_", 4096, 2048), array(mesh, "__", 2048, 8192)
    product = Jitted(jax.jit(lambda x, w: x @ w, out_shardings=sharding(mesh, "B_")), (x, w))
    beside = {"x": x, "number": 3, "key": array(mesh, "", dtype=jax.random.key(0).dtype)}
    with jax.set_mesh(mesh):
        estimate = estimate_of(product, mesh, CHIP, beside=beside)
    own, weights = 4096 * 2048 * 2 // 8, 2048 * 8192 * 2
    assert estimate.fits and not estimate.collectives and estimate.sending == 0
    assert estimate.arguments == own + weights == bytes_on_device((x, w))
    assert own <= estimate.beside < own + 16
    assert estimate.temporaries >= 4096 * 8192 * 2 // 8  # the result
    assert estimate.flops == 2 * 4096 * 2048 * 8192 / 8
    assert 1.0 <= estimate.computing / (estimate.flops / CHIP.flops) < 1.5  # cycles at the matrix units' rate


def test_an_argument_that_is_not_read_is_in_memory_all_the_same(mesh):
    x, unread = array(mesh, "B_", 1024, 1024), array(mesh, "__", 8192, 1024)
    first = Jitted(jax.jit(lambda x, _: x + 1), (x, unread))
    with jax.set_mesh(mesh):
        assert estimate_of(first, mesh, CHIP).arguments == bytes_on_device((x, unread))


@pytest.mark.parametrize(
    ("function", "results"),
    [
        (lambda x: (x * 2, x @ x), 16),
        (lambda x: (x[:, : 2**15] * 2, x[:, 2**14 :] @ x[: 3 * 2**14]), 12),  # less than the chip has, as its argument
    ],
)
def test_what_the_compiler_refuses_does_not_fit(mesh, function, results):
    x = array(mesh, "__", 2**16, 2**16)  # 8 GiB
    with jax.set_mesh(mesh):
        estimate = estimate_of(Jitted(jax.jit(function), (x,)), mesh, CHIP)
    assert not estimate.fits
    assert (estimate.arguments, estimate.temporaries) == (8 * 2**30, results * 2**30)


@pytest.mark.parametrize("topology", ["v5e:1x1", "v5p:1x1x1", "v6e:1x1"])
def test_a_chip_has_the_memory_that_the_compiler_names(topology):
    chip, devices = find_slice(topology)
    mesh = make_mesh(MeshSettings(), devices)
    x = array(mesh, "__", 2**17, 2**17)
    with jax.set_mesh(mesh), pytest.raises(jax.errors.JaxRuntimeError, match="exceeds available HBM") as error:
        compiled(jax.jit(lambda x: (x * 2, x @ x)).trace(x))
    assert f"available HBM ({chip.memory / 2**30:.2f}G)" in str(error.value)


@pytest.mark.slow
def test_no_chip_computes_faster_than_its_flops(mesh):
    """A fused kernel's instruction has lines that begin with a brace: what comes after it in a layer is counted too."""
    sizes = {"hidden_size": 1024, "intermediate_size": 8192, "num_hidden_layers": 3, "head_dim": 128}
    heads = {"num_attention_heads": 8, "num_key_value_heads": 2, "dtype": "bfloat16", "attention": "auto"}
    model = make_model(ModelConfig(**sizes, **heads), 1024)
    tokens = array(mesh, "B_", 32, 1024, dtype=jnp.int32)
    run = Jitted(
        jax.jit(lambda params, tokens: forward(model, params, tokens)[0]), (abstract_params(model, mesh), tokens)
    )
    with jax.set_mesh(mesh):
        estimate = estimate_of(run, mesh, CHIP)
        flops = jaxpr_flops(run.function.trace(*run.arguments).jaxpr)
    assert flops.in_kernels > 0
    assert 1.0 <= estimate.computing / (estimate.flops / CHIP.flops) < 2.0

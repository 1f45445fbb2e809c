"""torch.compile, with backends that run anywhere and, where there is a C++ compiler, its own."""

import shutil

import pytest
import tiny
import torch
from torch import nn

from latentsync.models.compile import compile_nets
from latentsync.nets.unet import UNet


def two_nets() -> list[nn.Module]:
    torch.manual_seed(0)
    return [nn.Sequential(nn.Conv2d(4, 4, 3), nn.GroupNorm(2, 4), nn.SiLU()).eval() for _ in range(2)]


@torch.no_grad()
def through(nets: list[nn.Module], frames: int = 2) -> torch.Tensor:
    pictures = torch.rand(frames, 4, 16, 16, generator=torch.Generator().manual_seed(frames))
    return torch.cat([net(pictures) for net in nets])


@pytest.fixture
def said(caplog):
    """What the log has of compiling; torch's own loggers say a lot."""
    return lambda: [record.message for record in caplog.records if record.name == "latentsync.models.compile"]


@torch.no_grad()
def test_a_short_window_is_compiled_once_for_all_lengths():
    net, graphs = UNet(tiny.small_unet_config()).eval(), []
    net.load_state_dict(tiny.weights(net))

    def noise_of(frames: int) -> torch.Tensor:
        rng = torch.Generator().manual_seed(frames)
        noisy = torch.randn(2, 13, frames, 8, 8, generator=rng)
        return net(noisy, torch.tensor(3.0), torch.randn(2, frames, 5, net.config.cross_attention_dim, generator=rng))

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    plain = {frames: noise_of(frames) for frames in (2, 3, 4)}
    compile_nets([net], backend)
    for frames, count in ((4, 1), (3, 2), (2, 2), (4, 2)):
        assert torch.allclose(noise_of(frames), plain[frames], atol=1e-5)
        assert len(graphs) == count  # one graph is the whole net


def test_what_does_not_compile_runs_as_it_is_and_one_line_says_why(said):
    def backend(*_):
        raise OSError("there is no Triton here\nand much more to say")

    nets = two_nets()
    plain = through(nets)
    compile_nets(nets, backend)
    assert torch.equal(through(nets), plain) and through(nets, 3).isfinite().all()
    assert said() == ["torch.compile does not work here (there is no Triton here): going on without it"]


def test_a_python_that_torch_does_not_compile_for_is_said_too(said, monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("torch.compile is not supported on Python 3.99+")

    monkeypatch.setattr(torch, "compile", refuse)
    nets = two_nets()
    plain = through(nets)
    compile_nets(nets)
    assert torch.equal(through(nets), plain) and len(said()) == 1 and "3.99" in said()[0]


def test_memory_that_runs_out_is_no_fault_of_the_compiler(said):
    def full(*_):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    nets = two_nets()
    compile_nets(nets, lambda graph, _: full)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        through(nets)
    assert said() == []


@pytest.mark.skipif(not shutil.which("g++"), reason="needs a C++ compiler")
@pytest.mark.parametrize("compiler", ["g++", "/nowhere/g++"])
def test_inductor_gives_the_same_with_a_compiler_and_without(compiler, said):
    import torch._inductor.config as config

    torch.compiler.reset()
    nets = two_nets()[:1]
    plain = through(nets)
    compile_nets(nets)
    # Without vectors, whose kinds it would try one by one with the compiler.
    quick = {"cpp.simdlen": 1, "cpp_cache_precompile_headers": False}
    with config.patch({"cpp.cxx": (None, compiler), "force_disable_caches": compiler != "g++", **quick}):
        assert torch.allclose(through(nets), plain, atol=1e-4)
    assert ["compiler" in line for line in said()] == [True] * (compiler != "g++")

"""What an image's Python has, held against what an experiment asks for."""

from __future__ import annotations

import pytest

from runner import pins

THERE = ("numpy==2.4.6", "pandas==3.1.1", "Torch==2.9.0+cu128", "jupyter_client==8.10.0")


@pytest.mark.parametrize(
    ("asked", "left"),
    [
        ([], ()),
        (["numpy", "pandas>=2,<4", "Pandas~=3.1"], ()),
        (["torch", "torch==2.9.0", "torch>=2.8"], ()),
        (["jupyter-client"], ()),
        (["numpy<2", "einops"], ("numpy<2", "einops")),
        (["pandas[excel]"], ("pandas[excel]",)),
        (["numpy @ https://x.example/numpy-2.4.6.whl"], ("numpy @ https://x.example/numpy-2.4.6.whl",)),
        (["git+https://x.example/numpy"], ("git+https://x.example/numpy",)),
        (['einops; python_version < "3.10"', 'einops; sys_platform == "win32"'], ()),
        (['einops; python_version >= "3.11"'], ('einops; python_version >= "3.11"',)),
    ],
)  # fmt: skip
def test_missing(asked: list[str], left: tuple[str, ...]) -> None:
    assert pins.missing(asked, THERE, "3.11.2") == left


def test_what_was_installed_from_a_repository_satisfies_nothing() -> None:
    assert pins.missing(["x"], ["x @ git+https://x.example/x@1f7e682"], "3.11.2") == ("x",)


def test_the_image_keeps_its_own_versions() -> None:
    found = pins.together(["torch==2.9.0", "einops==0.8.1", "numpy==2.4.6"], THERE)
    image = ("jupyter-client==8.10.0", "numpy==2.4.6", "pandas==3.1.1", "torch==2.9.0+cu128")
    assert found.image == image
    assert found.all == ("einops==0.8.1", *image)


def test_held() -> None:
    plan = ("jupyter-client==8.10.0", "numpy==2.4.5", "einops==0.8.1")
    assert pins.held(plan, THERE) == ("jupyter-client==8.10.0",)

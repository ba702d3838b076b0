"""The faults of `mutations` can be put into the package; the command shows what finds them."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.proof.mutations import MUTATIONS, ROOT, Mutation, apply

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("mutation", MUTATIONS, ids=[each.fault for each in MUTATIONS])
def test_every_fault_can_be_put_into_the_package(mutation: Mutation, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "bot" / "conversation", tmp_path / "bot" / "conversation")

    apply(mutation, tmp_path)

    module = f"bot/conversation/{mutation.module}.py"
    mutated = (tmp_path / module).read_text(encoding="utf-8")
    assert mutated != (ROOT / module).read_text(encoding="utf-8")
    compile(mutated, module, "exec")


def test_there_are_twenty_different_faults() -> None:
    assert len({each.fault for each in MUTATIONS}) == 20

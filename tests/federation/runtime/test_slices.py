import asyncio
from collections.abc import Generator

import pytest

from federation.runtime.slices import unhurried


async def test_others_have_a_turn_after_each_slice() -> None:
    story: list[str] = []

    def work() -> Generator[None, None, str]:
        for number in range(3):
            story.append(f"slice {number}")
            yield
        return "done"

    async def beside() -> None:
        for number in range(3):
            story.append(f"beside {number}")
            await asyncio.sleep(0)

    task = asyncio.get_running_loop().create_task(beside())
    assert await unhurried(work()) == "done"
    await task
    assert story == [f"{who} {n}" for n in range(3) for who in ("slice", "beside")]


async def test_what_the_work_raises_comes_out() -> None:
    def work() -> Generator[None, None, None]:
        yield
        raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        await unhurried(work())

"""All buffers together stay within the budget, and nobody waits for those who stand still."""

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from edge_agent.sync.cancel import Cancel, Cancelled
from edge_agent.sync.lending import Lender

MIB = 1 << 20
BUDGET = 4 * MIB


class Borrower:
    """A thread that holds a buffer until it is told to give it back."""

    def __init__(self, lender: Lender, size: int, who: str) -> None:
        self.cancel, self.cancelled = Cancel(), False
        self.has, self._enough = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, args=(lender, size, who))
        self._thread.start()

    def _run(self, lender: Lender, size: int, who: str) -> None:
        try:
            with lender.lent(size, who, self.cancel) as view:
                view[:4] = b"mine"
                self.has.set()
                self._enough.wait(20)
        except Cancelled:
            self.cancelled = True

    def give_back(self) -> None:
        self._enough.set()
        self._thread.join(20)
        assert not self._thread.is_alive()


class Bank:
    def __init__(self, lender: Lender) -> None:
        self.lender, self._all = lender, list[Borrower]()

    def borrow(self, size: int, who: str = "a") -> Borrower:
        waiting = repr(self.lender)
        borrower = Borrower(self.lender, size, who)
        self._all.append(borrower)
        until(lambda: borrower.has.is_set() or repr(self.lender) != waiting)
        return borrower

    def close(self) -> None:
        for borrower in self._all:
            borrower.cancel.set()
            borrower.give_back()


@pytest.fixture
def bank() -> Iterator[Bank]:
    with contextlib.closing(Bank(Lender(BUDGET))) as bank:
        yield bank


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_who_comes_when_all_is_lent_waits_for_its_turn(bank: Bank) -> None:
    first, second = bank.borrow(2 * MIB), bank.borrow(2 * MIB)
    large, small = bank.borrow(3 * MIB), bank.borrow(MIB // 4)
    assert first.has.is_set()
    assert second.has.is_set()
    first.give_back()
    assert not large.has.wait(0.02)
    assert not small.has.is_set()  # it would fit; but then the large one might wait for ever
    second.give_back()
    assert large.has.wait(20)
    assert small.has.wait(20)
    assert bank.lender.peak_bytes <= BUDGET


def test_who_has_nothing_gets_one_although_all_is_lent(bank: Bank) -> None:
    """A rollback does not wait for prefetches that wait for their window."""
    bank.borrow(4 * MIB, "prefetch")
    assert not bank.borrow(MIB, "prefetch").has.wait(0.02)
    assert bank.borrow(MIB, "rollback").has.wait(20)
    assert not bank.borrow(MIB, "rollback").has.wait(0.02)
    assert bank.lender.peak_bytes == 5 * MIB


def test_a_chunk_larger_than_the_budget_comes_alone(bank: Bank) -> None:
    one = bank.borrow(9 * MIB)
    other = bank.borrow(9 * MIB)
    assert one.has.wait(20)
    assert not other.has.wait(0.02)
    one.give_back()
    assert other.has.wait(20)
    other.give_back()
    assert bank.lender.held_bytes == 0  # such a buffer is not kept


def test_who_waits_can_be_cancelled_and_nobody_after_it_waits_longer(bank: Bank) -> None:
    bank.borrow(3 * MIB)
    waits, after = bank.borrow(3 * MIB), bank.borrow(MIB)
    assert not after.has.wait(0.02)
    waits.cancel.set()
    waits.give_back()
    assert waits.cancelled
    assert after.has.wait(20)


def test_what_is_given_back_is_lent_again_and_forgotten_in_the_end(bank: Bank) -> None:
    for _ in range(3):
        with bank.lender.lent(2 * MIB, "a", Cancel()) as view:
            assert len(view) == 2 * MIB
        assert bank.lender.held_bytes == 2 * MIB
    with bank.lender.lent(MIB - 5, "a", Cancel()) as view:
        assert len(view) == 2 * MIB  # at most twice what is needed
    with bank.lender.lent(MIB - MIB // 4, "a", Cancel()) as view:
        assert len(view) == MIB - MIB // 4
    bank.lender.forget()
    assert bank.lender.held_bytes == 0


def test_it_never_holds_more_than_the_budget_whatever_is_asked_for() -> None:
    lender, dice = Lender(BUDGET), random.Random(7)
    sizes = [dice.randrange(1, BUDGET + 1) for _ in range(400)]
    turn, marks = threading.Lock(), list[bytes]()

    def work() -> None:
        while True:
            with turn:
                if not sizes:
                    return
                size = sizes.pop()
            with lender.lent(size, "a", Cancel()) as view:
                mark = threading.get_ident().to_bytes(8, "little")
                view[:1], view[size - 1 : size] = mark[:1], mark[1:2]
                assert lender.held_bytes <= BUDGET
                if view[:1] != mark[:1] or view[size - 1 : size] != mark[1:2]:
                    marks.append(mark)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not sizes
    assert not marks  # nobody else wrote into a buffer that was lent
    assert BUDGET // 2 < lender.peak_bytes <= BUDGET

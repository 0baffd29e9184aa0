"""What is held back is asked for once, sent again at the end, and hides nothing else."""

import os
import signal
import threading

import pytest

from regard.train.interrupts import Interrupts


@pytest.fixture(autouse=True)
def plain():
    """As a program begins, whatever the tests before have set."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_the_first_is_noted_and_the_second_is_not_held_back():
    interrupts = Interrupts()

    def work():
        with interrupts:
            assert not interrupts.asked
            os.kill(os.getpid(), signal.SIGINT)
            assert interrupts.asked
            os.kill(os.getpid(), signal.SIGINT)
            pytest.fail("the second one was held back")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_run_that_is_done_is_done_and_what_went_wrong_is_said():
    with Interrupts() as interrupts:
        os.kill(os.getpid(), signal.SIGTERM)
    assert interrupts.asked and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL

    def fail():
        with Interrupts():
            os.kill(os.getpid(), signal.SIGINT)
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        fail()


def test_signals_that_someone_else_answers_are_left_to_them():
    heard = []
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    with Interrupts() as interrupts:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        assert heard == [signal.SIGTERM] and not interrupts.asked


def test_another_thread_holds_nothing_back():
    def within():
        with Interrupts():
            held.append(signal.getsignal(signal.SIGINT) is not signal.default_int_handler)

    held: list[bool] = []
    thread = threading.Thread(target=within)
    thread.start()
    thread.join()
    assert held == [False]

"""The list of locations: its search, and how it is refreshed."""

import threading

import pytest
from polling import poll

from weather.locations import Index, Locations
from weather.waiting import UnavailableError

INDEX = Index([("Portland", 3), ("New Port", 9), ("port ann", 1), ("Ann", 5), ("Åport", 2)])


@pytest.mark.parametrize(
    ("text", "limit", "names", "total"),
    [
        ("port", 10, ["port ann", "Portland", "New Port", "Åport"], 4),
        ("PORT", 2, ["port ann", "Portland"], 4),
        ("PORT", 3, ["port ann", "Portland", "New Port"], 4),
        ("", 2, ["Ann", "New Port"], 5),
        ("å", 9, ["Åport"], 1),
        ("nowhere", 9, [], 0),
        (".*", 9, [], 0),
    ],
)
def test_search(text, limit, names, total):
    assert INDEX.search(text, limit) == (names, total)


def test_most_records_are_in_alphabetical_order():
    index = Index([(f"Town {number:03}", number) for number in range(300)])
    assert index.most_records == [f"Town {number:03}" for number in range(200, 300)]


def test_read_once_for_many_threads():
    reads = []
    locations = Locations(lambda: reads.append(1) or [("A", 1)], max_age=300)
    threads = [threading.Thread(target=locations.index) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(reads) == 1


def test_the_old_list_is_served_while_a_new_one_is_read():
    may_answer = threading.Event()
    answers = [[("Old", 1)], [("New", 1)]]

    def read():
        if len(answers) == 1:
            may_answer.wait(10)
        return answers.pop(0)

    locations = Locations(read, max_age=0)
    assert locations.index().search("", 9)[0] == ["Old"]
    assert locations.index().search("", 9)[0] == ["Old"]
    may_answer.set()
    poll(lambda: locations._index.search("", 9)[0] == ["New"])


def test_the_old_list_is_served_while_the_database_is_down():
    answers = [[("Old", 1)]]

    def read():
        if not answers:
            raise UnavailableError("down")
        return answers.pop()

    locations = Locations(read, max_age=0)
    locations.index()
    locations.index()
    poll(lambda: locations._refresh_at > 0 and not locations._reading.locked())
    assert locations.index().search("", 9)[0] == ["Old"]


def test_without_any_list_it_is_unavailable():
    def read():
        raise UnavailableError("down")

    with pytest.raises(UnavailableError):
        Locations(read, max_age=300).index()

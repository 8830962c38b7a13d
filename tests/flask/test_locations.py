"""The list of locations: its search, and how it is refreshed."""

import threading
from time import monotonic

import pytest
from polling import poll

from weather.locations import Index, Locations
from weather.waiting import UnavailableError

ROWS = [("Portland", 3), ("New Port", 9), ("port ann", 1), ("Ann", 5), ("Åport", 2)]
INDEX = Index(ROWS, expires=0)


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
    index = Index([(f"Town {number:03}", number) for number in range(300)], expires=0)
    assert index.most_records == [f"Town {number:03}" for number in range(200, 300)]


def test_read_once_for_many_threads():
    reads = []
    locations = Locations(lambda _: reads.append(1) or [("A", 1)], max_age=300)
    threads = [threading.Thread(target=locations.index, args=[monotonic() + 10]) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(reads) == 1


def names(locations):
    return locations.index(monotonic() + 10).search("", 9)[0]


def test_near_its_end_the_old_list_is_served_while_a_new_one_is_read(monkeypatch):
    monkeypatch.setattr("weather.locations.REFRESH_SHARE", 1)  # it is near its end at once
    may_answer = threading.Event()
    answers = [[("Old", 1)], [("New", 1)]]

    def read(_deadline):
        if len(answers) == 1:
            may_answer.wait(10)
        return answers.pop(0)

    locations = Locations(read, max_age=300)
    assert [names(locations) for _ in range(3)] == [["Old"]] * 3
    may_answer.set()
    monkeypatch.setattr("weather.locations.REFRESH_SHARE", 0)
    poll(lambda: names(locations) == ["New"])


def test_a_list_past_its_end_is_not_served():
    answers = [[("Old", 1)], [("New", 1)]]
    locations = Locations(lambda _: answers.pop(0), max_age=0)
    assert names(locations) == ["Old"]
    assert names(locations) == ["New"]


def test_the_old_list_is_served_while_the_database_is_down():
    reads = []

    def read(_deadline):
        reads.append(1)
        if len(reads) > 1:
            raise UnavailableError("down")
        return [("Old", 1)]

    locations = Locations(read, max_age=0)
    assert [names(locations) for _ in range(5)] == [["Old"]] * 5
    assert len(reads) == 2  # after a failure nobody tries for a while


def test_an_empty_list_is_read_again():
    answers = [[], [("New", 1)]]
    locations = Locations(lambda _: answers.pop(0), max_age=300)
    assert names(locations) == []
    assert names(locations) == ["New"]


def test_without_any_list_it_is_unavailable():
    def read(_deadline):
        raise UnavailableError("down")

    with pytest.raises(UnavailableError):
        Locations(read, max_age=300).index(monotonic() + 10)

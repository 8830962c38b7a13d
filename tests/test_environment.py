"""Settings from the environment: one module in five build contexts, one line for each bad value."""

from pathlib import Path

import pytest
from environment import (
    LONGEST_SHOWN,
    ConfigError,
    PostgresSettings,
    read_boolean,
    read_choice,
    read_integer,
    read_password,
    read_secret,
    read_text,
    read_total_records,
)

ROOT = Path(__file__).parents[1]
FOLDERS = [
    *("flask/weather", "data-populator/populator", "data-query/gate", "local"),
    "simulate/page",
]
MINIMUM = {"POSTGRES_PASSWORD": "secret-word"}


def test_the_module_is_the_same_in_every_build_context():
    found = {
        path.parent.relative_to(ROOT).as_posix() for path in ROOT.glob("[!.]*/**/environment.py")
    }
    assert found == set(FOLDERS)
    assert len({(ROOT / folder / "environment.py").read_bytes() for folder in FOLDERS}) == 1


def test_defaults():
    settings = PostgresSettings.from_env(MINIMUM)
    assert (settings.address, settings.database, settings.user) == (
        "localhost:5432",
        *["weather"] * 2,
    )
    assert settings.sslmode == "prefer"
    assert read_total_records({}) == 10_000_000


@pytest.mark.parametrize("word", ["false", "OFF", "No", "0"])
def test_words_for_false(word):
    assert read_boolean({"CACHE": word}, "CACHE", True) is False


@pytest.mark.parametrize("word", ["true", "ON", "Yes", "1"])
def test_words_for_true(word):
    assert read_boolean({"CACHE": word}, "CACHE", False) is True


def test_an_empty_variable_counts_as_unset():
    environ = {"A": ""}
    assert read_text(environ, "A", "default") == "default"
    assert read_integer(environ, "A", 5, 1, 9) == 5
    assert read_boolean(environ, "A", True) is True
    assert read_choice(environ, "A", "x", ["x", "y"]) == "x"


def number(value):
    return read_integer({"A": value}, "A", 5, 1, 9)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        *((value, repr(value)) for value in ("abc", "0", "10", "-1", "1.5", "1_0", " 5", "٣", "²")),
        ("9" * 5000, f"'{'9' * LONGEST_SHOWN}'..."),
        ("1\n2", r"'1\n2'"),
    ],
)
def test_what_is_no_number_in_the_range(value, shown):
    with pytest.raises(ConfigError) as error:
        number(value)
    assert str(error.value) == f"A is {shown}: expected a whole number from 1 to 9"


def test_the_ends_of_the_range_are_in_it():
    assert [number("1"), number("9"), number("007")] == [1, 9, 7]


@pytest.mark.parametrize(
    ("environ", "line"),
    [
        (
            {"POSTGRES_PORT": "65536"},
            "POSTGRES_PORT is '65536': expected a whole number from 1 to 65535",
        ),
        (
            {"POSTGRES_SSLMODE": "yes"},
            "POSTGRES_SSLMODE is 'yes': expected one of"
            " disable, allow, prefer, require, verify-ca, verify-full",
        ),
        (
            {"POSTGRES_SSLROOTCERT": "/nowhere.pem"},
            "POSTGRES_SSLROOTCERT is '/nowhere.pem': expected a readable file"
            " (No such file or directory)",
        ),
        (
            {"POSTGRES_SSLMODE": "verify-full"},
            "POSTGRES_SSLROOTCERT is '': expected a file of certificates,"
            " as POSTGRES_SSLMODE is verify-full",
        ),
        (
            {"POSTGRES_PASSWORD": ""},
            "POSTGRES_PASSWORD and POSTGRES_PASSWORD_FILE: neither is set,"
            " expected exactly one of them",
        ),
        (
            {"POSTGRES_PASSWORD_FILE": "/secret"},
            "POSTGRES_PASSWORD and POSTGRES_PASSWORD_FILE: both are set,"
            " expected exactly one of them",
        ),
    ],
)
def test_a_bad_value_is_one_line(environ, line):
    with pytest.raises(ConfigError) as error:
        PostgresSettings.from_env(MINIMUM | environ)
    assert str(error.value) == line


@pytest.mark.parametrize("value", ["0", "2147483648", "10M"])
def test_the_number_of_rows_is_a_postgresql_integer(value):
    with pytest.raises(ConfigError) as error:
        read_total_records({"TOTAL_RECORDS": value})
    assert str(error.value) == (
        f"TOTAL_RECORDS is '{value}': expected a whole number from 1 to 2147483647"
    )


def test_a_bad_switch_is_one_line():
    with pytest.raises(ConfigError) as error:
        read_boolean({"CACHE": "maybe"}, "CACHE", True)
    assert str(error.value) == "CACHE is 'maybe': expected true/false, on/off, yes/no or 1/0"


@pytest.mark.parametrize(
    ("content", "password"),
    [(b"from-file\n", "from-file"), (b"two words \n\n", "two words "), ("grün".encode(), "grün")],
)
def test_the_password_may_come_from_a_file(tmp_path, content, password):
    path = tmp_path / "password"
    path.write_bytes(content)
    assert read_password({"POSTGRES_PASSWORD_FILE": str(path)}, "POSTGRES_PASSWORD") == password


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "a password, it is empty"),
        (b"\n", "a password, it is empty"),
        (b"\xff\n", "a readable file (not UTF-8)"),
        (None, "a readable file (No such file or directory)"),
    ],
)
def test_an_unusable_password_file_is_one_line(tmp_path, content, expected):
    path = tmp_path / "password"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as error:
        read_password({"POSTGRES_PASSWORD_FILE": str(path)}, "POSTGRES_PASSWORD")
    assert str(error.value).startswith("POSTGRES_PASSWORD_FILE is '/")
    assert str(error.value).endswith(f": expected {expected}")
    assert "\n" not in str(error.value)


def test_a_password_file_that_may_not_be_read(tmp_path):
    with pytest.raises(ConfigError, match=r"expected a readable file \(Is a directory\)$"):
        read_password({"POSTGRES_PASSWORD_FILE": str(tmp_path)}, "POSTGRES_PASSWORD")


def test_the_password_is_not_printed():
    assert "secret-word" not in repr(PostgresSettings.from_env(MINIMUM))


def test_a_secret_may_be_missing_but_not_be_given_twice(tmp_path):
    assert read_secret({"REDIS_PASSWORD": "", "REDIS_PASSWORD_FILE": ""}, "REDIS_PASSWORD") is None
    with pytest.raises(ConfigError) as error:
        read_secret({"REDIS_PASSWORD": "a", "REDIS_PASSWORD_FILE": "b"}, "REDIS_PASSWORD")
    assert str(error.value) == (
        "REDIS_PASSWORD and REDIS_PASSWORD_FILE: both are set, expected exactly one of them"
    )

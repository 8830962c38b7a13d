"""Every variable: its default, its allowed values, and one clear line for a bad one."""

import pytest

from weather.environment import ConfigError
from weather.settings import Settings

MINIMUM = {"POSTGRES_PASSWORD": "secret-word"}


def test_defaults():
    settings = Settings.from_env(MINIMUM)
    assert settings.postgres.address == "localhost:5432"
    assert (settings.postgres.database, settings.postgres.user) == ("weather", "weather")
    assert (settings.redis_host, settings.redis_port, settings.redis_ssl) == (
        "localhost",
        6379,
        False,
    )
    assert settings.redis_password is None
    assert (settings.use_pooling, settings.pool_minconn, settings.pool_maxconn) == (True, 5, 15)
    assert (settings.cache, settings.cache_expiry) == (True, 300)
    assert (settings.web_concurrency, settings.flask_replicas) == (1, 3)
    assert settings.log_format == "text"
    assert settings.x_served_by is True


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"POOL_MAXCONN": "abc"}, "POOL_MAXCONN is 'abc': expected a whole number from 1 to 1000"),
        ({"POOL_MAXCONN": "0"}, "POOL_MAXCONN is '0'"),
        ({"REDIS_PORT": "-1"}, "REDIS_PORT is '-1'"),
        ({"CACHE_EXPIRY": "1.5"}, "CACHE_EXPIRY is '1.5'"),
        ({"FLASK_REPLICAS": "0"}, "FLASK_REPLICAS is '0'"),
        ({"CACHE": "maybe"}, "CACHE is 'maybe': expected true/false"),
        ({"X_SERVED_BY": "maybe"}, "X_SERVED_BY is 'maybe': expected true/false"),
        ({"LOG_FORMAT": "xml"}, "LOG_FORMAT is 'xml': expected one of text, json"),
        ({"HOSTNAME": "a\r\nSet-Cookie: b"}, "HOSTNAME is"),
        ({"POOL_MINCONN": "16"}, "POOL_MINCONN is '16': expected at most POOL_MAXCONN"),
        ({"WEB_CONCURRENCY": "9"}, "WEB_CONCURRENCY is '9': expected a whole number from 1 to 8"),
        (
            {"WEB_CONCURRENCY": "8", "POOL_MAXCONN": "7"},
            "POOL_MAXCONN is '7': expected at least one connection",
        ),
    ],
)
def test_a_bad_value_is_one_line(variables, words):
    with pytest.raises(ConfigError) as error:
        Settings.from_env(MINIMUM | variables)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_redis_password_may_come_from_a_file_and_is_never_shown(tmp_path):
    path = tmp_path / "redis_password"
    path.write_text("from-file\n")
    settings = Settings.from_env(MINIMUM | {"REDIS_PASSWORD_FILE": str(path)})
    assert settings.redis_password == "from-file"
    assert "from-file" not in repr(settings)


def test_without_pooling_the_pool_sizes_do_not_matter():
    variables = {
        "USE_POOLING": "false",
        "POOL_MAXCONN": "7",
        "POOL_MINCONN": "20",
        "WEB_CONCURRENCY": "8",
    }
    assert Settings.from_env(MINIMUM | variables).pool_minconn == 20

"""The standalone queue is a real Redis that nobody else can reach."""

import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from console.redis import answers, queue_url, redis_part, socket_path
from tests.patience import patient
from tests.peers.loopback import until


@contextmanager
def a_redis(folder: Path) -> Iterator[Path]:
    with socket_path(folder) as path:
        part = redis_part(folder, path)
        process = subprocess.Popen(part.command, stdin=subprocess.DEVNULL)
        try:
            until(lambda: answers(path), within_s=10, what="Redis answers")
            yield path
        finally:
            process.terminate()
            process.wait(patient(10))


@pytest.mark.parametrize("name", ["data", 'with spaces and "quotes"', "x" * 120])
def test_only_this_user_reaches_it_and_only_by_its_socket(tmp_path: Path, name: str) -> None:
    with a_redis(tmp_path / name / "redis") as path:
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        with redis.Redis(unix_socket_path=str(path)) as client:
            setting = {key: client.config_get(key)[key] for key in ("port", "appendonly", "maxmemory-policy")}
    assert setting == {"port": "0", "appendonly": "yes", "maxmemory-policy": "noeviction"}


def test_what_was_queued_is_there_after_a_restart(tmp_path: Path) -> None:
    with a_redis(tmp_path) as path, redis.Redis(unix_socket_path=str(path)) as client:
        client.lpush("routine", "hint")
    with a_redis(tmp_path) as path, redis.Redis(unix_socket_path=str(path)) as client:
        assert client.lrange("routine", 0, -1) == [b"hint"]


@pytest.mark.parametrize("name", ["data", "with spaces"])
def test_celery_understands_its_address(tmp_path: Path, name: str) -> None:
    from kombu import Connection

    with a_redis(tmp_path / name) as path, Connection(queue_url(path)) as connection:
        with connection.SimpleQueue("routine") as queue:
            queue.put({"job_id": 1})
            assert queue.get(timeout=patient(5)).payload == {"job_id": 1}

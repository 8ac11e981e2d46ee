"""The queue's settings are promises: each one here has cost somebody a study."""

import json

import pytest
from pydantic import ValidationError

from tests.peers.redis_server import redis
from worker.app import JOB_TASK, application
from worker.settings import DeliverySettings, QueueSettings, WorkerSettings


def test_a_message_holds_an_id_and_nothing_else(tmp_path):
    with redis(tmp_path / "redis") as server:
        application(QueueSettings(url=server.url)).send_task(
            JOB_TASK, kwargs={"job_id": 12}, queue="stat", retry=False, ignore_result=True
        )
        (key,) = [name for name in server.client.scan_iter() if server.client.type(name) == b"list"]
        message = json.loads(server.client.lindex(key, 0))

    assert key == b"wetread:stat"
    assert message["content-type"] == "application/json"
    import base64

    args, kwargs, _ = json.loads(base64.b64decode(message["body"]))
    assert (args, kwargs) == ([], {"job_id": 12})


def test_nothing_but_json_is_taken():
    assert application(QueueSettings(url="redis://127.0.0.1:1/0")).conf.accept_content == ["json"]


@pytest.mark.parametrize(
    "url", ["redis://h:6379/0", "rediss://u:p@h/1", "redis+socket:///run/wetread/redis.sock"]
)
def test_the_queue_is_a_redis(url):
    assert QueueSettings(url=url).url == url


@pytest.mark.parametrize("url", ["amqp://h", "memory://", "", "redis://"])
def test_no_other_queue_is_taken(url):
    with pytest.raises(ValidationError):
        QueueSettings(url=url)


def test_settings_in_which_a_lease_could_not_be_kept_are_refused():
    with pytest.raises(ValidationError, match="heartbeat_s"):
        WorkerSettings(lease_s=60, silence_s=45, heartbeat_s=50)
    with pytest.raises(ValidationError, match="heartbeat_s"):
        DeliverySettings(lease_s=10, heartbeat_s=15)


def test_the_queues_password_is_not_shown():
    assert "hunter2" not in repr(QueueSettings(url="redis://u:hunter2@h/0"))

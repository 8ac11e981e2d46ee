"""
Celery as a wake-up call, and nothing more.

A message says "look at job 12". Losing, repeating or reordering one changes nothing, because only the ledger
moves a job. Every setting below follows from that; most of Celery's own safety nets would work against it.
"""

from celery import Celery
from kombu.entity import Queue

from ledger.job import Priority
from worker.settings import QueueSettings

JOB_TASK = "wetread.job"  #: takes `job_id`
DELIVERY_TASK = "wetread.delivery"  #: takes `delivery_id`
NOTIFICATION_TASK = "wetread.notification"  #: takes `notification_id`

DELIVER = "deliver"
#: In this order: urgent jobs first, always. Within a queue, the order of publishing is the ledger's.
JOB_QUEUES = (Priority.STAT.value, Priority.ROUTINE.value)


def application(queue: QueueSettings) -> Celery:
    """A Celery application on the broker of `queue`. Opens no connection yet."""
    app = Celery("wetread", set_as_current=False)
    app.conf.update(
        broker_url=queue.url,
        broker_transport_options={
            "global_keyprefix": queue.key_prefix,
            # Stat before routine: with the default, round robin, the queues would take turns.
            "queue_order_strategy": "priority",
            "priority_steps": [
                0
            ],  # One list per queue. Celery's priorities are not used: they are approximate.
            # Covers only the moment from fetching a message to starting its task: tasks acknowledge early.
            "visibility_timeout": 300,
            # A fetched message whose worker died then comes back after seconds, not after the 100 s of the
            # defaults.
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 1,
            "unacked_restore_limit": 1000,
            # Without these a connection that died silently is noticed never (publishing) or after a minute.
            "socket_timeout": 10,
            "socket_connect_timeout": 3,
            "socket_keepalive": True,
            "health_check_interval": 10,
        },
        broker_connection_retry_on_startup=True,  # The order in which services start does not matter.
        broker_connection_max_retries=None,  # The default gives up after 100 attempts.
        broker_channel_error_retry=True,  # A Redis that became a replica answers with errors for a while.
        # JSON only: whoever can write to Redis can make a pickle run code here.
        task_serializer="json",
        accept_content=["json"],
        # The ledger has the result; a second copy could disagree.
        result_backend=None,
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        # Early: a late acknowledgement repeats a task that outlives visibility_timeout, even while it runs,
        # and repeats one that kills its worker without end. The ledger's lease covers the dead worker
        # instead.
        task_acks_late=False,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,  # A hint in one worker's hands is one that a free worker cannot see.
        worker_cancel_long_running_tasks_on_connection_loss=False,  # Redis may blink; a study goes on.
        task_publish_retry=False,  # The outbox owns retries.
        task_create_missing_queues=False,  # A misspelt queue is a mistake, not a new queue.
        task_queues=[_queue(name) for name in (*JOB_QUEUES, DELIVER)],
        task_default_queue=Priority.ROUTINE.value,
        # The console reads the ledger, not the gossip of workers; nobody steers them through Redis.
        worker_send_task_events=False,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,  # Logging is the journal's.
        worker_redirect_stdouts=False,
        enable_utc=True,
    )
    return app


def _queue(name: str) -> Queue:
    return Queue(name, routing_key=name)  # type: ignore[no-untyped-call]

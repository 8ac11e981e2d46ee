"""A ledger of many studies, for benchmarks: received, analysed, sent and proved, with their history as the
product writes it. One is written by the store itself; the others are copies that the database makes.
"""

from collections.abc import Mapping

from sqlalchemy import func, select, text

from ledger.schema import delivery, event, instance, job, result, series, study, usage
from ledger.store.ledger import Ledger
from ledger.usage import Usage
from tests.ledger.site import claim, close, finish, new_job, queued_job, receive, send

_UID, _AT_ONCE = "1.2.826.0.1", 2000
_TABLES = (study, series, instance, job, result, delivery, event, usage)
_UNIQUE = ("uid", "sop_instance", "key", "path", "digest")


def one_study(ledger: Ledger, uid: str, instances: int) -> None:
    """A study from its first instance to the archive's word for its results."""
    study_id = receive(ledger, uid, range(1, instances + 1))
    (job_id,) = close(ledger, study_id, [new_job(ledger, study_id)])
    for one in finish(ledger, claim(ledger, job_id)):
        send(ledger, one)
        ledger.confirm_delivery(one, "found there")
    ledger.record_usage(
        job_id, "lung_ct", Usage(model="lung_ct@1.0.0", device="cpu", voxels=9, host_peak=1 << 29)
    )


def fill(ledger: Ledger, studies: int, instances: int) -> None:
    """Copies of one study, with numbers and UIDs of their own, made by the database itself."""
    one_study(ledger, _UID, instances)
    with ledger.read() as tx:
        steps: dict[str, int] = {
            table.name: tx.connection.execute(select(func.max(table.c.id))).scalar_one() for table in _TABLES
        }
    # In portions: a statement that takes too long is given up, here as anywhere.
    for begin in range(1, studies, _AT_ONCE):
        end = min(begin + _AT_ONCE, studies) - 1
        with ledger.write() as tx:
            for table in _TABLES:
                values = ", ".join(_copied(column.name, table.name, steps) for column in table.c)
                names = ", ".join(f'"{column.name}"' for column in table.c)
                tx.connection.execute(
                    text(
                        f"INSERT INTO {table.name} ({names}) WITH RECURSIVE times(n) AS "
                        f"(SELECT {begin} UNION ALL SELECT n + 1 FROM times WHERE n < {end}) "
                        f"SELECT {values} FROM {table.name}, times WHERE id <= {steps[table.name]}"
                    )
                )
    with ledger.write() as tx:
        for table in _TABLES if tx.connection.dialect.name == "postgresql" else ():
            counter = f"pg_get_serial_sequence('{table.name}', 'id')"
            tx.connection.execute(text(f"SELECT setval({counter}, (SELECT max(id) FROM {table.name}))"))
        tx.connection.execute(text("ANALYZE"))


def _copied(column: str, table: str, steps: Mapping[str, int]) -> str:
    """What a copy has in `column`: numbers of other rows point to the copies of those rows."""
    if column == "thing_id":
        things = " ".join(f"WHEN '{name}' THEN thing_id + n * {step}" for name, step in steps.items())
        return f"CASE thing {things} END"
    target = {"id": table, "study_id": "study", "series_id": "series", "job_id": "job", "result_id": "result"}
    if column in target:
        return f"{column} + n * {steps[target[column]]}"
    if column in _UNIQUE:
        return f"{column} || '.' || n"
    return f'"{column}"'


def name_apart(ledger: Ledger) -> None:
    """Give every study an accession number, a patient, a date, a sender and an hour of its own: one every
    30 seconds.
    """
    number, day = "CAST(id AS TEXT)", "CAST(1 + id % 28 AS TEXT)"
    last = "(SELECT max(id) FROM study)"
    values = {
        "accession_number": f"'ACC' || {number}",
        "patient_name": f"'Patient^' || {number}",
        "patient_id": f"'MRN' || {number}",
        "study_date": f"'202611' || substr('0' || {day}, length({day}), 2)",
        "calling": "'SCANNER' || CAST(id % 8 AS TEXT)",
        "description": "'CT thorax routine'",
        "last_arrival_at": f"last_arrival_at - ({last} - id) * 30.0",
    }
    set_to = ", ".join(f"{column} = {value}" for column, value in values.items())
    with ledger.write() as tx:
        tx.connection.execute(text(f"UPDATE study SET {set_to}"))
        tx.connection.execute(text("UPDATE series SET modality = 'MR' WHERE id % 3 = 0"))
        tx.connection.execute(text(f"UPDATE event SET at = at - ({last} - study_id) * 30.0"))
        # What was known of the columns before would lead the database the wrong way.
        tx.connection.execute(text("ANALYZE"))


def backlog(ledger: Ledger, *, waiting: int = 200, parked: int = 5, open_now: int = 20) -> None:
    """Work that is not done yet."""
    for number in range(waiting + parked):
        job_id = queued_job(ledger, f"1.2.826.0.7.{number + 1}")
        if number < parked:
            ledger.park_job(claim(ledger, job_id), "slice spacing 7.5 mm, model takes at most 3")
    for number in range(open_now):
        receive(ledger, f"1.2.826.0.8.{number + 1}")

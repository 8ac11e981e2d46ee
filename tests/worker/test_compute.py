"""What a child says about files is looked at before it is believed."""

import pytest

from ledger.identifiers import StudyId, Uid
from ledger.job import Claim, Priority
from worker.compute import ForeignFile, own_file
from worker.workplace import Workplace


def claim(job_id: int, epoch: int) -> Claim:
    return Claim(
        job_id=job_id, epoch=epoch, owner="w", lease_s=60.0, attempt=1, study_id=StudyId(1), study=Uid("1.2"),
        series=Uid("1.3"), rule="r", model="m", settings={}, priority=Priority.STAT, destinations=(),
        inputs=(),
    )  # fmt: skip


def test_a_result_is_a_plain_file_in_the_runs_own_folder(tmp_path):
    folder = tmp_path / "1-1"
    folder.mkdir()
    (folder / "report.dcm").write_bytes(b"report")
    (tmp_path / "secret").write_bytes(b"secret")
    (folder / "link.dcm").symlink_to(tmp_path / "secret")
    (folder / "deeper").mkdir()

    assert own_file(folder / "report.dcm", folder) == folder / "report.dcm"
    for foreign in ["link.dcm", "../secret", "deeper", "absent.dcm", "/etc/passwd"]:
        with pytest.raises(ForeignFile):
            own_file(folder / foreign, folder)


def test_what_the_dead_left_is_cleared_and_what_the_living_use_is_not(tmp_path):
    alive = Workplace(tmp_path / "work", "alive")
    used = alive.folder(claim(1, 1))
    (tmp_path / "work" / "dead" / "2-1").mkdir(parents=True)

    newcomer = Workplace(tmp_path / "work", "newcomer")
    assert sorted(path.name for path in (tmp_path / "work").iterdir()) == ["alive", "newcomer"]
    assert used.is_dir()

    # The next claim of a job clears its earlier ones, wherever they are.
    newcomer.folder(claim(1, 2))
    assert not used.exists()
    newcomer.close()
    alive.close()
    assert not any((tmp_path / "work").iterdir())

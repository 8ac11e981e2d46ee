"""What each calling AE title has here: what its quotas are measured by."""

from sqlalchemy import func, select

from ledger.schema import instance, study
from ledger.store.database import Database
from ledger.study import StudyState


class Callers(Database):
    """Counting by caller."""

    def open_by_caller(self) -> dict[str, int]:
        """How many studies are open for each AE title that sent the first of them."""
        query = (
            select(study.c.calling, func.count())
            .where(study.c.state == StudyState.OPEN)
            .group_by(study.c.calling)
        )
        with self.read() as tx:
            return {calling: int(count) for calling, count in tx.connection.execute(query)}

    def bytes_held_for(self, calling: str) -> int:
        """The size of all instances held that `calling` sent, in bytes. Reads all of them: not to be asked
        often.
        """
        query = select(func.coalesce(func.sum(instance.c.size), 0)).where(instance.c.calling == calling)
        with self.read() as tx:
            return int(tx.connection.execute(query).scalar_one())

"""What went between this site and its peers, counted from rows that there are: bounded by a span of time."""

from collections import defaultdict

from sqlalchemy import func, select

from ledger.delivery import DeliveryState
from ledger.schema import delivery, instance, result, study
from ledger.store.database import Database
from ledger.traffic import Received, Sent

_UNFINISHED = (DeliveryState.WAITING, DeliveryState.SENDING, DeliveryState.SENT, DeliveryState.PARKED)


class Traffic(Database):
    """Counting by peer."""

    def received_since(self, since: float) -> dict[str, Received]:
        """What came by the AE title of who sent it. Only of studies that something came of since then, whose
        images are still here.
        """
        query = (
            select(
                instance.c.calling,
                func.count().label("instances"),
                func.sum(instance.c.size).label("bytes"),
                func.min(instance.c.received_at).label("first_at"),
                func.max(instance.c.received_at).label("last_at"),
            )
            .join(study, study.c.id == instance.c.study_id)
            .where(study.c.last_arrival_at >= since, instance.c.received_at >= since)
            .group_by(instance.c.calling)
        )
        with self.read() as tx:
            return {
                row.calling: Received(
                    instances=row.instances, bytes=int(row.bytes), first_at=row.first_at, last_at=row.last_at
                )
                for row in tx.connection.execute(query)
            }

    def sent_since(self, since: float) -> dict[str, Sent]:
        """What went, by the name of the peer; of every peer that anything was ever opened for."""
        last = select(delivery.c.peer, func.max(delivery.c.sent_at).label("at")).group_by(delivery.c.peer)
        lately = (
            select(delivery.c.peer, func.count().label("results"), func.sum(result.c.size).label("bytes"))
            .join(result, result.c.id == delivery.c.result_id)
            .where(delivery.c.sent_at >= since)
            .group_by(delivery.c.peer)
        )
        open_ = (
            select(
                delivery.c.peer,
                delivery.c.state,
                func.count().label("total"),
                func.min(delivery.c.created_at).label("oldest_at"),
            )
            .where(delivery.c.state.in_(_UNFINISHED))
            .group_by(delivery.c.peer, delivery.c.state)
        )
        with self.read() as tx:
            known = {row.peer: row.at for row in tx.connection.execute(last)}
            went = {row.peer: (row.results, int(row.bytes)) for row in tx.connection.execute(lately)}
            unfinished: dict[str, dict[DeliveryState, int]] = defaultdict(dict)
            waiting: dict[str, float] = {}
            for row in tx.connection.execute(open_):
                unfinished[row.peer][DeliveryState(row.state)] = row.total
                if row.state == DeliveryState.WAITING:
                    waiting[row.peer] = row.oldest_at
        return {
            peer: Sent(
                unfinished=unfinished.get(peer, {}),
                results=went.get(peer, (0, 0))[0],
                bytes=went.get(peer, (0, 0))[1],
                last_at=at,
                oldest_waiting_at=waiting.get(peer),
            )
            for peer, at in known.items()
        }
